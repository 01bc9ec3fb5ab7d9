"""A service that does not wait: its requests become request lines, and its replies come from the journal."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from batchrun.engine.service import OnIds, Reply
from batchrun.errors import NEVER_TRIED, Deferred, PermanentFault, RunLost, ServerFault, ServiceFault
from batchrun.journal.service_batches import FoundLine, NewLine, ServiceBatches, is_custom_id
from batchrun.records import Attempt, Exchange, JsonObject
from batchrun.services.batch_api.due import DueLines
from batchrun.services.batch_api.lines import MAX_FILE_BYTES, custom_id_of, encoded_line, url_of
from batchrun.services.batch_api.results import answer_or_fault, not_run
from batchrun.services.reply_fields import name
from batchrun.services.wire import RequestBody, Wire
from batchrun.token_usage import usage_by_batch_api

__all__ = ["DeferredService", "LineService"]


MAX_NOT_RUN = 10
"""Runs of a row, from which on a request that the service did not run costs an attempt too."""


class LineService(Protocol):
    """A service whose requests can be request lines: Responses or Chat Completions."""

    endpoint: str

    async def prepare(self) -> None: ...

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply: ...

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply: ...

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None: ...

    async def request_body(self, exchange: Exchange, attempt: Attempt) -> RequestBody:
        """Return the body of the request that `answer` sends."""
        ...

    async def reply_of(self, body: JsonObject, exchange: Exchange, on_ids: OnIds) -> Reply:
        """Return the reply in the body of a whole reply."""
        ...


class DeferredService:
    """Answers rows by the Batch API. Every row that has to wait raises `Deferred`."""

    def __init__(
        self,
        service: LineService,
        wire: Wire,
        lines: ServiceBatches,
        due: DueLines,
        *,
        place: str,
        asks: bool = True,
    ) -> None:
        """
        Args:
            service: the ordinary service, which builds requests and reads replies.
            due: gets the lines to submit.
            place: the service's address, as `batchrun.journal.place_of` returns it.
            asks: requests become request lines. False: only replies come from the journal; requests are ordinary ones.
        """
        self._service = service
        self._wire = wire
        self._lines = lines
        self._due = due
        self._place = place
        self._endpoint = url_of(service.endpoint, azure=wire.is_azure)
        self._asks = asks

    async def prepare(self) -> None:
        """Prepare the ordinary service."""
        await self._service.prepare()

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Record a request line.

        Raises:
            Deferred: always, if the service asks by request lines.
            PermanentFault: the request is larger than a file may be.
        """
        if not self._asks:
            return await self._service.answer(exchange, attempt, on_ids)
        endpoint = self._endpoint
        body = await self._service.request_body(exchange, attempt)
        line = self._lines.next_line()
        custom_id = custom_id_of(exchange, attempt, line)
        request = encoded_line(custom_id, endpoint, body)
        if len(request) >= MAX_FILE_BYTES:
            raise PermanentFault(
                f"the request has {len(request):,} bytes; a file of the Batch API may have {MAX_FILE_BYTES:,}",
                error_type="request_too_large",
            )
        self._lines.add(
            NewLine(line, custom_id, exchange.row_key, attempt.number, endpoint, name(body.get("model")), request)
        )
        self._due.add(line)
        on_ids(None, custom_id)
        raise Deferred

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        """Return the reply in the result line of the request line that `attempt` names.

        Raises:
            Deferred: there is none yet.
            ServiceFault: as an ordinary request with the same reply would raise; or the service batch ended without a
                result line for it.
        """
        found = self._lines.find(attempt.run_id)
        if found is None:
            if is_custom_id(attempt.run_id):
                raise RunLost("the journal does not have this request", error_type="run_lost", run_ended=True)
            return await self._service.follow(exchange, attempt, on_ids)
        if found.state == "open" and found.place != self._place:
            raise RunLost(f"the request was sent to {found.place}", error_type="run_lost", run_ended=True)
        if found.state == "waiting" and not self._asks:
            raise not_run("batch_cancelled", "the request was not sent")
        if found.state != "ended":
            if found.state == "waiting":
                self._due.add(found.line)
            raise Deferred
        if found.result is None:
            raise _bounded(_lacking(found), attempt)
        reply = answer_or_fault(found.result, self._service.endpoint, self._wire.secrets, self._wire.settings)
        if isinstance(reply, ServiceFault):
            raise _priced(_bounded(reply, attempt))
        try:
            ended = await self._service.reply_of(reply, exchange, on_ids)
        except ServiceFault as fault:
            _priced(fault)
            if reply.get("status") not in ("queued", "in_progress"):
                fault.run_ended = True  # the same line would give the same fault
            raise
        return replace(ended, usage=usage_by_batch_api(ended.usage))

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        """Cancel an ordinary run; a single request line cannot be cancelled."""
        if not is_custom_id(attempt.run_id):
            await self._service.cancel(exchange, attempt)


def _bounded(fault: ServiceFault, attempt: Attempt) -> ServiceFault:
    """Return the fault, or one that costs an attempt, for a row whose requests the service never runs: it must end."""
    if fault.error_type not in NEVER_TRIED or attempt.generation <= MAX_NOT_RUN:
        return fault
    return ServerFault(f"{fault} (run {attempt.generation} of this row)", error_type="not_run", run_ended=True)


def _priced(fault: ServiceFault) -> ServiceFault:
    """Return the fault with the prices of the Batch API for its usage."""
    if fault.usage is not None:
        fault.usage = usage_by_batch_api(fault.usage)
    return fault


def _lacking(found: FoundLine) -> ServiceFault:
    """Return the fault of a request line that never gets a result."""
    error_type, reason = found.lacking or "result_missing", found.reason or ""
    if error_type in NEVER_TRIED:
        return not_run(error_type, reason)
    if error_type == "result_missing":
        return ServerFault(
            reason or "the service batch is completed, but its files have no result for this request",
            error_type=error_type,
            run_ended=True,
        )
    return PermanentFault(
        f"{reason or 'the result is lost'}; --retry-failed asks this row again", error_type=error_type, run_ended=True
    )
