"""Runs a call of the user's in a daemon thread, which nothing has to wait for."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sniffio import current_async_library_cvar

__all__ = ["run_in_thread"]

_T = TypeVar("_T")


async def run_in_thread(function: Callable[[], _T]) -> _T:
    """Call the function in a new thread, in a copy of the caller's context.

    On cancellation, the thread is abandoned and its result dropped. The thread is a daemon: the interpreter waits at
    its end for the threads of `anyio.to_thread.run_sync`, so that one request without a timeout in a user's function
    would keep a finished batch running forever.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not done.done():
            settled()

    def work() -> None:
        settled: Callable[[], None]
        try:
            settled = partial(done.set_result, function())
        except BaseException as exc:  # noqa: BLE001 - re-raised in the caller's task
            settled = partial(done.set_exception, exc)
        try:
            loop.call_soon_threadsafe(settle, settled)
        except RuntimeError:
            pass  # the loop is closed: nothing waits for the result

    context = contextvars.copy_context()
    context.run(current_async_library_cvar.set, None)  # the thread may start its own event loop
    threading.Thread(target=context.run, args=(work,), name="batchrun tool", daemon=True).start()
    return await done
