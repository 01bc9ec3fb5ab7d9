"""Tables that change between runs: answers follow their rows, and none is joined to another question."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.journal import Journal
from tests.support.command import Result, batchrun
from tests.support.rows import read_csv, write_csv


def run(folder: Path, *arguments: str) -> Result:
    """`batchrun run q.csv` in `folder`, on the embedded server."""
    return batchrun(folder, "run", "q.csv", *arguments)


def answers(folder: Path) -> list[tuple[str, str, str]]:
    """Return (id, response, run_id) of the output, in its order."""
    return [(row["id"], row["response"], row["run_id"]) for row in read_csv(folder / "outputs" / "q.csv")]


def table(folder: Path, **questions: str) -> None:
    write_csv(folder / "q.csv", [{"id": key, "question": text} for key, text in questions.items()])


def runs_made(folder: Path) -> int:
    """Return the runs that the journal knows, over all runs of the batch."""
    with Journal(folder / "outputs" / "q.csv.journal", read_only=True) as journal:
        keys = {"a", "b", "c", "d", "0", "1", "2", "3"}
        return len({each["run_id"] for key in keys for each in journal.attempts(key)})


def test_rows_are_found_again_by_key(tmp_path: Path) -> None:
    """Rows added, removed, reordered and changed: the output follows the new input, and valid answers are kept."""
    table(tmp_path, a="1+1", b="2+2", c="3+3")
    assert run(tmp_path, "--key", "id").returncode == 0
    before = {key: (response, run_id) for key, response, run_id in answers(tmp_path)}
    table(tmp_path, d="4+4", c="3+3", a="1+10")
    second = run(tmp_path, "--key", "id")
    assert second.returncode == 0, second.stderr
    after = answers(tmp_path)
    assert [(key, response) for key, response, _ in after] == [
        ("d", "4 + 4 = 8."),
        ("c", "3 + 3 = 6."),
        ("a", "1 + 10 = 11."),
    ]
    assert after[1][2] == before["c"][1]
    assert runs_made(tmp_path) == 5


def test_without_a_key_an_edited_input_is_refused(tmp_path: Path) -> None:
    """The change is named, with both remedies; nothing is sent and the output stays."""
    table(tmp_path, a="1+1", b="2+2")
    run(tmp_path)
    before = answers(tmp_path)
    table(tmp_path, a="1+1", b="2+3", c="3+3")
    second = run(tmp_path)
    assert second.returncode == 2
    assert "the input changed (2 rows, now 3)" in second.stderr
    assert "--accept-changes" in second.stderr
    assert "--fresh" in second.stderr
    assert answers(tmp_path) == before


def test_accepted_changes_ask_only_what_changed(tmp_path: Path) -> None:
    """With --accept-changes a row whose prompt is the same keeps its answer and its run."""
    table(tmp_path, a="1+1", b="2+2")
    run(tmp_path)
    before = answers(tmp_path)
    table(tmp_path, a="1+1", b="2+3")
    assert run(tmp_path, "--accept-changes").returncode == 0
    after = answers(tmp_path)
    assert after[0] == before[0]
    assert after[1][1] == "2 + 3 = 5."
    assert runs_made(tmp_path) == 3


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a", "1+1"), ("b", "2+2"), ("a", "3+3")], "'a' is in line 2 and in line 4"),
        ([("a", "1+1"), ("", "2+2")], "line 3: --key id: the cell is empty"),
    ],
)
def test_keys_must_be_there_and_differ(tmp_path: Path, rows: list[tuple[str, str]], expected: str) -> None:
    """A repeated key is refused with both lines, an empty one with its line."""
    write_csv(tmp_path / "q.csv", [{"id": key, "question": text} for key, text in rows])
    refused = run(tmp_path, "--key", "id")
    assert refused.returncode == 2
    assert expected in refused.stderr
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").glob("*.journal"))


def test_a_key_column_that_is_not_there(tmp_path: Path) -> None:
    """An unknown key column is refused with a list of the columns."""
    table(tmp_path, a="1+1")
    refused = run(tmp_path, "--key", "identity")
    assert refused.returncode == 2
    assert "no column named 'identity' in the input (columns: 'id', 'question')" in refused.stderr


def test_answers_grow_old(tmp_path: Path) -> None:
    """--max-age runs older rows again, and only those."""
    table(tmp_path, a="1+1")
    run(tmp_path)
    first = answers(tmp_path)[0][2]
    assert run(tmp_path, "--max-age", "1d").returncode == 0
    assert answers(tmp_path)[0][2] == first
    assert run(tmp_path, "--max-age", "0s").returncode == 0
    assert answers(tmp_path)[0][2] != first


def test_an_answer_is_never_shown_beside_another_question(tmp_path: Path) -> None:
    """Exported after the input was edited, a row with a new question is pending."""
    table(tmp_path, a="1+1", b="2+2")
    run(tmp_path)
    table(tmp_path, a="1+1", b="5+5")
    assert batchrun(tmp_path, "export", "outputs/q.csv").returncode == 0
    rows = read_csv(tmp_path / "outputs" / "q.csv")
    assert [(row["response"], row["status"]) for row in rows] == [("1 + 1 = 2.", "completed"), ("", "pending")]
