"""What is a file on this machine, and what only looks like a path: inputs and outputs are local files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from batchrun.errors import InputError
from batchrun.wording import shortened

__all__ = ["check_local"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""As in `s3://…`; a `Path` leaves one slash of the two. A single letter is a drive of Windows."""

_PATH_BYTES = 4_096
_NAME_BYTES = 255
"""What file systems take: Linux's PATH_MAX and NAME_MAX."""


def check_local(value: str | os.PathLike[str], where: str) -> None:
    """Refuse what no file on this machine can have for its path. A URL would be taken for a folder of that name.

    Args:
        where: the option, the key of a job file, or what else was to be a path, for the message.

    Raises:
        InputError: it is empty, too long, or no text; or it begins with a scheme. The rest of such a URL, which may
            hold a key, is not repeated.
    """
    found = _SCHEME.match(os.fspath(value))
    if found is not None:
        raise InputError(
            f"{where}: {found[1]}://… is not a local file, and only local files can be read and written; "
            "give a path on this machine, and copy the file there or from there"
        )
    path = os.fspath(value)
    if not path or value == Path():
        raise InputError(f"{where}: the path of a file is expected, not an empty text or a folder")
    if "\0" in path:
        raise InputError(f"{where}: a path holds no NUL character, got {shortened(path)}")
    try:
        sizes = [len(os.fsencode(part)) for part in (path, *Path(path).parts)]
    except UnicodeEncodeError:
        raise InputError(f"{where}: is not text in Unicode (half of a surrogate pair), got {path!r}") from None
    if sizes[0] >= _PATH_BYTES or any(size > _NAME_BYTES for size in sizes[1:]):
        raise InputError(f"{where}: is too long for the path of a file, got {shortened(path)}")
