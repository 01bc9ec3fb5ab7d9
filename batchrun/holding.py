"""One process at a time works on an output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import anyio
from filelock import FileLock, Timeout

from batchrun.errors import OutputError, OutputHeld

__all__ = ["held", "hold"]

PROBE_PATIENCE_S = 0.25
LOOK_AGAIN_S = 1.0
"""Between two looks at a lock that another process holds: the system tells nobody when it is free."""


async def hold(path: Path, stack: AsyncExitStack, *, wait: bool) -> None:
    """Hold the output for this process, at once or (with `wait`) as soon as it is free."""
    while True:
        try:
            stack.enter_context(held(path))
            return
        except OutputHeld:
            if not wait:
                raise
        await anyio.sleep(LOOK_AGAIN_S)


@contextmanager
def held(path: Path, otherwise: str = "--wait waits for it") -> Iterator[None]:
    """Hold the output for this process.

    Args:
        path: of the lock.
        otherwise: what to do where another process holds it, for the message.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        # `status` holds it for a moment to see whether anyone else does.
        lock.acquire(timeout=PROBE_PATIENCE_S, poll_interval=PROBE_PATIENCE_S / 10)
    except Timeout:
        raise OutputHeld(f"another batch works on this output (it holds {path}); {otherwise}") from None
    except OSError as exc:
        raise OutputError(f"{path}: cannot be created ({exc.strerror or exc})") from None
    try:
        yield
    finally:
        lock.release()
