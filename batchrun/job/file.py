"""Job files: the input and all options of a batch in one TOML file.

The keys are `input` and the names of options with underscores. Paths are relative to the file, so that a job means the
same from cron as from a shell. `extends = "base.toml"` reads the keys of another file first. `${NAME}` is replaced by
an environment variable in `base_url`, `header`, `query` and `ping` only, because prompts may contain it as text. The
table `[score]` has options for scoring the output. The table `[grader]`, in the file of a grader, has options for
reading its verdicts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from batchrun.errors import InputError
from batchrun.job.file_problems import FileProblems, Origins, option_problems
from batchrun.job.option_values import suggestion
from batchrun.job.options import job_options
from batchrun.job.toml_lines import KeyPath, TomlLines
from batchrun.job.variables import Variables
from batchrun.local_paths import check_local, check_table, is_url
from batchrun.records import JsonDict, Settings
from batchrun.wording import plain_path, shortened, shown_path

__all__ = ["JobFile", "is_job_file", "job_toml", "load_job_file", "read_job_file", "table_and_options"]

PATHS = ("input", "output", "journal", "examples", "tools", "store", "script", "cache")
TABLES = ("input", "output")
SCORE_PATHS = ("output", "no_worse_than", "grader", "junit", "markdown")
TEXT_FILES = ("prompt", "instructions")
FROM_ENVIRONMENT = ("base_url", "header", "query", "ping")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def is_job_file(name: str) -> bool:
    """Return whether a name is that of a job file rather than a table."""
    return name.endswith(".toml")


Further: TypeAlias = Callable[[str | None, JsonDict], Iterable[str]]
"""(input, options without a problem of their own) → what is wrong with them and the table, in the words of the command
line. It is called for a file that has other problems; without any, running the job finds the same."""


def load_job_file(path: Path, environ: Mapping[str, str] | None) -> tuple[str | None, JsonDict]:
    """Return (input, options) of a job file; see `read_job_file`."""
    file = read_job_file(path, environ, ("score",))
    return file.input, file.options


def table_and_options(
    table: str, overrides: Settings, environ: Mapping[str, str] | None, further: Further | None = None
) -> tuple[str, Path, JsonDict]:
    """Return (input, folder of the default output, options) of a table or a job file.

    Args:
        table: path of the table or the job file.
        overrides: options that override those of the job file.
        environ, further: see `read_job_file`.

    Raises:
        InputError: as in `read_job_file`, or the job file has no input.
    """
    check_table(table, "the table")
    if is_url(table) and is_job_file(table):
        check_local(table, "the job file")
    if not is_job_file(table):
        return table, Path(), dict(overrides)
    file = read_job_file(Path(table), environ, ("score",), further)
    return file.checked_input(), Path(table).parent, {**file.options, **overrides}


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job file with those that it extends.

    Attributes:
        path: its path.
        input: path of the table, None if the file names none.
        options: the options, with absolute paths.
        tables: the TOML tables besides the options of a batch, such as `score`.
        origins: where the keys are.
    """

    path: Path
    input: str | None
    options: JsonDict
    tables: JsonDict
    origins: Origins

    def checked_input(self) -> str:
        """Return the input.

        Raises:
            InputError: the file has no input.
        """
        if self.input is None:
            example = 'input = "questions.csv"'
            raise InputError(f"{shown_path(self.path)}: the job file has no input; add a line such as {example}")
        return self.input


Tables: TypeAlias = Sequence[str] | Mapping[str, Callable[[Any], Iterable[tuple[KeyPath, str]]]]
"""Names of TOML tables that may exist besides the options of a batch, each with a function that yields the path (within
the table) and the text of each problem."""


def read_job_file(
    path: Path, environ: Mapping[str, str] | None, tables: Tables, further: Further | None = None
) -> JobFile:
    """Return a job file whose options are valid, with absolute paths, also in `@file`.

    Args:
        path: the job file.
        environ: environment variables for `${NAME}`; None leaves `${NAME}` unchanged, for commands that send nothing.
        tables: TOML tables that may exist besides the options of a batch. They are returned unchanged.
        further: finds more problems of a file that has some.

    Raises:
        InputError: the file cannot be read, its TOML is not valid (names line and column), or something in it is wrong:
            the error is the first problem, and has the others as notes. Each names the file and the line.
    """
    check_local(path, "the job file")
    problems, origins = FileProblems(), Origins()
    merged = _load(path.absolute(), _Reading(environ, tuple(tables), problems, origins), parents=())
    name = merged.pop("input", None)
    found_tables = {table: merged.pop(table) for table in tables if table in merged}
    good = dict(merged)
    for key, text in option_problems(merged):
        problems.add(*origins.find(key, path.absolute()), text)
        if key:
            good.pop(str(key[0]), None)
    for table, check in tables.items() if isinstance(tables, Mapping) else ():
        if table in found_tables:
            for key, text in check(found_tables[table]):
                problems.add(*origins.find((table, *key), path.absolute()), f"{table}: {text}")
    for text in further(name, good) if further is not None and problems.found else ():
        problems.add(*(origins.placed(text) or (path.absolute(), None, text)))
    problems.check()
    return JobFile(path, name, merged, found_tables, origins)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Shared by the functions that read a file: variables, names of tables, problems and places of keys so far."""

    environ: Mapping[str, str] | None
    tables: Sequence[str]
    problems: FileProblems
    origins: Origins


def _load(path: Path, reading: _Reading, parents: tuple[Path, ...]) -> JsonDict:
    """Return the keys of a file and of those that it extends; add the problems of keys that are left out."""
    raw, lines = _parsed(path)
    problems = reading.problems
    base, merged = raw.pop("extends", None), JsonDict()
    if base is not None:
        try:
            merged = _load(_base_path(base, path, parents), reading, (*parents, path))
        except InputError as exc:
            problems.add(path, lines.line_of(("extends",)), f"extends: {exc}")
    known = {"input", "extends", *job_options(), *reading.tables}
    own: JsonDict = {}
    for key, value in raw.items():
        line = lines.line_of((key,))
        if key not in known:
            what = f"table [{key}]" if isinstance(value, dict) else f"key {key!r}"
            problems.add(path, line, f"unknown {what}{suggestion(key, known)}")
        elif key == "input" and not isinstance(value, str):
            problems.add(path, line, f"input: expected the path of a table, got {shortened(value)}")
        else:
            try:
                own[key] = _resolved(key, value, path, reading.environ)
            except InputError as exc:
                problems.add(path, line, str(exc))
    reading.origins.files.append((path, lines))
    return _merged(merged, own)


def _base_path(base: Any, path: Path, parents: tuple[Path, ...]) -> Path:
    """Return the path of the file that a file extends."""
    if not isinstance(base, str):
        raise InputError(f"expected the path of one file, got {shortened(base)}")
    check_local(base, "the path")
    found = (path.parent / base).resolve()
    circle = [*parents, path]
    if found in circle:
        names = " and ".join(shown_path(each) for each in circle[circle.index(found) :])
        raise InputError(f"the file extends itself through {names}")
    return found


def _parsed(path: Path) -> tuple[JsonDict, TomlLines]:
    """Return the content of one TOML file and the lines of its keys."""
    name = shown_path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text), TomlLines.of(text)
    except OSError as exc:
        raise InputError(f"{name}: {(exc.strerror or str(exc)).lower()}") from None
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise InputError(f"{name}, line {line}: is not UTF-8 text (byte {exc.start}); save it as UTF-8") from None
    except RecursionError:
        raise InputError(f"{name}: is not valid TOML: nested too deeply") from None
    except ValueError as exc:  # invalid TOML, or an integer of more than 4,300 digits
        raise InputError(_toml_problem(name, str(exc), text)) from None


def _toml_problem(name: str, problem: str, text: str) -> str:
    """Return the message of the TOML parser with the place first, as for other problems."""
    found = _TOML_PLACE.search(problem)
    if found is None:
        return f"{name}: is not valid TOML: {problem}"
    what = problem[: found.start()].replace("Cannot overwrite a value", "the key or table is there twice")
    if found["line"] is None:
        return f"{name}, line {text.rstrip().count(chr(10)) + 1}: is not valid TOML: {what} (at the end of the file)"
    line, column = int(found["line"]), int(found["column"])
    value = text.splitlines()[line - 1][column - 1 :].strip() if what == "Invalid value" else ""
    hint = "; a text needs quotes" if value and (value[0].isalpha() or value[0] in "./{$@") else ""
    return f"{name}, line {line}, column {column}: is not valid TOML: {what}{hint}"


_TOML_PLACE = re.compile(r" \(at (?:end of document|line (?P<line>\d+), column (?P<column>\d+))\)$")


def _merged(base: JsonDict, own: JsonDict) -> JsonDict:
    """Return `base` updated with `own`; tables (`param`, `header`, …) are updated key by key."""
    merged = {**base, **own}
    for key in base.keys() & own.keys():
        if isinstance(base[key], dict) and isinstance(own[key], dict):
            merged[key] = {**base[key], **own[key]}
    return merged


def _resolved(key: str, value: Any, path: Path, environ: Mapping[str, str] | None) -> Any:
    """Return the value of a key with environment variables inserted or paths made absolute."""
    if key in FROM_ENVIRONMENT and environ is not None:
        return _expanded(value, key, environ)
    _check_local(key, value)
    if key == "score" and isinstance(value, dict):
        return {name: _absolute(each, path) if name in SCORE_PATHS else each for name, each in value.items()}
    if key == "file_search":
        return _absolute([value] if isinstance(value, str) else value, path)
    if key == "turns" and isinstance(value, list):
        return [_resolved_texts(turn, path) for turn in value]
    if key == "prompt" and isinstance(value, list):
        return [_text_file(text, path) for text in value]
    if key == "matrix" and isinstance(value, dict):
        return _resolved_texts(value, path)
    if not isinstance(value, str):
        return value
    if key in PATHS and value != "-" and not (key in TABLES and is_url(value)):
        slash = "/" if key == "output" and value.endswith("/") else ""  # a folder of parts
        return f"{_absolute(value, path)}{slash}"
    if key in TEXT_FILES:
        return _text_file(value, path)
    if key == "schema":
        return _schema(value, path)
    return value


def _check_local(key: str, value: Any, may_be_url: Sequence[str] = TABLES) -> None:
    """Raise InputError if a key for a local path has a URL, also inside lists and tables."""
    if isinstance(value, list):
        for each in value:
            _check_local(key, each, may_be_url)
    elif isinstance(value, dict) and key in ("score", "turns", "matrix"):
        for name, each in value.items():
            _check_local(name, each, ())
    elif isinstance(value, str):
        if key in TEXT_FILES and value.startswith("@"):
            check_local(value[1:], key)
        elif key in may_be_url:
            check_table(value, key, is_output=key == "output")
        elif key in (*PATHS, *SCORE_PATHS, "file_search", "schema"):
            check_local(value, key)


def _resolved_texts(table: Any, path: Path) -> Any:
    """Return a table with the paths of `@file` made absolute, also inside lists."""
    if not isinstance(table, dict):
        return table
    resolved = {}
    for name, value in table.items():
        if name in TEXT_FILES:
            value = [_text_file(text, path) for text in value] if isinstance(value, list) else _text_file(value, path)
        resolved[name] = value
    return resolved


def _text_file(value: Any, path: Path) -> Any:
    if isinstance(value, str) and value.startswith("@") and not value.startswith("@@"):
        return f"@{path.parent / value[1:]}"
    return value


def _schema(value: str, path: Path) -> str:
    """Return the schema with an absolute path. A module next to the job file is named by its file."""
    file, colon, model = value.partition(":")
    if not colon or file.endswith(".py"):
        return f"{path.parent / file}{colon}{model}"
    module = path.parent / (file.replace(".", "/") + ".py")
    return f"{module}:{model}" if module.is_file() else value


def _absolute(value: Any, path: Path) -> Any:
    """Return a path or a list of paths made absolute. `make_job` refuses values that are not text."""
    if isinstance(value, list):
        return [_absolute(each, path) for each in value]
    return plain_path(path.parent / value) if isinstance(value, str) else value


def _expanded(value: Any, key: str, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _expanded(each, key, environ) for name, each in value.items()}
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        value = environ.expand(match[1], key) if isinstance(environ, Variables) else environ.get(match[1])
        if value is None:
            raise InputError(f"{key}: environment variable {match[1]} is not set")
        return value

    return _VARIABLE.sub(variable, value)


def job_toml(options: Settings, comments: tuple[str, ...] = ()) -> str:
    """Return the text of a job file with these keys after lines of comments.

    Raises:
        InputError: there is null in a value, which TOML does not have.
    """
    import tomli_w

    for name, value in options.items():
        if _has_null(value):
            raise InputError(f"{name}: contains null, which a job file cannot have; remove it or give a value")
    head = "".join(f"# {line}".rstrip() + "\n" for line in comments)
    return head + ("\n" if head else "") + tomli_w.dumps(options, multiline_strings=True)


def _has_null(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return any(map(_has_null, value.values() if isinstance(value, dict) else value))
    return value is None
