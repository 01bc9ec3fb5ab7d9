"""Terminals that close, full and closed pipes, closed standard streams: the batch and its exit code are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.integration.reliability import processes
from tests.support.chat import chat_reply
from tests.support.command import batchrun
from tests.support.rows import read_csv, write_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such streams")


@pytest.fixture
def service() -> Iterator[ScriptedHttp]:
    """Answers every request and accepts every ping."""

    def answer(request: Request) -> Answer:
        return json_answer({}) if "ping" in request.path else json_answer(chat_reply())

    with ScriptedHttp(answer) as server:
        yield server


def command(folder: Path, service: ScriptedHttp, *options: str) -> list[str]:
    write_csv(folder / "q.csv", [{"question": f"row {row}"} for row in range(3)])
    ping = ("--ping", service.url.replace("/v1", "/ping"))
    where = ("--base-url", service.url, "--api", "chat", "--model", "m")
    return [sys.executable, "-m", "batchrun", "run", "q.csv", "-o", "a.csv", *where, *ping, *options]


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "any", "TERM": "xterm"}


def assert_whole(folder: Path, service: ScriptedHttp, statuses: set[str] | None = None) -> None:
    """Check that the output has every row, and that the monitor received a start and a success."""
    rows = read_csv(folder / "a.csv")
    assert [row["question"] for row in rows] == ["row 0", "row 1", "row 2"]
    assert {row["status"] for row in rows} <= (statuses or {"completed"})
    if statuses is None:
        assert [path for path in service.paths() if "ping" in path] == ["GET /ping/start", "POST /ping"]


FULL = "/dev/full"
ALL_CLOSED: dict[int, str | None] = {0: None, 1: None, 2: None}
STREAMS: list[dict[int, str | None]] = [{2: None}, {1: None}, {0: None}, ALL_CLOSED, {1: FULL}, {1: FULL, 2: FULL}]


@pytest.mark.parametrize(
    ("option", "streams"),
    # --dedupe has the usual display; --quiet prints nothing, so that only closed streams can matter.
    [*product(("--json", "--dedupe"), STREAMS), ("--quiet", ALL_CLOSED)],
)
def test_streams_that_take_nothing(
    tmp_path: Path, service: ScriptedHttp, option: str, streams: dict[int, str | None]
) -> None:
    """Closed or full standard streams change neither output nor ping nor exit code, in any display."""
    arguments = command(tmp_path, service, option)[3:]
    with processes.batchrun(tmp_path, *arguments, environ=environment(), streams=streams) as process:
        assert process.wait() == 0
    assert_whole(tmp_path, service)


@pytest.mark.parametrize(("option", "redirection"), [("--json", ">/dev/full 2>&1"), ("--dedupe", "0<&- 1>&- 2>&-")])
def test_a_new_interpreter_with_such_streams(
    tmp_path: Path, service: ScriptedHttp, option: str, redirection: str
) -> None:
    """The same with an interpreter that a shell starts with the streams as they are."""
    arguments = command(tmp_path, service, option)
    shell = ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *arguments]
    done = subprocess.run(shell, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_whole(tmp_path, service)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_pipe_that_nobody_reads(tmp_path: Path, service: ScriptedHttp, stream: str) -> None:
    """A pipe without a reader changes nothing either."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: writer}
    process = subprocess.Popen(command(tmp_path, service, "--json"), cwd=tmp_path, env=environment(), **streams)  # type: ignore[call-overload]
    os.close(writer)
    assert process.wait() == 0
    assert_whole(tmp_path, service)


def test_a_result_that_cannot_be_written_is_said(tmp_path: Path, service: ScriptedHttp) -> None:
    """If a command only prints, a full disk is an error."""
    assert batchrun(tmp_path, *command(tmp_path, service)[3:], OPENAI_API_KEY="any").returncode == 0
    for arguments in (("status", "a.csv"), ("show", "a.csv", "0"), ("costs", "a.csv", "--json")):
        with processes.batchrun(tmp_path, *arguments, environ=environment(), streams={1: FULL}) as process:
            assert (process.wait(), process.stderr.count("\n")) == (2, 1)
        assert "standard output: cannot be written (no space left on device)" in process.stderr


class Terminal:
    """A terminal for one process, which is drained until it closes."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self._ours, theirs = os.openpty()
        self.process = subprocess.Popen(
            arguments, cwd=folder, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.text = b""
        self._gone = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while not self._gone:
            try:
                self.text += os.read(self._ours, 4096)
            except OSError:
                return

    def go_away(self) -> None:
        """Let every later write fail with EIO. The display, which is drawn four times a second, wakes the reader until
        then."""
        self._gone = True
        self._reader.join()
        os.close(self._ours)


@pytest.mark.parametrize("hung_up", [False, True])
def test_a_terminal_that_goes_away(tmp_path: Path, hung_up: bool) -> None:
    """A batch whose terminal closes continues; with SIGHUP it writes its output and exits with 129."""
    begun, gone = threading.Event(), threading.Event()

    def script(_: Request) -> Answer:
        begun.set()
        gone.wait()
        return json_answer(chat_reply())

    with ScriptedHttp(script) as service:
        arguments = command(tmp_path, service)
        arguments = [*arguments[: arguments.index("--ping")], "--grace", "0.1"]
        terminal = Terminal(arguments, tmp_path)
        try:
            begun.wait()
            terminal.go_away()
            if hung_up:
                terminal.process.send_signal(signal.SIGHUP)
            else:
                gone.set()
            assert terminal.process.wait() == (129 if hung_up else 0)
        finally:
            gone.set()
            terminal.process.kill()
            terminal.process.wait()
        assert_whole(tmp_path, service, {"in_flight", "pending"} if hung_up else {"completed"})
    assert b"0/3" in terminal.text


def test_a_display_that_takes_nothing(tmp_path: Path, service: ScriptedHttp) -> None:
    """A full pipe whose reader sleeps does not delay the end of the batch: the lines are dropped."""
    from batchrun.cli.safe_stream import SafeStream

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    with os.fdopen(writer, "w") as stream, os.fdopen(reader):
        safe_stream = SafeStream(stream, patience_s=0.0)
        assert not safe_stream.is_ready()
        safe_stream.write("a line\n")
        assert safe_stream.failure == "it accepted nothing for 0 s"
