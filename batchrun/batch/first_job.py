"""The first job file for a table: what most people set, or every option, with comments and examples."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from batchrun.batch.column_roles import ColumnRoles, column_roles
from batchrun.errors import InputError, OutputError
from batchrun.job.job_option import JobOption
from batchrun.job.options import job_options
from batchrun.shell_hint import quoted
from batchrun.tables import ReadOptions, Source, WriteOptions
from batchrun.wording import clipped, visible_line

__all__ = ["first_job", "key_help", "write_new"]

WIDTH = 100
_SHOWN_COLUMNS = 12
_SHOWN_CHARS = 40


def first_job(source: Source, input_name: str, read: ReadOptions, job_name: str, *, every_option: bool = False) -> str:
    """Return the text of a job file that runs as it is; the other options are comments with an example.

    Args:
        source: the table, which is read once.
        input_name: path of the table relative to the job file.
        read: options that the table needs to be read.
        job_name: path of the job file, for the commands in its header.
        every_option: add all options, section by section.

    Raises:
        InputError: the table cannot be read, or a name in it cannot be written to a file.
    """
    try:
        input_name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{input_name!r}: the name is not valid Unicode, so a job file cannot hold it") from None
    roles = column_roles(source)
    lines = [*_header(source.columns, input_name, job_name, every_option=every_option)]
    lines += _basic_lines(source, input_name, read, roles)
    if every_option:
        lines += _further_options(shown={line.removeprefix("# ").partition(" = ")[0] for line in lines})
    return "\n".join([*lines, *_score_lines(roles)]) + "\n"


def _header(columns: Sequence[str], input_name: str, job_name: str, *, every_option: bool) -> Iterator[str]:
    commands = [(f"check {quoted(job_name)}", "shows what would be sent, and sends nothing")]
    commands.append((f"run {quoted(job_name)}", "runs the rows; the same command again runs what is missing"))
    if not every_option:
        commands.append(("init TABLE --all -o FILE.toml", "writes a file with every option"))
    width = max(len(command) for command, _ in commands)
    names = [_shown(name) for name in columns[:_SHOWN_COLUMNS]]
    if more := len(columns) - len(names):
        names.append(f"and {more:,} more")
    yield f"# A batch over {_shown(input_name)}, with one request for each row:"
    for command, effect in commands:
        yield f"#   batchrun {command.ljust(width)}  {effect}"
    yield "# Paths are relative to this file. Lines with # are off: to use one, change its value and remove the #."
    yield from _comment(f"Columns: {', '.join(names)}")


def _basic_lines(source: Source, input_name: str, read: ReadOptions, roles: ColumnRoles) -> Iterator[str]:
    """Yield what most people set."""
    yield ""
    yield f"input = {_toml(input_name)}"
    for each in fields(read):
        value = getattr(read, each.name)
        if value is not None and value is not False:
            yield f"{each.name} = {_toml(value)}"
    if prefix := _prefix(source.columns):
        yield "# The table has a column with the name of an output column, so the output columns get a prefix."
        yield f"output_prefix = {_toml(prefix)}"
    yield f"{_example('output')}  # .csv, .xlsx, .jsonl, .parquet; default: outputs/ and the name of the input"
    if roles.messages is not None and roles.messages.has_texts:
        asked = visible_line(roles.messages.name)
        yield from ("", f"# Without a prompt, the column {asked} is asked: its texts, and its conversations as such")
        yield f"# prompt = {_toml(roles.template)}"
    elif roles.messages is not None:
        yield from ("", "# Column with the conversations")
        yield f"messages = {_toml(roles.messages.name)}"
    else:
        yield from ("", '# Template over the columns of a row, or "@FILE"')
        yield f"prompt = {_toml(roles.template)}"
    yield _example("instructions")
    yield from (
        "",
        "# Column that identifies rows, so that the table can be edited between runs; default: the position",
    )
    key = _toml(roles.key or roles.possible_key or "id")
    yield f"key = {key}" if roles.key is not None else f"# key = {key}"
    yield from ("", *_NO_MODEL)
    yield from map(_example, ("model", "base_url", "temperature", "max_completion_tokens"))
    yield from ("", "# Limits: rows at once, requests and tokens per minute, US dollars for the whole batch")
    yield from map(_example, ("concurrency", "rpm", "tpm", "budget"))


_NO_MODEL = (
    "# Without a model, BATCHRUN_MODEL of the environment names it. With neither of them, no key (OPENAI_API_KEY)",
    "# and no base URL, the embedded tutor answers offline; it is not a language model.",
)


def _further_options(shown: set[str]) -> Iterator[str]:
    """Yield the options that are not shown yet, by section."""
    section = None
    for name, (option, _) in job_options().items():
        if name in shown:
            continue
        if option.section != section:
            section = option.section
            yield from ("", f"# -- {section.lower()} --")
        yield from _comment(key_help(name))
        yield _example(name)


def _score_lines(roles: ColumnRoles) -> Iterator[str]:
    """Yield the table `[score]`, if a column looks like an expected answer. TOML wants tables after all other keys."""
    if roles.target is None:
        return
    yield from ("", "# Score the answers against an expected answer when the batch has ended:")
    yield "# [score]"
    yield f"# scorer = {_toml(roles.scorer)}"
    yield f"# target = {_toml(roles.target)}"


def _prefix(columns: Sequence[str]) -> str:
    """Return a prefix for the output columns; empty if the table has no column of their names."""
    if not set(columns) & set(WriteOptions().added_columns):
        return ""
    candidates = ("answer_", *(f"answer{number}_" for number in range(2, len(columns) + 3)))
    return next(each for each in candidates if not any(name.startswith(each) for name in columns))


# -- the texts of keys ------------------------------------------------------------------------------------------


def key_help(name: str) -> str:
    """Return the help text of an option as a key of a job file.

    >>> key_help("stream")
    'Stream replies (responses and chat; assistants always stream unless poll is true)'
    """
    text = _TEXTS.get(name) or job_options()[name][0].help.replace(" (job file and Python only)", "")
    return _FLAG.sub(lambda flag: flag[1].replace("-", "_"), text)


_FLAG = re.compile(r"`?--([a-z][a-z-]*)`?")

_TEXTS: Mapping[str, str] = {
    "prompt": 'Template over the columns of a row, "@FILE", or a list of them for several turns in one thread. '
    "Default: the column `prompt` or `question`, or the only column",
    "turns": "All turns, in place of `prompt`, each with a `prompt` and an optional condition `when`",
    "messages": "Column with conversations, in place of `prompt`: lists of messages with `role` and `content`, or with "
    "`from` and `value`. Default: `messages` or `conversations`, in a table without `prompt` and `question`",
    "instructions": 'Instructions for the model, or "@FILE"; may be a template over the row\'s columns',
    "model": "Model name at the service, or a list of names to run every row with each. `tutor` answers offline. "
    "Default: environment variable BATCHRUN_MODEL",
    "keep": "Columns to add for parts of each reply: citations, reasoning, service_tier, logprobs or raw (the whole "
    "reply as JSON). Default: citations, reasoning and service_tier if an answer has them",
    "attach": "Columns with the path or URL of a file or image to attach to the prompt",
    "file_search": "Files that the model may search: paths, folders or patterns. Each file is uploaded once",
    "api": "API to use: assistants, responses or chat. Default: responses with a key, or with batch_api; chat with a "
    "base URL and no key; assistants with `assistant`, or offline",
    "stream": "Stream replies (responses and chat; assistants always stream unless poll is true)",
    "param": "Additional model parameters; texts in them may be templates over the row's columns",
    "header": "HTTP headers to send with every request. `${NAME}` is replaced by an environment variable",
    "query": "Query parameters to add to every request. `${NAME}` is replaced by an environment variable",
    "row_timeout": "Timeout of a row in seconds, not counting waits for limits. Default: 600; 1,800 with "
    "service_tier flex in param; 3,600 with background",
}
"""Texts of keys that differ from those of the flags in more than the names of options."""

_EXAMPLES: Mapping[str, Any] = {
    "output": "outputs/{date}.csv",
    "journal": "work/answers.csv.journal",
    "encoding": "cp1252",
    "delimiter": ";",
    "skip_rows": 2,
    "format": "csv",
    "sheet": "Sheet1",
    "output_delimiter": ";",
    "key": "id",
    "where": "lang == 'de'",
    "sample": 200,
    "seed": 1,
    "limit": 100,
    "keep": ["reasoning", "raw"],
    "prompt": "{{ question }}",
    "turns": [{"prompt": "{{ question }}"}, {"prompt": "Say it shorter.", "when": "responses[0] | length > 200"}],
    "messages": "messages",
    "examples": "examples.csv",
    "instructions": "Answer in one sentence.",
    "model": "NAME",
    "fallback_model": "OTHER",
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
    "assistant": "asst_ID",
    "organization": "org-ID",
    "project": "proj_ID",
    "api_version": "VERSION",
    "param": {"seed": 7},
    "header": {"X-Team": "${TEAM}"},
    "query": {"team": "${TEAM}"},
    "temperature": 0.2,
    "top_p": 0.9,
    "max_completion_tokens": 500,
    "concurrency": 50,
    "ray": "auto",
    "rpm": 500,
    "tpm": 200_000,
    "row_timeout": 600.0,
    "budget": 5.0,
    "cache": "answers.cache",
    "batch_deadline": "6h",
    "max_age": "7d",
    "ping": "${PING_URL}",
    "prices": {"NAME": {"input": 0.5, "output": 2.0}},
    "response_format": {"type": "json_object"},
    "functions": [],
}
"""Example values of options whose default is nothing."""


def _example(name: str) -> str:
    """Return the commented line of an option: an example, or its default."""
    option, default = job_options()[name]
    return f"# {name} = {_toml(_example_value(name, option, default))}"


def _example_value(name: str, option: JobOption, default: Any) -> Any:
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    if default is False:
        return True
    if default is not None:
        return default
    return {"NAME": "VALUE"} if option.pairs is not None else "..."


# -- text -------------------------------------------------------------------------------------------------------


def _toml(value: Any) -> str:
    """Return a TOML value on one line. JSON strings are TOML strings, except for the delete character."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shown(name: str) -> str:
    """Return a name for a comment, on one line and not too long."""
    return visible_line(_toml(clipped(name, _SHOWN_CHARS)))


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False):
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
        raise OutputError(f"{path} already exists: choose another name with --output, or delete it") from None
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({(exc.strerror or str(exc)).lower()})") from None
