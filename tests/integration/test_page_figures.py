"""The figures that a report page computes in the browser, against those that Python computes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

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


def asset(name: str) -> str:
    return files("batchrun.reporting").joinpath("assets", name).read_text(encoding="utf-8")


def word_diffs(page: Page, pairs: list[tuple[str, str]]) -> Any:
    return page.evaluate(
        f"(pairs) => {{ {asset('diff.js')}\nreturn pairs.map(([one, other]) => wordDiff(one, other)); }}", pairs
    )


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
