"""Values as users write them: durations, texts in files and mistyped names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from batchrun.errors import InputError
from batchrun.local_paths import check_local
from batchrun.wording import shortened

__all__ = ["LONGEST_S", "read_text_option", "seconds_of", "suggestion"]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` if a known name is similar, otherwise an empty text."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def seconds_of(duration: str, name: str) -> float:
    """Return the seconds of a duration such as `90s`, `90m`, `12h`, `7d` or `2w`.

    Raises:
        InputError: the duration is malformed or too long; names the option.
    """
    number, unit = duration[:-1], duration[-1:]
    if unit not in _UNITS_S or not number.isascii() or not number.replace(".", "", 1).isdigit():
        raise InputError(f"--{name}: expected a duration such as 90m, 12h or 7d, got {shortened(duration)}")
    seconds = float(number) * _UNITS_S[unit]
    if seconds > _OLDEST_S:
        raise InputError(f"--{name}: must be at most 36500d (a hundred years), got {shortened(duration)}")
    return seconds


_OLDEST_S = 36_500 * 86_400


def read_text_option(value: str | None, name: str, folder: Path | None = None) -> str | None:
    """Return the text of an option: `@path` reads a file relative to `folder`, `@@text` is a literal `@text`.

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
        raise InputError(f"--{name} @{path}: is not UTF-8 text; save it as UTF-8") from None


LONGEST_S = 604_800.0
"""Maximum of options in seconds: one week. A larger value is most likely a typing error."""
