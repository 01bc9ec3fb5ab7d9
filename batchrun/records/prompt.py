"""Row, Turn and Prompt, and what they consist of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from batchrun.records.plain import JsonObject, Value

__all__ = ["Attachment", "CallKey", "LaterTurns", "Prompt", "Row", "RowSettings", "ToolCall", "ToolOutput", "Turn"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input table.

    Attributes:
        row_index: position in the input, from 0.
        values: column name → cell, in the input's column order.
        line: physical line (from 1) on which the row starts, None if the format has no lines.
        part: name of the file in a table of several files, None for one file.
    """

    row_index: int
    values: Mapping[str, Value]
    line: int | None = None
    part: str | None = None

    @property
    def where(self) -> str:
        """The row's place in its table, for messages.

        >>> Row(4, {}, 7).where, Row(4, {}, 7, "part-2.csv").where, Row(4, {}, None, "part-2.parquet").where
        ('line 7', 'line 7 of part-2.csv', 'row 4 (in part-2.parquet)')
        """
        if self.line is None:
            return f"row {self.row_index}" + (f" (in {self.part})" if self.part is not None else "")
        return f"line {self.line}" + (f" of {self.part}" if self.part is not None else "")

    @property
    def numbered(self) -> str:
        """The row's number and place, for lists of rows: `row 4 (line 7)`."""
        return self.where if self.line is None else f"row {self.row_index} ({self.where})"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file or an image attached to a user message.

    Attributes:
        source: a path or an http(s) URL, as in the cell.
        kind: whether the model gets it as an image or as a file.
        sha256: hash of a local file's content (hex); None for a URL, which the service fetches itself.
    """

    source: str
    kind: Literal["image", "file"]
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One user message, or a conversation, and the run that answers it.

    Attributes:
        text: the message; of a conversation, its text for people.
        number: from 1.
        messages: the messages of a conversation, in the form of Chat Completions; empty for a single user message.
        examples: messages before it that are the same for all rows, in the same form.
    """

    text: str
    number: int = 1
    attachments: tuple[Attachment, ...] = ()
    messages: tuple[JsonObject, ...] = ()
    examples: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call that the model asks for.

    Attributes:
        call_id: the service's id of the call.
        arguments: JSON text as the model wrote it, unchecked.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The output of a function call.

    Attributes:
        text: the text that is sent to the model.
        failed: the call failed (wrong arguments, an exception, a timeout); the text states why.
    """

    call_id: str
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class CallKey:
    """Identifies a call within its row, even if the service gives several calls the same id.

    Attributes:
        run: the run that asks for it: its id if it waits for the output, otherwise its number among the ended runs.
        position: position among the calls that the run makes together, from 0.
    """

    run: str
    position: int
    call_id: str


@dataclass(frozen=True, slots=True)
class RowSettings:
    """The settings of one row that differ from those of its batch.

    Attributes:
        model, instructions: None for those of the batch.
        param: all model parameters of `--param`; None for those of the batch.
    """

    model: str | None = None
    instructions: str | None = None
    param: JsonObject | None = None


class LaterTurns(Protocol):
    """The turns after the first, which may depend on the answers so far."""

    @property
    def count(self) -> int:
        """Number of turns, including the first."""
        ...

    @property
    def identity(self) -> str:
        """Everything that decides their text, apart from the answers: the templates, and the cells that they use."""
        ...

    def turn(self, number: int, responses: Sequence[str]) -> Turn | None:
        """Return turn `number` (from 2), or None if its condition does not hold.

        Args:
            responses: one answer for each turn before it, "" for a turn that was left out.

        Raises:
            PromptError: the turn cannot be rendered.
        """
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of a row.

    Attributes:
        row_key: stable id of the row in the journal; its position as text if the user named no key column.
        row_index: the row's position, from 0.
        first: the first user message.
        fingerprint: hash (hex) of everything that determines the answer: the turns and the model settings. An answer
            in the journal with the same fingerprint is still valid.
        later: the turns after the first, None if there are none.
        thread_id: the existing thread to continue, None for a new one.
        variant: number of the batch's combination of settings, from 0.
        model: the requested model, None if an assistant determines it.
        own: settings of this row only; None if it has those of its batch.
    """

    row_key: str
    row_index: int
    first: Turn
    fingerprint: str
    later: LaterTurns | None = None
    thread_id: str | None = None
    variant: int = 0
    model: str | None = None
    own: RowSettings | None = None

    @property
    def chars(self) -> int:
        """Characters that the model reads for the first turn, without the instructions of the batch."""
        return len(self.first.text) + self.chars_beside

    @property
    def chars_beside(self) -> int:
        """Characters that every run of the row reads besides its turns and answers: examples, and the instructions that
        only this row has."""
        own = self.own
        instructions = len(own.instructions) if own is not None and own.instructions is not None else 0
        return instructions + sum(len(message["content"]) for message in self.first.examples)
