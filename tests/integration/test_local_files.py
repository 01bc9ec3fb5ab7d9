"""Local files: URLs are refused wherever a local file is expected, and the output has the input's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest

import batchrun
from batchrun.cli import cli
from batchrun.cli.options import LocalPath
from batchrun.errors import InputError
from batchrun.job.options import job_options
from batchrun.job.validation import make_job
from tests.support.command import batchrun as command

URLS = ("s3://b/out.csv", "gs://b/q.jsonl", "file:///tmp/q.csv", "https://me:secret@h/t.csv", "HDFS://b/x.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text("id,question\na,What is 2 + 2?\n", encoding="utf-8")
    (tmp_path / "job.toml").write_text('input = "q.csv"\noutput = "o.csv"\n', encoding="utf-8")
    return tmp_path


PLACES: list[list[str]] = [
    ["run", "q.csv", "--store", "URL"],
    ["run", "q.csv", "--script", "URL"],
    ["run", "q.csv", "--tools", "URL"],
    ["run", "q.csv", "--schema", "URL"],
    ["run", "q.csv", "--file-search", "URL"],
    ["run", "q.csv", "--prompt", "@URL"],
    ["run", "q.csv", "--prompt", "one", "--prompt", "@URL"],
    ["run", "q.csv", "--instructions", "@URL"],
    ["run", "q.csv", "--score", "exact", "--target", "id", "--junit", "URL"],
    ["run", "q.csv", "--score", "exact", "--target", "id", "--markdown", "URL"],
    ["run", "q.csv", "--score", "exact", "--target", "id", "--no-worse-than", "URL"],
    ["run", "q.csv", "--score", "model-graded", "--grader", "URL"],
    ["list", "URL"],
    ["init", "q.csv", "-o", "URL"],
    ["check", "URL"],
    ["export", "o.csv", "-o", "URL"],
    ["costs", "o.csv", "--prices", "URL"],
    ["run", "q.csv", "--cache", "URL"],
    ["run", "q.csv", "--examples", "URL"],
    ["report", "q.csv", "-o", "URL"],
    ["score", "q.csv", "--scorer", "exact", "-o", "URL"],
    ["score", "q.csv", "--scorer", "exact", "--no-worse-than", "URL"],
    ["score", "q.csv", "--scorer", "exact", "--junit", "URL"],
    ["score", "q.csv", "--scorer", "exact", "--markdown", "URL"],
    ["score", "q.csv", "--scorer", "model-graded", "--grader", "URL"],
    ["compare", "q.csv", "q.csv", "--markdown", "URL"],
    ["convert", "q.csv", "URL"],
    ["convert", "q.csv", "t.csv", "--join", "URL"],
    ["assistants", "export", "asst_1", "-o", "URL"],
    ["assistants", "import", "URL"],
    ["assistants", "import", "q.csv", "-o", "URL"],
    ["serve", "--data", "URL"],
    ["serve", "--script", "URL"],
    ["serve", "--faults", "URL"],
]

TABLES: list[list[str]] = [
    ["run", "URL"],
    ["run", "q.csv", "-o", "URL"],
    ["run", "q.csv", "-o", "URL", "--dry-run"],
    ["init", "URL"],
    ["report", "URL"],
    ["report", "q.csv", "--compare", "URL"],
    ["score", "URL"],
    ["compare", "q.csv", "URL"],
    ["convert", "URL", "t.csv"],
]
"""Places of tables, which may be in object storage or, if they are read, on the web."""
BATCHES: list[list[str]] = [
    ["status", "URL"],
    ["show", "URL", "a"],
    ["export", "URL"],
    ["costs", "URL"],
    ["cleanup", "URL"],
    ["cancel", "URL"],
    ["view", "URL"],
]
"""Places of batches, which are next to their journals."""


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_a_url_is_not_a_local_file(folder: Path, place: list[str]) -> None:
    """In every command and option one line refuses a URL, without its possible secrets; no file is created."""
    for url in URLS:
        done = command(folder, *(word.replace("URL", url) for word in place))
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{url.partition(':')[0]}://… is not a local file; give a path on this machine" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "secret" not in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["job.toml", "q.csv"]


@pytest.mark.parametrize("place", TABLES, ids=" ".join)
def test_a_table_may_be_remote(folder: Path, place: list[str]) -> None:
    """Other schemes and keys in a URL are refused in one line."""
    messages = {
        "HDFS://b/x.parquet": "HDFS:… is not a local file, and not a URL of a table; expected a path, or a URL that begins with",
        "S3://b/q.csv?secret": "s3://, gs://, abfss://",
        "s3:/b/q.csv?secret": "s3:… is not a local file, and not a URL of a table",
        "s3://me:secret@b/q.csv": "contains a user or a key",
    }
    for url, message in messages.items():
        done = command(folder, *(word.replace("URL", url) for word in place))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr
        assert "secret" not in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["job.toml", "q.csv"]


@pytest.mark.parametrize("place", BATCHES, ids=" ".join)
def test_a_batch_is_local(folder: Path, place: list[str]) -> None:
    """A command that works on a batch says which path to give."""
    for url in (*URLS, "https://h/t.csv?k=secret"):
        done = command(folder, *(word.replace("URL", url) for word in place))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        message = (
            "HDFS://… is not a local file"
            if "HDFS" in url
            else "the journal of a batch is on this machine, not at a URL"
        )
        assert message in done.stderr
        assert "secret" not in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["job.toml", "q.csv"]


def test_a_job_file_is_local(folder: Path) -> None:
    """A job file at a URL, and a URL with a key in one, are refused."""
    done = command(folder, "run", "s3://b/job.toml")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "s3://… is not a local file" in done.stderr
    for key in ("input", "output"):
        (folder / "other.toml").write_text(f'{key} = "s3://me:secret@b/q.csv"\n', encoding="utf-8")
        done = command(folder, "run", "other.toml")
        assert (done.returncode, "secret" in done.stderr) == (2, False)
        assert f"other.toml, line 1: {key}: s3://… contains a user or a key; leave it out" in done.stderr


def parameters(command: click.Command, path: str) -> Iterator[tuple[str, click.Parameter]]:
    """Yield all parameters of all commands."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from parameters(each, f"{path} {name}".strip())
    else:
        yield from ((path, parameter) for parameter in command.params)


NOT_PATHS = {"row", "assistant_id"}


def test_every_path_is_looked_at() -> None:
    """Every parameter that is a path refuses URLs, by its type or by the rules of `Job`; this covers new parameters."""
    seen = {
        f"{place[0]} {place[1]}" if place[0] == "assistants" else place[0] for place in (*PLACES, *TABLES, *BATCHES)
    }
    for path, parameter in parameters(cli, ""):
        assert path in seen, path
        ours = isinstance(parameter.type, LocalPath)
        assert ours or not isinstance(parameter.type, click.Path), (path, parameter.name)
        if isinstance(parameter, click.Argument):
            assert ours or parameter.name in NOT_PATHS, (path, parameter.name)
    files = {name for name, (option, _) in job_options().items() if option.path}
    assert files == {"output", "journal", "store", "script", "tools", "schema", "file_search", "examples", "cache"}


@pytest.mark.parametrize(
    "line",
    [
        'journal = "URL"',
        'extends = "URL"',
        'tools = "URL"',
        'store = "URL"',
        'script = "URL"',
        'schema = "URL"',
        'file_search = ["a.md", "URL"]',
        'prompt = "@URL"',
        'prompt = ["{{ question }}", "@URL"]',
        'instructions = "@URL"',
        '[[turns]]\nprompt = "@URL"',
        '[matrix]\nprompt = ["@URL"]',
        '[score]\nscorer = "exact"\noutput = "URL"',
        '[score]\nscorer = "exact"\njunit = "URL"',
        '[score]\nscorer = "exact"\nno_worse_than = "URL"',
        '[score]\nscorer = "model-graded"\ngrader = ["URL"]',
    ],
)
def test_a_url_in_a_job_file(folder: Path, line: str) -> None:
    """The message names the key of a job file that has the URL, before the URL is read as a relative path."""
    (folder / "other.toml").write_text('input = "q.csv"\n' + line.replace("URL", "s3://b/x.toml"), encoding="utf-8")
    for words in (["run", "other.toml"], ["check", "other.toml"], ["run", "other.toml", "--dry-run"]):
        done = command(folder, *words)
        assert done.returncode == 2
        assert "other.toml, line " in done.stderr
        assert "s3://… is not a local file" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_url_from_python(folder: Path) -> None:
    """A Python call refuses the same values, as text and as `Path`."""
    for table in ("HDFS://b/q.csv", Path("s3://b/q.csv"), "s3://b/job.toml"):
        with pytest.raises(InputError, match="not a local file"):
            batchrun.run(table)
    for output, message in (("https://b/o.csv", "is only read"), (Path("s3://b/o.csv"), "not a local file")):
        with pytest.raises(InputError, match=message):
            batchrun.run(folder / "q.csv", output=output)
        with pytest.raises(InputError, match=message):
            batchrun.run(pd.DataFrame({"question": ["1 + 1"]}), output=output)
        with pytest.raises(InputError, match=r"journal: needs output=\.\.\., because it is the journal of an output"):
            batchrun.run(pd.DataFrame({"question": ["1 + 1"]}), journal="a.csv.journal")


def test_other_paths_are_left_alone() -> None:
    """Windows drives, models in a module, dates, and colons in names are local."""
    make_job({"output": "C:/out/{date}.csv", "schema": "forms:Model", "script": "a:b.toml", "store": "./s3:/x"})


# -- the default output --------------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [{"id": "a", "question": "What is 2 + 2?", "truth": ["4", "four"], "more": {"n": 1}}]


def written(folder: Path, name: str) -> Path:
    frame = pd.DataFrame(ROWS)
    path = folder / name
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    elif "json" in name.lower():
        frame.to_json(path, orient="records", lines=True)
    else:
        frame[["id", "question"]].to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    return path


NAMES = ("t.csv", "t.tsv", "t.jsonl", "t.ndjson", "t.parquet", "t.csv.gz", "t.jsonl.gz", "t.JSONL")


@pytest.mark.parametrize("name", NAMES)
def test_the_default_output_has_the_inputs_format(folder: Path, name: str) -> None:
    """The output is in `outputs` under the input's name; every command that accepts the job file finds it there."""
    written(folder, name)
    done = command(folder, "run", name)
    assert done.returncode == 0, done.stderr
    assert f"written: outputs/{name}" in done.stderr.splitlines()
    assert (folder / "outputs" / name).is_file()
    (folder / "own.toml").write_text(f'input = "{name}"\n', encoding="utf-8")
    for words in (["status", "own.toml"], ["export", "own.toml"], ["check", "own.toml"]):
        found = command(folder, *words)
        assert (found.returncode, f"outputs/{name}" in found.stdout + found.stderr) == (0, True), words


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_lists_stay_lists(folder: Path, name: str) -> None:
    """A later `score` reads lists in cells as they were in the input."""
    written(folder, name)
    assert command(folder, "run", name).returncode == 0
    path = folder / "outputs" / name
    frame = pd.read_parquet(path) if name.endswith("parquet") else pd.read_json(path, lines=True)
    assert (list(frame["truth"][0]), dict(frame["more"][0])) == (["4", "four"], {"n": 1})
    done = command(folder, "score", f"outputs/{name}", "--scorer", "includes", "--target", "truth", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"][0]["mean"] == 1.0


def test_standard_input_is_csv(folder: Path) -> None:
    """Standard input is read as CSV, and its output is CSV."""
    assert command(folder, "run", "-", stdin="question\n1 + 1\n").returncode == 0
    assert (folder / "outputs" / "stdin.csv").is_file()


def test_a_batch_under_the_earlier_name_continues(folder: Path) -> None:
    """If an earlier version began outputs/NAME.csv for this table, that batch continues, with a notice."""
    written(folder, "t.jsonl")
    assert command(folder, "run", "t.jsonl", "-o", "outputs/t.csv").returncode == 0
    again = command(folder, "run", "t.jsonl", "--json")
    facts = again.facts()
    assert (facts["output"], facts["finished_before"]) == ("outputs/t.csv", 1)
    told = command(folder, "run", "t.jsonl").stderr
    assert "outputs/t.csv: an earlier batch over this table resumes here" in told
    assert "outputs/t.jsonl" in told
    for words in (["run", "t.jsonl", "--dry-run"],):
        assert "an earlier batch over this table resumes" in command(folder, *words).stdout
    (folder / "own.toml").write_text('input = "t.jsonl"\n', encoding="utf-8")
    assert "an earlier batch" in command(folder, "check", "own.toml").stdout
    assert command(folder, "status", "own.toml").returncode == 0
    assert not (folder / "outputs" / "t.jsonl").exists()
    assert command(folder, "run", "t.jsonl", "--fresh").returncode == 0
    assert (folder / "outputs" / "t.jsonl").is_file()
    assert "an earlier batch" not in command(folder, "run", "t.jsonl").stderr


def test_python_continues_under_the_earlier_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python the notice is a warning."""
    monkeypatch.chdir(folder)
    written(folder, "t.jsonl")
    batchrun.run("t.jsonl", output="outputs/t.csv")
    with pytest.warns(RuntimeWarning, match="an earlier batch over this table resumes here"):
        batchrun.run("t.jsonl")


def test_the_output_of_another_table_is_left_alone(folder: Path) -> None:
    """A batch over t.csv is not one over t.jsonl: each has its own output."""
    written(folder, "t.csv")
    written(folder, "t.jsonl")
    for name in ("t.csv", "t.jsonl"):
        done = command(folder, "run", name)
        assert done.returncode == 0
        assert f"written: outputs/{name}" in done.stderr.splitlines()
