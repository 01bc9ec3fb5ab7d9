"""Combinations of settings in one batch, from its matrix and its epochs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchrun.job.fingerprint import digest
from batchrun.records import Cells, JsonDict, Settings
from batchrun.wording import rows_text

__all__ = [
    "AXIS_PREFIX",
    "EPOCH",
    "Combination",
    "axis_name",
    "combinations_notice",
    "combinations_of",
    "rows_times_text",
]

AXIS_PREFIX = "axis_"
"""Prefix of columns with the options of a combination; `model` itself is the model that the service reported."""

EPOCH = "epoch"
"""Name of the column with the number of the repetition, counted from 1."""

_AXES = ("matrix", "epochs")
_PLURALS = {"model": "models", "prompt": "prompts", "instructions": "instructions", "assistant": "assistants"}
_MAX_SUFFIX_CHARS = 40
"""Values longer than this appear in row keys as a hash."""


@dataclass(frozen=True, slots=True)
class Combination:
    """The settings with which every row is run once.

    Attributes:
        variant: number of the combination of settings, counted from 0; its epochs share it.
        settings: the options that decide answers, with the values of this combination.
        cells: cells of the added columns by name, which identify the combination.
        suffix: text after the row's key in this combination; empty if there is only one.
        epoch: number of the repetition, counted from 1.
    """

    variant: int
    settings: Settings
    cells: Cells = field(default_factory=dict)
    suffix: str = ""
    epoch: int = 1


def combinations_of(settings: Settings) -> tuple[Combination, ...]:
    """Return all combinations in the order of the matrix. The last axis varies faster than the others, epochs fastest.

    Args:
        settings: settings of the batch (`batchrun.job.fingerprint.settings_of`).
    """
    matrix: Mapping[str, Sequence[Any]] = settings.get("matrix") or {}
    epochs = settings.get("epochs") or 1
    fixed = {name: value for name, value in settings.items() if name not in _AXES}
    combinations = []
    for variant, values in enumerate(itertools.product(*matrix.values())):
        chosen = dict(zip(matrix, values, strict=True))
        merged = {**fixed, **_merged(fixed, chosen)}
        for epoch in range(1, epochs + 1):
            cells = {AXIS_PREFIX + name: _cell(value) for name, value in chosen.items()}
            # Sorted, so that another order of the axes does not change the keys, which would run all rows again.
            parts = [f"{name}={_short(chosen[name])}" for name in sorted(chosen)]
            if epochs > 1:
                cells[EPOCH] = epoch
            if epoch > 1:
                # Not for the first epoch, so that rows keep their keys when epochs are added later.
                parts.append(f"{EPOCH}={epoch}")
            suffix = "".join(f"|{part}" for part in parts)
            combinations.append(Combination(variant, merged, cells, suffix, epoch))
    return tuple(combinations)


def rows_times_text(rows: int, settings: Settings) -> str:
    """Return the rows of the input with their repetitions, such as `60 rows × 2 models × 3 epochs`; else `60 rows`."""
    matrix, epochs = settings.get("matrix") or {}, settings.get("epochs") or 1
    parts = [rows_text(rows)]
    parts += [f"{len(values):,} {_PLURALS.get(name, f'values of {name}')}" for name, values in matrix.items()]
    parts += [f"{epochs:,} epochs"] if epochs > 1 else []
    return " × ".join(parts)


def combinations_notice(rows: int, settings: Settings) -> str:
    """Return a line about the rows and columns of a batch of several combinations; empty text for other batches.

    Args:
        rows: rows of the input.
    """
    combinations = combinations_of(settings)
    columns = list(combinations[0].cells)
    if not columns:
        return ""
    names = f"columns {', '.join(columns[:-1])} and {columns[-1]}" if len(columns) > 1 else f"column {columns[0]}"
    verb = "identify" if len(columns) > 1 else "identifies"
    return (
        f"{rows_times_text(rows, settings)} = {rows_text(rows * len(combinations))} in the output; there the {names} "
        f"{verb} the combination of each row"
    )


def axis_name(column: str) -> str:
    """Return the name of a column for people.

    >>> axis_name("axis_model"), axis_name("topic")
    ('model (axis_model)', 'topic')
    """
    return f"{column.removeprefix(AXIS_PREFIX)} ({column})" if column.startswith(AXIS_PREFIX) else column


def _merged(fixed: Settings, chosen: Settings) -> JsonDict:
    """Return the settings of a combination; tables such as `param` are merged key by key."""
    return {
        name: {**fixed[name], **value} if isinstance(value, dict) and isinstance(fixed.get(name), dict) else value
        for name, value in chosen.items()
    }


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = str(_cell(value))
    return text if len(text) <= _MAX_SUFFIX_CHARS else digest(text)[:12]
