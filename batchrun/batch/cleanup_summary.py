"""How a cleanup ended, or how far it is: facts for machines and lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from batchrun.batch.run_summary import kinds_text
from batchrun.engine import Stop
from batchrun.shell_hint import command

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
        at_service: batches at the service's Batch API whose results are still to come: their files are kept.
        output: the output whose batches these are.
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
    at_service: int = 0
    output: Path | None = None
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
    at_service: int
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
        _at_service_text(summary),
        f"stopped: {summary.stop.reason}" if summary.stop is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def _at_service_text(summary: CleanupSummary) -> str:
    """Return that files are kept for batches at the Batch API, and what to do."""
    if not summary.at_service:
        return ""
    batches = "1 batch is" if summary.at_service == 1 else f"{summary.at_service:,} batches are"
    them = "its" if summary.at_service == 1 else "their"
    cancel = command("cancel", *([summary.output] if summary.output is not None else []))
    return (
        f"{batches} open at the service's Batch API: {them} files are kept; run the batch again to collect the "
        f"answers, or cancel with {cancel}, and then clean up again"
    )


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
        "at_service": summary.at_service,
        "elapsed_s": round(summary.elapsed_s, 3),
        "stop": summary.stop.reason if summary.stop else None,
        "exit_code": summary.exit_code,
    }
