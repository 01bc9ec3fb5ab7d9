"""Tables compared, and the parts of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import scipy

from batchrun.errors import InputError
from batchrun.scoring.comparison import Comparison
from batchrun.scoring.comparison_text import comparison_lines, comparison_markdown
from batchrun.scoring.evaluate import Bars, ScoringSpec, compare_tables, score_table
from batchrun.scoring.score_columns import ScoreColumns
from batchrun.scoring.scored_output import default_scored
from batchrun.scoring.summary_text import score_markdown
from tests.support.marked_tables import write


def compared(*names: str, scorers: tuple[str, ...] = ("numeric",), **columns: Any) -> Comparison:
    return compare_tables(names, ScoringSpec(scorers, ScoreColumns(target="truth", key="id", **columns)))


def test_rows_are_paired_by_key(tmp_path: Path) -> None:
    """Rows with the same key are paired in any order; flipped rows are listed, and failed ones are not paired."""
    a = write(tmp_path, "a.csv", "1100x1")
    lines = Path(write(tmp_path, "b.csv", "101111")).read_text().splitlines(keepends=True)
    (tmp_path / "b.csv").write_text(lines[0] + "".join(reversed(lines[1:])))
    [found] = compared(a, str(tmp_path / "b.csv")).pairings
    assert found.pairs == 5
    assert found.means == pytest.approx((3 / 5, 4 / 5))
    assert (found.better, found.worse) == (["2", "3"], ["1"])
    assert found.difference.estimate.mean == pytest.approx(1 / 5)
    assert found.difference.p_value == scipy.stats.binomtest(2, 3).pvalue


def test_differences_between_the_tables_are_warnings(tmp_path: Path) -> None:
    """Rows in only one table, and different questions with the same key, give warnings."""
    a, b = write(tmp_path, "a.csv", "1111"), write(tmp_path, "b.csv", "1111", first=1)
    warnings = compared(a, b).warnings
    assert [line.replace(str(tmp_path) + "/", "") for line in warnings] == [
        "1 row of a.csv not in b.csv, such as 0",
        "1 row of b.csv not in a.csv, such as 4",
        "'question' differs between a.csv and b.csv in 3 rows, such as 1: these rows did not answer the same question",
    ]
    same = write(tmp_path, "c.csv", "0000")
    assert compared(a, same).warnings == []


def test_tables_without_a_common_key_are_refused(tmp_path: Path) -> None:
    """Without pairs there is an error, not a difference of 0."""
    with pytest.raises(InputError, match="share no key"):
        compared(write(tmp_path, "a.csv", "11"), write(tmp_path, "b.csv", "11", first=5))


def test_several_tables_are_corrected(tmp_path: Path) -> None:
    """Each pair of three tables is tested, and the p-values are corrected by Holm's method."""
    names = [
        write(tmp_path, "a.csv", "0" * 12),
        write(tmp_path, "b.csv", "0" * 4 + "1" * 8),
        write(tmp_path, "c.csv", "1" * 12),
    ]
    found = compared(*names).pairings
    assert [Path(each.first).stem + Path(each.second).stem for each in found] == ["ab", "ac", "bc"]
    plain = [scipy.stats.binomtest(flips, flips).pvalue for flips in (8, 12, 4)]
    assert [each.difference.p_value for each in found] == plain
    assert [each.corrected_p for each in found] == pytest.approx([2 * plain[0], 3 * plain[1], plain[2]])


def test_costs_are_totals_over_all_rows(tmp_path: Path) -> None:
    """Cost and tokens are sums and durations are quantiles, over all rows."""
    a, b = write(tmp_path, "a.csv", "10x"), write(tmp_path, "b.csv", "111")
    costs = compared(a, b).contenders[0].costs
    assert (costs.cost_usd, costs.priced, costs.rows, costs.median_s, costs.tokens) == (1.5, 3, 3, 2, 30)
    assert costs.p95_s == pytest.approx(2.9)


def test_epochs_are_paired_by_their_mean(tmp_path: Path) -> None:
    """Repeated keys enter a comparison once, with their mean."""
    one = tmp_path / "one.csv"
    one.write_text("id,truth,response\na,1,1\na,1,0\nb,1,0\nb,1,0\n")
    two = tmp_path / "two.csv"
    two.write_text("id,truth,response\na,1,1\na,1,1\nb,1,0\nb,1,1\n")
    [found] = compared(str(one), str(two)).pairings
    assert (found.pairs, found.means, found.difference.test) == (2, (0.25, 0.75), "permutation")


def test_epochs_are_paired_by_their_number(tmp_path: Path) -> None:
    """With an epoch column, only epochs with a score in both tables count, in any order of the rows."""
    head = "id,truth,response,epoch\n"
    (tmp_path / "one.csv").write_text(head + "a,1,1,1\na,1,0,2\nb,1,0,1\nb,1,1,2\n")
    (tmp_path / "two.csv").write_text(head + "b,1,1,2\nb,1,1,1\na,1,1,3\na,1,1,1\n")
    found = compared(str(tmp_path / "one.csv"), str(tmp_path / "two.csv"))
    [pairing] = found.pairings
    assert (pairing.pairs, pairing.means, pairing.better) == (2, (0.75, 1.0), ["b"])
    assert [line.replace(str(tmp_path) + "/", "") for line in found.warnings] == [
        "1 row of one.csv not in two.csv, such as a (epoch 2)",
        "1 row of two.csv not in one.csv, such as a (epoch 3)",
    ]


def test_a_column_named_epoch_does_not_part_rows_that_are_not_repeated(tmp_path: Path) -> None:
    """If each key occurs once, a column `epoch` may hold a time stamp that differs."""
    for name, stamp in (("a.csv", 1923), ("b.csv", 1924)):
        (tmp_path / name).write_text(f"id,truth,response,epoch\na,1,1,{stamp}\nb,1,0,{stamp}\n")
    assert compared(str(tmp_path / "a.csv"), str(tmp_path / "b.csv")).pairings[0].pairs == 2


def write_models(folder: Path, right: dict[str, str], *, epochs: int = 1, key: str = "id") -> str:
    """Write a batch of several models, each with its marks: 1 correct, 0 wrong, x failed."""
    lines = [
        f"{index},q{index},1,{model},{epoch},{'' if mark == 'x' else mark},{'failed' if mark == 'x' else 'completed'},"
        f"{'' if mark == 'x' else model + '-2026'},0.5,1,10\n"
        for index in range(len(next(iter(right.values()))))
        for model, marks in right.items()
        for epoch in range(1, epochs + 1)
        for mark in marks[index]
    ]
    path = folder / "out.csv"
    path.write_text(
        f"{key},question,truth,axis_model,epoch,response,status,model,cost_usd,duration_s,total_tokens\n"
        + "".join(lines)
    )
    return str(path)


def split(name: str, column: str = "model", key: str | None = "id", **options: Any) -> Comparison:
    return compare_tables(
        [name], ScoringSpec(["numeric"], ScoreColumns(target="truth", key=key, split=column)), **options
    )


@pytest.mark.parametrize("key", ["id", None])
def test_a_table_is_split_by_a_column(tmp_path: Path, key: str | None) -> None:
    """The values of one column are compared with the first like tables, with figures, costs and warnings."""
    found = split(write_models(tmp_path, {"m": "1100x", "n": "10111", "o": "00000"}), key=key)
    assert found.split == "axis_model"
    assert [each.name for each in found.contenders] == ["m", "n", "o"]
    assert [(each.first, each.second, each.pairs) for each in found.pairings] == [
        ("m", "n", 4), ("m", "o", 4), ("n", "o", 5)
    ]  # fmt: skip
    assert found.pairings[0].means == (0.5, 0.75)
    assert found.contenders[0].costs.rows == 5
    assert found.contenders[0].summaries[0].overall.failed == 1
    assert found.warnings == []
    plain = [each.difference.p_value for each in found.pairings]
    assert plain == [1.0, 0.5, 0.125]
    assert [each.corrected_p for each in found.pairings] == [1.0, 1.0, 0.375]


def test_the_parts_of_a_table_are_what_tables_of_them_would_be(tmp_path: Path) -> None:
    """A split gives the same figures as a comparison of two tables with the same rows."""
    marks = ("1100110101", "1011111011")
    [apart] = compared(*(write(tmp_path, name, each) for name, each in zip(("a.csv", "b.csv"), marks, strict=True))).pairings  # fmt: skip
    [within] = split(write_models(tmp_path, dict(zip("ab", marks, strict=True)))).pairings
    facts = apart.facts() | {"first": "a", "second": "b"}
    assert within.facts() == facts


def test_the_baseline_of_a_split_can_be_named(tmp_path: Path) -> None:
    """All other values are compared with it; an unknown value is an error that lists the values."""
    name = write_models(tmp_path, {"m": "11", "n": "10", "o": "00"})
    assert [each.first + each.second for each in split(name, baseline="n").pairings] == ["nm", "no"]
    with pytest.raises(InputError, match="--baseline p: the values of 'axis_model' are 'm', 'n', 'o'"):
        split(name, baseline="p")


def test_epochs_of_a_split_are_paired(tmp_path: Path) -> None:
    """Repetitions enter with their mean: a row is one pair, however often it was run."""
    found = split(write_models(tmp_path, {"m": "1010", "n": "1110"}, epochs=3))
    assert found.pairings[0].pairs == 4
    assert found.pairings[0].means == (0.5, 0.75)
    assert found.contenders[1].summaries[0].overall.epochs is not None
    assert found.warnings == []


def test_rows_without_a_value_are_counted(tmp_path: Path) -> None:
    """In a split by the model that answered, failed rows belong to no part, and a warning counts them."""
    path = Path(write_models(tmp_path, {"m": "110x", "n": "1011"}))
    path.write_text(path.read_text().replace("axis_model", "wanted"))
    found = split(str(path), "model")
    assert [each.name for each in found.contenders] == ["m-2026", "n-2026"]
    assert found.warnings == [
        "1 row not compared, without a value in 'model'",
        "1 row of n-2026 not in m-2026, such as 3",
    ]


def test_other_axes_are_paired(tmp_path: Path) -> None:
    """In a batch of models and prompts that is split by prompt, each model's answer is paired with the same model's."""
    path = tmp_path / "out.csv"
    path.write_text(
        "id,truth,axis_model,axis_prompt,response\n"
        "a,1,m,short,1\na,1,m,long,0\na,1,n,short,1\na,1,n,long,1\nb,1,m,short,1\nb,1,m,long,1\n"
    )
    found = split(str(path), "prompt")
    assert (found.pairings[0].pairs, found.pairings[0].means) == (2, (1.0, 0.75))
    assert found.warnings == []


def test_a_column_of_the_setting_is_not_a_difference(tmp_path: Path) -> None:
    """A column that only describes the split value, such as a prompt's text, gives no warning; another question
    does."""
    path = tmp_path / "out.csv"
    path.write_text(
        "id,question,prompt,text,truth,response\n"
        "a,q1,p1,Be brief,1,1\nb,q2,p1,Be brief,1,1\na,q1,p2,Think,1,1\nb,q3,p2,Think,1,0\n"
    )
    assert split(str(path), "prompt").warnings == [
        "'question' differs between p1 and p2 in 1 row, such as b: these rows did not answer the same question"
    ]


def test_clusters_widen_a_difference(tmp_path: Path) -> None:
    """With a cluster column, the test is the clustered one."""
    a, b = write(tmp_path, "a.csv", "1100" * 10), write(tmp_path, "b.csv", "1011" * 10)
    assert compared(a, b, cluster="question").pairings[0].difference.test == "clustered t"


def test_lines_and_markdown_say_the_same(tmp_path: Path) -> None:
    """The terminal and the Markdown have the same figures; a pipe in a name does not break the table."""
    found = compared(write(tmp_path, "a.csv", "1100"), write(tmp_path, "b|c.csv", "1111"))
    text, markdown = "\n".join(comparison_lines(found)), comparison_markdown(found)
    assert "difference +0.5000" in text
    assert "| +0.5000 |" in markdown
    assert "McNemar's exact test: p = 0.5000" in text
    assert "2 rows better: 2, 3" in text
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in tables[:4]}) == 1


def test_markdown_is_harmless(tmp_path: Path) -> None:
    """Values from the table that look like markup are shown as text."""
    path = tmp_path / "t.csv"
    path.write_text('truth,response,kind\n1,1,"<img src=x>|[x](y)"\n')
    found = score_table(str(path), ScoringSpec(["numeric"], ScoreColumns(target="truth", by=("kind",))), Bars())
    text = score_markdown("t.csv", found.summaries, found.bars)
    assert r"\<img src=x\>\|\[x\](y)" in text


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("out/a.csv.zip", "out/a.scored.csv"),
        ("a.txt", "a.scored.csv"),
        ("o/a.csv", "o/a.scored.csv"),
        ("a.b.csv.gz", "a.b.scored.csv.gz"),
        ("a.csv.ZST", "a.scored.csv.ZST"),
        ("a.jsonl.xz", "a.scored.jsonl.xz"),
        ("a.parquet", "a.scored.parquet"),
    ],
)
def test_where_scores_go(name: str, wanted: str) -> None:
    """The default output is next to the table, with its own name and the table's ending."""
    assert default_scored(name) == Path(wanted)


@pytest.mark.parametrize(
    ("names", "key", "message"),
    [
        (["a"], "id", "two or more tables"),
        (["a", "a"], "id", "named twice"),
        (["a", "b"], None, "name their id column with --key COLUMN"),
    ],
)
def test_what_cannot_be_compared(names: list[str], key: str | None, message: str) -> None:
    """One line says what is missing."""
    with pytest.raises(InputError, match=message):
        compare_tables(names, ScoringSpec(["numeric"], ScoreColumns(target="truth", key=key)))


@pytest.mark.parametrize(
    ("names", "column", "options", "message"),
    [
        (["out.csv", "b.csv"], "model", {}, "--split: compares the rows of one table; name a single table"),
        (["out.csv"], "gone", {}, "--split gone: out.csv has no such column"),
        (["out.csv"], "status", {}, "--split status: 2 to 50 different values are expected, out.csv has 1"),
        (["out.csv"], "question", {}, "--split question: .*, out.csv has 60"),
        (["out.csv", "b.csv"], None, {"baseline": "m"}, "--baseline: .*; add --split COLUMN"),
    ],
)
def test_what_cannot_be_split(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    column: str | None,
    options: dict[str, Any],
    message: str,
) -> None:
    """One line says what is wrong with the column."""
    monkeypatch.chdir(tmp_path)
    write_models(Path(), {"m": "1" * 60, "n": "0" * 60})
    with pytest.raises(InputError, match=message):
        compare_tables(names, ScoringSpec(["numeric"], ScoreColumns(target="truth", key="id", split=column)), **options)


def test_parts_that_share_nothing_are_refused(tmp_path: Path) -> None:
    """Without pairs there is an error, not a difference of 0."""
    (tmp_path / "t.csv").write_text("id,m,truth,response\na,x,1,1\nb,y,1,1\n")
    with pytest.raises(InputError, match="x and y share no key; is --key the right column"):
        split(str(tmp_path / "t.csv"), "m")


def test_holm_is_over_all_scorers_and_pairs(tmp_path: Path) -> None:
    """The p-values of all scorers and pairs are one family, as statsmodels corrects them, and the text says so."""
    names = [
        write(tmp_path, name, marks)
        for name, marks in (("a.csv", "0" * 12), ("b.csv", "0000" + "1" * 8), ("c.csv", "1" * 12))
    ]
    found = compared(*names, scorers=("numeric", "second=exact"))
    plain = [scipy.stats.binomtest(flips, flips).pvalue for flips in (8, 12, 4)] * 2
    corrected = [each.corrected_p for each in found.pairings]
    assert corrected == pytest.approx([4 * plain[0], 6 * plain[1], 2 * plain[2]] * 2)
    assert (found.tests, found.facts()["tests"]) == (6, 6)
    text = comparison_lines(found)
    assert text[-1] == "Holm's correction is over the 6 p-values of this comparison: 2 scorers, 3 pairs of tables"
    assert "  McNemar's exact test: p = 0.0078, p = 0.0312 after Holm" in text


def test_three_tables_are_a_matrix(tmp_path: Path) -> None:
    """Every pair of three tables has its difference, row minus column, with a mark where it is significant."""
    names = [
        write(tmp_path, name, marks)
        for name, marks in (("a.csv", "0" * 12), ("b.csv", "0000" + "1" * 8), ("c.csv", "1" * 12))
    ]
    found = compared(*names)
    [matrix] = found.matrices
    for row, expected in zip(
        matrix.differences, [[None, -2 / 3, -1], [2 / 3, None, -1 / 3], [1, 1 / 3, None]], strict=True
    ):
        assert list(row) == pytest.approx(expected)
    assert matrix.corrected_p[0] == [None, *(each.corrected_p for each in found.pairings[:2])]
    assert [row[2] for row in matrix.corrected_p] == [
        found.pairings[1].corrected_p,
        found.pairings[2].corrected_p,
        None,
    ]
    assert found.facts()["matrices"] == [
        {
            "scorer": "numeric",
            "tables": names,
            "differences": matrix.differences,
            "corrected_p": matrix.corrected_p,
        }
    ]
    text = "\n".join(comparison_lines(found)).replace(f"{tmp_path}/", "")
    assert "numeric: difference of the means, row minus column (* p < 0.05 after Holm)" in text
    assert [line.split() for line in text.splitlines() if line.startswith("  c.csv")] == [
        ["c.csv", "+1.0000", "*", "+0.3333", "–"]
    ]
    assert "+0.6667 \\*" in comparison_markdown(found)
    assert compared(*names[:2]).matrices == []


def test_with_a_baseline_there_is_no_matrix(tmp_path: Path) -> None:
    """Parts that are compared with one of them only have no matrix, and no tests of the other pairs."""
    found = split(write_models(tmp_path, {"m": "11", "n": "10", "o": "00"}), baseline="n")
    assert (found.matrices, found.tests) == ([], 2)


def test_many_parts_are_compared_with_the_first(tmp_path: Path) -> None:
    """Of more than ten parts, each is compared with the first only, and a warning says so."""
    found = split(write_models(tmp_path, {f"m{number}": "10" for number in range(11)}))
    assert len(found.pairings) == 10
    warning = "each of 10 parts is compared with m0 only; every pair is compared up to 10 parts"
    assert (found.warnings, comparison_lines(found)[0]) == ([warning], f"warning: {warning}")
    assert len(split(write_models(tmp_path, {f"m{number}": "10" for number in range(10)})).pairings) == 45


def test_differences_within_groups(tmp_path: Path) -> None:
    """`--by` gives each pairing its difference within each group; their p-values are a family of their own."""
    path = Path(write_models(tmp_path, {"m": "0000001111", "n": "111111110x"}))
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(
            [f"kind,{lines[0]}", *(f"{'small' if int(line.split(',')[0]) < 6 else ''},{line}" for line in lines[1:])]
        )
    )
    columns = ScoreColumns(target="truth", key="id", split="model", by=("kind",))
    found = compare_tables([str(path)], ScoringSpec(["numeric"], columns))
    [pairing] = found.pairings
    small, empty = pairing.groups["kind"].values()
    assert (small.pairs, small.difference.estimate.mean, small.difference.p_value) == (6, 1, 1 / 32)
    assert (empty.pairs, empty.unpaired, empty.expected, empty.worse) == (3, 1, 4, ["8"])
    assert (small.corrected_p, empty.corrected_p, pairing.corrected_p) == (1 / 16, 1, pairing.difference.p_value)
    assert (found.tests, found.group_tests) == (1, 2)
    text = comparison_lines(found)
    assert text[-5:] == [
        "  by kind:",
        "    small    +1.0000 (+0.2917 to +1.0000)  6 pairs  p = 0.0312, p = 0.0625 after Holm",
        "    (empty)  −0.3333 (−0.8559 to +0.4559)  3 pairs  p = 1.0000, p = 1.0000 after Holm  1 row not paired",
        "",
        "within groups, Holm's correction is over the 2 p-values of all groups",
    ]
    assert "  1 row of n not paired, without a score in one of the tables" in text
    assert "**numeric: n against m by kind**" in comparison_markdown(found)
    assert found.facts()["pairings"][0]["groups"]["kind"]["small"]["pairs"] == 6


def test_the_column_of_the_parts_breaks_nothing_down(tmp_path: Path) -> None:
    """A table that is split by a column cannot be broken down by it; a column of very many values is left out."""
    path = write_models(tmp_path, {"m": "1" * 201, "n": "0" * 201})
    with pytest.raises(InputError, match="--by axis_model: the column splits the table"):
        compare_tables([path], ScoringSpec(["numeric"], ScoreColumns(target="truth", split="model", by=("model",))))
    columns = ScoreColumns(target="truth", split="model", by=("question",))
    found = compare_tables([path], ScoringSpec(["numeric"], columns))
    assert found.warnings == ["'question' has 201 values; differences are broken down by up to 200"]
    assert found.pairings[0].groups == {}


@pytest.mark.parametrize(
    ("first", "second", "correlation"), [("1100", "1010", 0), ("110", "110", 1), ("10", "01", -1), ("11", "10", None)]
)
def test_the_correlation_of_two_tables(tmp_path: Path, first: str, second: str, correlation: float | None) -> None:
    """Pearson's correlation of the pairs' scores says whether the same rows are difficult for both; None without
    variation."""
    found = compared(write(tmp_path, "a.csv", first), write(tmp_path, "b.csv", second))
    [pairing] = found.pairings
    assert pairing.correlation == (None if correlation is None else pytest.approx(correlation))
    lines = [line for line in comparison_lines(found) if "correlation of" in line]
    wanted = [] if correlation is None else [f"  correlation of the scores {correlation:.2f}".replace("-", "−")]
    assert lines == wanted


def test_a_column_may_be_ignored(tmp_path: Path) -> None:
    """Rows are paired although an ignored column differs, without a warning, with a key and by their contents."""
    a = write(tmp_path, "a.csv", "10", question="Q: ")
    b = write(tmp_path, "b.csv", "11", question="Question: ")
    assert len(compared(a, b).warnings) == 1
    assert compared(a, b, ignore=("question",)).warnings == []
    path = tmp_path / "t.csv"
    path.write_text("m,topic,wording,truth,response\nx,a,A?,1,1\nx,b,B?,2,2\ny,a,a,1,1\ny,b,b,2,1\n")
    columns = ScoreColumns(target="truth", split="m", ignore=("wording",))
    found = compare_tables([str(path)], ScoringSpec(["numeric"], columns))
    assert (found.pairings[0].pairs, found.warnings) == (2, [])
    with pytest.raises(InputError, match=r"--ignore wordings: no such column in .*a\.csv and .*b\.csv"):
        compared(a, b, ignore=("wordings",))


def test_the_text_of_a_pairing(tmp_path: Path) -> None:
    """The lines name the difference, the test, the flips, what the pairs show, and the rows that others need."""
    a, b = write(tmp_path, "a.csv", "1" * 14 + "0" * 5 + "x"), write(tmp_path, "b.csv", "0" * 12 + "1" * 8)
    found = compare_tables([a, b], ScoringSpec(["numeric"], ScoreColumns(target="truth", key="id")), detectable=[0.2])
    [pairing] = found.pairings
    needed = pairing.rows_needed[0.2]
    assert comparison_lines(found)[4:] == [
        f"numeric: {b} against {a}, 19 pairs",
        f"  1 row of {b} not paired, without a score in one of the tables",
        "  difference −0.3684 (−0.7144 to +0.0477)",
        "  McNemar's exact test: p = 0.1435",
        "  correlation of the scores −0.78",
        "  5 rows better: 14, 15, 16, 17, 18",
        "  12 rows worse: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more (--json lists them)",
        f"  these pairs show a difference of {pairing.detectable:.4f} or more (80 % power, 5 % level)",
        f"  rows to show a difference: {needed.rows:,} ({needed.low:,} to {needed.high:,}) for 0.2",
    ]
    few = compared(write(tmp_path, "c.csv", "11"), write(tmp_path, "d.csv", "10"))
    assert "  too few pairs to show a difference of any size (80 % power, 5 % level)" in comparison_lines(few)
