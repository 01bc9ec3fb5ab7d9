"""Calls of the user's functions, with real files, threads and JSON as models write it."""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.functions import Toolbox
from batchrun.functions.toolbox import EXCHANGE_BYTES, OUTPUT_BYTES
from batchrun.records import ToolCall, ToolOutput

pytestmark = pytest.mark.anyio


def loaded(folder: Path, code: str, **options: Any) -> Toolbox:
    path = folder / "tools.py"
    path.write_text(dedent(code))
    return Toolbox.load(path, **options)


async def called(toolbox: Toolbox, name: str, /, **arguments: Any) -> ToolOutput:
    """Return the output of one call."""
    (output,) = await toolbox.call([ToolCall("call_1", name, json.dumps(arguments))])
    assert output.call_id == "call_1"
    return output


def error_of(output: ToolOutput) -> str:
    assert output.failed
    error = json.loads(output.text)["error"]
    assert isinstance(error, str)
    return error


async def test_outputs_in_the_order_of_the_calls(tmp_path: Path) -> None:
    """Sync and async functions of one exchange run concurrently, and the outputs have the order of the calls."""
    toolbox = loaded(
        tmp_path,
        """
        import threading
        met = threading.Barrier(2, timeout=20)
        def meet(name: str) -> str:
            "Wait for the other."
            met.wait()
            return name
        async def reply(name: str) -> str:
            "Answer."
            return name
        """,
    )
    calls = [
        ToolCall("1", "meet", '{"name": "a"}'),
        ToolCall("2", "reply", '{"name": "b"}'),
        ToolCall("3", "meet", '{"name": "c"}'),
    ]
    assert await toolbox.call(calls) == (ToolOutput("1", "a"), ToolOutput("2", "b"), ToolOutput("3", "c"))
    assert await toolbox.call([]) == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("'as it is'", "as it is"),
        ("''", ""),
        ("None", "null"),
        ("True", "true"),
        ("{'größe': 1.5, 'am': date(2026, 1, 2)}", '{"größe":1.5,"am":"2026-01-02"}'),
        ("[Decimal('1.10'), Unit.C, Place(1)]", '["1.10","c",{"x":1}]'),
        ("Unit.C", "c"),
        ("numpy.int64(3)", "3"),
        ("numpy.arange(3)", "[0,1,2]"),
        ("(n for n in (1, 2))", "[1,2]"),
        ("Odd()", '"odd"'),
        ("'\\ud800'", "?"),
    ],
)
async def test_what_is_returned_as_text(tmp_path: Path, value: str, text: str) -> None:
    """A str is unchanged, everything else becomes JSON, or text if JSON does not have it."""
    toolbox = loaded(
        tmp_path,
        f"""
        import enum, numpy
        from dataclasses import dataclass
        from datetime import date
        from decimal import Decimal
        class Unit(str, enum.Enum):
            C = "c"
        @dataclass
        class Place:
            x: int
        class Odd:
            def __str__(self):
                return "odd"
        def f() -> object:
            "Do it."
            return {value}
        """,
    )
    assert await called(toolbox, "f") == ToolOutput("call_1", text)


async def test_arguments_have_the_types_of_the_hints(tmp_path: Path) -> None:
    """The function gets dates, enums and models, its own defaults for omitted values, and any names."""
    toolbox = loaded(
        tmp_path,
        """
        import enum
        from datetime import date
        from pydantic import BaseModel
        class Unit(enum.Enum):
            C = "c"
        class Place(BaseModel):
            x: int
        NOTHING = object()
        def f(day: date, _unit: Unit, /, place: Place, *, json: int = 7, other: object = NOTHING) -> str:
            "Do it."
            return f"{day:%A} {_unit} {place.x + 1} {json} {other is NOTHING}"
        """,
    )
    output = await called(toolbox, "f", day="2026-11-23", _unit="c", place={"x": "41"})
    assert output == ToolOutput("call_1", "Monday Unit.C 42 7 True")


WEATHER = """
called = []
def weather(city: str, days: int = 1) -> str:
    "Tell the weather."
    called.append(city)
    return "sunny"
"""


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        ('{"days": "soon"}', ["city: missing", 'days: Input should be a valid integer, unable to parse string as an integer, not "soon"']),
        ('{"city": "Rome", "town": 1}', ["town: there is no such argument; available: city, days"]),
        ('{"city": ["Rome"]}', ['city: Input should be a valid string, not ["Rome"]']),
        ("[1]", ["Input should be an object"]),
        ("", ["city: missing"]),
    ],
)  # fmt: skip
async def test_wrong_arguments(tmp_path: Path, arguments: str, problems: list[str]) -> None:
    """The function is not called, and the output has one line per problem."""
    toolbox = loaded(tmp_path, WEATHER)
    (output,) = await toolbox.call([ToolCall("1", "weather", arguments)])
    assert output.failed
    assert json.loads(output.text) == {"error": "wrong arguments, weather was not called", "problems": problems}


async def test_broken_json(tmp_path: Path) -> None:
    """Truncated JSON is reported as such, with its position."""
    (output,) = await loaded(tmp_path, WEATHER).call([ToolCall("1", "weather", '{"city": "Ro')])
    assert json.loads(output.text)["problems"][0].startswith("Invalid JSON: EOF while parsing a string at line 1")


async def test_many_problems(tmp_path: Path) -> None:
    """The number of reported problems is limited."""
    toolbox = loaded(tmp_path, 'def f(x: list[int]) -> int:\n    "Sum."\n    return sum(x)\n')
    problems = json.loads((await called(toolbox, "f", x=["a" * 1000] * 1000)).text)["problems"]
    assert len(problems) == 21
    assert problems[-1] == "and 980 more"
    assert max(map(len, problems)) < 200


async def test_an_unknown_function(tmp_path: Path) -> None:
    """The output lists the available functions."""
    assert error_of(await called(loaded(tmp_path, WEATHER), "wether")) == (
        "there is no function 'wether'; available: weather"
    )


@pytest.mark.parametrize("how", ["def", "async def"])
@pytest.mark.parametrize(
    ("raised", "error"),
    [
        ("raise ValueError('no such city')", "ValueError: no such city"),
        ("raise KeyError", "KeyError"),
        ("next(iter(()))", "StopIteration"),
        ("open('/no/such/file')", "FileNotFoundError: No such file or directory"),
        ("from json import nothing", "ImportError: cannot import name 'nothing' from 'json'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise ExceptionGroup('x', [ValueError('inside')])", "ValueError: inside"),
        ("raise asyncio.CancelledError", "CancelledError"),
        ("raise Mute", "Mute"),
        (
            "return b'\\xff'",
            "PydanticSerializationError: Error serializing to JSON: invalid utf-8 sequence of 1 bytes from index 0",
        ),
    ],
)
async def test_an_exception_is_an_output(tmp_path: Path, how: str, raised: str, error: str) -> None:
    """The output has type and text, without a traceback or a path of this machine; the batch continues."""
    toolbox = loaded(
        tmp_path,
        f"""
        import asyncio
        class Mute(Exception):
            def __str__(self):
                1 / 0
        {how} f() -> bytes:
            "Do it."
            {raised}
        """,
    )
    found = error_of(await called(toolbox, "f"))
    if (how, error) == ("async def", "StopIteration"):
        error = "RuntimeError: coroutine raised StopIteration"  # Python's own translation
    assert found == error


async def test_a_validator_of_the_user_s_that_raises(tmp_path: Path) -> None:
    """The user's code that checks arguments may fail like any function."""
    toolbox = loaded(
        tmp_path,
        """
        from typing import Annotated
        from pydantic import AfterValidator
        def f(x: Annotated[int, AfterValidator(lambda x: {}[x])]) -> int:
            "Do it."
            return x
        """,
    )
    assert error_of(await called(toolbox, "f", x=3)) == "KeyError: 3"


@pytest.mark.parametrize("how", ["def", "async def"])
async def test_a_base_exception_passes_through(tmp_path: Path, how: str) -> None:
    """An exception that is not an `Exception`, such as Ctrl-C, is not an output."""
    toolbox = loaded(
        tmp_path,
        f"""
        class Stop(BaseException): pass
        {how} f() -> None:
            "Do it."
            raise Stop
        """,
    )
    with pytest.raises(module_of(toolbox, "f")["Stop"]):
        await called(toolbox, "f")


async def test_decorated_functions(tmp_path: Path) -> None:
    """functools.wraps, functools.cache and a decorator that hides an async function make no difference."""
    toolbox = loaded(
        tmp_path,
        """
        import functools
        def _plain(function):
            @functools.wraps(function)
            def inner(*args, **kwargs):
                return function(*args, **kwargs)
            return inner
        @_plain
        async def a(x: int) -> int:
            "Do it."
            return x + 1
        @functools.cache
        def b(x: int) -> int:
            "Do it."
            return x + 2
        """,
    )
    assert [(await called(toolbox, name, x=1)).text for name in "ab"] == ["2", "3"]


async def test_long_outputs_are_cut(tmp_path: Path) -> None:
    """Outputs are cut at whole characters with a note, and all outputs of one exchange fit into one request."""
    toolbox = loaded(tmp_path, 'def f(n: int) -> str:\n    "Long."\n    return "ä" * n\n')
    assert (await called(toolbox, "f", n=OUTPUT_BYTES // 2)).text == "ä" * (OUTPUT_BYTES // 2)
    text = (await called(toolbox, "f", n=OUTPUT_BYTES)).text
    assert text == f"{'ä' * (OUTPUT_BYTES // 2)}\n[cut: the first 100,000 of 200,000 bytes]"
    outputs = await toolbox.call([ToolCall(str(number), "f", '{"n": 100000}') for number in range(7)])
    assert EXCHANGE_BYTES * 0.99 < sum(len(output.text.encode()) for output in outputs) < 500_000
    assert not any(output.failed for output in outputs)


async def test_functions_see_the_caller_s_context(tmp_path: Path) -> None:
    """Calls see the context variables of the row; a change inside a function does not leave it."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("row", default="none")
    toolbox = loaded(
        tmp_path,
        """
        variable = []
        def f() -> str:
            "Read and set."
            before = variable[0].get()
            variable[0].set("changed")
            return before
        async def g() -> str:
            "Read and set."
            return f()
        """,
    )
    module_of(toolbox, "f")["variable"].append(variable)
    variable.set("row 7")
    assert [(await called(toolbox, name)).text for name in "fg"] == ["row 7", "row 7"]
    assert variable.get() == "row 7"


def module_of(toolbox: Toolbox, name: str) -> dict[str, Any]:
    """The names of the user's module, through which a test communicates with its functions."""
    function: Callable[..., Any] = toolbox._tools[name].function
    return vars(sys.modules[function.__module__])


BLOCKING = """
import threading
begun, release, ended = threading.Semaphore(0), threading.Event(), threading.Semaphore(0)
def block() -> str:
    "Wait."
    begun.release()
    release.wait(60)
    ended.release()
    return "late"
"""


async def test_a_sync_function_that_takes_too_long(tmp_path: Path) -> None:
    """The row continues at the timeout; the thread ends later and disturbs nothing."""
    toolbox = loaded(tmp_path, BLOCKING, timeout_s=0.01, max_parallel=1)
    names = module_of(toolbox, "block")
    for _ in range(2):  # the second needs the slot that the first has left
        assert error_of(await called(toolbox, "block")) == "timeout: the function took longer than 0.01 s"
    names["release"].set()
    for _ in range(2):
        assert names["ended"].acquire(timeout=20)


async def test_threads_are_limited(tmp_path: Path) -> None:
    """At most `max_parallel` sync functions run at once over all rows; the wait does not count for the timeout."""
    toolbox = loaded(tmp_path, BLOCKING, max_parallel=2)
    names = module_of(toolbox, "block")
    texts: list[str] = []

    async def row() -> None:
        texts.append((await called(toolbox, "block")).text)

    async with anyio.create_task_group() as rows:
        for _ in range(3):
            rows.start_soon(row)
        for _ in range(2):
            await anyio.to_thread.run_sync(names["begun"].acquire)
        assert names["begun"].acquire(blocking=False) is False
        names["release"].set()
    assert texts == ["late"] * 3


async def test_cancellation_leaves_the_thread(tmp_path: Path) -> None:
    """A batch that is stopped does not wait for functions."""
    toolbox = loaded(tmp_path, BLOCKING)
    names = module_of(toolbox, "block")
    async with anyio.create_task_group() as rows:
        rows.start_soon(toolbox.call, [ToolCall("1", "block", "{}")])
        await anyio.to_thread.run_sync(names["begun"].acquire)
        rows.cancel_scope.cancel()
    assert not names["release"].is_set()
    names["release"].set()


def test_a_thread_that_never_ends(tmp_path: Path) -> None:
    """The process ends anyway, and a function may run its own event loop."""
    (tmp_path / "tools.py").write_text(
        dedent(
            """
            import anyio, threading
            def hang() -> None:
                "Wait for ever."
                threading.Event().wait()
            def loop() -> int:
                "Run a loop."
                async def inner():
                    return 42
                return anyio.run(inner)
            """
        )
    )
    code = dedent(
        """
        import anyio
        from pathlib import Path
        from batchrun.records import ToolCall
        from batchrun.functions import Toolbox
        toolbox = Toolbox.load(Path("tools.py"), timeout_s=0.05)
        print(anyio.run(toolbox.call, [ToolCall("1", "hang", "{}")])[0].failed)
        toolbox = Toolbox.load(Path("tools.py"))
        print(anyio.run(toolbox.call, [ToolCall("1", "loop", "{}")])[0].text)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "True\n42\n"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("2026-01-01"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["below", "tags", "x"]), inner),
    max_leaves=8,
)


ARGUMENTS = (
    st.text(max_size=30)
    | st.text(alphabet='{}[]",:abe1 \ud800', max_size=30)
    | st.dictionaries(st.sampled_from("abcdegx"), VALUES).map(json.dumps)
)


def test_no_arguments_are_too_odd(tmp_path: Path) -> None:
    """Any text of the model leads to one output, and a failed one is JSON with the reason."""
    toolbox = loaded(
        tmp_path,
        """
        from datetime import date, timedelta
        from decimal import Decimal
        from typing import Literal
        from uuid import UUID
        from pydantic import BaseModel
        class Node(BaseModel):
            below: list["Node"] = []
            tags: dict[str, float | None] = {}
        async def f(
            a: int, b: float | None, c: Literal["x", 1], d: date | timedelta | Decimal, e: Node, g: set[str] | UUID
        ) -> dict:
            "Do it."
            return locals()
        """,
    )
    with asyncio.Runner() as runner:

        @given(ARGUMENTS)
        def check(arguments: str) -> None:
            (output,) = runner.run(toolbox.call([ToolCall("1", "f", arguments)]))
            output.text.encode()
            if output.failed:
                assert json.loads(output.text)["error"]

        check()
