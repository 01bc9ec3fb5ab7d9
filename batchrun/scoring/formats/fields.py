"""A parsed document that an importer takes apart: what it takes is in the result, and what it leaves is listed.

The accounting is done here for all importers. An importer cannot forget a field: a field that it does not take is
named in a note, together with a field that a later version of the format adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batchrun.records import JsonDict, Value

__all__ = ["Fields"]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of an object of a document that have not been taken yet.

    Mutable state: `fields`, from which everything that is taken is removed; `opened`.

    Attributes:
        fields: what has not been taken yet.
        opened: `id` of each object of the document from which single fields are taken.

    Examples:
        >>> document = Fields.of({"id": 1, "sample": {"text": "4", "seed": 3}})
        >>> document.object("sample").take("text")
        '4'
        >>> list(document.left())
        [('id', 1), ('sample.seed', 3)]
    """

    fields: JsonDict
    opened: set[int]

    @classmethod
    def of(cls, fields: JsonDict) -> Fields:
        """Return a document."""
        return cls(fields, {id(fields)})

    def __contains__(self, key: str) -> bool:
        return key in self.fields

    def get(self, key: str) -> Value:
        """Return a field without taking it; None if there is none."""
        return self.fields.get(key)

    def take(self, key: str) -> Value:
        """Take a field with everything in it; None if there is none."""
        return self.fields.pop(key, None)

    def text(self, key: str) -> str | None:
        """Take a text; what is not a text stays."""
        return self.take(key) if isinstance(self.fields.get(key), str) else None

    def texts(self, key: str) -> list[str]:
        """Take a list of texts, or one text; what is neither stays."""
        value = self.fields.get(key)
        if isinstance(value, str):
            return [self.take(key)]
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return list(self.take(key) or ())
        return []

    def take_if(self, key: str, *expected: Value) -> bool:
        """Take a field that only says what the object is; another value stays."""
        if key not in self.fields or self.fields[key] not in expected:
            return False
        del self.fields[key]
        return True

    def take_all(self) -> JsonDict:
        """Take all fields."""
        fields = dict(self.fields)
        self.fields.clear()
        return fields

    def object(self, key: str) -> Fields:
        """Open the object in a field; what is not an object stays, and the result is empty."""
        value = self.fields.get(key)
        if not isinstance(value, dict):
            return Fields({}, self.opened)
        self.opened.add(id(value))
        return Fields(value, self.opened)

    def objects(self, key: str) -> list[Fields]:
        """Open the objects in a list; members that are not objects stay."""
        value = self.fields.get(key)
        members = [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
        self.opened.update(map(id, members))
        return [Fields(each, self.opened) for each in members]

    def left(self) -> Iterator[tuple[str, Value]]:
        """Yield path and value of everything that was not taken and is not empty.

        An object or a list from which nothing was taken has one path. Positions in lists are written `[]`.
        """
        yield from _left(self.fields, "", self.opened)


def _left(value: Value, path: str, opened: set[int]) -> Iterator[tuple[str, Value]]:
    if isinstance(value, dict) and id(value) in opened:
        for key, each in value.items():
            yield from _left(each, f"{path}.{key}" if path else key, opened)
    elif isinstance(value, list) and any(id(each) in opened for each in value):
        for each in value:
            yield from _left(each, f"{path}[]", opened)
    elif _has_leaf(value):
        yield path, value


def _has_leaf(value: Value) -> bool:
    if isinstance(value, dict):
        return any(map(_has_leaf, value.values()))
    if isinstance(value, list):
        return any(map(_has_leaf, value))
    return value is not None and value != ""
