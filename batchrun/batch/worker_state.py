"""What the leader of a batch knows of its workers and their shards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchrun.engine import EngineStatistics
from batchrun.journal.row_history import Counts
from batchrun.scale.links import Link
from batchrun.scale.messages import Shard, WorkerReport

__all__ = ["OpenShard", "Worker"]


@dataclass(slots=True)
class OpenShard:
    """A shard that is not done. `log` keeps the log of its journal, unless that is on another machine. `unknown_usd` is
    what its rows may have cost when it was handed out (see `batchrun.journal.spending`).

    Mutable state: `statistics`, the last that a worker has reported; `ended`, the counts of the rows that were gathered
    from that worker; `place`, where the journal is on another machine, None before its worker has begun.
    """

    shard: Shard
    log: sqlite3.Connection | None = None
    unknown_usd: float = 0.0
    ended: list[Counts] = field(default_factory=list)
    statistics: EngineStatistics | None = None
    place: Path | None = None


@dataclass(slots=True)
class Worker:
    """One of the workers. If its process is lost, another one takes its place and its shards.

    Attributes:
        concurrency: rows in flight at most; None for an adaptive number.

    Mutable state: `link`, None while there is no process; `shards`, by their numbers, in its hands; `losses` in a row
    without a row that ended; `report`, the last one; `requests` of its earlier processes,
    and their number, `processes`; `spent_usd`, what the journals say that this process has spent, and `unknown_usd`,
    what requests without an answer may have cost besides.
    """

    number: int
    concurrency: int | None
    link: Link | None = None
    shards: dict[int, OpenShard] = field(default_factory=dict)
    losses: int = 0
    report: WorkerReport | None = None
    received_s: float = 0.0
    requests: int = 0
    processes: int = 0
    spent_usd: float = 0.0
    unknown_usd: float = 0.0

    @property
    def process_name(self) -> str:
        """A name for the governor, which no earlier process has had."""
        return f"{self.name}, process {self.processes}"

    @property
    def name(self) -> str:
        return f"worker {self.number}"

    def statistics(self) -> Iterator[EngineStatistics]:
        """Yield the statistics of its shards, with times of this process."""
        ahead_s = self.report.now_s - self.received_s if self.report is not None else 0.0
        for each in self.shards.values():
            if each.statistics is not None:
                oldest = tuple((key, since_s - ahead_s, doing) for key, since_s, doing in each.statistics.oldest)
                yield replace(each.statistics, oldest=oldest)
