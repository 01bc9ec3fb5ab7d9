"""`batchrun.run` with `score`, `dry_run` and `pilot`: what the command does with the flags of these names."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pandas as pd
import pytest

import batchrun
from batchrun.api.scored_run import ScoringOptions
from batchrun.errors import InputError
from batchrun.scoring.score_options import score_options
from tests.support.command import batchrun as command
from tests.support.rows import read_csv

PROMPT = "{{ question }}"
TUTOR: dict[str, Any] = {"prompt": PROMPT, "model": "tutor"}


def questions(rows: int = 8) -> pd.DataFrame:
    """Return sums, of which the expected answer of the last one is wrong."""
    truth = [2 * row for row in range(rows - 1)] + [-1]
    return pd.DataFrame(
        {
            "id": range(rows),
            "question": [f"{row} + {row}" for row in range(rows)],
            "topic": ["a", "b"] * (rows // 2),
            "truth": truth,
        }
    )


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with the questions as a file, a folder for temporary files, and no key."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHRUN_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    questions().to_csv("q.csv", index=False)
    return tmp_path


def test_the_scores_of_a_table_in_memory(folder: Path) -> None:
    """`score` gives the figures, and the answers with their scores; no file is left."""
    scores = batchrun.run(questions(), **TUTOR, score="numeric", target="truth", by="topic", fail_under=0.9)
    assert isinstance(scores, batchrun.Scores)
    assert (scores.mean, scores.n, scores.passed) == (7 / 8, 8, False)
    assert scores.groups["topic"]["b"].mean == 0.75
    assert scores.to_frame()["score_numeric"].tolist() == [1.0] * 7 + [0.0]
    assert scores.to_frame()["response"].tolist()[1] == "1 + 1 = 2."
    assert list((folder / "temporary").iterdir()) == []


def test_a_path_gives_the_files_of_the_command(folder: Path) -> None:
    """With a path the output and the scored table are written, and the figures are those of `run --score`."""
    options = ("--score", "numeric", "--target", "truth", "--by", "topic", "--json")
    done = command(folder, "run", "q.csv", "--prompt", PROMPT, "--model", "tutor", "-o", "wanted.csv", *options)
    wanted = json.loads(done.stdout.splitlines()[-1])
    found = batchrun.run("q.csv", **TUTOR, output="found.csv", score="numeric", target="truth", by="topic")
    assert {"event": "score", **found.facts(), "table": "wanted.csv", "output": "wanted.scored.csv"} == wanted
    assert found.output == Path("found.scored.csv")
    files = [read_csv(folder / f"{name}.scored.csv") for name in ("wanted", "found")]
    own = ("id", "question", "truth", "response", "status", "model", "score_numeric", "score_numeric_read")
    assert [[row[name] for name in own] for row in files[0]] == [[row[name] for name in own] for row in files[1]]
    assert files[0][0].keys() == files[1][0].keys()


def test_the_scored_table_keeps_other_scorers(folder: Path) -> None:
    """A second run with another scorer keeps the first one's scores in the scored table, as the command does."""
    for scorer in ("numeric", "includes"):
        batchrun.run("q.csv", **TUTOR, output="out.csv", score=scorer, target="truth")
    [first, *_] = read_csv(folder / "out.scored.csv")
    assert (first["score_numeric"], first["score_includes"]) == ("1.0", "1.0")


def test_scores_from_async_code() -> None:
    """`arun` scores too, and so does a call inside a running event loop, as in a notebook."""

    async def main() -> list[float | None]:
        return [
            (await batchrun.arun(questions(), **TUTOR, score="numeric", target="truth")).mean,
            batchrun.run(questions(), **TUTOR, score="numeric", target="truth").mean,
        ]

    assert anyio.run(main) == [7 / 8, 7 / 8]


def test_the_job_files_scoring(folder: Path) -> None:
    """`score=` is used over the job file's `[score]`; without it a warning names the table that is not used."""
    Path("job.toml").write_text(
        f'input = "q.csv"\nmodel = "tutor"\nprompt = "{PROMPT}"\noutput = "out.csv"\n'
        '[score]\nscorer = "exact"\ntarget = "truth"\nfail_under = 0.99\n'
    )
    scores = batchrun.run("job.toml", score=lambda answer, target: str(target) in answer)
    assert (scores.passed, scores.mean) == (False, 7 / 8)
    with pytest.warns(RuntimeWarning, match=r"^job\.toml: its table \[score\] is not used"):
        assert isinstance(batchrun.run("job.toml"), pd.DataFrame)


def test_a_baseline_in_memory() -> None:
    """`no_worse_than` may be the table of an earlier call."""
    before = batchrun.run(questions(), **TUTOR, key="id")
    scores = batchrun.run(
        questions(), **TUTOR, key="id", score="numeric", target="truth", no_worse_than=before.assign(response="-1")
    )
    assert scores.passed
    assert "no worse than no_worse_than" in scores.bars[0].name


def test_problems_are_found_before_a_row_is_sent() -> None:
    """A wrong column of scoring stops the call before the batch: no outcome arrives."""
    seen: list[batchrun.Outcome] = []
    with pytest.raises(InputError, match=r"^target nope: data has no such column"):
        batchrun.run(questions(), **TUTOR, score="numeric", target="nope", on_outcome=seen.append)
    assert seen == []


def test_a_dry_run_is_that_of_the_command(folder: Path) -> None:
    """`dry_run=True` estimates what `run --dry-run` estimates, for a path and in memory, and leaves nothing."""
    options = ("--prompt", PROMPT, "--model", "gpt-4.1", "--dry-run", "--json")
    wanted = json.loads(command(folder, "run", "q.csv", *options).stdout)
    for data in ("q.csv", questions()):
        estimate = batchrun.run(data, prompt=PROMPT, model="gpt-4.1", dry_run=True)
        assert estimate.facts() == wanted
    assert (estimate.rows, estimate.to_send, estimate.finished_before) == (8, 8, 0)
    assert estimate.cost_usd == wanted["cost_usd"]
    assert estimate.prompt_tokens == wanted["prompt_tokens"]
    assert estimate.time_s > 0
    assert "nothing was sent or written" in str(estimate)
    assert "<li>nothing was sent or written</li>" in estimate._repr_html_()
    assert sorted(path.name for path in folder.iterdir()) == ["q.csv", "temporary"]
    assert list((folder / "temporary").iterdir()) == []


def test_a_dry_run_checks_the_scoring() -> None:
    """A dry run with `score` finds the problems that the batch would have."""
    assert batchrun.run(questions(), **TUTOR, score="numeric", target="truth", dry_run=True).to_send == 8
    with pytest.raises(InputError, match=r"^target nope"):
        batchrun.run(questions(), **TUTOR, score="numeric", target="nope", dry_run=True)


def test_a_dry_run_names_rows_that_cannot_be_sent() -> None:
    """A row whose prompt cannot be made is counted and shown, as on the command line."""
    estimate = batchrun.run(questions(), prompt="{{ 1 / (id - 3) }}", model="tutor", dry_run=True)
    assert estimate.to_send == 7
    assert estimate.problems[0].startswith("row 3: ")


def test_a_pilot_belongs_to_the_batch() -> None:
    """The rows of a pilot are answers of the batch: the same call without it runs the others only."""
    estimate = batchrun.run(questions(), **TUTOR, output="out.csv", pilot=3)
    assert (estimate.rows, estimate.sampled, estimate.output) == (8, 3, Path("out.csv"))
    assert estimate.prompt_tokens is not None
    assert estimate.prompt_tokens.low is not None
    assert estimate.facts()["completed"] == 3
    assert "run the same call without pilot for the rest" in estimate.summary()
    assert not Path("out.csv").exists()
    seen: list[batchrun.Outcome] = []
    answers = batchrun.run(questions(), **TUTOR, output="out.csv", on_outcome=seen.append)
    assert (len(seen), len(answers)) == (5, 8)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"target": "truth"}, "target: is an option of scoring: add score=..., as in score='numeric'"),
    ({"pilot": 3}, "pilot: needs output=..., because without it the rows of the sample would be paid for twice"),
    ({"pilot": 0}, "pilot: expected a number of rows, at least 1, got 0"),
    ({"pilot": "3"}, "pilot: expected a number of rows, at least 1, got '3'"),
    ({"pilot": 3, "dry_run": True}, "dry_run and pilot cannot be combined; give one of them"),
    ({"pilot": 3, "score": "numeric"}, "pilot: a sample is not scored; give score without pilot"),
    (
        {"score": "model-graded", "grader_model": "tutor"},
        "grader_model tutor: the embedded server's tutor cannot grade; name another model",
    ),
    (
        {"score": "numerik"},
        "scorer numerik: unknown scorer 'numerik'; known: exact, ne, includes, starts-with, contains-all, contains-any, regex, numeric, choice, json, fuzzy, f1, rougeL, rouge1, rouge2, rouge3, rouge4, bleu, math, cosine, python, column, model-graded; did you mean 'numeric'?",
    ),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[str(list(options)) for options, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(folder: Path, options: dict[str, Any], message: str) -> None:
    """Options that do not go together give one line, and no temporary folder is left."""
    with pytest.raises(InputError) as raised:
        batchrun.run(questions(), **TUTOR, **options)
    assert str(raised.value) == message
    assert list((folder / "temporary").iterdir()) == []


def test_the_typed_options_are_those_of_the_command() -> None:
    """`run` and `arun` take every scoring option of `run --score` by name, and show them to editors."""
    import inspect

    wanted = {name for name in score_options("run") if name != "scorer"}
    assert set(ScoringOptions.__annotations__) == wanted
    functions: list[Callable[..., Any]] = [batchrun.run, batchrun.arun]
    for function in functions:
        assert {*wanted, "score", "dry_run", "pilot"} <= set(inspect.signature(function).parameters)
    assert not wanted & set(inspect.signature(batchrun.outcomes).parameters)
