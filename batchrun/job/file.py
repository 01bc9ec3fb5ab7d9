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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchrun.errors import InputError
from batchrun.job.option_values import suggestion
from batchrun.job.options import job_options
from batchrun.job.variables import Variables
from batchrun.local_paths import check_local
from batchrun.records import JsonDict, Settings
from batchrun.wording import plain_path, shortened

__all__ = ["is_job_file", "job_toml", "load_job_file", "read_job_file", "table_and_options"]

PATHS = ("input", "output", "tools", "store", "script")
SCORE_PATHS = ("output", "no_worse_than", "grader", "junit", "markdown")
TEXT_FILES = ("prompt", "instructions")
FROM_ENVIRONMENT = ("base_url", "header", "query", "ping")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def is_job_file(name: str) -> bool:
    """Return whether a name is that of a job file rather than a table."""
    return name.endswith(".toml")


def load_job_file(path: Path, environ: Mapping[str, str] | None) -> tuple[str | None, JsonDict]:
    """Return (input, options) of a job file; see `read_job_file`."""
    name, options, _ = read_job_file(path, environ, ("score",))
    return name, options


def table_and_options(table: str, overrides: Settings, environ: Mapping[str, str] | None) -> tuple[str, Path, JsonDict]:
    """Return (input, folder of the default output, options) of a table or a job file.

    Args:
        table: path of the table or the job file.
        overrides: options that override those of the job file.
        environ: see `read_job_file`.

    Raises:
        InputError: as in `read_job_file`, or the job file has no input.
    """
    check_local(table, "the table")
    if not is_job_file(table):
        return table, Path(), dict(overrides)
    name, options = load_job_file(Path(table), environ)
    if name is None:
        raise InputError(f'{table}: the job file has no input; add a line such as input = "questions.csv"')
    return name, Path(table).parent, {**options, **overrides}


def read_job_file(
    path: Path, environ: Mapping[str, str] | None, tables: Sequence[str]
) -> tuple[str | None, JsonDict, JsonDict]:
    """Return (input, options, tables) of a job file, with absolute paths, also in `@file`.

    Args:
        path: the job file.
        environ: environment variables for `${NAME}`; None leaves `${NAME}` unchanged, for commands that send nothing.
        tables: names of TOML tables that may exist besides the options of a batch. They are returned unchanged.

    Raises:
        InputError: the file cannot be read, its TOML is not valid (names line and column), a key is unknown (names the
            nearest one), or an environment variable is not set.
    """
    options = _load(path.absolute(), environ, tables, parents=())
    name = options.pop("input", None)
    found_tables = {table: options.pop(table) for table in tables if table in options}
    return name, options, found_tables


def _load(path: Path, environ: Mapping[str, str] | None, tables: Sequence[str], parents: tuple[Path, ...]) -> JsonDict:
    if path in parents:
        raise InputError(f"{path}: the file extends itself through {' and '.join(str(each) for each in parents)}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise InputError(f"{path}: {(exc.strerror or str(exc)).lower()}") from None
    except RecursionError:
        raise InputError(f"{path}: is not valid TOML: nested too deeply") from None
    except ValueError as exc:  # invalid TOML or UTF-8, or an integer of more than 4,300 digits
        raise InputError(f"{path}: is not valid TOML: {exc}") from None
    base = raw.pop("extends", None)
    if not isinstance(raw.get("input", ""), str):
        raise InputError(f"{path}: input: expected the path of a table, got {shortened(raw['input'])}")
    known = {"input", *job_options(), *tables}
    for key in raw:
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}{suggestion(key, known)}")
    own = {key: _resolved(key, value, path, environ) for key, value in raw.items()}
    if base is None:
        return own
    if not isinstance(base, str):
        raise InputError(f"{path}: extends: expected the path of one file, got {shortened(base)}")
    _check_local("extends", base, path)
    return _merged(_load((path.parent / base).resolve(), environ, tables, (*parents, path)), own)


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
        return _expanded(value, path, key, environ)
    _check_local(key, value, path)
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
    if key in PATHS and value != "-":
        return _absolute(value, path)
    if key in TEXT_FILES:
        return _text_file(value, path)
    if key == "schema":
        return _schema(value, path)
    return value


def _check_local(key: str, value: Any, path: Path) -> None:
    """Raise InputError if a key for a local path has a URL, also inside lists and tables."""
    if isinstance(value, list):
        for each in value:
            _check_local(key, each, path)
    elif isinstance(value, dict) and key in ("score", "turns", "matrix"):
        for name, each in value.items():
            _check_local(name, each, path)
    elif isinstance(value, str):
        if key in TEXT_FILES and value.startswith("@"):
            check_local(value[1:], f"{path}: {key}")
        elif key in (*PATHS, *SCORE_PATHS, "extends", "file_search", "schema"):
            check_local(value, f"{path}: {key}")


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


def _expanded(value: Any, path: Path, key: str, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _expanded(each, path, key, environ) for name, each in value.items()}
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        value = environ.expand(match[1], key) if isinstance(environ, Variables) else environ.get(match[1])
        if value is None:
            raise InputError(f"{path}: {key}: environment variable {match[1]} is not set")
        return value

    return _VARIABLE.sub(variable, value)


def job_toml(options: Settings, comments: tuple[str, ...] = ()) -> str:
    """Return the text of a job file with these keys after lines of comments."""
    import tomli_w

    head = "".join(f"# {line}".rstrip() + "\n" for line in comments)
    return head + ("\n" if head else "") + tomli_w.dumps(options, multiline_strings=True)
