"""The columns of structured answers, and the cells that answers become."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.structured import SchemaMismatch, Structure
from tests.support.shapes import ANSWER, REVIEW, Tree, shape, structure

# The columns and their types.


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, str),
        ({"type": "integer"}, int),
        ({"type": "number"}, float),
        ({"type": "boolean"}, bool),
        ({"type": ["boolean", "null"]}, bool),
        ({"type": ["integer", "number"]}, float),
        ({"anyOf": [{"type": "integer"}, {"type": "null", "title": "none"}]}, int),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, float),
        ({"allOf": [{"type": "integer"}], "title": "n"}, int),
        ({"enum": [1, 2, None]}, int),
        ({"enum": [1, 2.5]}, float),
        ({"type": "number", "enum": [1, 2]}, float),
        ({"type": ["string", "integer"], "enum": [1, 2]}, int),
        ({"const": True}, bool),
        ({"$ref": "#/$defs/n"}, int),
        ({"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}, int),
    ],
)
def test_the_schema_says_the_type_of_a_column(schema: dict[str, Any], kind: type) -> None:
    """One scalar type, nullable or not, through enums, alternatives and references, is the column's type."""
    made = Structure.of_schema({**shape(a=schema), "$defs": {"n": {"type": "integer"}}})
    assert made.columns == {"a": kind}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {"type": "array", "items": {"type": "integer"}},
        {"type": ["string", "integer"]},
        {"enum": ["1", 1]},
        {"enum": [None]},
        {"anyOf": [{"type": "string"}, {"type": "array"}]},
        {},
        True,
    ],
)
def test_what_is_of_several_types_is_json_text(schema: Any) -> None:
    """Objects, lists and mixed values are kept as JSON, so that 1 and "1" differ."""
    assert structure(a=schema).columns == {"a": str}


def test_json_cells_read_back_as_they_were() -> None:
    """A cell of a mixed column is JSON even for a string."""
    mixed = structure(a={"type": ["string", "integer", "array"]})
    for value in ("1", 1, ["é", {"b": None}]):
        assert json.loads(mixed.read(json.dumps({"a": value}))["a"]) == value


def test_columns_keep_the_order_of_the_schema() -> None:
    """Columns have the schema's order, not the answer's."""
    made = structure(z={"type": "string"}, a={"type": "string"})
    assert list(made.read('{"a": "1", "z": "2"}')) == list(made.columns) == ["z", "a"]


@pytest.mark.parametrize("name", [*OUTPUT_COLUMNS, "epoch", "citations", "files", "response_12"])
def test_columns_never_take_the_place_of_batchruns_own(name: str) -> None:
    """A property with the name of one of batchrun's columns becomes `response_NAME`."""
    made = structure(**{name: {"type": "string"}})
    assert made.columns == {f"response_{name}": str}
    assert made.read(json.dumps({name: "x"})) == {f"response_{name}": "x"}


def test_two_properties_never_become_one_column() -> None:
    """Two properties for one column are refused, so that neither is lost silently."""
    with pytest.raises(InputError, match=r"status becomes the column response_status, which is also a property"):
        structure(status={}, response_status={})


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        ({"type": "integer"}, "3.0", 3),
        ({"type": "integer"}, "1e3", 1000),
        ({"type": "integer"}, str(-(2**63)), -(2**63)),
        ({"type": "number"}, "3", 3.0),
        ({"type": "number"}, str(10**30), 1e30),
        ({"type": "array"}, f"[{10**30}]", f"[{10**30}]"),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": "string"}, r'"\ud83d\ude00"', "\U0001f600"),
        ({"type": "string", "format": "email"}, '"nobody"', "nobody"),
    ],
)
def test_cells_have_the_type_of_their_column(schema: Any, text: str, expected: Any) -> None:
    """3.0 becomes the integer 3, and 3 the number 3.0; digits in JSON cells are kept."""
    cell = structure(a=schema).read(f'{{"a": {text}}}')["a"]
    assert (cell, type(cell)) == (expected, type(expected))


def test_a_property_that_may_be_left_out_is_an_empty_cell() -> None:
    """An omitted property is an empty cell; an additional one stays in the response only."""
    made = Structure.of_schema(shape(required=False, a={"type": "string"}, b={"type": "integer"}))
    assert made.read('{"b": 1, "more": 2}') == {"a": None, "b": 1}


def test_a_recursive_schema_ends_at_the_depth_of_the_answer() -> None:
    """An answer at the limit of Python's depth is a mismatch, whichever part fails first."""
    tree = Structure.of_schema({
        **shape(required=False, a={"anyOf": [{"$ref": "#/$defs/t"}, {"type": "null"}]}),
        "$defs": {"t": shape(required=False, a={"anyOf": [{"$ref": "#/$defs/t"}, {"type": "null"}]})},
    })  # fmt: skip
    assert tree.read('{"a": ' * 5 + "null" + "}" * 5)
    for depth in (50, 200, 700, 950, 990, 2000):
        with suppress(SchemaMismatch):
            tree.read('{"a": ' * depth + "null" + "}" * depth)


texts = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
}
values = st.recursive(
    st.one_of(st.none(), *SCALARS.values()), lambda inner: st.lists(inner) | st.dictionaries(texts, inner)
)


@st.composite
def objects(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema with some properties, and an object that matches it."""
    properties: dict[str, Any] = {}
    fitting: dict[str, Any] = {}
    names = draw(st.lists(texts.filter(lambda name: name and not name.startswith("response")), min_size=1, unique=True))
    for name in names:
        kind = draw(st.sampled_from([*SCALARS, "object"]))
        null = draw(st.booleans())
        properties[name] = {"type": [kind, "null"]} if null else {"type": kind}
        value = st.dictionaries(texts, values) if kind == "object" else SCALARS[kind]
        fitting[name] = draw(st.none() | value if null else value)
    return shape(**properties), fitting


@settings(max_examples=50)
@given(objects(), st.booleans(), st.sampled_from(["{}", "```json\n{}\n```", "Well: {}.", "\n{}\n"]))
def test_what_fits_is_read_as_it_was(pair: tuple[dict[str, Any], dict[str, Any]], escaped: bool, around: str) -> None:
    """Any matching object is read cell by cell, nested values as JSON, however it is written."""
    schema, fitting = pair
    made = Structure.of_schema(schema)
    cells = made.read(around.replace("{}", json.dumps(fitting, ensure_ascii=escaped)))
    for (name, value), (column, cell) in zip(fitting.items(), cells.items(), strict=True):
        assert column in (name, f"response_{name}")
        assert cell is None or type(cell) is made.columns[column]
        assert (json.loads(str(cell)) if isinstance(value, dict) else cell) == value


pieces = st.sampled_from([
    "{", "}", "[", "]", '"', ":", ",", "\\", "\\u", "d800", "```", "```json\n", "\n", '{"score"', "1e999", "9" * 5000,
    "NaN", "null", '"score": 3', '"why": null', '"tags": []', ANSWER, "\ud800", "\x00", '{"a":' * 400, "[" * 400,
])  # fmt: skip


@given(st.lists(pieces | st.text(), max_size=12).map("".join))
def test_whatever_a_model_writes_is_cells_or_a_mismatch(text: str) -> None:
    """No text raises anything but `SchemaMismatch`."""
    for made in (REVIEW, Structure.of_model(Tree)):
        with suppress(SchemaMismatch):
            assert made.read(text).keys() == made.columns.keys()


def test_the_module_is_light() -> None:
    """Importing the structure loads neither the SDK nor pydantic nor jsonschema."""
    code = "import sys, batchrun.structured; print({'openai', 'pydantic', 'jsonschema'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
