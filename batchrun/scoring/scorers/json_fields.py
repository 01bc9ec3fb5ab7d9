"""The scorer for JSON answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NoReturn

from batchrun.errors import InputError
from batchrun.records import Value
from batchrun.scoring.scorers.base import Sample, Score, Scorer, is_missing
from batchrun.scoring.scorers.extra import needs_eval
from batchrun.structured.json_in_text import find_object
from batchrun.structured.mismatch import SchemaMismatch
from batchrun.thoughts import without_reasoning

__all__ = ["JsonScorer"]

_FENCE = re.compile(r"```[A-Za-z0-9]*[ \t]*\n(?P<inside>.*?)\n?[ \t]*```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class JsonScorer(Scorer):
    """Whether the answer is JSON, fits a schema, and has the target's fields.

    The whole answer is read, else its last block between ``` fences; with `in_text`, the one object that the text after
    `</think>` is or contains. The score is 0 if it is not JSON (RFC 8259: no
    NaN), or does not fit the schema. Without a target the score is otherwise 1. If the target is an object, the score
    is the share of its fields that have the same value in the answer; for any other target, it is 1 if answer and
    target are equal. Numbers are compared by value (1 and 1.0 are equal), booleans equal only booleans, and the order
    of keys does not count. If the target is not JSON itself, the row cannot be judged.

    Attributes:
        schema: file with a JSON Schema, checked by jsonschema in the dialect that it names. References to other
            documents are not fetched.
        fields: the fields of an object that count; empty for all.
        in_text: whether one object is read from prose around it; two objects, or a truncated one, are not read.
    """

    needs_target: ClassVar[bool] = False
    schema: Path | None = None
    fields: tuple[str, ...] = ()
    in_text: bool = False
    _fault: Callable[[Value], str | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fault", _no_schema if self.schema is None else _schema_check(self.schema))

    def score(self, sample: Sample) -> Score:
        read, answer, error = (_read_object if self.in_text else _read)(sample.answer)
        if error is not None:
            return Score(0.0, f"not JSON: {error}")
        fault = self._fault(answer)
        if fault is not None:
            return Score(0.0, f"does not fit the schema: {fault}", read)
        if is_missing(sample.target):
            return Score(1.0, "JSON" if self.schema is None else "fits the schema", read)
        target = sample.target
        if isinstance(target, str):
            try:
                target = _loads(target)
            except ValueError:
                return Score(None, "the target is not JSON", read)
        return self._compared(answer, target, read)

    def _compared(self, answer: Value, target: Value, read: str) -> Score:
        if not isinstance(target, dict):
            right = _equal(answer, target)
            return Score(float(right), "equal" if right else f"expected {json.dumps(target)}", read)
        names = self.fields or tuple(target)
        if missing := [name for name in names if name not in target]:
            return Score(None, f"the target lacks {', '.join(missing)}", read)
        if not isinstance(answer, dict):
            return Score(0.0, "expected an object", read)
        wrong = [name for name in names if name not in answer or not _equal(answer[name], target[name])]
        if not names:
            return Score(float(not answer), "the target has no fields", read)
        explanation = f"differs: {', '.join(wrong)}" if wrong else "all fields are equal"
        return Score(1 - len(wrong) / len(names), explanation, read)


def _no_schema(_: Value) -> None:
    return None


def _read(answer: str) -> tuple[str, Value, str | None]:
    """Return (text that was read, its value, the error)."""
    candidates = [answer.strip(), *(match["inside"] for match in reversed([*_FENCE.finditer(answer)]))]
    error = None
    for text in candidates[:2]:
        try:
            return text, _loads(text), None
        except ValueError as exc:
            error = str(exc)
        except RecursionError:
            error = "nested too deeply"
    return "", None, error


def _read_object(answer: str) -> tuple[str, Value, str | None]:
    """Return the one object in a text, as `_read` does."""
    try:
        found, value = find_object(without_reasoning(answer))
    except SchemaMismatch as exc:
        return "", None, str(exc)
    return found, value, None


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def _loads(text: str) -> Value:
    return json.loads(text, parse_constant=_not_json)


def _equal(one: Value, other: Value) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    # True == 1 in Python, not in JSON.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _schema_check(path: Path) -> Callable[[Value], str | None]:
    """Return a function that returns the first fault of a value; None if the value fits the schema."""
    with needs_eval("json:schema"):
        import jsonschema
        from jsonschema.validators import validator_for
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    try:
        schema = _loads(path.read_text(encoding="utf-8"))
        validator_class = validator_for(schema)
        validator_class.check_schema(schema)
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise InputError(f"{path}: expected a JSON Schema, but the file is not valid JSON: {exc}") from exc
    except jsonschema.SchemaError as exc:
        raise InputError(f"{path}: is not a JSON Schema: {exc.message}") from exc
    # An empty registry never fetches anything.
    validator = validator_class(schema, registry=Registry())

    def fault(value: Value) -> str | None:
        try:
            error = next(iter(validator.iter_errors(value)), None)
        except Unresolvable as exc:
            raise InputError(f"{path}: a reference points outside the schema; move its target inside: {exc}") from exc
        return None if error is None else f"{error.json_path}: {error.message}"[:300]

    return fault
