"""A file that is either the old one or the whole new one, also after a crash."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from batchrun.errors import OutputError

if sys.platform != "win32":
    import fcntl

__all__ = ["check_writable", "remove_stale", "replacing"]

_BUFFER_BYTES: Final = 1 << 18
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def replacing(path: Path, *, mode: int = 0o666, advice: str = "") -> Iterator[IO[bytes]]:
    """A binary file beside `path` that takes its place at the end of the block.

    It is written under a hidden name in the same folder, flushed, synced and renamed, and then the folder is
    synced. If anything fails, it is removed and the old file stands; if the process is killed, the old file stands
    and the hidden one is left over, until the next writer of `path` removes it. A symbolic link stays one: its target
    is replaced. The mode of an existing file is kept. The block leaves the file open.

    Args:
        path: the file to replace; its folder is made if it is missing.
        mode: mode of a new file, before the umask.
        advice: put behind the reason in the message of an OutputError.

    Raises:
        OutputError: the system refused.
    """
    try:
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(target)
        with _created(target, mode) as (temporary, file):
            with file:
                if target.exists() and hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        reason = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        raise OutputError(f"{path}: cannot be written ({reason}){advice}") from error


def check_writable(path: Path) -> None:
    """Makes the folder of `path` if it is missing, and writes and removes a file there.

    Raises:
        OutputError: the folder does not take files, or `path` is there and no regular file.
    """
    try:
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Only with its folder there does the system say whether it takes the name.
        target.exists()
        with _created(target, 0o600) as (temporary, file):
            file.close()
            temporary.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _target(path: Path) -> Path:
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OutputError(f"{path}: cannot be written (a symbolic link that leads to itself)")
    # A rename would replace a device such as /dev/null by a file.
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "not a regular file"
        raise OutputError(f"{path}: {what}, where the output file is expected")
    return target


def remove_stale(path: Path) -> None:
    """Remove what killed writers of `path` left over in its folder; what a living one writes stays.

    A writer holds a lock on its file, which the system lets go with the process. Where there are no such locks
    (Windows) an open file cannot be removed.
    """
    try:
        target = _target(path)
        left = [each for each in target.parent.iterdir() if each.name.startswith(_hidden(target))]
    except OSError:
        return
    for each in left:
        with suppress(OSError):
            if sys.platform == "win32":
                each.unlink()
                continue
            descriptor = os.open(each, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                each.unlink()
            finally:
                os.close(descriptor)


def _hidden(target: Path) -> str:
    # A short name of its own: the output's may already be as long as the file system allows.
    return f".batchrun-{hashlib.blake2b(os.fsencode(target.name), digest_size=6).hexdigest()}-"


@contextmanager
def _created(target: Path, mode: int) -> Iterator[tuple[Path, IO[bytes]]]:
    """A hidden file beside `target`, with the lock that keeps `remove_stale` off it; removed on an error."""
    while True:
        temporary = target.parent / f"{_hidden(target)}{os.urandom(8).hex()}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        # The lock lasts until its last descriptor is closed: longer than the file, which must be closed to be renamed.
        lock = _locked(descriptor)
        if os.fstat(descriptor).st_nlink > 0:
            break
        os.close(descriptor)  # taken for stale between its making and its locking
        _unlock(lock)
    try:
        yield temporary, os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        _unlock(lock)


def _locked(descriptor: int) -> int | None:
    """A second descriptor of the same file with the lock; None where files have none."""
    if sys.platform == "win32":
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return os.dup(descriptor)


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _sync_folder(folder: Path) -> None:
    # Windows cannot open a folder, and some network file systems cannot sync one; the rename has happened.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
