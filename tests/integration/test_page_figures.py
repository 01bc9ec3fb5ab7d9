"""The figures that a report page computes in the browser, against those that Python computes."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchrun.reporting.html import SCRIPTS
from batchrun.reporting.report import figures_of, page_data, report_of
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_columns import ScoreColumns
from batchrun.scoring.score_options import FailedAs
from batchrun.scoring.summary import summarize
from tests.support.answers import SCORE, numbered, write
from tests.support.browser import watched_page
from tests.support.command import batchrun
from tests.support.rows import noon

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    """A page without a document of its own, to call the functions of the page's script."""
    page = browser.new_page()
    yield page
    page.close()


def called(page: Page, expression: str, argument: Any) -> Any:
    """Return the value of an expression over `given`, with the functions of the page's script."""
    assets = files("batchrun.reporting").joinpath("assets")
    script = "\n".join(assets.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS if name != "main")
    return page.evaluate(f"(given) => {{ {script}\nreturn {expression}; }}", argument)


def word_diffs(page: Page, pairs: list[tuple[str, str]]) -> Any:
    return called(page, "given.map(([one, other]) => wordDiff(one, other))", pairs)


def test_a_difference_holds_both_texts(blank: Page) -> None:
    """The parts of a difference join to both texts exactly, alternate in kind, and put what is gone before what is
    new."""
    rng = random.Random(7)
    pieces = ["a", "b", " ", "c", "\n", "日", ".", "e\u0301", "\U0001f600", "\r\n"]
    texts = ["".join(rng.choices(pieces, k=rng.randrange(14))) for _ in range(800)]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    for (before, after), parts in zip(pairs, word_diffs(blank, pairs), strict=True):
        assert "".join(each["text"] for each in parts if each["kind"] != "new") == before
        assert "".join(each["text"] for each in parts if each["kind"] != "gone") == after
        kinds = [each["kind"] for each in parts]
        assert all(one != other and (one, other) != ("new", "gone") for one, other in pairwise(kinds))


def test_a_difference_is_small_and_bounded(blank: Page) -> None:
    """Words that both texts share are the same part; texts that share nearly nothing, or are long, have no difference."""
    short, unlike, long = word_diffs(
        blank,
        [
            ("The answer is 20 of them.", "The right answer is 25, sir."),
            ("a b " * 6_000, "c d " * 6_000),
            ("a" * 50_001, "a"),
        ],
    )
    assert [(each["kind"], each["text"]) for each in short] == [
        ("same", "The "), ("new", "right "), ("same", "answer is "), ("gone", "20 of them"), ("new", "25, sir"), ("same", "."),
    ]  # fmt: skip
    assert unlike is None
    assert long is None


def test_a_difference_has_a_color_only_if_its_interval_excludes_0(blank: Page) -> None:
    """A difference is better or worse if its whole interval is; any other is said to be not distinguishable from 0."""
    ends = [(0.01, 0.2), (-0.2, -0.01), (-0.01, 0.2), (0.0, 0.2), (None, None)]
    found = called(blank, "given.map(([low, high]) => distinguished({ mean: 0.1, low, high }))", ends)
    assert [each["kind"] for each in found] == ["better", "worse", "", "", ""]
    assert [each["note"] is None for each in found] == [True, True, False, False, False]
    assert found[2]["note"] == "not distinguishable from 0"


def test_the_cost_per_1000_rows_is_that_of_rows_that_ended(blank: Page) -> None:
    """Rows that wait, or that the batch leaves out, have cost nothing yet."""
    headline = {
        "rows": 3_000,
        "by_status": {"completed": 990, "failed": 10, "in_flight": 20, "pending": 1_480, "skipped": 500},
        "cost_usd": 0.25,
        "unpriced": 0,
        "tokens_known": False,
        "busy_s": None,
    }
    facts: dict[str, Any] = {"headline": headline, "batch": None, "distributions": []}
    assert "$0.25 per 1,000 rows" in called(blank, "cards(given).textContent", facts)


def test_only_a_course_of_three_buckets_is_drawn(blank: Page) -> None:
    """A session whose rows and attempts are all in one or two buckets has no chart over time."""
    found = called(
        blank,
        "given.map(([ended, tries]) => hasCourse({ ended, tries }))",
        [([5], None), ([5, 1], [3, 3]), ([5, 0, 0, 1], None), ([1, 0, 0, 1], [1, 1, 0, 0]), ([1, 2, 1], None)],
    )
    assert found == [False, False, False, True, True]


# -- the figures of some rows -----------------------------------------------------------------------------------------


COLUMNS = [
    "id",
    "passage",
    "truth",
    "grade",
    "topic",
    "response",
    "status",
    "error_type",
    "error",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost_usd",
    "duration_s",
    "completed_at",
    "label",
    "confidence",
    "urgent",
    "reason",
]


def answers(path: Path, *, with_clusters: bool) -> None:
    """Write answers of all statuses with fields, labels, scores between 0 and 1, missing costs and a pause."""
    rng = random.Random(11)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for number in range(300):
            status = rng.choices(("completed", "incomplete", "failed", "skipped", "pending"), (80, 5, 8, 4, 3))[0]
            answered = status in ("completed", "incomplete")
            label, tokens = rng.choice(("billing", "returns", "other", "none of these")), rng.randrange(1, 400)
            row = {
                "id": f"q{number}", "passage": number // 7 if with_clusters else number, "truth": rng.choice(("billing", "returns", "other", "")),
                "topic": rng.choice(("mail", "chat", "")), "status": status, "model": rng.choice(("a", "b")),
                "error_type": {"failed": "timeout", "incomplete": "max_tokens"}.get(status, ""), "error": "600 s" if status == "failed" else "",
            }  # fmt: skip
            if answered:
                fields = {
                    "label": label, "confidence": rng.randrange(100) / 100, "urgent": rng.choice((True, False)), "reason": f"reason {number}",
                }  # fmt: skip
                row |= {
                    "response": json.dumps(fields), "grade": rng.choice(("0", "0.25", "0.9", "1", "")), "prompt_tokens": rng.randrange(50, 90),
                    "completion_tokens": tokens, "total_tokens": tokens + 70, "cost_usd": rng.choice(("", f"{tokens / 1e6:.8f}")),
                    "duration_s": f"{rng.lognormvariate(0, 1):.3f}", "completed_at": f"2026-11-23T{9 + number // 200}:{number % 60:02}:07.000+00:00",
                    **fields, "urgent": rng.choice(("true", "false", "")),
                }  # fmt: skip
            writer.writerow(row)


FIGURES = """(() => {
  const rows = new Rows();
  rows.clear(given.page.columns);
  for (const portion of given.page.portions) rows.put(portion);
  return given.chosen.map((positions) => figuresOf(rows, positions.map((position) => rows.at(position)), given.page.facts));
})()"""


@pytest.mark.parametrize(
    ("with_clusters", "failed_as"),
    [
        (False, "wrong"),
        (True, "skip"),
        pytest.param(False, "skip", marks=pytest.mark.nightly),
        pytest.param(True, "wrong", marks=pytest.mark.nightly),
    ],
)
def test_figures_of_some_rows_are_those_of_python(
    tmp_path: Path, blank: Page, with_clusters: bool, failed_as: FailedAs
) -> None:
    """Counts, means with intervals, groups, bands, labels, fields and distributions of any rows are the same in the
    browser as in Python."""
    answers(tmp_path / "a.csv", with_clusters=with_clusters)
    columns = ScoreColumns(target="truth", by=("topic", "model"), cluster="passage" if with_clusters else None)
    spec = ScoringSpec(
        ('label=regex:"label": "([a-z ]+)"', "includes", "column:grade"), columns=columns, failed_as=failed_as
    )
    table = spec.open(str(tmp_path / "a.csv"))
    report = report_of(table, None, failed_as, noon, None)
    tally = table.tally()
    assert [(each["column"], each["kind"]) for each in report.facts["fields"]] == [
        ("label", "values"), ("confidence", "numbers"), ("urgent", "values"), ("reason", "texts"),
    ]  # fmt: skip
    rng = random.Random(5)
    chosen = [sorted(rng.sample(range(300), count)) for count in (300, 170, 40, 12, 5, 1, 1)]
    for positions, found in zip(
        chosen, called(blank, FIGURES, {"page": page_data(report), "chosen": chosen}), strict=True
    ):
        rows = [report.rows[position] for position in positions]
        of_rows, of_answers = figures_of(rows, report.columns, table.columns.by)
        expected: dict[str, Any] = {
            **of_rows,
            **of_answers,
            "scores": [each.facts() for each in summarize(tally.part(positions), failed_as)],
        }
        expected["sittings"] = found["sittings"]  # they keep the sessions of the whole batch
        for name in ("busy_s", "started_at", "ended_at"):
            expected["headline"][name] = None
        assert_same(found, expected)


def assert_same(found: Any, expected: Any, path: str = "figures") -> None:
    """Check that everything that the browser computed is as Python has it."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name not in ("unjudged_reasons", "has_epochs"):
                assert_same(value, expected[name], f"{path}.{name}")
    elif isinstance(found, list):
        assert len(found) == len(expected), (path, found, expected)
        for place, value in enumerate(found):
            assert_same(value, expected[place], f"{path}[{place}]")
    elif isinstance(found, float | int) and expected is not None:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), path
    else:
        assert found == expected, path


def test_figures_follow_the_filters_of_the_table(tmp_path: Path, browser: Browser) -> None:
    """A filter marks the figures and replaces them with those of its rows; without it they are those of all rows."""
    write(tmp_path, "a.csv", numbered(4, 2))
    assert batchrun(tmp_path, "report", "a.csv", *SCORE, "--by", "topic", "-o", "page.html").returncode == 0
    with watched_page(browser, viewport={"width": 1280, "height": 900}) as shown:
        page = shown.page
        page.goto((tmp_path / "page.html").as_uri())
        cards = page.locator(".cards .figure")
        assert cards.all_text_contents()[:2] == ["6", "66.7\u202f%"]
        assert page.locator(".selection").count() == 0
        page.locator("#search").fill("r05")
        page.locator(".selection").wait_for()
        assert page.locator(".selection p").text_content() == "Figures of 1 of 6 rows, by the filters of the table"
        assert cards.all_text_contents()[:2] == ["1", "0.0\u202f%"]
        page.locator(".selection button").click()
        page.locator(".selection").wait_for(state="detached")
        assert cards.all_text_contents()[:2] == ["6", "66.7\u202f%"]
        assert shown.violations() == []


def test_models_side_by_side(tmp_path: Path, browser: Browser) -> None:
    """Three models have a matrix of differences; the chosen pair shows its flipped answers in each epoch, with the words
    that differ, as text."""
    answer = {"a": "it is <b>1</b>", "b": "it is <b>2</b>", "c": "it is 1"}
    rows = [
        {"id": f"q{place}", "axis_model": model, "epoch": epoch, "truth": "1", "response": answer[model]}
        for model in "abc"
        for place in range(10)
        for epoch in (1, 2)
    ]
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert batchrun(tmp_path, "report", "a.csv", *SCORE, "-o", "page.html").returncode == 0
    with watched_page(browser, viewport={"width": 1280, "height": 900}) as shown:
        page = shown.page
        page.goto((tmp_path / "page.html").as_uri())
        lines = page.locator(".matrix tbody tr")
        assert lines.nth(1).locator("td b").first.text_content() == "\u2212100.0"
        assert lines.nth(2).locator("td b").first.text_content() == "+0.0"
        assert page.locator(".matrix td.worse").count() >= 1
        assert page.get_by_text("10 rows \u00d7 3 settings, 2 epochs each").count() > 0
        worse = page.locator(".flip-list.worse")
        assert (worse.locator("h4").text_content() or "").startswith("Worse (10 pairs, 20 rows)")
        assert worse.locator(".flip b").all_text_contents()[:3] == ["q0 epoch 1", "q0 epoch 2", "q1 epoch 1"]
        assert {"axis_model", "epoch"} <= set(page.locator(".grid-head .name").all_text_contents())
        page.locator(".side summary").click()
        side = page.locator(".side tbody tr")
        side.first.wait_for()  # a browser tells a page a moment later that a summary was opened
        assert side.count() == 10
        assert side.first.locator("td").all_text_contents() == ["it is <b>1</b>", "it is <b>2</b>"]
        assert side.first.locator("del, ins").all_text_contents() == ["1", "2"]
        page.locator(".side > button").click()
        assert side.count() == 20
        page.locator(".comparison select").select_option("1")
        assert page.locator(".pairing .figure").text_content() == "+0.0 points not distinguishable from 0"
        assert shown.violations() == []
