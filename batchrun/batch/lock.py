"""One process at a time works on an output."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import anyio
from filelock import FileLock, Timeout

from batchrun.errors import OutputError, OutputHeld

__all__ = ["held", "hold", "is_held", "refuse_held"]

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
        name = _claimed(path)
        if name is None:
            raise OutputHeld(
                f"another batch works on this output (it holds {path}, which was deleted meanwhile); {otherwise}"
            )
        with name:
            yield
    finally:
        lock.release()


def refuse_held(path: Path) -> None:
    """Refuse an output that another process works on, as `held` does.

    Raises:
        OutputHeld: it does.
    """
    if path.exists() or _is_claimed(path):
        try:
            with held(path):
                pass
        except OutputError:
            pass  # it is raised again where the output is held


def is_held(path: Path) -> bool:
    """Whether a process holds this output now.

    Args:
        path: of the lock.
    """
    if _is_claimed(path):
        return True
    if not path.exists():
        return False
    probe = FileLock(path)
    try:
        probe.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    probe.release()
    return False


# A lock file can be deleted while it is held, and a second process would hold another file of that name. So on Linux a
# name is held too that nobody can delete: that of a socket which is no file. It is gone with its process.


def _claimed(path: Path) -> contextlib.AbstractContextManager[object] | None:
    """What holds the name until it is closed; None where another process has it."""
    name = _name(path)
    if name is None:
        return contextlib.nullcontext()
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(name)
    except OSError as exc:
        claim.close()
        # Some sandboxes have no such sockets.
        return None if exc.errno == errno.EADDRINUSE else contextlib.nullcontext()
    return claim


def _is_claimed(path: Path) -> bool:
    name = _name(path)
    if name is None:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(name) == 0


def _name(path: Path) -> bytes | None:
    """The name that stands for a path, whichever way it is reached; None where there are no such names."""
    if sys.platform != "linux":
        return None
    try:
        folder = path.parent.stat()
    except OSError:
        return None
    whole = f"{folder.st_dev}\0{folder.st_ino}\0".encode() + os.fsencode(path.name)
    return b"\0batchrun-" + hashlib.blake2b(whole, digest_size=16).hexdigest().encode()
