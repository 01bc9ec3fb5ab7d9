"""What passes between the stages: frozen, slotted, every field with its unit and origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

__all__ = [
    "EMPTY_ANSWER",
    "OUTPUT_COLUMNS",
    "REFUSAL",
    "Attachment",
    "Attempt",
    "CallKey",
    "Completed",
    "Exchange",
    "Failed",
    "LaterTurns",
    "Outcome",
    "Prompt",
    "Reply",
    "Row",
    "RowStatus",
    "RunEnd",
    "ToolCall",
    "ToolOutput",
    "Turn",
    "Usage",
    "Value",
    "sum_usage",
]

Value: TypeAlias = Any
"""A cell as plain Python: str from text tables; also int, float, bool, None, list, dict from JSONL and Parquet."""

RowStatus: TypeAlias = Literal["completed", "incomplete", "failed", "expired", "cancelled", "in_flight", "pending"]
"""The `status` column. The first five are how a row ended; the last two appear only in exports of a running
or interrupted batch."""

EMPTY_ANSWER = "empty_answer"
"""The reason of an incomplete answer that says nothing: no text, no file, no refusal."""
REFUSAL = "refusal"
"""The reason of an answer that says why there is none: incomplete; completed where the embedded tutor gave it."""

OUTPUT_COLUMNS: Mapping[str, type] = {
    "response": str,
    "status": str,
    "error_type": str,
    "error": str,
    "thread_id": str,
    "run_id": str,
    "model": str,
    "prompt_tokens": int,
    "completion_tokens": int,
    "total_tokens": int,
    "cached_tokens": int,
    "reasoning_tokens": int,
    "cost_usd": float,
    "attempts": int,
    "duration_s": float,
    "completed_at": str,
}
"""The columns that batchrun adds behind the input's own, in this order, with the type of their values
(every one may be None)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input table.

    Attributes:
        row_index: position in the input, from 0.
        values: column name → cell, in the input's column order.
        line: physical line (from 1) on which the row starts, None where the format has no lines.
    """

    row_index: int
    values: Mapping[str, Value]
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file or an image that goes with a user message.

    Attributes:
        source: a path or an http(s) URL, as the cell has it.
        kind: how the model is to take it.
        sha256: of a local file's content (hex); None for a URL, which the service fetches itself.
    """

    source: str
    kind: Literal["image", "file"]
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One user message and the run that answers it.

    Attributes:
        number: from 1.
    """

    text: str
    number: int = 1
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks for.

    Attributes:
        call_id: as the service names the call.
        arguments: JSON text, as the model wrote it; nobody has checked it.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What came of a call.

    Attributes:
        text: what the model is told.
        failed: the call did not work (wrong arguments, an exception, a timeout); the text says why.
    """

    call_id: str
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class CallKey:
    """Tells a call from every other of its row, also where a service names several alike.

    Attributes:
        run: that asks for it: its id where it waits for the output, else its number among the runs that ended.
        position: among the calls that it makes together, from 0.
    """

    run: str
    position: int
    call_id: str


class LaterTurns(Protocol):
    """The turns behind the first, which may depend on the answers so far."""

    @property
    def count(self) -> int:
        """Turns in all, the first included."""
        ...

    def turn(self, number: int, responses: Sequence[str]) -> Turn | None:
        """Turn `number` (from 2), given one answer for each turn before it ("" for one that was left out); None if its
        condition does not hold.

        Raises:
            PromptError: it cannot be asked.
        """
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a row asks.

    Attributes:
        row_key: stable id of the row in the journal; its position as text where the user named no key column.
        row_index: the row's position, from 0.
        first: the first user message.
        fingerprint: hash (hex) of everything that decides the answer: the turns and the model settings.
            The same fingerprint means that an answer in the journal still holds.
        later: the turns behind the first, None where there are none.
        thread_id: the thread that is to be continued, None for one of the row's own.
        variant: which of the batch's combinations of settings, from 0.
        model: that is asked for, None where an assistant decides.
    """

    row_key: str
    row_index: int
    first: Turn
    fingerprint: str
    later: LaterTurns | None = None
    thread_id: str | None = None
    variant: int = 0
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a run as the service counted them. None is "not told", never 0.

    Attributes:
        prompt_tokens: tokens read, cached ones included.
        completion_tokens: tokens written, reasoning included.
        raw: the service's own usage object, kept so that costs can be computed again.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: Mapping[str, Any] | None = None


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """The usage of several runs of one row. A count that no run told stays None; `raw` then lists the runs'."""
    if len(usages) == 1:
        return usages[0]
    raws = [usage.raw for usage in usages if usage.raw is not None]
    return Usage(
        prompt_tokens=_sum(usage.prompt_tokens for usage in usages),
        completion_tokens=_sum(usage.completion_tokens for usage in usages),
        total_tokens=_sum(usage.total_tokens for usage in usages),
        cached_tokens=_sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=_sum(usage.reasoning_tokens for usage in usages),
        raw={"runs": raws} if len(raws) > 1 else (raws[0] if raws else None),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    total = sum(known)
    return total if known and total < 2**63 else None  # beyond it there are no integers in the journal


@dataclass(frozen=True, slots=True)
class Reply:
    """How a run ended, where another try would not help, or what it waits for.

    Attributes:
        status: `requires_action`: the model wants `calls` answered.
        reason: why it is incomplete, or a short name of why it failed.
        error: one line for a person, for a run that failed.
        response: the text obtained, "" where there is none; of a run that waits, all that it has said so far.
        calls: functions that the model asks for.
        waiting: the run itself waits for the outputs of the calls; else it has ended with them.
        history: the messages that this exchange added, in the protocol's form, where the service keeps no thread.
        extras: `citations` and `files`, each a list, where the run has them.
    """

    status: Literal["completed", "incomplete", "failed", "expired", "cancelled", "requires_action"]
    response: str
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    reason: str | None = None
    error: str | None = None
    calls: tuple[ToolCall, ...] = ()
    waiting: bool = False
    history: tuple[Mapping[str, Any], ...] = ()
    extras: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A run that is to be made, or to be continued with the outputs of functions.

    Attributes:
        turn: the user message.
        variant: which of the batch's combinations of settings, from 0.
        thread_id: the thread that it goes on, None for a new one.
        previous_id: id of the run that it continues from, None for the first run of a thread.
        history: the messages before this one, in the protocol's form, where the service keeps no thread.
        outputs: of the functions that the run `previous_id` asked for; they take the place of the user message.
        round: how often outputs were given since the user message, these included.
        partial_text: the text so far of a run that waits for outputs.
        thread_attachments: attachments of the row's first message, already in the thread.
        structured: the answer is to have the form that the batch asks for.
    """

    row_key: str
    turn: Turn
    variant: int = 0
    thread_id: str | None = None
    previous_id: str | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    outputs: tuple[ToolOutput, ...] = ()
    round: int = 0
    partial_text: str = ""
    thread_attachments: tuple[Attachment, ...] = ()
    structured: bool = False


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run that ended, of a row that may need more than one.

    Attributes:
        number: counts the ended runs of the row, from 1.
        turn: the number of the turn that it belongs to.
        attempt: the number of the try that it ended.
        asked: the user message, or the outputs of functions as text.
        history: all messages so far, in the protocol's form, where the service keeps no thread.
    """

    number: int
    turn: int
    attempt: int
    asked: str
    reply: Reply
    thread_id: str | None
    run_id: str | None
    history: tuple[Mapping[str, Any], ...] = ()

    def calls_by_key(self) -> dict[CallKey, ToolCall]:
        """The functions that it asks for, in order."""
        run = str(self.run_id) if self.reply.waiting else str(self.number)
        return {CallKey(run, number, call.call_id): call for number, call in enumerate(self.reply.calls)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a row that may have reached the service.

    Attributes:
        number: counted from 1 over the life of the row, resumes included.
        generation: counts the runs that this row needed, from 1: a try that follows the same run, or repeats
            a request whose reply was lost, keeps the generation and with it the idempotency key.
        key: the Idempotency-Key of the request that creates the run.
        thread_id, run_id: as soon as they were seen, else None.
        run_ended: this run failed for good; what follows is another run under another key.
        unseen: the service may have acted on the request, and its answer was not seen; True until the try has ended.
    """

    number: int
    generation: int
    key: str
    thread_id: str | None = None
    run_id: str | None = None
    run_ended: bool = False
    unseen: bool = True


@dataclass(frozen=True, slots=True)
class Completed:
    """The row has an answer, whole (`completed`) or cut short (`incomplete`, with its reason in `reason`).

    Attributes:
        response: all assistant messages of the last run, joined by a blank line.
        cost_usd: US dollars, None where the price is unknown.
        attempts: tries that it took, from 1.
        duration_s: seconds from the first request of the row to its end, waits for limits excluded.
        completed_at: wall clock, UTC.
        extras: `citations` and `files` (lists), `tool_calls` and `tool_errors` (numbers), where there are any.
    """

    row_key: str
    response: str
    thread_id: str | None
    run_id: str | None
    model: str | None
    usage: Usage
    attempts: int
    duration_s: float
    completed_at: datetime
    cost_usd: float | None = None
    status: Literal["completed", "incomplete"] = "completed"
    reason: str | None = None
    extras: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The row has no answer that can be used; says why.

    Attributes:
        error_type: short stable name, such as `rate_limit_exceeded`, `timeout`, `empty_prompt`.
        error: one line for a person.
        response: text obtained before the failure, if any; never thrown away.
        usage: what was billed all the same, where the service told.
    """

    row_key: str
    error_type: str
    error: str
    attempts: int
    duration_s: float
    completed_at: datetime
    thread_id: str | None = None
    run_id: str | None = None
    model: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    response: str | None = None
    status: Literal["failed", "expired", "cancelled"] = "failed"
    extras: Mapping[str, Any] | None = None


Outcome: TypeAlias = Completed | Failed
