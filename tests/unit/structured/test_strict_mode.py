"""The rules of strict mode: which schemas obey them, and what is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from batchrun.structured import SchemaMismatch, Structure
from batchrun.structured.strict_mode import closed, strict_fault
from tests.support.shapes import Chain, Order, Tree, shape, structure

# Strict mode.


def test_a_schema_that_obeys_the_rules_is_strict() -> None:
    """Only `additionalProperties: false` may be missing, which is added at every level."""
    made = structure(items={"type": "array", "items": shape(price={"type": "number"})})
    assert made.strict
    assert made.schema["additionalProperties"] is False
    assert made.schema["properties"]["items"]["items"]["additionalProperties"] is False
    with pytest.raises(SchemaMismatch, match="`extra`: not among the allowed names"):
        made.read('{"items": [], "extra": 1}')


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (shape(required=False, a={"type": "string"}), "`a` is not `required`"),
        (shape(a={"type": "object", "minProperties": 3}), "at `a`: `minProperties` is not supported"),
        (shape(a={"type": "array", "items": shape(b={})}), "at `a[].b`: no `type`"),
        (shape(a={"type": "array"}), "at `a`: a list without `items`"),
        (shape(a={"type": "object"}), "at `a`: an object without `type: object` or `properties`"),
        (shape(a=True), "at `a`: true is not a schema with a type"),
        ({**shape(a={"type": "string"}), "additionalProperties": True}, "`additionalProperties` is not false"),
        ({**shape(a={"type": "string"}), "anyOf": [{"required": ["a"]}]}, "alternatives at the root"),
        (shape(a={"oneOf": [{"type": "string"}]}), "at `a`: `oneOf` is not supported"),
        (shape(a={"anyOf": [{"type": "string"}], "pattern": "x"}), "at `a`: `pattern` is next to alternatives"),
        (shape(a={"type": "string"}, b={"$ref": "#/properties/a"}), "is neither # nor #/$defs/NAME"),
        (shape(a={"enum": [str(n) for n in range(1001)]}), "1,001 values in lists of values, more than 1,000"),
        (shape(a={"enum": ["x" * 100 + str(n) for n in range(251)]}), "with more than 15,000 characters in all"),
        (shape(True, **{"p" * 120_001: {"type": "null"}}), "120,001 characters in names and values"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_asked_for_loosely(schema: dict[str, Any], reason: str) -> None:
    """Nothing is required, dropped or loosened to make a schema strict; the reason is reported."""
    made = Structure.of_schema(schema)
    assert not made.strict
    assert reason in str(made.not_strict)
    assert made.schema == schema
    assert made.response_format()["json_schema"]["strict"] is False
    assert made.response_format()["json_schema"]["schema"] == schema


def test_a_schema_may_have_five_thousand_properties() -> None:
    """One property more is too many for strict mode."""
    properties = {f"p{n}": {"type": "null"} for n in range(5000)}
    assert strict_fault(closed(shape(True, **properties))) is None
    assert strict_fault(closed(shape(True, **properties, more={"type": "null"}))) == "5,001 properties, more than 5,000"


def test_limits_of_length_are_spoken_of_and_held_here() -> None:
    """Limits of length do not prevent strict mode, and an answer that exceeds them is a mismatch."""
    made = structure(
        a={"type": "string", "minLength": 1, "maxLength": 3, "description": "A word"},
        b={"type": "array", "items": {"type": "string", "maxLength": 2}, "uniqueItems": True},
        c={"type": "array", "items": {"type": "string"}, "uniqueItems": False},
    )
    assert made.strict
    assert made.response_format()["json_schema"]["schema"]["properties"] == {
        "a": {"type": "string", "description": "A word (at least 1 characters, at most 3 characters)"},
        "b": {
            "type": "array",
            "items": {"type": "string", "description": "(at most 2 characters)"},
            "description": "(no item twice)",
        },
        "c": {"type": "array", "items": {"type": "string"}},
    }
    with pytest.raises(SchemaMismatch, match="at `a`: expected text of at most 3 characters, got 4"):
        made.read('{"a": "long", "b": [], "c": []}')


def test_levels_are_counted_through_references() -> None:
    """Ten levels of objects are strict, eleven are not; a circle counts once."""

    def nested(levels: int) -> dict[str, Any]:
        definitions = {f"d{n}": shape(a={"$ref": f"#/$defs/d{n + 1}"}) for n in range(levels - 2)}
        definitions[f"d{levels - 2}"] = shape(a={"type": "string"}, root={"anyOf": [{"$ref": "#"}, {"type": "null"}]})
        return {**shape(a={"$ref": "#/$defs/d0"}), "$defs": definitions}

    assert Structure.of_schema(nested(10)).not_strict is None
    assert Structure.of_schema(nested(11)).not_strict == "11 levels of objects, more than 10"


def test_remarks_are_not_sent_in_strict_mode() -> None:
    """Informative keywords do not prevent strict mode; those that services refuse are not sent."""
    made = Structure.of_schema({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **shape(
            a={"type": "string", "default": "x", "examples": ["y"], "format": "uri", "x-own": 1, "title": "A"},
            b={"enum": ["u", None], "description": "either"},
            c={"$ref": "#/$defs/day", "description": "when"},
        ),
        "$defs": {"day": {"type": "string", "format": "date"}},
    })  # fmt: skip
    assert made.response_format() == {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {
                    "a": {"type": "string", "title": "A"},
                    "b": {"enum": ["u", None], "description": "either", "type": ["string", "null"]},
                    "c": {"anyOf": [{"$ref": "#/$defs/day"}], "description": "when"},
                },
                "required": ["a", "b", "c"],
                "$defs": {"day": {"type": "string", "format": "date"}},
                "additionalProperties": False,
            },
        },
    }
    assert made.schema["properties"]["a"]["default"] == "x"


def test_the_schema_given_is_left_alone() -> None:
    """Additions are made to a copy."""
    given_schema = shape(a=shape(b={"type": "string"}))
    before = json.dumps(given_schema)
    Structure.of_schema(given_schema)
    assert json.dumps(given_schema) == before


@pytest.mark.parametrize("model", [Order, Tree, Chain])
def test_a_structure_comes_back_from_its_schema(model: type[BaseModel]) -> None:
    """The JSON in a journal gives the same columns, name and request."""
    made = Structure.of_model(model)
    again = Structure.of_schema(json.loads(json.dumps(made.schema)))
    assert again == made
    assert again.response_format() == made.response_format()
