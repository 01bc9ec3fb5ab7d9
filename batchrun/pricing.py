"""Usage → cost in US dollars, by the price list that genai-prices carries. Unknown is None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchrun.records import Usage

__all__ = ["price_by_list"]

OPENAI_URL = "https://api.openai.com/v1"


class price_by_list:  # noqa: N801 - used as a function; a class only to hold the URL
    """Prices runs of the provider that `base_url` belongs to; a server of one's own has no list price.

    The provider is found by its URL and the model within it, so that a local model whose name resembles a
    hosted one is not given that one's price.
    """

    def __init__(self, base_url: str | None) -> None:
        self._base_url = base_url or OPENAI_URL

    def __call__(self, model: str | None, usage: Usage) -> float | None:
        """US dollars, None where the price or the usage is unknown."""
        if model is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        # Imported late: it takes 0.7 s and the embedded server has no prices.
        from genai_prices import Usage as PricedUsage
        from genai_prices import calc_price

        counts: Mapping[str, Any] = {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "cache_read_tokens": usage.cached_tokens or 0,
        }
        try:
            price = calc_price(PricedUsage(**counts), model, provider_api_url=self._base_url)
        except LookupError:
            return None
        return float(price.total_price)
