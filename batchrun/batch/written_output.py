"""The output as the journal recorded it: a finished batch that runs again does not write the same file twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from batchrun.batch.totals import Totals
from batchrun.job.fingerprint import digest
from batchrun.journal import Journal
from batchrun.records import Manifest
from batchrun.version import __version__

__all__ = ["WrittenOutput"]

_ENTRY: Final = "written"
_SHAPES: Final = (
    *("batch_id", "input", "input_fingerprint", "key", "rendering", "rows", "columns", "settings", "write_options"),
    *("selection", "keep", "carried", "cache"),
)
"""Entries of the manifest that decide, with the outcomes, what is in the output."""


@dataclass(frozen=True, slots=True)
class WrittenOutput:
    """The output that an earlier run wrote, and the state of the journal before this run asked anything.

    Attributes:
        record: what the earlier run recorded; None if it recorded nothing.
        changes: `Journal.rows_written` at that moment.
    """

    record: Mapping[str, Any] | None
    changes: int

    @classmethod
    def taken(cls, journal: Journal) -> WrittenOutput:
        """Take the record out of the journal, so that a run that does not reach its end leaves none."""
        record = journal.read_manifest().get(_ENTRY)
        if record is not None:
            journal.write_manifest({_ENTRY: None})
        return cls(record, journal.rows_written)

    def touched(self, output: Path, journal: Journal) -> Totals | None:
        """Set the time of an output that is still the one to write to now, and return the counts over its rows.

        A monitor may watch the age of the file. None if the output has to be written: this run has changed the journal,
        other options shape the output, or the file is missing, changed or replaced.
        """
        record = self.record
        if record is None or journal.rows_written != self.changes:
            return None
        if record["shape"] != _shape(journal.read_manifest(), output) or record["last"] != journal.last_outcome():
            return None
        try:
            if record["file"] is None or record["file"] != _file(output):
                return None
            stamped = _stamped(output)
        except OSError:
            return None  # writing it says what is wrong
        journal.write_manifest({_ENTRY: {**record, "file": stamped}})
        return _totals(record["totals"])

    @staticmethod
    def keep(output: Path, journal: Journal, totals: Totals) -> None:
        """Record an output that has just been written."""
        if None in totals.failures:
            return  # not a name in JSON
        journal.write_manifest(
            {
                _ENTRY: {
                    "shape": _shape(journal.read_manifest(), output),
                    "last": journal.last_outcome(),
                    "file": _stamped(output),
                    "totals": {each.name: getattr(totals, each.name) for each in fields(totals)},
                }
            }
        )


def _shape(manifest: Manifest, output: Path) -> str:
    return digest(__version__, output.name, {name: manifest.get(name) for name in _SHAPES})


def _stamped(output: Path) -> list[int] | None:
    """Set the time of the output to now, and return what changes if the file does.

    File systems stamp a write with the time of their last clock tick, milliseconds ago, so that two writes may get the
    same time. This time has an odd number of microseconds, which an edit does not get. None if the file system keeps
    none: then nothing would show an edit of the same size.
    """
    os.utime(output)
    stamp_ns = (output.stat().st_mtime_ns // 1_000 | 1) * 1_000
    os.utime(output, ns=(stamp_ns, stamp_ns))
    found = _file(output)
    return found if found[-1] == stamp_ns else None


def _file(output: Path) -> list[int]:
    """Return what changes if the file does, except for its content."""
    if output.is_dir():
        parts = [path.stat() for path in sorted(output.iterdir())]
        return [*(number for part in parts for number in (part.st_size, part.st_mtime_ns)), *_own(output)]
    return _own(output)


def _own(output: Path) -> list[int]:
    found = output.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def _totals(facts: Mapping[str, Any]) -> Totals:
    """Return the counts as they were recorded."""
    named: dict[str, Any] = {name: Counter(value) if name in _COUNTERS else value for name, value in facts.items()}
    return Totals(**named)


_COUNTERS: Final = ("by_status", "failures", "incompletes")
