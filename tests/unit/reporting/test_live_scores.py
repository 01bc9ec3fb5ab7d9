"""LiveScores: scores that follow the rows of a table, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.records import Row
from batchrun.reporting.live_scores import LiveScores
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_columns import ScoreColumns

COLUMNS = ("topic", "truth", "response", "status")
TOPICS = ("a", "b", "b")


def row(position: int, response: str | None = None, status: str = "pending") -> Row:
    """Return a row of the table, with 7 as its expected answer."""
    return Row(position, {"topic": TOPICS[position], "truth": "7", "response": response, "status": status})


def live(*scorers: str, **columns: Any) -> LiveScores:
    spec = ScoringSpec(scorers, ScoreColumns(target="truth", **columns))
    return LiveScores(spec, "t.csv", COLUMNS, [row(position) for position in range(3)])


@pytest.fixture
def scores() -> Iterator[LiveScores]:
    with closing(live("numeric", "exact", by=("topic",))) as scores:
        yield scores


def figures(scores: LiveScores, scorer: str) -> Any:
    return next(each for each in scores.facts() if each["scorer"] == scorer)


def test_pending_rows_are_unfinished(scores: LiveScores) -> None:
    """Before any row has ended, every scorer has a figure without a mean."""
    assert scores.scorers == ["numeric", "exact"]
    assert [(each["n"], each["mean"], each["unfinished"]) for each in scores.facts()] == [(0, None, 3), (0, None, 3)]


def test_an_update_changes_its_rows_only(scores: LiveScores) -> None:
    """The scores of the updated rows are returned, and the figures are those of all rows."""
    first, second = scores.update([row(0, "It is 7.", "completed"), row(2, "8", "completed")])
    assert [None if each is None else each.value for each in (*first, *second)] == [1.0, 0.0, 0.0, 0.0]
    numeric = figures(scores, "numeric")
    assert (numeric["n"], numeric["mean"], numeric["unfinished"]) == (2, 0.5, 1)
    assert {label: group["mean"] for label, group in numeric["groups"]["topic"].items()} == {"a": 1.0, "b": 0.0}


def test_a_row_can_change_again(scores: LiveScores) -> None:
    """A later answer replaces the earlier score; a row that fails later has none."""
    scores.update([row(1, "8", "completed")])
    scores.update([row(1, "7", "completed")])
    assert (figures(scores, "exact")["n"], figures(scores, "exact")["mean"]) == (1, 1.0)
    ((score, _),) = scores.update([row(1, None, "failed")])
    assert score is None
    assert (figures(scores, "exact")["n"], figures(scores, "exact")["failed"]) == (0, 1)


def test_a_reason_disappears_with_its_row_s_change() -> None:
    """A row that could not be judged and later can is no longer counted with its reason."""
    with closing(live("numeric")) as scores:
        scores.update([Row(0, {"topic": "a", "truth": "seven", "response": "7", "status": "completed"})])
        assert figures(scores, "numeric")["unjudged_reasons"] == {"the target has no number": 1}
        scores.update([row(0, "7", "completed")])
        assert figures(scores, "numeric")["unjudged_reasons"] == {}


def test_a_scorer_that_asks_models_is_refused() -> None:
    """A live page sends no requests, and the message names the command that does."""
    with pytest.raises(InputError, match=r"--scorer model-graded: asks models.*batchrun score"):
        live("model-graded")


def test_scorers_are_closed(tmp_path: Path) -> None:
    """`close` leaves the context of each scorer, and so ends the processes that it owns."""
    path = tmp_path / "mine.py"
    path.write_text("def seven(answer, target):\n    return answer == target\n")
    scores = live(f"python:{path}:seven")
    scores.update([row(0, "7", "completed")])
    scores.close()
    assert figures(scores, "seven")["mean"] == 1.0
