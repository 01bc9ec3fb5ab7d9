"""The table of batches that `list` prints: fitted to a terminal, or complete for a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from batchrun.batch.listing import ListedBatch, UnreadableJournal
from batchrun.shell_hint import command
from batchrun.wording import cost_cell, shown_output, shown_path, visible_line

__all__ = ["listing_lines"]

_HEADINGS = ("OUTPUT", "STATE", "ROWS", "FAILED", "TOKENS", "COST", "LAST RUN", "MODEL")
_RIGHT = frozenset({"ROWS", "FAILED", "TOKENS", "COST"})
_SHORTENED = {"OUTPUT": 16, "MODEL": 10}
"""Columns that are cut if the table is wider than the terminal, to this number of cells at least."""
_GAP = "  "


def listing_lines(
    batches: Sequence[ListedBatch], unreadable: Sequence[UnreadableJournal], *, now: datetime, width: int | None = None
) -> list[str]:
    """Return the batches as a table, followed by lines about missing outputs and unreadable journals.

    Args:
        now: the time in the zone in which times are shown.
        width: cells of the terminal; None if there is none: then nothing is cut, and times have a date.
    """
    lines = []
    if batches:
        table = [_cells(batch, now, is_terminal=width is not None) for batch in batches]
        headings = [name for name in _HEADINGS if name != "FAILED" or any(batch["failed"] for batch in batches)]
        lines = _fitted(headings, table, width)
    missing = [batch["output"] for batch in batches if not batch["output_exists"] and not batch["running"]]
    if missing:
        others = f", and {len(missing) - 1:,} others" if len(missing) > 1 else ""
        export = command("export", Path(shown_path(Path(missing[0]))))
        lines.append(f"without an output file: {shown_path(Path(missing[0]))}{others}; write it with {export}")
    return [*lines, *(each.problem for each in unreadable)]


def _cells(batch: ListedBatch, now: datetime, *, is_terminal: bool) -> dict[str, str]:
    ended = batch["completed"] + batch["incomplete"] + batch["failed"]
    rows, tokens = batch["rows"], batch["prompt_tokens"] + batch["completion_tokens"]
    if batch["running"]:
        state = "running"
    elif batch["service_batches"]:
        state = "submitted"
    else:
        state = "finished" if ended >= rows else "stopped"
    return {
        "OUTPUT": visible_line(shown_output(Path(batch["output"]))),
        "STATE": f"{state} {ended / rows:.0%}" if state != "finished" and rows else state,
        "ROWS": f"{rows:,}" if state == "finished" else f"{ended:,}/{rows:,}",
        "FAILED": f"{batch['failed']:,}" if batch["failed"] else "",
        "TOKENS": _short_count(tokens) if is_terminal else f"{tokens:,}",
        "COST": cost_cell(batch["cost_usd"], unpriced=batch["unpriced"], embedded=batch["embedded"]),
        "LAST RUN": _time_text(batch["last_at"], now, is_terminal=is_terminal),
        "MODEL": visible_line(batch["model"] or "an assistant's"),
    }


def _short_count(number: int) -> str:
    """Return a count such as `950`, `12k` or `3.4M`."""
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            share = number / size
            return f"{share:.1f}{unit}" if share < 10 else f"{share:,.0f}{unit}"
    return str(number)


def _time_text(stamp: str, now: datetime, *, is_terminal: bool) -> str:
    """Return a time in the zone of `now`: short on a terminal, with its date elsewhere."""
    time = datetime.fromisoformat(stamp).astimezone(now.tzinfo)
    if not is_terminal:
        return time.strftime("%Y-%m-%d %H:%M")
    if time.date() == now.date():
        return time.strftime("%H:%M")
    return time.strftime("%b %d") if time.year == now.year else time.strftime("%Y-%m")


def _fitted(headings: list[str], table: Sequence[dict[str, str]], width: int | None) -> list[str]:
    """Return the lines of the table, at most `width` cells wide if its shortened columns allow that."""
    from rich.cells import cell_len

    widths = {name: max(map(cell_len, (name, *(cells[name] for cells in table)))) for name in headings}
    if width is not None:
        if _total(widths) > width:
            del widths["TOKENS"]
        for name, least in _SHORTENED.items():
            widths[name] -= max(0, min(_total(widths) - width, widths[name] - max(least, len(name))))
    rows = [dict(zip(_HEADINGS, _HEADINGS, strict=True)), *table]
    return [_GAP.join(_cell(row[name], name, size) for name, size in widths.items()).rstrip() for row in rows]


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _cell(text: str, name: str, width: int) -> str:
    """Return the text in exactly `width` cells. The end of a path and the beginning of a model's name are kept."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        blanks = " " * (width - cell_len(text))
        return f"{blanks}{text}" if name in _RIGHT else f"{text}{blanks}"
    if name != "OUTPUT":
        return f"{set_cell_size(text, width - 1)}…"
    while cell_len(text) >= width:
        text = text[1:]
    return _cell(f"…{text}", name, width)
