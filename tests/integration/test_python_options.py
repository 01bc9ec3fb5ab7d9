"""Options that have values of their own in Python: pydantic models and dicts as schemas, functions as tools, one column."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import batchrun
from batchrun.errors import InputError, JournalMismatch

CITIES = ["Where is the fjord?", "Where is the tower?"]
SCRIPT = """
[[rule]]
pattern = "(fjord|tower)"
reply = '{"city": "Oslo", "size": 3, "kind": "port"}'
[[rule]]
pattern = "weigh (\\\\w+)"
tool_calls = [{ name = "weigh", arguments = { article = '\\1' } }, { name = "price", arguments = { article = '\\1' } }]
after = '\\o1 \\o2'
"""


class Place(BaseModel):
    """A place in the answer."""

    city: str
    size: int
    kind: Literal["port", "town"]


def weigh(article: str) -> str:
    """Return the weight of an article."""
    return f"{len(article)} kg"


async def price(article: str) -> float:
    """Return the price of an article."""
    return 12.5


@pytest.fixture(autouse=True)
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A separate folder with a script, from which the embedded server answers."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHRUN_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.toml").write_text(SCRIPT)
    return "script.toml"


def as_model(folder: Path) -> Any:
    return Place


def as_dict(folder: Path) -> Any:
    return Place.model_json_schema()


def as_wrapped_dict(folder: Path) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "Place", "schema": Place.model_json_schema()}}


def as_file(folder: Path) -> Any:
    (folder / "place.json").write_text(json.dumps(Place.model_json_schema()))
    return folder / "place.json"


@pytest.mark.parametrize("given", [as_model, as_dict, as_wrapped_dict, as_file])
def test_a_schema_in_any_form(given: Callable[[Path], Any], script: str, tmp_path: Path) -> None:
    """A model, a dict and a file give the same columns, and a batch that began with one resumes with any other."""
    first = batchrun.run(CITIES, schema=Place, script=script, output="a.csv")
    seen: list[batchrun.Outcome] = []
    answers = batchrun.run(CITIES, schema=given(tmp_path), script=script, output="a.csv", on_outcome=seen.append)
    assert seen == []
    assert answers.equals(first)
    assert {name: str(answers[name].dtype) for name in Place.model_fields} == {
        "city": "str",
        "size": "Int64",
        "kind": "str",
    }
    assert answers["size"].tolist() == [3, 3]


def test_another_schema_is_another_batch(script: str) -> None:
    """A model with another field does not resume the batch: its answers would not fit."""

    class Place(BaseModel):
        """A place in the answer."""

        city: str

    batchrun.run(CITIES, schema=globals()["Place"], script=script, output="a.csv")
    with pytest.raises(JournalMismatch, match="schema was"):
        batchrun.run(CITIES, schema=Place, script=script, output="a.csv")


def test_functions_as_tools(script: str) -> None:
    """Functions, sync and async, are called by the model; a call with the same functions resumes the batch."""
    answers = batchrun.run(["weigh iron"], tools=[weigh, price], script=script, output="a.csv")
    assert answers.loc[0, "response"] == "4 kg 12.5"
    assert answers.loc[0, "tool_calls"] == 2
    seen: list[batchrun.Outcome] = []
    batchrun.run(["weigh iron"], tools=(weigh, price), script=script, output="a.csv", on_outcome=seen.append)
    assert seen == []


def test_functions_are_those_of_a_file(script: str) -> None:
    """The same functions in a file resume the batch: what the model sees is the same."""
    batchrun.run(["weigh iron"], tools=[weigh, price], script=script, output="a.csv")
    source = '''
def weigh(article: str) -> str:
    """Return the weight of an article."""
    return f"{len(article)} kg"


async def price(article: str) -> float:
    """Return the price of an article."""
    return 12.5
'''
    Path("tools.py").write_text(source)
    seen: list[batchrun.Outcome] = []
    batchrun.run(["weigh iron"], tools="tools.py", script=script, output="a.csv", on_outcome=seen.append)
    assert seen == []


def test_a_method_is_a_tool(script: str) -> None:
    """The methods of an object are functions too, so that a tool can use what the program has loaded."""

    class Shop:
        def weigh(self, article: str) -> str:
            """Return the weight of an article."""
            return f"{article}: 1 kg"

        async def price(self, article: str) -> float:
            """Return the price of an article."""
            return 2.5

    shop = Shop()
    answers = batchrun.run(["weigh iron"], tools=[shop.weigh, shop.price], script=script)
    assert answers.loc[0, "response"] == "iron: 1 kg 2.5"


def test_one_column_to_attach(script: str) -> None:
    """`attach` takes the name of one column, or a list of names."""
    Path("a.txt").write_text("a fjord")
    rows = [{"prompt": "the fjord", "file": "a.txt"}]
    for attach in ("file", ["file"]):
        answers = batchrun.run(rows, attach=attach, script=script, api="assistants")
        assert answers["status"].tolist() == ["completed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schema": Place(city="a", size=1, kind="port")}, "schema: expected a pydantic model, .*; give the class Place"),
        ({"schema": int}, "schema: expected a pydantic model, a JSON schema as a dict or the path of one, got <class 'int'>"),
        ({"schema": {"type": "array"}}, "the schema: at the root: expected an object with `properties`"),
        ({"schema": {"properties": {"a": {1}}}}, "the schema: is not valid JSON"),
        ({"schema": Place, "response_format": {"type": "text"}}, "schema and `response_format` cannot be combined"),
        ({"tools": weigh}, "tools: expected a list of functions or the path of a Python file, .*; give tools=\\[weigh\\]"),
        ({"tools": []}, "tools: the list is empty"),
        ({"tools": [weigh, "price"]}, "tools\\[1\\]: expected a function with a name, got a str"),
        ({"tools": [Place]}, "tools\\[0\\]: expected a function with a name, got a ModelMetaclass"),
        ({"tools": [weigh, weigh]}, "tools\\[1\\]: another function is named 'weigh'"),
        ({"tools": [lambda: "x"]}, "<lambda>: is not a valid tool name"),
        ({"tools": [weigh], "functions": [{"name": "f"}]}, "tools and `functions` cannot be combined"),
        ({"param": {"a": {1}}}, "param: a: cannot be sent as JSON"),
        ({"param": {"a": float("nan")}}, "param: a: cannot be sent as JSON"),
        ({"response_format": {"type": {1}}}, "response_format: cannot be sent as JSON"),
        ({"on_outcome": 3}, "on_outcome: expected a function that takes an outcome, got 3"),
        ({"api_key": 3}, "api_key: expected a text or an async function that returns one, got a int"),
        ({"attach": "nothing"}, "no column named 'nothing'|'nothing'"),
    ],
)  # fmt: skip
def test_wrong_values(options: dict[str, Any], message: str, script: str) -> None:
    """A value that an option cannot have is refused in one line that names the option and what is expected."""
    with pytest.raises(InputError, match=message) as caught:
        batchrun.run(CITIES, script=script, **options)
    assert "\n" not in str(caught.value)
