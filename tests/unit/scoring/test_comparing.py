"""Tables compared, and bars over them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy import stats

from batchrun.errors import InputError
from batchrun.scoring.bars import Bar, floor_bars, junit, no_worse_bars
from batchrun.scoring.comparing import Comparison
from batchrun.scoring.evaluating import Bars, Question, compare_tables, default_scored, score_table
from batchrun.scoring.lines import comparison_lines, comparison_markdown, score_markdown
from batchrun.scoring.table import Columns

HEAD = "id,question,truth,response,status,cost_usd,duration_s,total_tokens\n"


def write(folder: Path, name: str, right: str, *, first: int = 0, question: str = "q") -> str:
    """A table of one row for each character: 1 right, 0 wrong, x failed."""
    rows = [
        f"{first + index},{question}{index},1,{'' if mark == 'x' else mark},"
        f"{'failed' if mark == 'x' else 'completed'},0.5,{index + 1},10\n"
        for index, mark in enumerate(right)
    ]
    path = folder / name
    path.write_text(HEAD + "".join(rows), encoding="utf-8")
    return str(path)


def compared(*names: str, scorers: tuple[str, ...] = ("numeric",), cluster: str | None = None) -> Comparison:
    return compare_tables(names, Question(scorers, Columns(target="truth", key="id", cluster=cluster)))


def test_rows_are_paired_by_key(tmp_path: Path) -> None:
    """Whatever their order, rows meet their likes; those that flipped are named, failed ones form no pair."""
    a = write(tmp_path, "a.csv", "1100x1")
    lines = Path(write(tmp_path, "b.csv", "101111")).read_text().splitlines(keepends=True)
    (tmp_path / "b.csv").write_text(lines[0] + "".join(reversed(lines[1:])))
    [found] = compared(a, str(tmp_path / "b.csv")).pairings
    assert found.pairs == 5
    assert found.means == pytest.approx((3 / 5, 4 / 5))
    assert (found.better, found.worse) == (["2", "3"], ["1"])
    assert found.difference.estimate.mean == pytest.approx(1 / 5)
    assert found.difference.p_value == stats.binomtest(2, 3).pvalue


def test_what_the_tables_do_not_share_is_said(tmp_path: Path) -> None:
    """Rows in one table only, and other questions under the same key, are warnings."""
    a, b = write(tmp_path, "a.csv", "1111"), write(tmp_path, "b.csv", "1111", first=1)
    warnings = compared(a, b).warnings
    assert [line.replace(str(tmp_path) + "/", "") for line in warnings] == [
        "1 rows of a.csv are not in b.csv, such as 0",
        "1 rows of b.csv are not in a.csv, such as 4",
        "'question' differs between a.csv and b.csv in 3 rows, such as 1: there they did not answer the same",
    ]
    same = write(tmp_path, "c.csv", "0000")
    assert compared(a, same).warnings == []


def test_tables_without_a_common_key_are_refused(tmp_path: Path) -> None:
    """Nothing to pair is an error and not a difference of 0."""
    with pytest.raises(InputError, match="have no key in common"):
        compared(write(tmp_path, "a.csv", "11"), write(tmp_path, "b.csv", "11", first=5))


def test_several_tables_are_corrected(tmp_path: Path) -> None:
    """Of three tables each pair is tested, and the p-values are Holm's."""
    names = [
        write(tmp_path, "a.csv", "0" * 12),
        write(tmp_path, "b.csv", "0" * 4 + "1" * 8),
        write(tmp_path, "c.csv", "1" * 12),
    ]
    found = compared(*names).pairings
    assert [Path(each.first).stem + Path(each.second).stem for each in found] == ["ab", "ac", "bc"]
    plain = [stats.binomtest(flips, flips).pvalue for flips in (8, 12, 4)]
    assert [each.difference.p_value for each in found] == plain
    assert [each.corrected_p for each in found] == pytest.approx([2 * plain[0], 3 * plain[1], plain[2]])


def test_costs_stand_side_by_side(tmp_path: Path) -> None:
    """Cost and tokens are sums, durations quantiles, over all rows."""
    a, b = write(tmp_path, "a.csv", "10x"), write(tmp_path, "b.csv", "111")
    costs = compared(a, b).contenders[0].costs
    assert (costs.cost_usd, costs.priced, costs.rows, costs.median_s, costs.tokens) == (1.5, 3, 3, 2, 30)
    assert costs.p95_s == pytest.approx(2.9)


def test_epochs_are_paired_by_their_mean(tmp_path: Path) -> None:
    """Repeated keys enter a comparison once, and no longer as right or wrong."""
    one = tmp_path / "one.csv"
    one.write_text("id,truth,response\na,1,1\na,1,0\nb,1,0\nb,1,0\n")
    two = tmp_path / "two.csv"
    two.write_text("id,truth,response\na,1,1\na,1,1\nb,1,0\nb,1,1\n")
    [found] = compared(str(one), str(two)).pairings
    assert (found.pairs, found.means, found.difference.test) == (2, (0.25, 0.75), "permutation")


def test_clusters_widen_a_difference(tmp_path: Path) -> None:
    """With a cluster column the test is that of clusters."""
    a, b = write(tmp_path, "a.csv", "1100" * 10), write(tmp_path, "b.csv", "1011" * 10)
    assert compared(a, b, cluster="question").pairings[0].difference.test == "clustered t"


def test_lines_and_markdown_say_the_same(tmp_path: Path) -> None:
    """What is printed and what goes to a pull request have the figures; a pipe in a name breaks no table."""
    found = compared(write(tmp_path, "a.csv", "1100"), write(tmp_path, "b|c.csv", "1111"))
    text, markdown = "\n".join(comparison_lines(found)), comparison_markdown(found)
    assert "difference +0.5000" in text
    assert "| +0.5000 |" in markdown
    assert "McNemar's exact test: p = 0.5000" in text
    assert "2 rows better: 2, 3" in text
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in tables[:4]}) == 1


def question(*scorers: str) -> Question:
    return Question(scorers or ("numeric",), Columns(target="truth", key="id"))


@pytest.mark.parametrize(
    ("bars", "code"),
    [
        (Bars(), 0),
        (Bars(fail_under=0.75), 0),
        (Bars(fail_under=0.76), 7),
        (Bars(fail_under=0.75, on="interval"), 7),
        (Bars(baseline="base.csv"), 7),
        (Bars(baseline="base.csv", margin=0.25), 0),
        (Bars(baseline="base.csv", margin=0.25, on="interval"), 7),
        (Bars(baseline="base.csv", margin=0.99, on="interval"), 0),
    ],
)
def test_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars: Bars, code: int) -> None:
    """A mean of 0.75, 0.25 below the baseline's, passes and fails where the bar says."""
    monkeypatch.chdir(tmp_path)
    write(Path(), "base.csv", "1111")
    found = score_table(write(Path(), "a.csv", "1110"), question(), bars)
    assert found.exit_code == code
    assert found.output == Path("a.scored.csv")


def test_a_bar_without_scores_is_not_passed(tmp_path: Path) -> None:
    """Where all rows failed there is nothing to pass by, whatever the bar."""
    found = score_table(write(tmp_path, "a.csv", "xx"), question(), Bars(fail_under=0))
    assert found.bars == [Bar("numeric: at least 0", False, "no row has a score")]
    base = write(tmp_path, "base.csv", "11")
    found = score_table(str(tmp_path / "a.csv"), question(), Bars(baseline=base, margin=1))
    assert found.exit_code == 7


def test_a_pass_that_may_be_luck_says_so(tmp_path: Path) -> None:
    """A bar on the figure tells when the interval reaches below the margin; failed rows are not hidden."""
    a, b = write(tmp_path, "a.csv", "1110x"), write(tmp_path, "b.csv", "11101")
    [bar] = no_worse_bars(compared(a, b).pairings, 0.01, "value")
    assert bar.passed
    assert "a loss of more than 0.01 is not ruled out" in bar.found
    found = score_table(a, question(), Bars(fail_under=0.5))
    assert "1 failed rows not counted" in found.bars[0].found
    assert floor_bars(found.summaries, 0.5, "value") == found.bars


def test_junit_is_what_ci_reads() -> None:
    """Every bar is a test case, a failed one with its failure, and the counts agree."""
    bars = [Bar("a: at least 0.9", True, "0.95"), Bar("b <&> c", False, "0.1 & less")]
    suite = ElementTree.fromstring(junit(bars, "batchrun score t.csv")).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["a: at least 0.9", "b <&> c"]
    assert cases[0].find("failure") is None
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "0.1 & less"


def test_markdown_is_harmless(tmp_path: Path) -> None:
    """Values from the table that look like markup come out as text."""
    path = tmp_path / "t.csv"
    path.write_text('truth,response,kind\n1,1,"<img src=x>|[x](y)"\n')
    found = score_table(str(path), Question(["numeric"], Columns(target="truth", by=("kind",))), Bars())
    text = score_markdown("t.csv", found.summaries, found.bars)
    assert r"\<img src=x\>\|\[x\](y)" in text


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("o/a.csv", "o/a.scored.csv"), ("a.b.csv.gz", "a.b.scored.csv.gz"), ("a.parquet", "a.scored.parquet")],
)
def test_where_scores_go(name: str, wanted: str) -> None:
    """Beside the table, under a name of its own and with its ending."""
    assert default_scored(name) == Path(wanted)


@pytest.mark.parametrize(
    ("names", "key", "message"),
    [
        (["a"], "id", "two tables or more"),
        (["a", "a"], "id", "named twice"),
        (["a", "b"], None, "say --key COLUMN"),
    ],
)
def test_what_cannot_be_compared(names: list[str], key: str | None, message: str) -> None:
    """One line says what is missing."""
    with pytest.raises(InputError, match=message):
        compare_tables(names, Question(["numeric"], Columns(target="truth", key=key)))


def test_a_baseline_needs_a_key(tmp_path: Path) -> None:
    """Without a key rows cannot be paired, and nothing is written."""
    path = write(tmp_path, "a.csv", "1")
    with pytest.raises(InputError, match="--no-worse-than: pairs the rows of two tables: say --key"):
        score_table(path, Question(["numeric"], Columns(target="truth")), Bars(baseline=path))
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]
