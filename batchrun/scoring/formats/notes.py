"""Notes of a conversion: what was not carried over, and what has another name in the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from batchrun.records import Value
from batchrun.wording import rows_text, shortened

__all__ = ["Notes"]

_SHOWN_CHARS: Final = 40
"""Characters up to which a value that is the same in all rows is shown."""


@dataclass(slots=True)
class Notes:
    """Values that were not carried over, and remarks.

    Mutable state: all attributes.

    Attributes:
        rows: reason → number of rows, for what was not carried over.
        values: reason → the value that all those rows have, as text.
        remarks: sentence → number of rows; 0 if it is about the whole file.
    """

    rows: Counter[str] = field(default_factory=Counter)
    values: dict[str, str | None] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str) -> None:
        """Count one more row for a reason."""
        self.rows[reason] += 1

    def add_value(self, reason: str, value: Value) -> None:
        """Count one more row for a reason, and remember the value while it is short and the same in all rows."""
        text = shortened(value) if isinstance(value, str | int | float) else None
        if text is not None and len(text) > _SHOWN_CHARS:
            text = None
        if self.rows[reason] and self.values.get(reason) != text:
            text = None
        self.values[reason] = text
        self.add(reason)

    def add_rest(self, cells: Mapping[str, Value], known: Iterable[str]) -> None:
        """Note every key that has a value and is not known."""
        without = set(known)
        for key, value in cells.items():
            if key not in without and value not in (None, "", [], {}):
                self.add(key)

    def remark(self, sentence: str, rows: int = 1) -> None:
        """Add a sentence about some more rows, or about the file if `rows` is 0."""
        self.remarks[sentence] += rows

    def lines(self) -> list[str]:
        """Return one line per remark and per reason for the terminal, the most frequent first."""
        lines = [f"{text} ({rows_text(count)})" if count else text for text, count in self.remarks.most_common()]
        for reason, count in self.rows.most_common():
            value = self.values.get(reason)
            shown = "" if value is None else f" = {value}"
            lines.append(f"not carried over: {reason}{shown} ({rows_text(count)})")
        return lines
