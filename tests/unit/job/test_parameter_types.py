"""The types of model parameters, for texts of cells."""

from __future__ import annotations

from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
from openai.types.beta.threads.run_create_params import RunCreateParamsBase
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from batchrun.errors import InputError
from batchrun.job.parameter_types import PARAMETER_TYPES, ParameterType, typed
from batchrun.job.validation import make_job

TYPES: dict[type, set[ParameterType]] = {float: {"number"}, int: {"integer"}, bool: {"boolean"}}


@pytest.mark.parametrize("parameters", [CompletionCreateParamsBase, ResponseCreateParamsBase, RunCreateParamsBase])
def test_the_types_are_those_of_the_sdk(parameters: type) -> None:
    """Every parameter that is a number or a truth value in the SDK has that type here, and no other one has any."""
    for name, hint in get_type_hints(parameters).items():
        kinds = {kind for each in get_args(hint) or (hint,) if each is not NoneType for kind in TYPES.get(each, {None})}
        expected = kinds.pop() if len(kinds) == 1 else None
        assert PARAMETER_TYPES.get(name) == expected, name


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("0.5", "number", 0.5),
        ("1", "number", 1),
        (" -.5e-1 ", "number", -0.05),
        ("7.0", "integer", 7),
        (7.0, "integer", 7),
        ("9" * 30, "integer", int(1e30)),
        (0.5, "number", 0.5),
        (None, "number", None),
        ("False", "boolean", False),
        (True, "boolean", True),
    ],
)
def test_texts_of_cells(value: Any, kind: ParameterType, expected: Any) -> None:
    """A text that holds a value of the type is that value; other values stay."""
    found = typed(value, kind)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "kind"),
    [("", "number"), ("warm", "number"), ("0,5", "number"), ("nan", "number"), ("1e999", "number"), ("1_0", "integer"),
     ("1.5", "integer"), (1.5, "integer"), ("٣", "integer"), ("1", "boolean"), ("yes", "boolean")],
)  # fmt: skip
def test_other_texts_are_refused(value: Any, kind: ParameterType) -> None:
    """A text without such a value is never sent."""
    with pytest.raises(ValueError, match=r"^expected "):
        typed(value, kind)


def test_a_number_in_quotes() -> None:
    """A parameter whose text is not a template is refused with the way to write it."""
    with pytest.raises(InputError, match=r"^param: temperature: expected a number without quotes, got '0.5'$"):
        make_job({"param": {"temperature": "0.5"}})
    assert make_job({"param": {"temperature": "{{ t }}", "user": "0.5"}}).param["user"] == "0.5"
