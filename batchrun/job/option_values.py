"""Values as users write them: durations, texts in files, and names that were mistyped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from batchrun.errors import InputError
from batchrun.local_paths import check_local
from batchrun.wording import shortened

__all__ = ["LONGEST_S", "nearest", "read_text_option"]


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is near, else nothing."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def seconds_of(duration: str, name: str) -> float:
    """Seconds in `90s`, `90m`, `12h`, `7d`, `2w`.

    Raises:
        InputError: names the option, and the forms there are.
    """
    number, unit = duration[:-1], duration[-1:]
    if unit not in _UNITS_S or not number.isascii() or not number.replace(".", "", 1).isdigit():
        raise InputError(f"--{name}: a duration such as 90m, 12h or 7d is needed, got {shortened(duration)}")
    seconds = float(number) * _UNITS_S[unit]
    if seconds > _OLDEST_S:
        raise InputError(f"--{name}: must be at most 36500d (a hundred years), got {shortened(duration)}")
    return seconds


_OLDEST_S = 36_500 * 86_400


def read_text_option(value: str | None, name: str, folder: Path | None = None) -> str | None:
    """`@path` reads the file (relative to `folder`); `@@text` is a literal `@text`.

    Raises:
        InputError: the file cannot be read as UTF-8.
    """
    if value is None or not value.startswith("@"):
        return value
    if value.startswith("@@"):
        return value[1:]
    check_local(value[1:], f"--{name} @")
    path = (folder or Path()) / value[1:]
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise InputError(f"--{name} @{path}: cannot be read: {exc.strerror or exc}") from None
    except UnicodeDecodeError:
        raise InputError(f"--{name} @{path}: is not UTF-8 text") from None


LONGEST_S = 604_800.0
"""A week: what is meant to take longer is a slip of the keyboard."""
