"""Planned faults of the Batch API, from the `[[batch_api]]` entries of a script; see docs/guides/rehearsal.md."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from batchrun.server.protocol.bodies import Body
from batchrun.server.responders.settings_file import Settings, SettingsFileError, validated

__all__ = ["KINDS", "BatchFaults", "Line", "LineError", "OddFiles", "Request", "RequestFault"]

_MATCH_TIMEOUT_S = 0.25

Request: TypeAlias = Literal["upload", "create", "list", "retrieve", "cancel", "content", "delete"]

HeldStatus: TypeAlias = Literal["validating", "in_progress", "finalizing", "cancelling"]


@dataclass(frozen=True, slots=True)
class Line:
    """A request line, as far as faults depend on it.

    Attributes:
        number: line of the input file, from 1.
        text: the request's body as JSON text; called only if a pattern has to be searched.
    """

    number: int
    custom_id: str
    text: Callable[[], str]


class _Entry(Settings):
    """One entry: a fault, and the batches that get it, by their number in order of creation; None for all."""

    kind: str
    batches: list[PositiveInt] | None = None


class _LinesEntry(_Entry):
    """A fault of the lines that `lines`, `share` or `pattern` select; of all lines if there is none of these."""

    lines: list[PositiveInt] | None = None
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    pattern: str | None = None

    @model_validator(mode="after")
    def _selects_in_one_way(self) -> _LinesEntry:
        if sum(value is not None for value in (self.lines, self.share, self.pattern)) > 1:
            raise ValueError("give only one of 'lines', 'share' and 'pattern'")
        if self.pattern is not None:
            import regex

            try:
                regex.compile(self.pattern)
            except regex.error as exc:
                raise ValueError(f"'pattern' is not a valid regular expression: {exc}") from None
        return self

    def selects(self, line: Line) -> bool:
        if self.lines is not None:
            return line.number in self.lines
        if self.share is not None:
            digest = hashlib.blake2b(f"{self.kind}/{line.custom_id}".encode(), digest_size=6).digest()
            return int.from_bytes(digest) / 2**48 < self.share
        return self.pattern is None or _found(self.pattern, line.text())


class Hold(_LinesEntry):
    kind: Literal["hold"]
    status: HeldStatus
    retrievals: PositiveInt

    @model_validator(mode="after")
    def _holds_lines_in_progress(self) -> Hold:
        if self.status != "in_progress" and self.model_fields_set & {"lines", "share", "pattern"}:
            raise ValueError("'lines', 'share' and 'pattern' are allowed only with the status in_progress")
        return self


class Expire(_LinesEntry):
    kind: Literal["expire"]


class Fail(_Entry):
    kind: Literal["fail"]
    code: str
    message: str = "A planned fault."
    lines: list[PositiveInt] | None = None
    queue_lines: PositiveInt | None = None


class LineError(_LinesEntry):
    kind: Literal["line_error"]
    status: int | None = None
    code: str | None = None
    message: str = "A planned fault."
    file: Literal["output", "error"] | None = None

    @model_validator(mode="after")
    def _is_an_error(self) -> LineError:
        if self.status is not None and self.status not in (0, 200) and not 400 <= self.status <= 599:
            raise ValueError("'status' must be 0, 200 (with an error as its body) or 400 to 599")
        if self.status is None and self.code is None:
            raise ValueError("give a 'status' (the request had a reply), or only a 'code' (it had none)")
        return self


class MissingFiles(_Entry):
    kind: Literal["missing_files"]
    retrievals: PositiveInt | None = None
    shows: Literal[""] | None = None


class UnknownStatus(_Entry):
    kind: Literal["unknown_status"]
    status: str
    shows: str


class WrongCounts(_Entry):
    kind: Literal["wrong_counts"]
    counts: dict[str, NonNegativeInt] | None = None


class OddFiles(_LinesEntry):
    """What is odd about result files; `lines`, `share` and `pattern` select the lines that are lost or repeated."""

    kind: Literal["odd_files"]
    shuffled: bool = False
    lost: bool = False
    repeated: bool = False
    foreign: bool = False
    bytes: bool = False

    @model_validator(mode="after")
    def _is_odd(self) -> OddFiles:
        if not (self.shuffled or self.lost or self.repeated or self.foreign or self.bytes):
            raise ValueError("set at least one of 'shuffled', 'lost', 'repeated', 'foreign' and 'bytes' to true")
        return self


class RequestFault(Settings):
    """A fault of an HTTP request of the Batch API.

    Attributes:
        after: number of such requests that are spared first.
        times: number of such requests that then get the fault.
        status: HTTP status of the reply; None if the reply is lost.
        html: the body is a page, as from a proxy.
        lost_reply: the work is done, and the connection closes in the middle of the reply.
    """

    kind: Literal["request"]
    request: Request
    after: NonNegativeInt = 0
    times: PositiveInt = 1
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    code: str | None = None
    message: str = "A planned fault."
    retry_after_s: NonNegativeFloat | None = None
    html: bool = False
    lost_reply: bool = False

    @model_validator(mode="after")
    def _is_a_fault(self) -> RequestFault:
        if (self.status is None) != self.lost_reply:
            raise ValueError("give either 'status' (400 to 599) or 'lost_reply = true'")
        return self


KINDS: Final[dict[str, type[Settings]]] = {
    "hold": Hold, "expire": Expire, "fail": Fail, "line_error": LineError, "missing_files": MissingFiles,
    "unknown_status": UnknownStatus, "wrong_counts": WrongCounts, "odd_files": OddFiles, "request": RequestFault,
}  # fmt: skip

EntryT = TypeVar("EntryT", bound=_Entry)


class BatchFaults:
    """The planned faults of the Batch API. Without entries, everything works.

    A batch is named by its number, from 1, in the order of creation by one key, restarts included. The first
    entry of a kind that applies is used.

    Mutable state: for each fault of requests, the number of its requests so far.
    """

    def __init__(self, entries: Sequence[Settings] = ()) -> None:
        self._entries = [entry for entry in entries if isinstance(entry, _Entry)]
        self._requests = [entry for entry in entries if isinstance(entry, RequestFault)]
        self._seen = [0] * len(self._requests)

    @classmethod
    def of(cls, entries: Sequence[Body], path: Path) -> BatchFaults:
        """Return the faults of a script's entries.

        Raises:
            SettingsFileError: an entry is invalid; the message names file, entry and key.
        """
        found: list[Settings] = []
        for number, data in enumerate(entries, 1):
            place = f"batch_api {number}"
            model = KINDS.get(str(data.get("kind")))
            if model is None:
                raise SettingsFileError(f"{path}: {place}: key 'kind': expected one of {', '.join(KINDS)}")
            found.append(validated(model, data, path, place))
        return cls(found)

    @property
    def are_none(self) -> bool:
        """Whether no batch has a fault."""
        return not self._entries

    def _all(self, kind: type[EntryT], batch: int) -> list[EntryT]:
        return [
            entry
            for entry in self._entries
            if isinstance(entry, kind) and (entry.batches is None or batch in entry.batches)
        ]

    def request(self, request: Request) -> RequestFault | None:
        """Return the fault of this request, and count the request."""
        found: RequestFault | None = None
        for position, entry in enumerate(self._requests):
            if entry.request != request:
                continue
            seen = self._seen[position]
            self._seen[position] += 1
            if found is None and entry.after <= seen < entry.after + entry.times:
                found = entry
        return found

    def retrievals(self, batch: int, status: str) -> int:
        """Return how often a status must be retrieved before it changes; 0 for not at all."""
        return next((hold.retrievals for hold in self._all(Hold, batch) if hold.status == status), 0)

    def waits(self, batch: int, line: Line) -> bool:
        """Return whether a line is not answered before the status `in_progress` has been retrieved often enough."""
        return any(hold.status == "in_progress" and hold.selects(line) for hold in self._all(Hold, batch))

    def expires(self, batch: int, line: Line) -> bool:
        """Return whether a line is not answered within the completion window."""
        return any(entry.selects(line) for entry in self._all(Expire, batch))

    def failures(self, batch: int, total: int, queued: int) -> list[Body]:
        """Return the errors with which the check of the input fails.

        Args:
            total: number of lines of the batch.
            queued: number of lines of all batches that have not ended, this one included.
        """
        for entry in self._all(Fail, batch):
            if entry.queue_lines is not None and queued <= entry.queue_lines:
                continue
            lines = [None] if entry.lines is None else [number for number in entry.lines if number <= total]
            found = [{"code": entry.code, "message": entry.message, "param": None, "line": number} for number in lines]
            if found:
                return found
        return []

    def line_error(self, batch: int, line: Line) -> LineError | None:
        """Return the error that a line has instead of an answer; None for no error."""
        return next((entry for entry in self._all(LineError, batch) if entry.selects(line)), None)

    def odd_files(self, batch: int) -> list[OddFiles]:
        """Return what is odd about the result files of a batch."""
        return self._all(OddFiles, batch)

    def shown(self, batch: int, body: Body, retrieved: int) -> Body:
        """Return a batch as clients see it.

        Args:
            retrieved: how often it has been retrieved since it ended.
        """
        changes: dict[str, Any] = {}
        for missing in self._all(MissingFiles, batch)[:1]:
            if missing.retrievals is None or retrieved <= missing.retrievals:
                changes |= {"output_file_id": missing.shows, "error_file_id": missing.shows}
        for unknown in self._all(UnknownStatus, batch):
            if unknown.status == body["status"]:
                changes["status"] = unknown.shows
        for wrong in self._all(WrongCounts, batch)[:1]:
            changes["request_counts"] = wrong.counts
        return body | changes if changes else body


def _found(pattern: str, text: str) -> bool:
    import regex

    try:
        return regex.search(pattern, text, timeout=_MATCH_TIMEOUT_S) is not None
    except TimeoutError:
        return False
