"""`batchrun report`: the contents of the page, and the messages if there cannot be one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.answers import SCORE, numbered, write
from tests.support.chat import chat_reply
from tests.support.command import batchrun
from tests.support.pages import data_of
from tests.support.scripted_http import ScriptedHttp, json_answer

# -- the command ----------------------------------------------------------------------------------------------


def test_a_report_of_any_table(tmp_path: Path) -> None:
    """A table that batchrun did not write gets a page with its rows, statuses derived from the answers, and the reason
    why there is no more."""
    (tmp_path / "old.csv").write_text("q,said\n1+1,2\n2+2,\n", encoding="utf-8")
    done = batchrun(tmp_path, "report", "old.csv", "--answer", "said")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "written: old.report.html\n")
    data = data_of(tmp_path / "old.report.html")
    assert data["facts"]["headline"]["by_status"] == {"completed": 1, "failed": 1}
    assert [row["c"] for row in data["rows"]] == [["1+1", "2", "completed"], ["2+2", None, "failed"]]
    assert "There is no journal" in data["facts"]["notes"][0]


def test_scores_are_those_of_score(tmp_path: Path) -> None:
    """Figures, intervals and groups are those that `batchrun score --json` prints."""
    write(tmp_path, "a.csv", numbered(6, 2, 1))
    assert batchrun(tmp_path, "report", "a.csv", *SCORE, "--by", "topic", "-o", "a.html").returncode == 0
    scored = batchrun(tmp_path, "score", "a.csv", *SCORE, "--by", "topic", "--json")
    data = data_of(tmp_path / "a.html")
    assert data["facts"]["scores"] == json.loads(scored.stdout)["scores"]
    place = [each["name"] for each in data["columns"]["listed"]].index("score_numeric")
    assert [row["c"][place] for row in data["rows"]] == [1.0] * 6 + [0.0] * 2 + [None]


def test_a_comparison_is_that_of_compare_and_flipped_rows_have_both_answers(tmp_path: Path) -> None:
    """Each flipped row is given by its position, with the answer of the baseline."""
    write(tmp_path, "a.csv", numbered(4, 2))
    write(tmp_path, "b.csv", [*numbered(3, 3)[:5], ("r05", "b", "1", "1")])
    assert batchrun(tmp_path, "report", "b.csv", *SCORE, "--compare", "a.csv", "-o", "b.html").returncode == 0
    compared = json.loads(batchrun(tmp_path, "compare", "a.csv", "b.csv", *SCORE, "--json").stdout)["pairings"][0]
    data = data_of(tmp_path / "b.html")
    pairing = data["facts"]["comparison"]["pairings"][0]
    assert {name: pairing[name] for name in compared} == compared
    assert (pairing["better_rows"], pairing["worse_rows"]) == ([5], [3])
    assert {row["i"]: row["b"]["response"] for row in data["rows"] if "b" in row} == {5: "0", 3: "1"}


def test_keys_are_those_of_the_column_that_names_them(tmp_path: Path) -> None:
    """The id column has the ids, whether the batch or the report names it, and each epoch keeps its key in the batch."""
    (tmp_path / "q.csv").write_text("id,question\nx,1+1\ny,2+3\n", encoding="utf-8")
    batchrun(tmp_path, "run", "q.csv", "-o", "keyed.csv", "--key", "id", "--epochs", "2")
    batchrun(tmp_path, "run", "q.csv", "-o", "numbered.csv")
    batchrun(tmp_path, "report", "keyed.csv", "-o", "keyed.html")
    batchrun(tmp_path, "report", "numbered.csv", "--key", "id", "-o", "numbered.html")
    keyed, numbers = data_of(tmp_path / "keyed.html"), data_of(tmp_path / "numbered.html")
    assert (keyed["columns"]["key"], numbers["columns"]["key"]) == ("id", "id")
    assert [(row["k"], row.get("r")) for row in keyed["rows"]] == [
        ("x", None), ("x", "x|epoch=2"), ("y", None), ("y", "y|epoch=2"),
    ]  # fmt: skip
    assert [(row["k"], row["r"]) for row in numbers["rows"]] == [("x", "0"), ("y", "1")]


def test_a_report_with_its_journal_beside_it(tmp_path: Path) -> None:
    """Prompts, examples, attempts, run ids, the model and the limits come from the journal; a job file identifies the output."""
    (tmp_path / "q.csv").write_text("id,question\nx,1+1\ny,2+3\n", encoding="utf-8")
    (tmp_path / "job.toml").write_text(
        'input = "q.csv"\noutput = "a.csv"\nkey = "id"\nprompt = "Say {{ question }}"\nrpm = 6000\n'
        'examples = "shots.csv"\n'
    )
    (tmp_path / "shots.csv").write_text("question,answer\n2+2,4\n", encoding="utf-8")
    assert batchrun(tmp_path, "run", "job.toml").returncode == 0
    assert batchrun(tmp_path, "report", "job.toml").returncode == 0
    data = data_of(tmp_path / "a.report.html")
    batch = data["facts"]["batch"]
    assert (batch["model"], batch["running"], batch["limits"]["rpm"], data["facts"]["notes"]) == (
        "tutor",
        False,
        6000.0,
        [],
    )
    assert batch["examples"] == [["user", "Say 2+2"], ["assistant", "4"]]
    assert [(row["k"], row["p"], len(row["t"])) for row in data["rows"]] == [("x", "Say 1+1", 1), ("y", "Say 2+3", 1)]
    assert all(row["t"][0][3].startswith("run_") for row in data["rows"])
    assert sum(data["facts"]["sittings"][0]["tries"]) == 2


def test_cool_downs_are_in_the_page(tmp_path: Path) -> None:
    """A 429, and a reply that reports that no requests are left, are both recorded with the duration of the cool-down."""
    (tmp_path / "q.csv").write_text("question\n1+1\n2+0\n3-1\n", encoding="utf-8")
    left = {"limit": "9000", "remaining": "0", "reset": "200ms"}
    answers = [
        json_answer({"error": {"message": "Slow down."}}, 429, retry_after="0.3"),
        json_answer(chat_reply("2"), 200, **{f"x_ratelimit_{name}_requests": value for name, value in left.items()}),
    ]
    with ScriptedHttp(lambda _: answers.pop(0) if answers else json_answer(chat_reply("2"))) as server:
        options = ("--base-url", server.url, "--api", "chat", "--model", "m", "--concurrency", "1")
        assert batchrun(tmp_path, "run", "q.csv", "-o", "a.csv", *options, OPENAI_API_KEY="k").returncode == 0
    assert batchrun(tmp_path, "report", "a.csv").returncode == 0
    (sitting,) = data_of(tmp_path / "a.report.html")["facts"]["sittings"]
    assert [why for _, _, why in sitting["cool_downs"]] == ["rate_limit_exceeded", "no requests left"]
    assert [until - began for began, until, _ in sitting["cool_downs"]] == pytest.approx([0.3, 0.2], abs=0.1)


def test_an_edited_input_costs_the_prompts_and_nothing_else(tmp_path: Path) -> None:
    """If the input is gone or longer than the table, the page says so and shows the table."""
    source = tmp_path / "q.csv"
    source.write_text("question\n1+1\n", encoding="utf-8")
    assert batchrun(tmp_path, "run", "q.csv", "-o", "a.csv").returncode == 0
    for change, note in ((lambda: source.write_text("question\n1+1\n2+2\n"), "its input 2"), (source.unlink, "q.csv")):
        change()
        assert batchrun(tmp_path, "report", "a.csv").returncode == 0
        data = data_of(tmp_path / "a.report.html")
        assert note in data["facts"]["notes"][0]
        assert len(data["rows"]) == 1
        assert "t" not in data["rows"][0]


def test_a_page_may_hold_fewer_rows_than_the_table(tmp_path: Path) -> None:
    """Failed rows are included before others, in the table's order; figures cover all rows."""
    write(tmp_path, "a.csv", [*numbered(5, 0), ("r9", "a", "1", ""), *numbered(2, 0)])
    assert batchrun(tmp_path, "report", "a.csv", "--rows", "3", "-o", "a.html").returncode == 0
    data = data_of(tmp_path / "a.html")
    assert [row["i"] for row in data["rows"]] == [0, 1, 5]
    assert data["facts"]["headline"]["rows"] == 8


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("none.csv",), "none.csv"),
        (("a.csv", "--target", "truth"), "--target: is an option of scoring: add --scorer"),
        (("a.csv", "--compare", "b.csv", "--scorer", "exact", "--target", "truth"), "--compare: pairs rows by id, not by position; name their id column with --key"),
        (("a.csv", "--scorer", "exact", "--target", "nope"), "--target nope: a.csv has no such column"),
        (("a.csv", "--answer", "nope"), "--answer nope"),
        (("a.csv", "-o", "a.csv"), "--output 'a.csv': expected a name that ends in .html, since the output is a page"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    """An error gives exit code 2, one line, and no page."""
    write(tmp_path, "a.csv", numbered(1, 1))
    done = batchrun(tmp_path, "report", *arguments)
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*.html"))


def test_a_batch_without_a_table_yet_is_shown_another_way(tmp_path: Path) -> None:
    """If there is only a journal, the message names the commands that help."""
    (tmp_path / "q.csv").write_text("question\n1+1\n", encoding="utf-8")
    assert batchrun(tmp_path, "run", "q.csv", "-o", "a.csv").returncode == 0
    (tmp_path / "a.csv").unlink()
    done = batchrun(tmp_path, "report", "a.csv")
    assert done.returncode == 2
    assert "batchrun export a.csv" in done.stderr
    assert "batchrun view a.csv" in done.stderr
