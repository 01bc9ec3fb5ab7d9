from __future__ import annotations

import re
from pathlib import Path

import pytest

from batchrun.server.http.routes import OPERATIONS
from tests.support.markdown import code_blocks

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "server.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The example of docs/reference/server.md runs unchanged and prints a correct answer."""
    (code,) = code_blocks(PAGE, "python")
    exec(compile(code, str(PAGE), "exec"), {"__name__": "example"})  # our own page
    printed = capsys.readouterr().out
    assert "user: Can you solve" in printed
    assert re.search(r"assistant: .*x\s*=\s*1\b", printed), printed


def test_every_resource_is_named() -> None:
    """Each resource of the server has a row in the table."""
    text = PAGE.read_text().lower()
    for op in OPERATIONS:
        assert op.path.split("/")[1].replace("_", " ") in text
