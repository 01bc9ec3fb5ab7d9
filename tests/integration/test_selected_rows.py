"""--where, --sample and --limit: the rows that are left out are skipped, count nowhere, and are asked by a later run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

import batchrun
from batchrun.reporting.live_batch import FollowedBatch
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_columns import ScoreColumns
from tests.support.chat import chat_reply
from tests.support.command import Result
from tests.support.command import batchrun as command
from tests.support.rows import noon, read_csv, write_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

GERMAN = ("--where", "lang == 'de'")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six questions, of which the odd ones are German; the third has no text."""
    rows = [
        {"id": str(n), "question": "" if n == 3 else f"{n} + {n}", "lang": "de" if n % 2 else "en", "truth": str(2 * n)}
        for n in range(1, 7)
    ]
    write_csv(tmp_path / "q.csv", rows)
    return tmp_path


def run(folder: Path, *options: str, exit_code: int = 0) -> Result:
    done = command(folder, "run", "q.csv", "-o", "a.csv", "--json", *options)
    assert done.returncode == exit_code, done.stderr
    return done


def statuses(folder: Path) -> str:
    """Return the first letters of the statuses in the output."""
    return "".join(row["status"][0] for row in read_csv(folder / "a.csv"))


def test_left_out_rows_count_nowhere(folder: Path) -> None:
    """Exit code, summary, status, scores, bars and the live page leave skipped rows out of every count."""
    done = run(folder, *GERMAN, "--where", "lang == 'de' and id != '3'")
    assert statuses(folder) == "cssscs"
    facts = done.facts()
    assert (facts["rows"], facts["completed"], facts["pending"], facts["skipped"]) == (2, 2, 0, 4)
    progress = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    assert all((each["rows"], each["done"] <= 2) == (2, True) for each in progress)
    status = command(folder, "status", "a.csv", "--json").facts()
    assert (status["rows"], status["completed"], status["pending"], status["skipped"]) == (2, 2, 0, 4)
    assert "finished" in command(folder, "list", ".").stdout
    scoring = ("--scorer", "numeric", "--target", "truth", "--failed-as", "wrong", "--fail-under", "1")
    scored = command(folder, "score", "a.csv", *scoring, "--by", "lang", "--json")
    assert scored.returncode == 0, scored.stderr
    overall = scored.facts()["scores"][0]
    assert (overall["n"], overall["rows"], overall["failed"], overall["unfinished"]) == (2, 2, 0, 0)
    assert list(overall["groups"]["lang"]) == ["de"]
    with closing(FollowedBatch(folder / "a.csv", noon, ScoringSpec(["numeric"], ScoreColumns(target="truth")))) as page:
        headline = page.news(0, 0)["facts"]["headline"]  # type: ignore[index]
    assert (headline["rows"], headline["by_status"]) == (2, {"completed": 2, "skipped": 4})
    assert "row 1 (line 3 of the input) · skipped" in command(folder, "show", "a.csv", "1").stdout
    (folder / "a.csv").unlink()
    assert command(folder, "export", "a.csv").returncode == 0
    assert statuses(folder) == "cssscs"
    assert batchrun.report(folder / "a.csv").rows == 2


def test_later_runs_continue(folder: Path) -> None:
    """A run with other rows pays for none twice, keeps the answers of those that it leaves out, and asks the rest."""
    run(folder, "--limit", "2")
    assert statuses(folder) == "ccssss"
    second = run(folder, *GERMAN, "--where", "id|int > 4").facts()
    assert statuses(folder) == "ccsscc"
    assert (second["rows"], second["this_run"]["asked"], second["finished_before"]) == (4, 2, 2)
    rest = run(folder, exit_code=3).facts()
    assert statuses(folder) == "ccfccc"
    assert (rest["this_run"]["asked"], rest["failures"]) == (2, {"empty_prompt": 1})
    again = run(folder, "--where", "question != ''").facts()
    assert statuses(folder) == "ccsccc"
    assert (again["rows"], again["this_run"]["asked"], again["skipped"]) == (5, 0, 1)
    status = command(folder, "status", "a.csv", "--json").facts()
    assert (status["rows"], status["failed"], status["failures"], status["skipped"]) == (5, 0, {}, 1)
    assert run(folder, exit_code=3).facts()["failed"] == 1, "the failure is known without another attempt"


def test_a_change_that_is_tried_on_some_rows(folder: Path) -> None:
    """Answers to the prompt as it was before a change, and their tokens, are neither in the output nor in the status,
    also of rows that the run leaves out."""
    run(folder, "--limit", "2")
    changed = ("--prompt", "{{ question }} =", "--accept-changes")
    run(folder, *changed, "--limit", "1")
    assert statuses(folder) == "csssss"
    status = command(folder, "status", "a.csv", "--json").facts()
    assert (status["rows"], status["completed"], status["pending"], status["skipped"]) == (1, 1, 0, 5)
    (answered,) = [row for row in read_csv(folder / "a.csv") if row["status"] == "completed"]
    assert (status["prompt_tokens"], status["completion_tokens"]) == (
        int(answered["prompt_tokens"]),
        int(answered["completion_tokens"]),
    )
    (by_model,) = status["models"].values()
    assert (by_model["rows"], by_model["prompt_tokens"]) == (1, status["prompt_tokens"])


def test_no_row_matches(folder: Path) -> None:
    """A batch of no rows: exit code 0, the good ping, and an output in which all rows are skipped."""
    with ScriptedHttp(lambda _: json_answer({})) as monitor:
        done = run(folder, "--where", "lang == 'fr'", "--ping", monitor.url)
        assert [request.path.rpartition("/")[2] for request in monitor.requests] == ["start", "v1"]
    assert statuses(folder) == "ssssss"
    assert "no row of 6 matches" in done.stderr
    assert done.facts()["rows"] == 0


def test_estimates_are_of_the_selected_rows(folder: Path) -> None:
    """A dry run, `check` and a pilot look at the selected rows alone; the pilot's rows are rows of that selection."""
    (folder / "q.toml").write_text("""input = "q.csv"\noutput = "a.csv"\nwhere = "lang == 'en'"\nlimit = 2\n""")
    dry = command(folder, "run", "q.toml", "--dry-run", "--json").facts()
    assert (dry["rows"], dry["skipped"], dry["to_ask"], dry["unaskable"]) == (2, 4, 2, {})
    assert "2 rows of q.csv · 2 to send · 4 skipped" in command(folder, "check", "q.toml").stdout
    pilot = command(folder, "run", "q.toml", "--pilot", "1", "--json").facts()
    assert (pilot["rows"], pilot["sampled"], pilot["completed"]) == (2, 1, 1)
    status = command(folder, "status", "a.csv", "--json").facts()
    assert (status["rows"], status["pending"], status["skipped"]) == (2, 1, 4)
    assert command(folder, "run", "q.toml").returncode == 0
    assert statuses(folder) == "scscss"


def test_refused_before_anything_is_sent(folder: Path) -> None:
    """A mistyped column, an expression that fails on a row, and a seed without a sample exit with 2 and one line."""
    for options, told in (
        (("--where", "lng == 'de'"), "did you mean 'lang'?"),
        (("--where", "id > 2"), "write id|float > 2"),
        (("--seed", "1"), "--param seed=N"),
        (("--limit", "0"), "--limit: must be at least 1"),
    ):
        done = run(folder, *options, exit_code=2)
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (folder / "a.csv.journal").exists()


def test_standard_input(folder: Path) -> None:
    """Rows from a pipe are selected too, and the same pipe without the options is the rest of the batch."""
    text = (folder / "q.csv").read_text()
    for options, exit_code, answered in ((("--sample", "2", "--where", "question != ''"), 0, 2), ((), 3, 5)):
        done = command(folder, "run", "-", "-o", "a.csv", *options, stdin=text)
        assert done.returncode == exit_code, done.stderr
        assert statuses(folder).count("c") == answered


def test_python() -> None:
    """`where`, `sample` and `limit` select rows of a frame; a warning tells only what is unexpected."""
    frame = pd.DataFrame({"question": ["1 + 1", "2 + 2", "3 + 3"], "size": [1.5, 2.5, None]}, index=list("xyz"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = batchrun.run(frame, model="tutor", where="size != '' and size > 1", limit=1)
    assert answers["status"].to_dict() == {"x": "completed", "y": "skipped", "z": "skipped"}
    with pytest.warns(RuntimeWarning, match="^sample=5: there are only 3, so all of them$"):
        assert set(batchrun.run(frame, model="tutor", sample=5)["status"]) == {"completed"}
    with pytest.warns(RuntimeWarning, match="^where: no row of 3 matches"):
        assert set(batchrun.run(frame, model="tutor", where="size == 7.5 if size else false")["status"]) == {"skipped"}
    with pytest.raises(batchrun.errors.InputError, match=r"^where: no column named 'sise'"):
        batchrun.run(frame, model="tutor", where="sise > 1")
    scores = batchrun.run(frame, model="tutor", prompt="{{ question }}", limit=2, score="numeric", target="size")
    assert scores["numeric"].n == 2


@pytest.fixture
def service() -> Iterator[ScriptedHttp]:
    """A Chat Completions service that says what it was asked."""

    def answer(request: Request) -> Answer:
        return json_answer(chat_reply(request.body["messages"][-1]["content"]))

    with ScriptedHttp(answer) as server:
        yield server


@pytest.mark.parametrize("options", [("--epochs", "2"), ("--model", "n")])
def test_combinations(folder: Path, service: ScriptedHttp, options: tuple[str, ...]) -> None:
    """A selected row of the input is asked in all of its combinations, and the others in none."""
    run(folder, "--base-url", service.url, "--model", "m", *options, "--sample", "2", "--where", "question != ''")
    rows = read_csv(folder / "a.csv")
    by_row: dict[str, set[str]] = {}
    for row in rows:
        by_row.setdefault(row["id"], set()).add(row["status"])
    assert sorted(len(each) for each in by_row.values()) == [1] * 6
    assert list(by_row.values()).count({"completed"}) == 2
    assert len(service.requests) == 4
