"""The figures that a report page computes in the browser, against those that Python computes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from batchrun.reporting.html import SCRIPTS
from tests.support.browser import open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as found:
        yield found


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


def test_only_a_course_of_three_buckets_is_drawn(blank: Page) -> None:
    """A session whose rows and attempts are all in one or two buckets has no chart over time."""
    found = called(
        blank,
        "given.map(([ended, tries]) => hasCourse({ ended, tries }))",
        [([5], None), ([5, 1], [3, 3]), ([5, 0, 0, 1], None), ([1, 0, 0, 1], [1, 1, 0, 0]), ([1, 2, 1], None)],
    )
    assert found == [False, False, False, True, True]
