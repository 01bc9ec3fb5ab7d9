"""How long a batch takes, from its rows, its limits and the latency of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from batchrun.engine.slots import CEILING, START
from batchrun.job.batch_api_rules import WAVE_S, most_waves
from batchrun.job.options import Job
from batchrun.wording import duration

__all__ = ["Bound", "TimeNeeded", "time_needed", "time_of_waves", "time_text"]

Bound: TypeAlias = Literal["--rpm", "--tpm", "latency", "this machine", "--batch-api"]
"""What limits the speed of a batch."""


@dataclass(frozen=True, slots=True)
class TimeNeeded:
    """How long rows take.

    Attributes:
        bound: what limits the speed.
        latency_s: seconds of one row, assumed or measured.
    """

    seconds: float
    bound: Bound
    latency_s: float


def time_needed(rows: int, requests: float, tokens: float, latency_s: float, job: Job) -> TimeNeeded:
    """Return the longest of three times: requests at --rpm, tokens at --tpm, and rows in waves that fill the slots.

    After a limit has admitted the last row, that row still takes its `latency_s`. Without --concurrency the slots
    double with each wave, from 20 to 1,000, as `engine.slots` doubles them until the first 429.
    """
    if rows == 0:
        return TimeNeeded(0.0, "latency", latency_s)
    bounds: dict[Bound, float] = {"latency": _waves(rows, job.concurrency) * latency_s}
    if job.rpm is not None:
        bounds["--rpm"] = 60.0 * requests / job.rpm + latency_s
    if job.tpm is not None:
        bounds["--tpm"] = 60.0 * tokens / job.tpm + latency_s
    slowest = max(bounds, key=lambda bound: bounds[bound])
    return TimeNeeded(bounds[slowest], slowest, latency_s)


def _waves(rows: int, concurrency: int | None) -> int:
    waves, slots = 0, concurrency or START
    while rows > 0:
        waves, rows = waves + 1, rows - slots
        if concurrency is None and slots < CEILING:
            slots = min(CEILING, slots * 2)
        elif rows > 0:
            return waves - (-rows // slots)
    return waves


def time_of_waves(job: Job) -> TimeNeeded:
    """Return the longest time of a batch through the Batch API, however many rows it has."""
    return TimeNeeded(most_waves(job) * WAVE_S, "--batch-api", WAVE_S)


def time_text(time: TimeNeeded, basis: Literal["assumed", "measured"]) -> str:
    """Return the time, what limits it, and the latency that it is based on."""
    if time.seconds == 0:
        return "none, since nothing would be sent"
    if time.bound == "--batch-api":
        hours = f"{time.seconds / 3600:,.0f}"
        return f"up to {hours} h: each wave of requests may take up to {WAVE_S / 3600:.0f} h (--batch-api)"
    latency = f"{time.latency_s:.1g} s" if time.latency_s < 0.1 else duration(time.latency_s)
    return f"about {duration(time.seconds)}, limited by {time.bound} ({latency} per row, {basis})"
