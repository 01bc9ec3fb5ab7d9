"""Time for which the journal's writes of one row block the event loop.

    python tests/benchmarks/journal_writes.py [--rows 20000] [--folder PATH]

A successful row is written three times: the attempt, the ids when they are known, and the outcome. The event loop is
blocked meanwhile, so elapsed time counts, not CPU time. As in a batch, rows are in flight in waves, and checkpoints run
in a thread. The result holds only for the measured disk: `--folder` chooses where to write.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median, quantiles

from measuring import table

from batchrun.batch.run import CHECKPOINT_EVERY_S, CHECKPOINT_LOOKS
from batchrun.journal import Journal
from batchrun.journal.write_ahead_log import LOG_BYTES
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


def write_wave(journal: Journal, numbers: range) -> list[tuple[float, float, float]]:
    """Return the seconds of the three writes of each row; as in a batch, all rows begin before the first one ends."""
    outcomes = [(prompt_of(number), outcome_of(number)) for number in numbers]
    laps: list[list[float]] = []
    for step in range(3):
        lap = []
        for prompt, outcome in outcomes:
            started_s = time.perf_counter()
            if step == 0:
                journal.begin_attempt(prompt, Attempt(1, 1, f"batch_0123456789abcdef-{prompt.row_key}-1"), MOMENT)
            elif step == 1:
                journal.set_ids(prompt.row_key, 1, outcome.thread_id, outcome.run_id)
            else:
                journal.finish(outcome, prompt.fingerprint)
            lap.append(time.perf_counter() - started_s)
        laps.append(lap)
    return list(zip(*laps, strict=True))


def main() -> None:
    """Write the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="default: the system's folder for temporary files")
    options = parser.parse_args()
    rows: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, Journal(Path(folder) / "journal") as journal:
        ended, moved = threading.Event(), threading.Event()
        most_log_bytes, held_s = 0, [0.0]

        def keep_checkpointing() -> None:
            while not ended.wait(CHECKPOINT_EVERY_S / CHECKPOINT_LOOKS):
                if journal.log_bytes > LOG_BYTES:
                    journal.checkpoint()
                    moved.set()
                    while moved.is_set() and not ended.is_set():
                        time.sleep(0.001)

        beside = threading.Thread(target=keep_checkpointing)
        beside.start()
        try:
            for start in range(0, options.rows, options.in_flight):
                rows += write_wave(journal, range(start, min(start + options.in_flight, options.rows)))
                most_log_bytes = max(most_log_bytes, journal.log_bytes)
                if moved.is_set():
                    started_s = time.perf_counter()
                    journal.reuse_log()
                    held_s.append(time.perf_counter() - started_s)
                    moved.clear()
        finally:
            ended.set()
            beside.join()
    laps_ms = [[lap * 1_000 for lap in step] for step in zip(*rows, strict=True)]
    laps_ms.append([sum(row) * 1_000 for row in rows])
    print(f"{options.rows} rows, {options.in_flight} in flight, checkpoints every {CHECKPOINT_EVERY_S:g} s beside\n")
    print(
        table(
            ("milliseconds", "mean", "median", "99 %", "most"),
            [
                (name, f"{mean(lap):.3f}", f"{median(lap):.3f}", f"{quantiles(lap, n=100)[98]:.3f}", f"{max(lap):.3f}")
                for name, lap in zip(("begin", "seen", "finish", "a row"), laps_ms, strict=True)
            ],
        )
    )
    print(
        f"\nlargest log: {most_log_bytes / 2**20:.0f} MiB; the rest of a checkpoint held the loop for at most {max(held_s) * 1e3:.1f} ms"
    )
    print(f"\na row's writes, mean: {mean(laps_ms[-1]):.3f} ms   (figure to reach: at most 0.2 ms)")


if __name__ == "__main__":
    main()
