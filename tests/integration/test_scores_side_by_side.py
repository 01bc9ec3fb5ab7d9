"""Several scorers, one after the other: their scores are side by side in one table."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import Result, batchrun
from tests.support.rows import read_csv

TABLE = "id,answer,response\na,2,2\nb,4,It is 4\nc,6,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text(TABLE)
    return tmp_path


def score(folder: Path, scorer: str, *options: str, name: str = "a.csv") -> Result:
    done = batchrun(folder, "score", name, "--scorer", scorer, "--target", "answer", *options)
    assert done.returncode == 0, done.stderr
    return done


def columns(folder: Path) -> list[str]:
    return [name for name in read_csv(folder / "a.scored.csv")[0] if name.startswith("score_")]


def test_scores_of_another_scorer_are_kept(folder: Path) -> None:
    """The second scorer's columns follow the first's, whose cells are unchanged; a line says so."""
    score(folder, "exact")
    first = [row["score_exact"] for row in read_csv(folder / "a.scored.csv")]
    done = score(folder, "includes")
    assert "a.scored.csv: the scores of exact from before are kept next to the new ones" in done.stderr
    assert columns(folder) == ["score_exact", "score_exact_read", "score_includes", "score_includes_read"]
    rows = read_csv(folder / "a.scored.csv")
    assert [row["score_exact"] for row in rows] == first == ["1.0", "0.0", ""]
    assert [row["score_includes"] for row in rows] == ["1.0", "1.0", ""]


def test_the_same_scorer_replaces_its_scores(folder: Path) -> None:
    """Scoring again gives the same table, without a line about it."""
    score(folder, "exact")
    before = (folder / "a.scored.csv").read_bytes()
    done = score(folder, "exact")
    assert "from before" not in done.stderr
    assert (folder / "a.scored.csv").read_bytes() == before


@pytest.mark.parametrize(
    "table",
    [TABLE.replace("It is 4", "5"), TABLE + "d,8,8\n", TABLE.replace("c,6,\n", ""), TABLE.replace("id,", "key,")],
    ids=["answer", "more rows", "fewer rows", "columns"],
)
def test_scores_of_other_answers_are_not_kept(folder: Path, table: str) -> None:
    """Scores never stand next to answers that they do not belong to; a line says which ones are gone."""
    score(folder, "exact")
    (folder / "a.csv").write_text(table)
    done = score(folder, "includes")
    assert "a.scored.csv: the scores of exact from before are gone, since answers or other cells" in done.stderr
    assert columns(folder) == ["score_includes", "score_includes_read"]


def test_a_named_output_is_replaced(folder: Path) -> None:
    """With -o, the file has the scores of this call alone."""
    score(folder, "exact", "-o", "a.scored.csv")
    score(folder, "includes", "-o", "a.scored.csv")
    assert columns(folder) == ["score_includes", "score_includes_read"]


def test_a_file_that_is_not_a_scored_table(folder: Path) -> None:
    """Something else in the place of the default output is not read for scores."""
    (folder / "a.scored.csv").write_text('"unfinished')
    score(folder, "exact")
    assert columns(folder) == ["score_exact", "score_exact_read"]


def test_other_formats(folder: Path) -> None:
    """JSON Lines and Parquet keep numbers as numbers."""
    rows = [{"id": "a", "answer": "2", "response": "2"}, {"id": "b", "answer": "4", "response": "It is 4"}]
    (folder / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert batchrun(folder, "convert", "a.jsonl", "a.parquet").returncode == 0
    for name in ("a.jsonl", "a.parquet"):
        score(folder, "exact", name=name)
        score(folder, "includes", name=name)
    lines = [json.loads(line) for line in (folder / "a.scored.jsonl").read_text().splitlines()]
    assert [(line["score_exact"], line["score_includes"]) for line in lines] == [(1.0, 1.0), (0.0, 1.0)]
    table = pq.read_table(folder / "a.scored.parquet")
    assert table.column("score_exact").to_pylist() == [1.0, 0.0]
    assert table.column("score_includes").to_pylist() == [1.0, 1.0]
