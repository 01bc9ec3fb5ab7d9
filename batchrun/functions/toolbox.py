"""Calls the user's functions with checked arguments and a time limit; every call returns an output for the model."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_json

from batchrun.functions.loading import Function, load_functions, named_functions, text_of
from batchrun.functions.schemas import Declared, declare
from batchrun.functions.threads import run_in_thread
from batchrun.records import JsonDict, ToolCall, ToolOutput
from batchrun.users_errors import USERS_ERRORS, is_ctrl_c
from batchrun.wording import clipped

__all__ = ["EXCHANGE_BYTES", "OUTPUT_BYTES", "Toolbox"]

OUTPUT_BYTES: Final = 100_000
"""Maximum UTF-8 size of one output for the model; some 25,000 tokens."""

EXCHANGE_BYTES: Final = 400_000
"""Maximum UTF-8 size of all outputs of one exchange: OpenAI refuses more than 512 kB."""

_MAX_PROBLEMS: Final = 20
_ERROR_CHARS: Final = 2_000
_VALUE_CHARS: Final = 80


_Call: TypeAlias = Callable[[], Any]
"""A user's function with its arguments bound."""


@dataclass(frozen=True, slots=True)
class _Result:
    """The result of a call: its text, and whether that text describes a failure."""

    text: str
    failed: bool = False


_ENDED_ITSELF: Final = _Result('{"error": "CancelledError: the function cancelled its own task"}', failed=True)


class Toolbox:
    """The functions of a file as tools, shared by all rows of a batch.

    Sync functions share `max_parallel` threads; async functions run on the event loop, without a limit.

    Mutable state: the number of free threads.
    """

    def __init__(self, tools: Iterable[Declared], *, timeout_s: float, max_parallel: int) -> None:
        self._tools: Mapping[str, Declared] = {tool.declaration["name"]: tool for tool in tools}
        self._timeout_s = timeout_s
        self._threads = anyio.CapacityLimiter(max_parallel)

    @classmethod
    def load(cls, path: Path, *, timeout_s: float = 60.0, max_parallel: int = 8) -> Toolbox:
        """Run the file and declare its public functions.

        Args:
            path: the user's Python file, which is run.
            timeout_s: maximum duration of one call, without the wait for a thread.
            max_parallel: maximum number of concurrent sync calls, over all rows.

        Raises:
            InputError: the file, or a function in it, cannot be used.
        """
        tools = [declare(name, function) for name, function in load_functions(path).items()]
        return cls(tools, timeout_s=timeout_s, max_parallel=max_parallel)

    @classmethod
    def of(cls, functions: Iterable[Function], *, timeout_s: float = 60.0, max_parallel: int = 8) -> Toolbox:
        """Declare functions as tools under their own names.

        Raises:
            InputError: one of them is not a function or cannot be used, or two have the same name.
        """
        tools = [declare(name, function) for name, function in named_functions(functions).items()]
        return cls(tools, timeout_s=timeout_s, max_parallel=max_parallel)

    def __repr__(self) -> str:
        return f"<Toolbox {', '.join(self._tools)}>"

    @property
    def declarations(self) -> tuple[JsonDict, ...]:
        """The `ToolDeclaration` of each tool."""
        return tuple({**tool.declaration} for tool in self._tools.values())

    async def call(self, calls: Sequence[ToolCall]) -> tuple[ToolOutput, ...]:
        """Make the calls concurrently; return their outputs in the order of the calls.

        Every mistake of the model and every failure of a function becomes an output, including `sys.exit` and
        `raise KeyboardInterrupt`. Only cancellation and a real Ctrl-C are raised.
        """
        results: dict[int, _Result] = {}

        async def make(number: int) -> None:
            try:
                results[number] = await self._result(calls[number])
            except asyncio.CancelledError:
                if anyio.current_effective_deadline() == -math.inf:
                    raise  # the row is cancelled
                results[number] = _ENDED_ITSELF

        try:
            async with anyio.create_task_group() as tasks:
                for number in range(len(calls)):
                    tasks.start_soon(make, number)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        limit = min(OUTPUT_BYTES, EXCHANGE_BYTES // max(1, len(calls)))
        return tuple(
            ToolOutput(call.call_id, _cut(results[number].text, limit), results[number].failed)
            for number, call in enumerate(calls)
        )

    async def _result(self, call: ToolCall) -> _Result:
        tool = self._tools.get(call.name)
        if tool is None:
            return _failure(f"there is no function {call.name[:_VALUE_CHARS]!r}; available: {', '.join(self._tools)}")
        try:
            positional, named = tool.read(call.arguments)
        except ValidationError as exc:
            return _wrong_arguments(tool, exc)
        except USERS_ERRORS as exc:
            if is_ctrl_c(exc):
                raise
            return _failure(_reason(exc))
        function = partial(tool.function, *positional, **named)
        if inspect.iscoroutinefunction(tool.function):
            return await self._in_time(_on_loop, function)
        async with self._threads:
            return await self._in_time(_in_thread, function)

    async def _in_time(self, run: Callable[[_Call], Awaitable[_Result]], function: _Call) -> _Result:
        with anyio.move_on_after(self._timeout_s):
            try:
                return await run(function)
            except asyncio.CancelledError as exc:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                return _failure(_reason(exc))  # not ours: the function awaited something that was cancelled
        return _failure(f"timeout: the function took longer than {self._timeout_s:g} s")


async def _in_thread(function: _Call) -> _Result:
    def attempt() -> _Result | Awaitable[object]:
        try:
            value = function()
            return value if inspect.isawaitable(value) else _Result(_as_text(value))
        except USERS_ERRORS as exc:  # signals do not reach this thread, so this is the function's own
            return _failure(_reason(exc))

    result = await run_in_thread(attempt)
    # A decorator may hide that the function is async: the thread then returned an awaitable.
    return result if isinstance(result, _Result) else await _on_loop(lambda: result)


async def _on_loop(function: _Call) -> _Result:
    try:
        return _Result(_as_text(await function()))
    except asyncio.CancelledError:
        raise  # from the batch or from the function: `_in_time` distinguishes the two
    except USERS_ERRORS as exc:
        if is_ctrl_c(exc):
            raise
        return _failure(_reason(exc))


def _as_text(value: object) -> str:
    """Return a str unchanged, and everything else as JSON."""
    if isinstance(value, str):
        return str.__str__(value)  # for an Enum that is a str, its value
    return to_json(value, fallback=_plain).decode()


def _plain(value: object) -> object:
    """Return a value that JSON does not have as a list or number (numpy, pandas), or else as text."""
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else str(value)


def _cut(text: str, limit: int) -> str:
    encoded = text.encode("utf-8", "replace")  # half a surrogate pair cannot be sent
    if len(encoded) <= limit:
        return encoded.decode()
    return f"{encoded[:limit].decode(errors='ignore')}\n[cut: the first {limit:,} of {len(encoded):,} bytes]"


def _failure(reason: str, problems: Sequence[str] = ()) -> _Result:
    output: dict[str, str | list[str]] = {"error": reason[:_ERROR_CHARS]}
    if problems:
        output["problems"] = list(problems)
    return _Result(json.dumps(output, ensure_ascii=False), failed=True)


def _reason(exc: BaseException) -> str:
    """Return the type and text of an exception, without the file paths in the texts of OSError and ImportError."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    text = exc.strerror if isinstance(exc, OSError) and exc.strerror else text_of(exc)
    if isinstance(exc, ImportError) and exc.path:
        text = text.replace(f" ({exc.path})", "")
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _wrong_arguments(tool: Declared, exc: ValidationError) -> _Result:
    names = [parameter.name for parameter in tool.parameters]
    details = exc.errors(include_url=False, include_context=False)
    problems = [_problem(each, names) for each in details[:_MAX_PROBLEMS]]
    if len(details) > _MAX_PROBLEMS:
        problems.append(f"and {len(details) - _MAX_PROBLEMS} more")
    return _failure(f"wrong arguments, {tool.declaration['name']} was not called", problems)


def _problem(detail: ErrorDetails, names: Sequence[str]) -> str:
    """Return one line with the argument, the problem and the given value."""
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return f"{place}: missing"
    if detail["type"] == "extra_forbidden":
        known = f"; available: {', '.join(names) or 'none'}" if len(detail["loc"]) == 1 else ""
        return f"{place[:_VALUE_CHARS]}: there is no such argument{known}"
    message = " ".join(detail["msg"].split())
    if not place:
        return message
    given = to_json(detail["input"], fallback=str).decode()
    return f"{place}: {message}, not {clipped(given, _VALUE_CHARS)}"
