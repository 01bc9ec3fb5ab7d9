"""The scorer of JSON answers."""

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

__all__ = ["JsonScorer"]

_FENCE = re.compile(r"```[A-Za-z0-9]*[ \t]*\n(?P<inside>.*?)\n?[ \t]*```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class JsonScorer(Scorer):
    """Whether the answer is JSON, fits a schema, and has the target's fields.

    The answer's text is read whole, else its last block between ``` fences. 0 if it is not JSON
    (RFC 8259: no NaN), or does not fit the schema. Then, if there is a target: of an object, the share of its
    fields that the answer has with the same value; of anything else, 1 if it is the same. Numbers are the same if
    they are equal (1 and 1.0), booleans only if they are booleans; the order of keys does not count. A target that
    is not JSON itself cannot be judged. Without a target the value is 1.

    Attributes:
        schema: a file with a JSON Schema, checked by jsonschema in the dialect that it names. References to
            other documents are not fetched.
        fields: of an object, only these fields count.
    """

    needs_target: ClassVar[bool] = False
    schema: Path | None = None
    fields: tuple[str, ...] = ()
    _fault: Callable[[Value], str | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fault", _no_schema if self.schema is None else _schema_check(self.schema))

    def score(self, sample: Sample) -> Score:
        read, found, error = _read(sample.answer)
        if error is not None:
            return Score(0.0, f"not JSON: {error}")
        fault = self._fault(found)
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
        return self._compared(found, target, read)

    def _compared(self, found: Value, target: Value, read: str) -> Score:
        if not isinstance(target, dict):
            right = _same(found, target)
            return Score(float(right), "the same" if right else f"{json.dumps(target)} expected", read)
        names = self.fields or tuple(target)
        if missing := [name for name in names if name not in target]:
            return Score(None, f"the target lacks {', '.join(missing)}", read)
        if not isinstance(found, dict):
            return Score(0.0, "an object is expected", read)
        wrong = [name for name in names if name not in found or not _same(found[name], target[name])]
        if not names:
            return Score(float(not found), "the target has no fields", read)
        explanation = f"differs: {', '.join(wrong)}" if wrong else "all fields are the same"
        return Score(1 - len(wrong) / len(names), explanation, read)


def _no_schema(_: Value) -> None:
    return None


def _read(answer: str) -> tuple[str, Value, str | None]:
    """(text that was read, its value, what is wrong with it)."""
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


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _loads(text: str) -> Value:
    return json.loads(text, parse_constant=_not_json)


def _same(one: Value, other: Value) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    # True == 1 in Python, not in JSON.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _schema_check(path: Path) -> Callable[[Value], str | None]:
    """What tells the first fault of a value, None if it has none."""
    with needs_eval("json:schema"):
        import jsonschema
        from jsonschema.validators import validator_for
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    try:
        schema = _loads(path.read_text(encoding="utf-8"))
        validator_class = validator_for(schema)
        validator_class.check_schema(schema)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); a JSON Schema is expected") from error
    except jsonschema.SchemaError as error:
        raise InputError(f"{path}: no JSON Schema ({error.message})") from error
    # An empty registry never fetches anything.
    validator = validator_class(schema, registry=Registry())

    def fault(value: Value) -> str | None:
        try:
            error = next(iter(validator.iter_errors(value)), None)
        except Unresolvable as exc:
            raise InputError(f"{path}: a reference leads outside the schema ({exc}); put it inside") from exc
        return None if error is None else f"{error.json_path}: {error.message}"[:300]

    return fault
