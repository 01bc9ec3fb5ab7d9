"""Declarations of functions, and functions that cannot be declared."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from batchrun.errors import InputError
from batchrun.functions import Toolbox


def declared(folder: Path, code: str) -> dict[str, dict[str, Any]]:
    """Return the declarations by name."""
    path = folder / "tools.py"
    path.write_text(dedent(code))
    found = {each["name"]: each for each in Toolbox.load(path).declarations}
    for each in found.values():
        Draft202012Validator.check_schema(each["parameters"])
    return found


def refusal(folder: Path, code: str) -> str:
    """Return the message that refuses the file, without its folder."""
    with pytest.raises(InputError) as refused:
        declared(folder, code)
    line = str(refused.value)
    assert "\n" not in line
    return line.removeprefix(f"{folder}/")


def test_a_plain_function(tmp_path: Path) -> None:
    """Hints become types, the docstring becomes the descriptions, and strict mode is on."""
    found = declared(
        tmp_path,
        '''
        def price(article: str, count: int) -> float:
            """Tell what articles cost.

            Args:
                article: its number
                count: how many
            """
            return 1.0
        ''',
    )
    assert found == {
        "price": {
            "name": "price",
            "description": "Tell what articles cost.",
            "parameters": {
                "type": "object",
                "properties": {
                    "article": {"type": "string", "description": "its number"},
                    "count": {"type": "integer", "description": "how many"},
                },
                "required": ["article", "count"],
                "additionalProperties": False,
            },
            "strict": True,
        }
    }


def test_without_parameters(tmp_path: Path) -> None:
    """A function without parameters is a strict object without properties."""
    found = declared(tmp_path, 'def now() -> str:\n    "The time."')["now"]
    assert found["parameters"] == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    assert found["strict"] is True


def test_types_of_many_kinds(tmp_path: Path) -> None:
    """Literals, enums, dates, recursive models, and null for an omitted value are all strict."""
    found = declared(
        tmp_path,
        '''
        from __future__ import annotations
        import enum
        from dataclasses import dataclass
        from datetime import date
        from typing import TYPE_CHECKING, Annotated, Literal
        from pydantic import BaseModel, Field
        if TYPE_CHECKING:
            from nowhere import Answer

        class Unit(enum.Enum):
            C = "c"
            F = "f"

        class Node(BaseModel):
            name: str
            below: list[Node]

        @dataclass
        class Place:
            x: float
            y: float

        def f(
            unit: Unit,
            kind: Literal["a", "b"],
            day: date,
            node: Node,
            places: list[Place],
            top: Annotated[int, Field(description="at most", ge=1)],
            json: str | None = None,
        ) -> Answer:
            """Do it.

            Args:
                unit: of temperature
                top: is said better in the hint
            """
        ''',
    )["f"]
    properties = found["parameters"]["properties"]
    assert found["strict"] is True
    assert found["parameters"]["required"] == list(properties)
    assert properties["kind"] == {"type": "string", "enum": ["a", "b"]}
    assert properties["day"] == {"type": "string", "format": "date"}
    assert properties["top"] == {"type": "integer", "description": "at most", "minimum": 1}
    assert properties["json"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert properties["unit"] == {"anyOf": [{"$ref": "#/$defs/Unit"}], "description": "of temperature"}
    assert all(each.get("additionalProperties", False) is False for each in found["parameters"]["$defs"].values())


@pytest.mark.parametrize(
    "parameter",
    [
        "x: int = 3",
        "x: int | None = 3",
        "x: int = None",
        "x: object = object()",
        "x: dict[str, int]",
        "x: Any",
        "x: list",
        "x: tuple[int, str]",
        "x: Given",
    ],
)
def test_what_strict_mode_cannot_say(tmp_path: Path, parameter: str) -> None:
    """A default other than null, free keys and the like turn strict mode off, and stay in the schema."""
    found = declared(
        tmp_path,
        f"""
        from typing import Any
        from pydantic import BaseModel
        class Given(BaseModel):
            limit: int = 5
        def f({parameter}) -> None:
            "Do it."
        """,
    )["f"]
    assert found["strict"] is False
    assert ("x" in found["parameters"].get("required", [])) == ("=" not in parameter.split("]")[-1])


def test_a_default_is_declared(tmp_path: Path) -> None:
    """The schema has the defaults of parameters that the model may omit."""
    found = declared(tmp_path, 'def f(x: int = 3) -> None:\n    "Do it."')["f"]
    assert found["parameters"]["properties"] == {"x": {"type": "integer", "default": 3}}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(x): 'Do.'", "tools.py, line 1: f: the parameter 'x' has no type hint; add one, such as x: str"),
        ("\ndef f(*x: int): 'Do.'", "tools.py, line 2: f: takes *x: int; a tool must name every parameter"),
        ("def f(**x: int): 'Do.'", "tools.py, line 1: f: takes **x: int; a tool must name every parameter"),
        ("def f(x: int): pass", "tools.py, line 1: f: has no docstring, from which the model learns when to call it"),
        ("def f(x: int): 'Do.'; yield x", "tools.py, line 1: f: is a generator; a tool must return its value"),
        ("async def f(): 'Do.'; yield 1", "tools.py, line 1: f: is a generator; a tool must return its value"),
        ("def f(x: open): 'Do.'", "tools.py, line 1: f: the type of the parameter 'x: "),
        ("class A: pass\ndef f(a: int, x: A): 'Do.'", "tools.py, line 2: f: the type of the parameter 'x: A"),
        (
            "from collections.abc import Callable\ndef f(x: Callable[[], int]): 'Do.'",
            "tools.py, line 2: f: the type of the parameter 'x: ",
        ),
        ("def f(x: 'Gone'): 'Do.'", "tools.py, line 1: f: the type of the parameter 'x' is unknown ("),
        ("def f(x: 'list['): 'Do.'", "tools.py, line 1: f: the type of the parameter "),
        (
            "from pydantic import Field\ndef f(x: int = Field(ge=1)): 'Do.'",
            "tools.py, line 2: f: the parameter 'x' has Field(...) as its default",
        ),
        (
            f"def {'f' * 65}(): 'Do.'",
            f"tools.py, line 1: {'f' * 65}: is not a valid tool name; use at most 64 characters of a-z",
        ),
        ("def größe(): 'Do.'", "tools.py, line 1: größe: is not a valid tool name"),
    ],
)
def test_objects_that_are_not_tools(tmp_path: Path, code: str, said: str) -> None:
    """One line has the file, the line, the function and what to do."""
    assert refusal(tmp_path, code).startswith(said)
