"""Structured answers by a pydantic model."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, Field, computed_field, field_serializer, field_validator

from batchrun.structured import SchemaMismatch, Structure
from tests.support.shapes import ORDER, Chain, Order, Tree

# Models.


def test_a_model_asks_for_all_its_fields_where_that_makes_it_strict() -> None:
    """As in the SDK, fields with defaults are required, and a description next to a reference is kept."""
    made = Structure.of_model(Order)
    assert made.strict
    assert made.schema["required"] == list(ORDER)
    sent = made.response_format()["json_schema"]["schema"]["properties"]
    assert "default" not in sent["count"]
    assert "format" not in sent["link"]
    assert sent["pet"]["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    assert sent["second"]["description"] == "another one"


def test_a_model_that_cannot_be_strict_keeps_its_defaults() -> None:
    """A dict with any keys prevents strict mode: then no field is made required."""

    class Loose(BaseModel):
        counts: dict[str, int]
        note: str = "none"

    made = Structure.of_model(Loose)
    assert not made.strict
    assert made.read('{"counts": {"a": 1}}') == {"counts": '{"a": 1}', "note": "none"}


def test_cells_are_what_the_model_makes_of_the_answer() -> None:
    """Cells are the model's values in JSON form, under the schema's names."""
    cells = Structure.of_model(Order).read(json.dumps({**ORDER, "count": 2.0}))
    assert cells == {
        "note": None, "count": 2, "day": "2026-02-03", "price": '"1.5"', "size": 2, "link": "https://a.example/",
        "pet": '{"kind": "cat", "lives": 9}', "second": 1,
    }  # fmt: skip


def test_the_models_own_checks_count() -> None:
    """The message of a validator has its text and the place."""
    made = Structure.of_model(Order)
    with pytest.raises(SchemaMismatch, match=r"^at `count`: Value error, must be even$"):
        made.read(json.dumps({**ORDER, "count": 3}))
    with pytest.raises(SchemaMismatch, match=r"^at `day`: Input should be a valid date"):
        made.read(json.dumps({**ORDER, "day": "2026-02-31"}))


def test_a_validator_that_breaks_fails_the_row_alone() -> None:
    """An exception of the user's code for one answer does not stop the batch."""

    class Fragile(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def _inverse(cls, n: int) -> int:
            return 1 // n

    made = Structure.of_model(Fragile)
    assert made.read('{"n": 1}') == {"n": 1}
    with pytest.raises(SchemaMismatch, match="the model Fragile raised ZeroDivisionError"):
        made.read('{"n": 0}')


def test_columns_hold_their_type_whatever_a_model_writes() -> None:
    """If a model changes the type or the name of a value, the cell has the answer's own value."""

    class Odd(BaseModel):
        n: int
        given: str = Field(validation_alias="in", serialization_alias="out")
        hidden: str = Field(exclude=True)
        plain: str = Field(alias="short")

        @field_serializer("n")
        def _words(self, n: int) -> str:
            return f"{n} pieces"

        @computed_field
        def double(self) -> int:
            return 2 * self.n

    made = Structure.of_model(Odd)
    assert made.columns == {"n": int, "in": str, "hidden": str, "short": str}
    cells = made.read('{"n": 3, "in": "x", "hidden": "y", "short": "z"}')
    assert cells == {"n": 3, "in": "x", "hidden": "y", "short": "z"}


def test_recursive_models_work() -> None:
    """Recursive models work, even those for which the SDK's own preparation does not end."""
    assert Structure.of_model(Tree).read('{"name": "a", "child": {"name": "b", "child": null}}') == {
        "name": "a",
        "child": '{"name": "b", "child": null}',
    }
    assert Structure.of_model(Chain).columns == {"name": str, "next": str, "same": str}
