"""Calls of the user's functions: arguments checked, time limited, and always an output that tells the model."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_json

from batchrun.functions.loading import load_functions, text_of
from batchrun.functions.schemas import Declared, declare
from batchrun.functions.threads import run_in_thread
from batchrun.interrupts import USERS_ERRORS, is_ctrl_c
from batchrun.records import ToolCall, ToolOutput

__all__ = ["EXCHANGE_BYTES", "OUTPUT_BYTES", "Toolbox"]

OUTPUT_BYTES: Final = 100_000
"""UTF-8 of one output that the model gets; some 25,000 tokens."""

EXCHANGE_BYTES: Final = 400_000
"""Of all outputs that go back together: OpenAI refuses more than 512 kB."""

_PROBLEMS: Final = 20
_ERROR_CHARS: Final = 2_000
_VALUE_CHARS: Final = 80


_Call: TypeAlias = Callable[[], Any]
"""A function of the user's with its arguments."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a call ended: its text, and whether that says what went wrong."""

    text: str
    failed: bool = False


class Toolbox:
    """The functions of a file as tools, for all rows of a batch at once.

    Sync functions share `max_parallel` slots for threads; async ones run on the event loop, as many at once as are
    called. Its mutable state is the count of these slots.
    """

    def __init__(self, tools: Iterable[Declared], *, timeout_s: float, max_parallel: int) -> None:
        self._tools: Mapping[str, Declared] = {tool.declaration["name"]: tool for tool in tools}
        self._timeout_s = timeout_s
        self._threads = anyio.CapacityLimiter(max_parallel)

    @classmethod
    def load(cls, path: Path, *, timeout_s: float = 60.0, max_parallel: int = 8) -> Toolbox:
        """Run the file and declare its public functions.

        Args:
            path: a Python file of the user's, which is run.
            timeout_s: seconds that one call may take, waiting for a thread excluded.
            max_parallel: sync functions that run at the same time, over all rows.

        Raises:
            InputError: the file or a function in it cannot be used; one line says where and why.
        """
        tools = [declare(name, function) for name, function in load_functions(path).items()]
        return cls(tools, timeout_s=timeout_s, max_parallel=max_parallel)

    def __repr__(self) -> str:
        return f"<Toolbox {', '.join(self._tools)}>"

    @property
    def declarations(self) -> tuple[dict[str, Any], ...]:
        """Of each tool: `name`, `description`, `parameters` (JSON Schema) and `strict`."""
        return tuple(dict(tool.declaration) for tool in self._tools.values())

    async def call(self, calls: Sequence[ToolCall]) -> tuple[ToolOutput, ...]:
        """Make the calls, all at once, and return what came of each, in their order.

        Whatever the model wrote and the functions do becomes an output, `sys.exit` and `raise KeyboardInterrupt` too.
        Only cancellation and a real Ctrl-C go through.
        """
        ended: dict[int, _Ended] = {}

        async def make(number: int) -> None:
            ended[number] = await self._made(calls[number])

        try:
            async with anyio.create_task_group() as tasks:
                for number in range(len(calls)):
                    tasks.start_soon(make, number)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        limit = min(OUTPUT_BYTES, EXCHANGE_BYTES // max(1, len(calls)))
        return tuple(
            ToolOutput(call.call_id, _cut(ended[number].text, limit), ended[number].failed)
            for number, call in enumerate(calls)
        )

    async def _made(self, call: ToolCall) -> _Ended:
        tool = self._tools.get(call.name)
        if tool is None:
            return _failure(f"there is no function {call.name[:_VALUE_CHARS]!r}; there are: {', '.join(self._tools)}")
        try:
            positional, named = tool.read(call.arguments)
        except ValidationError as error:
            return _wrong_arguments(tool, error)
        except USERS_ERRORS as error:
            if is_ctrl_c(error):
                raise
            return _failure(_reason(error))
        function = partial(tool.function, *positional, **named)
        if inspect.iscoroutinefunction(tool.function):
            return await self._in_time(_on_loop, function)
        async with self._threads:
            return await self._in_time(_in_thread, function)

    async def _in_time(self, run: Callable[[_Call], Awaitable[_Ended]], function: _Call) -> _Ended:
        with anyio.move_on_after(self._timeout_s):
            try:
                return await run(function)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                return _failure(_reason(error))  # the function's own: it waited for something that was cancelled
        return _failure(f"timeout: the function took longer than {self._timeout_s:g} s")


async def _in_thread(function: _Call) -> _Ended:
    def attempt() -> _Ended | Awaitable[Any]:
        try:
            value = function()
            return value if inspect.isawaitable(value) else _Ended(_as_text(value))
        except USERS_ERRORS as error:  # no signal reaches this thread: what the function raises is its output
            return _failure(_reason(error))

    ended = await run_in_thread(attempt)
    # A decorator may hide that the function is async.
    return ended if isinstance(ended, _Ended) else await _on_loop(lambda: ended)


async def _on_loop(function: _Call) -> _Ended:
    try:
        return _Ended(_as_text(await function()))
    except asyncio.CancelledError:
        raise  # the batch's or the function's own: `_in_time` tells
    except USERS_ERRORS as error:
        if is_ctrl_c(error):
            raise
        return _failure(_reason(error))


def _as_text(value: Any) -> str:
    """A str as it is; everything else as JSON."""
    if isinstance(value, str):
        return str.__str__(value)  # of an Enum that is a str, its value
    return to_json(value, fallback=_plain).decode()


def _plain(value: Any) -> Any:
    """What JSON has no word for: numbers and arrays of numpy, columns of pandas; else its text."""
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else str(value)


def _cut(text: str, limit: int) -> str:
    encoded = text.encode("utf-8", "replace")  # half a surrogate pair could not be sent
    if len(encoded) <= limit:
        return encoded.decode()
    return f"{encoded[:limit].decode(errors='ignore')}\n[cut: the first {limit:,} of {len(encoded):,} bytes]"


def _failure(reason: str, problems: Sequence[str] = ()) -> _Ended:
    told: dict[str, Any] = {"error": reason[:_ERROR_CHARS]}
    if problems:
        told["problems"] = list(problems)
    return _Ended(json.dumps(told, ensure_ascii=False), failed=True)


def _reason(error: BaseException) -> str:
    """Type and text of an exception, without the paths that the system puts into it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    text = error.strerror if isinstance(error, OSError) and error.strerror else text_of(error)
    if isinstance(error, ImportError) and error.path:
        text = text.replace(f" ({error.path})", "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _wrong_arguments(tool: Declared, error: ValidationError) -> _Ended:
    names = [parameter.name for parameter in tool.parameters]
    details = error.errors(include_url=False, include_context=False)
    problems = [_problem(each, names) for each in details[:_PROBLEMS]]
    if len(details) > _PROBLEMS:
        problems.append(f"and {len(details) - _PROBLEMS} more")
    return _failure(f"wrong arguments, {tool.declaration['name']} was not called", problems)


def _problem(detail: ErrorDetails, names: Sequence[str]) -> str:
    """One line: which argument, what is wrong with it, what was given."""
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return f"{place}: missing"
    if detail["type"] == "extra_forbidden":
        known = f"; there are: {', '.join(names) or 'none'}" if len(detail["loc"]) == 1 else ""
        return f"{place[:_VALUE_CHARS]}: there is no such argument{known}"
    message = " ".join(detail["msg"].split())
    if not place:
        return message
    given = to_json(detail["input"], fallback=str).decode()
    given = given if len(given) <= _VALUE_CHARS else f"{given[:_VALUE_CHARS]}…"
    return f"{place}: {message}, not {given}"
