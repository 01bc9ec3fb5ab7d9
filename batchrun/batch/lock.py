"""The lock of an output: one process at a time writes it."""

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

__all__ = ["flocked_files", "held", "hold", "is_held", "is_held_now", "refuse_held"]

PROBE_PATIENCE_S = 0.25
LOOK_AGAIN_S = 1.0
"""Interval between two attempts on a lock that another process holds: no system announces that a lock is free."""


async def hold(path: Path, stack: AsyncExitStack, *, wait: bool) -> None:
    """Lock the output for this process until `stack` closes; with `wait`, as soon as it is free.

    Raises:
        OutputHeld: another process holds the lock, and `wait` is False.
        OutputError: the lock file cannot be created.
    """
    while True:
        try:
            stack.enter_context(held(path))
            return
        except OutputHeld:
            if not wait:
                raise
        await anyio.sleep(LOOK_AGAIN_S)


@contextmanager
def held(path: Path, remedy: str = "--wait waits for it") -> Iterator[None]:
    """Lock the output for this process while the context lasts.

    Args:
        path: the lock file.
        remedy: ends the message if another process holds the lock.

    Raises:
        OutputHeld: another process holds the lock.
        OutputError: the lock file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        # `status` holds the lock for a moment to see whether another process does (`is_held`).
        lock.acquire(timeout=PROBE_PATIENCE_S, poll_interval=PROBE_PATIENCE_S / 10)
    except Timeout:
        raise OutputHeld(f"another batch is writing this output (lock: {path}); {remedy}") from None
    except OSError as exc:
        raise OutputError(f"{path}: cannot be created ({exc.strerror or exc})") from None
    try:
        name = _claim(path)
        if name is None:
            raise OutputHeld(
                f"another batch is writing this output (lock: {path}, which was deleted meanwhile); {remedy}"
            )
        with name:
            yield
    finally:
        lock.release()


def refuse_held(path: Path) -> None:
    """Refuse an output that another process is writing.

    Raises:
        OutputHeld: another process holds the lock.
    """
    if path.exists() or _is_claimed(path):
        try:
            with held(path):
                pass
        except OutputError:
            pass  # raised again when the output is locked


def is_held(path: Path, patience_s: float = 0.0) -> bool:
    """Return whether a process, this one included, holds the lock now.

    Args:
        path: the lock file.
        patience_s: how long to wait for the end of a process that holds it.
    """
    if path.exists():
        probe = FileLock(path)
        try:
            probe.acquire(timeout=patience_s)
        except (Timeout, OSError):
            return True
        probe.release()
    return _is_claimed(path)


def flocked_files() -> frozenset[tuple[int, int]]:
    """Return the (device, inode) of all files that processes of this machine have locked with flock(2); Linux only."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeError):
        return frozenset()
    # 3: FLOCK  ADVISORY  WRITE 4711 fe:01:131094 0 EOF; lines with `->` wait for a lock
    files = (line.split()[5].split(":") for line in lines if line.split()[1:2] == ["FLOCK"])
    return frozenset((os.makedev(int(major, 16), int(minor, 16)), int(inode)) for major, minor, inode in files)


def is_held_now(path: Path, flocked: frozenset[tuple[int, int]]) -> bool:
    """Return the same as `is_held`, on Linux without taking the lock for a moment.

    Args:
        path: the lock file.
        flocked: `flocked_files()`.
    """
    if sys.platform != "linux":
        return is_held(path)
    if _is_claimed(path):
        return True
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) in flocked


# A lock file can be deleted while it is held; a second process would then lock a new file of the same name. On Linux a
# process therefore also binds an abstract socket: its name belongs to no file, so nobody can delete it, and the system
# releases it when the process ends (unix(7), "abstract").


def _claim(path: Path) -> contextlib.AbstractContextManager[object] | None:
    """Claim the name of the lock until the result is closed; return None if another process has it."""
    name = _name(path)
    if name is None:
        return contextlib.nullcontext()
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(name)
    except OSError as exc:
        claim.close()
        # Some sandboxes forbid such sockets: the lock file alone must do.
        return None if exc.errno == errno.EADDRINUSE else contextlib.nullcontext()
    return claim


def _is_claimed(path: Path) -> bool:
    """Return whether a process has claimed the name of the lock."""
    name = _name(path)
    if name is None:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(name) == 0


def _name(path: Path) -> bytes | None:
    """Return one name for a path, whichever links lead to it; None on systems without abstract sockets."""
    if sys.platform != "linux":
        return None
    try:
        folder = path.parent.stat()
    except OSError:
        return None
    whole = f"{folder.st_dev}\0{folder.st_ino}\0".encode() + os.fsencode(path.name)
    return b"\0batchrun-" + hashlib.blake2b(whole, digest_size=16).hexdigest().encode()
