"""The files that a batch has uploaded, by their content: none is uploaded twice, also after a resume."""

from __future__ import annotations

from batchrun.journal.part import JournalPart

__all__ = ["UploadedFiles"]


class UploadedFiles(JournalPart):
    """The table `uploads`."""

    def find(self, place: str, purpose: str, sha256: str) -> str | None:
        """The id that a content has at a service; the service may have lost it meanwhile."""
        rows = self._read(
            "SELECT file_id FROM uploads WHERE place = ? AND purpose = ? AND sha256 = ?", (place, purpose, sha256)
        )
        return str(rows[0][0]) if rows else None

    def keep(self, place: str, purpose: str, sha256: str, file_id: str) -> None:
        """A content was uploaded; takes the place of an earlier id."""
        self._write("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", (place, purpose, sha256, file_id))
