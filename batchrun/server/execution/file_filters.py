"""Filters of file searches: conditions on the attributes of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.server.errors import ApiError
from batchrun.server.protocol.requests.base import validate
from batchrun.server.protocol.requests.vector_stores import ComparisonFilter, Compound

if TYPE_CHECKING:
    from batchrun.server.protocol.bodies import Body

__all__ = ["file_filter", "passes"]


def passes(wanted: ComparisonFilter | Compound, attributes: Body) -> bool:
    """Return whether a file's attributes satisfy a filter. A comparison of different types is not satisfied."""
    if isinstance(wanted, Compound):
        members = [passes(file_filter(each), attributes) for each in wanted.filters]
        return all(members) if wanted.type == "and" else any(members)
    if wanted.key not in attributes:
        return wanted.type in ("ne", "nin")
    value, other = attributes[wanted.key], wanted.value
    if wanted.type in ("in", "nin"):
        return (value in (other if isinstance(other, list) else [other])) == (wanted.type == "in")
    if wanted.type in ("eq", "ne"):
        return bool(value == other) == (wanted.type == "eq")
    try:
        ordered: dict[str, bool] = {
            "gt": value > other,
            "gte": value >= other,
            "lt": value < other,
            "lte": value <= other,
        }
    except TypeError:
        return False
    return ordered[wanted.type]


def file_filter(data: Any) -> ComparisonFilter | Compound:
    """Return a filter that is given as JSON. Its depth is bounded, because the JSON parser refuses deeper nesting."""
    if not isinstance(data, dict):
        raise ApiError(400, "Invalid 'filters': expected an object.", param="filters", code="invalid_type")
    if data.get("type") in ("and", "or"):
        return validate(Compound, data)
    return validate(ComparisonFilter, data)
