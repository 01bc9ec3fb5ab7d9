"""Replies validated as the types of OpenAI's SDK."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter

__all__ = ["validate"]


def validate(shape: Any, text: str) -> None:
    """Validate JSON strictly as a type of the SDK.

    Raises:
        pydantic.ValidationError: it has another form.
    """
    _adapter(shape).validate_json(text, strict=True)


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    """Return the validator of a type; those of the large unions take half a second to make."""
    return TypeAdapter(shape)
