"""What is a file on this machine, and what only looks like a path: inputs and outputs are local files."""

from __future__ import annotations

import os
import re

from batchrun.errors import InputError

__all__ = ["check_local"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""As in `s3://…`; a `Path` leaves one slash of the two. A single letter is a drive of Windows."""


def check_local(value: str | os.PathLike[str], where: str) -> None:
    """Refuse a URL where a local file is wanted; it would be taken for a folder of that name.

    Args:
        where: the option, the key of a job file, or what else was to be a path, for the message.

    Raises:
        InputError: it begins with a scheme. The rest of the URL, which may hold a key, is not repeated.
    """
    found = _SCHEME.match(os.fspath(value))
    if found is not None:
        raise InputError(
            f"{where}: {found[1]}://… is not a local file, and only local files can be read and written; "
            "give a path on this machine, and copy the file there or from there"
        )
