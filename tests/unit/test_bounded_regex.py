"""Patterns that backtrack without end."""

from __future__ import annotations

import pytest

from batchrun.bounded_regex import TooSlow, found
from batchrun.structured.mismatch import SchemaMismatch
from batchrun.structured.structure import Structure

SLOW = "^(a|aa)+$"
LONG = "a" * 100 + "b"


def test_a_slow_pattern_ends() -> None:
    """A slow pattern is abandoned, and the message names it."""
    with pytest.raises(TooSlow, match=r"\(a\|aa\)"):
        found(SLOW, LONG)
    assert found("^a+b$", LONG)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"x": {"type": "string", "pattern": SLOW}}},
        {"properties": {"x": {}}, "patternProperties": {SLOW: {"type": "string"}}},
        {"properties": {"x": {}}, "patternProperties": {SLOW: {}}, "additionalProperties": False},
        {"properties": {"x": {"anyOf": [{"pattern": SLOW}, {"type": "null"}]}}},
    ],
)
def test_a_schema_with_a_slow_pattern(schema: dict[str, object]) -> None:
    """Wherever the pattern is in the schema, the answer does not match it."""
    structure = Structure.of_schema({"type": "object", **schema})
    with pytest.raises(SchemaMismatch, match="takes more than"):
        structure.read(f'{{"x": "{LONG}", "{LONG}": "1"}}')


def test_patterns_of_a_schema_still_hold() -> None:
    """A matching answer passes, and a mismatch is named."""
    schema = {
        "type": "object",
        "properties": {"x": {"type": "string", "pattern": "^a+$"}},
        "patternProperties": {"^y": {"type": "integer"}},
        "additionalProperties": False,
    }
    structure = Structure.of_schema(schema)
    assert structure.read('{"x": "aa", "y1": 1}')["x"] == "aa"
    for wrong in ('{"x": "ab"}', '{"x": "a", "y1": "no"}', '{"x": "a", "z": 1}'):
        with pytest.raises(SchemaMismatch):
            structure.read(wrong)
