"""User code that tries to end the program: its row or its command fails, and no bar is passed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from batchrun.functions.toolbox import Toolbox
from batchrun.records import ToolCall
from tests.support.command import batchrun
from tests.support.rows import read_csv

ENDS = [
    "sys.exit()",
    "sys.exit(0)",
    "raise SystemExit(0)",
    "raise KeyboardInterrupt",
    "raise GeneratorExit",
    "import asyncio; raise asyncio.CancelledError",
]


def scorer_file(folder: Path, end: str, *, at_import: bool) -> tuple[str, ...]:
    """Write a scorer that ends the program, for `b` only or while it is imported."""
    (folder / "t.csv").write_text("id,response\n1,a\n2,b\n")
    top = f"{end}\n" if at_import else ""
    body = "" if at_import else f"    if answer == 'b':\n        {end}\n"
    (folder / "s.py").write_text(f"import sys\n{top}def f(answer, target):\n{body}    return 1.0\n")
    return "--scorer", "python:s.py:f"


@pytest.mark.parametrize("end", ENDS)
def test_a_scorer_that_ends_the_program_fails_the_row(
    tmp_path: Path, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The row gets no point, with a warning; the other rows are scored, and no bar is passed."""
    scorer = scorer_file(tmp_path, end, at_import=False)
    done = batchrun(tmp_path, "score", "t.csv", *scorer, "-o", "s.csv", "--fail-under", "0.6")
    assert done.returncode == 7, done.stderr
    assert caplog.text.count("rows for which it does so get 0") == 1
    assert [row["score_f"] for row in read_csv(tmp_path / "s.csv")] == ["1.0", "0.0"]
    for command in (("compare", "t.csv", "--split", "id", *scorer), ("report", "t.csv", *scorer)):
        done = batchrun(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    assert caplog.text.count("get 0") == 3


@pytest.mark.parametrize("end", ENDS)
def test_a_scorer_that_ends_the_program_at_import(tmp_path: Path, end: str) -> None:
    """The scorer is refused with one line and exit code 2, and nothing is written."""
    scorer = scorer_file(tmp_path, end, at_import=True)
    for command in (
        ("score", "t.csv", "--fail-under", "0.1"),
        ("compare", "t.csv", "--split", "id"),
        ("report", "t.csv"),
    ):
        done = batchrun(tmp_path, *command, *scorer)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    # Python itself may keep the compiled scorer beside it.
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"s.py", "t.csv"}


@pytest.mark.anyio
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_function_that_ends_the_program(tmp_path: Path, end: str, kind: str) -> None:
    """The model receives whatever a function raises, and the batch continues."""
    path = tmp_path / "tools.py"
    path.write_text(f'import sys\n{kind} f() -> str:\n    """Ends it all."""\n    {end}\n')
    toolbox = Toolbox.load(path)
    import signal

    before = signal.signal(signal.SIGINT, lambda *_: None)  # as in a batch: Ctrl-C raises nothing
    try:
        (output,) = await toolbox.call([ToolCall("call_1", "f", "{}")])
    finally:
        signal.signal(signal.SIGINT, before)
    assert output.failed


@pytest.mark.parametrize("end", ENDS)
def test_a_file_that_ends_the_program(tmp_path: Path, end: str) -> None:
    """A file with functions or with a schema's model that exits while it is loaded is refused with one line."""
    (tmp_path / "q.csv").write_text("question\n1+1\n")
    (tmp_path / "code.py").write_text(f"import sys\n{end}\n")
    for option in (("--tools", "code.py"), ("--schema", "code.py:Model")):
        done = batchrun(tmp_path, "run", "q.csv", *option)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "code.py" in done.stderr


@pytest.mark.parametrize("at_import", [False, True])
def test_a_scorer_that_ends_the_process_is_not_a_success(tmp_path: Path, at_import: bool) -> None:
    """`os._exit(0)` in a scorer ends the process at once, with exit code 1 and a line, so that CI does not pass."""
    scorer = scorer_file(tmp_path, "import os; os._exit(0)", at_import=at_import)
    command = [sys.executable, "-m", "batchrun", "score", "t.csv", *scorer, "--fail-under", "0.6"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "os._exit(0) was called by a scorer, a tool or a library" in done.stderr


def test_a_tool_that_ends_the_process_is_not_a_success(tmp_path: Path) -> None:
    """`os._exit(0)` in a tool file does not look like a finished batch either."""
    (tmp_path / "q.csv").write_text("question\na\n")
    (tmp_path / "tools.py").write_text("import os\nos._exit(0)\n")
    command = [sys.executable, "-m", "batchrun", "run", "q.csv", "--model", "tutor", "--tools", "tools.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "os._exit(0) was called" in done.stderr
