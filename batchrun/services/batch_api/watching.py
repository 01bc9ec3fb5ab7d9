"""When a service batch is polled, and what its object says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from batchrun.journal.service_batches import ServiceBatch
from batchrun.records import JsonObject
from batchrun.services.redaction import scrubbed
from batchrun.services.refusals import QUOTA_CODES
from batchrun.services.reply_fields import count, mapping, name, objects

__all__ = [
    "ENDED",
    "NO_REASON",
    "BatchNews",
    "NewsKind",
    "Pace",
    "PollSchedule",
    "Problem",
    "facts_of",
    "problems_of",
    "status_of",
]

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""The statuses of a batch that has ended. Every other word, known or not, means that it has not."""
_SPELLINGS = {"canceled": "cancelled"}
NO_REASON = "the service gives no reason"
MAX_RETRY_AFTER_S = 3_600.0
"""The longest wait between two polls that a service can ask for."""

_EVERY_BATCH = QUOTA_CODES | {"model_not_found"}
"""Codes of a failed batch after which every other one would fail too."""
_TOKEN_LIMIT = re.compile(r"enqueued token limit|token_limit_exceeded", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pace:
    """The waits of the Batch API, in seconds.

    Attributes:
        first_s: before the second poll, and before a request is repeated; doubled after each.
        max_poll_s: maximum between two polls (--batch-poll).
        max_wait_s: maximum before a request is repeated.
        look_again_s: between the two looks at a list, for something whose creation was not confirmed.
        settle_s: for files and file ids that a service may show late.
        unknown_s: after its creation, in which a service may not know a batch yet.
    """

    first_s: float = 1.0
    max_poll_s: float = 300.0
    max_wait_s: float = 60.0
    look_again_s: float = 5.0
    settle_s: float = 60.0
    unknown_s: float = 600.0

    def wait_s(self, failures: int) -> float:
        """Return the wait before a request is repeated that has failed so often (from 1)."""
        return min(self.max_wait_s, self.first_s * 2.0 ** min(failures - 1, 60))


class PollSchedule:
    """The polls of one service batch: after 1, 2, 4, … s up to the maximum, from 1 s again when its status changes.

    Mutable state: `next_s`, the time of the next poll (loop time), and the wait after that.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._wait_s = pace.first_s
        self.next_s = float("-inf")

    def polled(self, now_s: float, *, changed: bool = False, retry_after_s: float | None = None) -> None:
        """Record a poll.

        Args:
            changed: the status is another one than before.
            retry_after_s: the wait that the service asks for, None if it asks for none.
        """
        if changed:
            self._wait_s = self._pace.first_s
        asked_s = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
        self.next_s = now_s + max(min(self._wait_s, self._pace.max_poll_s), asked_s)
        self._wait_s = min(self._pace.max_poll_s, self._wait_s * 2.0)


NewsKind: TypeAlias = Literal["submitted", "status", "trouble", "held", "collected", "dropped"]
"""`trouble`: a request failed and is repeated; `held`: the service takes no more lines of this model now; `dropped`:
the service batch did nothing."""


@dataclass(frozen=True, slots=True)
class BatchNews:
    """Something that has happened to a service batch.

    Attributes:
        text: one line for a person, "" if the batch itself says all.
        again: requests that were not run and go into another batch.
    """

    kind: NewsKind
    batch: ServiceBatch
    text: str = ""
    again: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """An error of a failed batch.

    Attributes:
        line: number of the line in the file, from 1; None if it is about no single line.
    """

    code: str | None
    message: str
    param: str | None
    line: int | None

    @property
    def concerns_every_batch(self) -> bool:
        """Whether every other batch would fail too."""
        return self.code in _EVERY_BATCH

    @property
    def is_token_limit(self) -> bool:
        """Whether the service has too many tokens waiting for the model, in all batches together."""
        return _TOKEN_LIMIT.search(f"{self.code} {self.message}") is not None


def status_of(batch: JsonObject) -> str | None:
    """Return the status of a batch object, None if it has none."""
    status = name(batch.get("status"))
    if status is None:
        return None
    known = _SPELLINGS.get(status.lower(), status.lower())  # some services write them in capitals
    return known if known in ENDED or known == "cancelling" else status


def problems_of(batch: JsonObject, secrets: tuple[str, ...] = ()) -> list[Problem]:
    """Return the errors of a failed batch, without the secrets."""
    errors = batch.get("errors")
    found = objects(mapping(errors).get("data")) or objects(errors)
    return [
        Problem(
            code=name(each.get("code")),
            message=" ".join(
                scrubbed(name(each.get("message")) or name(each.get("code")) or NO_REASON, secrets).split()
            ),
            param=name(each.get("param")),
            line=count(each.get("line")),
        )
        for each in found
    ]


def facts_of(batch: JsonObject) -> Mapping[str, str | int | None]:
    """Return what a batch object says, under the names of `ServiceBatch`. Missing file ids are null or empty text."""
    counts = mapping(batch.get("request_counts"))
    return {
        "total": count(counts.get("total")),
        "completed": count(counts.get("completed")),
        "failed": count(counts.get("failed")),
        "output_file_id": name(batch.get("output_file_id")),
        "error_file_id": name(batch.get("error_file_id")),
    }
