"""The files that a batch has uploaded, by their content, so that none is uploaded twice, even after a resume."""

from __future__ import annotations

from batchrun.journal.part import JournalPart

__all__ = ["UploadedFiles"]


class UploadedFiles(JournalPart):
    """The table `uploads`."""

    def find(self, place: str, purpose: str, sha256: str) -> str | None:
        """Return the file id of a content at a service, None if unknown. The service may have deleted it meanwhile."""
        rows = self._read(
            "SELECT file_id FROM uploads WHERE place = ? AND purpose = ? AND sha256 = ?", (place, purpose, sha256)
        )
        return str(rows[0][0]) if rows else None

    def keep(self, place: str, purpose: str, sha256: str, file_id: str) -> None:
        """Record the file id of an uploaded content; replaces an earlier id."""
        self._write("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", (place, purpose, sha256, file_id))
