"""FollowedBatch: the rows of a batch while its journal is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.lock import held
from batchrun.errors import InputError, OutputError, ServerFault
from batchrun.reporting.live_batch import FollowedBatch
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_columns import ScoreColumns
from tests.support.pages import unpacked
from tests.support.rows import completed, failed, noon
from tests.unit.reporting.conftest import StartBatch, WrittenBatch

NUMERIC = ScoringSpec(["numeric"], ScoreColumns(target="truth"))


@pytest.fixture
def batch(start_batch: StartBatch) -> WrittenBatch:
    return start_batch()


@pytest.fixture
def followed(batch: WrittenBatch) -> Iterator[FollowedBatch]:
    with closing(FollowedBatch(batch.output, noon)) as followed:
        yield followed


def rows_of(news: Any) -> dict[int, dict[str, Any]]:
    """Return position → cells by the names of their columns, for the rows in the news."""
    names = [column["name"] for column in news["columns"]["listed"]]
    return {row["i"]: dict(zip(names, row["c"], strict=True)) for row in unpacked(news["rows"])}


def test_all_rows_are_pending_at_first(followed: FollowedBatch) -> None:
    """The first news has every row of the input, with its own cells and the status pending."""
    news = followed.news(0, 0)
    rows = rows_of(news)
    assert [(row["question"], row["status"], row["response"]) for row in rows.values()] == [
        ("1+1", "pending", None),
        ("2+2", "pending", None),
        ("3+3", "pending", None),
    ]
    assert (news["version"], news["more"]) == (3, False)
    assert news["facts"] is not None
    assert news["facts"]["headline"]["by_status"] == {"pending": 3}


def test_only_changed_rows_are_sent(batch: WrittenBatch, followed: FollowedBatch) -> None:
    """A page that knows a version gets the rows that have changed since, and the facts of all rows."""
    first = followed.news(0, 0)
    batch.begin(1)
    batch.complete(1, "4")
    followed.look()
    news = followed.news(first["generation"], first["version"])
    assert {position: row["response"] for position, row in rows_of(news).items()} == {1: "4"}
    assert news["facts"] is not None
    assert news["facts"]["headline"]["by_status"] == {"pending": 2, "completed": 1}
    followed.look()
    again = followed.news(news["generation"], news["version"])
    assert (rows_of(again), again["version"]) == ({}, news["version"])


def test_a_page_of_few_rows_has_the_failed_ones(batch: WrittenBatch) -> None:
    """A page shows at most so many rows and says how many it leaves out; a failed row takes the place of another."""
    with closing(FollowedBatch(batch.output, noon, most_rows=1)) as followed:
        first = followed.news(0, 0)
        assert ([*rows_of(first)], first["left_out"], first["gone"]) == ([0], 2, [])
        batch.begin(1)
        batch.complete(1, "4")
        batch.begin(2)
        batch.journal.finish(failed(2), batch.prompt(2).fingerprint)
        followed.look()
        news = followed.news(first["generation"], first["version"])
        assert ([*rows_of(news)], news["left_out"], news["gone"]) == ([2], 2, [0])
        assert news["facts"] is not None
        assert news["facts"]["headline"]["by_status"] == {"pending": 1, "completed": 1, "failed": 1}
    with closing(FollowedBatch(batch.output, noon, most_rows=1)) as followed:
        assert [*rows_of(followed.news(0, 0))] == [2]


def test_a_column_of_what_an_answer_carried_appears(batch: WrittenBatch, followed: FollowedBatch) -> None:
    """With the first answer that has reasoning the page gets all rows again, with the column, and then only changes."""
    first = followed.news(0, 0)
    batch.begin(1)
    batch.complete(1, "4", extras={"reasoning": "Hm."})
    followed.look()
    news = followed.news(first["generation"], first["version"])
    assert news["generation"] == first["generation"] + 1
    assert {position: row["reasoning"] for position, row in rows_of(news).items()} == {0: None, 1: "Hm.", 2: None}
    batch.begin(2)
    batch.complete(2, "6", extras={"reasoning": "So."})
    followed.look()
    again = followed.news(news["generation"], news["version"])
    assert {position: row["reasoning"] for position, row in rows_of(again).items()} == {2: "So."}


def test_a_column_of_a_field_appears(batch: WrittenBatch, followed: FollowedBatch) -> None:
    """With the first answer that is an object the page gets all rows again, with its fields, and then only changes."""
    first = followed.news(0, 0)
    batch.complete(1, '{"sum": 4, "sure": true}')
    followed.look()
    news = followed.news(first["generation"], first["version"])
    assert {position: (row["sum"], row["sure"]) for position, row in rows_of(news).items()} == {
        0: (None, None), 1: (4, True), 2: (None, None),
    }  # fmt: skip
    batch.complete(2, '{"sum": 6}')
    followed.look()
    again = followed.news(news["generation"], news["version"])
    assert {position: row["sum"] for position, row in rows_of(again).items()} == {2: 6}


@pytest.mark.parametrize(("generation", "after"), [(99, 0), (1, 4), (1, -1)])
def test_an_unknown_version_gets_all_rows(followed: FollowedBatch, generation: int, after: int) -> None:
    """A page with another generation, or with a version that does not exist, starts again."""
    assert sorted(rows_of(followed.news(generation, after))) == [0, 1, 2]


def test_an_attempt_shows_before_its_row_ends(batch: WrittenBatch, followed: FollowedBatch) -> None:
    """A row with a running attempt is in flight; after a fault without a run it is pending, with its attempts."""
    batch.begin(0)
    batch.begin(2, fault=ServerFault("502", error_type="server_error"))
    followed.look()
    news = followed.news(0, 0)
    assert [row["status"] for row in rows_of(news).values()] == ["in_flight", "pending", "pending"]
    assert news["facts"] is not None
    assert [(each["error_type"], each["tries"]) for each in news["facts"]["errors"]] == [("server_error", 1)]


def test_an_answer_to_another_prompt_is_not_shown(batch: WrittenBatch, followed: FollowedBatch) -> None:
    """An outcome belongs to a row only if the row's prompt has the outcome's fingerprint."""
    batch.complete(0, "2")
    batch.journal.finish(completed(1, "5"), "another fingerprint")
    followed.look()
    assert [row["response"] for row in rows_of(followed.news(0, 0)).values()] == ["2", None, None]


def test_the_lock_shows_that_the_batch_runs(batch: WrittenBatch, followed: FollowedBatch) -> None:
    """`running` follows the batch's lock, without any change in the journal."""
    assert facts_of(followed)["batch"]["running"] is False
    with held(batch.plan.paths.lock):
        assert facts_of(followed)["batch"]["running"] is True
    assert facts_of(followed)["batch"]["running"] is False


def facts_of(followed: FollowedBatch) -> Any:
    followed.look()
    return followed.news(0, 0)["facts"]


def test_a_fresh_batch_is_another_generation(batch: WrittenBatch, followed: FollowedBatch) -> None:
    """A journal that replaces the open one is followed; its rows start again under the next generation."""
    batch.complete(0, "2")
    followed.look()
    first = followed.news(0, 0)
    batch.journal.close()
    batch.journal.path.rename(batch.journal.path.with_suffix(".old"))
    fresh = WrittenBatch(batch.output.parent, "question,truth\n7+7,14\n")
    with closing(fresh.journal):
        followed.look()
        news = followed.news(first["generation"], first["version"])
    assert news["generation"] == first["generation"] + 1
    assert [(row["question"], row["status"]) for row in rows_of(news).values()] == [("7+7", "pending")]


def test_scores_follow_the_answers(batch: WrittenBatch) -> None:
    """Each answer is scored when it arrives; a row that is answered again is scored again."""
    with closing(FollowedBatch(batch.output, noon, NUMERIC)) as followed:
        (before,) = facts_of(followed)["scores"]
        assert (before["n"], before["unfinished"]) == (0, 3)
        batch.complete(0, "It is 2.")
        batch.complete(1, "4")
        (after,) = facts_of(followed)["scores"]
        assert (after["n"], after["mean"], after["unfinished"]) == (2, 0.5, 1)
        row = rows_of(followed.news(0, 0))[0]
        assert (row["score_numeric"], row["score_numeric_read"]) == (1.0, "2")
        batch.resume()
        batch.complete(1, "5")
        (again,) = facts_of(followed)["scores"]
        assert (again["n"], again["mean"]) == (2, 1.0)


def test_columns_have_the_prefix_of_the_batch(start_batch: StartBatch) -> None:
    """With an output prefix, the page's columns are those of the output."""
    batch = start_batch(output_prefix="run_")
    batch.complete(0, "2")
    with closing(FollowedBatch(batch.output, noon)) as followed:
        assert rows_of(followed.news(0, 0))[0]["run_response"] == "2"


def test_a_row_without_a_prompt_has_no_answer(start_batch: StartBatch) -> None:
    """A row whose prompt is empty is listed, and takes no answer that belongs to another prompt."""
    batch = start_batch('question,truth\n1+1,2\n"",3\n')
    batch.complete(0, "2")
    with closing(FollowedBatch(batch.output, noon)) as followed:
        rows = list(unpacked(followed.news(0, 0)["rows"]))
    assert ["p" in row for row in rows] == [True, False]


def test_the_page_marks_the_column_of_a_target_within_it(start_batch: StartBatch) -> None:
    """For `--target answers.text` the page's target is the column `answers`."""
    batch = start_batch('question,answers\n1+1,"{""text"": [""2""]}"\n')
    spec = ScoringSpec(["exact"], ScoreColumns(target="answers.text"))
    with closing(FollowedBatch(batch.output, noon, spec)) as followed:
        assert followed.news(0, 0)["columns"]["target"] == "answers"


def test_a_batch_without_a_journal_is_refused(tmp_path: Path) -> None:
    """There is nothing to follow, and no journal is created."""
    with pytest.raises(OutputError):
        FollowedBatch(tmp_path / "a.csv", noon)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ScoringSpec([], ScoreColumns(target="truth")), "--target: is an option of scoring: add --scorer"),
        (ScoringSpec(["numeric"], ScoreColumns(target="gone")), "--target gone: .* has no such column"),
        (ScoringSpec(["model-graded"], ScoreColumns(target="truth")), "asks models"),
    ],
)
def test_a_wrong_spec_is_refused(batch: WrittenBatch, spec: ScoringSpec, message: str) -> None:
    """The message names the option before any row is shown."""
    with pytest.raises(InputError, match=message):
        FollowedBatch(batch.output, noon, spec)


def test_a_missing_input_is_refused(batch: WrittenBatch) -> None:
    """Without the input there are no rows to show."""
    (batch.output.parent / "q.csv").unlink()
    with pytest.raises(InputError, match=r"q\.csv"):
        FollowedBatch(batch.output, noon)


def test_a_spoiled_file_of_notes_leaves_no_journal_open(batch: WrittenBatch) -> None:
    """If the notes cannot be read, the page is refused before the journal is opened."""
    batch.plan.paths.notes.write_text("not,the,header\n1,2,3\n", encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(batch.plan.paths.notes.name)):
        FollowedBatch(batch.output, noon)
    journal = batch.plan.paths.journal
    opened = [each.resolve() for each in Path("/proc/self/fd").iterdir() if each.exists()]
    assert opened.count(journal.resolve()) == 1  # that of the batch itself
