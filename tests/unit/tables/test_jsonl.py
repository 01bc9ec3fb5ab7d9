"""Reading JSON Lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchrun.errors import InputError
from batchrun.tables import Source, validate

Open = Callable[..., Source]


@pytest.mark.parametrize("name", ["in.jsonl", "in.ndjson", "IN.JSONL"])
def test_values_keep_their_types(table: Open, name: str) -> None:
    """Numbers, booleans, null, lists and objects become Python values, and integers keep all their digits."""
    source = table(
        '{"q": "x", "n": 12345678901234567890123, "f": 0.5, "b": true, "z": null, "l": [1, {"k": []}]}\n', name
    )
    (row,) = source.rows()
    assert row.values == {"q": "x", "n": 12345678901234567890123, "f": 0.5, "b": True, "z": None, "l": [1, {"k": []}]}
    assert type(row.values["n"]) is int
    assert row.values["b"] is True


def test_columns_are_the_union(table: Open) -> None:
    """Columns are the keys of all rows in the order of first use; a row without a key has None."""
    source = table('{"b": 1}\n\n{"a": 2, "b": 3}\r\n{"c": "\\u2028\u2028"}\n', "in.jsonl")
    assert source.columns == ("b", "a", "c")
    assert [(row.line, tuple(row.values.items())) for row in source.rows()] == [
        (1, (("b", 1), ("a", None), ("c", None))),
        (3, (("b", 3), ("a", 2), ("c", None))),
        (4, (("b", None), ("a", None), ("c", "\u2028\u2028"))),
    ]
    assert validate(source) == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1}\n  {"a": }\n', ["line 2, column 9:", "not valid JSON"]),
        ('{"a": 1}\n{"a": "x\n"}\n', ["line 2,", "not valid JSON"]),
        ('{"a": 1}\n[1, 2]\n', ["line 2:", "a list", "object"]),
        ('{"a": 1}\n"x"\n', ["line 2:", "a string"]),
        ('{"a": 1}\n7\n', ["line 2:", "a number"]),
        ("null\n", ["line 1:", "null"]),
        ('[\n{"a": 1},\n{"a": 2]\n', ["line 3, column 8", "not valid JSON"]),
        ('[\n{"a": 1}\n{"a": 2}]\n', ["line 3", "comma"]),
        ('[\n{"a": 1},\n]\n', ["line 2", "comma"]),
        ('[{"a": 1}', ["cut off"]),
        ('[{"a": 1}]\n{"a": 1}\n', ["line 2", "after the end"]),
        ('[{"a": 1},\n 7]', ["line 2", "a number"]),
        ('{\n "a": 1\n}\n{\n "a": }\n', ["line 5, column 7", "not valid JSON"]),
        ('{"a": 1, "a": 2}\n', ["line 1:", "'a'", "twice"]),
        ('{"a": NaN}\n', ["line 1:", "NaN", "null"]),
        ('{"a": ' + "9" * 5000 + "}\n", ["line 1:", "too many digits"]),
        ('{"a": ' + "[" * 100_000 + "}\n", ["line 1:", "nested too deeply"]),
        ('{"": 1}\n', ["column 1", "no name"]),
        ("{}\n{}\n", ["no row has a key"]),
        ("\n\n", ["no rows"]),
        ("", ["empty"]),
        ('{"a": "\0"}\n', ["line 1:", "NUL"]),
        (b'{"a": 1}\n{"a": "\xe9"}\n', ["line 2, byte 16 (0xe9)", "UTF-8"]),
    ],
)
def test_bad_lines(table: Open, content: str | bytes, expected: list[str]) -> None:
    """Each error is one line with file, physical line and remedy."""
    with pytest.raises(InputError) as caught:
        table(content, "in.jsonl")
    text = str(caught.value)
    assert "in.jsonl" in text
    assert "\n" not in text
    for part in expected:
        assert part in text


def test_a_file_that_changes_is_noticed(table: Open) -> None:
    """A key that appears after the table was opened is an error, not a lost cell."""
    source = table('{"a": 1}\n', "in.jsonl")
    table('{"a": 1}\n{"b": 2}\n', "in.jsonl")
    with pytest.raises(InputError, match="line 2: the row has a new key"):
        list(source.rows())
