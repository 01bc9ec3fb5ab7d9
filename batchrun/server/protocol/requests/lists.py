"""The query parameters of lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError, bad_value
from batchrun.server.store.objects import Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["page_from_query"]


def page_from_query(query: Mapping[str, Sequence[str]], *, max_limit: int, default_limit: int) -> Page:
    """Return `limit` (1 to `max_limit`; `default_limit` by default), `order`, `after` and `before`.

    Raises:
        ApiError: 400: a parameter is invalid.
    """
    limit = default_limit
    if "limit" in query:
        limit = _limit(query["limit"][-1], max_limit)
    order = query["order"][-1] if "order" in query else "desc"
    if order not in ("asc", "desc"):
        raise bad_value("order", f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'.")
    return Page(
        limit=limit,
        order="asc" if order == "asc" else "desc",
        after=query["after"][-1] if "after" in query else None,
        before=query["before"][-1] if "before" in query else None,
    )


def _limit(text: str, max_limit: int) -> int:
    # int() alone would accept "1_0", " 5" and the digits of other scripts.
    if not (text.lstrip("-").isascii() and text.lstrip("-").isdigit()) or len(text) > 9:
        raise ApiError(
            400,
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            param="limit",
            code="invalid_type",
        )
    limit = int(text)
    if limit < 1:
        raise ApiError(
            400,
            f"Invalid 'limit': integer below minimum value. Expected a value >= 1, but got {limit} instead.",
            param="limit",
            code="integer_below_min_value",
        )
    if limit > max_limit:
        raise ApiError(
            400,
            f"Invalid 'limit': integer above maximum value. Expected a value <= {max_limit}, but got {limit} instead.",
            param="limit",
            code="integer_above_max_value",
        )
    return limit
