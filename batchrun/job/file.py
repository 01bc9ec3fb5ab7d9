"""Job files: every option of a batch in one TOML file, next to the table it is for.

Keys are the options' names with underscores, and `input`. Paths are relative to the file, so that a job means the same
from cron as from a shell. `extends = "base.toml"` takes another file's keys first. `${NAME}` stands for an environment
variable in `base_url`, `header`, `query` and `ping`, and nowhere else: prompts may hold it as text. A table `[score]`
says how the output is to be scored, and a table `[grader]`, in the file of a grader, how its verdicts are read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchrun.errors import InputError
from batchrun.job.option_values import nearest
from batchrun.job.options import job_options
from batchrun.local_paths import check_local
from batchrun.wording import plain_path, shortened

__all__ = ["is_job_file", "job_toml", "load_job_file", "read_job_file", "table_and_options"]

PATHS = ("input", "output", "tools", "store", "script")
SCORE_PATHS = ("output", "no_worse_than", "grader", "junit", "markdown")
TEXT_FILES = ("prompt", "instructions")
FROM_ENVIRONMENT = ("base_url", "header", "query", "ping")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def is_job_file(name: str) -> bool:
    """Whether the argument of `batchrun run` names a job file rather than a table."""
    return name.endswith(".toml")


def load_job_file(path: Path, environ: Mapping[str, str] | None) -> tuple[str | None, dict[str, Any]]:
    """(input, options) of a job file; see `read_job_file`."""
    name, options, _ = read_job_file(path, environ, ("score",))
    return name, options


def table_and_options(
    table: str, given: Mapping[str, Any], environ: Mapping[str, str] | None
) -> tuple[str, Path, dict[str, Any]]:
    """(input, folder of the default output, options): of the job file where `table` names one; `given` wins over it.

    Args:
        environ: as of `read_job_file`.

    Raises:
        InputError: as `read_job_file`; or the file names no input.
    """
    check_local(table, "the table")
    if not is_job_file(table):
        return table, Path(), dict(given)
    name, options = load_job_file(Path(table), environ)
    if name is None:
        raise InputError(f'{table}: names no input: add a line such as input = "questions.csv"')
    return name, Path(table).parent, {**options, **given}


def read_job_file(
    path: Path, environ: Mapping[str, str] | None, tables: Sequence[str]
) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
    """(input, options, tables) of a job file; paths made absolute, `@file` likewise.

    Args:
        environ: what `${NAME}` stands for; None leaves it as it is, for commands that send nothing.
        tables: names of tables that are no options of a batch and may be there; those that are come as they are.

    Raises:
        InputError: the file cannot be read, its TOML is wrong (line and column named), a key is unknown (the nearest
            one named), or a variable is not set.
    """
    options = _load(path.absolute(), environ, tables, seen=())
    name = options.pop("input", None)
    found = {table: options.pop(table) for table in tables if table in options}
    return name, options, found


def _load(
    path: Path, environ: Mapping[str, str] | None, tables: Sequence[str], seen: tuple[Path, ...]
) -> dict[str, Any]:
    if path in seen:
        raise InputError(f"{path}: extends itself, through {' and '.join(str(each) for each in seen)}")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise InputError(f"{path}: {(exc.strerror or str(exc)).lower()}") from None
    except RecursionError:
        raise InputError(f"{path}: is not valid TOML: nested too deeply") from None
    except ValueError as exc:  # of TOML or UTF-8, or an integer of more than 4,300 digits
        raise InputError(f"{path}: is not valid TOML: {exc}") from None
    base = raw.pop("extends", None)
    if not isinstance(raw.get("input", ""), str):
        raise InputError(f"{path}: input: the path of a table is expected, got {shortened(raw['input'])}")
    known = {"input", *job_options(), *tables}
    for key in raw:
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}{nearest(key, known)}")
    own = {key: _resolved(key, value, path, environ) for key, value in raw.items()}
    if base is None:
        return own
    if not isinstance(base, str):
        raise InputError(f"{path}: extends: the path of one file is needed, got {shortened(base)}")
    _check_local("extends", base, path)
    return _merged(_load((path.parent / base).resolve(), environ, tables, (*seen, path)), own)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` over `base`; tables (`param`, `header`, ...) key by key."""
    merged = {**base, **own}
    for key in base.keys() & own.keys():
        if isinstance(base[key], dict) and isinstance(own[key], dict):
            merged[key] = {**base[key], **own[key]}
    return merged


def _resolved(key: str, value: Any, path: Path, environ: Mapping[str, str] | None) -> Any:
    if key in FROM_ENVIRONMENT and environ is not None:
        return _expanded(value, path, key, environ)
    _check_local(key, value, path)
    if key == "score" and isinstance(value, dict):
        return {name: _beside(each, path) if name in SCORE_PATHS else each for name, each in value.items()}
    if key == "file_search":
        return _beside([value] if isinstance(value, str) else value, path)
    if key == "turns" and isinstance(value, list):
        return [_resolved_texts(turn, path) for turn in value]
    if key == "prompt" and isinstance(value, list):
        return [_text_file(text, path) for text in value]
    if key == "matrix" and isinstance(value, dict):
        return _resolved_texts(value, path)
    if not isinstance(value, str):
        return value
    if key in PATHS and value != "-":
        return _beside(value, path)
    if key in TEXT_FILES:
        return _text_file(value, path)
    if key == "schema":
        return _schema(value, path)
    return value


def _check_local(key: str, value: Any, path: Path) -> None:
    """URLs are no paths; what stands in lists and tables is looked at too."""
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
    """`@file` in the texts of a table, alone or in lists."""
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
    """A file beside the job file; a module that is there is named by its file."""
    file, colon, model = value.partition(":")
    if not colon or file.endswith(".py"):
        return f"{path.parent / file}{colon}{model}"
    beside = path.parent / (file.replace(".", "/") + ".py")
    return f"{beside}:{model}" if beside.is_file() else value


def _beside(value: Any, path: Path) -> Any:
    """Paths in a table, made absolute; what is no text is somebody else's to refuse."""
    if isinstance(value, list):
        return [_beside(each, path) for each in value]
    return plain_path(path.parent / value) if isinstance(value, str) else value


def _expanded(value: Any, path: Path, key: str, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _expanded(each, path, key, environ) for name, each in value.items()}
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise InputError(f"{path}: {key}: the environment has no {match[1]}")
        return environ[match[1]]

    return _VARIABLE.sub(variable, value)


def job_toml(options: Mapping[str, Any], comments: tuple[str, ...] = ()) -> str:
    """A job file with these keys, after comment lines."""
    import tomli_w

    head = "".join(f"# {line}".rstrip() + "\n" for line in comments)
    return head + ("\n" if head else "") + tomli_w.dumps(options, multiline_strings=True)
