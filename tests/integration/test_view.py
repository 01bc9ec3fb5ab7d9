"""`batchrun view`: a real batch in a process of its own, and a page that keeps up with it."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.browser import open_browser, watched_page
from tests.support.command import batchrun
from tests.support.pages import unpacked

PATIENCE_S = 60.0


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
def viewing(folder: Path, output: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of the page of a batch, and the process that serves it."""
    process = command(folder, "view", output, "--no-browser")
    lines: queue.Queue[str] = queue.Queue()
    assert process.stderr is not None
    reader = threading.Thread(target=lambda stream: [lines.put(line) for line in stream], args=(process.stderr,))
    reader.start()
    try:
        yield lines.get(timeout=PATIENCE_S).strip(), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)
        reader.join()
        process.stderr.close()


@contextmanager
def running(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A batch that has begun, and stands still until it is told to go on: however slow the rest is, it has not ended."""
    process = command(folder, "run", "q.csv", "-o", "a.csv", "--json", *options)
    assert process.stderr is not None
    try:
        while not (folder / "a.csv.journal").exists() or "rows" not in known(folder):
            assert process.poll() is None
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGCONT)
        process.communicate(timeout=PATIENCE_S)


def known(folder: Path) -> dict[str, Any]:
    done = batchrun(folder, "status", "a.csv", "--json")
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def get(address: str, path: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path if path.startswith("/") else where.path + path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def news(address: str, generation: int = 0, after: int = 0) -> dict[str, Any]:
    status, _, body = get(address, f"facts?generation={generation}&after={after}")
    assert status == 200, body
    found = dict(json.loads(body))
    return {**found, "rows": list(unpacked(found["rows"]))}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder with a batch of three rows that has ended."""
    (tmp_path / "q.csv").write_text("question\n1+1\n2+2\n3+3\n", encoding="utf-8")
    assert batchrun(tmp_path, "run", "q.csv", "-o", "a.csv").returncode == 0
    return tmp_path


def test_only_this_machine_and_only_by_the_address(finished: Path) -> None:
    """Another Host header is refused, as is every path that does not begin with the token; Ctrl-C ends it with 0.

    A port that is taken is told in one line.
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
        assert "cannot be listened on" in taken.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


def test_what_is_known_is_not_sent_again(finished: Path) -> None:
    """Who knows everything is told facts and no rows; a row that was asked again comes again, alone."""
    with viewing(finished, "a.csv") as (address, _):
        first = news(address)
        assert [(row["i"], row["k"], row["c"][0]) for row in first["rows"]][:3] == [
            (0, "0", "1+1"),
            (1, "1", "2+2"),
            (2, "2", "3+3"),
        ]
        place = [column["key"] for column in first["columns"]["listed"]].index("response")
        assert [row["c"][place] for row in first["rows"]] == ["1 + 1 = 2.", "2 + 2 = 4.", "3 + 3 = 6."]
        assert (first["more"], first["facts"]["batch"]["running"]) == (False, False)
        again = news(address, first["generation"], first["version"])
        assert (again["rows"], again["version"]) == ([], first["version"])
        # A visitor from before a restart, or one who says nonsense, gets everything.
        assert len(news(address, 99, 1)["rows"]) == len(news(address, first["generation"], 10**9)["rows"]) == 3
        assert (
            batchrun(finished, "run", "q.csv", "-o", "a.csv", "--fresh", "--prompt", "{{ question }} ").returncode == 0
        )
        while (fresh := news(address, first["generation"], first["version"]))["generation"] == first["generation"]:
            pass
        while not all("t" in row for row in fresh["rows"]):
            fresh = news(address)
        assert sorted(row["p"] for row in fresh["rows"]) == ["1+1 ", "2+2 ", "3+3 "]


@pytest.mark.parametrize(("output", "line"), [("none.csv", "no journal here"), ("", "is no name of an output table")])
def test_what_cannot_be_viewed_is_one_line(tmp_path: Path, output: str, line: str) -> None:
    """Exit code 2 and one line where there is no batch."""
    done = batchrun(tmp_path, "view", output, "--no-browser")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert line in done.stderr


def test_the_page_keeps_up_with_a_batch(tmp_path: Path) -> None:
    """Rows turn from pending to completed while somebody looks, and the end is told; the batch is not held up."""
    (tmp_path / "q.csv").write_text("question\n" + "".join(f"{each}+1\n" for each in range(20)), encoding="utf-8")
    with (
        open_browser() as browser,
        running(tmp_path, "--rpm", "900") as batch,
        viewing(tmp_path, "a.csv") as (address, _),
        watched_page(browser) as shown,
    ):
        page = shown.page
        page.goto(address)
        page.locator(".progress.running").wait_for()
        page.locator(".grid").focus()
        page.keyboard.press("End")
        assert page.locator(".row.current .pill").text_content() == "pending"
        page.keyboard.press("Enter")
        batch.send_signal(signal.SIGCONT)
        page.locator(".state", has_text="finished").wait_for(timeout=1000 * PATIENCE_S)
        assert page.locator(".row.current .pill").text_content() == "completed"
        assert page.locator(".answer .text").text_content() == "19 + 1 = 20."
        assert page.inner_text(".chips") + page.inner_text(".counter") == "20 rows"
        assert shown.violations() == []
        assert {urlsplit(each).netloc for each in shown.requests} <= {urlsplit(address).netloc, ""}
        assert batch.wait(PATIENCE_S) == 0
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").count(",completed,") == 20
