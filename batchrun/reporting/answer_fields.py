"""AnswerFields: the fields of answers that are JSON objects, as columns of the page.

A batch with a schema has columns for them already. Other answers are read here: an answer that is an object, or a block
between ``` fences with one, has fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from batchrun.records import OUTPUT_COLUMNS, Cells, JsonObject
from batchrun.structured.json_in_text import find_object
from batchrun.structured.mismatch import SchemaMismatch
from batchrun.thoughts import split_thought

__all__ = ["FoundFields", "TableFields"]

_MOST: Final = 30
"""Most fields that become columns; the most frequent ones do."""

_LEAST_SHARE: Final = 0.5
"""Share of the answers that must be objects: a rare object is an answer like any other."""

_BEGINNINGS: Final = ("{", "```", "\ufeff{")


@dataclass(frozen=True, slots=True)
class TableFields:
    """The columns of a page that hold fields of answers.

    Attributes:
        own: columns of the table.
        derived: name of a further column of the page → the field in it.
        left_out: number of fields that are not shown in columns.
    """

    own: Collection[str] = ()
    derived: dict[str, str] = field(default_factory=dict)
    left_out: int = 0

    def notes(self) -> list[str]:
        """Return a sentence about fields that are not shown."""
        if not self.left_out:
            return []
        return [f"The answers have {self.left_out:,} further fields, which are less frequent and have no column."]


class FoundFields:
    """Reads the fields of answers, and counts them.

    Mutable state: the counts.
    """

    def __init__(self, listed: Sequence[str], prefix: str, own: Collection[str] = ()) -> None:
        """
        Args:
            listed: columns of the table.
            prefix: prefix of the output columns.
            own: columns that hold fields according to the batch's schema.
        """
        self._listed, self._prefix, self._own = listed, prefix, own
        self._answers = 0
        self._objects = 0
        self._counts: Counter[str] = Counter()

    def read(self, cells: Cells) -> JsonObject:
        """Return the fields of a row's answer, and count them.

        They are empty if the answer is not an object, if the row is not completed, and if the batch's schema names the
        columns: then the table has the fields.
        """
        answer = cells["response"]
        if self._own or cells["status"] != "completed" or not answer:
            return {}
        self._answers += 1
        fields = _object_in(answer)
        self._objects += bool(fields)
        self._counts.update(fields.keys())
        return fields

    def columns(self) -> TableFields:
        """Return the columns with fields, in the order in which the fields appear first."""
        if self._objects == 0 or self._objects < _LEAST_SHARE * self._answers:
            return TableFields(self._own)
        # A batch writes its fields after its other columns; a column before them is one of the input.
        places = [place for place, name in enumerate(self._listed) if name.removeprefix(self._prefix) in OUTPUT_COLUMNS]
        after = set(self._listed[places[0] :] if places else ())
        own: list[str] = []
        derived: dict[str, str] = {}
        left_out = 0
        frequent = dict(self._counts.most_common(_MOST))
        for name in self._counts:
            if self._prefix + name in after:
                own.append(self._prefix + name)
            elif name in frequent:
                derived[self._free(name, derived)] = name
            else:
                left_out += 1
        return TableFields(own, derived, left_out)

    def _free(self, name: str, taken: Collection[str]) -> str:
        """Return a name that no column has: the field's own, or one that says where it is from."""
        while name in self._listed or name in taken or name in OUTPUT_COLUMNS:
            name = f"response.{name}"
        return name


def _object_in(answer: str) -> JsonObject:
    text = split_thought(answer)[0].strip()
    if not text.startswith(_BEGINNINGS):
        return {}
    try:
        return find_object(text)[1]
    except SchemaMismatch:
        return {}
