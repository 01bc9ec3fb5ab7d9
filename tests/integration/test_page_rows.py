"""The rows of a report page in a real browser: columns, links, copies, exports, differences and paper."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchrun.reporting.html import report_page
from batchrun.reporting.page_facts import page_facts
from batchrun.reporting.report import Report, figures_of, head, page_data
from batchrun.reporting.rows import ReportRow, pending_cells
from batchrun.reporting.table_columns import ColumnNames, columns_of
from batchrun.tables.sink import disarmed
from tests.support.browser import Watched, watched_page
from tests.support.command import batchrun
from tests.support.rows import noon

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ODD_TEXTS = ["=1+1", "-5", "+3.2e4", "＝A1", "@x", "\tx", 'a "b", c', "x\r\ny", "x;y", " padded ", "é 漢", "-", "true"]
LONG_WORDS = "https://example.org/" + "a" * 90 + " unbelievably_long_identifier Donaudampfschifffahrt"


def labelled(number: int, epoch: int = 1) -> dict[str, Any]:
    """Return a row whose answer is an object."""
    answer = {"label": "ab"[number % 2], "amount": 10 * number + epoch, "why": f"It is case {number} of epoch {epoch}."}
    answer |= {"category": "Unterscheidungsmerkmale", "office": "Kundenbetreuungsstellen", "road": "Wilhelmshavenerstr"}
    return {
        "id": f"r{number}", "topic": "cd"[number % 2], "text": f"Case {number}: {LONG_WORDS}", "note": ODD_TEXTS[number % len(ODD_TEXTS)],
        "truth": "a", "epoch": epoch, "response": json.dumps(answer), "status": "completed", "total_tokens": 7,
    }  # fmt: skip


@pytest.fixture
def shown(browser: Browser) -> Iterator[Watched]:
    granted = ["clipboard-read", "clipboard-write"]
    with watched_page(browser, viewport={"width": 1280, "height": 900}, permissions=granted) as found:
        yield found


@pytest.fixture(scope="module")
def page_of_objects(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page with answers that are objects, two for each id, and one failed row."""
    folder = tmp_path_factory.mktemp("objects")
    rows = [labelled(number, epoch) for number in range(len(ODD_TEXTS)) for epoch in (1, 2)]
    rows[5] |= {"response": None, "status": "failed"}
    (folder / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    options = ("--scorer", "includes", "--target", "truth", "--key", "id")
    assert batchrun(folder, "report", "a.jsonl", *options, "-o", "page.html").returncode == 0
    return (folder / "page.html").as_uri()


def heads(shown: Watched) -> list[str]:
    return shown.page.locator(".grid-head .name").all_text_contents()


def keys(shown: Watched) -> list[str]:
    return shown.page.locator(".grid-body .row .key").all_text_contents()


def title(shown: Watched) -> str | None:
    return shown.page.locator("#detail-title bdi").text_content()


def test_fields_are_columns(page_of_objects: str, shown: Watched) -> None:
    """Fields of answers are next to the answer, sorted and filtered by value; the key has a filter too."""
    page = shown.page
    page.goto(page_of_objects)
    assert heads(shown)[:11] == [
        "id", "topic", "text", "note", "epoch", "truth", "response", "label", "amount", "why", "category",
    ]  # fmt: skip
    amount = page.locator(".grid-head button", has_text="amount")
    amount.click()
    amount.click()
    assert keys(shown)[:3] == ["r12", "r12", "r11"]
    page.get_by_role("button", name="Filter columns").click()
    page.get_by_label("Filter amount").fill("20..31")
    page.locator(".counter", has_text="2 of 26 rows").wait_for()  # 22 is of the row that failed
    assert keys(shown) == ["r3", "r2"]
    page.get_by_label("Filter id").fill("=r3")
    page.locator(".counter", has_text="1 of 26 rows").wait_for()
    page.locator(".grid-body .row").first.click()
    fields = page.locator(".detail section", has_text="Fields of the answer").locator("dd").all_text_contents()
    assert fields[:3] == ["b", "31", "It is case 3 of epoch 1."]
    assert shown.violations() == []


def test_the_prompt_comes_first(tmp_path: Path, shown: Watched) -> None:
    """A prompt that a template made has a column before those of the table; one that is a cell has that column."""
    columns = columns_of(["id", "topic", "question", "response", "status"], "", ColumnNames("response"), "id")
    for name, prompts, expected in (
        ("made", ("Say 1+1", "Say 2+3"), ["id", "prompt", "topic", "question", "response"]),
        ("cell", ("1+1", "2+3"), ["id", "question", "topic", "response"]),
    ):
        rows = [
            ReportRow(key, {"id": key, "topic": "a", "question": prompt.removeprefix("Say ")}, pending_cells(), prompt)
            for key, prompt in zip("xy", prompts, strict=True)
        ]
        facts = page_facts(head("a.csv", noon), *figures_of(rows, columns, ()), None, ())
        (tmp_path / f"{name}.html").write_bytes(report_page(page_data(Report(facts, columns, rows))))
        shown.page.goto((tmp_path / f"{name}.html").as_uri())
        assert heads(shown)[: len(expected)] == expected
        first = shown.page.locator(".grid-body .row").first.locator(".cell")
        assert first.all_text_contents()[:2] == ["x", prompts[0]]
    assert shown.violations() == []


def test_a_link_opens_a_row(page_of_objects: str, shown: Watched) -> None:
    """The address names the open row, also among rows with the same key; Back and Forward follow, and steps do not count."""
    page = shown.page
    page.goto(f"{page_of_objects}#row=r9")
    assert (title(shown), page.locator(".row.current .key").text_content()) == ("r9", "r9")
    assert page.locator("#detail-title").text_content() == "id r9 completed"
    assert page.locator(".row.current").get_attribute("data-place") == "18"
    page.keyboard.press("Escape")
    page.locator(".grid").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    assert page.url.endswith("#row=r0&at=1")
    page.keyboard.press("Escape")
    assert "#" not in page.url
    page.go_back()
    page.locator(".detail").wait_for()
    assert (title(shown), page.url.endswith("#row=r0&at=1")) == ("r0", True)
    page.go_back()
    page.locator(".detail").wait_for(state="hidden")
    page.go_back()
    assert title(shown) == "r9"
    page.evaluate("location.hash = '#row=none'")
    page.get_by_text("There is no row none on this page.").wait_for()
    assert shown.violations() == []


def test_copies(page_of_objects: str, shown: Watched) -> None:
    """The buttons copy the answer, the whole row as JSON, and the address that opens it."""
    page = shown.page
    page.goto(f"{page_of_objects}#row=r1&at=3")

    def copied(button: str) -> str:
        page.get_by_role("button", name=button, exact=True).last.click()
        page.get_by_text("Copied").wait_for()
        text: str = page.evaluate("navigator.clipboard.readText()")
        return text

    row = json.loads(copied("Copy row as JSON"))
    assert (row["row_index"], row["note"], row["amount"], row["score_includes"]) == (3, "-5", 12, 1)
    page.get_by_text("Copied").wait_for(state="detached")
    assert json.loads(copied("Copy")) == json.loads(labelled(1, 2)["response"])
    page.get_by_text("Copied").wait_for(state="detached")
    assert copied("Copy link") == f"{page_of_objects}#row=r1&at=3"
    assert shown.violations() == []


def test_an_export_has_the_rows_in_the_table(page_of_objects: str, shown: Watched) -> None:
    """The file has all columns of the filtered rows in their order; formulas are disarmed as --safe-csv does it."""
    page = shown.page
    page.goto(page_of_objects)
    page.locator(".grid-head button", has_text="topic").click()
    page.locator(".chip", has_text="completed").click()
    with page.expect_download() as started:
        page.get_by_role("button", name="Export CSV").click()
    assert started.value.suggested_filename == "a.rows.csv"
    text = Path(started.value.path()).read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [int(row["row_index"]) for row in rows] == [
        place for parity in (0, 1) for place in range(26) if place != 5 and place // 2 % 2 == parity
    ]
    assert {row["note"] for row in rows} == set(map(disarmed, ODD_TEXTS))
    assert rows[0]["response"] == labelled(0)["response"]
    assert (rows[0]["amount"], rows[0]["epoch"], rows[0]["score_includes"]) == ("1", "1", "1")
    assert shown.violations() == []


def test_answers_are_compared_word_by_word(page_of_objects: str, shown: Watched) -> None:
    """A row shows how its answer differs from the answer of another epoch."""
    page = shown.page
    page.goto(f"{page_of_objects}#row=r4")
    page.get_by_text("Compare the answer").click()
    assert page.locator(".compared p").first.text_content() == "from epoch 2 to this answer"
    assert page.locator(".diff del").all_text_contents() == ["42", "2"]
    assert page.locator(".diff ins").all_text_contents() == ["41", "1"]
    assert shown.violations() == []


def test_paper_breaks_no_words(page_of_objects: str, shown: Watched) -> None:
    """Each word of the printed rows is on one line, addresses excepted, and nothing is wider than the paper."""
    page = shown.page
    page.set_viewport_size({"width": 688, "height": 1000})
    page.goto(page_of_objects)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    broken = page.evaluate(
        """() => {
            const broken = [];
            const texts = document.createTreeWalker(document.querySelector(".printed"), NodeFilter.SHOW_TEXT);
            for (let node = texts.nextNode(); node !== null; node = texts.nextNode()) {
                for (const { 0: word, index } of node.data.matchAll(/\\S+/g)) {
                    const range = new Range();
                    range.setStart(node, index);
                    range.setEnd(node, index + word.length);
                    if (new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size > 1) broken.push(word);
                }
            }
            return broken;
        }"""
    )
    assert broken == []
    assert "columns not printed." in (page.locator(".printed p").text_content() or "")
    assert shown.violations() == []
