"""`batchrun list`: every batch of a folder in one line, whatever state its files are in, and nothing is written."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from batchrun.batch.listing import ListedBatch
from batchrun.batch.listing_table import listing_lines
from batchrun.batch.lock import held
from batchrun.batch.paths import paths_for
from batchrun.batch.service_batch_text import ServiceBatchFacts
from batchrun.journal import Journal
from tests.integration.test_earlier_versions import BATCHES, laid_out
from tests.support.command import Result, batchrun

SCRIPT = '[[rules]]\nmatch = "bad"\nerror = 400\n[default]\nreply = "good"\n'


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished batch, one with failed rows, and one that has pending rows."""
    folder = tmp_path_factory.mktemp("batches")
    (folder / "q.csv").write_text("question\n1+1\n2+2\n3+3\n4+4\n", encoding="utf-8")
    assert batchrun(folder, "run", "q.csv", "-o", "done.csv").returncode == 0
    assert batchrun(folder, "run", "q.csv", "-o", "part.csv", "--pilot", "1").returncode == 0
    return folder


@pytest.fixture
def folder(batches: Path, tmp_path: Path) -> Path:
    """A copy of the batches, which a test may change."""
    return shutil.copytree(batches, tmp_path / "copy")


def listed(result: Result) -> list[dict[str, Any]]:
    assert result.returncode == 0, result.stderr
    return list(json.loads(result.stdout))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return name → content and time of change of each file."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


# -- what it shows ----------------------------------------------------------------------------------------------


def test_each_batch_has_a_line(folder: Path) -> None:
    """The batch that ran last comes first; state, rows, tokens, cost, time, model and output are shown."""
    result = batchrun(folder, "list")
    heading, part, done, *more = result.stdout.splitlines()
    assert heading.split() == ["OUTPUT", "STATE", "ROWS", "TOKENS", "COST", "LAST", "RUN", "MODEL"]
    assert part.split()[:4] == ["part.csv", "stopped", "25%", "1/4"]
    assert part.split()[5] == "free"
    assert done.split()[:3] == ["done.csv", "finished", "4"]
    assert done.endswith("tutor")
    assert more == ["without an output file: part.csv; write it with batchrun export part.csv"]


def test_json_has_the_facts_of_status(folder: Path) -> None:
    """Each object is that of `status --json`, with the time of the last answer and whether the output exists."""
    part, done = listed(batchrun(folder, "list", "--json"))
    status = json.loads(batchrun(folder, "status", "done.csv", "--json").stdout)
    assert status.items() <= done.items()
    assert done["output_exists"]
    assert not part["output_exists"]
    assert (part["pending"], part["completed"]) == (3, 1)
    assert done["created_at"][:19] <= done["last_at"][:19] <= part["last_at"][:19]


def test_a_running_batch_comes_first_with_its_progress(folder: Path) -> None:
    """A batch whose output another process writes is running; its output need not exist yet."""
    with held(paths_for(folder / "done.csv").lock):
        first, second = listed(batchrun(folder, "list", "--json"))
        assert (first["output"], first["running"], second["running"]) == ("done.csv", True, False)
        assert "running 100%" in batchrun(folder, "list").stdout.splitlines()[1]
    assert not listed(batchrun(folder, "list", "--json"))[0]["running"]


def test_rows_in_flight_are_seen_in_the_log(folder: Path) -> None:
    """What a running batch has not yet moved from its log to its journal is counted, and the log is left as it is."""
    with contextlib.closing(sqlite3.connect(folder / "part.csv.journal")) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(
            "INSERT INTO attempts (row_key, number, generation, idempotency_key, fingerprint, started_at) "
            "SELECT 'new', 1, 1, 'k', 'f', started_at FROM attempts"
        )
        db.commit()
        before = contents(folder)
        assert listed(batchrun(folder, "list", "--json"))[0]["in_flight"] == 1
        assert contents(folder).keys() == before.keys()
        assert {name: each for name, each in contents(folder).items() if not name.endswith("-shm")} == {
            name: each for name, each in before.items() if not name.endswith("-shm")
        }


def test_the_folder_is_that_of_the_outputs(folder: Path) -> None:
    """Without FOLDER, the working folder and its folder outputs are listed; -r finds those in other folders."""
    for name in ("outputs", "other/deep", ".hidden"):
        (folder / name).mkdir(parents=True)
        shutil.copy(folder / "done.csv.journal", folder / name / "a.csv.journal")
    outputs = {each["output"] for each in listed(batchrun(folder, "list", "--json"))}
    assert outputs == {"done.csv", "part.csv", "outputs/a.csv"}
    found = {each["output"] for each in listed(batchrun(folder, "list", "-r", "--json"))}
    assert found == outputs | {"other/deep/a.csv"}
    assert [each["output"] for each in listed(batchrun(folder, "list", "other/deep", "--json"))] == ["other/deep/a.csv"]


def test_a_folder_without_batches(tmp_path: Path) -> None:
    """The absence of batches is said; a folder that does not exist, or a file, is an error."""
    (tmp_path / "file").touch()
    empty = batchrun(tmp_path, "list")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "no batches in . or outputs" in empty.stderr
    assert listed(batchrun(tmp_path, "list", "--json")) == []
    for name, problem in (("gone", "no such folder"), ("file", "is not a folder")):
        refused = batchrun(tmp_path, "list", name)
        assert refused.returncode == 2
        assert problem in refused.stderr


# -- odd files --------------------------------------------------------------------------------------------------


def test_journals_of_earlier_versions_are_listed_as_they_are(tmp_path: Path) -> None:
    """Each journal of an earlier version is listed, and neither it nor its folder changes."""
    laid_out(tmp_path)
    before = contents(tmp_path)
    found = listed(batchrun(tmp_path, "list", "-r", "--json"))
    assert {each["output"] for each in found} == set(BATCHES)
    assert contents(tmp_path) == before


def _edit(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def odd_journals(path: Path) -> Iterator[str]:
    """Damage the journal in one way after another; yield the name of each way."""
    whole = path.read_bytes()
    for size in (0, 1, 90, 100, 512, 2_048, len(whole) // 2, len(whole) - 1_000):
        path.write_bytes(whole[:size])
        yield f"cut to {size} bytes"
    path.write_bytes(b"\xff" * len(whole))
    yield "overwritten"
    path.write_text("a journal of another kind", encoding="utf-8")
    yield "text"
    for statement in (
        "DELETE FROM manifest",
        "DELETE FROM manifest WHERE name = 'rows'",
        "DELETE FROM manifest WHERE name = 'settings'",
        "UPDATE manifest SET value = '{' WHERE name = 'rows'",
        "UPDATE manifest SET value = '\"many\"' WHERE name = 'rows'",
        "UPDATE manifest SET value = '3' WHERE name = 'settings'",
        "UPDATE manifest SET value = 'null' WHERE name = 'created_at'",
        "UPDATE outcomes SET completed_at = 7",
        "UPDATE outcomes SET completed_at = 'yesterday'",
        "DROP TABLE outcomes",
        "PRAGMA user_version = 99",
        "PRAGMA application_id = 7",
    ):
        path.write_bytes(whole)
        _edit(path, statement)
        yield statement
    path.unlink()


def test_an_odd_journal_is_a_line_and_the_others_are_listed(folder: Path) -> None:
    """A foreign, cut, emptied or changed journal is named with its problem; no other batch is lost, nothing changes."""
    for damage in odd_journals(folder / "part.csv.journal"):
        for name in ("part.csv.journal-wal", "part.csv.journal-shm"):
            (folder / name).unlink(missing_ok=True)
        before = contents(folder)
        shown = batchrun(folder, "list")
        assert shown.returncode == 0, (damage, shown.stderr)
        assert "done.csv  finished" in shown.stdout, damage
        assert "part.csv" in shown.stdout, damage
        odd = [each for each in listed(batchrun(folder, "list", "--json")) if "problem" in each]
        assert [each["journal"] for each in odd] in (["part.csv.journal"], []), damage
        assert contents(folder) == before, damage


def test_a_locked_journal_is_a_line(folder: Path) -> None:
    """A journal that another program keeps locked is reported after a moment."""
    with contextlib.closing(sqlite3.connect(folder / "part.csv.journal")) as db:
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute("BEGIN EXCLUSIVE")
        (folder / "part.csv.journal-wal").write_bytes(b"x")  # makes SQLite look for a lock
        result = batchrun(folder, "list")
    assert "done.csv  finished" in result.stdout
    assert result.stdout.count("part.csv.journal: ") == 1


def test_names_of_outputs_are_shown_safely(folder: Path) -> None:
    """A terminal sequence in a name is shown as an escape."""
    shutil.copy(folder / "done.csv.journal", folder / "\x1b[2Jodd.csv.journal")
    shown = batchrun(folder, "list").stdout
    assert "\\x1b[2Jodd.csv" in shown
    assert "\x1b" not in shown


# -- the table --------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 29, 15, 0, tzinfo=UTC)
BATCH: ListedBatch = {
    "output": "out.csv",
    "put_to": None,
    "put_at": None,
    "batch_id": "b",
    "created_at": "2026-11-29T12:00:00+00:00",
    "running": False,
    "input": "in.csv",
    "model": "gpt-5-mini",
    "embedded": False,
    "rows": 1_200,
    "completed": 1_160,
    "incomplete": 0,
    "failed": 3,
    "failures": {"timeout": 3},
    "in_flight": 0,
    "pending": 37,
    "skipped": 0,
    "from_cache": 0,
    "models": {},
    "fallbacks": {},
    "prompt_tokens": 1_200_000,
    "completion_tokens": 300_000,
    "cost_usd": 12.5,
    "unpriced": 0,
    "last_at": "2026-11-29T14:02:00+00:00",
    "output_exists": True,
    "service_batches": [],
}


def test_a_terminal_shows_short_times_and_counts() -> None:
    """Today's times have no date, this year's no year; tokens are rounded; an unknown cost is called so, also of
    some rows."""
    yesterday: ListedBatch = {**BATCH, "last_at": "2026-11-28T23:00:00+00:00", "cost_usd": None}
    old: ListedBatch = {**BATCH, "last_at": "2025-03-01T00:00:00+00:00", "failed": 0}
    lines = listing_lines([BATCH, yesterday, old], [], now=NOW, width=100)
    assert lines[1].split() == [
        "out.csv",
        "stopped",
        "97%",
        "1,163/1,200",
        "3",
        "1.5M",
        "$12.50",
        "14:02",
        "gpt-5-mini",
    ]
    assert "unknown  Nov 28" in lines[2]
    partly: ListedBatch = {**BATCH, "cost_usd": 0.0, "unpriced": 1_200}
    assert "$0.0000 + 1,200 unknown" in listing_lines([partly], [], now=NOW)[1]
    assert "2025-03" in lines[3]


def test_a_batch_at_the_service_is_submitted() -> None:
    """A batch whose requests are at the Batch API is neither stopped nor finished."""
    service_batch: ServiceBatchFacts = {
        "batch_id": "batch_1",
        "status": "in_progress",
        "since": NOW.isoformat(),
        "created_at": NOW.isoformat(),
        "endpoint": "/v1/responses",
        "model": "gpt-5-mini",
        "requests": 37,
        "completed": 0,
        "failed": 0,
    }
    line = listing_lines([{**BATCH, "service_batches": [service_batch]}], [], now=NOW, width=100)[1]
    assert line.split()[:3] == ["out.csv", "submitted", "97%"]


def test_a_pipe_gets_whole_values() -> None:
    """Without a terminal nothing is cut or rounded, and every time has its date."""
    name = f"{'long/' * 40}out.csv"
    line = listing_lines([{**BATCH, "output": name}], [], now=NOW)[1]
    assert line.startswith(name)
    assert "1,500,000" in line
    assert "2026-11-29 14:02" in line


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=60), st.text(max_size=40), st.integers(0, 10**9)), min_size=1, max_size=4
    ),
    st.sampled_from([80, 100, 132]),
)
def test_the_table_fits_a_terminal(batches: list[tuple[str, str, int]], width: int) -> None:
    """No line of the table is wider than the terminal, whatever the names are, and the end of a long path is kept."""
    found: list[ListedBatch] = [
        {**BATCH, "output": f"{name.replace(chr(0), '')}/answers.csv", "model": model, "rows": rows, "failed": 0}
        for name, model, rows in batches
    ]
    lines = listing_lines(found, [], now=NOW, width=width)
    assert len(lines) == len(found) + 1
    assert all(cell_len(line) <= width for line in lines)
    assert all("answers.csv" in line for line in lines[1:])


def test_a_batch_without_a_row_is_not_called_finished(tmp_path: Path) -> None:
    """A journal whose process ended before the batch was recorded is named as such."""
    Journal(tmp_path / "out.csv.journal").close()
    assert "holds no batch" in batchrun(tmp_path, "list").stdout
    for command in (("status",), ("export", "-o", "copy.csv"), ("costs",)):
        assert "holds no batch" in batchrun(tmp_path, command[0], "out.csv", *command[1:]).stderr
