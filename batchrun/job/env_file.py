"""A `.env` file: which file is read, and its values."""

from __future__ import annotations

import io
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from batchrun.errors import InputError

__all__ = ["EnvFile", "find_env_file"]

NAME = ".env"
MAX_FILE_BYTES = 100_000
_REMEDY = "correct the file, or ignore it with --no-env-file"


def find_env_file(folders: Iterable[Path]) -> EnvFile | None:
    """Return the `.env` of the first folder that has one; None if none has.

    A folder of that name, which some people give to a virtual environment, is passed over.

    Raises:
        InputError: the file is a symbolic link or is not a file, cannot be read, is larger than `MAX_FILE_BYTES`, or is
            not UTF-8.
    """
    for folder in folders:
        path = folder / NAME
        try:
            kind = path.lstat().st_mode
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise InputError(f"{path}: {(exc.strerror or str(exc)).lower()}; {_REMEDY}") from None
        if not stat.S_ISDIR(kind):
            return _read(path, kind)
    return None


def _read(path: Path, kind: int) -> EnvFile:
    if stat.S_ISLNK(kind):
        # In a folder that somebody sent, a link could lead to the keys of another project.
        raise InputError(f"{path}: is a symbolic link, which is not followed; copy the file, or add --no-env-file")
    if not stat.S_ISREG(kind):
        raise InputError(f"{path}: is not a file; remove it, or add --no-env-file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise InputError(f"{path}: {(exc.strerror or str(exc)).lower()}; {_REMEDY}") from None
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"{path}: has more than {MAX_FILE_BYTES:,} bytes; {_REMEDY}")
    try:
        return _parsed(path, content.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8; {_REMEDY}") from None


def _parsed(path: Path, text: str) -> EnvFile:
    from dotenv.parser import parse_stream

    lines: dict[str, list[tuple[int, str | None]]] = {}
    unreadable: list[tuple[int, str]] = []
    for binding in parse_stream(io.StringIO(text, newline="")):
        statement = binding.original.string
        # The text of a statement begins with the blank lines before it.
        number = binding.original.line + statement[: len(statement) - len(statement.lstrip())].count("\n")
        if binding.error:
            unreadable.append((number, statement))
        elif binding.key is not None:
            lines.setdefault(binding.key, []).append((number, binding.value))
    return EnvFile(path, lines, tuple(unreadable))


@dataclass(frozen=True, slots=True)
class EnvFile:
    """The variables of a `.env`. No value shows in its repr.

    A name is judged only when it is asked for: the rest of the file may belong to other programs.

    Attributes:
        lines: name → line number and value of each line that sets it; None for a name without `=`.
        unreadable: line number and text of each statement that is not `NAME=VALUE`.
    """

    path: Path
    lines: Mapping[str, list[tuple[int, str | None]]] = field(repr=False)
    unreadable: tuple[tuple[int, str], ...] = field(repr=False)

    def get(self, name: str) -> str | None:
        """Return the value of a variable, None if the file does not set it.

        Raises:
            InputError: the file sets it twice, its line cannot be read, or its value refers to another variable.
        """
        for number, statement in self.unreadable:
            if re.search(rf"(?<!\w){name}(?!\w)", statement):
                raise InputError(f"{self.path}: line {number}: expected {name}=VALUE; {_REMEDY}")
        found = self.lines.get(name, [])
        if not found:
            return None
        number, value = found[-1]
        if len(found) > 1:
            numbers = ", ".join(str(each) for each, _ in found)
            raise InputError(f"{self.path}: {name} is set more than once (lines {numbers}); {_REMEDY}")
        if value is None:
            raise InputError(f"{self.path}: line {number}: expected {name}=VALUE; {_REMEDY}")
        if "${" in value:
            # Replaced, it could send the value of any other variable to the address in the file.
            raise InputError(
                f"{self.path}: line {number}: {name}: ${{...}} is not replaced in a .env; write the value itself, or "
                "add --no-env-file"
            )
        return value
