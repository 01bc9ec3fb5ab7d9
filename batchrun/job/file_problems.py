"""What is wrong in a job file: every problem with its file and line, in the words of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchrun.errors import InputError, together
from batchrun.job.options import job_options
from batchrun.job.toml_lines import KeyPath, TomlLines
from batchrun.job.validation import make_job
from batchrun.records import JsonDict, JsonObject
from batchrun.wording import shown_path

__all__ = ["FileProblems", "Origins", "as_keys", "option_problems"]

_FLAG = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")
_NAMED = re.compile(r"--([a-z]+(?:-[a-z]+)*)|([a-z]+(?:_[a-z]+)*)(?=:| and |\[)")
_TEMPLATE_LINE = re.compile(r" \(line (\d+) of the template\)")


def as_keys(text: str, *, count: int = 0) -> str:
    """Return a message of the command line with keys in place of the first `count` flags, 0 for all.

    >>> as_keys("--max-outage: must be above 0, got 0")
    'max_outage: must be above 0, got 0'
    """
    known = job_options()
    return _FLAG.sub(lambda flag: key if (key := flag[1].replace("-", "_")) in known else flag[0], text, count=count)


@dataclass(slots=True)
class Origins:
    """Where the keys of a job come from: the job file, or one that it extends.

    Mutable state: `files`, filled while the files are read; the last one is the job file itself.
    """

    files: list[tuple[Path, TomlLines]] = field(default_factory=list)

    def place(self, path: KeyPath) -> str | None:
        """Return `FILE, line N` of a key, None if no file has it."""
        found = self._file_of(path)
        if found is None:
            return None
        file, lines = found
        return f"{shown_path(file)}, line {lines.line_of(path)}"

    def find(self, path: KeyPath, default: Path) -> tuple[Path, int | None]:
        """Return the file and the line of a key; the file `default` if no file has it."""
        found = self._file_of(path)
        return (default, None) if found is None else (found[0], found[1].line_of(path))

    def _file_of(self, path: KeyPath) -> tuple[Path, TomlLines] | None:
        """Return the file whose value counts: the last one with the key, or the last one with its table."""
        for length in range(len(path), 0, -1):
            for file, lines in reversed(self.files):
                if path[:length] in lines.lines:
                    return file, lines
        return None

    def located(self, text: str, keys: Mapping[str, Any]) -> str:
        """Return a message with the file and line of the key that it begins with, in place of its flag.

        Flags that the message proposes as a remedy stay: a command with a job file takes them too.

        Args:
            text: a message of the command line.
            keys: the options that the file gives.
        """
        path = _path_of(text)
        if not path or path[0] not in keys:
            return text
        found = self.placed(text)
        return text if found is None else f"{shown_path(found[0])}, line {found[1]}: {found[2]}"

    def placed(self, text: str) -> tuple[Path, int, str] | None:
        """Return the file, the line and the rest of a message that begins with a key; None if no file has the key."""
        path = _path_of(text)
        found = self._file_of(path)
        if found is None:
            return None
        file, lines = found
        line = lines.line_of(path) or 0
        inside = _TEMPLATE_LINE.search(text)
        if inside is not None and path in lines.texts:
            line = lines.texts[path] + int(inside[1]) - 1
            text = _TEMPLATE_LINE.sub("", text, count=1)
        return file, line, as_keys(text, count=1) if text.startswith("--") else text


def _path_of(text: str) -> KeyPath:
    """Return the path of the key that a message begins with; empty if it begins with another word."""
    if turn := re.match(r"turn (\d+): (prompt|when)\b", text):
        return ("turns", int(turn[1]) - 1, turn[2])
    if parameter := re.match(r"--param ([\w.-]+): ", text):
        return ("param", *parameter[1].split("."))
    named = _NAMED.match(text)
    return ((named[1] or named[2]).replace("-", "_"),) if named is not None else ()


@dataclass(slots=True)
class FileProblems:
    """The problems found so far. Mutable state: `found`, in the order of the files' lines."""

    found: list[tuple[Path, int, str]] = field(default_factory=list)

    def add(self, file: Path, line: int | None, text: str) -> None:
        """Add a problem; a line of None is the file itself."""
        self.found.append((file, line or 0, text))

    def check(self) -> None:
        """Raise an error if there is a problem: the first one, with the others as notes (PEP 678).

        Raises:
            InputError: each line names the file and the line.
        """
        if not self.found:
            return
        order = {file: number for number, (file, _, _) in enumerate(self.found)}
        problems = sorted(dict.fromkeys(self.found), key=lambda each: (order[each[0]], each[1]))
        raise together(f"{shown_path(file)}{f', line {line}' if line else ''}: {text}" for file, line, text in problems)


def option_problems(options: JsonObject) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path and the text of every problem of the options of a file.

    Each key is checked alone, each entry of a table too. The keys without a problem are then checked together: a
    conflict names one of its keys, which is left out to find the next one.
    """
    good: JsonDict = {}
    for key, value in options.items():
        found = list(_key_problems(key, value))
        yield from found
        if not found:
            good[key] = value
    while good:
        problem = _problem(good)
        if problem is None:
            return
        path = _path_of(problem)
        key = str(path[0]) if path and path[0] in good else next(iter(good))
        yield path if path and path[0] in good else (), as_keys(problem)
        del good[key]
        if not path:
            return


def _key_problems(key: str, value: Any) -> Iterator[tuple[KeyPath, str]]:
    """Yield the problems of one key, which no other key can solve."""
    entries = isinstance(value, dict) and (key in ("matrix", "prices") or job_options()[key][0].pairs is not None)
    for name, entry in value.items() if entries else ():
        # A table of prices has a table for each model.
        parts = [{each: entry[each]} for each in entry] if key == "prices" and isinstance(entry, dict) else [entry]
        for part in parts:
            if (text := _problem({key: {name: part}})) is not None:
                yield (key, name, *(part if isinstance(part, dict) else ())), _with_hint(key, name, as_keys(text))
    if not entries and (text := _problem({key: value})) is not None:
        yield (key,), as_keys(text)


def _with_hint(table: str, name: str, text: str) -> str:
    """Return the text, with the reason for which an option of the batch may be in a table."""
    if table == "matrix" or name not in job_options():
        return text
    return f"{text}; in TOML, options of the batch come before the first [table]"


def _problem(options: JsonObject) -> str | None:
    try:
        make_job(options)
    except InputError as exc:
        return str(exc)
    return None
