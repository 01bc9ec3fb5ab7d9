"""A plan for an estimate, which needs no key and leaves no files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from batchrun.batch.paths import paths_for
from batchrun.batch.plan import Plan, make_plan
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.journal.open import check_not_lost
from batchrun.local_paths import is_url
from batchrun.tables import exists

if TYPE_CHECKING:
    import pandas
    import pyarrow

    Table: TypeAlias = str | Path | pandas.DataFrame | pyarrow.Table

__all__ = ["dry_plan"]


@contextmanager
def dry_plan(job: Job, table: Table, environment: Environment, output: Path) -> Iterator[Plan]:
    """Make a plan that needs no key, and delete at the end what planning created: the folder of the output and the
    copy of standard input or of a remote table.

    Args:
        table: a path, `-` for standard input, or a table in memory.

    Raises:
        InputError, OutputError: as for `make_plan`; also if the journal of an earlier run is lost.
    """
    journal = paths_for(output).journal
    if not job.fresh:
        check_not_lost(journal, output)
    is_copied = isinstance(table, str) and (table == "-" or is_url(table))
    if isinstance(table, str | Path) and not is_copied and journal.exists() and not exists(str(table)):
        raise InputError(f"{table}: no such file; {journal} still holds the answers of an earlier run over it")
    folders = [folder for folder in output.absolute().parents if not folder.exists()]
    try:
        with tempfile.TemporaryDirectory(prefix="batchrun-") as scratch:
            yield make_plan(job, table, environment, output, will_send=False, scratch=Path(scratch))
    finally:
        for folder in folders:
            try:
                folder.rmdir()
            except OSError:
                break  # another process has created files there
