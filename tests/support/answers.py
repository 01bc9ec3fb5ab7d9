"""Small tables of answers with expected answers."""

from __future__ import annotations

import csv
from pathlib import Path

__all__ = ["SCORE", "numbered", "write"]

SCORE = ("--target", "truth", "--scorer", "numeric", "--key", "id")
"""Options that score these tables."""


def write(folder: Path, name: str, rows: list[tuple[str, str, str, str]]) -> None:
    """Write a table with the columns id, topic, truth, response and status."""
    with open(folder / name, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "topic", "truth", "response", "status"])
        writer.writerows([*row, "completed" if row[3] else "failed"] for row in rows)


def numbered(right: int, wrong: int, failed: int = 0) -> list[tuple[str, str, str, str]]:
    answers = ["1"] * right + ["0"] * wrong + [""] * failed
    return [(f"r{place:02}", "ab"[place % 2], "1", answer) for place, answer in enumerate(answers)]
