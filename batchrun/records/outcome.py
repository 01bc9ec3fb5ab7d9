"""Reply, Attempt and Outcome: how a prompt was answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from batchrun.records.plain import JsonObject
from batchrun.records.prompt import Attachment, CallKey, RowSettings, ToolCall, ToolOutput, Turn
from batchrun.token_usage import Usage

__all__ = [
    "EMPTY_ANSWER",
    "OUTPUT_COLUMNS",
    "REFUSAL",
    "Attempt",
    "Completed",
    "Exchange",
    "Failed",
    "Outcome",
    "Reply",
    "RowStatus",
    "RunEnd",
]

RowStatus: TypeAlias = Literal[
    "completed", "incomplete", "failed", "expired", "cancelled", "in_flight", "pending", "skipped"
]
"""The `status` column. The first five are outcomes; `in_flight` and `pending` appear only if a batch is running or was
interrupted. A `skipped` row was left out by the options that select rows, and counts nowhere."""

EMPTY_ANSWER = "empty_answer"
"""Reason of an incomplete answer without content: no text, no file, no refusal."""
REFUSAL = "refusal"
"""Reason of an answer that only states why there is none: incomplete, or completed if the embedded tutor gave it."""

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
    "completed_at": datetime,
}
"""The columns that batchrun adds after those of the input, in this order, with the type of their values (every value
may be None). A moment is ISO 8601 text in cells and in text formats, and a timestamp in Parquet and in frames."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a run, if another attempt would not help, or the function calls that it waits for.

    Attributes:
        status: `requires_action` means that the model asks for `calls`.
        response: the text obtained, "" if there is none; the text so far, for a run that waits.
        reason: why the answer is incomplete, or a short name of the failure.
        error: one line for a person, for a run that failed.
        calls: function calls that the model asks for.
        waiting: the run itself waits for the outputs of the calls; otherwise it has ended with them.
        history: the messages that this exchange added, in the protocol's form, where the service keeps no thread; the
            messages so far, for a run that waits.
        extras: what the answer carried: `citations` and `files` (lists), `reasoning` and `service_tier` (text),
            `logprobs` (a list) and `raw`, each only if there is any. None for nothing.
    """

    status: Literal["completed", "incomplete", "failed", "expired", "cancelled", "requires_action"]
    response: str
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    reason: str | None = None
    error: str | None = None
    calls: tuple[ToolCall, ...] = ()
    waiting: bool = False
    history: tuple[JsonObject, ...] = ()
    extras: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request for a run: to create it, or to continue it with the outputs of functions.

    Attributes:
        turn: the user message.
        variant: number of the batch's combination of settings, from 0.
        thread_id: the thread to continue, None for a new one.
        previous_id: id of the run that it continues from, None for the first run of a thread.
        history: the messages before this one, in the protocol's form, where the service keeps no thread.
        outputs: outputs of the functions that the run `previous_id` asked for; they replace the user message.
        round: number of times that outputs were sent since the user message, including these.
        partial: the messages so far of a run that waits for outputs, in the protocol's form.
        thread_attachments: attachments of the row's first message, already in the thread.
        structured: the answer must have the form that the batch asks for.
        own: settings of this row only; None if it has those of its batch.
        row_index: position of the row, from 0.
    """

    row_key: str
    turn: Turn
    variant: int = 0
    thread_id: str | None = None
    previous_id: str | None = None
    history: tuple[JsonObject, ...] = ()
    outputs: tuple[ToolOutput, ...] = ()
    round: int = 0
    partial: tuple[JsonObject, ...] = ()
    thread_attachments: tuple[Attachment, ...] = ()
    structured: bool = False
    own: RowSettings | None = None
    row_index: int = 0


@dataclass(frozen=True, slots=True)
class RunEnd:
    """A run that ended, of a row that may need more than one.

    Attributes:
        number: number among the ended runs of the row, from 1.
        turn: number of the turn that it belongs to.
        attempt: number of the attempt that it ended.
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
    history: tuple[JsonObject, ...] = ()

    def calls_by_key(self) -> dict[CallKey, ToolCall]:
        """Return the function calls that it asks for, in order."""
        run = str(self.run_id) if self.reply.waiting else str(self.number)
        return {CallKey(run, number, call.call_id): call for number, call in enumerate(self.reply.calls)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a row that may have reached the service.

    Attributes:
        number: counts the attempts at the row, from 1, including those of earlier runs of the batch.
        generation: counts the runs that the row needed, from 1. An attempt that follows the same run, or repeats a
            request whose reply was lost, keeps the generation and with it the idempotency key.
        key: the Idempotency-Key of the request that creates the run.
        thread_id, run_id: None until the service has named them.
        run_ended: this run has failed; the next attempt creates another under another key.
        unseen: the service may have acted on the request, and its answer was not seen. True until the attempt ends.
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
    """The row has an answer, complete (`completed`) or cut off (`incomplete`, for the reason in `reason`).

    Attributes:
        response: all assistant messages of the last run, joined by a blank line.
        attempts: number of attempts, from 1.
        duration_s: seconds from the first request of the row to its end, without waits for limits.
        completed_at: wall clock, UTC.
        cost_usd: US dollars, None if the price is unknown.
        extras: what the answer carried, each only if there is any: `citations` and `files` (lists), `reasoning` (text),
            `tool_calls` and `tool_errors` (numbers), `service_tier` (text), and with `keep` also `logprobs` (a list)
            and `raw` (the reply as JSON); `fallback_from`, the first model, if the fallback model was asked. None for
            nothing.

    Examples:
        >>> import batchrun
        >>> ended = []
        >>> answers = batchrun.run(["7 * 6"], model="tutor", on_outcome=ended.append)
        >>> ended[0].status, ended[0].response
        ('completed', '7 * 6 = 42.')
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
    extras: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The row has no usable answer.

    Attributes:
        error_type: short stable name, such as `rate_limit_exceeded`, `timeout`, `empty_prompt`.
        error: one line for a person.
        usage: tokens that were charged nevertheless, if the service reported them.
        response: text obtained before the failure, None if there is none.

    Examples:
        >>> import batchrun
        >>> ended = []
        >>> answers = batchrun.run([""], model="tutor", on_outcome=ended.append)
        >>> ended[0].error_type, ended[0].error
        ('empty_prompt', 'the rendered prompt is empty')
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
    extras: JsonObject | None = None


Outcome: TypeAlias = Completed | Failed
