"""The temporary file next to the journal, for what is uploaded and downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchrun.errors import OutputError

__all__ = ["beside", "readable_errors", "removed"]


def beside(journal_path: Path) -> Path:
    """Return the path of the temporary file of a journal."""
    return journal_path.with_name(f"{journal_path.name}-lines")


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Raise an error of the disk inside the context as one line.

    Raises:
        OutputError: the temporary file cannot be written or read.
    """
    try:
        yield
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise OutputError(
            f"{path}: the temporary file of the Batch API cannot be used ({reason}); make space or remove what is in "
            "its place, and run the same command again"
        ) from exc


def removed(path: Path) -> None:
    """Remove the temporary file, which need not exist. Raises as `readable_errors` does."""
    with readable_errors(path):
        path.unlink(missing_ok=True)
