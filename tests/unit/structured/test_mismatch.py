"""The messages for answers that do not match a schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.structured import SchemaMismatch
from tests.support.shapes import shape, structure


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": "number"}, "cheap", "at `a`: expected a number, got 'cheap'"),
        ({"type": ["integer", "null"]}, [1], "at `a`: expected an integer or null, got a list of 1"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, True, "at `a`: expected a number or null, got true"),
        ({"type": "integer"}, 1.5, "at `a`: expected an integer, got 1.5"),
        ({"type": "integer"}, 2**63, "at `a`: expected an integer of at most 64 bits"),
        ({"type": "number"}, 10**400, "at `a`: expected a number within a double's range"),
        ({"enum": ["x", "y"]}, {"z": 1}, "at `a`: expected one of 'x', 'y', got an object"),
        ({"const": False}, None, "at `a`: expected false, got null"),
        ({"type": "integer", "maximum": 5}, 6, "at `a`: expected at most 5, got 6"),
        ({"type": "number", "multipleOf": 0.5}, 10**400, "a number is too large"),
        ({"type": "string", "minLength": 3}, "ab", "at `a`: expected text of at least 3 characters, got 2"),
        ({"type": "string", "pattern": "^x"}, "a\nb", "at `a`: expected text that matches the pattern ^x, got 'a\\nb'"),
        ({"type": "array", "minItems": 1}, [], "at `a`: expected a list of at least 1, got 0"),
        ({"type": "array", "uniqueItems": True}, [1, 1], "at `a`: expected no item twice"),
        ({"type": "array", "items": shape(b={"type": "string"})}, [{"b": ""}, {}], "at `a[1]`: `b` is missing"),
        (shape(b={"type": "string"}, c={}), {}, "at `a`: `b`, `c` are missing"),
        ({"not": {"type": "string"}}, "x", "at `a`: 'x' should not be valid under {'type': 'string'}"),
        (
            {"oneOf": [shape(kind={"const": "cat"}, n={"type": "integer"}), shape(kind={"const": "dog"})]},
            {"kind": "cat", "n": "9"},
            "at `a.n`: expected an integer, got '9'",
        ),
        ({"type": "string"}, "x" * 500, None),
        ({"enum": [1]}, "x" * 500, "at `a`: expected one of 1, got '" + "x" * 59 + "…'"),
    ],
)
def test_a_mismatch_is_described_in_words(schema: Any, value: Any, message: str | None) -> None:
    """The message has the place, the expected and the actual value, so that a model can correct it."""
    made, text = structure(a=schema), json.dumps({"a": value})
    if message is None:
        assert made.read(text) == {"a": value}
        return
    with pytest.raises(SchemaMismatch) as caught:
        made.read(text)
    assert str(caught.value) == message


def test_each_problem_has_its_line_and_there_is_an_end() -> None:
    """A thousand wrong items do not make a message of a thousand lines."""
    made = structure(a={"type": "array", "items": {"type": "integer"}}, b={"type": "string"})
    with pytest.raises(SchemaMismatch) as caught:
        made.read('{"a": ["x"]}')
    assert sorted(str(caught.value).splitlines()) == ["`b` is missing", "at `a[0]`: expected an integer, got 'x'"]
    with pytest.raises(SchemaMismatch) as caught:
        made.read(json.dumps({"a": ["x"] * 1000, "b": ""}))
    assert len(str(caught.value).splitlines()) == 11
