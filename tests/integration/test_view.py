"""`batchrun view`: a real batch in another process, and a page that follows it."""

from __future__ import annotations

import csv
import http.client
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from batchrun.reporting.live_batch import FollowedBatch
from batchrun.scoring.evaluate import ScoringSpec
from batchrun.scoring.score_columns import ScoreColumns
from tests.integration.reliability import processes
from tests.support.browser import open_browser, watched_page
from tests.support.chat import chat_reply
from tests.support.command import batchrun
from tests.support.pages import data_of, unpacked
from tests.support.rows import noon
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

PATIENCE_S = 60.0
HOSTILE = '=1+1, "</script><img src=x onerror=alert(1)>'


def command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "batchrun", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@contextmanager
def viewing(folder: Path, output: str, *options: str) -> Iterator[tuple[str, processes.Batchrun]]:
    """Serve the page of a batch; yield its address and the process."""
    with processes.batchrun(folder, "view", output, "--no-browser", *options) as process:
        (address,) = process.said(1)
        yield address, process
        process.signal(signal.SIGINT)
        process.wait()


def get(address: str, path: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path if path.startswith("/") else where.path + path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def news(batch: FollowedBatch, generation: int = 0, after: int = 0) -> dict[str, Any]:
    batch.look()
    found = batch.news(generation, after)
    return {**found, "rows": list(unpacked(found["rows"]))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ended batch of three rows, which tests do not change."""
    folder = tmp_path_factory.mktemp("finished")
    ask(folder, "question\n1+1\n2+2\n3+3\n")
    return folder


def ask(folder: Path, table: str, *options: str) -> None:
    (folder / "q.csv").write_text(table, encoding="utf-8")
    assert batchrun(folder, "run", "q.csv", "-o", "a.csv", *options).returncode == 0


def test_only_this_machine_and_only_by_the_address(finished: Path) -> None:
    """Another Host header and every path without the token are refused; Ctrl-C ends the command with 0.

    A port in use is reported in one line.
    """
    with viewing(finished, "a.csv") as (address, process):
        assert address.startswith("http://127.0.0.1:")
        status, headers, body = get(address)
        assert (status, headers["x-content-type-options"], headers["cache-control"]) == (200, "nosniff", "no-store")
        assert "connect-src 'self'" in headers["content-security-policy"]
        assert b'{"live":true}' in body
        assert get(address, Host="evil.example:80")[0] == 400
        assert [get(address, path)[0] for path in ("/", "/facts", "/x/", "facts?after=many")] == [404, 404, 404, 400]
        taken = batchrun(finished, "view", "a.csv", "--no-browser", "--port", str(urlsplit(address).port))
        assert (taken.returncode, len(taken.stderr.splitlines())) == (2, 1)
        assert "cannot listen on this port" in taken.stderr
        process.signal(signal.SIGINT)
        assert process.wait() == 0


def test_what_is_known_is_not_sent_again(tmp_path: Path) -> None:
    """A page that knows all rows gets facts without rows; a batch that starts again is sent from the start."""
    ask(tmp_path, "question\n1+1\n2+2\n3+3\n")
    with closing(FollowedBatch(tmp_path / "a.csv", noon)) as batch:
        first = news(batch)
        assert [(row["i"], row["k"], row["c"][0]) for row in first["rows"]] == [
            (0, "0", "1+1"),
            (1, "1", "2+2"),
            (2, "2", "3+3"),
        ]
        place = [column["key"] for column in first["columns"]["listed"]].index("response")
        assert [row["c"][place] for row in first["rows"]] == ["1 + 1 = 2.", "2 + 2 = 4.", "3 + 3 = 6."]
        assert (first["more"], first["facts"]["batch"]["running"]) == (False, False)
        again = news(batch, first["generation"], first["version"])
        assert (again["rows"], again["version"]) == ([], first["version"])
        # A visitor from before a restart, or one who says nonsense, gets everything.
        assert len(news(batch, 99, 1)["rows"]) == len(news(batch, first["generation"], 10**9)["rows"]) == 3
        ask(tmp_path, "question\n1+1\n2+2\n3+3\n", "--fresh", "--prompt", "{{ question }} ")
        fresh = news(batch, first["generation"], first["version"])
        assert fresh["generation"] > first["generation"]
        assert sorted(row["p"] for row in fresh["rows"]) == ["1+1 ", "2+2 ", "3+3 "]
        assert all("t" in row for row in fresh["rows"])


def test_scores_are_those_of_the_report(tmp_path: Path) -> None:
    """Figures by group and the value of each row come from the journal; a row that is run again is scored again."""
    ask(tmp_path, "question,topic,truth\n1+1,a,2\n2+2,b,5\n3+3,b,6\n")
    options = ("--target", "truth", "--scorer", "numeric", "--by", "topic")
    assert batchrun(tmp_path, "report", "a.csv", *options).returncode == 0
    told = data_of(tmp_path / "a.report.html")
    question = ScoringSpec(["numeric"], ScoreColumns(target="truth", by=("topic",)))
    with closing(FollowedBatch(tmp_path / "a.csv", noon, question)) as batch:
        seen = news(batch)
        assert seen["facts"]["scores"] == told["facts"]["scores"]
        assert seen["columns"] == told["columns"]
        assert [row["c"] for row in seen["rows"]] == [
            [pytest.approx(cell) if isinstance(cell, float) else cell for cell in row["c"]] for row in told["rows"]
        ]
        # Only the third row asks something else.
        ask(tmp_path, "question,topic,truth\n1+1,a,2\n2+2,b,5\n3+4,b,6\n", "--accept-changes")
        assert [each["mean"] for each in news(batch)["facts"]["scores"]] == [pytest.approx(1 / 3)]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--target", "truth"), "--target: is an option of scoring: add --scorer"),
        (("--scorer", "exact", "--target", "nope"), "--target nope: "),
        (("--scorer", "model-graded"), "--scorer model-graded: asks models"),
    ],
)
def test_what_cannot_be_scored_is_one_line(finished: Path, options: tuple[str, ...], line: str) -> None:
    """A scoring error gives exit code 2 before anything is served."""
    done = batchrun(finished, "view", "a.csv", "--no-browser", *options)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert line in done.stderr


@pytest.mark.parametrize(
    ("output", "line"), [("none.csv", "no batch has written this output"), ("", "expected the path of a file")]
)
def test_what_cannot_be_viewed_is_one_line(tmp_path: Path, output: str, line: str) -> None:
    """Without a batch the command gives exit code 2 and one line."""
    done = batchrun(tmp_path, "view", output, "--no-browser")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert line in done.stderr


def test_notes_of_a_reader_stay(tmp_path: Path) -> None:
    """Ratings and comments made on the live page, also just before it is closed, survive a resumed run and a cleanup,
    and are text on every page."""
    ask(tmp_path, "id,question\nx,1+1\ny,2+3\n", "--key", "id")
    with open_browser() as browser, viewing(tmp_path, "a.csv") as (address, _), watched_page(browser) as shown:
        page = shown.page
        page.goto(f"{address}#row=x")
        page.locator("#detail-title").wait_for()  # press() does not wait until it is visible
        page.keyboard.press("w")
        page.locator(".note-state", has_text="saved").wait_for()
        page.keyboard.press("c")
        page.keyboard.type(HOSTILE)
        page.keyboard.press("Escape")
        page.locator(".counter", has_text="2 rows \u00b7 1 rated wrong, 1 commented").wait_for()
        assert page.locator(".grid-body .row").first.locator(".wrong").text_content() == "wrong"
        page.goto(address)
        page.locator(".grid-body .row").first.click()
        assert page.locator(".rating[aria-pressed=true]").text_content() == "wrong"
        assert page.get_by_role("textbox", name="Comment").input_value() == HOSTILE
        page.locator(".grid-body .row").nth(1).click()
        page.get_by_role("textbox", name="Comment").press_sequentially("typed last")
        assert shown.violations() == []
        after = page.context.new_page()
        page.close()  # before the comment is sent by itself
        after.goto(address)
        after.locator(".counter", has_text="2 commented").wait_for()
    written = (tmp_path / "a.csv.notes.csv").read_text(encoding="utf-8")
    notes = [(note["row_key"], note["rating"], note["comment"]) for note in csv.DictReader(io.StringIO(written))]
    assert notes == [("x", "wrong", HOSTILE), ("y", "", "typed last")]
    ask(tmp_path, "id,question\nw,4+4\nx,1+1\ny,2+3\n", "--key", "id", "--accept-changes")
    assert batchrun(tmp_path, "cleanup", "a.csv").returncode == 0
    assert batchrun(tmp_path, "report", "a.csv").returncode == 0
    assert (tmp_path / "a.csv.notes.csv").read_text(encoding="utf-8") == written
    with open_browser() as browser, watched_page(browser) as shown:
        shown.page.goto(f"{(tmp_path / 'a.report.html').as_uri()}#row=x")
        assert shown.page.locator(".row-note p").text_content() == "rated wrong"
        assert shown.page.locator(".row-note .text").text_content() == HOSTILE
        assert shown.page.locator(".row-note textarea, .row-note button").count() == 0
        assert shown.violations() == []


def test_the_page_keeps_up_with_a_batch(tmp_path: Path) -> None:
    """An open page shows rows as they complete, with scores and the answers of turns, and the end of the batch; the
    batch is not delayed."""
    rows = "".join(f"{each}+1,{each + (each != 3)}\n" for each in range(4))
    (tmp_path / "q.csv").write_text(f"question,truth\n{rows}", encoding="utf-8")
    asked, go = threading.Event(), threading.Event()

    def answer(request: Request) -> Answer:
        asked.set()
        go.wait(PATIENCE_S)
        first, _, last = request.body["messages"][0]["content"].partition("+")
        return json_answer(chat_reply(str(int(first) + int(last))))

    turns = ("--prompt", "{{ question }}", "--prompt", "Sure?")
    with ScriptedHttp(answer) as server, open_browser() as browser:
        service = ("--base-url", server.url, "--api", "chat", "--model", "m")
        batch = command(tmp_path, "run", "q.csv", "-o", "a.csv", "--json", *turns, *service)
        try:
            assert asked.wait(PATIENCE_S)
            options = ("--scorer", "numeric", "--target", "truth")
            with viewing(tmp_path, "a.csv", *options) as (address, _), watched_page(browser) as shown:
                page = shown.page
                page.goto(address)
                page.locator(".progress.running").wait_for()
                page.locator(".grid").focus()
                page.keyboard.press("End")
                assert page.locator(".row.current .pill").text_content() == "in flight"
                assert page.locator(".scores .overall .n").text_content() == "0 rows 4 unfinished"
                page.keyboard.press("Enter")
                go.set()
                page.locator(".state", has_text="finished").wait_for(timeout=1000 * PATIENCE_S)
                assert page.locator(".row.current .pill").text_content() == "completed"
                assert page.locator(".scores .overall .mean-text").text_content() == "75.0\u202f%"
                assert page.locator(".said h3").all_text_contents() == [
                    "User, turn 1", "Assistant", "User, turn 2", "Assistant", "Target \u00b7 truth",
                ]  # fmt: skip
                assert "response_2" in page.locator(".detail dt").all_text_contents()
                assert page.inner_text(".chips") + page.inner_text(".counter") == "4 rows"
                assert shown.violations() == []
                assert {urlsplit(each).netloc for each in shown.requests} <= {urlsplit(address).netloc, ""}
                assert batch.wait(PATIENCE_S) == 0
        finally:
            go.set()
            batch.kill()
            batch.communicate(timeout=PATIENCE_S)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").count(",completed,") == 4
