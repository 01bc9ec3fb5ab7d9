"""A call of the user's in a thread that nobody has to wait for."""

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
    """Call the function in a thread of its own, in a copy of the caller's context.

    Cancelled, it leaves the thread behind, and what comes of it is dropped. The thread is a daemon. Those of
    `anyio.to_thread.run_sync` are waited for when the interpreter ends, so that one request without a timeout in
    a user's function would keep a finished batch from ending, for ever.
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
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
            settled = partial(done.set_exception, error)
        try:
            loop.call_soon_threadsafe(settle, settled)
        except RuntimeError:
            pass  # the loop has closed: nobody waits any more

    context = contextvars.copy_context()
    context.run(current_async_library_cvar.set, None)  # the thread may start an event loop of its own
    threading.Thread(target=context.run, args=(work,), name="batchrun tool", daemon=True).start()
    return await done
