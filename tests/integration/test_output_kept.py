"""A finished batch that runs again: its output is left as it is if it is the one to write, and gets the current time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.journal import Journal
from tests.support.rows import write_csv

pytestmark = pytest.mark.filterwarnings("ignore:failed rows:RuntimeWarning")

LONG_AGO_NS = 10**18


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The output of three questions, of which one has no text; it is old, and the journal has recorded that."""
    write_csv(tmp_path / "q.csv", [{"id": str(n), "question": f"{n} + {n}" if n else ""} for n in range(3)])
    run(tmp_path / "a.csv")
    os.utime(tmp_path / "a.csv", ns=(LONG_AGO_NS, LONG_AGO_NS))
    with Journal(tmp_path / "a.csv.journal") as journal:
        written = journal.read_manifest()["written"]
        written["file"][-1] = LONG_AGO_NS
        journal.write_manifest({"written": written})
    os.link(tmp_path / "a.csv", tmp_path / "first.csv")  # keeps its inode from another file
    return tmp_path / "a.csv"


def run(output: Path, **options: Any) -> None:
    batchrun.run(output.with_name("q.csv"), output=output, model="tutor", **options)


def test_an_unchanged_output_is_kept(output: Path) -> None:
    """The file stays the same one with a new time, again and again, and the summary counts its rows."""
    inode, content = output.stat().st_ino, output.read_bytes()
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="1 × empty_prompt"):
            run(output)
        assert (output.stat().st_ino, output.read_bytes()) == (inode, content)
        assert output.stat().st_mtime_ns > LONG_AGO_NS


def _edited(output: Path) -> None:
    text = output.read_bytes()
    output.write_bytes(text.replace(b"completed", b"Completed"))
    os.utime(output, ns=(LONG_AGO_NS + 1, LONG_AGO_NS + 1))


def _replaced(output: Path) -> None:
    copy = output.with_name("copy.csv")
    copy.write_bytes(output.read_bytes())
    copy.replace(output)
    os.utime(output, ns=(LONG_AGO_NS, LONG_AGO_NS))


@pytest.mark.parametrize("change", [Path.unlink, _edited, _replaced], ids=["missing", "edited", "replaced"])
def test_another_output_is_written(output: Path, change: Callable[[Path], object]) -> None:
    """An output that is missing, was edited or is another file is written again, with the same content."""
    before, inode = output.read_bytes(), output.stat().st_ino
    change(output)
    run(output)
    assert output.read_bytes() == before
    assert output.stat().st_ino != inode


@pytest.mark.parametrize(
    "options",
    [{"bom": True}, {"limit": 1}, {"output_delimiter": ";"}],
    ids=str,
)
def test_other_options_write_it(output: Path, options: dict[str, Any]) -> None:
    """Options that shape the output or ask a row again write it."""
    inode = output.stat().st_ino
    run(output, **options)
    assert output.stat().st_ino != inode


def test_a_row_of_the_input_writes_it(output: Path) -> None:
    """A changed cell writes the output, even one that no prompt uses."""
    table = output.with_name("q.csv")
    table.write_text(table.read_text().replace("2,", "7,"))
    run(output, accept_changes=True)
    assert "7," in output.read_text()
