"""The page of `batchrun report` in a real browser: its contents, and what it refuses to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batchrun.journal.live import RecordedRun
from batchrun.reporting.html import report_page
from batchrun.reporting.page_facts import BatchFacts, page_facts
from batchrun.reporting.report import Report, figures_of, head, page_data
from batchrun.reporting.rows import ReportRow, pending_cells
from batchrun.reporting.table_columns import ColumnNames, columns_of
from tests.support.answers import SCORE, numbered, write
from tests.support.browser import Watched, watched_page
from tests.support.command import batchrun
from tests.support.rows import noon

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<svg/onload=alert(3)>",
    "javascript:alert(4)",
    '"><a href="http://127.0.0.1:9/x">x</a>',
    "{{constructor.constructor('alert(5)')()}} ${alert(6)}",
    "<!-- <script> -->",
    "line\u2028para\u2029end",
    "nul\0byte",
    "del\x7fdel",
    "\x80",
    "\u202eright to left",
    "__proto__",
    "<style>*{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
]


# -- the page -------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(browser: Browser) -> Iterator[Watched]:
    with watched_page(browser, viewport={"width": 1280, "height": 900}) as found:
        yield found


@pytest.fixture(scope="module")
def scored_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a small page with scores."""
    folder = tmp_path_factory.mktemp("scored")
    write(folder, "a.csv", numbered(4, 2))
    assert batchrun(folder, "report", "a.csv", *SCORE, "--by", "topic", "-o", "page.html").returncode == 0
    return (folder / "page.html").as_uri()


def hostile_table(folder: Path) -> Path:
    """Write answers, questions, errors, column names, groups and statuses that try to break out of their place in the
    page."""
    path = folder / "<img src=x onerror=alert(0)>.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for place, text in enumerate(HOSTILE):
            row = {
                "id": f"{place} {text}", "</script><b>": text, "{{data}}": text, "constructor": text, "truth": text, "response": text,
                "status": ("completed", "failed", text)[place % 3], "error_type": text, "error": text, "thread_id": text, "run_id": text, "model": text,
                "total_tokens": text, "completed_at": text,
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
        file.write(json.dumps({**row, "id": "huge", "response": "<b>" * 100_000, "status": "completed"}) + "\n")
    return path


def test_hostile_text_is_text(tmp_path: Path, shown: Watched) -> None:
    """Text from a model, a table or an error causes no dialog, no request and no violation, and is shown verbatim."""
    path = hostile_table(tmp_path)
    options = ("--scorer", "exact", "--target", "truth", "--key", "id", "--by", "{{data}}")
    assert batchrun(tmp_path, "report", path.name, *options, "-o", "page.html").returncode == 0
    address = (tmp_path / "page.html").as_uri()
    page = shown.page
    page.goto(address)
    assert page.inner_text("h1") == path.name
    assert set(page.locator(".scores tbody:not(.bands) th[scope=row]").all_text_contents()) == {"all rows", *HOSTILE}
    page.locator(".grid").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    for place, text in enumerate(HOSTILE):
        assert page.locator("#detail-title bdi").text_content() == f"{place} {text}"
        assert page.locator(".answer .text").text_content() == text
        assert page.locator(".target .text").text_content() == text
        assert "</script><b>" in page.locator(".detail dt").all_text_contents()
        page.keyboard.press("ArrowDown")
    assert page.locator(".answer .text").text_content() == ("<b>" * 100_000)[:50_000]
    page.get_by_text("Show all 300,000 characters").click()
    assert len(page.locator(".answer .text").text_content() or "") == 300_000
    page.keyboard.press("Escape")
    # All at once: the figures of the selected rows replace the buttons a quarter of a second after the first click.
    page.locator(".errors button").evaluate_all("buttons => buttons.forEach((button) => button.click())")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("script").count() == 3
    assert page.locator("#page img, #page a[href^=http], #page iframe, .detail img").count() == 0
    assert shown.violations() == []
    assert shown.requests == [address]


def test_the_policy_holds_against_a_script_in_the_document(scored_page: str, shown: Watched) -> None:
    """Even code inside the page could not run, load or send anything."""
    page = shown.page
    page.goto(scored_page)
    refused = page.evaluate(
        """async () => {
            const tried = [];
            const script = document.createElement('script');
            try { script.textContent = 'window.ran = 1'; document.body.append(script); } catch { tried.push('script'); }
            try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); } catch { tried.push('markup'); }
            try { await fetch('http://127.0.0.1:9/'); } catch { tried.push('fetch'); }
            return [tried, window.ran];
        }"""
    )
    assert refused == [["script", "markup", "fetch"], None]


def test_a_conversation_is_text(tmp_path: Path, shown: Watched) -> None:
    """Roles and texts are in order: turns, functions, a correction, citations, files; in the next row the messages that
    it sent, with the answer. The examples of the batch are folded before both. Hostile texts are text here too."""
    script, image, link = HOSTILE[0], HOSTILE[1], HOSTILE[3]
    runs = [
        RecordedRun(1, script, "", ((image, "{}"),)),
        RecordedRun(1, image, "It is 5."),
        RecordedRun(1, "Not of the form.", "4", tool_outputs=(link,)),
        RecordedRun(2, "Sure?", image, extras={"citations": [{"url": link, "title": script}], "files": [image]}),
    ]
    row = ReportRow("0", {}, {**pending_cells(), "status": "completed", "response": image}, script, runs)
    sent = (("system", script), ("user", image), ("assistant", "Fine."), ("tool", link), ("user", "Hi?"))
    rows = [row, ReportRow("1", {}, {**row.cells, "response": "Ho."}, "Hi?", messages=sent)]
    batch: BatchFacts = {
        "batch_id": "b", "created_at": "2026-11-29T12:00:00+00:00", "running": False, "input": "a.csv", "model": "m", "api": "chat",
        "embedded": False, "base_url": None, "prompt": None, "instructions": None, "examples": (("user", script), ("assistant", "5")),
        "limits": None, "spent_usd": None, "from_cache": 0,
    }  # fmt: skip
    columns = columns_of(["response", "status"], "", ColumnNames("response"))
    facts = page_facts(head("a.csv", noon), *figures_of(rows, columns, ()), batch, ())
    found = Report(facts, columns, rows)
    (tmp_path / "page.html").write_bytes(report_page(page_data(found)))
    page = shown.page
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(".grid-body .row").first.click()
    examples = page.locator(".detail-content details")
    assert examples.locator("summary").text_content() == "Examples \u00b7 2 messages"
    assert examples.locator(".text").all_text_contents() == [script, "5"]
    assert not examples.locator(".text").first.is_visible()
    parts = page.locator(".detail-content > section")
    assert [part.locator("h3").text_content() for part in parts.all()][:11] == [
        "User, turn 1", "Assistant calls", "Functions return", "Assistant", "User, turn 1: correction",
        "Functions return, while the run waits", "Assistant", "User, turn 2", "Assistant", "Citations", "Files",
    ]  # fmt: skip
    texts = [part.locator(".text, li").text_content() for part in parts.all()[:11]]
    assert texts == [
        script, f"{image}({{}})", image, "It is 5.", "Not of the form.", link, "4", "Sure?", image, f"{script} ({link})", image,
    ]  # fmt: skip
    page.keyboard.press("ArrowDown")
    titles = ["System", "User", "Assistant", "Tool", "User", "Answer"]
    assert [part.locator("h3").text_content() for part in parts.all()][:6] == titles
    assert [part.locator(".text").text_content() for part in parts.all()[:6]] == [*(text for _, text in sent), "Ho."]
    assert page.locator(".detail a, .detail img, .detail script").count() == 0
    assert shown.violations() == []


def test_sources_are_links_and_reasoning_is_folded(tmp_path: Path, shown: Watched) -> None:
    """A source is a link if its address is one of the web; every other address and all texts are text."""
    addresses = [
        "https://example.org/a?b=<c>",
        "http://example.org/",
        HOSTILE[3],
        "data:text/html,<script>",
        "file:///etc/passwd",
        HOSTILE[1],
    ]
    cited = [{"url": address, "title": HOSTILE[0], "quote": HOSTILE[1]} for address in addresses]
    table = [
        {
            "question": "q",
            "response": "a",
            "status": "completed",
            "citations": [*cited, {"file_id": "file-1"}],
            "reasoning": HOSTILE[0],
        },
        {"question": "q", "response": "a", "status": "completed", "citations": "not a list", "reasoning": None},
    ]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in table))
    assert batchrun(tmp_path, "report", "a.jsonl", "-o", "page.html").returncode == 0
    page = shown.page
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(".grid-body .row").first.click()
    links = page.locator(".detail a")
    assert links.all_text_contents() == [HOSTILE[0]] * 2
    assert [link.get_attribute("href") for link in links.all()] == [
        "https://example.org/a?b=%3Cc%3E",
        "http://example.org/",
    ]
    assert {link.get_attribute("rel") for link in links.all()} == {"noopener noreferrer"}
    items = page.locator(".citations li").all_text_contents()
    assert items[2] == f"{HOSTILE[0]} ({HOSTILE[3]}): {HOSTILE[1]}"
    assert items[-1] == "file-1"
    thought = page.locator("details.folded .text")
    assert not thought.is_visible()
    page.locator("details.folded summary").click()
    assert thought.is_visible()
    assert thought.text_content() == HOSTILE[0]
    assert set(page.locator(".detail dt").all_text_contents()).isdisjoint({"citations", "reasoning"})
    page.keyboard.press("Escape")
    page.locator(".grid-body .row").nth(1).click()
    assert "not a list" in page.locator(".detail dd").all_text_contents()
    assert page.locator(".detail a, details.folded").count() == 0
    assert shown.violations() == []


def rows_in_sight(shown: Watched) -> list[str]:
    return shown.page.locator(".grid-body .row .key").all_text_contents()


def test_the_table_by_keyboard(tmp_path: Path, shown: Watched) -> None:
    """Search, open, step, close, sort and filter work with the keyboard alone; the focus is never lost."""
    write(
        tmp_path,
        "a.csv",
        [(f"r{place:03}", "ab"[place % 2], str(place), f"answer {place % 7}") for place in range(500)]
        + [("rx", "a", "1", "")],
    )
    batchrun(tmp_path, "report", "a.csv", *SCORE, "-o", "page.html")
    page = shown.page
    page.goto((tmp_path / "page.html").as_uri())

    def shows(count: str) -> None:
        page.wait_for_function("count => document.querySelector('.counter').innerText === count", arg=count)

    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("ANSWER 3")
    page.locator(".counter", has_text="71 of").wait_for()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#detail-title bdi").text_content() == "r010"
    assert page.evaluate("document.activeElement.id") == "detail-title"
    page.keyboard.press("ArrowDown")
    assert page.locator("#detail-title bdi").text_content() == "r017"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "grid"
    assert page.locator(".detail").is_hidden()
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    shows("501 rows")
    page.keyboard.press("End")
    assert page.locator(".row.current .key").text_content() == "rx"
    page.keyboard.press("Home")
    assert page.locator(".row.current .key").text_content() == "r000"
    page.keyboard.press("PageDown")
    assert page.locator(".row.current .key").text_content() != "r000"

    head = page.locator(".grid-head button", has_text="truth")
    head.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator("[aria-sort=descending]").inner_text().startswith("truth")
    assert rows_in_sight(shown)[0] == "r499"  # as a number: as text, 99 would come first
    assert page.evaluate("document.activeElement.textContent").startswith("truth")

    page.get_by_role("button", name="Filter columns").focus()
    page.keyboard.press("Enter")
    field = page.get_by_label("Filter truth")
    field.focus()
    page.keyboard.type("10..12")
    shows("3 of 501 rows")
    assert rows_in_sight(shown) == ["r012", "r011", "r010"]
    page.evaluate(
        """() => { // a filter that is typed, and everything shown before the filter is applied
            const field = document.querySelector('[aria-label="Filter truth"]');
            field.value = "10";
            field.dispatchEvent(new InputEvent("input"));
            [...document.querySelectorAll("button")].find((each) => each.innerText === "Show all").focus();
        }"""
    )
    page.keyboard.press("Enter")
    shows("501 rows")
    page.evaluate("new Promise((done) => setTimeout(done, 60))")  # behind the timer that applies a filter
    shows("501 rows")
    page.locator(".chip.bad").focus()
    page.keyboard.press("Enter")
    shows("1 of 501 rows")
    assert page.evaluate("document.activeElement.dataset.status") == "failed"
    assert shown.violations() == []


def test_flips_open_from_the_comparison(tmp_path: Path, shown: Watched) -> None:
    """A flipped row opens with the answer of the baseline."""
    write(tmp_path, "a.csv", numbered(4, 2))
    write(tmp_path, "b.csv", numbered(6, 0))
    batchrun(tmp_path, "report", "b.csv", *SCORE, "--compare", "a.csv", "-o", "page.html")
    page = shown.page
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(".flip-list.better .flip").first.click()
    assert page.locator(".answer .text").text_content() == "1"
    assert page.locator(".before .text").text_content() == "0"
    page.keyboard.press("Escape")
    page.locator(".flip-list.better h4 button").click()
    assert rows_in_sight(shown) == ["r04", "r05"]
    assert shown.violations() == []


def test_light_dark_and_paper(scored_page: str, browser: Browser) -> None:
    """Colors follow the reader's choice, paper is white, and nothing is wider than a narrow window."""
    with watched_page(browser, viewport={"width": 390, "height": 800}) as shown:
        shown.page.goto(scored_page)
        for scheme, media, dark in (("light", "screen", False), ("dark", "screen", True), ("dark", "print", False)):
            shown.page.emulate_media(media=media, color_scheme=scheme)  # type: ignore[arg-type] # words of CSS
            red = shown.page.evaluate("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
            assert (red < 60) is dark
            if media == "screen":
                assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert shown.violations() == []
