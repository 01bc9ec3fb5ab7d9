"""Code of the user's that wants to end the program: its row or its command fails, and nothing passes a bar by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.records import ToolCall
from batchrun.tools.functions import Toolbox
from tests.support.command import batchrun

ENDS = ["sys.exit()", "sys.exit(0)", "raise SystemExit(0)", "raise KeyboardInterrupt", "raise GeneratorExit"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("place", ["in a row", "at import"])
def test_a_scorer_that_ends_the_program(tmp_path: Path, end: str, place: str) -> None:
    """It is a fault of the scorer, said in a line: no score, no bar that passes, exit code 2."""
    (tmp_path / "t.csv").write_text("id,response\n1,a\n2,b\n")
    body = f"    if answer == 'b':\n        {end}\n    return 1.0\n" if place == "in a row" else "    return 1.0\n"
    top = "" if place == "in a row" else f"{end}\n"
    (tmp_path / "s.py").write_text(f"import sys\n{top}def f(answer, target):\n{body}")
    scorer = ("--scorer", "python:s.py:f", "--fail-under", "0.1")
    for command in (("score", "t.csv", *scorer), ("compare", "t.csv", "--split", "id", *scorer[:2])):
        done = batchrun(tmp_path, *command)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    report = batchrun(tmp_path, "report", "t.csv", *scorer[:2])
    assert report.returncode == 2
    assert not (tmp_path / "t.scored.csv").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_function_that_ends_the_program(tmp_path: Path, end: str, kind: str) -> None:
    """What a tool's function raises is told to the model, whatever it is; the batch goes on."""
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
    """A file of tools, or of a schema's model, that exits while it is loaded is refused with one line."""
    (tmp_path / "q.csv").write_text("question\n1+1\n")
    (tmp_path / "code.py").write_text(f"import sys\n{end}\n")
    for option in (("--tools", "code.py"), ("--schema", "code.py:Model")):
        done = batchrun(tmp_path, "run", "q.csv", *option)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "code.py" in done.stderr
