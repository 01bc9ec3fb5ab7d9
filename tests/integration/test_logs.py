"""The log of a batch over a service that fails: what it contains, what it never contains, and where it goes."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchrun
from tests.support.chat import chat_reply
from tests.support.command import batchrun as command
from tests.support.markdown import code_blocks
from tests.support.rows import write_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "logs.md"
KEY, HEADER, QUERY = "sk-secret-0123456789", "gateway-secret-0123", "signature-secret-01"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) batchrun(\.[a-z]+)?: .+")


class BadService:
    """Answers the row `bad` after an error 500, a rate limit and a lost connection; the others at once.

    Its errors repeat everything that was sent to it, and hold characters that a terminal would execute.
    """

    def __init__(self) -> None:
        self.requests: dict[str, int] = defaultdict(int)

    def __call__(self, request: Request) -> Answer:
        text = request.body["messages"][-1]["content"]
        self.requests[text] += 1
        if text != "bad" or self.requests[text] > 3:
            return json_answer(chat_reply(), x_request_id="req_42")
        sent = json.dumps([dict(request.headers), dict(request.query)])
        message = f"\x1b[2J not now, https://alice:wonderland@host/v1 sent {sent}"
        if self.requests[text] == 1:
            return json_answer({"error": {"message": message}}, 500)
        if self.requests[text] == 2:
            return json_answer({"error": {"message": message}}, 429, retry_after="0.1")
        return Answer(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{", "close")


@pytest.fixture
def service() -> Iterator[ScriptedHttp]:
    """A service that fails for one row."""
    with ScriptedHttp(BadService()) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three rows, of which the service fails one, and a key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    write_csv(tmp_path / "q.csv", [{"id": name, "question": name} for name in ("good", "bad", "fine")])
    return tmp_path


def options(service: ScriptedHttp) -> list[str]:
    return ["--base-url", service.url, "--api", "chat", "--model", "m", "--key", "id", "--prompt", "{{ question }}",
            "--header", f"X-Gateway={HEADER}", "--query", f"sig={QUERY}"]  # fmt: skip


def test_a_log_file_shows_each_attempt(folder: Path, service: ScriptedHttp) -> None:
    """Every request of a row is in the log with its attempt, path, status and duration; so is each retry with its
    reason, the wait of all rows, and the end of the row. Each line has its time in UTC, with the date."""
    done = command(folder, "run", "q.csv", *options(service), "--log-file", "logs/batch.log")
    assert done.returncode == 0, done.stderr
    lines = (folder / "logs" / "batch.log").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    story = [line.partition(": row bad")[2] for line in lines if ": row bad" in line]
    expected = [
        r", attempt 1: POST /v1/chat/completions: 500 after \d\.\d{3} s.*",
        r", attempt 1: http_500 \(HTTP 500\): .*; the row retries in \d\.\d s",
        r", attempt 2: POST /v1/chat/completions: 429 after .*",
        r", attempt 2: rate_limit_exceeded \(HTTP 429\): .*; it waits for its turn with all rows",
        r", attempt 3: POST /v1/chat/completions: .* after .*",
        r", attempt 3: \w+.*: .*; the row retries in \d\.\d s",
        r", attempt 4: POST /v1/chat/completions: 200 after \d\.\d{3} s.* \(req_42\)",
        r": completed after 4 attempts, \d+\.\d{3} s, 3 tokens in, 1 out",
    ]
    assert len(story) == len(expected), "\n".join(lines)
    for line, pattern in zip(story, expected, strict=True):
        assert re.fullmatch(pattern, line), f"{line!r} is not {pattern}"
    text = "\n".join(lines)
    assert re.search(r"INFO batchrun\.engine: hold: no row sends for 0\.1 s: rate_limit_exceeded", text)
    assert re.search(r"INFO batchrun\.engine: slots: \d+ instead of \d+", text)
    assert re.search(r"INFO batchrun\.journal: outputs/q\.csv\.journal: new", text)
    assert "INFO batchrun: 3 rows · 3 completed" in text
    assert "DEBUG" not in done.stderr


def test_a_log_says_how_a_connection_ended(folder: Path) -> None:
    """A connection that is closed without a reply is called that, not a timeout."""
    write_csv(folder / "q.csv", [{"id": "a", "question": "a"}])
    with ScriptedHttp(lambda _request: Answer(b"", "close")) as server:
        command(
            folder, "run", "q.csv", *options(server), "--max-attempts", "1", "--max-outage", "1", "--log-file", "a.log"
        )
    log = (folder / "a.log").read_text(encoding="utf-8")
    assert "POST /v1/chat/completions: no reply (ServerDisconnectedError) after" in log
    assert "Timeout" not in log


def test_no_secret_is_in_a_log(folder: Path, service: ScriptedHttp) -> None:
    """Keys, secret header and query values, and the password of a URL are in no line, even if the service repeats
    them; characters that a terminal would execute are escaped."""
    done = command(folder, "run", "q.csv", *options(service), "--log-file", "batch.log", "--verbose")
    text = (folder / "batch.log").read_text(encoding="utf-8") + done.stderr
    assert text.count("not now") >= 4
    assert [secret for secret in (KEY, HEADER, QUERY, "wonderland", "\x1b") if secret in text] == []


def test_a_log_is_appended_to(folder: Path, service: ScriptedHttp) -> None:
    """The log of the next night follows that of the last one; only its owner can read it."""
    for _ in range(2):
        command(folder, "run", "q.csv", *options(service), "--log-file", "batch.log")
    log = folder / "batch.log"
    assert log.read_text(encoding="utf-8").count(" INFO batchrun: batchrun ") == 2
    assert "resumed, 3 completed, 0 incomplete, 0 failed, 0 in flight" in log.read_text(encoding="utf-8")
    assert sys.platform == "win32" or log.stat().st_mode & 0o077 == 0


def test_verbose_prints_the_log(folder: Path, service: ScriptedHttp) -> None:
    """`--verbose` prints the same lines on standard error; standard output stays for results."""
    done = command(folder, "run", "q.csv", *options(service), "--verbose", "--json")
    assert len([line for line in done.stderr.splitlines() if LINE.fullmatch(line)]) > 8
    assert all(json.loads(line) for line in done.stdout.splitlines())
    refused = command(folder, "run", "q.csv", *options(service), "--verbose", "--quiet")
    assert (refused.returncode, "--quiet and --verbose cannot be combined" in refused.stderr) == (2, True)


def test_an_error_ends_the_log(folder: Path) -> None:
    """The line that explains the end of a night without answers is in its log too."""
    done = command(folder, "run", "nothere.csv", "--model", "m", "--log-file", "batch.log")
    assert done.returncode == 2
    last = (folder / "batch.log").read_text(encoding="utf-8").splitlines()[-1]
    assert "INFO batchrun: ended: " in last
    assert "nothere.csv" in last


def test_a_log_never_damages_a_table(folder: Path) -> None:
    """A log file with the name of a table, or in a place that cannot be written, is refused before anything runs."""
    before = (folder / "q.csv").read_bytes()
    (folder / "prompts.txt").write_text("What is 1+1?\n")
    (folder / "book.log").write_bytes(b"PK\x03\x04\0\0")
    for path, reason in (
        ("q.csv", "is the name of a table"),
        ("q.xlsx", "is the name of a table"),
        ("out.csv.journal", "is the name of a file of a batch"),
        ("job.toml", "is the name of a job file"),
        ("q.csv/batch.log", "cannot be written"),
        ("prompts.txt", "exists and is not a log"),
        ("book.log", "exists and is not a log"),
    ):
        done = command(folder, "run", "q.csv", "--log-file", path)
        assert (done.returncode, f"--log-file {path}: {reason}" in done.stderr) == (2, True), done.stderr
    assert (folder / "q.csv").read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_does_not_end_the_batch(folder: Path, service: ScriptedHttp) -> None:
    """If the log cannot be written any more, one warning says so, and the batch continues."""
    done = command(folder, "run", "q.csv", *options(service), "--log-file", "/dev/full")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("--log-file /dev/full: cannot be written (No space left on device)") == 1


def test_records_have_their_values_as_attributes(
    folder: Path, service: ScriptedHttp, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python, a handler reads row, attempt, method, path, status, wait and duration without parsing text."""
    caplog.set_level(logging.DEBUG, logger="batchrun")
    monkeypatch.chdir(folder)
    batchrun.run("q.csv", prompt="{{ question }}", key="id", model="m", api="chat", base_url=service.url)
    requests = [vars(each) for each in caplog.records if each.name == "batchrun.services"]
    bad = [each for each in requests if each["row"] == "bad"]
    assert [(each["attempt"], each["status"]) for each in bad][:2] == [(1, 500), (2, 429)]
    assert {(each["method"], each["path"]) for each in bad} == {("POST", "/v1/chat/completions")}
    # The clock of the event loop has steps of a millisecond: a fast reply may take none of them.
    assert all(0 <= each["duration_s"] < 60 and 0 <= each["wait_s"] < 60 for each in bad)
    # None: the batch asks once for the models.
    assert {each["row"] for each in requests} == {"good", "bad", "fine", None}


def test_nothing_is_printed_by_default(folder: Path, service: ScriptedHttp) -> None:
    """A program that does not configure logging prints nothing, whatever the service does."""
    program = (
        f"import batchrun; batchrun.run('q.csv', prompt='{{{{ question }}}}', model='m', api='chat', "
        f"base_url={service.url!r}, on_outcome=lambda outcome: None)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_page_shows_what_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of docs/guides/logs.md write the lines that the page shows, apart from times and ids."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "questions.csv").write_text(code_blocks(PAGE, "csv")[0], encoding="utf-8")
    (tmp_path / "busy.toml").write_text(code_blocks(PAGE, "toml")[0], encoding="utf-8")
    run, grep = code_blocks(PAGE, "sh")[0].splitlines()
    assert command(tmp_path, *shlex.split(run)[1:]).returncode == 0
    pattern = re.compile(shlex.split(grep)[2])
    lines = (tmp_path / "batch.log").read_text(encoding="utf-8").splitlines()
    # Lines of one moment come in either order.
    assert sorted(plain(line) for line in lines if pattern.search(line)) == sorted(
        plain(line) for line in code_blocks(PAGE, "text")[0].splitlines()
    )


def plain(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r", waited .* before", "", line)
    return re.sub(r"^\S+|req_\w+|\d+\.\d{3} s|(?<=slots: )\d+ instead of \d+", "…", line)


def test_the_server_logs_its_requests(folder: Path) -> None:
    """With the embedded server the log has both sides: the batch's request, and the server's reply to it."""
    (folder / "s.toml").write_text('[default]\nreply = "2"\n')
    command(folder, "run", "q.csv", "--script", "s.toml", "--log-file", "batch.log")
    text = (folder / "batch.log").read_text(encoding="utf-8")
    assert (
        len(re.findall(r"DEBUG batchrun\.server: POST /v1/threads/runs: 200 after \d\.\d{3} s \(req_\w+\)", text)) == 3
    )
