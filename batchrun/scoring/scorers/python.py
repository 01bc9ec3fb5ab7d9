"""Scorers of the user's own, and values that stand in the table already."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from batchrun.errors import InputError
from batchrun.interrupts import USERS_ERRORS, is_ctrl_c
from batchrun.scoring.scorers.base import Sample, Score, Scorer, is_missing

__all__ = ["ColumnScorer", "FunctionScorer"]

log = logging.getLogger("batchrun.scoring")


@dataclass(frozen=True, slots=True)
class FunctionScorer(Scorer):
    """What a Python function says: `function(answer, target)`, or `function(answer, target, row)`.

    It gets the answer as text, the target's cell (None if no column was named), and if it takes a third argument
    all cells of the row as a dict. It returns a bool, a number from 0 to 1, None (cannot be judged), or a `Score`.
    An exception ends the scoring with one line: a scorer with a fault is to be mended and not averaged. A function that
    ends the process (`sys.exit`) or says that it was interrupted gives its row no point, and a warning says so.

    Attributes:
        name: FILE.py:function, for messages.
        function: the function.
        takes_row: it has a third argument.
        told: what it raised to end the process, as far as a warning has said so.
    """

    needs_target: ClassVar[bool] = False
    name: str
    function: Callable[..., Any]
    takes_row: bool
    told: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, where: str) -> FunctionScorer:
        """Import `FILE.py:function`. The file is code of the user's and is run.

        Raises:
            InputError: no such file or function, an error while the file is run, or wrong arguments.
        """
        path, _, name = where.rpartition(":")
        if not path or not name:
            raise InputError(f"--scorer python:{where}: python:FILE.py:function is expected")
        if not Path(path).is_file():
            raise InputError(f"--scorer python:{where}: {path}: no such file")
        spec = importlib.util.spec_from_file_location(f"batchrun_scorer_{Path(path).stem}", path)
        if spec is None or spec.loader is None:
            raise InputError(f"--scorer python:{where}: {path} is no Python file; its name ends in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickle look a class's module up there
        try:
            spec.loader.exec_module(module)
        except USERS_ERRORS as error:
            if is_ctrl_c(error):
                raise
            raise InputError(f"{path}: cannot be imported ({type(error).__name__}: {error})") from error
        function = getattr(module, name, None)
        if not callable(function):
            raise InputError(f"{path}: has no function named {name!r}")
        return cls(where, function, _takes_row(where, function))

    def score(self, sample: Sample) -> Score:
        arguments = (sample.answer, sample.target, dict(sample.row))
        try:
            found = self.function(*arguments[: 3 if self.takes_row else 2])
        except USERS_ERRORS as error:
            if is_ctrl_c(error):
                raise
            kind = type(error).__name__
            if not isinstance(error, Exception):
                if kind not in self.told:
                    self.told.add(kind)
                    log.warning("%s: raised %s; rows for which it does so get no point", self.name, kind)
                return Score(0.0, f"the function raised {kind}")
            raise InputError(f"{self.name}: raised {kind}: {error}, for the answer {sample.answer[:80]!r}") from error
        if isinstance(found, Score):
            return Score(self._checked(found.value, sample), found.explanation, found.read)
        value = self._checked(found, sample)
        return Score(value, "by the function" if value is not None else "the function returned None", sample.answer)

    def _checked(self, value: Any, sample: Sample) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= 1 or isinstance(value, str):
            raise InputError(
                f"{self.name}: returned {str(value)[:80]!r}, for the answer {sample.answer[:80]!r}; a bool, "
                "a number from 0 to 1, None or a batchrun.scoring.Score is expected"
            )
        return number


def _takes_row(where: str, function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False  # some functions written in C tell nothing
    for count in (3, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count == 3
    raise InputError(f"{where}: takes {signature}; (answer, target) or (answer, target, row) is expected")


@dataclass(frozen=True, slots=True)
class ColumnScorer(Scorer):
    """The number that stands in a column: scores made earlier, by whatever means.

    A number from 0 to 1, `true` or `false`. An empty cell cannot be judged; anything else is an error.

    Attributes:
        column: its name.
    """

    needs_target: ClassVar[bool] = False
    column: str

    def score(self, sample: Sample) -> Score:
        if self.column not in sample.row:
            raise InputError(f"--scorer column:{self.column}: the table has no such column")
        cell = sample.row[self.column]
        if is_missing(cell):
            return Score(None, f"nothing in the column {self.column}")
        text = str(cell).strip().lower()
        try:
            value = {"true": 1.0, "false": 0.0}.get(text)
            value = float(text) if value is None else value
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise InputError(
                f"--scorer column:{self.column}: {str(cell)[:80]!r}, where a number from 0 to 1 is expected"
            )
        return Score(value, f"from the column {self.column}", str(cell))
