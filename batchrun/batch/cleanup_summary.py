"""How a cleanup ended, or how far it is: facts for machines and lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from batchrun.batch.run_summary import kinds_text
from batchrun.engine import Stop

__all__ = ["CleanupFacts", "CleanupSummary", "cleanup_facts", "cleanup_line", "cleanup_progress"]


@dataclass(slots=True)
class CleanupSummary:
    """How far a cleanup is, or how it ended.

    Mutable state: `deleted`, `gone`, `failures`, `elapsed_s` and `stop` while the cleanup runs.

    Attributes:
        place: base URL of the service, or "embedded".
        to_delete: objects to delete at the start.
        deleted: kind → objects deleted by this run.
        gone: objects that the service did not know, or no longer knew.
        failures: error_type → objects that could not be deleted.
        kept: objects of rows in flight, which the next run of the batch needs.
        elsewhere: place → objects that the batch left at another service before it was moved to this one.
        elapsed_s: duration in seconds.
        stop: why the cleanup ended early, None if it did not.
    """

    place: str
    to_delete: int = 0
    deleted: Counter[str] = field(default_factory=Counter)
    gone: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    elapsed_s: float = 0.0
    stop: Stop | None = None

    @property
    def done(self) -> int:
        """Objects that no longer exist."""
        return self.deleted.total() + self.gone

    @property
    def exit_code(self) -> int:
        """0 if everything was deleted; that of the stop, if there was one; else 3."""
        if self.stop is not None:
            return self.stop.exit_code
        return 3 if self.failures else 0


class CleanupFacts(TypedDict):
    """The summary, as `cleanup --json` prints it."""

    place: str
    to_delete: int
    deleted: dict[str, int]
    gone: int
    failures: dict[str, int]
    kept: int
    elsewhere: dict[str, int]
    elapsed_s: float
    stop: str | None
    exit_code: int


def cleanup_progress(summary: CleanupSummary) -> str:
    """Return how far a running cleanup is."""
    failed = f" · {summary.failures.total():,} failed" if summary.failures else ""
    return f"{summary.done:,}/{summary.to_delete:,} deleted{failed}"


def cleanup_line(summary: CleanupSummary, *, dry_run: bool = False) -> str:
    """Return the summary as a single line."""
    kinds = ", ".join(
        f"{number:,} {kind.replace('_', ' ')}{'s' if number != 1 else ''}" for kind, number in summary.deleted.items()
    )
    left = summary.to_delete - summary.done
    failures = kinds_text(summary.failures)
    parts = [
        f"{summary.to_delete:,} would be deleted" if dry_run else f"{summary.deleted.total():,} deleted",
        kinds,
        f"{summary.gone:,} already gone" if summary.gone else "",
        f"{left:,} left ({failures or 'not reached'}); run the same command again" if left and not dry_run else "",
        f"{summary.kept:,} kept for rows in flight (--in-flight deletes them too)" if summary.kept else "",
        *(f"{number:,} from before the batch was moved are at {place}" for place, number in summary.elsewhere.items()),
        f"stopped: {summary.stop.reason}" if summary.stop is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def cleanup_facts(summary: CleanupSummary) -> CleanupFacts:
    """Return the summary for machines."""
    return {
        "place": summary.place,
        "to_delete": summary.to_delete,
        "deleted": dict(summary.deleted),
        "gone": summary.gone,
        "failures": dict(summary.failures.most_common()),
        "kept": summary.kept,
        "elsewhere": dict(summary.elsewhere),
        "elapsed_s": round(summary.elapsed_s, 3),
        "stop": summary.stop.reason if summary.stop else None,
        "exit_code": summary.exit_code,
    }
