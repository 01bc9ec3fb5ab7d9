"""The messages between the leader of a batch and its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from batchrun.engine import EngineStatistics, LimitsStatistics, Stop
from batchrun.scale.governor import Asks

__all__ = [
    "Begin",
    "Broken",
    "CopyTaken",
    "Finish",
    "LeftCopy",
    "LeftJournal",
    "LogLine",
    "RemoteShard",
    "Shard",
    "ShardEnded",
    "StopAsked",
    "Taken",
    "WorkerReport",
]


# -- from the leader ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeftJournal:
    """Comes before `Begin`, to a worker on the machine of one that was lost: send what that one left of a shard.

    The worker answers with `LeftCopy`. At `Begin` the answers are kept: it deletes those files.

    Attributes:
        journal: its path on the worker's machine.
    """

    journal: Path


@dataclass(frozen=True, slots=True)
class Begin:
    """What a worker has to know of the batch, before its first shard.

    Attributes:
        plan: a `batchrun.batch.shard_plan.ShardPlan`.
        endpoint: the service, with its credentials: a `batchrun.services.client.Endpoint`.
        log_level: the least level of log lines to pass on.
    """

    plan: object
    endpoint: object = field(repr=False)
    log_level: int


@dataclass(frozen=True, slots=True)
class Shard:
    """Some rows of the input, for a worker to run.

    Attributes:
        number: from 1, in the order of the input.
        journal: its journal, which exists.
        rows: the file with its rows: see `batchrun.scale.shards`.
        count: the number of its rows.
    """

    number: int
    journal: Path
    rows: Path
    count: int


@dataclass(frozen=True, slots=True)
class RemoteShard:
    """A shard for a worker on another machine, with the content of its files. The attributes are those of `Shard`."""

    number: int
    journal: bytes
    rows: bytes
    count: int


@dataclass(frozen=True, slots=True)
class CopyTaken:
    """The leader has taken a copy of a shard's journal: see `batchrun.scale.journal_copies`.

    Attributes:
        number: of the copy.
    """

    shard: int
    number: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Admit no more rows; those in flight have some seconds to end."""

    stop: Stop
    grace_s: float


@dataclass(frozen=True, slots=True)
class Finish:
    """There are no more shards: end when those that you have are done."""


# -- from a worker --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taken:
    """The worker has begun with a shard and has room for another.

    Attributes:
        journal: where its journal is, on another machine than the leader's; None on the leader's.
    """

    number: int
    journal: Path | None


@dataclass(frozen=True, slots=True)
class LeftCopy:
    """The answer to `LeftJournal`.

    Attributes:
        content: the whole journal, compressed; None if it cannot be had.
        reason: why not, for a person.
        is_missing: there is no such file, or no such folder.
    """

    content: bytes | None
    reason: str = ""
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line for the log of the batch."""

    logger: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How far a worker is; sent about twice a second.

    Attributes:
        now_s: loop time of the worker.
        at: the same moment on the clock that its journals have.
        shards: number of each shard in work → its statistics, of this worker's work on it.
        limits: of the whole worker.
        stop: why the worker wants the batch to stop; None if it does not.
        notices: kind → lines about the service.
        asks: what it asks of the governor, whose answer is the next message of this kind to it.
    """

    now_s: float
    at: datetime
    shards: Mapping[int, EngineStatistics]
    limits: LimitsStatistics
    stop: Stop | None
    notices: Mapping[str, list[str]]
    log: tuple[LogLine, ...]
    asks: Asks


@dataclass(frozen=True, slots=True)
class ShardEnded:
    """All rows of a shard have ended, or the worker was asked to stop; its journal is closed.

    Attributes:
        statistics: of this worker's work on it.
        unknown_usd: US dollars of `DollarReport.unknown_usd` that were counted for it.
    """

    number: int
    statistics: EngineStatistics
    unknown_usd: float


@dataclass(frozen=True, slots=True)
class Broken:
    """The worker cannot continue, such as with a journal that cannot be written.

    Attributes:
        message: one line for a person.
        exit_code: exit code of the error.
    """

    message: str
    exit_code: int
