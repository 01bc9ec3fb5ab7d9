"""The execution of service batches: their input is checked, their lines are answered, their results become files."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

import anyio
import anyio.lowlevel

from batchrun.server.errors import ApiError, server_error
from batchrun.server.execution.input_lines import (
    MAX_INPUT_BYTES,
    MAX_LINES,
    InputCheck,
    duplicate_id,
    input_error,
    split_lines,
)
from batchrun.server.execution.stored_files import add_file
from batchrun.server.execution.supervisor import Live, Supervisor
from batchrun.server.protocol.service_batches import ENDED, add_usage, error_line, no_usage, reply_line
from batchrun.server.replies.encoding import dumps
from batchrun.server.replies.event_log import EventLog
from batchrun.server.store.kinds import SERVICE_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.store.hidden import ServiceBatchHidden
    from batchrun.server.store.request_lines import RequestLine

__all__ = ["LineExecution", "LiveServiceBatch", "ServiceBatches"]

LINES_AT_ONCE = 100
"""Lines that are answered at the same time, of all service batches together."""

_SPOOL_BYTES = 1 << 20


class LineExecution(Protocol):
    """Sends the requests of lines to the server's own operations."""

    def begin(self, owner: str, endpoint: str, body: Body, on_begun: Callable[[str], None]) -> EventLog:
        """Begin a request; `on_begun` gets the id of its reply. Raises an `ApiError` if it is refused."""
        ...

    def forget(self, reply_id: str) -> None:
        """Stop a request that was begun, and remove what it stored."""
        ...


@dataclass(slots=True)
class LiveServiceBatch(Live):
    """A service batch that has not ended. Its log has no events.

    Mutable state: `body`, `hidden` and `work`.

    Attributes:
        body: the batch as clients see it; stored when its status changes.
        work: cancelled to stop the check of the input and the lines in flight, but not the writing of results.
    """

    owner: str
    body: Body
    hidden: ServiceBatchHidden
    calls: LineExecution
    work: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def id(self) -> str:
        """The id of the service batch."""
        return self.log.stream


class ServiceBatches(Supervisor[LiveServiceBatch]):
    """Executes service batches.

    Mutable state: `live`, and the slots of lines.
    """

    noun = "service batch"
    expected = ()

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._slots = anyio.Semaphore(LINES_AT_ONCE)

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

    def cancel(self, batch_id: str) -> None:
        """Cancel a service batch that has not ended. Lines in flight are stopped, and results are kept."""
        live = self.live[batch_id]
        live.body |= {"status": "cancelling", "cancelling_at": self._parts.now()}
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
        with self._parts.database.transaction():
            self._save(live)

    def _count(self, body: Body) -> None:
        counts = self._parts.request_lines.counts(body["id"])
        body["request_counts"] = {"total": counts.total, "completed": counts.completed, "failed": counts.failed}

    async def _answer(self, live: LiveServiceBatch) -> None:
        body = live.body
        with live.work:
            if body["status"] == "validating":
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
        self._enter(live, "in_progress")

    async def _answer_lines(self, live: LiveServiceBatch) -> None:
        lines = self._parts.request_lines.pending(live.id)
        async with anyio.create_task_group() as tasks:
            for _ in range(min(LINES_AT_ONCE, live.body["request_counts"]["total"])):
                tasks.start_soon(self._work, live, lines)

    async def _work(self, live: LiveServiceBatch, lines: Iterator[RequestLine]) -> None:
        """Answer lines until none is left. All workers of a batch share the iterator."""
        for line in lines:
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
                lambda reply_id: self._parts.request_lines.begin(live.id, line.number, reply_id),
            )
        except ApiError as exc:
            return exc.status, dumps(exc.body())
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
        with self._parts.database.transaction():
            self._parts.request_lines.end(live.id, number, result, is_answer=is_answer)
        live.body["request_counts"]["completed" if is_answer else "failed"] += 1

    async def _finalize(self, live: LiveServiceBatch) -> None:
        """Write the result files, and end the batch."""
        body = live.body
        is_cancelled = body["status"] == "cancelling"
        if not is_cancelled:
            self._enter(live, "finalizing")
        if is_cancelled and body["in_progress_at"] is None:
            with self._parts.database.transaction():
                self._parts.request_lines.remove(live.id)
        await self._end_open_lines(live, is_cancelled)
        with _temporary_file() as answers, _temporary_file() as errors:
            body["usage"] = await self._write(live, answers, is_answer=True)
            await self._write(live, errors, is_answer=False)
            status = "cancelled" if is_cancelled else "expired" if live.hidden["expired"] else "completed"
            with self._parts.database.transaction():
                body["output_file_id"] = self._result_file(live, answers, "output")
                body["error_file_id"] = self._result_file(live, errors, "error")
                body |= {"status": status, f"{status}_at": self._parts.now()}
                self._save(live)
                self._parts.request_lines.remove(live.id)

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

    async def _write(self, live: LiveServiceBatch, file: BinaryIO, *, is_answer: bool) -> Body:
        """Write one kind of result lines, and return their usage together."""
        usage = no_usage()
        for _, result in self._parts.request_lines.results(live.id, is_answer=is_answer):
            file.write(result.encode("utf-8", "replace") + b"\n")
            answer = json.loads(result)["response"]["body"].get("usage") if is_answer else None
            if answer is not None:
                add_usage(usage, answer)
            await anyio.lowlevel.checkpoint()
        return usage

    def _result_file(self, live: LiveServiceBatch, file: BinaryIO, kind: str) -> str | None:
        """Store a result file and return its id; None if it would be empty."""
        size = file.tell()
        if not size:
            return None
        file.seek(0)
        life_s = live.hidden["file_life_s"]
        expires_at = None if life_s is None else self._parts.now() + life_s
        name = f"{live.id}_{kind}.jsonl"
        return add_file(self._parts, live.owner, name, "batch_output", file, size, expires_at)["id"]


def _temporary_file() -> BinaryIO:
    """Return a file that is in memory while it is small."""
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(_SPOOL_BYTES))
