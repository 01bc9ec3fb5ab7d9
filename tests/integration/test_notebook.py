"""batchrun in a Jupyter kernel, as a notebook shows it."""

from __future__ import annotations

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


OPTIONS = 'prompt="{{ question }}", script="s.toml", concurrency=10'
CELLS = {
    "ran": f"answers = batchrun.run(frame, {OPTIONS})",
    "awaited": f"answers = await batchrun.arun(frame, {OPTIONS})",
    "hidden": f"answers = batchrun.run(frame, {OPTIONS}, progress=False)",
    "warned": "answers = batchrun.run(frame[:2], progress=False)",
    "failed": "answers = batchrun.run(frame, temperature=9)",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Run all cells in a kernel, which takes seconds to start; return the outputs of each."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "s.toml").write_text('[default]\nreply = "2"\ndelay_s = 0.4\n', encoding="utf-8")
    cells = [nbformat.v4.new_code_cell(text) for text in (SETUP, *CELLS.values())]
    client = nbclient.NotebookClient(
        nbformat.v4.new_notebook(cells=cells),
        timeout=100,
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return dict(zip(CELLS, [cell.outputs for cell in cells[1:]], strict=True))


@pytest.mark.filterwarnings("ignore")
def test_a_cell_has_one_output_that_is_replaced(outputs: dict[str, list[Any]]) -> None:
    """`run`, which uses a thread while the kernel's loop runs, and `arun` show one bar each, in their own cell, which
    stands at the end of the batch; `progress=False` shows none."""
    for shown in (outputs["ran"], outputs["awaited"]):
        assert [each.output_type for each in shown] == ["display_data"]
        text = shown[0].data["text/plain"]
        assert "40/40 100%" in text
        assert "40 done · 0 failed · 0 in flight" in text
        assert "\x1b" not in text
        assert "40 done" in shown[0].data["text/html"]
    assert outputs["hidden"] == []


@pytest.mark.filterwarnings("ignore")
def test_a_warning_and_an_error_are_short(outputs: dict[str, list[Any]]) -> None:
    """A warning names the cell's line, and an error names the parameter, with the cell's line in its traceback."""
    warned, failed = outputs["warned"], outputs["failed"]
    assert "RuntimeWarning: no API key" in warned[0].text
    assert "answers = batchrun.run(frame[:2], progress=False)" in warned[0].text
    assert (failed[0].ename, failed[0].evalue) == ("InputError", "temperature: must be at most 2, got 9.0")
    assert len(failed[0].traceback) <= 6
