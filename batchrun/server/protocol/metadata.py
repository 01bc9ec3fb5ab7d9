"""The change of an object's metadata, the same for every kind of object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["merged_metadata"]

_MAX_PAIRS = 16


def merged_metadata(current: Mapping[str, str], update: Mapping[str, str | None] | None) -> dict[str, str]:
    """Return the metadata after an update: its pairs are set, and a key with null or an empty value is removed.

    Args:
        update: None changes nothing.

    Raises:
        ApiError: 400: there would be more than 16 pairs.
    """
    merged = dict(current)
    for key, value in (update or {}).items():
        if value:
            merged[key] = value
        else:
            merged.pop(key, None)
    if len(merged) > _MAX_PAIRS:
        raise ApiError(
            400,
            f"Invalid 'metadata': the object would have {len(merged)} pairs, and at most {_MAX_PAIRS} are allowed. "
            "Remove a key by giving it the value null.",
            param="metadata",
            code="object_above_max_properties",
        )
    return merged
