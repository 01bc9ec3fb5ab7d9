"""Which model parameters are numbers or truth values, so that the text of a cell can be sent as one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

__all__ = ["PARAMETER_TYPES", "ParameterType", "typed"]

ParameterType: TypeAlias = Literal["number", "integer", "boolean"]

PARAMETER_TYPES: Final[Mapping[str, ParameterType]] = {
    **dict.fromkeys(("frequency_penalty", "presence_penalty", "temperature", "top_p"), "number"),
    **dict.fromkeys(("min_p", "repetition_penalty"), "number"),
    **dict.fromkeys(("max_completion_tokens", "max_output_tokens", "max_prompt_tokens", "max_tokens"), "integer"),
    **dict.fromkeys(("max_tool_calls", "n", "seed", "top_logprobs"), "integer"),
    **dict.fromkeys(("min_tokens", "top_k"), "integer"),
    **dict.fromkeys(("background", "logprobs", "parallel_tool_calls", "store"), "boolean"),
}
"""The types of the SDK, and of parameters that vLLM and llama.cpp add."""

_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_BOOLEANS: Final = {"true": True, "false": False}


def typed(value: Any, kind: ParameterType) -> Any:
    """Return a value as one of this type: a text that holds one, and a whole number that pandas made a float.

    All other values are returned unchanged.

    Raises:
        ValueError: the text holds no value of this type.

    Examples:
        >>> typed("0.5", "number"), typed(" 7 ", "integer"), typed(7.0, "integer"), typed("TRUE", "boolean")
        (0.5, 7, 7, True)
    """
    if kind == "boolean":
        return _boolean(value) if isinstance(value, str) else value
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            raise ValueError("expected a number")
        value = int(text) if text.lstrip("+-").isdecimal() and len(text) < 20 else float(text)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("expected a finite number")
    if kind == "integer" and isinstance(value, float):
        if not value.is_integer():
            raise ValueError("expected a whole number")
        return int(value)
    return value


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError("expected true or false") from None
