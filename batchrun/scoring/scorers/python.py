"""Scorers from a user's Python function, and from a column of the table."""

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
from batchrun.job.option_values import suggestion
from batchrun.scoring.score_columns import columns_text
from batchrun.scoring.scorers.base import Sample, Score, Scorer, is_missing
from batchrun.sdk_import import complete
from batchrun.users_errors import USERS_ERRORS, is_ctrl_c
from batchrun.wording import shortened

__all__ = ["ColumnScorer", "FunctionScorer"]

log = logging.getLogger("batchrun.scoring")


@dataclass(frozen=True, slots=True)
class FunctionScorer(Scorer):
    """The score from a Python function: `function(answer, target)`, or `function(answer, target, row)`.

    The function receives the answer as text, the target's cell (None if no column is named), and as an optional third
    argument all cells of the row as a dict. It returns a bool, a number from 0 to 1, None (cannot be judged), or a
    `Score`. An exception ends the scoring with one line, since a faulty scorer must be fixed, not averaged. If the
    function ends the process (`sys.exit`) or raises KeyboardInterrupt, its row gets 0 and a warning is logged.

    Mutable state: `warned_of`.

    Attributes:
        name: FILE.py:function, for messages.
        function: the function.
        takes_row: whether it has a third argument.
        warned_of: exceptions that end the process and that a warning was logged for.
    """

    needs_target: ClassVar[bool] = False
    name: str
    function: Callable[..., Any]
    takes_row: bool
    warned_of: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, name: str, function: Callable[..., Any]) -> FunctionScorer:
        """Return the scorer of a function.

        Raises:
            InputError: the function takes other arguments.
        """
        return cls(name, function, _takes_row(name, function))

    @classmethod
    def load(cls, where: str) -> FunctionScorer:
        """Import `FILE.py:function`. The file is the user's code and is executed.

        Raises:
            InputError: the file or function does not exist, the file raises an error, or the arguments are wrong.
        """
        path, _, name = where.rpartition(":")
        if not path or not name:
            given = shortened(f"python:{where}".rstrip(":"))
            raise InputError(f"--scorer: expected python:FILE.py:function (in Python also a function), got {given}")
        if not Path(path).is_file():
            raise InputError(f"--scorer python:{where}: {path}: no such file")
        spec = importlib.util.spec_from_file_location(f"batchrun_scorer_{Path(path).stem}", path)
        if spec is None or spec.loader is None:
            raise InputError(f"--scorer python:{where}: {path} is not a Python file, whose name ends in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickle look up a class's module there
        complete()
        try:
            spec.loader.exec_module(module)
        except USERS_ERRORS as exc:
            if is_ctrl_c(exc):
                raise
            raise InputError(f"{path}: cannot be imported ({type(exc).__name__}: {exc})") from exc
        function = getattr(module, name, None)
        if not callable(function):
            raise InputError(f"{path}: has no function named {name!r}")
        return cls.of(where, function)

    def score(self, sample: Sample) -> Score:
        arguments = (sample.answer, sample.target, dict(sample.row))
        try:
            returned = self.function(*arguments[: 3 if self.takes_row else 2])
        except USERS_ERRORS as exc:
            if is_ctrl_c(exc):
                raise
            kind = type(exc).__name__
            if not isinstance(exc, Exception):
                if kind not in self.warned_of:
                    self.warned_of.add(kind)
                    log.warning("%s: raised %s; rows for which it does so get 0", self.name, kind)
                return Score(0.0, f"the function raised {kind}")
            raise InputError(f"{self.name}: raised {kind}: {exc}, for the answer {sample.answer[:80]!r}") from exc
        if isinstance(returned, Score):
            return Score(self._checked(returned.value, sample), returned.explanation, returned.read)
        value = self._checked(returned, sample)
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
                f"{self.name}: returned {str(value)[:80]!r}, for the answer {sample.answer[:80]!r}; expected a bool, "
                "a number from 0 to 1, None or a batchrun.scoring.Score"
            )
        return number


def _takes_row(where: str, function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False  # some functions written in C have no signature
    for count in (3, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count == 3
    raise InputError(f"{where}: takes {signature}; expected (answer, target) or (answer, target, row)")


@dataclass(frozen=True, slots=True)
class ColumnScorer(Scorer):
    """The number in a column: scores that were made earlier, by any tool.

    A cell must be a number from 0 to 1, `true` or `false`. With an empty cell, the row cannot be judged.

    Attributes:
        column: name of the column.
    """

    needs_target: ClassVar[bool] = False
    column: str

    def score(self, sample: Sample) -> Score:
        if self.column not in sample.row:
            near = suggestion(self.column, sample.row)
            raise InputError(
                f"--scorer column:{self.column}: the table has no such column ({columns_text(list(sample.row))}){near}"
            )
        cell = sample.row[self.column]
        if is_missing(cell):
            return Score(None, f"the column {self.column} is empty")
        text = str(cell).strip().lower()
        try:
            value = {"true": 1.0, "false": 0.0}.get(text)
            value = float(text) if value is None else value
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            where = "" if sample.row_index is None else f"row {sample.row_index} (from 0): "
            raise InputError(
                f"--scorer column:{self.column}: {where}expected a number from 0 to 1, true or false, or an empty "
                f"cell, got {str(cell)[:80]!r}"
            )
        return Score(value, f"from the column {self.column}", str(cell))
