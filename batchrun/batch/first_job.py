"""The first job file for a table: its prompt uses the table's columns, and every option is shown in a comment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from batchrun.errors import OutputError
from batchrun.job.job_option import JobOption
from batchrun.job.options import job_options
from batchrun.prompts.placeholders import default_template, placeholder_of

__all__ = ["first_job", "write_new"]

WIDTH = 100


def first_job(input_name: str, columns: Sequence[str], *, no_header: bool = False) -> str:
    """Return the text of a job file that runs as it is; each further option is a comment with an example.

    Args:
        input_name: path of the table, as the file shows it.
        no_header: the first line of the table is a row.
    """
    lines = [
        f"# A batch over {_toml(input_name)}: batchrun run THIS_FILE",
        f"# Columns: {', '.join(_toml(name) for name in columns)}",
        "# Paths are relative to this file. Commented lines show examples; defaults apply until you uncomment them.",
        "",
        f"input = {_toml(input_name)}",
        *(["no_header = true"] if no_header else []),
        f"prompt = {_toml(_template(columns))}",
    ]
    section = None
    for name, (option, default) in job_options().items():
        if name == "prompt" or (name == "no_header" and no_header):
            continue
        if option.section != section:
            section = option.section
            lines += ["", f"# -- {section.lower()} --"]
        lines += [*_wrapped(option.help), f"# {name} = {_example(name, option, default)}"]
    return "\n".join(lines) + "\n"


def _template(columns: Sequence[str]) -> str:
    return default_template(columns) or "\n".join(f"{name}: {placeholder_of(name)}" for name in columns)


_EXAMPLES = {
    "output": "outputs/{date}.csv",
    "encoding": "cp1252",
    "delimiter": ";",
    "key": "id",
    "turns": [{"prompt": "{{ question }}"}, {"prompt": "Say it shorter.", "when": "responses[0] | length > 200"}],
    "instructions": "Answer in one sentence.",
    "model": "NAME",
    "thread_column": "thread_id",
    "attach": ["file"],
    "schema": "schema.json",
    "matrix": {"model": ["NAME", "OTHER"], "temperature": [0, 1]},
    "tools": "tools.py",
    "file_search": ["docs/**/*.md"],
    "script": "script.toml",
    "store": "threads.store",
    "api": "responses",
    "base_url": "http://127.0.0.1:8000/v1",
    "temperature": 0.2,
    "top_p": 0.9,
    "max_completion_tokens": 500,
    "concurrency": 50,
    "rpm": 500,
    "tpm": 200_000,
    "row_timeout": 600.0,
    "budget": 5.0,
    "max_age": "7d",
    "ping": "${PING_URL}",
    "prices": {"NAME": {"input": 0.5, "output": 2.0}},
    "response_format": {"type": "json_object"},
    "functions": [],
}
"""Example values of options whose default is nothing."""


def _example(name: str, option: JobOption, default: Any) -> str:
    if name in _EXAMPLES:
        return _toml(_EXAMPLES[name])
    if default is not None:
        return _toml(default)
    if option.pairs is not None:
        return "{ NAME = 'VALUE' }"
    return '"..."'


def _toml(value: Any) -> str:
    """Return a TOML value on one line. JSON strings are TOML strings, except for the delete character."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _wrapped(text: str) -> Iterator[str]:
    import textwrap

    for line in textwrap.wrap(text, WIDTH):
        yield f"# {line}"


def write_new(path: Path, text: str) -> None:
    """Write a new file.

    Raises:
        OutputError: the file exists already, or cannot be written.
    """
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OutputError(f"{path} already exists: choose another name or delete it") from None
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({(exc.strerror or str(exc)).lower()})") from None
