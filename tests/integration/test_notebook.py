"""batchrun in a Jupyter kernel, as a notebook shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

SETUP = """
import os
for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHRUN_MODEL"):
    os.environ.pop(name, None)
import batchrun
import pandas as pd
frame = pd.DataFrame({"question": [f"{n} + {n}" for n in range(40)]})
"""


@pytest.fixture
def run_cells(tmp_path: Path) -> Any:
    """Returns a function that runs cells in a new kernel and returns the outputs of each."""
    (tmp_path / "s.toml").write_text('[default]\nreply = "2"\ndelay_s = 0.4\n', encoding="utf-8")

    def run(*cells: str) -> list[list[Any]]:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (SETUP, *cells)])
        client = nbclient.NotebookClient(
            notebook, timeout=100, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
        return [cell.outputs for cell in notebook.cells[1:]]

    return run


@pytest.mark.filterwarnings("ignore")
def test_a_cell_has_one_output_that_is_replaced(run_cells: Any) -> None:
    """`run`, which uses a thread while the kernel's loop runs, and `arun` show one bar each, in their own cell, which
    stands at the end of the batch; `progress=False` shows none."""
    options = 'prompt="{{ question }}", script="s.toml", concurrency=10'
    ran, awaited, hidden = run_cells(
        f"answers = batchrun.run(frame, {options})",
        f"answers = await batchrun.arun(frame, {options})",
        f"answers = batchrun.run(frame, {options}, progress=False)",
    )
    for outputs in (ran, awaited):
        assert [each.output_type for each in outputs] == ["display_data"]
        text = outputs[0].data["text/plain"]
        assert "40/40 100%" in text
        assert "40 done · 0 failed · 0 in flight" in text
        assert "\x1b" not in text
        assert "40 done" in outputs[0].data["text/html"]
    assert hidden == []


@pytest.mark.filterwarnings("ignore")
def test_a_warning_and_an_error_are_short(run_cells: Any) -> None:
    """A warning names the cell's line, and an error names the parameter, with the cell's line in its traceback."""
    warned, failed = run_cells(
        "answers = batchrun.run(frame[:2], progress=False)", "answers = batchrun.run(frame, temperature=9)"
    )
    assert "RuntimeWarning: no API key" in warned[0].text
    assert "answers = batchrun.run(frame[:2], progress=False)" in warned[0].text
    assert (failed[0].ename, failed[0].evalue) == ("InputError", "temperature: must be at most 2, got 9.0")
    assert len(failed[0].traceback) <= 6
