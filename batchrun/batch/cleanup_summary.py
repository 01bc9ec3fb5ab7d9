"""How a cleanup ended, or how far it is: facts for machines and lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrun.engine import Stop

__all__ = ["CleanupSummary", "cleanup_facts", "cleanup_line", "cleanup_progress"]


@dataclass(slots=True)
class CleanupSummary:
    """How far a cleanup is, or how it ended.

    Attributes:
        to_delete: objects that were there at its start.
        deleted: kind → objects deleted by this run.
        gone: objects that the service did not know any more.
        failures: error_type → objects that could not be deleted.
        kept: objects of rows in flight, which the next run of the batch needs.
        elsewhere: place → objects that the batch left at another service before it was moved to this one.
        stop: why it ended early, None if it did not.
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
        """Objects that are not there any more."""
        return self.deleted.total() + self.gone

    @property
    def exit_code(self) -> int:
        """0 if all that was to be deleted is; what the stop says; else 3."""
        if self.stop is not None:
            return self.stop.exit_code
        return 3 if self.failures else 0


def cleanup_progress(summary: CleanupSummary) -> str:
    """How far it is."""
    failed = f" · {summary.failures.total():,} failed" if summary.failures else ""
    return f"{summary.done:,}/{summary.to_delete:,} deleted{failed}"


def cleanup_line(summary: CleanupSummary, *, dry_run: bool = False) -> str:
    """The summary in one line."""
    kinds = ", ".join(
        f"{number:,} {kind.replace('_', ' ')}{'s' if number != 1 else ''}" for kind, number in summary.deleted.items()
    )
    left = summary.to_delete - summary.done
    failures = ", ".join(f"{number:,} × {kind}" for kind, number in summary.failures.most_common())
    parts = [
        f"{summary.to_delete:,} would be deleted" if dry_run else f"{summary.deleted.total():,} deleted",
        kinds,
        f"{summary.gone:,} were gone already" if summary.gone else "",
        f"{left:,} left ({failures or 'not reached'}); the same command goes on" if left and not dry_run else "",
        f"{summary.kept:,} kept for rows in flight (--in-flight deletes them too)" if summary.kept else "",
        *(f"{number:,} from before the batch was moved are at {place}" for place, number in summary.elsewhere.items()),
        f"stopped: {summary.stop.reason}" if summary.stop is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def cleanup_facts(summary: CleanupSummary) -> dict[str, Any]:
    """The summary for machines."""
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
