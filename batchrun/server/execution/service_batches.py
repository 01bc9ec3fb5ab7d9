"""The execution of service batches: their input is checked, their lines are answered, their results become files."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.lowlevel

from batchrun.server.errors import ApiError, StoreError, server_error
from batchrun.server.execution.input_lines import (
    MAX_INPUT_BYTES,
    MAX_LINES,
    InputCheck,
    duplicate_id,
    input_error,
    split_lines,
)
from batchrun.server.execution.result_files import (
    fault_line,
    planned_result,
    store_results,
    temporary_file,
    write_results,
)
from batchrun.server.execution.supervisor import Live, Supervisor
from batchrun.server.protocol.service_batches import ENDED, error_line, reply_line
from batchrun.server.replies.encoding import dumps
from batchrun.server.replies.event_log import EventLog
from batchrun.server.responders.batch_faults import BatchFaults
from batchrun.server.store.kinds import SERVICE_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.store.hidden import ServiceBatchHidden
    from batchrun.server.store.request_lines import RequestLine

__all__ = ["LineExecution", "LiveServiceBatch", "ServiceBatches"]

logger = logging.getLogger("batchrun.server")

LINES_AT_ONCE = 100
"""Lines that are answered at the same time, of all service batches together."""


class LineExecution(Protocol):
    """Sends the requests of lines to the server's own operations."""

    def begin(self, owner: str, endpoint: str, body: Body, on_begun: Callable[[str], None]) -> EventLog:
        """Begin a request; `on_begun` gets the id of its response. Raises an `ApiError` if it is refused."""
        ...

    def forget(self, reply_id: str) -> None:
        """Stop a request that was begun, and remove what it stored."""
        ...


@dataclass(slots=True)
class LiveServiceBatch(Live):
    """A service batch that has not ended. Its log has no events.

    Mutable state: `body`, `hidden`, `work`, `retrieved` and `results`.

    Attributes:
        body: the batch as clients see it; stored when its status changes.
        work: cancelled to stop the check of the input and the lines in flight, but not the writing of results.
        retrieved: how often clients have retrieved the batch since its status changed.
        results: (number, result line, whether it is an answer) of lines that ended in this turn of the event loop; they
            are stored together, because a commit costs more than a line.
    """

    owner: str
    body: Body
    hidden: ServiceBatchHidden
    calls: LineExecution
    work: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    retrieved: int = 0
    results: list[tuple[int, str, bool]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The id of the service batch."""
        return self.log.stream


class ServiceBatches(Supervisor[LiveServiceBatch]):
    """Executes service batches.

    Mutable state: `live`, the slots of lines, and how often ended batches were retrieved.

    Attributes:
        faults: the planned faults of the Batch API.
    """

    noun = "service batch"
    expected = ()

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.faults: BatchFaults = getattr(parts.responder, "batch_faults", None) or BatchFaults()
        self._slots = anyio.Semaphore(LINES_AT_ONCE)
        self._retrieved: Counter[str] = Counter()

    def launch(self, owner: str, body: Body, hidden: ServiceBatchHidden, calls: LineExecution) -> None:
        """Execute a stored service batch, after the commit."""
        self.start(LiveServiceBatch(EventLog(body["id"], 0), owner, body, hidden, calls))

    def recover(self, calls: LineExecution) -> None:
        """Continue the service batches that the last process did not finish.

        Called before `Responses.recover`: a response that was interrupted belongs to a line, which is answered again.
        """
        for owner, body in self._parts.objects.active(SERVICE_BATCH):
            with self._parts.database.transaction():
                if body["status"] == "validating":
                    self._parts.request_lines.remove(body["id"])
                else:
                    self._take_replies(body)
            self.launch(owner, body, self._parts.objects.service_batch_hidden(body["id"]), calls)

    def _take_replies(self, body: Body) -> None:
        """Take the replies that were stored without their result line, and remove those that were interrupted."""
        objects, lines = self._parts.objects, self._parts.request_lines
        for number, custom_id, reply_id in lines.begun(body["id"]):
            result = objects.result(reply_id)
            if result is None:
                continue
            if json.loads(result)["status"] in ("queued", "in_progress"):
                objects.remove(reply_id)
            else:
                lines.end(body["id"], number, reply_line(custom_id, 200, result), is_answer=True)
        self._count(body)

    def current(self, body: Body) -> Body:
        """Return a service batch as it is now, given its stored body."""
        live = self.live.get(body["id"])
        return body if live is None else live.body

    def shown(self, body: Body) -> Body:
        """Return a service batch as clients see it, given its stored body."""
        if self.faults.are_none:
            return self.current(body)
        number = self._parts.objects.service_batch_hidden(body["id"])["number"]
        return self.faults.shown(number, self.current(body), self._retrieved[body["id"]])

    def count_retrieval(self, body: Body) -> None:
        """Count a retrieval, for planned faults that last a number of retrievals."""
        if self.faults.are_none:
            return
        live = self.live.get(body["id"])
        if live is None or live.body["status"] in ENDED:
            self._retrieved[body["id"]] += 1
        else:
            live.retrieved += 1
            live.log.wake()

    def cancel(self, batch_id: str) -> None:
        """Cancel a service batch that has not ended. Lines in flight are stopped, and results are kept."""
        live = self.live[batch_id]
        live.body |= {"status": "cancelling", "cancelling_at": self._parts.now()}
        live.retrieved = 0
        self._save(live)
        live.work.cancel()

    def expire_due(self) -> None:
        """End the service batches whose completion window is over."""
        now = self._parts.now()
        for live in self.live.values():
            if live.body["status"] in ("validating", "in_progress") and live.body["expires_at"] <= now:
                live.hidden["expired"] = True
                live.work.cancel()

    def _save(self, live: LiveServiceBatch) -> None:
        status = live.body["status"]
        self._parts.objects.save(live.body, status=status, active=status not in ENDED, hidden=live.hidden)

    def _enter(self, live: LiveServiceBatch, status: str) -> None:
        """Change the status and store the batch."""
        live.body |= {"status": status, f"{status}_at": self._parts.now()}
        live.retrieved = 0
        with self._parts.database.transaction():
            self._save(live)

    async def _hold(self, live: LiveServiceBatch) -> None:
        """Keep the status until it has been retrieved as often as planned."""
        while live.retrieved < self.faults.retrievals(live.hidden["number"], live.body["status"]):
            await live.log.changed()

    def _count(self, body: Body) -> None:
        counts = self._parts.request_lines.counts(body["id"])
        body["request_counts"] = {"total": counts.total, "completed": counts.completed, "failed": counts.failed}

    async def _answer(self, live: LiveServiceBatch) -> None:
        body = live.body
        with live.work:
            if body["status"] == "validating":
                await self._hold(live)
                await self._validate(live)
            if body["status"] == "in_progress":
                await self._answer_lines(live)
        if body["status"] != "failed":
            await self._finalize(live)

    def _settle(self, live: LiveServiceBatch, failure: BaseException | None) -> None:
        if isinstance(failure, Exception) and not live.interrupted:
            self._fail(live, [input_error("server_error", server_error().message)])

    def _fail(self, live: LiveServiceBatch, errors: list[Body]) -> None:
        live.body["errors"] = {"object": "list", "data": errors}
        live.body["request_counts"] = {"total": 0, "completed": 0, "failed": 0}
        with self._parts.database.transaction():
            self._parts.request_lines.remove(live.id)
            live.body |= {"status": "failed", "failed_at": self._parts.now()}
            self._save(live)

    async def _validate(self, live: LiveServiceBatch) -> None:
        """Store the lines of the input; fail the batch if one of them is wrong."""
        parts, body = self._parts, live.body
        check = InputCheck(body["endpoint"])
        file_id = body["input_file_id"]
        if parts.blobs.size(file_id) > MAX_INPUT_BYTES:
            check.refuse("file_too_large", f"The input file is larger than the maximum of {MAX_INPUT_BYTES} bytes.")
        else:
            for lines in split_lines(parts.blobs.pieces(file_id)):
                with parts.database.transaction():
                    for number, text in lines:
                        line = check.read(number, text)
                        if line is not None and not parts.request_lines.add(live.id, line):
                            check.errors.append(duplicate_id(line))
                await anyio.lowlevel.checkpoint()
                if check.count > MAX_LINES:
                    check.errors.clear()
                    check.refuse("too_many_tasks", f"The batch has more than the maximum of {MAX_LINES} requests.")
                    break
            if not check.count:
                check.refuse("empty_file", "The batch input file is empty; it needs at least one request.")
        if check.errors:
            self._fail(live, check.errors)
            return
        body["model"] = check.model
        self._count(body)
        queued = sum(each.body["request_counts"]["total"] for each in self.live.values())
        planned = self.faults.failures(live.hidden["number"], body["request_counts"]["total"], queued)
        if planned:
            self._fail(live, planned)
            return
        self._enter(live, "in_progress")

    async def _answer_lines(self, live: LiveServiceBatch) -> None:
        """Answer all lines, those that wait for a planned number of retrievals after the others."""
        if self.faults.are_none:
            await self._answer_all(live, self._parts.request_lines.pending(live.id))
            self._store_results(live)
            return
        number = live.hidden["number"]

        def lines(*, waiting: bool) -> Iterator[RequestLine]:
            for line in self._parts.request_lines.pending(live.id):
                plain = fault_line(line)
                if self.faults.waits(number, plain) is waiting and not self.faults.expires(number, plain):
                    yield line

        await self._answer_all(live, lines(waiting=False))
        self._store_results(live)  # the lines without a result are looked up again
        await self._hold(live)
        await self._answer_all(live, lines(waiting=True))
        self._store_results(live)
        if next(self._parts.request_lines.pending(live.id), None) is not None:
            live.hidden["expired"] = True

    async def _answer_all(self, live: LiveServiceBatch, lines: Iterator[RequestLine]) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(min(LINES_AT_ONCE, live.body["request_counts"]["total"])):
                tasks.start_soon(self._work, live, lines)

    async def _work(self, live: LiveServiceBatch, lines: Iterator[RequestLine]) -> None:
        """Answer lines until none is left. All workers of a batch share the iterator."""
        for line in lines:
            fault = self.faults.line_error(live.hidden["number"], fault_line(line))
            if fault is not None:
                result, is_answer = planned_result(line.custom_id, fault)
                self._end_line(live, line.number, result, is_answer=is_answer)
                await anyio.lowlevel.checkpoint()
                continue
            async with self._slots:
                status, text = await self._reply(live, line)
            self._end_line(live, line.number, reply_line(line.custom_id, status, text), is_answer=status == 200)

    async def _reply(self, live: LiveServiceBatch, line: RequestLine) -> tuple[int, str]:
        """Return HTTP status and body of the reply to a line."""
        try:
            log = live.calls.begin(
                live.owner,
                live.body["endpoint"],
                line.body,
                partial(self._parts.request_lines.begin, live.id, line.number),
            )
        except ApiError as exc:
            return exc.status, dumps(exc.body())
        except StoreError:
            raise
        except Exception:
            logger.exception("line %d of %s failed: an error of the server", line.number, live.id)
            return 500, dumps(server_error().body())
        try:
            while not log.closed:
                await log.changed()
        except BaseException:
            live.calls.forget(log.stream)
            raise
        if log.result is not None and log.failure is None:
            return 200, log.result
        failure = log.failure or server_error()
        return failure.status, dumps(failure.body())

    def _end_line(self, live: LiveServiceBatch, number: int, result: str, *, is_answer: bool) -> None:
        if live.interrupted:
            return
        live.results.append((number, result, is_answer))
        live.body["request_counts"]["completed" if is_answer else "failed"] += 1
        if len(live.results) == 1:
            self._parts.tasks.start_soon(self._store_soon, live)

    async def _store_soon(self, live: LiveServiceBatch) -> None:
        await anyio.lowlevel.checkpoint()
        try:
            self._store_results(live)
        except StoreError:
            # They are stored with the next ones, or the server's next start answers these lines again.
            logger.exception("results of %s could not be stored", live.id)

    def _store_results(self, live: LiveServiceBatch) -> None:
        if not live.results or live.interrupted:
            return
        with self._parts.database.transaction():
            for number, result, is_answer in live.results:
                self._parts.request_lines.end(live.id, number, result, is_answer=is_answer)
        live.results.clear()

    async def _finalize(self, live: LiveServiceBatch) -> None:
        """Write the result files, and end the batch."""
        body = live.body
        is_cancelled = body["status"] == "cancelling"
        if not is_cancelled:
            self._enter(live, "finalizing")
        self._store_results(live)
        await self._hold(live)
        if is_cancelled and body["in_progress_at"] is None:
            with self._parts.database.transaction():
                self._parts.request_lines.remove(live.id)
        await self._end_open_lines(live, is_cancelled)
        lines, odd = self._parts.request_lines, self.faults.odd_files(live.hidden["number"])
        shuffled = any(each.shuffled for each in odd)
        with temporary_file() as answers, temporary_file() as errors:
            for file, is_answer in ((answers, True), (errors, False)):
                results = lines.results(live.id, is_answer=is_answer, shuffled=shuffled)
                usage = await write_results(results, file, odd)
                if is_answer:
                    body["usage"] = usage
            status = "cancelled" if is_cancelled else "expired" if live.hidden["expired"] else "completed"
            with self._parts.database.transaction():
                for file, kind in ((answers, "output"), (errors, "error")):
                    body[f"{kind}_file_id"] = store_results(
                        self._parts, live.owner, file, f"{live.id}_{kind}.jsonl", live.hidden["file_life_s"]
                    )
                body |= {"status": status, f"{status}_at": self._parts.now()}
                self._save(live)
                lines.remove(live.id)

    async def _end_open_lines(self, live: LiveServiceBatch, is_cancelled: bool) -> None:
        """Give the lines that were not answered in time the error that says so."""
        code, message = (
            ("batch_cancelled", "This request was not executed, because its batch was cancelled.")
            if is_cancelled
            else ("batch_expired", "This request could not be executed before the completion window expired.")
        )
        for line in self._parts.request_lines.pending(live.id):
            self._end_line(live, line.number, error_line(line.custom_id, code, message), is_answer=False)
            await anyio.lowlevel.checkpoint()
        self._store_results(live)
