"""Tables with answers, one row per character of a text of marks."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write"]

HEAD = "id,question,truth,response,status,cost_usd,duration_s,total_tokens\n"


def write(folder: Path, name: str, right: str, *, first: int = 0, question: str = "q") -> str:
    """Write a table with one row per character: 1 correct, 0 wrong, x failed."""
    rows = [
        f"{first + index},{question}{index},1,{'' if mark == 'x' else mark},"
        f"{'failed' if mark == 'x' else 'completed'},0.5,{index + 1},10\n"
        for index, mark in enumerate(right)
    ]
    path = folder / name
    path.write_text(HEAD + "".join(rows), encoding="utf-8")
    return str(path)
