"""What the journal records of service batches, and of the request and result lines in them.

A request line is one request of a row, in the file that is uploaded for a service batch; a result line is its reply, in
the file that is downloaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "CUSTOM_IDS",
    "FoundLine",
    "LineState",
    "NewLine",
    "ServiceBatch",
    "StoredResult",
    "WaitingLine",
    "is_custom_id",
    "line_of",
]

LineState: TypeAlias = Literal["waiting", "open", "ended"]
"""`waiting`: in no service batch; `open`: its service batch is not collected; `ended`: it has a result, or never gets
one."""

_CUSTOM_ID = re.compile(r"row\d+-turn\d+-attempt\d+-(\d+)", re.ASCII)
CUSTOM_IDS = "'row[0-9]*-turn[0-9]*-attempt[0-9]*-[0-9]*'"
"""The same as a pattern of SQL's `GLOB`."""


def is_custom_id(text: str | None) -> bool:
    """Return whether the id of a run is the custom id of a request line, which no service can look up."""
    return text is not None and _CUSTOM_ID.fullmatch(text) is not None


def line_of(custom_id: object) -> int | None:
    """Return the number of the request line that a custom id names, None if it is not one of batchrun's."""
    found = _CUSTOM_ID.fullmatch(custom_id) if isinstance(custom_id, str) else None
    return int(found[1]) if found is not None and len(found[1]) < 19 else None


@dataclass(frozen=True, slots=True)
class ServiceBatch:
    """One batch at the service.

    Attributes:
        number: within the journal, from 1.
        place: see `batchrun.journal.place_of`.
        endpoint: path of the requests, such as `/v1/responses`.
        model: of all its lines; None if they name none.
        lines: number of its request lines.
        status: one of `UNSENT`, the service's own word, or `dropped`.
        since: when the status changed (UTC, ISO 8601).
        is_repeat: its lines were in a service batch that failed without naming a line.
        batch_id, input_file_id, output_file_id, error_file_id: the service's ids, None until they are known.
        created_at: when the service accepted it (UTC, ISO 8601).
        total, completed, failed: the service's own counts of lines, which may be wrong; None if unknown.
        collected_at: when its results were in the journal, or its lines left it (UTC, ISO 8601); None while it is open.
        answers, errors: result lines of its request lines, by their kind.
        unknown: result lines that belong to none of its request lines.
        missing: request lines without a result.
        lacking: error type of the request lines without a result, None if each has one.
        reason: one line for a person about its failure, None if it has not failed.
        deleted_at: when its files were deleted at the service (UTC, ISO 8601).
    """

    number: int
    place: str
    endpoint: str
    model: str | None
    lines: int
    status: str
    since: str
    is_repeat: bool = False
    batch_id: str | None = None
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: str | None = None
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    collected_at: str | None = None
    answers: int = 0
    errors: int = 0
    unknown: int = 0
    missing: int = 0
    lacking: str | None = None
    reason: str | None = None
    deleted_at: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether results are still to come."""
        return self.collected_at is None

    @property
    def file_ids(self) -> tuple[str, ...]:
        """The files that it has at the service."""
        return tuple(each for each in (self.input_file_id, self.output_file_id, self.error_file_id) if each is not None)


class NewLine(NamedTuple):
    """A request line that waits for a service batch.

    Attributes:
        request: the line as it is sent, JSON without a line end.
    """

    line: int
    custom_id: str
    row_key: str
    attempt: int
    endpoint: str
    model: str | None
    request: bytes


class WaitingLine(NamedTuple):
    """What decides into which service batch a request line goes.

    Attributes:
        size: bytes of its request, without the line end.
    """

    line: int
    endpoint: str
    model: str | None
    size: int


class FoundLine(NamedTuple):
    """A request line, as it is looked up.

    Attributes:
        result: its result line as the service sent it; None if there is none yet.
        lacking, reason: why there will never be a result, as for `ServiceBatch`; None while one may come.
        place: of its service batch, as for `ServiceBatch`; None if it is in none.
    """

    line: int
    state: LineState
    result: bytes | None
    lacking: str | None = None
    reason: str | None = None
    place: str | None = None


class StoredResult(NamedTuple):
    """A result line for the journal.

    Attributes:
        rank: of several results of a line, the one with the highest rank counts, and the first of these.
    """

    line: int
    custom_id: str
    rank: int
    result: bytes
