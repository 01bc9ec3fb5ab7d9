"""The value of --schema: files and models, and the messages for those that cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.structured import Structure
from tests.support.shapes import shape, structure

# What the option names.


def test_a_file_is_read(tmp_path: Path) -> None:
    """The path is relative to the given folder; without a title, the file's name is the shape's name."""
    (tmp_path / "my review.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(shape(a={"type": "string"})).encode())
    made = Structure.load("my review.json", tmp_path)
    assert made.name == "my_review"
    assert made.columns == {"a": str}
    assert Structure.of_schema(made.schema) == made


@pytest.mark.parametrize("within", [lambda w: w, lambda w: {"type": "json_schema", "json_schema": w}])
def test_a_schema_may_be_wrapped_as_requests_have_it(tmp_path: Path, within: Any) -> None:
    """The `response_format` of an existing program is accepted."""
    wrapped = {"name": "review", "strict": False, "schema": {**shape(a={"type": "string"}), "title": "T"}}
    (tmp_path / "s.json").write_text(json.dumps(within(wrapped)))
    made = Structure.load("s.json", tmp_path)
    assert (made.name, made.columns) == ("review", {"a": str})


def test_a_reference_at_the_root_is_followed() -> None:
    """A reference at the root, as generators write it for recursive types, is resolved."""
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
    """The message has the file, the place and the error."""
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(InputError) as caught:
        Structure.load("s.json", tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).startswith("s.json: ")
    assert "\n" not in str(caught.value)


def test_names_that_are_keywords_are_names() -> None:
    """A property may have the name of any schema keyword."""
    names = ("$ref", "properties", "enum", "anyOf", "type", "pattern", "$defs")
    made = structure(**{name: {"type": "integer"} for name in names})
    assert made.strict
    assert made.read(json.dumps(dict.fromkeys(names, 1))) == dict.fromkeys(names, 1)


def test_a_long_chain_of_references_gets_one_clear_line() -> None:
    """A chain that is too long is one clear line, whichever part fails first."""
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(5000)} | {"d5000": {"type": "string"}}
    with pytest.raises(InputError, match="the schema: is nested too deeply"):
        Structure.of_schema({**shape(a={"$ref": "#/$defs/d0"}), "$defs": chain})


def test_other_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are not text are refused."""
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
    """The module can import its siblings, and Python's import path is restored."""
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
    """The working directory is searched even if the job file is elsewhere."""
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
    """An exception of the user's module is one line, never a traceback."""
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
