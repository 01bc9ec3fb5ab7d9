"""Answers graded by a model from Python: the same batch of a judge, from a file, from memory and in a running loop."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pandas as pd
import pytest

import batchrun
from batchrun.errors import GradingStopped
from batchrun.server import EmbeddedServer, ServerSettings
from tests.integration.test_grading import Bench, Judge, answers, compared, prefers, two_tables

GRADED: dict[str, Any] = {"scorer": "model-graded", "target": "truth", "grader": "strict.toml"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    """A judge, its job file, 30 answers in a file, and a folder for temporary files."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHRUN_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    judge = Judge()
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), judge) as server:
        # The judge's own files are elsewhere.
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        bench = Bench(tmp_path, server.url, judge)
        bench.table(answers(30))
        bench.grader()
        yield bench


def frame() -> pd.DataFrame:
    """Return the table of the file, in memory."""
    return pd.read_csv("a.csv", keep_default_na=False)


def test_a_file_is_graded_as_by_the_command(bench: Bench) -> None:
    """The figures and the verdicts are those of the command; nothing is graded twice, whoever asks first."""
    scores = batchrun.score("a.csv", **GRADED)
    assert len(bench.judge.asked) == 27
    wanted = bench.score("--grader", "strict.toml")
    assert len(bench.judge.asked) == 27
    assert json.loads(json.dumps(scores.facts()["scores"])) == wanted["scores"]
    [grader] = scores.graders
    assert (grader.requests, grader.asked, grader.read) == (27, 27, 27)
    assert "grader strict · 27 verdicts" in scores.summary()


def test_a_table_in_memory_leaves_no_verdicts(bench: Bench) -> None:
    """Without `output` the verdicts are deleted after the call, and no report names their file."""
    scores = batchrun.score(frame(), **GRADED)
    assert (scores.n, scores.failed) == (27, 3)
    assert scores.to_frame()["score_model-graded"].tolist()[0] == 0.0
    assert scores.graders[0].table is None
    assert list((bench.folder / "temporary").iterdir()) == []


def test_verdicts_are_kept_next_to_the_output(bench: Bench) -> None:
    """With `output` the second call grades nothing again."""
    for _ in range(2):
        scores = batchrun.score(frame(), **GRADED, output="scored.csv")
    assert len(bench.judge.asked) == 27
    assert scores.graders[0].asked == 0
    assert Path("scored.csv.grader-strict.csv").exists()


def test_a_grader_in_a_notebook(bench: Bench) -> None:
    """Where an event loop is running already, as in a notebook, graders run in a thread."""

    async def main() -> float | None:
        scores: batchrun.Scores = batchrun.score(frame(), **GRADED)
        return scores.mean

    assert anyio.run(main) == pytest.approx(18 / 27)


def test_two_tables_in_memory_are_compared(bench: Bench) -> None:
    """Each table is graded, and the verdicts exist only while the call runs."""
    right = frame()
    right["response"] = [
        f"{truth} Yes." if given == "nonsense" else given
        for truth, given in zip(right["truth"], right["response"], strict=True)
    ]
    comparison = batchrun.compare(frame(), right, key="question", **GRADED)
    assert comparison.scores["B"]["model-graded"].mean == 1.0
    assert comparison.difference == pytest.approx(9 / 27)
    assert len(comparison.better) == 9
    assert list((bench.folder / "temporary").iterdir()) == []


def test_a_judge_prefers_one_of_two_answers(bench: Bench) -> None:
    """The figures are those of the command and of its verdicts; those on tables in memory are deleted after the call."""
    bench.judge.say = prefers("good")
    two_tables(bench)
    [wanted] = compared(bench, "--judge", "strict.toml")["judged"]
    found = batchrun.compare("a.csv", "b.csv", judge="strict.toml", key="question")
    [facts] = json.loads(json.dumps(found.facts()))["judged"]
    assert facts | {"judge": None} == wanted | {"judge": None}
    assert found.results[0].report.asked == 0
    assert (found.wins, found.ties, found.losses, found.win_rate) == (2, 2, 2, 0.5)
    assert (found.better, found.worse, found.unanswered, found.unshared) == (("q0", "q1"), ("q2", "q6"), 1, 1)
    assert found.interval == (wanted["win_rate"]["low"], wanted["win_rate"]["high"])
    assert (found.flipped.mean, found.longer.mean) == (wanted["flipped"]["mean"], 1)
    assert str(found).startswith("judge strict: b.csv against a.csv, 6 pairs")
    assert "<li>2 pairs won: q0, q1</li>" in found._repr_html_()
    assert repr(found) == "<JudgedComparison: b.csv against a.csv: 2 won, 2 tied, 2 lost>"
    tables = [pd.read_csv(name, keep_default_na=False) for name in ("a.csv", "b.csv")]
    again = batchrun.compare(*tables, judge="strict.toml", key="question", names=["before", "after"])
    assert (again.tables, again.wins, again.results[0].report.table) == (("before", "after"), 2, None)
    rows = [("q", "m1", "x"), ("q", "m2", "good")]
    parts = pd.DataFrame(rows, columns=["question", "model", "response"], index=["one", "two"])
    assert batchrun.compare(parts, split="model", judge="strict.toml").better == ("one",)
    assert list((bench.folder / "temporary").iterdir()) == []


def test_an_estimate_of_grading(bench: Bench) -> None:
    """`dry_run=True` has the figures of the command's dry run; nothing is sent, and a missing key is named."""
    estimate = batchrun.score(frame(), **GRADED, dry_run=True)
    [wanted] = bench.score("--grader", "strict.toml", "--dry-run")["graders"]
    [facts] = estimate.facts()["graders"]
    assert {**facts, "table": ""} == {**wanted, "table": ""}
    assert (estimate.requests, estimate.to_send, estimate.problems) == (27, 27, [])
    assert (estimate.cost_usd, estimate.prompt_tokens) == (wanted["cost_usd"], wanted["prompt_tokens"])
    assert repr(estimate).startswith("<ScoringEstimate: grader strict for ")
    assert "27 requests, 27 to send" in estimate._repr_html_()
    judged = batchrun.compare("a.csv", frame(), judge="m", key="question", dry_run=True)
    assert judged.to_send == 27  # equal answers give the same request in both orders
    assert [line.split(" (")[0] for line in judged.problems] == ["judge m: no API key"]
    assert bench.judge.asked == []


def test_a_grader_that_stops_keeps_its_verdicts(bench: Bench) -> None:
    """A spent budget is one line with the exit code, and a note names the output with which the call continues."""
    limits = "concurrency = 1\nmax_completion_tokens = 20\n"
    bench.grader(f"budget = 0.002\n{limits}")
    with pytest.raises(GradingStopped, match=r"^grader strict stopped: ") as raised:
        batchrun.score(frame(), **GRADED)
    assert raised.value.exit_code == 4
    [note] = raised.value.__notes__
    output = note.split("'")[1]
    asked = len(bench.judge.asked)
    assert 0 < asked < 27
    bench.grader(f"budget = 1\n{limits}")
    scores = batchrun.score(frame(), **GRADED, output=output)
    assert (scores.n, len(bench.judge.asked)) == (27, 27)


def test_a_judge_that_stops(bench: Bench) -> None:
    """`compare` has no `output`, so that the note names files as the way to continue."""
    bench.judge.say = lambda prompt: "GRADE: TIE"
    bench.grader("budget = 0.002\nconcurrency = 1\nmax_completion_tokens = 20\n")
    with pytest.raises(GradingStopped, match=r"^grader strict stopped: ") as raised:
        batchrun.compare(frame(), frame(), judge="strict.toml", key="question")
    assert raised.value.__notes__ == [
        "verdicts on tables that are files are kept next to them, so that the same call continues"
    ]


def test_a_batch_and_its_grader_share_the_service(bench: Bench) -> None:
    """`run` with `grader_model` asks the batch's own service, which here answers everything like a judge."""
    rows = pd.DataFrame({"question": ["one", "two"], "truth": ["x", "y"]})
    bench.judge.say = lambda prompt: "GRADE: C"
    scores = batchrun.run(
        rows,
        prompt="{{ question }}",
        model="m",
        base_url=bench.url,
        score="model-graded",
        target="truth",
        grader_model="m",
    )
    assert (scores.mean, scores.n) == (1.0, 2)
    assert len(bench.judge.asked) == 4
