"""Bars on the scores of a table: means, baselines, and enough scored rows."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from batchrun.errors import InputError
from batchrun.scoring.bars import Bar, floor_bars, junit, no_worse_bars
from batchrun.scoring.evaluate import Bars, ScoringSpec, compare_tables, score_table
from batchrun.scoring.score_columns import ScoreColumns
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.summary_text import score_lines, score_markdown
from tests.support.marked_tables import write


def question(*scorers: str) -> ScoringSpec:
    return ScoringSpec(scorers or ("numeric",), ScoreColumns(target="truth", key="id"))


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
    """A mean of 0.75, 0.25 below the baseline's, passes or fails by the bar."""
    monkeypatch.chdir(tmp_path)
    write(Path(), "base.csv", "1111")
    found = score_table(write(Path(), "a.csv", "1110"), question(), bars)
    assert found.exit_code == code
    assert found.output == Path("a.scored.csv")


def test_a_bar_without_scores_is_not_passed(tmp_path: Path) -> None:
    """If all rows have failed, no bar is passed, not even with `--min-scored 0`."""
    found = score_table(write(tmp_path, "a.csv", "xx"), question(), Bars(fail_under=0, min_scored=0))
    assert found.bars == [Bar("numeric: at least 0", False, "no row has a score; 0 of 2 rows scored (2 failed)")]
    base = write(tmp_path, "base.csv", "11")
    found = score_table(str(tmp_path / "a.csv"), question(), Bars(baseline=base, margin=1, min_scored=0))
    assert [bar.found for bar in found.bars] == ["no row has a score in both tables; 0 of 2 rows scored (2 failed)"]
    assert found.exit_code == 7


def write_kinds(folder: Path, name: str, kinds: str) -> str:
    """Write a table with a row per character: 1 correct, 0 wrong, x failed, c cut short, p pending, s skipped, u with
    a target that cannot be read, n without a target, N failed without a target."""
    statuses = {"x": "failed", "N": "failed", "c": "incomplete", "p": "pending", "s": "skipped"}
    rows = [
        f"{index},{'' if kind in 'nN' else 'odd' if kind == 'u' else 1},{'' if kind in 'xNps' else 0 if kind == '0' else 1},"
        f"{statuses.get(kind, 'completed')}\n"
        for index, kind in enumerate(kinds)
    ]
    path = folder / name
    path.write_text("id,truth,response,status\n" + "".join(rows))
    return str(path)


SCORED = "1.0000 (0.5655 to 1.0000) of 5 rows"


@pytest.mark.parametrize(
    ("kinds", "min_scored", "failed_as", "found"),
    [
        ("11111nNss", 1, "skip", SCORED),
        ("11111x", 0.8, "skip", f"{SCORED}; 5 of 6 rows scored (1 failed)"),
        ("11111p", 5 / 6, "skip", f"{SCORED}; 5 of 6 rows scored (1 without an answer yet)"),
        ("1111cp", 0.5, "skip", f"{SCORED}; 4 of 6 rows scored (1 cut short, 1 without an answer yet)"),
        ("11111u", 0.95, "skip", f"{SCORED}; 5 of 6 rows scored (1 not judged); --min-scored 0.95 is not reached"),
        ("1111c", 0.81, "skip", f"{SCORED}; 4 of 5 rows scored (1 cut short); --min-scored 0.81 is not reached"),
        ("11111NN", 1, "wrong", SCORED),
        ("11111x", 1, "wrong", "0.8333 (0.4365 to 0.9699) of 6 rows"),
    ],
)
def test_a_bar_needs_enough_scored_rows(
    tmp_path: Path, kinds: str, min_scored: float, failed_as: FailedAs, found: str
) -> None:
    """Failed, cut short, unfinished and unjudged rows count against a bar; rows without a target and skipped rows do
    not; a failed row that counts as 0 has a score."""
    spec = ScoringSpec(["numeric"], ScoreColumns(target="truth", key="id"), failed_as)
    [bar] = score_table(write_kinds(tmp_path, "t.csv", kinds), spec, Bars(0.5, min_scored=min_scored)).bars
    assert (bar.passed, bar.found) == ("not reached" not in found, found)


def test_one_scored_row_of_a_thousand_passes_no_bar(tmp_path: Path) -> None:
    """By default 95 % of the rows must have a score, for every kind of bar and scorer."""
    base = write_kinds(tmp_path, "base.csv", "1" * 1000)
    bars = Bars(fail_under=0.9, baseline=base, margin=0.5)
    spec = ScoringSpec(["numeric", "regex:."], ScoreColumns(target="truth", key="id"))
    found = score_table(write_kinds(tmp_path, "t.csv", "1" + "x" * 999), spec, bars)
    counts = "1 of 1,000 rows scored (999 failed); --min-scored 0.95 is not reached"
    assert [bar.passed for bar in found.bars] == [False] * 4
    assert all(counts in bar.found for bar in found.bars)
    assert found.bars[0].found == f"1.0000 (0.2065 to 1.0000) of 1 row; {counts}"
    assert score_table(base, spec, bars).exit_code == 0


@pytest.mark.parametrize(("kinds", "passes"), [("1" * 19 + "x", True), ("1" * 18 + "xu", False), ("1" * 18, False)])
def test_a_baseline_needs_enough_scored_rows(tmp_path: Path, kinds: str, passes: bool) -> None:
    """Rows without a score in the baseline, or missing from it, count against the bar that pairs with it."""
    base = write_kinds(tmp_path, "base.csv", kinds)
    [bar] = score_table(write_kinds(tmp_path, "t.csv", "1" * 20), question(), Bars(baseline=base)).bars
    assert bar.name == f"numeric: no worse than {base} by more than 0"
    paired = "18 of 20 rows paired (2 without a score in one of the tables); --min-scored 0.95 is not reached"
    assert bar.passed is passes
    assert (paired in bar.found) is not passes


def test_a_baseline_needs_no_groups(tmp_path: Path) -> None:
    """A column of `by` belongs to the table; its baseline may lack it."""
    (tmp_path / "t.csv").write_text("id,truth,response,topic\na,1,1,x\nb,1,1,y\n")
    (tmp_path / "base.csv").write_text("id,truth,response\na,1,1\nb,1,1\n")
    spec = ScoringSpec(["numeric"], ScoreColumns(target="truth", key="id", by=("topic",)))
    found = score_table(str(tmp_path / "t.csv"), spec, Bars(baseline=str(tmp_path / "base.csv")))
    assert (found.exit_code, list(found.summaries[0].groups["topic"])) == (0, ["x", "y"])


def test_rows_that_a_scorer_needs_no_target_for(tmp_path: Path) -> None:
    """If a scorer needs no target, failed rows without one count against the bar; rows that it leaves out do not."""
    path = tmp_path / "t.csv"
    path.write_text("truth,response,status,mark\n1,1,completed,1\n,1,completed,\n,,failed,\n")
    [bar] = score_table(str(path), ScoringSpec(["column:mark"], ScoreColumns(target="truth")), Bars(0.5)).bars
    assert bar.found.endswith("1 of 2 rows scored (1 failed); --min-scored 0.95 is not reached")


def test_every_figure_has_the_counts_of_other_rows(tmp_path: Path) -> None:
    """Failed, unjudged, unfinished, cut short and skipped rows are counted in text, Markdown, JSON and groups."""
    path = Path(write_kinds(tmp_path, "t.csv", "10xcuNpss"))
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([f"{lines[0]},kind", *(f"{line},{'ab'[place // 5]}" for place, line in enumerate(lines[1:]))])
    )
    spec = ScoringSpec(["numeric"], ScoreColumns(target="truth", key="id", by=("kind",)))
    found = score_table(str(path), spec, Bars())
    facts = found.facts()["scores"][0]
    assert {name: facts[name] for name in ("n", "rows", "failed", "unfinished", "unjudged", "skipped", "cut_short")} == {
        "n": 3, "rows": 7, "failed": 2, "unfinished": 1, "unjudged": 1, "skipped": 2, "cut_short": 1
    }  # fmt: skip
    assert (facts["expected"], facts["missing"]) == (6, {"failed": 1, "cut_short": 1, "unjudged": 1, "unfinished": 1})
    text = score_lines(found.summaries, found.incomplete)
    assert text == [
        "numeric  66.7 %  (20.8 % to 93.9 %)  of 3 rows",
        "  1 failed row is not counted (--failed-as wrong counts it as 0)",
        "  1 failed row without a target, not counted",
        "  1 row without an answer yet, not counted",
        "  1 row cannot be judged: the target has no number",
        "  2 rows skipped, not counted",
        "  by kind:",
        "    a  66.7 %  (20.8 % to 93.9 %)  3 rows  1 failed, 1 not judged, 1 cut short",
        "    b  –                           0 rows  1 failed, 1 unfinished, 2 skipped",
        "1 answer was cut short; it is treated like the others",
    ]
    markdown = score_markdown("t.csv", found.summaries, found.bars)
    assert "| numeric | 66.7 % | 20.8 % to 93.9 % | 3 | 2 | 1 | 1 | 2 |" in markdown


def test_a_pass_that_may_be_luck_says_so(tmp_path: Path) -> None:
    """A bar on the mean says if the interval extends below the margin; failed rows are mentioned."""
    a, b = write(tmp_path, "a.csv", "1110x"), write(tmp_path, "b.csv", "11101")
    comparison = compare_tables([a, b], question())
    [bar] = no_worse_bars(comparison.pairings, comparison.contenders[1].summaries, 0.01, "value", 0.5)
    assert bar.passed
    assert "a loss of more than 0.01 is not ruled out" in bar.found
    found = score_table(a, question(), Bars(fail_under=0.5))
    assert floor_bars(found.summaries, 0.5, "value") == found.bars


def test_junit_is_what_ci_reads() -> None:
    """Every bar is a test case, a missed one has a failure, and the counts agree."""
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


def test_a_baseline_needs_a_key(tmp_path: Path) -> None:
    """Without a key column rows cannot be paired, and nothing is written."""
    path = write(tmp_path, "a.csv", "1")
    with pytest.raises(
        InputError,
        match="--no-worse-than: pairs rows by id, not by position; name their id column with --key",
    ):
        score_table(path, ScoringSpec(["numeric"], ScoreColumns(target="truth")), Bars(baseline=path))
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


def test_the_form_of_junit_and_of_json() -> None:
    """The XML has the attributes that CI systems read, and the JSON of a bar has its name, its result and its line."""
    bar = Bar("a: at least 0.9", False, "0.1")
    assert junit([bar], "batchrun score t.csv").decode().split("\n", 1)[1] == (
        "<testsuites>\n"
        '  <testsuite name="batchrun score t.csv" tests="1" failures="1" errors="0" skipped="0" time="0">\n'
        '    <testcase classname="batchrun.score" name="a: at least 0.9" time="0">\n'
        '      <failure message="0.1" type="bar">0.1</failure>\n'
        "    </testcase>\n"
        "  </testsuite>\n"
        "</testsuites>\n"
    )
    assert bar.facts() == {"bar": "a: at least 0.9", "passed": False, "found": "0.1"}
