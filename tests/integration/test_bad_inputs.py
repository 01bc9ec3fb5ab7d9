"""Invalid inputs of every command: one clear line and exit code 2, no traceback, no secret, no file changed.

Every input that once led to a traceback, a hang or a success gets a line in the table.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

import batchrun as package
from batchrun.cli import cli
from batchrun.errors import BatchrunError
from batchrun.job.job_option import JobOption
from batchrun.job.options import job_options
from batchrun.job.validation import make_job
from batchrun.scoring.score_options import ScoreOptions
from tests.integration.reliability.processes import COMMAND
from tests.integration.reliability.processes import batchrun as process
from tests.support.command import batchrun

SECRET = "sk-planted-0123456789"
FILES = {
    "q.csv": "id,question,answer\na,1+1,2\nb,2+2,4\n",
    "job.toml": 'input = "q.csv"\n',
    "tools.py": 'def f(x: int) -> int:\n    """Doc."""\n    return x\n',
    "scored.csv": "id,question,answer,response\na,1+1,2,2\n",
    "asst.json": '{"model": "m"}',
}
DEEP = "[" * 100_000
LONG = "x" * 100_000

SCORE = ("score", "scored.csv", "--scorer", "includes", "--target", "answer")
RUN = ("run", "q.csv", "--dry-run")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refused(folder: Path, *arguments: str, exit_code: int = 2, **environment: str) -> str:
    """Run a command, check that it refuses its input, and return its message."""
    before = contents(folder)
    done = batchrun(folder, *arguments, **environment)
    assert done.returncode == exit_code, (done.returncode, done.stderr[-500:])
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith(("batchrun: ", "Error: ")), lines
    assert len([line for line in lines if not line.startswith(("Usage: ", "Try "))]) <= 2, lines
    assert len(done.stderr) < 6_000
    assert SECRET not in done.stderr
    assert contents(folder) == before
    return lines[-1]


LINES: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    # (command line, words in the message)
    # absurd sizes
    ((*RUN, "--epochs", "100000000"), ("--epochs", "at most 10,000")),
    ((*RUN, "--pilot", "1000000000000"), ("--pilot",)),
    ((*RUN, "--concurrency", "1000000000"), ("--concurrency", "at most 100,000")),
    ((*RUN, "--max-attempts", "1000000000"), ("--max-attempts", "at most")),
    ((*RUN, "--grace", "1e300"), ("--grace", "at most 604,800")),
    ((*RUN, "--row-timeout", "1e300"), ("--row-timeout", "at most 604,800")),
    ((*RUN, "--tool-timeout", "1e300"), ("--tool-timeout", "at most")),
    ((*RUN, "--silence-timeout", "1e300"), ("--silence-timeout", "at most")),
    ((*RUN, "--max-completion-tokens", "9" * 400), ("--max-completion-tokens", "at most")),
    ((*RUN, "--max-completion-tokens", "9" * 5_000), ("--max-completion-tokens",)),
    ((*RUN, "--rpm", "1e400"), ("--rpm",)),
    ((*RUN, "--budget", "nan"), ("--budget",)),
    ((*RUN, "--max-age", "99999999999d"), ("--max-age", "36500d")),
    ((*RUN, "--max-age", "d"), ("--max-age",)),
    ((*RUN, "--max-age", "١d"), ("--max-age",)),
    # paths
    ((*RUN, "-o", ""), ("--output",)),
    ((*RUN, "-o", LONG + ".csv"), ("--output", "too long")),
    ((*RUN, "-o", "{nope}.csv"), ("--output", "{nope}", "{date}")),
    ((*RUN, "--tools", LONG), ("--tools", "too long")),
    ((*RUN, "--file-search", ""), ("--file-search",)),
    ((*RUN, "--schema", "x" * 300 + ".json"), ("--schema", "too long")),
    ((*RUN, "--prompt", "@"), ("--prompt @",)),
    ((*RUN, "--prompt", "@" + LONG), ("--prompt @", "too long")),
    ((*RUN, "--prompt", "\udc80"), ("--prompt", "Unicode")),
    ((*RUN, "--instructions", "\udc80"), ("--instructions", "Unicode")),
    ((*RUN, "--param", f"a={DEEP}"), ("--param", "nested too deeply")),
    ((*RUN, "--param", "model=gpt-4o"), ("param: model", "use --model")),
    ((*RUN, "--param", "messages=[]"), ("param: messages", "use --messages")),
    ((*RUN, "--param", "input=hi"), ("param: input", "use --prompt")),
    ((*RUN, "--param", "stream=true"), ("param: stream", "use --stream")),
    ((*RUN, "--param", "background=true"), ("param: background", "use --background")),
    ((*RUN, "--param", "previous_response_id=r"), ("param: previous_response_id", "use --thread-column")),
    ((*RUN, "--param", "n=2"), ("param: n ", "use --epochs")),
    # URLs
    ((*RUN, "--base-url", "http://host:18302:/v1"), ("--base-url",)),
    ((*RUN, "--base-url", "http://host:/v1"), ("--base-url",)),
    ((*RUN, "--base-url", "http://host:99999/v1"), ("--base-url",)),
    ((*RUN, "--base-url", "http://[::1"), ("--base-url",)),
    ((*RUN, "--base-url", "http://"), ("--base-url",)),
    ((*RUN, "--base-url", "http://a b/v1"), ("--base-url",)),
    ((*RUN, "--base-url", f"http://me:{SECRET}@host/v1"), ("--base-url", "user or password")),
    (("assistants", "export", "asst_1", "--base-url", f"http://me:{SECRET}@h/v1"), ("--base-url", "password")),
    (("assistants", "export", "asst_1", "--base-url", "http://[::1"), ("--base-url",)),
    (("assistants", "export", "asst_1", "--base-url", "http://h:1:/v1"), ("--base-url",)),
    (("serve", "--upstream", f"http://me:{SECRET}@h/v1"), ("password",)),
    (("serve", "--upstream", "http://[::1"), ("upstream",)),
    (("run", "q.csv", "--ping", f"http://[{SECRET}"), ("--ping",)),
    # secrets
    ((*RUN, "--header", f"Authorization: Bearer {SECRET}"), ("--header",)),
    ((*RUN, "--query", SECRET), ("--query",)),
    # outputs that are read
    *(
        ((command, name, *rest), ())
        for command, *rest in (
            ("status",), ("export",), ("costs",), ("show", "0"), ("cleanup", "--dry-run"), ("report",),
            ("view", "--no-browser"),
        )
        for name in ("", "/", ".", "missing.csv", "q.csv/x", LONG, "missing.toml", "x\udc80.csv")
    ),
    *(
        ((command, name, *rest), ())
        for command, *rest in (("init",), ("check",), ("run", "--dry-run"), ("convert", "out.jsonl"), SCORE[:1] + SCORE[2:],
                               ("compare", "scored.csv", *SCORE[2:]))
        for name in ("", "/", ".", "missing.csv", "q.csv/x", LONG)
    ),
    # bars
    *(((*SCORE, "--fail-under", value), ("--fail-under",)) for value in ("nan", "inf", "-1", "1.5", "half", "")),
    *(((*SCORE, "--no-worse-than", "q.csv", "--margin", value), ("--margin",)) for value in ("nan", "inf", "-0.1")),
    *(((*RUN, "--score", "includes", "--target", "answer", "--fail-under", value), ("--fail-under",))
      for value in ("nan", "-inf", "2")),
    (("compare", "scored.csv", "scored.csv", *SCORE[2:], "--detect", "nan"), ("--detect",)),
    # files that are written
    *(((*SCORE, flag, ""), ()) for flag in ("-o", "--junit", "--markdown")),
    (("report", "scored.csv", "-o", ""), ("-o",)),
    (("export", "scored.csv", "-o", ""), ("--to",)),
    (("assistants", "import", "asst.json", "-o", ""), ("-o",)),
    (("convert", "q.csv", ""), ()),
]  # fmt: skip


def _named(arguments: tuple[str, ...]) -> str:
    return " ".join(word[:30] for word in arguments).encode("ascii", "backslashreplace").decode()


@pytest.mark.parametrize(("arguments", "words"), LINES, ids=[_named(arguments) for arguments, _ in LINES])
def test_a_bad_command_line(folder: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """An invalid value on the command line is refused in one line that names the option, and nothing is written."""
    message = refused(folder, *arguments)
    for word in words:
        assert word in message


NUMBERS = [
    (name, option)
    for name, (option, _) in job_options().items()
    if option.at_least is not None or option.above is not None
]


@pytest.mark.parametrize(("name", "option"), NUMBERS, ids=[name for name, _ in NUMBERS])
def test_every_number_has_both_bounds(folder: Path, name: str, option: JobOption) -> None:
    """Each numeric option refuses values that are not numbers, too small or too large."""
    assert option.at_most is not None
    for value in ("nan", "inf", "-inf", "-1", "1e400", "9" * 30, "9" * 5_000, "", "many", "1,000"):
        message = refused(folder, *RUN, f"--{name.replace('_', '-')}={value}")
        assert f"--{name.replace('_', '-')}: " in message


PATH_OPTIONS = [
    (command, parameter.opts[-1])
    for command in ("costs", "report", "score", "compare", "init", "export", "serve")
    for parameter in cli.commands[command].params
    if isinstance(parameter, click.Option) and isinstance(parameter.type, click.Path)
]
BEGINNINGS = {
    "costs": ("costs", "scored.csv"),
    "report": ("report", "scored.csv"),
    "score": (*SCORE, "--fail-under", "0.5"),
    "compare": ("compare", "scored.csv", "scored.csv", *SCORE[2:]),
    "init": ("init", "q.csv"),
    "export": ("export", "scored.csv"),
    "serve": ("serve", "--port", "0"),
}


@pytest.mark.parametrize(("command", "flag"), PATH_OPTIONS)
def test_every_path_is_one(folder: Path, command: str, flag: str) -> None:
    """Each option for a path refuses an empty path and one that no file can have."""
    for value in ("", "a\0b", LONG):
        message = refused(folder, *BEGINNINGS[command], flag, value)
        assert flag in message


TOML = {
    "int": "5", "float": "1.5", "nan": "nan", "bool": "true", "empty list": "[]", "list": "[1]", "lists": "[[[1]]]",
    "table": "{a = 1}", "date": "1979-05-27", "time": "07:32:00", "empty": '""', "nul": '"\\u0000"', "big": "1" + "0" * 30,
    "deep": "[" * 3_000 + "]" * 3_000, "digits": "9" * 5_000, "secret": f'"{SECRET}"', "secrets": f'["{SECRET}"]',
}  # fmt: skip


SHARE = 4
"""One in so many of the TOML types is tested with a key each time, and all of them in the nightly run."""


def some_types(name: str) -> dict[str, str]:
    """Return the types that are tested with a key: different ones with the next key; a secret always."""
    return {
        kind: value
        for place, (kind, value) in enumerate(TOML.items(), sum(name.encode()))
        if place % SHARE == 0 or kind.startswith("secret")
    }


JOB_KEYS = ["input", "extends", "nope", "score", "grader", *job_options()]
SCORE_KEYS = [each.name for each in fields(ScoreOptions)]


@pytest.mark.parametrize("name", JOB_KEYS)
def test_a_job_file_with_some_types(folder: Path, name: str) -> None:
    """Each key of a job file accepts or refuses a value of another TOML type; a secret value is never shown."""
    check_key(folder, name, some_types(name))


@pytest.mark.nightly
@pytest.mark.parametrize("name", JOB_KEYS)
def test_a_job_file_with_every_type(folder: Path, name: str) -> None:
    """The same with a value of each TOML type."""
    check_key(folder, name, TOML)


def check_key(folder: Path, name: str, values: Mapping[str, str]) -> None:
    secret = name in job_options() and job_options()[name][0].secret
    for kind, value in values.items():
        if kind.startswith("secret") and not secret:
            continue
        head = "" if name == "input" else 'input = "q.csv"\n'
        (folder / "j.toml").write_text(f"{head}{name} = {value}\n", encoding="utf-8")
        before = contents(folder)
        done = batchrun(folder, "check", "j.toml")
        assert done.returncode in (0, 2), (kind, done.stderr[-500:])
        assert "Traceback" not in done.stderr, kind
        assert SECRET not in done.stderr + done.stdout, kind
        assert contents(folder) == before, kind
        if done.returncode == 2:
            assert done.stderr.startswith("batchrun: "), kind
            assert done.stderr.count("\n") == 1, kind


@pytest.mark.parametrize("name", SCORE_KEYS)
def test_a_score_table_with_some_types(folder: Path, name: str) -> None:
    """Each key of [score] accepts or refuses a value of another TOML type."""
    check_score_key(folder, name, some_types(name))


@pytest.mark.nightly
@pytest.mark.parametrize("name", SCORE_KEYS)
def test_a_score_table_with_every_type(folder: Path, name: str) -> None:
    """The same with a value of each TOML type."""
    check_score_key(folder, name, TOML)


def check_score_key(folder: Path, name: str, values: Mapping[str, str]) -> None:
    rest = {"scorer": '"includes"', "target": '"answer"'}
    for kind, value in values.items():
        lines = "\n".join(f"{key} = {text}" for key, text in {**rest, name: value}.items())
        (folder / "j.toml").write_text(f'input = "q.csv"\n[score]\n{lines}\n', encoding="utf-8")
        done = batchrun(folder, "check", "j.toml")
        assert done.returncode in (0, 2), (kind, done.stderr[-500:])
        assert "Traceback" not in done.stderr, kind
        assert done.stderr.count("\n") <= 1, kind


class Odd:
    """An object that no option accepts."""


PYTHON: list[Any] = [
    None, True, 5, -5, 10**5_000, float("nan"), float("inf"), "", "\0", "\ud800", b"bytes", [], [None], [[]], {}, {1: 2},
    {"a": None}, {"a": {"b": Odd()}}, {1, 2}, Odd(), Odd, Path("x" * 300), lambda: 1, SECRET, [SECRET], {SECRET: 5},
    [f"Authorization: Bearer {SECRET}"],
]  # fmt: skip


@pytest.mark.parametrize("name", ["nope", *job_options()])
def test_python_with_every_type(name: str) -> None:
    """Each Python option accepts a value of each type or raises a batchrun error; no secret is shown."""
    secret = name in job_options() and job_options()[name][0].secret
    for value in PYTHON:
        message = ""
        try:
            make_job({name: value})
        except BatchrunError as exc:
            message = str(exc)
        assert "\n" not in message
        assert len(message) < 2_000
        assert not secret or SECRET not in message


@pytest.mark.parametrize("table", [None, 5, b"q.csv", [1], {"a": 1}, "", ".", "a\0b", Odd()])
def test_what_is_not_a_table(table: Any) -> None:
    """Python refuses a table that is neither a path nor a DataFrame."""
    with pytest.raises((BatchrunError, TypeError)):
        package.run(table)


PRICES = ["-1", "nan", "inf", '"free"', "[]", "true"]


@pytest.mark.parametrize("price", PRICES)
def test_invalid_prices(folder: Path, price: str) -> None:
    """`run`, `check` and `costs` refuse a price that is not a number of at least 0."""
    text = f'input = "q.csv"\n[prices."m"]\ninput = {price}\noutput = 1\n'
    (folder / "j.toml").write_text(text, encoding="utf-8")
    if price == "true":
        return
    for arguments in (("check", "j.toml"), ("run", "j.toml"), ("costs", "scored.csv", "--prices", "j.toml")):
        assert "prices" in refused(folder, *arguments)


@pytest.mark.parametrize("ending", ["\n", "\r\n", " ", "\t", "é"])
def test_a_key_with_a_line_end(folder: Path, ending: str) -> None:
    """A key that no header can contain is refused by the name of its variable, and is not shown."""
    for arguments in (("run", "q.csv", "--model", "m"), (*RUN, "--model", "m")):
        message = refused(folder, *arguments, OPENAI_API_KEY=SECRET + ending)
        assert "OPENAI_API_KEY" in message


ASSISTANTS = [
    "null", "[]", "5", '{"model": null}', '{"model": "m", "tools": 5}', '{"model": "m", "tools": [null]}',
    '{"model": "m", "tools": [{"type": null}]}', '{"model": "m", "tools": [{"type": "function"}]}',
    '{"model": "m", "tools": [{"type": "function", "function": null}]}', '{"model": "m", "instructions": 5}',
    '{"model": "m", "tool_resources": []}', '{"model": "m", "tool_resources": {"file_search": 5}}',
    '{"model": "m", "tools": [{"type": "file_search"}], "tool_resources": {"file_search": {"vector_store_ids": 5}}}',
    '{"model": "m", "metadata": 5}', DEEP, '{"model": "m", "tools": ' + "[" * 500 + "]" * 500 + "}",
    '{"model": "m", "response_format": ' + '{"a":' * 500 + "1" + "}" * 501, "{", "", "\0",
]  # fmt: skip


@pytest.mark.parametrize("text", ASSISTANTS, ids=[text[:40].replace("\0", "nul") for text in ASSISTANTS])
def test_what_is_not_an_assistant(folder: Path, text: str) -> None:
    """`assistants import` refuses JSON that the API never returns, and names the file."""
    (folder / "a.json").write_text(text, encoding="utf-8")
    assert "a.json" in refused(folder, "assistants", "import", "a.json")


READ = {
    "job": (("check", "FILE.toml"), "FILE.toml"),
    "base": (("check", "extending.toml"), "FILE.toml"),
    "table": ((*RUN[:1], "FILE.csv", "--dry-run"), "FILE.csv"),
    "lines": ((*RUN[:1], "FILE.jsonl", "--dry-run"), "FILE.jsonl"),
    "gzipped": ((*RUN[:1], "FILE.csv.gz", "--dry-run"), "FILE.csv.gz"),
    "parquet": ((*RUN[:1], "FILE.parquet", "--dry-run"), "FILE.parquet"),
    "schema": ((*RUN, "--schema", "FILE.json"), "FILE.json"),
    "model": ((*RUN, "--schema", "FILE.py:Model"), "FILE.py"),
    "tools": ((*RUN, "--tools", "FILE.py"), "FILE.py"),
    "prompt": ((*RUN, "--prompt", "@FILE.txt"), "FILE.txt"),
    "assistant": (("assistants", "import", "FILE.json"), "FILE.json"),
    "prices": (("costs", "scored.csv", "--prices", "FILE.toml"), "FILE.toml"),
    "grader": ((*SCORE[:2], "--scorer", "model-graded", "--grader", "FILE.toml"), "FILE.toml"),
    "baseline": ((*SCORE, "--key", "id", "--no-worse-than", "FILE.csv"), "FILE.csv"),
    "scored": (("score", "FILE.csv", *SCORE[2:]), "FILE.csv"),
    "rules": (("serve", "--script", "FILE.toml"), "FILE.toml"),
    "faults": (("serve", "--faults", "FILE.toml"), "FILE.toml"),
    "converted": (("convert", "FILE.csv", "out.jsonl"), "FILE.csv"),
    "evals": (("convert", "FILE.jsonl", "out.csv", "--from", "openai-evals"), "FILE.jsonl"),
    "results": (("convert", "FILE.jsonl", "out.csv", "--from", "batch-results"), "FILE.jsonl"),
}
CONTENTS: dict[str, bytes | None] = {
    "missing": None,
    "binary": bytes(range(256)) * 8,
    "no UTF-8": b"caf\xe9 = 1\n",
    "deep": b"a = " + b"[" * 50_000,
    "deep JSON": b"[" * 50_000,
    "one huge line": b"{" + b"x" * 1_000_000,
    "nul": b"\0" * 10,
}


@pytest.mark.parametrize("what", READ)
def test_every_file_that_is_read(folder: Path, what: str) -> None:
    """Each file that a command reads may be missing, a folder, binary or deeply nested: one line names it."""
    arguments, name = READ[what]
    (folder / "extending.toml").write_text('extends = "FILE.toml"\ninput = "q.csv"\n')
    for kind, content in CONTENTS.items():
        if what == "prompt" and kind not in ("missing", "binary", "no UTF-8"):
            continue  # any text is a prompt
        if content is not None:
            (folder / name).write_bytes(content)
        message = refused(folder, *arguments)
        assert name.partition(".")[0] in message, kind
    (folder / name).unlink()
    (folder / name).mkdir()
    assert name in refused(folder, *arguments)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused(folder: Path) -> None:
    """A table that is a named pipe without a writer is refused at once."""
    os.mkfifo(folder / "FILE.csv")
    done = batchrun(folder, "run", "FILE.csv", "--dry-run")
    assert (done.returncode, "not a regular file" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n" * 1_000, bytes(range(256)) * 64], ids=["emptied", "text", "binary"]
)
def test_damaged_journals(folder: Path, content: bytes) -> None:
    """Every command that reads a journal refuses one that is empty or not a journal, and names it."""
    assert batchrun(folder, "run", "q.csv", "-o", "out.csv").returncode == 0
    for ending in ("-wal", "-shm"):
        (folder / f"out.csv.journal{ending}").unlink(missing_ok=True)
    (folder / "out.csv.journal").write_bytes(content)
    for command, *rest in (
        ("run", "q.csv", "--quiet", "-o"), ("status",), ("costs",), ("export",), ("report",), ("view",), ("cleanup",), ("show",),
    ):  # fmt: skip
        arguments = (command, *rest, "out.csv", *(["0"] if command == "show" else []))
        assert "out.csv.journal" in refused(folder, *arguments)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps the working directory of a process")
@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_working_directory_that_was_removed(tmp_path: Path, name: str) -> None:
    """Every command says it in one line, whatever its arguments are."""
    program = f"import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); {COMMAND}"
    with process(tmp_path, name, tmp_path / "a.csv", program=program) as done:
        assert done.wait() == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("batchrun: the working directory cannot be used (No such file or directory); change to")
