"""Makes service batches of request lines: journalled, uploaded, created, each step known before the next waits.

`POST /files` and `POST /batches` are sent again only if the service's list, looked at twice, shows that the first one
made nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from batchrun.clock import WallClock
from batchrun.errors import (
    BatchRefused,
    PermanentFault,
    RateLimited,
    ServiceFault,
    Shortage,
    TransientFault,
    Unavailable,
)
from batchrun.journal.row_records import stamp
from batchrun.journal.service_batches import ServiceBatch, ServiceBatches
from batchrun.records import JsonObject
from batchrun.services.batch_api.batch_client import BatchClient
from batchrun.services.batch_api.scratch import readable_errors, removed
from batchrun.services.batch_api.watching import NO_REASON, BatchNews, Pace, facts_of, status_of
from batchrun.services.polling import NO_LOOKING_UP
from batchrun.services.redaction import scrubbed
from batchrun.services.reply_fields import count, mapping, name

__all__ = ["Full", "Submitter", "TooLarge", "Unknowable"]

MAX_SUBMISSIONS = 10
"""Requests of one kind for one service batch that fail in a way that may pass; then the batch stops."""
MAX_FILE_POLLS = 60
"""Looks at a file that the service has not checked; then the creation decides."""
_CHECKED = ("processed", "succeeded")
"""Statuses of a file of which Azure takes a batch."""
_UNCHECKED = ("pending", "running")
"""Statuses of a file that the service has not checked yet."""
METADATA_NAME = "batchrun"
"""The entry in a service batch's metadata that names the journal."""


class TooLarge(Exception):
    """The service does not take a file of this size."""

    def __init__(self, fault: ServiceFault) -> None:
        super().__init__(str(fault))


class Unknowable(Exception):
    """Nobody can know whether the service has created a batch, so the rows in it must not be sent again."""


class Full(Exception):
    """The service takes no more lines now.

    Attributes:
        retry_after_s: seconds that it asks us to wait, None if it asks for none.
    """

    def __init__(self, fault: ServiceFault) -> None:
        super().__init__(str(fault))
        self.retry_after_s = fault.retry_after_s


class Submitter:
    """Submits prepared service batches, also those that an earlier process has left at any step."""

    def __init__(
        self,
        client: BatchClient,
        lines: ServiceBatches,
        *,
        journal_id: str,
        scratch: Path,
        clock: WallClock,
        pace: Pace,
        report: Callable[[BatchNews], None],
    ) -> None:
        """
        Args:
            journal_id: names the journal in names of files and in metadata.
            scratch: temporary file for what is uploaded.
        """
        self._client = client
        self._lines = lines
        self._journal_id = journal_id
        self._scratch = scratch
        self._clock = clock
        self._pace = pace
        self._report = report

    async def submit(self, batch: ServiceBatch) -> ServiceBatch:
        """Submit a service batch from the step that it has reached; return it with the service's status.

        Raises:
            Full: the service takes no more lines now; nothing was created.
            TooLarge: the file is too large; nothing was created.
            Unknowable: the creation was not confirmed, and the service does not list its batches.
            BatchRefused: the service refuses every batch.
        """
        is_checked = False
        if batch.status in ("prepared", "uploading"):
            file = await self._upload(batch)
            is_checked = self._is_checked(file)
            batch = self._lines.record(
                batch.number, self._clock(), status="uploaded", input_file_id=name(file.get("id"))
            )
        assert batch.input_file_id is not None
        if not is_checked and batch.status == "uploaded":
            await self._wait_for_file(batch, batch.input_file_id)
        return await self._create(batch, batch.input_file_id)

    async def find(self, batch: ServiceBatch) -> ServiceBatch | None:
        """Return a service batch whose creation was sent and not confirmed; None if the service has none.

        Raises:
            Unknowable: the service does not list its batches, or without their ids.
        """
        try:
            found = await self._looked_up_twice(self._client.batches, lambda each: self._is(each, batch))
        except ServiceFault as fault:
            if fault.status_code in NO_LOOKING_UP:
                raise Unknowable(str(fault)) from fault
            raise
        if found is not None and name(found.get("id")) is None:
            raise Unknowable("its list has the batch, but no id of it that is text")
        return None if found is None else self._created(batch, found)

    # -- the file -----------------------------------------------------------------------------------

    def _file_name(self, batch: ServiceBatch) -> str:
        return f"batchrun-{self._journal_id}-{batch.number}.jsonl"

    async def _upload(self, batch: ServiceBatch) -> JsonObject:
        """Upload the file of a service batch, unless the service has it; return the file object."""
        file_name = self._file_name(batch)
        size = await self._write_scratch(batch)
        try:
            failures = 0
            while True:
                if batch.status == "uploading":
                    found = await self._found_file(file_name, size)
                    if found is not None:
                        return found
                batch = self._lines.record(batch.number, self._clock(), status="uploading")
                try:
                    with await anyio.to_thread.run_sync(self._scratch.open, "rb") as content:
                        key = f"{self._journal_id}-lines-{batch.number}"
                        return await self._client.upload(file_name, content, key)
                except TransientFault as fault:
                    failures += 1
                    batch = await self._after_failure(batch, fault, failures, "prepared", "upload")
                except PermanentFault as fault:
                    self._lines.record(batch.number, self._clock(), status="prepared")
                    if fault.status_code == 413:
                        raise TooLarge(fault) from fault
                    raise _refused(fault, "/files") from fault
        finally:
            removed(self._scratch)

    async def _write_scratch(self, batch: ServiceBatch) -> int:
        """Write the file to upload; return its size in bytes."""
        size = 0
        with readable_errors(self._scratch), self._scratch.open("wb") as file:
            for requests in self._lines.requests(batch.number):
                size += file.write(b"\n".join(requests) + b"\n")
                await anyio.lowlevel.checkpoint()
        return size

    async def _found_file(self, file_name: str, size: int) -> JsonObject | None:
        """Return a file that was uploaded without a confirmation. A file that nobody uses costs nothing, so a service
        without a list gets it again."""

        def is_ours(each: JsonObject) -> bool:
            return each.get("filename") == file_name and count(each.get("bytes")) in (None, size)

        try:
            found = await self._looked_up_twice(self._client.files, is_ours)
        except ServiceFault as fault:
            if fault.status_code in NO_LOOKING_UP:
                return None
            raise
        return None if found is None or name(found.get("id")) is None else found

    async def _wait_for_file(self, batch: ServiceBatch, file_id: str) -> None:
        """Wait until the service has checked the file, where it says so: Azure takes no batch over it earlier.

        Raises:
            BatchRefused: the service cannot use the file.
        """
        failures = polls = 0
        while True:
            try:
                file = await self._client.file(file_id)
            except TransientFault as fault:
                failures += 1
                await self._after_failure(batch, fault, failures, None, "file")
                continue
            except PermanentFault:
                return  # some services show no files: the creation decides
            status = file.get("status")
            if status == "error":
                reason = scrubbed(name(file.get("status_details")) or NO_REASON, self._client.secrets)
                raise BatchRefused(f"the service cannot use the file: {reason}", error_type="batch_failed")
            if self._is_checked(file) or polls == MAX_FILE_POLLS:
                return
            polls += 1
            await anyio.sleep(self._pace.wait_s(polls))

    def _is_checked(self, file: JsonObject) -> bool:
        status = file.get("status")
        return status in _CHECKED if self._client.is_azure else status not in _UNCHECKED

    # -- the batch ----------------------------------------------------------------------------------

    async def _create(self, batch: ServiceBatch, file_id: str) -> ServiceBatch:
        failures = refusals = 0
        may_exist = batch.status == "creating"  # a request that was not confirmed may have created one after all
        deadline_s = anyio.current_time() + self._pace.settle_s
        while True:
            if batch.status == "creating" and (found := await self.find(batch)) is not None:
                return found
            batch = self._lines.record(batch.number, self._clock(), status="creating")
            metadata = {METADATA_NAME: self._journal_id, "number": str(batch.number)}
            # A service that repeats its reply to a key would repeat the refusal.
            key = f"{self._journal_id}-batch-{batch.number}-{refusals}"
            try:
                made = await self._client.create(file_id, batch.endpoint, metadata, key)
            except RateLimited as fault:
                if may_exist and (found := await self.find(batch)) is not None:
                    return found
                self._lines.record(batch.number, self._clock(), status="uploaded")
                raise Full(fault) from fault
            except TransientFault as fault:
                failures += 1
                may_exist = may_exist or not _did_nothing(fault)
                batch = await self._after_failure(batch, fault, failures, None if may_exist else "uploaded", "creation")
            except PermanentFault as fault:
                if may_exist and (found := await self.find(batch)) is not None:
                    return found
                batch = self._lines.record(batch.number, self._clock(), status="uploaded")
                if fault.status_code == 413:
                    raise TooLarge(fault) from fault
                if not _is_about_file(fault) or anyio.current_time() >= deadline_s:
                    raise _refused(fault, "/batches") from fault
                refusals += 1
                self._report(BatchNews("trouble", batch, str(fault)))
                await anyio.sleep(self._pace.wait_s(refusals))
            else:
                if may_exist:
                    await self._cancel_others(batch, made)
                return self._created(batch, made)

    async def _cancel_others(self, batch: ServiceBatch, made: JsonObject) -> None:
        """Cancel batches that earlier requests have created after all, later than the list was looked at."""
        try:
            async for each in self._client.batches():
                other = name(each.get("id"))
                if self._is(each, batch) and other is not None and other != made.get("id"):
                    await self._client.cancel(other)
                    self._report(BatchNews("trouble", batch, f"a lost request has created {other} too: cancelled"))
        except ServiceFault as fault:
            self._report(BatchNews("trouble", batch, str(fault)))

    def _is(self, found: JsonObject, batch: ServiceBatch) -> bool:
        """Return whether a batch in the service's list is this one. Some services drop metadata: then the file
        decides."""
        if batch.input_file_id is not None and found.get("input_file_id") == batch.input_file_id:
            return True
        metadata = mapping(found.get("metadata"))
        return metadata.get(METADATA_NAME) == self._journal_id and metadata.get("number") == str(batch.number)

    def _created(self, batch: ServiceBatch, made: JsonObject) -> ServiceBatch:
        now = self._clock()
        batch = self._lines.record(
            batch.number,
            now,
            status=status_of(made) or "validating",
            batch_id=name(made.get("id")),
            created_at=stamp(_created_at(made, now)),
            **facts_of(made),
        )
        self._report(BatchNews("submitted", batch))
        return batch

    # -- what was not confirmed ---------------------------------------------------------------------

    async def _looked_up_twice(
        self, listing: Callable[[], AsyncIterator[JsonObject]], is_ours: Callable[[JsonObject], bool]
    ) -> JsonObject | None:
        """Return an object of ours from a list, which may show it late; None if it has none.

        Raises:
            ServiceFault: the service cannot list them now, or at all.
        """
        for look in (1, 2):
            if look == 2:
                await anyio.sleep(self._pace.look_again_s)
            failures = 0
            while True:
                try:
                    async for each in listing():
                        if is_ours(each):
                            return each
                    break
                except TransientFault as fault:
                    failures += 1
                    if fault.status_code in NO_LOOKING_UP:
                        raise
                    if failures == MAX_SUBMISSIONS:
                        raise _unavailable(failures, "list", fault) from fault
                    await anyio.sleep(max(fault.retry_after_s or 0.0, self._pace.wait_s(failures)))
        return None

    async def _after_failure(
        self, batch: ServiceBatch, fault: TransientFault, failures: int, unsent: str | None, what: str
    ) -> ServiceBatch:
        """Wait before a request is repeated.

        Args:
            unsent: the status that the service batch has if the request did certainly nothing; None to keep it.
            what: what has failed, for the message.

        Raises:
            BatchRefused: it has failed too often.
        """
        if unsent is not None and _did_nothing(fault):
            batch = self._lines.record(batch.number, self._clock(), status=unsent)
        if failures == MAX_SUBMISSIONS:
            raise _unavailable(failures, what, fault) from fault
        self._report(BatchNews("trouble", batch, str(fault)))
        await anyio.sleep(max(fault.retry_after_s or 0.0, self._pace.wait_s(failures)))
        return batch


def _did_nothing(fault: TransientFault) -> bool:
    """Return whether a POST that failed has certainly made nothing."""
    if isinstance(fault, Unavailable):
        return not fault.connected and not fault.sent
    return isinstance(fault, RateLimited | Shortage)


def _unavailable(failures: int, what: str, fault: ServiceFault) -> BatchRefused:
    return BatchRefused(
        f"the Batch API has failed {failures} times ({what}), the last time with: {fault}; run the same command again "
        "later",
        error_type="service_unavailable",
        status_code=fault.status_code,
    )


def _created_at(made: JsonObject, now: datetime) -> datetime:
    """Return when a batch was created: its deadline counts from there, also if it was found later."""
    seconds = made.get("created_at")
    if isinstance(seconds, int | float) and 0 < seconds <= now.timestamp():
        return datetime.fromtimestamp(seconds, now.tzinfo)
    return now


def _is_about_file(fault: PermanentFault) -> bool:
    return fault.status_code in (400, 404) and "file" in str(fault).lower()


def _refused(fault: PermanentFault, path: str) -> BatchRefused:
    """Return the fault of a request without which no row can be asked."""
    if fault.status_code in NO_LOOKING_UP:
        return BatchRefused(
            f"the service has no Batch API ({fault.status_code} on {path}: {fault}); run the batch without --batch-api",
            error_type="batch_api_not_supported",
            status_code=fault.status_code,
        )
    if isinstance(fault, BatchRefused):
        return fault
    return BatchRefused(
        f"the service refused a batch of the Batch API: {fault}",
        error_type=fault.error_type,
        status_code=fault.status_code,
    )
