"""A scored table: its counts, its figures and its output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchrun.errors import InputError
from batchrun.scoring.score_columns import ScoreColumns
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.score_tally import ScoreTally
from batchrun.scoring.scored_output import write_scored
from batchrun.scoring.scorers.registry import make_scorers
from batchrun.scoring.summary import ScoreSummary, summarize
from batchrun.scoring.summary_text import score_lines
from batchrun.scoring.table import open_scored
from tests.support.rows import read_csv

ANSWERS = """id,answer,topic,response,status
1,18,a,it is 18,completed
2,19,a,it is 18,completed
3,20,b,,failed
4,21,b,partly 21,failed
5,22,b,,pending
6,,b,it is 1,completed
7,many,b,it is 1,completed
8,5,a,,completed
9,6,a,it is 6,incomplete
"""


def scored(
    folder: Path, text: str, columns: ScoreColumns, *specs: str, failed_as: FailedAs = "skip", name: str = "t.csv"
) -> list[ScoreSummary]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return summarize(open_scored(str(path), make_scorers(specs or ["numeric"]), columns).tally(), failed_as)


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    """Rows that failed, wait, lack a target or cannot be judged are left out of the mean, and each kind is counted."""
    [found] = scored(tmp_path, ANSWERS, ScoreColumns(target="answer"))
    figures = found.overall
    assert (figures.rows, figures.failed, figures.unfinished, figures.unjudged) == (9, 2, 1, 2)
    assert (figures.estimate.n, figures.estimate.mean) == (4, 0.5)
    assert found.reasons == {"no target": 1, "the target has no number": 1}
    assert figures.rows == figures.estimate.n + figures.failed + figures.unfinished + figures.unjudged


def test_a_table_without_scorers_has_rows_and_no_scores(tmp_path: Path) -> None:
    """Its rows and the tally of their kinds are there."""
    path = tmp_path / "a.csv"
    path.write_text("response,status\n4,completed\n,failed\n", encoding="utf-8")
    tally = ScoreTally()
    found = list(open_scored(str(path), (), ScoreColumns()).scored(tally))
    assert [(row.row_index, scores) for row, scores in found] == [(0, ()), (1, ())]
    assert (list(tally.kinds), dict(tally.values)) == (["answered", "failed"], {})


def test_failed_rows_can_count_as_wrong(tmp_path: Path) -> None:
    """They then count as 0; rows that have not been run are still left out."""
    [found] = scored(tmp_path, ANSWERS, ScoreColumns(target="answer"), failed_as="wrong")
    assert found.overall.estimate.n == 6
    assert found.overall.estimate.mean == pytest.approx(2 / 6)
    assert found.overall.failed == 2


def test_groups_add_up(tmp_path: Path) -> None:
    """The groups contain all rows of the table, and each group has its own interval."""
    [found] = scored(tmp_path, ANSWERS, ScoreColumns(target="answer", by=("topic",)))
    groups = found.groups["topic"]
    assert list(groups) == ["a", "b"]
    assert sum(each.rows for each in groups.values()) == 9
    assert (groups["a"].estimate.n, groups["a"].estimate.mean, groups["b"].estimate.n) == (4, 0.5, 0)
    assert groups["a"].estimate.method == "wilson"


def test_a_table_without_status(tmp_path: Path) -> None:
    """In a table from another tool, a row without an answer has failed."""
    [found] = scored(tmp_path, "said,truth\n1,1\n,1\n2,1\n", ScoreColumns(answer="said", target="truth"))
    assert (found.overall.estimate.n, found.overall.failed) == (2, 1)


def test_a_status_of_another_tool_says_nothing(tmp_path: Path) -> None:
    """The words of batchrun count in any case; with another word, a row fails if it has no answer."""
    rows = ["1,COMPLETED", "2,Failed", ",success", "1,success", ",error", ",Completed", "1,Pending"]
    text = "said,status,truth\n" + "".join(f"{row},1\n" for row in rows)
    [found] = scored(tmp_path, text, ScoreColumns(answer="said", target="truth"))
    assert (found.overall.estimate.n, found.overall.failed, found.overall.unfinished) == (3, 3, 1)
    odd = '{"response": "1", "truth": "1", "status": ["x"]}\n'
    [found] = scored(tmp_path, odd, ScoreColumns(target="truth"), name="t.jsonl")
    assert found.overall.estimate.n == 1


def test_a_thought_is_not_scored(tmp_path: Path) -> None:
    """A thought at the beginning of an answer is cut off before every scorer; an answer without an end of it is wrong."""
    text = 'said,truth\n"<think>\nNot 5.\n</think>\n\n4",4\n<think>Maybe 4,4\n'
    found = scored(tmp_path, text, ScoreColumns(answer="said", target="truth"), "exact", "includes", "numeric")
    assert [each.overall.estimate.mean for each in found] == [0.5, 0.5, 0.5]


def test_a_prefix_is_found(tmp_path: Path) -> None:
    """Output columns with a prefix are recognized."""
    [found] = scored(
        tmp_path, "truth,run_response,run_status\n1,1,completed\n1,,failed\n", ScoreColumns(target="truth")
    )
    assert (found.overall.estimate.n, found.overall.failed) == (1, 1)


def test_epochs(tmp_path: Path) -> None:
    """Rows with the same key are epochs: they have pass@k, pass^k, and a clustered interval."""
    rows = [("a", "1"), ("a", "1"), ("b", "1"), ("b", "0"), ("c", "0"), ("c", "0")]
    text = "id,truth,response\n" + "".join(f"{key},1,{said}\n" for key, said in rows)
    [found] = scored(tmp_path, text, ScoreColumns(target="truth", key="id"))
    assert found.overall.estimate.method == "clustered"
    assert found.overall.estimate.clusters == 3
    epochs = found.overall.epochs
    assert epochs is not None
    assert (epochs.keys, epochs.fewest, epochs.most) == (3, 2, 2)
    assert [epochs.pass_at_k[k].mean for k in (1, 2)] == pytest.approx([1 / 2, 2 / 3])
    assert [epochs.pass_hat_k[k].mean for k in (1, 2)] == pytest.approx([1 / 2, 1 / 3])


def test_the_variance_over_epochs_is_split(tmp_path: Path) -> None:
    """With epochs a line says whether another epoch or more rows would help; the JSON has the figures."""
    text = "id,truth,response\n" + "".join(
        f"{key},1,{said}\n" for key, said in zip("aabbccdd", "11100010", strict=True)
    )
    [found] = scored(tmp_path, text, ScoreColumns(target="truth", key="id", by=("truth",)))
    wanted = (
        "  variance: 14.3 % between rows, 85.7 % between epochs of a row; one more epoch would narrow the interval by "
        "13.4 %, as many requests for new rows by 18.4 %"
    )
    assert wanted in score_lines([found], 0)
    assert "14.3 % of the variance between rows" in "".join(score_lines([found], 0))
    facts = found.facts()
    assert facts["variance"]["share_between"] == pytest.approx(1 / 7)
    assert facts["variance"] == facts["groups"]["truth"]["1"]["variance"]


def test_the_variance_is_not_split_over_models(tmp_path: Path) -> None:
    """Rows with several settings have no split: models differ too. The groups of one model have it."""
    rows = [
        f"{key},{model},1,{(key + model + epoch).count('1') % 2},{epoch}\n"
        for key in "01"
        for model in "12"
        for epoch in "12"
    ]
    text = "id,axis_model,truth,response,epoch\n" + "".join(rows)
    [found] = scored(tmp_path, text, ScoreColumns(target="truth", key="id", by=("axis_model",)))
    assert found.overall.variance is None
    assert "variance" not in found.facts()
    assert found.groups["axis_model"]["1"].variance is not None


@pytest.mark.parametrize("key", ["id", None])
def test_a_column_of_epochs_is_found(tmp_path: Path, key: str | None) -> None:
    """Rows that a column `epoch` numbers are epochs of the rows with the same key, or without a key column of the
    rows with the same contents."""
    asked = [("a", "2", "111"), ("b", "3", "010"), ("c", "4", "000")]
    rows = [
        f"{name},{truth},{truth if said == '1' else '0'},completed,{epoch}\n"
        for epoch in (1, 2, 3)
        for name, truth, marks in asked
        for said in marks[epoch - 1]
    ]
    text = "id,truth,response,status,epoch\n" + "".join(rows)
    [found] = scored(tmp_path, text, ScoreColumns(target="truth", key=key, by=("truth",)))
    epochs = found.overall.epochs
    assert epochs is not None
    assert (epochs.keys, epochs.fewest, epochs.most) == (3, 3, 3)
    assert [epochs.pass_at_k[k].mean for k in (1, 2, 3)] == pytest.approx([4 / 9, 5 / 9, 2 / 3])
    assert [epochs.pass_hat_k[k].mean for k in (1, 2, 3)] == pytest.approx([4 / 9, 1 / 3, 1 / 3])
    assert found.overall.estimate.clusters == 3
    groups = found.groups["truth"]
    assert groups["3"].epochs is not None
    assert groups["3"].epochs.pass_at_k[3].mean == 1
    assert "  3 rows, 3 epochs each:" in score_lines([found], 0)


def test_a_column_of_another_name_can_number_the_epochs(tmp_path: Path) -> None:
    """`--epochs-column` names it; a column `epoch` is then one of the row's own."""
    text = "truth,epoch,try,response\n1,old,1,1\n1,old,2,0\n1,new,1,1\n1,new,2,1\n"
    [found] = scored(tmp_path, text, ScoreColumns(target="truth", epoch="try"))
    assert found.overall.epochs is not None
    assert (found.overall.epochs.keys, found.overall.epochs.most) == (2, 2)


def test_epochs_of_several_models_are_not_mixed(tmp_path: Path) -> None:
    """Rows with the same key and epoch are not repetitions: pass@k is computed for each model, not for all."""
    rows = [f"{key},{model},1,{said},{epoch}\n"
            for model, said in (("m", 1), ("n", 0)) for key in "ab" for epoch in (1, 2)]  # fmt: skip
    text = "id,asked,truth,response,epoch\n" + "".join(rows)
    [found] = scored(tmp_path, text, ScoreColumns(target="truth", key="id", by=("asked",)))
    assert found.overall.epochs is None
    line = "  no pass@k: several rows are a, epoch 1; separate them with --by, or with compare --split"
    assert line in score_lines([found], 0)
    by_model = found.groups["asked"]
    assert [by_model[model].epochs.pass_at_k[2].mean for model in "mn"] == [1, 0]  # type: ignore[union-attr]


def test_the_axes_of_a_batch_are_not_epochs(tmp_path: Path) -> None:
    """A batch of two models with two epochs has four rows per key: two repetitions of each combination."""
    rows = [f"{key},{model},{epoch},1,{said}\n"
            for key in "ab" for model, said in (("m", 1), ("n", 0)) for epoch in (1, 2)]  # fmt: skip
    text = "id,axis_model,epoch,truth,response\n" + "".join(rows)
    [found] = scored(tmp_path, text, ScoreColumns(target="truth", key="id", by=("axis_model",)))
    epochs = found.overall.epochs
    assert epochs is not None
    assert (epochs.keys, epochs.most, epochs.pass_at_k[2].mean) == (4, 2, 0.5)
    assert found.overall.estimate.clusters == 2
    assert epochs.pass_at_k[2].clusters == 2
    by_model = found.groups["axis_model"]
    assert [by_model[model].epochs.pass_hat_k[2].mean for model in "mn"] == [1, 0]  # type: ignore[union-attr]


def test_a_column_of_epochs_without_repetitions_changes_nothing(tmp_path: Path) -> None:
    """A user's own column may be called `epoch`: if no row is repeated, it is a column like any other."""
    text = "id,epoch,truth,response\na,1923,1,1\nb,1924,2,0\n"
    [found] = scored(tmp_path, text, ScoreColumns(target="truth", key="id"))
    assert (found.overall.epochs, found.duplicate) == (None, None)
    assert found.overall.estimate.method == "wilson"


def test_epochs_in_two_clusters_are_refused(tmp_path: Path) -> None:
    """Repetitions of one row cannot be independent of each other."""
    with pytest.raises(InputError, match="the key 'a' are in two clusters"):
        scored(tmp_path, "id,g,truth,response\na,1,1,1\na,2,1,1\n", ScoreColumns(target="truth", key="id", cluster="g"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (ScoreColumns(), "--scorer numeric: needs a target: name its column with --target COLUMN"),
        (ScoreColumns(target="gone"), "--target gone: .* has no such column"),
        (ScoreColumns(target="answer", by=("gone",)), "--by gone: .* has no such column"),
        (ScoreColumns(target="answer", epoch="gone"), "--epochs-column gone: .* has no such column"),
        (ScoreColumns(target="answer", answer="gone"), "--answer gone: .* has no such column"),
        (ScoreColumns(target="id", key="answer"), "line 7: the key column 'answer' is empty"),
        (ScoreColumns(target="id", cluster="answer"), "line 7: the cluster column 'answer' is empty"),
    ],
)
def test_a_wrong_column_gets_one_line(tmp_path: Path, columns: ScoreColumns, message: str) -> None:
    """A column that does not exist, or an empty key or cluster, is named with the table or the line."""
    with pytest.raises(InputError, match=message):
        scored(tmp_path, ANSWERS, columns)


def test_a_table_without_answers_lists_its_columns(tmp_path: Path) -> None:
    """Without an answer column, the message lists the columns."""
    with pytest.raises(
        InputError, match=r"no column 'response'; name the answer column with --answer COLUMN \(columns: 'a', 'b'\)"
    ):
        scored(tmp_path, "a,b\n1,2\n", ScoreColumns(target="b"))


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_the_table_is_written_with_its_scores(tmp_path: Path, name: str) -> None:
    """The output has the table's cells unchanged, followed by the value and the text of each scorer."""
    path = tmp_path / "t.csv"
    path.write_text(ANSWERS, encoding="utf-8")
    table = open_scored(str(path), make_scorers(["numeric", "same=exact"]), ScoreColumns(target="answer"))
    output = tmp_path / name
    write_scored(table, output)
    again = open_scored(str(output), make_scorers(["column:score_numeric"]), ScoreColumns())
    assert again.source.columns == (*ANSWERS.splitlines()[0].split(","), "score_numeric", "score_numeric_read",
                                    "score_same", "score_same_read")  # fmt: skip
    assert again.tally().values["numeric"] == [1, 0, None, None, None, None, None, 0, 1]
    rows = [row.values for row in again.source.rows()]
    assert [row["score_numeric_read"] or None for row in rows] == ["18", "18", None, None, None, None, None, None, "6"]
    assert [row["response"] or "" for row in rows] == [line.split(",")[3] for line in ANSWERS.splitlines()[1:]]


def test_targets_of_json_lines_may_be_lists(tmp_path: Path) -> None:
    """An answer may match any target of a list; an empty list is not a target."""
    text = "".join(json.dumps({"truth": truth, "response": "b"}) + "\n" for truth in (["a", "b"], ["c"], [], None))
    [found] = scored(tmp_path, text, ScoreColumns(target="truth"), "exact", name="t.jsonl")
    assert (found.overall.estimate.n, found.overall.estimate.mean, found.overall.unjudged) == (2, 0.5, 2)


def test_a_target_may_be_a_part_of_an_object(tmp_path: Path) -> None:
    """A path names a field, in lists too; a path or a member that a row lacks is not a target."""
    cells = [{"text": ["a", "b"]}, [{"text": "b"}, {"text": "c"}], '{"text": "b"}', {"text": ["c"]}, {"other": 1}, None]
    text = "".join(json.dumps({"truth": {"answers": cell}, "response": "b"}) + "\n" for cell in cells)
    [found] = scored(tmp_path, text, ScoreColumns(target="truth.answers.text"), "exact", name="t.jsonl")
    assert (found.overall.estimate.n, found.overall.estimate.mean, found.reasons) == (4, 0.75, {"no target": 2})
    [first] = scored(tmp_path, text, ScoreColumns(target="truth.answers.text.1"), "exact", name="t.jsonl")
    assert (first.overall.estimate.n, first.overall.estimate.mean) == (2, 0.5)
    with pytest.raises(InputError, match=r"--target trut\.answers: .* has no such column"):
        scored(tmp_path, text, ScoreColumns(target="trut.answers"), "exact", name="t.jsonl")


@pytest.mark.parametrize("scorer", ["exact", "numeric", "choice", "f1"])
def test_an_object_is_not_a_target(tmp_path: Path, scorer: str) -> None:
    """Rows whose target is an object or a list of lists cannot be judged; the reason names what to write."""
    cells = [{"text": ["b"], "start": [1]}, [{"text": "b"}], [["b"]], [None], [], {}]
    text = "".join(json.dumps({"truth": cell, "response": "b"}) + "\n" for cell in cells)
    [found] = scored(tmp_path, text, ScoreColumns(target="truth"), scorer, name="t.jsonl")
    assert found.overall.estimate.n == 0
    assert found.reasons == {
        "the target is an object with the fields start, text; name one, as in --target COLUMN.FIELD": 1,
        "the target is an object with the fields text; name one, as in --target COLUMN.FIELD": 1,
        "the target is a list of lists; name one, as in --target COLUMN.0": 1,
        "no target": 2,
        "the target is an empty object": 1,
    }


@pytest.mark.parametrize("cell", ['["a", "b"]', "['a', 'b']"])
def test_a_text_may_write_a_list(tmp_path: Path, cell: str) -> None:
    """A CSV holds a list of texts as JSON or as Python writes it; any member matches."""
    quoted = cell.replace('"', '""')
    [found] = scored(tmp_path, f'truth,response\n"{quoted}",b\n"{quoted}",c\n', ScoreColumns(target="truth"), "exact")
    assert found.overall.estimate.mean == 0.5


def test_scores_are_not_overwritten(tmp_path: Path) -> None:
    """A table that already has the columns, or that would be its own output, is refused and left unchanged."""
    path = tmp_path / "t.csv"
    text = "truth,response,score_exact\n1,1,0\n"
    path.write_text(text)
    table = open_scored(str(path), make_scorers(["exact"]), ScoreColumns(target="truth"))
    with pytest.raises(InputError, match="the column 'score_exact' already exists; give the scorer another name"):
        write_scored(table, tmp_path / "out.csv")
    table = open_scored(str(path), make_scorers(["numeric"]), ScoreColumns(target="truth"))
    with pytest.raises(InputError, match="the output is the input table itself"):
        write_scored(table, path)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_function_sees_the_row(tmp_path: Path) -> None:
    """A user's scorer receives all cells of the row, and its scores are written under its name."""
    (tmp_path / "mine.py").write_text("def weighed(answer, target, row):\n    return row['w'] == '2'\n")
    (tmp_path / "t.csv").write_text("w,response\n1,a\n2,b\n")
    table = open_scored(str(tmp_path / "t.csv"), make_scorers([f"python:{tmp_path}/mine.py:weighed"]), ScoreColumns())
    write_scored(table, tmp_path / "out.csv")
    assert [row["score_weighed"] for row in read_csv(tmp_path / "out.csv")] == ["0.0", "1.0"]


def test_rows_with_several_models_are_counted_once(tmp_path: Path) -> None:
    """The line of epochs has the rows of the input times the models, or states that some have no score."""
    rows = [f"{key},1,{model},{epoch},1\n" for key in "ab" for model in ("m", "n") for epoch in (1, 2)]
    text = "id,truth,axis_model,epoch,response\n"
    columns = ScoreColumns(target="truth", key="id", by=("axis_model",))
    [found] = scored(tmp_path, text + "".join(rows), columns)
    lines = score_lines([found], 0)
    assert "  2 rows × 2 models, 2 epochs each:" in lines
    assert "  by model (axis_model):" in lines
    [some] = scored(tmp_path, text + "".join(rows[:-2]), columns)
    assert "  2 rows with several models, 3 in all, 2 epochs each:" in score_lines([some], 0)


def test_a_scorer_may_have_its_own_target(tmp_path: Path) -> None:
    """It judges by its own column, or a path in it; rows where that is empty have no target for it alone."""
    lines = [{"a": "4", "b": {"c": "x"}, "response": "4"}, {"a": "5", "b": {"c": None}, "response": "4"}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    specs = ("exact", "own=includes:case=keep,target=b.c")
    first, second = scored(tmp_path, text, ScoreColumns(target="a"), *specs, name="t.jsonl")
    assert (first.overall.estimate.n, first.overall.estimate.mean) == (2, 0.5)
    assert (second.overall.estimate.n, second.overall.estimate.mean) == (1, 0.0)
    assert second.reasons == {"no target": 1}
    with pytest.raises(InputError, match=r"--target d: .* has no such column"):
        scored(tmp_path, text, ScoreColumns(), "exact:target=d", name="t.jsonl")
    with pytest.raises(InputError, match="target=: expected the name of one column"):
        make_scorers(["exact:target="])
