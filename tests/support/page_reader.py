"""Follows a page of the docs as its reader would: writes its files, runs its commands and programs, and compares what it shows.

Marks in a page, each before a code block or a table:

- `<!-- file: NAME -->`: a file of the reader's folder.
- `<!-- run -->`, `<!-- run: CODE -->`: `batchrun` commands, one per line; the last ends with exit code 0 or CODE.
- `<!-- run with a key -->`, `<!-- run with a key: CODE -->`: the same for a reader who has set `OPENAI_API_KEY`.
- `<!-- python -->`: a program; those of one page share their names, as the cells of a notebook do.
- `<!-- prints -->`, `<!-- says -->`: standard output or standard error of the block before.
- `<!-- written: NAME -->`: a file that a command wrote.
- `<!-- shows: PATH COLUMN... -->`: columns of a table that a command wrote.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from batchrun.tables import ReadOptions, open_source
from tests.support.command import Result, batchrun

__all__ = ["PageReader", "own_file", "rows_of"]

BLOCK = re.compile(
    r"<!-- (file|run with a key|run|python with a key|python|prints|says|written|shows)(?:: ([^\n]+?))? -->\n(```\w+\n.*?```\n|(?:\|[^\n]*\n)*)",
    re.S,
)
SECONDS = re.compile(r"\b[\d.]+ s\b")
OWN_SERVER = "http://127.0.0.1:8000/v1"
"""The address of a server that the reader of a page has started."""
MAX_CELL_CHARS = 100
"""Characters of a cell in the tables of a page."""


def own_file(folder: Path) -> Callable[[str, str], str]:
    """Return how to treat a file that a page shows: it is written into the folder."""

    def write(name: str, shown: str) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"\A```\w+\n|```\n\Z", "", shown), encoding="utf-8")
        return shown

    return write


class PageReader:
    """Follows a page or a section.

    Mutable state: what the last block printed, and the names that the page's programs have defined.

    Attributes:
        folder: the working directory.
        file: called with the name of a file that the page shows and with its block; returns the block as it should be.
        with_a_key: the variables of a reader who has a key.
    """

    def __init__(self, folder: Path, file: Callable[[str, str], str], **with_a_key: str) -> None:
        self._folder = folder
        self._file = file
        self._with_a_key = with_a_key
        self._printed: list[Result] = []
        self._names: dict[str, object] = {"__name__": "page"}

    def read(self, text: str) -> str:
        """Follow the text from top to bottom, and return it as it should be."""
        return BLOCK.sub(self._block, text)

    def _block(self, match: re.Match[str]) -> str:
        kind, argument, shown = match[1], match[2], match[3]
        new = shown
        environment = self._with_a_key if kind.endswith("with a key") else {}
        content = "\n".join(shown.splitlines()[1:-1])
        if kind == "file":
            new = self._file(argument, shown)
        elif kind.startswith("run"):
            self._run(content, int(argument or 0), environment)
        elif kind.startswith("python"):
            self._printed = [self._execute(content, environment)]
        elif kind == "written":
            new = f"{shown.splitlines()[0]}\n{(self._folder / argument).read_text(encoding='utf-8')}```\n"
        elif kind == "shows":
            path, *columns = argument.split()
            new = _table(self._folder / path, columns)
        else:
            said = "".join(each.stdout if kind == "prints" else _undated(each.stderr) for each in self._printed)
            new = f"```text\n{said}```\n"
            if _timeless(new) == _timeless(shown):
                new = shown
        return match[0].removesuffix(shown) + new if shown else match[0] + new

    def _run(self, commands: str, exit_code: int, environment: dict[str, str]) -> None:
        self._printed = []
        for line in commands.replace("\\\n", " ").splitlines():
            # The reader's own server is the one that the test has started.
            line = line.replace(OWN_SERVER, self._with_a_key.get("OPENAI_BASE_URL", OWN_SERVER))
            program, *arguments = shlex.split(line, comments=True)
            assert program == "batchrun", line
            self._printed.append(batchrun(self._folder, *arguments, **environment))
        last = self._printed[-1]
        assert last.returncode == exit_code, last.stderr

    def _execute(self, program: str, environment: dict[str, str]) -> Result:
        """Run a program as a notebook runs a cell: the value of a last expression is printed."""
        *statements, last = ast.parse(program).body
        out = io.StringIO()
        with _in_folder(self._folder, environment), contextlib.redirect_stdout(out), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # the SDK's own, about the protocol that the page is about
            if isinstance(last, ast.Expr):
                exec(compile(ast.Module(statements, []), "page", "exec", dont_inherit=True), self._names)
                if (
                    value := eval(compile(ast.Expression(last.value), "page", "eval", dont_inherit=True), self._names)
                ) is not None:
                    print(value)
            else:
                exec(compile(program, "page", "exec", dont_inherit=True), self._names)
        return Result(0, out.getvalue(), "")


@contextlib.contextmanager
def _in_folder(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _undated(lines: str) -> str:
    """Return the printed lines without what no page can show: the first and last line of a log, and an error's date."""
    lines = re.sub(r"^\d{4}-\d\d-\d\d [^\n]*\n", "", lines, flags=re.M)
    return re.sub(r"^batchrun: \d{4}-\d\d-\d\d \S+ · ", "batchrun: ", lines, flags=re.M)


def _timeless(text: str) -> str:
    """Return printed text without its seconds and without the column widths that depend on them."""
    return re.sub(" +", " ", SECONDS.sub("", text))


def _table(path: Path, columns: list[str]) -> str:
    """Return these columns of an output as a Markdown table."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row[column]) for column in columns] for row in rows_of(path)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rows_of(path: Path) -> list[dict[str, object]]:
    """Return the rows of a CSV, Excel or JSON Lines table."""
    if path.suffix == ".xlsx":
        return [dict(row.values) for row in open_source(path, ReadOptions()).rows()]
    with path.open(newline="", encoding="utf-8") as file:
        return [json.loads(line) for line in file] if path.suffix == ".jsonl" else list(csv.DictReader(file))


def _cell(value: object) -> str:
    """Return a cell on one line; a citation is reduced to its file name."""
    if isinstance(value, list):
        value = ", ".join(each["filename"] if isinstance(each, dict) else str(each) for each in value)
    text = " ".join(str("" if value is None else value).split()).replace("|", "\\|")
    return text if len(text) <= MAX_CELL_CHARS else f"{text[:MAX_CELL_CHARS].rstrip()}…"
