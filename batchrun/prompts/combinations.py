"""Several settings in one batch: the combinations of a matrix, and repetitions (epochs)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchrun.job.fingerprint import digest

__all__ = ["AXIS_PREFIX", "EPOCH", "Combination", "combinations_of"]

AXIS_PREFIX = "axis_"
"""Before the name of an option in the column that tells its value: `model` alone is what the service answered with."""

EPOCH = "epoch"
"""The column that counts the repetitions of a row, from 1."""

_AXES = ("matrix", "epochs")
_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Combination:
    """How a row is asked once.

    Attributes:
        variant: counts the combinations of settings, from 0; epochs of one share it.
        settings: what decides answers, without the axes.
        cells: the columns that tell it from the others.
        suffix: behind the row's key, "" where there is one combination.
        epoch: from 1.
    """

    variant: int
    settings: Mapping[str, Any]
    cells: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ""
    epoch: int = 1


def combinations_of(settings: Mapping[str, Any]) -> tuple[Combination, ...]:
    """All combinations, in the order in which the matrix names them, the last axis fastest, epochs fastest of all.

    Args:
        settings: of the batch (`batchrun.job.options.settings_of`).
    """
    matrix: Mapping[str, Sequence[Any]] = settings.get("matrix") or {}
    epochs = settings.get("epochs") or 1
    fixed = {name: value for name, value in settings.items() if name not in _AXES}
    found = []
    for variant, values in enumerate(itertools.product(*matrix.values())):
        chosen = dict(zip(matrix, values, strict=True))
        own = {**fixed, **_merged(fixed, chosen)}
        for epoch in range(1, epochs + 1):
            cells = {AXIS_PREFIX + name: _cell(value) for name, value in chosen.items()}
            # By name: the order of the axes is that of the output, and nothing to ask anything again for.
            parts = [f"{name}={_short(chosen[name])}" for name in sorted(chosen)]
            if epochs > 1:
                cells[EPOCH] = epoch
            if epoch > 1:
                parts.append(f"{EPOCH}={epoch}")  # the first keeps its key when epochs are added
            found.append(Combination(variant, own, cells, "".join(f"|{part}" for part in parts), epoch))
    return tuple(found)


def _merged(fixed: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What a combination sets; tables such as `param` key by key."""
    return {
        name: {**fixed[name], **value} if isinstance(value, dict) and isinstance(fixed.get(name), dict) else value
        for name, value in chosen.items()
    }


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = str(_cell(value))
    return text if len(text) <= _SHOWN_CHARS else digest(text)[:12]
