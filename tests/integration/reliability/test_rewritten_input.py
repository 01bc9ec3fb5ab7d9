"""An input that is rewritten while its batch runs: new prompts are pending, answered rows are kept."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

import batchrun as package
from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from tests.support.chat import chat_reply
from tests.support.command import Result, batchrun
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

ROWS = 6
ORIGINAL = pandas.DataFrame({"id": [f"r{row}" for row in range(ROWS)], "question": [f"q{row}" for row in range(ROWS)]})
FORMATS = ["q.csv", "q.jsonl", "q.parquet", "q.csv.gz"]


def written(path: Path, frame: pandas.DataFrame) -> None:
    """Write over the existing file, as most programs do."""
    if path.name.endswith(".jsonl"):
        text = frame.to_json(orient="records", lines=True)
    elif path.name.endswith(".parquet"):
        frame.to_parquet(path)
        return
    else:
        text = frame.to_csv(index=False, sep="\t" if path.name.endswith(".tsv") else ",")
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)


def edited(row: int) -> pandas.DataFrame:
    frame = ORIGINAL.copy()
    frame.loc[row, "question"] = "something else"
    return frame


def longer() -> pandas.DataFrame:
    return pandas.concat([ORIGINAL, pandas.DataFrame({"id": ["new"], "question": ["qn"]})])


class Bench:
    """A folder with an input, and a service that changes the input during its second answer."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.input = folder, folder / name
        self.asked: list[str] = []
        self.change: Callable[[], None] | None = None
        written(self.input, ORIGINAL)

    def serve(self, request: Request) -> Answer:
        self.asked.append(request.body["messages"][-1]["content"])
        if len(self.asked) == 2 and self.change is not None:
            self.change()
        return json_answer(chat_reply(f"answer {self.asked[-1]}", id=f"chatcmpl-{len(self.asked)}"))

    def run(self, url: str, *options: str, stdin: str = "", source: str | None = None) -> Result:
        fixed = ("--base-url", url, "--api", "chat", "--model", "m", "--concurrency", "1", "--prompt", "{{ question }}")
        name = source if source is not None else self.input.name
        return batchrun(self.folder, "run", name, "-o", "a.csv", *fixed, *options, stdin=stdin)

    def output(self) -> list[tuple[str, str]]:
        frame = pandas.read_csv(self.folder / "a.csv", keep_default_na=False)
        return list(zip(frame.iloc[:, 1], frame["status"], strict=True))


CHANGES: dict[str, tuple[Callable[[], pandas.DataFrame], list[tuple[str, str]]]] = {
    "a later row": (lambda: edited(4), [(f"q{row}", "completed") for row in range(2)]),
    "an answered row": (lambda: edited(0), [("something else", "pending"), ("q1", "completed")]),
    "fewer rows": (lambda: ORIGINAL.head(4), [(f"q{row}", "completed") for row in range(2)]),
    "more rows": (longer, [(f"q{row}", "completed") for row in range(2)]),
    "other columns": (
        lambda: ORIGINAL.rename(columns={"question": "asked"}),
        [(f"q{row}", "pending") for row in range(ROWS)],
    ),
}


@pytest.mark.parametrize(("name", "key"), [*((name, False) for name in FORMATS), ("q.tsv", True)])
@pytest.mark.parametrize("change", CHANGES)
def test_a_rewritten_input(tmp_path: Path, name: str, change: str, key: bool) -> None:
    """The output is written with the current rows; rows that were not sent as they are now are pending; exit code 3."""
    bench = Bench(tmp_path, name)
    make, first = CHANGES[change]
    bench.change = lambda: written(bench.input, make())
    options = ["--key", "id"] if key else []
    with ScriptedHttp(bench.serve) as server:
        result = bench.run(server.url, *options)
    assert result.returncode == 3, result.stderr
    assert "the input changed while the batch ran" in result.stderr
    assert "Traceback" not in result.stderr
    found = bench.output()
    assert found[: len(first)] == first
    assert len(found) == len(make())
    assert {status for _, status in found[2:]} <= {"pending", "completed"}
    assert found[-1][1] == "pending"
    assert len(bench.asked) <= 3, "rows that nobody has checked are not asked"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("how", ["deleted", "emptied", "garbage", "cut", "a folder"])
def test_an_input_that_cannot_be_read_any_more(tmp_path: Path, name: str, how: str) -> None:
    """One line reports it and the answers are kept; after the input is restored, the same command runs only the rest."""
    bench = Bench(tmp_path, name)
    before = bench.input.read_bytes()

    def change() -> None:
        if how in ("deleted", "a folder"):
            bench.input.unlink()
            if how == "a folder":
                bench.input.mkdir()
        else:
            bench.input.write_bytes({"emptied": b"", "garbage": b"\xff\xfe\x00,\x00\n\xd8", "cut": before[:9]}[how])

    bench.change = change
    with ScriptedHttp(bench.serve) as server:
        result = bench.run(server.url)
        assert "Traceback" not in result.stderr
        if result.returncode == 2:
            assert "the input changed while the batch ran, and cannot be used now" in result.stderr
            assert "holds the answers" in result.stderr
        else:  # the rest of the file may still be a table
            assert result.returncode == 3, result.stderr
            assert "the input changed while the batch ran" in result.stderr
        if how == "a folder":
            bench.input.rmdir()
        bench.input.write_bytes(before)
        bench.change = None
        assert bench.run(server.url).returncode == 0
    assert bench.output() == [(f"q{row}", "completed") for row in range(ROWS)]
    assert sorted(bench.asked) == sorted(ORIGINAL["question"])


def test_a_replaced_file_counts_as_rewritten(tmp_path: Path) -> None:
    """A program that writes a new file and renames it over the input changes the input too."""
    bench = Bench(tmp_path, "q.csv")

    def change() -> None:
        written(tmp_path / "beside.csv", edited(4))
        (tmp_path / "beside.csv").replace(bench.input)

    bench.change = change
    with ScriptedHttp(bench.serve) as server:
        assert bench.run(server.url).returncode == 3
    assert bench.output()[4] == ("something else", "pending")


def test_a_touched_file_has_not_changed(tmp_path: Path) -> None:
    """The same content with another time, or written again, is the same input."""
    bench = Bench(tmp_path, "q.csv")

    def change() -> None:
        written(bench.input, ORIGINAL)
        os.utime(bench.input, (1, 1))

    bench.change = change
    with ScriptedHttp(bench.serve) as server:
        assert bench.run(server.url).returncode == 0
    assert len(bench.asked) == ROWS


def test_a_pilot_notices_it_too(tmp_path: Path) -> None:
    """A pilot sends no row of an input that has changed since its rows were chosen."""
    bench = Bench(tmp_path, "q.csv")
    bench.change = lambda: written(bench.input, edited(4))
    with ScriptedHttp(bench.serve) as server:
        result = bench.run(server.url, "--pilot", "5")
    assert result.returncode == 3, result.stderr
    assert "changed while" in result.stderr
    assert len(bench.asked) <= 3  # one row may have been read before the change


@pytest.mark.anyio
@pytest.mark.parametrize("change", ["fewer rows", "more rows", "deleted"])
async def test_an_input_that_changes_before_the_first_request(tmp_path: Path, change: str) -> None:
    """If the input changes between the check of its rows and the batch, nothing is sent, and one line says why."""
    bench = Bench(tmp_path, "q.csv")
    with ScriptedHttp(bench.serve) as server:
        job, environment = Job(model="m", base_url=server.url, prompt="{{ question }}"), Environment(api_key="test")
        plan = make_plan(job, bench.input, environment, tmp_path / "a.csv")
        if change == "deleted":
            bench.input.unlink()
        else:
            written(bench.input, CHANGES[change][0]())
        with pytest.raises(
            InputError, match=r"q\.csv: changed while its rows were checked; run the same command again"
        ):
            await run_batch(plan, environment)
    assert bench.asked == []
    assert not (tmp_path / "a.csv").exists()


def test_the_copy_of_standard_input(tmp_path: Path) -> None:
    """A copy of standard input that another program rewrites is a changed input."""
    bench = Bench(tmp_path, "q.csv")
    copy = tmp_path / "a.csv.input.csv"
    bench.change = lambda: written(copy, edited(4))
    with ScriptedHttp(bench.serve) as server:
        result = bench.run(server.url, stdin=ORIGINAL.to_csv(index=False), source="-")
    assert result.returncode == 3, result.stderr
    assert bench.output()[4] == ("something else", "pending")


@pytest.mark.parametrize("change", ["other columns", "deleted"])
def test_python_says_it_too(tmp_path: Path, change: str) -> None:
    """A call from Python raises an error of batchrun, or returns pending rows."""
    bench = Bench(tmp_path, "q.csv")
    bench.change = bench.input.unlink if change == "deleted" else lambda: written(bench.input, CHANGES[change][0]())
    options: dict[str, Any] = {"api": "chat", "model": "m", "concurrency": 1, "prompt": "{{ question }}"}
    with ScriptedHttp(bench.serve) as server, pytest.raises(InputError, match="changed while"):
        package.run(bench.input, base_url=server.url, output=tmp_path / "a.csv", **options)
