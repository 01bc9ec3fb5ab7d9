"""Answers of a given shape: which schemas are taken, what becomes a column, what an answer may look like."""

from __future__ import annotations

import datetime
import decimal
import json
import subprocess
import sys
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field, computed_field, field_serializer, field_validator

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.structured import SchemaMismatch, Structure
from batchrun.structured.strict_mode import closed, strict_fault


def shape(required: bool = True, **properties: Any) -> dict[str, Any]:
    """The schema of an object with these properties."""
    return {"type": "object", "properties": properties, "required": list(properties) if required else []}


def structure(**properties: Any) -> Structure:
    return Structure.of_schema(shape(**properties))


REVIEW = structure(
    score={"type": "integer", "minimum": 1, "maximum": 5},
    why={"type": ["string", "null"]},
    tags={"type": "array", "items": {"type": "string"}},
)
ANSWER = '{"score": 4, "why": "clear", "tags": ["a", "ü"]}'
CELLS = {"score": 4, "why": "clear", "tags": '["a", "ü"]'}


class Size(IntEnum):
    small = 1
    large = 2


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Order(BaseModel):
    """An order."""

    note: str | None = Field(None, description="what the customer says")
    count: int = 1
    day: datetime.date
    price: decimal.Decimal
    size: Size
    link: AnyUrl
    pet: Cat | Dog = Field(discriminator="kind")
    second: Size = Field(description="another one")

    @field_validator("count")
    @classmethod
    def _even(cls, count: int) -> int:
        if count % 2:
            raise ValueError("must be even")
        return count


ORDER: dict[str, Any] = {
    "note": None, "count": 2, "day": "2026-02-03", "price": 1.5, "size": 2, "link": "https://a.example/",
    "pet": {"kind": "cat", "lives": 9}, "second": 1,
}  # fmt: skip


class Tree(BaseModel):
    name: str
    child: Tree | None = Field(None, description="below")


class Chain(BaseModel):
    name: str
    next: list[Chain] = Field(description="what follows")
    same: Chain = Field(description="the SDK replaces such a reference by what it names, without end")


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
    """Objects, lists and mixed values are kept as JSON, so that 1 and "1" stay apart."""
    assert structure(a=schema).columns == {"a": str}


def test_json_cells_read_back_as_they_were() -> None:
    """A cell of a mixed column is JSON even where it is a string."""
    mixed = structure(a={"type": ["string", "integer", "array"]})
    for value in ("1", 1, ["é", {"b": None}]):
        assert json.loads(mixed.read(json.dumps({"a": value}))["a"]) == value


def test_columns_keep_the_order_of_the_schema() -> None:
    """Not that of the answer."""
    made = structure(z={"type": "string"}, a={"type": "string"})
    assert list(made.read('{"a": "1", "z": "2"}')) == list(made.columns) == ["z", "a"]


@pytest.mark.parametrize("name", [*OUTPUT_COLUMNS, "epoch", "citations", "files", "response_12"])
def test_columns_never_take_the_place_of_batchruns_own(name: str) -> None:
    """A property with the name of one of them becomes `response_NAME`."""
    made = structure(**{name: {"type": "string"}})
    assert made.columns == {f"response_{name}": str}
    assert made.read(json.dumps({name: "x"})) == {f"response_{name}": "x"}


def test_two_properties_never_become_one_column() -> None:
    """Neither would be lost in silence."""
    with pytest.raises(InputError, match=r"status becomes the column response_status, which is also a property"):
        structure(status={}, response_status={})


# Strict mode.


def test_a_schema_that_obeys_the_rules_is_strict() -> None:
    """All it may lack is `additionalProperties: false`, which is added at every level."""
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
    """Nothing is made required, dropped or loosened to please a service; the reason is told."""
    made = Structure.of_schema(schema)
    assert not made.strict
    assert reason in str(made.not_strict)
    assert made.schema == schema
    assert made.response_format()["json_schema"]["strict"] is False
    assert made.response_format()["json_schema"]["schema"] == schema


def test_a_schema_may_have_five_thousand_properties() -> None:
    """One more is too many for strict mode."""
    properties = {f"p{n}": {"type": "null"} for n in range(5000)}
    assert strict_fault(closed(shape(True, **properties))) is None
    assert strict_fault(closed(shape(True, **properties, more={"type": "null"}))) == "5,001 properties, more than 5,000"


def test_limits_of_length_are_spoken_of_and_held_here() -> None:
    """They do not cost strict mode, and an answer that exceeds them is still a mismatch."""
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
    """Keywords that only tell something cost no strictness: those that services refuse stay here."""
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
    """What is added is added to a copy."""
    given_schema = shape(a=shape(b={"type": "string"}))
    before = json.dumps(given_schema)
    Structure.of_schema(given_schema)
    assert json.dumps(given_schema) == before


@pytest.mark.parametrize("model", [Order, Tree, Chain])
def test_a_structure_comes_back_from_its_schema(model: type[BaseModel]) -> None:
    """What a journal keeps, as JSON, gives the same columns, name and request."""
    made = Structure.of_model(model)
    again = Structure.of_schema(json.loads(json.dumps(made.schema)))
    assert again == made
    assert again.response_format() == made.response_format()


# What the option names.


def test_a_file_is_read(tmp_path: Path) -> None:
    """Relative to the folder that is given; the file's name is the shape's unless it has a title."""
    (tmp_path / "my review.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(shape(a={"type": "string"})).encode())
    made = Structure.load("my review.json", tmp_path)
    assert made.name == "my_review"
    assert made.columns == {"a": str}
    assert Structure.of_schema(made.schema) == made


@pytest.mark.parametrize("within", [lambda w: w, lambda w: {"type": "json_schema", "json_schema": w}])
def test_a_schema_may_be_wrapped_as_requests_have_it(tmp_path: Path, within: Any) -> None:
    """The `response_format` of a program that is there already will do."""
    wrapped = {"name": "review", "strict": False, "schema": {**shape(a={"type": "string"}), "title": "T"}}
    (tmp_path / "s.json").write_text(json.dumps(within(wrapped)))
    made = Structure.load("s.json", tmp_path)
    assert (made.name, made.columns) == ("review", {"a": str})


def test_a_reference_at_the_root_is_followed() -> None:
    """As generators of schemas write them for recursive types."""
    node = shape(name={"type": "string"}, below={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
    made = Structure.of_schema({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert made.strict
    assert made.read('{"name": "a", "below": {"name": "b", "below": null}}')["below"] == '{"name": "b", "below": null}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"type": "object",\n "properties": {,}}',
            "s.json: line 2, column 17: is not valid JSON: Expecting property name",
        ),
        (
            '{"type": "object", "type": "object"}',
            "s.json: is not valid JSON: the key 'type' appears twice in one object",
        ),
        ('{"minimum": NaN}', "s.json: is not valid JSON: NaN is not a JSON number"),
        ("[]", "s.json: is not a JSON schema; expected an object with `type` and `properties`"),
        ("[" * 100_000, "s.json: is nested too deeply"),
        ('{"type": "array"}', "s.json: at the root: expected an object with `properties`"),
        ('{"type": ["object", "null"], "properties": {"a": {}}}', "s.json: at the root: expected an object"),
        ('{"type": "object", "properties": {}}', "s.json: at the root: expected an object with `properties`"),
        ('{"$ref": "#"}', "s.json: at the root"),
        ('{"$ref": "#/$defs/a", "required": ["a"], "$defs": {"a": {}}}', "write the object itself there"),
        ('{"properties": {"": {}}}', "s.json: a property has an empty name"),
        (
            '{"type": "objekt", "properties": {"a": {}}}',
            "s.json: is not a valid JSON schema: at `type`: expected one of",
        ),
        ('{"properties": {"a": {"$ref": "https://a.example/s"}}}', "leads to no place in this schema; put its"),
        ('{"properties": {"a": {"items": {"$ref": "#/$defs/b"}}}}', "the `$ref` '#/$defs/b' leads to no place"),
        ('{"properties": {"a": {"$ref": "#/properties/a"}}}', "at `properties.a`: the `$ref` '#/properties/a' leads"),
        ('{"properties": {"a": {"pattern": "\\\\p{L}"}}}', "is not valid in Python: bad escape"),
        ('{"properties": {"a": {"const": "\\ud800"}}}', "half of a character"),
        ('{"$schema": 1, "properties": {"a": {}}}', "`$schema` must be the URL of a draft"),
        ('{"$schema": "http://json-schema.org/draft-03/schema#"}', "use draft 4 or later"),
    ],
)
def test_a_wrong_file_gets_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    """The file, the place, what is wrong."""
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(InputError) as caught:
        Structure.load("s.json", tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).startswith("s.json: ")
    assert "\n" not in str(caught.value)


def test_names_that_are_keywords_are_names() -> None:
    """A property may be called like anything in a schema."""
    names = ("$ref", "properties", "enum", "anyOf", "type", "pattern", "$defs")
    made = structure(**{name: {"type": "integer"} for name in names})
    assert made.strict
    assert made.read(json.dumps(dict.fromkeys(names, 1))) == dict.fromkeys(names, 1)


def test_a_long_chain_of_references_gets_one_clear_line() -> None:
    """Whatever gives up first."""
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(5000)} | {"d5000": {"type": "string"}}
    with pytest.raises(InputError, match="the schema: is nested too deeply"):
        Structure.of_schema({**shape(a={"$ref": "#/$defs/d0"}), "$defs": chain})


def test_other_files_that_cannot_be_read(tmp_path: Path) -> None:
    """No file, a folder, bytes that are no text."""
    (tmp_path / "b.json").write_bytes(b"\xff")
    for name, message in (
        ("gone.json", r"^--schema gone.json: no such file or directory; expected FILE.json, module:Model or file"),
        (".", "^--schema .: is a directory"),
        ("b.json", "^b.json: is not valid UTF-8"),
    ):
        with pytest.raises(InputError, match=message):
            Structure.load(name, tmp_path)


MODEL = """
from pydantic import BaseModel
from {sibling} import KINDS

class Review(BaseModel):
    score: int
    inner: "Inner"

class Inner(BaseModel):
    kind: str = KINDS[0]
"""


def test_a_model_is_imported_from_the_folder_or_from_a_file(tmp_path: Path) -> None:
    """With its siblings; Python's own list of places is afterwards what it was."""
    (tmp_path / "batchrun_test_kinds.py").write_text("KINDS = ['a']\n")
    (tmp_path / "batchrun_test_reviews.py").write_text(MODEL.format(sibling="batchrun_test_kinds"))
    before = list(sys.path)
    try:
        for text in ("batchrun_test_reviews:Review", "batchrun_test_reviews.py:Review"):
            made = Structure.load(text, tmp_path)
            assert made.name == "Review"
            assert made.read('{"score": 3, "inner": {"kind": "b"}}') == {"score": 3, "inner": '{"kind": "b"}'}
        assert Structure.load(f"{tmp_path}/batchrun_test_reviews.py:Review", Path("/")).strict
    finally:
        for name in [name for name in sys.modules if "batchrun_test_" in name]:
            del sys.modules[name]
    assert sys.path == before


def test_a_model_is_imported_from_the_working_directory(tmp_path: Path) -> None:
    """Also where the job file lies elsewhere, as from any Python program."""
    (tmp_path / "shapes.py").write_text("from pydantic import BaseModel\nclass A(BaseModel):\n    b: bool\n")
    code = "from pathlib import Path; from batchrun.structured import Structure\n"
    code += "print(Structure.load('shapes:A', Path('/nowhere')).columns)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "{'b': <class 'bool'>}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchrun_no_such:M", "there is no module batchrun_no_such in"),
        ("json.batchrun_no_such:M", "there is no module json.batchrun_no_such in"),
        ("gone.py:M", "gone.py: no such file"),
        ("m.py:Nothing", "m.py has no pydantic model Nothing; it has Real"),
        ("m.py:NUMBER", "m.py has no pydantic model NUMBER; it has Real"),
        ("json:JSONDecoder", "json has no pydantic model JSONDecoder"),
        ("broken.py:M", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("needy.py:M", "cannot be imported (ModuleNotFoundError: No module named 'batchrun_no_such')"),
        ("leaving.py:M", "cannot be imported (SystemExit: 3)"),
        ("odd.py:Listed", "at the root: expected an object with `properties`"),
        ("odd.py:Empty", "at the root: expected an object with `properties`"),
        ("odd.py:Callback", "the model has no JSON schema (PydanticInvalidForJsonSchema"),
    ],
)
def test_a_wrong_model_gets_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    """What the user's module raises is told, never shown as a traceback."""
    (tmp_path / "m.py").write_text("from pydantic import BaseModel\nNUMBER = 1\nclass Real(BaseModel):\n    a: int\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "needy.py").write_text("import batchrun_no_such\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "odd.py").write_text(
        "from collections.abc import Callable\nfrom pydantic import BaseModel, RootModel\n"
        "Listed = RootModel[list[int]]\nclass Empty(BaseModel): pass\n"
        "class Callback(BaseModel):\n    call: Callable[[], int]\n"
    )
    with pytest.raises(InputError) as caught:
        Structure.load(text, tmp_path)
    assert str(caught.value).startswith(f"--schema {text}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# Models.


def test_a_model_asks_for_all_its_fields_where_that_makes_it_strict() -> None:
    """As the SDK does it: a default stands in for nothing, a remark beside a reference stays."""
    made = Structure.of_model(Order)
    assert made.strict
    assert made.schema["required"] == list(ORDER)
    sent = made.response_format()["json_schema"]["schema"]["properties"]
    assert "default" not in sent["count"]
    assert "format" not in sent["link"]
    assert sent["pet"]["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    assert sent["second"]["description"] == "another one"


def test_a_model_that_cannot_be_strict_keeps_its_defaults() -> None:
    """A dict with any keys is not for strict mode: then nothing else is made stricter either."""

    class Loose(BaseModel):
        counts: dict[str, int]
        note: str = "none"

    made = Structure.of_model(Loose)
    assert not made.strict
    assert made.read('{"counts": {"a": 1}}') == {"counts": '{"a": 1}', "note": "none"}


def test_cells_are_what_the_model_makes_of_the_answer() -> None:
    """In their JSON form, under the schema's names."""
    cells = Structure.of_model(Order).read(json.dumps({**ORDER, "count": 2.0}))
    assert cells == {
        "note": None, "count": 2, "day": "2026-02-03", "price": '"1.5"', "size": 2, "link": "https://a.example/",
        "pet": '{"kind": "cat", "lives": 9}', "second": 1,
    }  # fmt: skip


def test_the_models_own_checks_count() -> None:
    """In its words, with the place."""
    made = Structure.of_model(Order)
    with pytest.raises(SchemaMismatch, match=r"^at `count`: Value error, must be even$"):
        made.read(json.dumps({**ORDER, "count": 3}))
    with pytest.raises(SchemaMismatch, match=r"^at `day`: Input should be a valid date"):
        made.read(json.dumps({**ORDER, "day": "2026-02-31"}))


def test_a_validator_that_breaks_fails_the_row_alone() -> None:
    """A fault of the user's code for one answer does not end the batch."""

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
    """A serializer that changes a type, an alias for writing and an excluded field leave the answer's value; what
    is computed has no column."""

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
    """Also those on which the SDK's own preparation does not end."""
    assert Structure.of_model(Tree).read('{"name": "a", "child": {"name": "b", "child": null}}') == {
        "name": "a",
        "child": '{"name": "b", "child": null}',
    }
    assert Structure.of_model(Chain).columns == {"name": str, "next": str, "same": str}


# Answers.


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f"\ufeff\n {ANSWER} \n",
        f"```json\n{ANSWER}\n```",
        f"Here you are:\n```\n{ANSWER}\n```\nAnything else?",
        f'For example {{"score": 1}}. The answer:\n```json\n{ANSWER}\n```',
        f"Sure! {ANSWER} That is it, {{name}}.",
        f"{ANSWER}\nThat is it.",
        f"```python\nprint({{}})\n```\n{ANSWER}",
        f"```json {ANSWER}```",
    ],
)
def test_the_object_is_found_in_the_text(text: str) -> None:
    """Alone, in a fenced block, or as the one object among prose."""
    assert REVIEW.read(text) == CELLS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the answer is empty; expected one JSON object"),
        ("I cannot say.", "expected one JSON object, got the text 'I cannot say.'"),
        ("[" + ANSWER + "]", "expected one JSON object, got a list of 1"),
        ("null", "expected one JSON object, got null"),
        (f"{ANSWER}\n{ANSWER}", "expected one JSON object, got 2 of them"),
        (f"```json\n{ANSWER}\n```\nor\n```json\n{ANSWER}\n```", "expected one JSON object, got 2 of them"),
        (ANSWER[:-1], "the answer is not valid JSON: line 1, column 48: Expecting ',' delimiter"),
        ('{"a": ' + ANSWER, "the answer is not valid JSON: line 1"),
        ('{"a": "' + ANSWER, "the answer is not valid JSON: line 1"),
        ("[" + ANSWER + ", ", "the answer is not valid JSON: line 1"),
        ('{"score": 1, "score": 2}', "the key 'score' appears twice in one object"),
        ('{"score": NaN}', "NaN is not a JSON number"),
        ('{"score": -Infinity}', "-Infinity is not a JSON number"),
        ('{"score": 1e999}', "the number '1e999' is too large"),
        ('{"score": ' + "9" * 5000 + "}", "a number has thousands of digits"),
        ('so: {"score": ' + "9" * 5000 + "}", "a number has thousands of digits"),
        (ANSWER.replace("clear", "\\ud83d"), "half of a character"),
        (ANSWER.replace("clear", "\ud83d"), "half of a character"),
        ("[" * 100_000, "nested too deeply"),
        ('{"tags": ' * 100_000, "nested too deeply"),
        ('x {"tags": ' * 100_000, "not valid JSON"),
        ("{" * 100_000, "not valid JSON"),
        ('{"a ' * 100_000, "not valid JSON"),
        ("```\n" * 100_000, "expected one JSON object"),
    ],
)
def test_no_object_or_several_are_a_mismatch(text: str, message: str) -> None:
    """Nothing is guessed: an answer that was cut off is not read by its inner parts."""
    with pytest.raises(SchemaMismatch) as caught:
        REVIEW.read(text)
    assert message in str(caught.value)


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
def test_a_mismatch_is_told_in_words(schema: Any, value: Any, message: str | None) -> None:
    """The place, what was expected, what came: a model can mend it."""
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
    """3.0 is the integer 3, 3 is the number 3.0; digits within JSON cells are kept."""
    cell = structure(a=schema).read(f'{{"a": {text}}}')["a"]
    assert (cell, type(cell)) == (expected, type(expected))


def test_a_property_that_may_be_left_out_is_an_empty_cell() -> None:
    """And what has no column is left where it is, in the response."""
    made = Structure.of_schema(shape(required=False, a={"type": "string"}, b={"type": "integer"}))
    assert made.read('{"b": 1, "more": 2}') == {"a": None, "b": 1}


def test_a_recursive_schema_ends_at_the_depth_of_the_answer() -> None:
    """An answer nested to the edge of what Python can hold is a mismatch, whatever part gives up first."""
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
    """A schema with some properties, and an object that fits it."""
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
    """Any object that fits comes back cell by cell, nested ones as JSON, through every way of writing it."""
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
    """No text raises anything else."""
    for made in (REVIEW, Structure.of_model(Tree)):
        with suppress(SchemaMismatch):
            assert made.read(text).keys() == made.columns.keys()


def test_the_module_is_light() -> None:
    """What only names the structure brings neither the SDK nor pydantic nor jsonschema."""
    code = "import sys, batchrun.structured; print({'openai', 'pydantic', 'jsonschema'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
