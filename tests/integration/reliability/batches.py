"""Tables to run, moments to kill at, and the proof that no row was lost or run twice."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrun.batch.plan import make_plan
from batchrun.batch.progress import Watch
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from tests.integration.reliability.processes import Batchrun, Served, ServerRecords, batchrun
from tests.support.rows import read_csv

__all__ = [
    "BEGUN",
    "ENDED",
    "UNNAMED",
    "Table",
    "assert_each_row_once",
    "command",
    "kill_and_resume",
    "killed_when",
    "run_table",
    "write_table",
]

ENDED = "SELECT count(*) FROM outcomes"
BEGUN = "SELECT count(*) FROM attempts"
ROWS_LEFT = 24
WRITING_TRIES = 20
UNNAMED = """
    -- rows of which a request may have arrived whose reply was never seen
    SELECT count(*) FROM attempts AS last
    WHERE run_id IS NULL AND NOT run_ended
      AND number = (SELECT max(number) FROM attempts WHERE row_key = last.row_key)
      AND NOT EXISTS (SELECT 1 FROM outcomes WHERE row_key = last.row_key)
"""


@dataclass(frozen=True, slots=True)
class Table:
    """An input of `rows` rows with the prompts `row 0`, `row 1`, …, and the path of its answers."""

    folder: Path
    rows: int
    input: Path
    output: Path

    @property
    def journal(self) -> Path:
        return self.output.with_name(self.output.name + ".journal")

    def answers(self) -> list[dict[str, str]]:
        return read_csv(self.output)

    def is_being_written(self) -> bool:
        """Return whether a process is writing the output now, or was killed while it did."""
        for path in self.folder.glob(".batchrun-*.tmp"):
            # The file that only tries whether the folder can be written has no rights for others.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mode & 0o044:
                    return True
        return False

    def count(self, query: str) -> int:
        """Return a count from the journal, 0 without a journal."""
        try:
            with contextlib.closing(sqlite3.connect(f"{self.journal.as_uri()}?mode=ro", uri=True, timeout=5)) as db:
                return int(db.execute(query).fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def write_table(folder: Path, rows: int) -> Table:
    folder.mkdir(parents=True, exist_ok=True)
    table = Table(folder, rows, folder / "rows.csv", folder / "answers.csv")
    table.input.write_text("question\n" + "".join(f"row {row}\n" for row in range(rows)))
    return table


async def run_table(table: Table, url: str, *, watch: Watch | None = None, **options: Any) -> Summary:
    """Run a batch in this process; the options are those of a job."""
    environment = Environment()
    plan = make_plan(make_job({"base_url": url, "model": "m", **options}), table.input, environment, table.output)
    return await run_batch(plan, environment, watch=watch)


def command(table: Table, url: str, *options: str, api: str = "assistants") -> list[str | Path]:
    """Return the same command each time: whoever resumes a batch need not know what happened to it."""
    return [
        *("run", table.input, "-o", table.output, "--base-url", url, "--api", api, "--model", "script"),
        *("--json", *options),
    ]


def killed_when(process: Batchrun, reached: Callable[[], bool], pause_s: float = 0.005) -> bool:
    """Send SIGKILL as soon as `reached`; return whether the process was still running."""
    while process.running and not reached():
        time.sleep(pause_s)
    return process.kill()


@dataclass(frozen=True, slots=True)
class Moments:
    """Where the next SIGKILL hits: drawn from the whole life of a batch, whatever the machine's speed."""

    table: Table
    draw: random.Random

    def starting(self, process: Batchrun) -> bool:
        """Wait for a time between the first instruction and the first rows, or the output if all rows have ended."""
        until, ended = time.monotonic() + self.draw.uniform(0.0, 0.6), self.table.count(ENDED)
        written = self._is_written_again()
        return killed_when(
            process, lambda: time.monotonic() >= until or self.table.count(ENDED) > ended or written(), pause_s=0.002
        )

    def under_way(self, process: Batchrun, kills_left: int) -> bool:
        """Wait for a random number of further rows, and then a random moment.

        `ROWS_LEFT` rows stay for this kill and for each later one: the batch does not end between a look and its kill.
        """
        ended = self.table.count(ENDED)
        most = 2 * (self.table.rows - ended) // (kills_left + 1)
        goal = min(ended + self.draw.randint(0, most), self.table.rows - ROWS_LEFT * (kills_left + 1))
        extra_s = self.draw.uniform(0.0, 0.02)
        if not self._after(process, lambda: self.table.count(BEGUN) > 0 and self.table.count(ENDED) >= goal):
            return False
        until = time.monotonic() + extra_s
        return killed_when(process, lambda: time.monotonic() >= until)

    def writing(self, process: Batchrun, within_s: float) -> bool:
        """Wait until the output is being written, and then a random moment of at most so many seconds.

        An output that an earlier try has let be written is removed: a finished batch does not write it again.
        """
        self.table.output.unlink(missing_ok=True)
        extra_s = self.draw.uniform(0.0, within_s)
        if not self._after(process, self._is_written_again(), pause_s=0.0003):
            return False
        until = time.monotonic() + extra_s
        return killed_when(process, lambda: time.monotonic() >= until, pause_s=0.0)

    def _is_written_again(self) -> Callable[[], bool]:
        """Return whether a file exists that did not exist before."""
        before = {path.name for path in self.table.folder.glob(".batchrun-*.tmp")}
        if not before:
            return self.table.is_being_written
        return lambda: any(path.name not in before for path in self.table.folder.glob(".batchrun-*.tmp"))

    def _after(self, process: Batchrun, reached: Callable[[], bool], pause_s: float = 0.005) -> bool:
        while process.running:
            if reached():
                return True
            time.sleep(pause_s)
        return False


def kill_and_resume(
    table: Table, arguments: list[str | Path], *, seed: int, starting: int, under_way: int, writing: int
) -> Iterator[str]:
    """Run to the end with so many SIGKILLs of each kind, in random order but for those at the writing.

    Yields the kind of each kill after it; the last run is not killed and must end well.
    """
    draw = random.Random(seed)
    moments = Moments(table, draw)
    plan = ["starting"] * starting + ["under_way"] * under_way
    draw.shuffle(plan)
    left = Counter(plan)
    for kind in plan:
        with batchrun(table.folder, *arguments) as process:
            left[kind] -= 1
            hit = moments.starting(process) if kind == "starting" else moments.under_way(process, left["under_way"])
            assert hit, f"seed {seed}: the batch ended with {process.wait()} before it was killed: {process.stderr}"
        yield kind
    killed = 0
    within_s = 0.004
    for _ in range(WRITING_TRIES * writing):
        if killed == writing:
            break
        with batchrun(table.folder, *arguments) as process:
            if moments.writing(process, within_s):
                killed += 1
                yield "writing"
            else:
                within_s /= 2
    assert killed == writing, f"seed {seed}: the writing was over too soon {WRITING_TRIES * writing} times"
    with batchrun(table.folder, *arguments) as process:
        assert process.wait() == 0, f"seed {seed}: {process.stderr}"


def assert_each_row_once(table: Table, server: Served, *, spare_runs: bool = False) -> ServerRecords:
    """Check that the output has each row once and in order, and that the server created one thread and one run per row.

    Args:
        spare_runs: runs that failed and were, correctly, made again.
    """
    answers, records = table.answers(), server.records()
    assert [row["question"] for row in answers] == [f"row {row}" for row in range(table.rows)]
    assert Counter(row["status"] for row in answers) == {"completed": table.rows}
    assert [row["response"] for row in answers] == [f"answer {row}" for row in range(table.rows)]
    runs = records.of("run")
    good = [run for run in runs.values() if not spare_runs or run["status"] != "failed"]
    asked = Counter(run["metadata"]["row"] for run in good)
    assert {row: number for row, number in asked.items() if number > 1} == {}
    assert len(good) == table.rows
    assert len(records.of("thread")) == len(runs)
    for number, row in enumerate(answers):
        run = runs[row["run_id"]]
        assert (run["metadata"]["row"], run["thread_id"], run["status"]) == (str(number), row["thread_id"], "completed")
        assert records.answer_of(row["run_id"]) == row["response"]
    return records
