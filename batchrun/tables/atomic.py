"""Atomic replacement: a file has either its old or its complete new content, even after a crash."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from batchrun.errors import OutputError

if sys.platform != "win32":
    import fcntl

__all__ = ["check_folder_writable", "check_writable", "replacing", "replacing_folder"]

_BUFFER_BYTES: Final = 1 << 18
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def replacing(path: Path, *, mode: int = 0o666, advice: str = "") -> Iterator[IO[bytes]]:
    """Open a temporary binary file that replaces `path` at the end of the block.

    The file is written under a hidden name in the same folder, flushed, synced and renamed. Then the folder is synced.
    If anything fails, the temporary file is removed and the old file is kept. If the process is killed, the old file is
    kept too, and the next writer of `path` removes the temporary one. A symbolic link is kept and its target replaced.
    The mode of an existing file is kept. The block must not close the file.

    Args:
        path: the file to replace. Its folder is created if it is missing.
        mode: mode of a new file, before the umask.
        advice: text after the reason in the message of an OutputError.

    Raises:
        OutputError: the file cannot be written.
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
    except OSError as exc:
        raise _unwritable(path, exc, advice) from exc


@contextmanager
def replacing_folder(path: Path, *, advice: str = "") -> Iterator[Path]:
    """Make a temporary folder that replaces `path` at the end of the block.

    It has a hidden name in the same folder. The old folder is renamed, then the new one, then the old one is removed:
    between the two renames a reader finds no folder. A symbolic link is kept and its target replaced. If anything
    fails, or the process is killed, see `replacing`. The block syncs the files that it writes.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        target = _target_folder(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(target)
        with _created_folder(target) as new:
            yield new
            _sync_folder(new)
            old = new.with_suffix(".old")
            if target.exists():
                target.rename(old)
            new.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        _sync_folder(target.parent)
    except OSError as exc:
        raise _unwritable(path, exc, advice) from exc


def check_folder_writable(path: Path) -> None:
    """Check that `replacing_folder` can replace `path`. The folder above it is created if it is missing.

    Raises:
        OutputError: that folder is not writable, or `path` exists and is not a folder.
    """
    try:
        target = _target_folder(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.exists()
        with _created_folder(target) as new:
            new.rmdir()
    except OSError as exc:
        raise _unwritable(path, exc, "") from exc


def check_writable(path: Path) -> None:
    """Check that a file can be written at `path`.

    The folder is created if it is missing, and a file is written and removed there.

    Raises:
        OutputError: the folder is not writable, or `path` exists and is not a regular file.
    """
    try:
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Raises OSError for names that the system does not accept. This needs an existing folder.
        target.exists()
        with _created(target, 0o600) as (temporary, file):
            file.close()
            temporary.unlink()
    except OSError as exc:
        raise _unwritable(path, exc, "") from exc


def _unwritable(path: Path, exc: OSError, advice: str) -> OutputError:
    reason = "the disk is full" if exc.errno in _FULL else exc.strerror or str(exc)
    return OutputError(f"{path}: cannot be written ({reason}){advice}")


def _target_folder(path: Path) -> Path:
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        raise OutputError(f"{path}: is a file; expected a folder, because the output ends with /")
    return target


def _target(path: Path) -> Path:
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OutputError(f"{path}: cannot be written (the symbolic link leads to itself)")
    # The rename would replace a device such as /dev/null with a file.
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "not a regular file"
        raise OutputError(f"{path}: is {kind}; expected an output file")
    return target


def remove_stale(path: Path) -> None:
    """Remove the temporary files that killed writers of `path` left in its folder, but not those of running writers.

    A writer holds a lock on its temporary file, which the system releases when the process ends. Windows does not have
    such locks, but does not remove open files either.
    """
    try:
        target = Path(os.path.realpath(path))
        temporaries = [each for each in target.parent.iterdir() if each.name.startswith(_hidden(target))]
    except OSError:
        return
    for each in temporaries:
        with suppress(OSError):
            if sys.platform == "win32":
                _remove(each)
                continue
            descriptor = os.open(each, os.O_RDONLY if each.is_dir() else os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(each)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _hidden(target: Path) -> str:
    # A short hash, because the name of the output may already have the maximum length.
    return f".batchrun-{hashlib.blake2b(os.fsencode(target.name), digest_size=6).hexdigest()}-"


@contextmanager
def _created(target: Path, mode: int) -> Iterator[tuple[Path, IO[bytes]]]:
    """Create a hidden file next to `target`, locked against `remove_stale`; remove it on an error."""
    while True:
        temporary = target.parent / f"{_hidden(target)}{os.urandom(8).hex()}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        # The lock lasts until its last descriptor is closed. The second descriptor keeps it while the file, which must
        # be closed before it is renamed, is already closed.
        lock = _locked(descriptor)
        if os.fstat(descriptor).st_nlink > 0:
            break
        os.close(descriptor)  # `remove_stale` of another process removed it before it was locked
        _unlock(lock)
    try:
        yield temporary, os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        _unlock(lock)


@contextmanager
def _created_folder(target: Path) -> Iterator[Path]:
    """Create a hidden folder next to `target`, locked against `remove_stale`; remove it on an error."""
    while True:
        new = target.parent / f"{_hidden(target)}{os.urandom(8).hex()}.tmp"
        new.mkdir()
        lock = _locked_folder(new)
        if new.exists():
            break
        _unlock(lock)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    finally:
        _unlock(lock)


def _locked_folder(folder: Path) -> int | None:
    if sys.platform == "win32":
        return None
    with suppress(FileNotFoundError):  # `remove_stale` of another process removed it before it was locked
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor
    return None


def _locked(descriptor: int) -> int | None:
    """Lock the file and return a second descriptor that keeps the lock; None on systems without such locks."""
    if sys.platform == "win32":
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return os.dup(descriptor)


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _sync_folder(folder: Path) -> None:
    # Windows cannot open a folder, and some network file systems cannot sync one. The rename is done in any case.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
