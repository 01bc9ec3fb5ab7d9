"""The event loop on which a coroutine runs for code that is not async."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import current_token
from sniffio import current_async_library_cvar

from batchrun.interrupts import Interrupted, Interrupts

__all__ = ["run_to_end"]


T = TypeVar("T")


def run_to_end(main: Callable[[], Coroutine[Any, Any, T]], interrupts: Interrupts) -> T:
    """Run an async function for code that is not async; in a new thread if this thread's loop is running already.

    Raises:
        Interrupted: SIGINT cancelled it.
    """
    try:
        current_token()
    except RuntimeError:
        # A program with its own SIGINT handler keeps it.
        ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with interrupts.installed((signal.SIGINT,) if ours else ()):
            return run_loop(main, interrupts)
    return run_in_thread(main, interrupts)


def run_loop(main: Callable[[], Coroutine[Any, Any, T]], interrupts: Interrupts) -> T:
    """Run an async function on uvloop, which is the fastest event loop; on Windows on asyncio's. A signal cancels the
    function, unless it handles signals itself.

    The function is called on the loop: a signal that ends the process before leaves no coroutine without its await.

    Raises:
        Interrupted: SIGINT cancelled it.
        SystemExit: another signal cancelled it.
    """
    received: list[signal.Signals] = []

    async def call() -> T:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        with anyio.CancelScope() as scope:

            def cancel(number: signal.Signals) -> None:
                received.append(number)
                loop.call_soon_threadsafe(scope.cancel, context=context)

            with interrupts.listening(cancel):
                return await main()
        if received[0] is signal.SIGINT:
            raise Interrupted("interrupted")
        raise SystemExit(128 + received[0])

    return anyio.run(call, backend_options={"use_uvloop": os.name != "nt"})


def run_in_thread(main: Callable[[], Coroutine[Any, Any, T]], interrupts: Interrupts) -> T:
    """Run an async function on an event loop in a new thread, since this thread's loop is already running.

    The thread has this thread's context variables: by them a notebook knows which cell shows the output.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()  # an interrupted `join` takes its thread for ended (Python up to 3.12)

    def work() -> None:
        try:
            results.append(run_loop(main, interrupts))
        except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(exc)
        ended.set()

    context = contextvars.copy_context()
    context.run(current_async_library_cvar.set, None)  # the thread starts an event loop of its own
    thread = threading.Thread(target=context.run, args=(work,), name="batchrun")
    thread.start()
    while not ended.is_set():
        try:
            ended.wait()
        except KeyboardInterrupt:
            interrupts.interrupt()  # and wait on: the thread must not outlive the call
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
