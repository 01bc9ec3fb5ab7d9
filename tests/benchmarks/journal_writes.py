"""What the journal's writes of one row cost: CPU time, time for which they block the event loop, and bytes of log.

    python tests/benchmarks/journal_writes.py [--rows 4000] [--folder PATH]

With Chat Completions a row is written twice: the attempt, and the outcome with the ids. With the other protocols the
ids are written when they are known. As in a batch, rows are in flight while others begin and end, and all that is
written in a turn of the event loop is one transaction; `alone` is a transaction for each write. Bytes are those of the
write-ahead log without checkpoints. The last lines are a run at full speed with checkpoints beside it, and what it costs
in addition if workers ask the rows: to seed the journals of their shards, and to gather their rows from there. Elapsed
times hold only for the measured disk: `--folder` chooses where to write.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from measuring import table

from batchrun.batch.checkpoints import CHECKPOINT_EVERY_S, CHECKPOINT_LOOKS
from batchrun.journal import Journal
from batchrun.journal.shard_rows import drop, gather, seed
from batchrun.journal.write_ahead_log import LOG_BYTES, REST_PAGES
from batchrun.records import Attempt, Completed, Prompt, Turn
from batchrun.token_usage import Usage

ANSWER = "It is due at 8:35. " * 20
RAW_USAGE = {
    "prompt_tokens": 42,
    "completion_tokens": 100,
    "total_tokens": 142,
    "prompt_token_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def prompt_of(number: int) -> Prompt:
    """Return a prompt whose fingerprint has the usual length."""
    return Prompt(str(number), number, Turn("When is it due?"), f"{number:032x}")


def outcome_of(number: int) -> Completed:
    """Return an outcome with an answer of about 400 characters."""
    return Completed(
        row_key=str(number),
        response=ANSWER,
        thread_id=f"thread_{number:024x}",
        run_id=f"run_{number:024x}",
        model="standin",
        usage=Usage(42, 100, 142, 0, 0, RAW_USAGE),
        attempts=1,
        duration_s=1.0,
        completed_at=MOMENT,
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """Costs of one row: CPU and elapsed time in microseconds, and bytes of log."""

    cpu_us: float
    elapsed_us: float
    log_bytes: float


def begin(journal: Journal, number: int) -> None:
    prompt = prompt_of(number)
    journal.begin_attempt(prompt, Attempt(1, 1, f"batch_0123456789abcdef-{prompt.row_key}-1"), MOMENT)


def see(journal: Journal, number: int) -> None:
    outcome = outcome_of(number)
    journal.set_ids(outcome.row_key, 1, outcome.thread_id, outcome.run_id)


def finish(journal: Journal, number: int, *, with_ids: bool) -> None:
    journal.finish(outcome_of(number), f"{number:032x}", with_ids=with_ids)


async def write(
    journal: Journal, steps: Sequence[Callable[[Journal, int], None]], rows: int, in_flight: int, a_turn: int
) -> None:
    """Write rows, `a_turn` of them in each step of a turn; each step comes when `in_flight` other rows have had the one
    before it."""
    last = len(steps) - 1
    for start in range(0, rows + last * in_flight, a_turn):
        for number, step in enumerate(steps):
            first = start - number * in_flight
            for row in range(max(0, first), min(first + a_turn, rows)):
                step(journal, row)
        await journal.committed()


async def cost(
    folder: Path, steps: Sequence[Callable[[Journal, int], None]], rows: int, in_flight: int, a_turn: int | None
) -> Cost:
    """Return the cost of a row without checkpoints.

    Args:
        a_turn: rows that begin, and that end, in a turn; None for a transaction for each write.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place, Journal(Path(place) / "journal") as journal:
        with nullcontext() if a_turn is None else journal.grouped():
            cpu_s, began_s = time.process_time(), time.perf_counter()
            await write(journal, steps, rows, in_flight, a_turn or 1)
            spent_s, took_s = time.process_time() - cpu_s, time.perf_counter() - began_s
        return Cost(spent_s / rows * 1e6, took_s / rows * 1e6, journal.log_bytes / rows)


async def at_full_speed(folder: Path, rows: int, in_flight: int) -> tuple[int, list[tuple[float, int]]]:
    """Return the largest log in bytes; and for each rest of a checkpoint, how many seconds it held the loop, and how many
    pages it moved."""
    largest, rests = 0, []
    with tempfile.TemporaryDirectory(dir=folder) as place, Journal(Path(place) / "journal") as journal:

        async def checkpoint() -> None:
            nonlocal largest
            while True:
                await anyio.sleep(CHECKPOINT_EVERY_S / CHECKPOINT_LOOKS)
                largest = max(largest, journal.log_bytes)
                if journal.log_bytes > LOG_BYTES:
                    await anyio.to_thread.run_sync(journal.checkpoint)
                    began_s = time.perf_counter()
                    pages = journal.reuse_log()
                    rests.append((time.perf_counter() - began_s, pages))

        with journal.grouped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(checkpoint)
                await write(journal, (begin, see, partial(finish, with_ids=False)), rows, in_flight, 5)
                tasks.cancel_scope.cancel()
        return max(largest, journal.log_bytes), rests


SHARDS, SHARD_ROWS, PORTIONS = 4, 10_000, 5


async def through_shards(folder: Path) -> tuple[float, float]:
    """Return the CPU of a row, in microseconds, to seed it and to gather it in portions, once the main journal has rows
    of other shards."""
    seeded_s = gathered_s = 0.0  # of the last shard
    with tempfile.TemporaryDirectory(dir=folder) as place, Journal(Path(place) / "journal") as main:
        main.write_manifest({"batch_id": "batch_1"})
        for shard in range(SHARDS):
            rows, path = range(shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS), Path(place) / f"{shard}.journal"
            began_s = time.process_time()
            seed(main, path, map(str, rows))
            seeded_s, gathered_s = time.process_time() - began_s, 0.0
            with Journal(path) as worker, worker.grouped():
                for portion in range(PORTIONS):
                    for row in rows[portion::PORTIONS]:
                        begin(worker, row)
                        finish(worker, row, with_ids=True)
                    await worker.committed()
                    began_s = time.process_time()
                    gather(main, path)
                    gathered_s += time.process_time() - began_s
            began_s = time.process_time()
            gather(main, path, whole=True)
            drop(main, path)
            gathered_s += time.process_time() - began_s
            main.checkpoint()
    return seeded_s / SHARD_ROWS * 1e6, gathered_s / SHARD_ROWS * 1e6


async def measure(options: argparse.Namespace) -> None:
    kinds = {
        "chat": (begin, partial(finish, with_ids=True)),
        "assistants": (begin, see, partial(finish, with_ids=False)),
    }
    lines = []
    for kind, steps in kinds.items():
        for a_turn in (None, 1, 5, 20):
            runs = [
                await cost(options.folder, steps, options.rows, options.in_flight, a_turn)
                for _ in range(options.repetitions)
            ]
            least = Cost(
                min(run.cpu_us for run in runs), min(run.elapsed_us for run in runs), min(run.log_bytes for run in runs)
            )
            turn = "alone" if a_turn is None else str(a_turn)
            lines.append(
                (kind, turn, f"{least.cpu_us:.0f}", f"{least.elapsed_us:.0f}", f"{least.log_bytes / 1_000:.1f}")
            )
    print(f"{options.rows} rows, {options.in_flight} in flight, the least of {options.repetitions} runs\n")
    print(table(("protocol", "rows a turn", "CPU, us a row", "elapsed, us a row", "log, KB a row"), lines))
    largest, rests = await at_full_speed(options.folder, options.rows * 5, options.in_flight)
    held_s, pages = max(rests, default=(0.0, 0))
    print(
        f"\nat full speed: largest log {largest / 2**20:.0f} MiB; {len(rests)} rests of checkpoints held the loop, the "
        f"longest for {held_s * 1e3:.1f} ms and {pages} pages, the largest of {max((n for _, n in rests), default=0)} pages   "
        f"(figures to reach: at most 64 MiB, 20 ms and {REST_PAGES} pages)"
    )
    seed_us, gather_us = await through_shards(options.folder)
    print(
        f"with workers: {seed_us:.1f} us of CPU to seed a row, {gather_us:.1f} us to gather it, for shards of "
        f"{SHARD_ROWS:,} rows   (figures to reach: at most 5 and 30 us)"
    )


def main() -> None:
    """Write the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="default: the system's folder for temporary files")
    anyio.run(measure, parser.parse_args(), backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
