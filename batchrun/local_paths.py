"""Checks of paths: those of files on this machine, and those of tables, which may be URLs of object storage."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from batchrun.errors import InputError
from batchrun.wording import shortened, shown_path

__all__ = ["check_local", "check_output_path", "check_table", "is_url", "shown_table", "shown_url"]

_WRITTEN: Final = ("s3", "gs", "abfss", "file")
"""Schemes that `pyarrow.fs` reads and writes: https://arrow.apache.org/docs/python/filesystems.html."""
_ONLY_READ: Final = ("https", "http", "hf")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""Matches `s3://…`. A `Path` keeps only one of the two slashes. A single letter is a drive of Windows."""

_PATH_BYTES = 4_096
_NAME_BYTES = 255
"""Maximum bytes of a path and of a name in it: PATH_MAX and NAME_MAX of Linux."""


def check_local(value: str | os.PathLike[str], where: str) -> None:
    """Raise InputError for a value that cannot be the path of a local file.

    Without this check, a URL would be taken for a folder of that name.

    Args:
        value: the path.
        where: option, key of a job file or other origin of the path, for the message.

    Raises:
        InputError: the path is empty, too long or not valid text, or it begins with a scheme. The rest of such a URL is
            not repeated, because it may contain a key.
    """
    found = _SCHEME.match(os.fspath(value))
    if found is not None:
        raise InputError(
            f"{where}: {found[1]}://… is not a local file; "
            "give a path on this machine, and copy the file to or from the remote location yourself"
        )
    path = os.fspath(value)
    if not path or value == Path():
        raise InputError(f"{where}: expected the path of a file, not an empty text or a folder")
    if "\0" in path:
        raise InputError(f"{where}: a path cannot contain a NUL character, got {shortened(path)}")
    try:
        sizes = [len(os.fsencode(part)) for part in (path, *Path(path).parts)]
    except UnicodeEncodeError:
        raise InputError(
            f"{where}: the path contains half of a surrogate pair, which is not Unicode, got {path!r}"
        ) from None
    if sizes[0] >= _PATH_BYTES or any(size > _NAME_BYTES for size in sizes[1:]):
        raise InputError(f"{where}: the path is too long, got {shortened(path)}")


def is_url(value: object) -> bool:
    """Return whether a table is at a URL that is read: a text that begins with `s3://`, `https://` or a like scheme."""
    return isinstance(value, str) and "://" in value and value.partition("://")[0] in (*_WRITTEN, *_ONLY_READ)


def check_output_path(value: str, where: str) -> None:
    """Raise InputError for the URL of an output where a command works on the batch, which is on this machine."""
    if is_url(value):
        name = shown_url(value).rstrip("/").rpartition("/")[2]
        raise InputError(
            f"{where}: the journal of a batch is on this machine, not at a URL; give its path, which is "
            f"outputs/{name}.journal unless --journal named another one"
        )


def shown_url(url: str) -> str:
    """Return a URL for messages and for the journal: without what follows `?`, which may contain a key."""
    return url.partition("?")[0]


def shown_table(name: str) -> str:
    """Return the path or the URL of a table for people."""
    return shown_url(name) if is_url(name) else shown_path(Path(name))


def check_table(value: str | os.PathLike[str], where: str, *, is_output: bool = False) -> None:
    """Raise InputError for a value that is neither the path of a local file nor the URL of a table.

    Args:
        value, where: see `check_local`.
        is_output: the table is written.

    Raises:
        InputError: as `check_local`, or the URL has another scheme or contains a user or a key.
    """
    if not is_url(value):
        found = _SCHEME.match(os.fspath(value))
        if found is not None:
            known = ", ".join(f"{scheme}://" for scheme in (_WRITTEN if is_output else (*_WRITTEN, *_ONLY_READ)))
            raise InputError(
                f"{where}: {found[1]}:… is not a local file, and not a URL of a table; expected a path, or a URL that "
                f"begins with one of {known}"
            )
        check_local(value, where)
        return
    scheme, _, place = os.fspath(value).partition("://")
    if is_output and scheme in _ONLY_READ:
        raise InputError(f"{where}: {scheme}://… is only read; give a path, or a URL with s3://, gs:// or abfss://")
    if "@" in place.partition("/")[0] and scheme != "abfss":  # there it is FOLDERS@ACCOUNT
        instead = "" if scheme in _ONLY_READ else ", and set the usual variables, such as AWS_ACCESS_KEY_ID"
        raise InputError(f"{where}: {scheme}://… contains a user or a key; leave it out{instead}")
