"""The index of pandas frames as the names of their rows in a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from batchrun.api.data import is_frame
from batchrun.scoring.comparison import Comparison
from batchrun.scoring.pairing import Pairing
from batchrun.scoring.pairwise.judge import Judged
from batchrun.scoring.pairwise.preferences import Preferences

__all__ = ["INDEX_COLUMN", "judged_by_index", "named_by_index", "with_index_column"]

INDEX_COLUMN = "index of the frame"
"""Column that a comparison gets for its index, and that the caller does not see."""


def with_index_column(tables: Sequence[Any]) -> list[Any] | None:
    """Return frames with their index as the column `INDEX_COLUMN`; None if it does not say which rows belong together.

    It does if all have the same index, without repetition. The default index only counts rows, so with it one column,
    such as the prompt, must also tell all rows apart and be the same in all frames.
    """
    import pandas as pd

    if len(tables) < 2 or not all(is_frame(table) and INDEX_COLUMN not in table.columns for table in tables):
        return None
    index = tables[0].index
    labels = _labels(index)
    if len(set(labels)) < len(labels) or not all(index.equals(table.index) for table in tables[1:]):
        return None
    if isinstance(index, pd.RangeIndex) and not any(_tells_rows_apart(column, tables) for column in tables[0].columns):
        return None
    return [table.assign(**{INDEX_COLUMN: labels}) for table in tables]


def _tells_rows_apart(column: str, tables: Sequence[Any]) -> bool:
    cells = tables[0][column].astype(str)
    return bool(
        cells.is_unique
        and cells.str.len().gt(0).all()
        and all(column in table.columns and cells.equals(table[column].astype(str)) for table in tables[1:])
    )


def named_by_index(found: Comparison, table: Any) -> Comparison:
    """Return the comparison of the parts of a frame, with rows named by their index instead of `row N`."""
    names = _names(table)

    def named(pairing: Pairing) -> Pairing:
        return replace(
            pairing,
            better=[names.get(name, name) for name in pairing.better],
            worse=[names.get(name, name) for name in pairing.worse],
            groups={
                column: {label: named(each) for label, each in labels.items()}
                for column, labels in pairing.groups.items()
            },
        )

    return replace(found, pairings=[named(each) for each in found.pairings])


def judged_by_index(results: Sequence[Judged], table: Any) -> list[Judged]:
    """Return the same for what a judge found about the parts of a frame."""
    names = _names(table)

    def named(found: Preferences) -> Preferences:
        better, worse = ([names.get(key, key) for key in keys] for keys in (found.better, found.worse))
        return replace(found, better=better, worse=worse)

    return [replace(each, found=named(each.found)) for each in results]


def _names(table: Any) -> Mapping[str, str]:
    """Return `row N` → the label of that row; nothing if the index only counts rows."""
    import pandas as pd

    if not is_frame(table) or isinstance(table.index, pd.RangeIndex):
        return {}
    return {f"row {position}": label for position, label in enumerate(_labels(table.index))}


def _labels(index: Any) -> list[str]:
    return [", ".join(map(str, label)) if isinstance(label, tuple) else str(label) for label in index]
