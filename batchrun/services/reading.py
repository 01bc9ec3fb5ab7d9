"""Reading replies, in which nothing is taken for granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["objects"]


def objects(found: Any) -> list[Mapping[str, Any]]:
    """The objects in a list; none where it is no list."""
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
