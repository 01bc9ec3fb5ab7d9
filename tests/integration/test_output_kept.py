"""A finished batch that runs again: its output is left as it is if it is the one to write, and gets the current time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.estimate.recount import batch_costs
from batchrun.journal import Journal
from tests.support.rows import read_csv, write_csv

pytestmark = [
    pytest.mark.filterwarnings("ignore:failed rows:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:keep. the answers so far:RuntimeWarning"),
]

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


def _touched(output: Path) -> None:
    os.utime(output)


@pytest.mark.parametrize("change", [Path.unlink, _edited, _replaced, _touched])
def test_another_output_is_written(output: Path, change: Callable[[Path], object]) -> None:
    """An output that is missing, was edited or is another file is written again, with the same content."""
    before, inode = output.read_bytes(), output.stat().st_ino
    change(output)
    run(output)
    assert output.read_bytes() == before
    assert output.stat().st_ino != inode


@pytest.mark.parametrize(
    "options",
    [
        {"bom": True},
        {"limit": 1},
        {"output_delimiter": ";"},
        {"safe_csv": True},
        {"output_prefix": "batch_"},
        {"keep": ["service_tier"]},
        {"where": "id != '1'"},
    ],
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


def test_another_where_writes_it(output: Path) -> None:
    """Rows that another --where selects show their answers again; the same one keeps the output."""
    statuses = []
    for condition in ("id != '1'", "id == '1'"):
        run(output, where=condition)
        statuses.append([row["status"] for row in read_csv(output)])
        inode = output.stat().st_ino
        run(output, where=condition)
        assert output.stat().st_ino == inode
    assert statuses == [["failed", "completed", "completed"], ["skipped", "completed", "completed"]]


def test_corrected_costs_write_it(output: Path) -> None:
    """After `costs --write` the next run writes the new costs."""
    costs = batch_costs(output, {"tutor": {"input": 1_000.0, "output": 1_000.0}}, write=True)
    assert costs.written == 2
    run(output)
    assert [bool(float(row["cost_usd"] or 0)) for row in read_csv(output)] == [False, True, True]


def test_a_price_list_decides_later_costs_only(output: Path) -> None:
    """Another price list leaves recorded costs and the output as they are: to write it would change nothing."""
    before, inode = output.read_bytes(), output.stat().st_ino
    prices = {"tutor": {"input": 1_000.0, "output": 1_000.0}}
    run(output, prices=prices)
    assert (output.read_bytes(), output.stat().st_ino) == (before, inode)
    output.unlink()
    run(output, prices=prices)
    assert output.read_bytes() == before


def test_an_edit_right_after_the_run_is_seen(output: Path) -> None:
    """The recorded time has odd microseconds, whether the output was written or kept: no edit gets it, whatever the file
    system's clock tick is."""
    before = output.read_bytes()
    for is_missing in (False, True):
        output.unlink() if is_missing else None
        run(output)
        with Journal(output.with_name("a.csv.journal"), read_only=True) as journal:
            recorded_ns = journal.read_manifest()["written"]["file"][-1]
        assert recorded_ns == output.stat().st_mtime_ns
        assert recorded_ns % 2_000 == 1_000
    output.write_bytes(before.replace(b"completed", b"Completed"))
    os.utime(output, ns=(recorded_ns - 1_000, recorded_ns - 1_000))
    run(output)
    assert output.read_bytes() == before


def test_a_time_without_microseconds_is_not_relied_on(output: Path) -> None:
    """On a file system that cuts times to seconds, no record of the file is made, and the next run writes the output."""
    with Journal(output.with_name("a.csv.journal")) as journal:
        journal.write_manifest({"written": {**journal.read_manifest()["written"], "file": None}})
    inode = output.stat().st_ino
    run(output)
    assert output.stat().st_ino != inode
