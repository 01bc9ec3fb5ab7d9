"""The example of docs/explanation/sandbox.md, run."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from batchrun.server.sandbox.code_interpreter import SandboxLimits, find_sandbox
from tests.support.markdown import marked_block

PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "sandbox.md"


@pytest.mark.anyio
async def test_example(tmp_path: Path) -> None:
    """The program on the page prints the output below it and writes its file."""
    sandbox = find_sandbox()
    if sandbox is None:
        pytest.skip("neither bubblewrap nor Monty works on this machine")
    (tmp_path / "sales").write_text(marked_block(PAGE, "attached: sales.csv")[1])
    done = await sandbox.run(marked_block(PAGE, "run")[1], files={"sales.csv": tmp_path / "sales"}, workdir=tmp_path)
    assert done.error is None, done.logs
    assert done.logs == marked_block(PAGE, "log")[1]
    assert [path.name for path in done.files] == ["total.txt"]


def test_every_limit_is_described() -> None:
    """The page describes every limit."""
    assert [
        limit.name for limit in fields(SandboxLimits) if f"`{limit.name}`" not in PAGE.read_text(encoding="utf-8")
    ] == []
