"""`run -` without a pipe: a person at a terminal learns what it waits for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.reliability import processes
from tests.support.command import batchrun

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")

HINT = "reading CSV from standard input: a line of column names, then rows; end with Ctrl-D"


def typed(folder: Path, text: str, *options: str) -> tuple[int, list[str]]:
    """Run `run -` with `text` typed at a terminal and ended with Ctrl-D; return the exit code and the messages."""
    ours, theirs = os.openpty()
    try:
        os.write(ours, text.encode() + b"\x04")
        streams = {0: os.ttyname(theirs)}
        with processes.batchrun(folder, "run", "-", "-o", "a.csv", *options, streams=streams) as process:
            return process.wait(), process.stderr.splitlines()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_shows_what_is_being_read(tmp_path: Path) -> None:
    """The first line asks for a table and says how it ends; one Ctrl-D ends it, and the typed rows are sent."""
    exit_code, lines = typed(tmp_path, "question\n1+1\n")
    assert (exit_code, lines[0]) == (0, HINT)
    assert "1 + 1 = 2." in (tmp_path / "a.csv").read_text(encoding="utf-8")


def shown(folder: Path, *options: str) -> str:
    """Run a batch with standard error at a terminal, and return what the terminal received."""
    ours, theirs = os.openpty()
    try:
        command = ("run", "q.csv", "-o", "a.csv", *options)
        with processes.batchrun(folder, *command, streams={2: os.ttyname(theirs)}) as process:
            assert process.wait() == 0
        return os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_is_never_empty(tmp_path: Path) -> None:
    """Before the bar, a line shows what the command does, and is erased; without a first run the files are not named."""
    (tmp_path / "q.csv").write_text("question\n1+1\n", encoding="utf-8")
    text = shown(tmp_path)
    assert text.startswith("reading q.csv …\r\x1b[K")
    assert "starting …\r\x1b[K" in text
    assert "next to it: a.csv.journal (keep it: the same command resumes from it), .lock, .store" in text
    assert "next to it" not in shown(tmp_path)


@pytest.mark.ray
@pytest.mark.timeout(150)
def test_a_terminal_gets_nothing_of_ray(tmp_path: Path) -> None:
    """Ray would reset the colors at the end of the process; escaped as outside text, that would be seen."""
    (tmp_path / "q.csv").write_text("question\n1+1\n", encoding="utf-8")
    ours, theirs = os.openpty()
    try:
        command = ["-m", "batchrun", "run", "q.csv", "-o", "a.csv", "--model", "tutor", "--ray", "local"]
        subprocess.run([sys.executable, *command], cwd=tmp_path, stdout=theirs, stderr=theirs, check=True)
        text = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "written: a.csv" in text
    assert "\\x1b" not in text


@pytest.mark.nightly
def test_quiet_says_nothing_at_a_terminal(tmp_path: Path) -> None:
    """With --quiet there is no hint."""
    assert typed(tmp_path, "question\n1+1\n", "--quiet") == (0, [])


def test_a_pipe_gets_no_hint(tmp_path: Path) -> None:
    """A pipe needs no hint."""
    done = batchrun(tmp_path, "run", "-", "-o", "a.csv", stdin="question\n1+1\n")
    assert (done.returncode, HINT in done.stderr) == (0, False)


def test_verbose_draws_nothing(tmp_path: Path) -> None:
    """With --verbose a terminal gets the log as lines; a bar would be drawn over them."""
    (tmp_path / "q.csv").write_text("question\n1+1\n", encoding="utf-8")
    text = shown(tmp_path, "--model", "tutor", "--verbose")
    assert "DEBUG batchrun.services: row 0, attempt 1: POST /v1/threads/runs: 200 after " in text
    assert "━" not in text


@pytest.mark.parametrize(("progress", "is_drawn"), [("None", True), ("True", True), ("False", False)])
def test_a_python_program_shows_a_bar(progress: str, is_drawn: bool, tmp_path: Path) -> None:
    """`batchrun.run` draws a bar on a terminal, whose last state stays, unless `progress=False`."""
    program = f"import batchrun; batchrun.run(['1 + 1', '2 + 2'], model='tutor', progress={progress})"
    ours, theirs = os.openpty()
    try:
        with processes.batchrun(tmp_path, program=program, streams={2: os.ttyname(theirs)}) as process:
            assert process.wait() == 0
        os.set_blocking(ours, False)
        try:
            text = os.read(ours, 1 << 16).decode()
        except BlockingIOError:
            text = ""
    finally:
        os.close(ours)
        os.close(theirs)
    assert ("━" in text) is is_drawn
    assert ("2/2" in text and "2 done · 0 failed · 0 in flight" in text) is is_drawn


def test_a_python_program_without_a_terminal_shows_nothing(tmp_path: Path) -> None:
    """A program whose standard error is not a terminal, such as a job in CI, prints no progress on its own account."""
    program = "import batchrun; batchrun.run(['1 + 1'], model='tutor')"
    with processes.batchrun(tmp_path, program=program) as process:
        assert (process.wait(), process.stdout, process.stderr) == (0, "", "")
