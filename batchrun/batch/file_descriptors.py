"""File descriptors: as many as this process may have, so many connections as that leaves, and what is opened early.

Every connection takes a descriptor, and so does every file: whoever has none left can neither write the journal nor
import a module. macOS starts programs with 256.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from batchrun.services.client import MAX_CONNECTIONS

__all__ = ["Room", "import_early", "raise_limit", "room"]

RESERVE = 24
"""Kept for the output, temporary files, the log, name resolution, downloads, and the user's own functions."""
_HIGHEST = 1 << 20
"""As much as is asked for where the hard limit is infinite; macOS takes no infinite one."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the limit leaves.

    Attributes:
        limit: descriptors that this process may have.
        connections: to the service, at the same time.
    """

    limit: int
    connections: int

    def notice(self, wanted: int) -> str | None:
        """A line for people, where fewer rows are possible than wanted."""
        if self.connections >= wanted:
            return None
        if self.connections == MAX_CONNECTIONS:
            return f"at most {MAX_CONNECTIONS:,} rows at once: batchrun opens at most {MAX_CONNECTIONS:,} connections"
        rows = "row" if self.connections == 1 else "rows"
        return (
            f"at most {self.connections:,} {rows} at once: this process may open {self.limit:,} files "
            f"(ulimit -n {self.limit})"
        )


def raise_limit() -> None:
    """Raise the soft limit to the hard one, where the system has limits and allows it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = _HIGHEST if hard == resource.RLIM_INFINITY else hard
    for highest in (wanted, min(wanted, 10_240)):  # macOS refuses more than OPEN_MAX, whatever the hard limit says
        if highest > soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
            except (OSError, ValueError):
                continue
            return


def room(*, embedded: bool) -> Room | None:
    """What is left for connections now; None where the system has no such limit.

    Args:
        embedded: the server is in this process, and takes one more descriptor for every connection.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    left = max(0, limit - _in_use() - RESERVE) // (2 if embedded else 1)
    return Room(limit, min(MAX_CONNECTIONS, max(1, left)))


def _in_use() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return sum(1 for _ in Path(folder).iterdir())
        except OSError:
            continue
    return 32


def import_early(*, parquet: bool) -> None:
    """Import what would be imported in the middle of a batch; not together with batchrun, since it takes seconds.

    Args:
        parquet: the output is written by pyarrow.
    """
    names = ["email.utils", "encodings.idna", "traceback"]
    if parquet:
        names += ["batchrun.tables.arrow", "pyarrow.parquet"]
    for name in names:
        importlib.import_module(name)
    if parquet:
        import pyarrow as pa

        pa.array([{}])  # looks for pandas
