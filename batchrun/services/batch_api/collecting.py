"""Downloads the result files of a service batch, and writes their lines to the journal."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import anyio.lowlevel

from batchrun.clock import WallClock
from batchrun.errors import ServiceFault, TransientFault
from batchrun.journal.row_records import stamp
from batchrun.journal.service_batches import ServiceBatch, ServiceBatches, StoredResult
from batchrun.services.batch_api.batch_client import BatchClient
from batchrun.services.batch_api.results import ANSWER, stored
from batchrun.services.batch_api.scratch import readable_errors, removed
from batchrun.services.reply_fields import loaded

__all__ = ["GONE", "Collector", "Incomplete", "Patience", "is_refusal"]

CHUNK_LINES = 500
CHUNK_BYTES = 4_000_000
"""Result lines in one transaction, and in memory at once."""
SECRET_CHARS = 8
"""A key with fewer characters, such as `none` for a server without keys, is not a secret, and occurs in other words."""
MAX_FETCHES = 5
"""Downloads of a file that the service refuses, or of files that hold fewer results than there are requests; then what
is missing is given up."""


GONE = frozenset({404, 410})
"""HTTP statuses for something that the service no longer has."""


class Incomplete(Exception):
    """The results are not all there yet: the same is to be tried again. The message is one line for a person.

    Attributes:
        is_lasting: another attempt may well end in the same way, and so their number is limited.
    """

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


@dataclass(slots=True)
class Patience:
    """How long the results of one ended service batch have been missing.

    Mutable state: `fetches` and `refusals`.

    Attributes:
        since_s: when its end was first seen (loop time).
        fetches: downloads that held too little.
        refusals: file → refused downloads.
    """

    since_s: float
    fetches: int = 0
    refusals: Counter[str] = field(default_factory=Counter)


class Collector:
    """Collects service batches that have ended."""

    def __init__(
        self, client: BatchClient, lines: ServiceBatches, *, scratch: Path, clock: WallClock, settle_s: float
    ) -> None:
        """
        Args:
            scratch: temporary file for what is downloaded.
            settle_s: seconds for which missing files and file ids are waited for.
        """
        self._client = client
        self._lines = lines
        self._scratch = scratch
        self._clock = clock
        self._settle_s = settle_s
        self._secrets = tuple(secret.encode() for secret in client.secrets if len(secret) >= SECRET_CHARS)

    async def collect(self, batch: ServiceBatch, patience: Patience) -> ServiceBatch:
        """Write all results of a service batch to the journal; return it, collected.

        May be repeated at any step: results that are in the journal stay.

        Raises:
            Incomplete: not all results are there, and more may come.
            ServiceFault: the service refuses the files: 401 or 403.
        """
        has_settled = self.has_settled(batch, patience)
        has_files = batch.output_file_id is not None or batch.error_file_id is not None
        has_answers = batch.status == "completed" or (batch.status in ("expired", "cancelled") and batch.completed != 0)
        if has_answers and not has_files and not has_settled:
            raise Incomplete(f"the service batch is {batch.status}, but the service names no result file yet")
        unknown = 0
        gone: dict[str, ServiceFault] = {}
        try:
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id is not None:
                    refusal = await self._fetched(file_id, patience, has_settled=has_settled)
                    if refusal is None:
                        unknown += await self._store(batch)
                    else:
                        gone[file_id] = refusal
        finally:
            removed(self._scratch)
        answers, errors, missing = self._lines.tally(batch.number)
        if not gone and missing and missing > _may_be_missing(batch):
            patience.fetches += 1
            if patience.fetches < MAX_FETCHES or not has_settled:
                raise Incomplete(f"the result files lack {missing:,} of {batch.lines:,} lines", is_lasting=True)
        lacking, reason = _lacking(batch, gone) if missing else (None, None)
        return self._lines.record(
            batch.number,
            self._clock(),
            collected_at=stamp(self._clock()),
            answers=answers,
            errors=errors,
            unknown=unknown,
            missing=missing,
            lacking=lacking,
            reason=reason,
        )

    def has_settled(self, batch: ServiceBatch, patience: Patience) -> bool:
        """Return whether the service batch ended so long ago that the service shows all its files."""
        ended_ago_s = (self._clock() - datetime.fromisoformat(batch.since)).total_seconds()
        return max(ended_ago_s, anyio.current_time() - patience.since_s) >= self._settle_s

    async def _fetched(self, file_id: str, patience: Patience, *, has_settled: bool) -> ServiceFault | None:
        """Download a file to the scratch file; return None, or why the service will not give it.

        Raises:
            Incomplete: the file is not there yet, or the download broke off.
            ServiceFault: 401 or 403.
        """
        try:
            with readable_errors(self._scratch):
                await self._client.download(file_id, self._scratch)
        except ServiceFault as fault:
            if fault.status_code in (401, 403, 407):
                raise
            is_lasting = is_refusal(fault)
            patience.refusals[file_id] += is_lasting
            if is_lasting and has_settled and patience.refusals[file_id] >= MAX_FETCHES:
                return fault
            raise Incomplete(
                f"the result file {file_id} cannot be downloaded: {fault}", is_lasting=is_lasting
            ) from fault
        problem = _problem(self._scratch)
        if problem is not None:
            raise Incomplete(f"the result file {file_id} {problem}")
        return None

    def _without_secrets(self, raw: bytes) -> bytes:
        for secret in self._secrets:
            if secret in raw:
                raw = raw.replace(secret, b"***")
        return raw

    async def _store(self, batch: ServiceBatch) -> int:
        """Write the results in the scratch file to the journal; return how many belong to none of our lines."""
        unknown = 0
        some: list[StoredResult] = []
        size = 0
        for raw in _lines_of(self._scratch):
            try:
                result = stored(raw)
            except ValueError:
                result = None
            if result is None:
                unknown += 1
                continue
            if result.rank < ANSWER:  # a message may repeat the key
                result = result._replace(result=self._without_secrets(raw))
            some.append(result)
            size += len(raw)
            if len(some) == CHUNK_LINES or size >= CHUNK_BYTES:
                unknown += self._lines.keep_results(batch.number, some)
                some, size = [], 0
                await anyio.lowlevel.checkpoint()
        return unknown + self._lines.keep_results(batch.number, some)


def _lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that are not blank. They end with LF only: text may hold every other line end."""
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            line = line.strip(b" \t\r\n")
            if line:
                yield line


def _problem(path: Path) -> str | None:
    """Return what is wrong with a downloaded file as a whole; None if it may be complete."""
    with path.open("rb") as file:
        start = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith(b"<"):
            return "is a page, not a file of results"
        last = _last_line(file)
    if last:
        try:
            whole = isinstance(loaded(last), dict)
        except (ValueError, ServiceFault):
            whole = False
        if not whole:
            return "ends in half a line"
    return None


def _last_line(file: object) -> bytes:
    """Return the last line that is not blank; b"" if there is none."""
    import io

    assert isinstance(file, io.BufferedReader)
    end = file.seek(0, os.SEEK_END)
    tail = b""
    while end > 0:
        start = max(0, end - 65_536)
        file.seek(start)
        tail = file.read(end - start) + tail
        end = start
        stripped = tail.rstrip(b" \t\r\n")
        if b"\n" in stripped:
            return stripped.rpartition(b"\n")[2]
    return tail.strip(b" \t\r\n").removeprefix(b"\xef\xbb\xbf")


def _may_be_missing(batch: ServiceBatch) -> int:
    """Return how many results may be missing for good: none of a completed batch; else those that it did not run, by
    its own counts."""
    if batch.status == "completed":
        return 0
    return batch.lines - min(batch.lines, (batch.completed or 0) + (batch.failed or 0))


def is_refusal(fault: ServiceFault) -> bool:
    """Return whether the same request would be refused again: not after a 429 of any kind, or an error of a server. A
    redirect that arrives here was not followed."""
    status = fault.status_code
    return not isinstance(fault, TransientFault) and status is not None and 300 <= status < 500 and status != 429


def _lacking(batch: ServiceBatch, gone: Mapping[str, ServiceFault]) -> tuple[str, str | None]:
    """Return (error type, reason) of the request lines without a result.

    Args:
        gone: file → why the service does not give it.
    """
    if gone and all(fault.status_code in GONE for fault in gone.values()):
        return "result_file_gone", f"the service no longer has the result file {' and '.join(gone)}"
    if gone:
        words = " and ".join(f"{file_id}: {fault}" for file_id, fault in gone.items())
        return "result_file_refused", f"the service does not give the result file {words}"
    if batch.status == "completed":
        return "result_missing", None
    if batch.status == "failed":
        return "result_missing", "the service batch failed before it ran this request"
    return f"batch_{batch.status}", f"the service batch {batch.batch_id} has {batch.status} before it ran this request"
