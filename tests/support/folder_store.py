"""A folder of this machine in the place of a store of objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyarrow import fs

from batchrun.scale.stored_journal import StoredJournal

__all__ = ["Folder", "store_in"]


class Folder(fs.LocalFileSystem):  # type: ignore[misc]  # Arrow has no types
    """A folder of this machine as a store, in which a name needs no folder that is there before."""

    def open_output_stream(self, path: str) -> Any:
        self.create_dir(path.rpartition("/")[0])
        return super().open_output_stream(path)


def store_in(folder: Path) -> StoredJournal:
    """Return a store that is a folder of this machine."""
    return StoredJournal(Folder(), str(folder), "s3://bucket/answers.csv.journal")
