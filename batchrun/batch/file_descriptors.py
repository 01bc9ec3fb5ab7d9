"""File descriptors: raises their limit, and counts the connections that it leaves.

Each connection takes a descriptor, and so does each file: a process without a free descriptor can neither write the
journal nor import a module. macOS starts programs with a limit of 256.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from batchrun.services.client import MAX_CONNECTIONS
from batchrun.tables.table_options import Format

__all__ = ["ConnectionLimit", "connection_limit", "import_early", "raise_limit"]

RESERVE = 24
"""Descriptors kept for the output, temporary files, the log, name resolution, downloads and the user's functions."""
_HIGHEST = 1 << 20
"""Requested if the hard limit is infinite: macOS refuses an infinite soft limit."""


@dataclass(frozen=True, slots=True)
class ConnectionLimit:
    """The connections that the descriptor limit allows.

    Attributes:
        limit: descriptors that this process may open.
        connections: simultaneous connections to the service.
    """

    limit: int
    connections: int

    def notice(self, wanted: int) -> str | None:
        """Return a line for people if fewer rows than `wanted` can be in flight."""
        if self.connections >= wanted:
            return None
        if self.connections == MAX_CONNECTIONS:
            return f"at most {MAX_CONNECTIONS:,} rows in flight: batchrun opens at most {MAX_CONNECTIONS:,} connections"
        rows = "row" if self.connections == 1 else "rows"
        return (
            f"at most {self.connections:,} {rows} in flight: this process may open only {self.limit:,} files "
            f"(ulimit -n {self.limit})"
        )


def raise_limit() -> None:
    """Raise the soft limit to the hard one if the system has limits and allows it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = _HIGHEST if hard == resource.RLIM_INFINITY else hard
    for highest in (wanted, min(wanted, 10_240)):  # macOS refuses more than OPEN_MAX, whatever the hard limit is
        if highest > soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
            except (OSError, ValueError):
                continue
            return


def connection_limit(*, embedded: bool) -> ConnectionLimit | None:
    """Return the connections that can be opened now; None if the system has no limit.

    Args:
        embedded: the server runs in this process and takes a second descriptor for each connection.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    left = max(0, limit - _in_use() - RESERVE) // (2 if embedded else 1)
    return ConnectionLimit(limit, min(MAX_CONNECTIONS, max(1, left)))


def _in_use() -> int:
    """Return the open descriptors of this process; a generous guess if the system does not list them."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return sum(1 for _ in Path(folder).iterdir())
        except OSError:
            continue
    return 32


def import_early(form: Format | None, *, structured: bool) -> None:
    """Import modules that would otherwise be imported in the middle of a batch, possibly without a free descriptor.

    They are not imported with batchrun itself, since that takes seconds.

    Args:
        form: the format of the output that is written in the end, None for none.
        structured: the answers are compared with a schema, which may have patterns.
    """
    names = ["email.utils", "encodings.idna", "traceback"]
    arrow = form is not None and (form.kind in ("parquet", "feather") or form.compression == "zstd")
    if arrow:
        names += ["batchrun.tables.arrow", "pyarrow.parquet"]
    if form is not None and form.kind == "xlsx":
        names += ["batchrun.tables.excel_sink", "openpyxl", "openpyxl.cell"]
    if structured:
        names.append("regex")
    for name in names:
        importlib.import_module(name)
    if arrow:
        import pyarrow as pa

        pa.array([{}])  # makes pyarrow look for pandas
