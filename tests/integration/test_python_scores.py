"""`batchrun.score`, `compare` and `report`: the figures of the commands, as objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import batchrun
from batchrun.errors import BatchrunError, InputError
from tests.support.browser import open_browser, watched_page
from tests.support.command import batchrun as command

HOSTILE = '<script>alert("1")</script>'


def table(rows: int = 12, wrong_every: int = 3) -> pd.DataFrame:
    """Return answers: every third is wrong, one row has failed, one has no target."""
    responses = [str(-1 if row % wrong_every == 0 else row) for row in range(rows)]
    frame = pd.DataFrame(
        {
            "id": [f"r{row}" for row in range(rows)],
            "topic": ["sums" if row % 2 else "products" for row in range(rows)],
            "truth": [str(row) for row in range(rows)],
            "response": responses,
            "status": ["completed"] * rows,
        },
        index=[f"i{row}" for row in range(rows)],
    )
    frame.loc["i1", ["response", "status"]] = [None, "failed"]
    frame.loc["i2", "truth"] = None
    return frame


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with the tables as files, and no key."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHRUN_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    table().to_csv("a.csv", index=False)
    table(wrong_every=4).to_csv("b.csv", index=False)
    return tmp_path


FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "Arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "list": lambda frame: frame.astype(object).where(frame.notna(), None).to_dict("records"),
    "path": lambda frame: Path("a.csv"),
    "text": lambda frame: "a.csv",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("failed_as", ["skip", "wrong"])
def test_scores_are_those_of_the_command(folder: Path, form: str, failed_as: Any) -> None:
    """All figures equal those of `batchrun score --json`, whatever form the table has; no file is written."""
    options = ("--target", "truth", "--by", "topic", "--failed-as", failed_as, "--fail-under", "0.5", "--json")
    done = command(folder, "score", "a.csv", "--scorer", "numeric", "--scorer", "f1", *options)
    wanted = json.loads(done.stdout)
    Path("a.scored.csv").unlink()
    found = batchrun.score(
        FORMS[form](table()), ["numeric", "f1"], target="truth", by="topic", failed_as=failed_as, fail_under=0.5
    )
    assert {**found.facts(), "table": "a.csv", "output": wanted["output"]} == wanted
    assert found.passed is (done.returncode == 0)
    assert {path.name for path in folder.iterdir()} == {"a.csv", "b.csv"}


def test_the_figures_are_attributes() -> None:
    """Mean, interval and every kind of row that is not in the mean are attributes: no row is lost."""
    scores = batchrun.score(table(), "numeric", target="truth", by="topic")
    assert (scores.n, scores.rows, scores.failed, scores.unjudged, scores.unfinished) == (10, 12, 1, 1, 0)
    assert scores.mean == pytest.approx(6 / 10)
    assert scores.interval == pytest.approx((0.3127, 0.8318), abs=1e-4)
    assert scores.reasons == {"no target": 1}
    assert scores.groups["topic"]["sums"].n == 5
    assert scores.groups["topic"]["sums"].failed == 1
    assert (scores.epochs, scores.bars, scores.passed, scores.output) == (None, [], True, None)


def test_the_frame_has_the_scores_next_to_the_input() -> None:
    """`to_frame` keeps index and columns; a row without a score has none. Changing it does not change the scores."""
    scores = batchrun.score(table(), "numeric", target="truth")
    frame = scores.to_frame()
    assert frame.index.tolist() == table().index.tolist()
    assert frame.columns.tolist() == [*table().columns, "score_numeric", "score_numeric_read"]
    assert frame.index[frame["score_numeric"].isna()].tolist() == ["i1", "i2"]
    assert frame["score_numeric"].tolist()[5] == 1.0
    assert frame["score_numeric_read"].tolist()[5] == "5"
    frame.loc["i5", "score_numeric"] = 0.0
    assert scores.to_frame().loc["i5", "score_numeric"] == 1.0


def test_the_text_is_that_of_the_command(folder: Path) -> None:
    """`summary` and `print` give what `batchrun score` prints, with parameters in place of flags."""
    printed = command(folder, "score", "a.csv", "--scorer", "numeric", "--target", "truth", "--by", "topic").stdout
    scores = batchrun.score("a.csv", "numeric", target="truth", by="topic")
    assert scores.summary() == str(scores) == printed.replace("--failed-as wrong", "failed_as='wrong'").rstrip("\n")
    assert repr(scores) == "<Scores of a.csv: numeric 60.0 %  (31.3 % to 83.2 %) of 10 rows>"


def test_the_scored_table_is_written_if_it_is_named(folder: Path) -> None:
    """`output` writes what the command writes, cell by cell."""
    command(folder, "score", "a.csv", "--scorer", "numeric", "--target", "truth", "-o", "wanted.csv")
    scores = batchrun.score("a.csv", "numeric", target="truth", output="found.csv")
    assert scores.output == Path("found.csv")
    assert Path("found.csv").read_text() == Path("wanted.csv").read_text()
    with pytest.raises(
        InputError, match=r"^a\.csv: the output is the input table itself; name another file with output="
    ):
        batchrun.score("a.csv", "numeric", target="truth", output="a.csv")


def test_functions_are_scorers() -> None:
    """A function scores by answer and target, or by the row too; names come from it, or from a dict."""

    def close(answer: str, target: Any, row: dict[str, Any]) -> float:
        return 1.0 if row["id"] == "r3" else 0.25

    scores = batchrun.score(
        table(), {"near": close, "short": lambda answer, target: len(answer) < 2, "n": "numeric"}, target="truth"
    )
    assert scores.scorers == ("near", "short", "n")
    assert scores["near"].mean == pytest.approx((10 * 0.25 + 1) / 11)
    assert batchrun.score(table(), close).to_frame()["score_close"].tolist()[3] == 1.0
    assert batchrun.score(table(), [close, "numeric"], target="truth").scorers == ("close", "numeric")
    with pytest.raises(KeyError, match="there is no scorer 'far'; the scorers are 'near', 'short', 'n'"):
        scores["far"]
    with pytest.raises(InputError, match=r"^there are 3 scorers; choose one, as in scores\['near'\]$"):
        _ = scores.mean


def test_bars_and_a_baseline() -> None:
    """`fail_under` and `no_worse_than` give bars; the baseline may be a table in memory."""
    better = table(wrong_every=100)
    options: Any = {"target": "truth", "key": "id", "fail_under": 0.5, "no_worse_than": better, "margin": 0.1}
    assert not any(bar.passed for bar in batchrun.score(table(), "numeric", **options).bars)
    scores = batchrun.score(table(), "numeric", **options, min_scored=0.9)
    assert [bar.passed for bar in scores.bars] == [True, False]
    assert scores.bars[1].name == "numeric: no worse than no_worse_than by more than 0.1"
    assert not scores.passed
    assert "FAILED  numeric: no worse than" in scores.summary()


def test_repeated_rows_give_pass_at_k() -> None:
    """With epochs the interval is over the rows, and pass@k is an attribute and a table of the notebook."""
    frame = pd.concat([table().assign(epoch=1), table(wrong_every=4).assign(epoch=2)], ignore_index=True)
    scores = batchrun.score(frame, "numeric", target="truth", key="id")
    assert scores.epochs is not None
    assert (scores.epochs.keys, scores.epochs.most) == (10, 2)
    assert scores.epochs.pass_at_k[2].mean == pytest.approx(0.9)
    assert scores.variance is not None
    assert f"variance: {100 * scores.variance.share_between:.1f} % between rows" in scores.summary()
    assert scores.note is None
    few = batchrun.score(frame[frame["id"] == frame["id"][0]], "numeric", target="truth", key="id")
    assert few.note == "a single cluster counts as one right or wrong row"
    assert "numeric over the epochs of 10 rows" in Page(scores._repr_html_()).texts


def test_a_comparison_is_that_of_the_command(folder: Path) -> None:
    """All figures equal those of `batchrun compare --json`, from files and from tables in memory."""
    options = ("--key", "id", "--scorer", "numeric", "--scorer", "f1", "--target", "truth", "--json")
    wanted = json.loads(command(folder, "compare", "a.csv", "b.csv", *options).stdout)
    given: dict[str, Any] = {"key": "id", "scorer": ["numeric", "f1"], "target": "truth"}
    assert json.loads(json.dumps(batchrun.compare("a.csv", "b.csv", **given).facts())) == wanted
    in_memory = batchrun.compare(table(), table(wrong_every=4), names=["a.csv", "b.csv"], **given)
    assert json.loads(json.dumps(in_memory.facts())) == wanted
    assert in_memory.summary() == command(folder, "compare", "a.csv", "b.csv", *options[:-1]).stdout.rstrip("\n")


def test_the_figures_of_a_comparison_are_attributes() -> None:
    """Difference, interval, p-value and flipped rows are attributes; the frame has the rows of both tables."""
    found = batchrun.compare(table(), table(wrong_every=4), scorer="numeric", key="id", target="truth")
    assert found.tables == ("A", "B")
    assert found.difference == pytest.approx(0.1)
    assert (found.pairs, found.better, found.worse) == (10, ("r3", "r6", "r9"), ("r4", "r8"))
    assert found.p_value == 1.0
    assert found.interval is not None
    assert found.scores["B"]["numeric"].mean == pytest.approx(0.7)
    assert found.to_frame().loc["B"].loc["i3", "score_numeric"] == 1.0
    assert found.to_frame().loc["A"].loc["i3", "score_numeric"] == 0.0
    several = batchrun.compare(table(), table(), table(), scorer="numeric", key="id", target="truth")
    assert len(several.pairings) == 3
    with pytest.raises(InputError, match=r"^there are 3 pairings"):
        _ = several.p_value


def test_the_parts_of_one_table() -> None:
    """`split` compares the values of a column, such as the models of one batch, with the baseline that is named."""
    frame = pd.concat([table().assign(model="small"), table(wrong_every=100).assign(model="large")])
    found = batchrun.compare(frame, split="model", baseline="large", scorer="numeric", key="id", target="truth")
    assert found.tables == ("large", "small")
    assert found.difference is not None
    assert found.difference < 0
    assert len(found.to_frame()) == 24


MISTAKES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: batchrun.score("a.csv", "numeric"),
        "scorer='numeric': needs a target: name its column with target=COLUMN",
    ),
    (
        lambda: batchrun.score(table(), "numeric", target="nope"),
        "target nope: data has no such column (columns: 'id', 'topic', 'truth', 'response', 'status')",
    ),
    (
        lambda: batchrun.score([{"truth": 1, "response": "1"}], "numeric", target="thruth"),
        "target thruth: data has no such column (columns: 'truth', 'response'); did you mean 'truth'?",
    ),
    (lambda: batchrun.score("absent-table.csv", "numeric"), "absent-table.csv: no such file in FOLDER"),
    (lambda: batchrun.score(table(), 3), "scorer: expected a name such as 'numeric', or a function, got 3"),  # type: ignore[call-overload]
    (
        lambda: batchrun.score(table(), lambda: 1),
        "lambda: takes (); expected (answer, target) or (answer, target, row)",
    ),
    (
        lambda: batchrun.score(table(), "numeric", target="truth", fail_under=3),
        "score: fail_under: expected a number from 0 to 1, got 3",
    ),
    (
        lambda: batchrun.score(table(), "numeric", target="truth", no_worse_than=table()),
        "no_worse_than: pairs rows by id, not by position; name their id column with key=COLUMN",
    ),
    (lambda: batchrun.score(table(), "numeric", target="truth", margin=0.1), "score: margin requires no_worse_than"),
    (
        lambda: batchrun.score(table(), "model-graded"),
        "scorer='model-graded': no grader is named; add grader=FILE.toml or grader_model=NAME",
    ),
    (
        lambda: batchrun.compare(table(), scorer="exact", target="truth"),
        "compare: two or more tables are expected, or one table and split=COLUMN",
    ),
    (
        lambda: batchrun.compare(table(), table()[::-1], scorer="exact", target="truth"),
        "compare: pairs rows by id, not by position; name their id column with key=COLUMN",
    ),
    (
        lambda: batchrun.compare(table(), table(), names="ab", scorer="exact", key="id"),
        "names: expected a list with one name for each of 2 tables, got 'ab'",
    ),
    (
        lambda: batchrun.compare(table(), table(), detect=2, scorer="exact", key="id"),
        "detect: expected numbers above 0 and at most 1, got 2",
    ),
    (
        lambda: batchrun.report(table(), target="truth"),
        "target: is an option of scoring: add scorer, as in scorer='numeric'",
    ),
    (
        lambda: batchrun.report(table(), output="a.csv"),
        "output='a.csv': expected a name that ends in .html, since the output is a page",
    ),
    (lambda: batchrun.report(table(), rows=-1), "rows: expected a whole number, at least 0, got -1"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_line_about_parameters(mistake: Callable[[], object], message: str) -> None:
    """A wrong argument gives one line that names the parameter, not a flag."""
    with pytest.raises(BatchrunError) as raised:
        mistake()
    assert str(raised.value).replace(str(Path.cwd()), "FOLDER") == message


class Page(HTMLParser):
    """The tags and the text of a piece of HTML. Mutable state: both lists."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_notebook_shows_tables_without_the_markup_of_cells() -> None:
    """HTML in a cell, a column or a name is shown as text; tables have captions and headings for rows and columns."""
    frame = table().assign(**{HOSTILE: HOSTILE})
    scores = Page(batchrun.score(frame, "numeric", target="truth", by=HOSTILE, fail_under=0.5)._repr_html_())
    comparison = Page(
        batchrun.compare(frame, frame, names=[HOSTILE, "b"], scorer="exact", key="id", target="truth")._repr_html_()
    )
    for page in (scores, comparison):
        assert set(page.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li"}
        assert page.tags.count("caption") == page.tags.count("table") >= 2
        assert HOSTILE in page.texts
        assert page.attributes["scope"] == "row"


def test_a_report_is_that_of_the_command(folder: Path) -> None:
    """The page has the bytes that `batchrun report` writes, apart from the time at which it was made."""
    command(folder, "report", "a.csv", "--scorer", "numeric", "--target", "truth", "-o", "wanted.html")
    page = batchrun.report("a.csv", "numeric", target="truth", output="found.html")
    assert page.output == Path("found.html")
    wanted, found = (Path(f"{name}.html").read_text() for name in ("wanted", "found"))
    when = page.facts()["made_at"]
    assert len(found) == len(wanted)
    assert found[: found.index(when)] == wanted[: found.index(when)]
    assert found == page.to_html()


def test_a_report_in_a_notebook() -> None:
    """The page is inside a frame of its own origin; a page too large for a notebook is shown as its figures."""
    page = batchrun.report(table(), "numeric", target="truth")
    assert (page.rows, page.failed, page.cost_usd) == (12, 1, None)
    assert page.by_status == {"completed": 11, "failed": 1}
    assert page.summary().splitlines()[:2] == [
        "12 rows: 11 completed, 1 failed",
        "numeric  60.0 %  (31.3 % to 83.2 %)  of 10 rows",
    ]
    shown = Page(page._repr_html_())
    assert shown.tags == ["iframe"]
    assert shown.attributes["sandbox"] == "allow-scripts allow-downloads"
    assert str(shown.attributes["srcdoc"]).startswith("<!doctype html>")
    assert page.to_frame()["score_numeric"].tolist()[5] == 1.0
    many = batchrun.report(table().assign(text="x" * 500_000))
    assert Page(many._repr_html_()).tags == ["ul", "li", "li"]
    assert page.save("pages/report.html").read_text() == page.to_html()
    with pytest.raises(InputError, match=r"expected a name that ends in \.html"):
        page.save("report.txt")


def test_a_report_inside_a_notebook_works() -> None:
    """Inside the frame of a notebook the page draws itself: its scripts run, nothing is requested, no policy is violated;
    and a cell with markup does nothing to the page around it."""
    answers = table().assign(**{HOSTILE: HOSTILE})
    page = batchrun.report(answers, "numeric", target="truth", by="topic")
    Path("notebook.html").write_text(f"<!doctype html><meta charset=utf-8>{page._repr_html_()}", encoding="utf-8")
    with open_browser() as browser, watched_page(browser) as shown:
        shown.page.goto(Path("notebook.html").absolute().as_uri())
        frame = shown.page.frame_locator("iframe")
        frame.get_by_text("12 rows").first.wait_for()
        assert frame.get_by_text("31.3 % to 83.2 %").count() >= 1
        assert shown.violations() == []
        assert [url for url in shown.requests if not url.startswith(("file:", "about:", "data:"))] == []


def test_a_report_of_a_batch_has_its_journal(folder: Path) -> None:
    """The path of an output brings its journal: the page names the batch."""
    batchrun.run(["1 + 1"], model="tutor", output="out.csv")
    assert batchrun.report("out.csv").facts()["batch"] is not None
    in_memory = batchrun.report(pd.read_csv("out.csv")).facts()
    assert in_memory["batch"] is None
    assert in_memory["notes"] == ["A table in memory has no journal: attempts, prompts and refusals are unknown."]


def test_the_functions_stay_functions() -> None:
    """`batchrun.report`, `score` and `compare` are functions after every module of the package has been imported."""
    batchrun.report(table())
    for name in ("report", "score", "compare", "run"):
        assert callable(getattr(batchrun, name))
