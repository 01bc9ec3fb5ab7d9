"""Shell completion: the values that a shell offers for options and arguments.

A shell calls `batchrun` at each press of Tab, so nothing here imports pandas, the SDK or another large library.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

__all__ = ["Complete", "completion_of"]

MOST_HEADER_CHARS = 100_000

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completion_of(name: str, metavar: str | None, *, is_path: bool = False) -> Complete | None:
    """Return what completes the values of an option; None if nothing does.

    Args:
        name: of the option, with underscores.
        metavar: of its value; COLUMN for the name of a column.
        is_path: the value is a path.
    """
    if metavar == "COLUMN" or name == "question":
        return _columns
    if name == "api":
        return _apis
    if name == "keep":
        return _kept
    if name == "scorer":
        return _scorers
    if name == "model":
        return _models
    return _files if is_path else None


def _apis(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from batchrun.job.options import Api

    return _matching(get_args(Api), incomplete)


def _kept(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from batchrun.job.row_options import Kept

    return _matching(get_args(Kept), incomplete)


def _scorers(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from batchrun.scoring.scorers.registry import SCORERS

    return _matching(SCORERS, incomplete)


def _models(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from batchrun.job.options import EMBEDDED_MODEL

    return _matching(filter(None, (os.environ.get("BATCHRUN_MODEL"), EMBEDDED_MODEL)), incomplete)


def _files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _columns(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the columns of the first table or job file on the command line."""
    given = [context.params.get(name) for name in ("table", "job", "output", "tables")]
    # While the last option has no value yet, click leaves the arguments in `args`.
    words = [*given, *context.args]
    names = [each for word in words for each in (word if isinstance(word, tuple) else (word,)) if each]
    for name in names:
        try:
            columns = _columns_of(Path(str(name)))
        except (OSError, ValueError, csv.Error):
            continue  # no message may appear in the line that somebody is typing
        if columns:
            return _matching(columns, incomplete)
    return []


def _columns_of(path: Path) -> list[str]:
    if path.suffix == ".toml":
        import tomllib

        name = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("input")
        return _columns_of(path.parent / name) if isinstance(name, str) and not name.endswith(".toml") else []
    if not path.is_file():
        return []
    if path.suffix == ".parquet":
        return []  # a library that takes half a second
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = file.read(MOST_HEADER_CHARS)
    if path.suffix in (".jsonl", ".ndjson"):
        first: Any = json.loads(start.partition("\n")[0])
        return list(first) if isinstance(first, dict) else []
    header = start.partition("\n")[0]
    delimiter = max(",;\t|", key=header.count)
    return [name.strip() for name in next(csv.reader(start.splitlines(keepends=True), delimiter=delimiter), [])]


def _matching(values: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the values that continue what was typed, quoted for bash, which does not quote them itself."""
    is_bash = os.environ.get("_BATCHRUN_COMPLETE", "").startswith("bash")
    typed = incomplete.lstrip("'\"")
    return [
        CompletionItem(shlex.quote(value) if is_bash else value)
        for value in values
        if value.startswith(typed) and value.isprintable()
    ]
