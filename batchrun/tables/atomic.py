"""A file that is either the old one or the whole new one, also after a crash."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from batchrun.errors import OutputError

__all__ = ["check_writable", "replacing"]

_BUFFER_BYTES: Final = 1 << 18
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def replacing(path: Path, *, mode: int = 0o666, advice: str = "") -> Iterator[IO[bytes]]:
    """A binary file beside `path` that takes its place at the end of the block.

    It is written under a hidden name in the same folder, flushed, synced and renamed, and then the folder is
    synced. If anything fails, it is removed and the old file stands; if the process is killed, the old file stands
    and the hidden one is left over. A symbolic link stays one: its target is
    replaced. The mode of an existing file is kept. The block leaves the file open.

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
        temporary, file = _create(target.parent, mode)
        try:
            with file:
                if target.exists() and hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
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
        temporary, file = _create(target.parent, 0o600)
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


def _create(folder: Path, mode: int) -> tuple[Path, IO[bytes]]:
    # A short name of its own: the output's may already be as long as the file system allows.
    temporary = folder / f".batchrun-{os.urandom(8).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    return temporary, os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES)


def _sync_folder(folder: Path) -> None:
    # Windows cannot open a folder, and some network file systems cannot sync one; the rename has happened.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
