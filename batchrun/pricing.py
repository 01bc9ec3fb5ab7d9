"""Usage → cost in US dollars: by prices of one's own, else by the list that genai-prices carries.

Unknown is None, never 0. The list is the one in the installed package: nothing here asks the network for a newer one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from batchrun.clock import WallClock, utc_now
from batchrun.errors import InputError
from batchrun.job.option_values import nearest
from batchrun.records import Usage
from batchrun.services.reply_fields import objects
from batchrun.services.usage import usage_of_response, usage_of_tokens

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceCalculation, TieredPrices

__all__ = ["MatchedPrice", "PriceList", "Rates", "runs_of"]

OPENAI_URL = "https://api.openai.com/v1"
OWN = "own"
TOKENS_PRICED_TOGETHER = Decimal(1_000_000)
REQUESTS_PRICED_TOGETHER = Decimal(1_000)

_RATE_NAMES = ("input", "cached_input", "output")
_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
_USUAL_TIERS = (None, "auto", "default")


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars for a million tokens, exactly.

    Attributes:
        input: of tokens read and not found in the service's cache.
        cached_input: of tokens read that were.
        output: of tokens written, reasoning included.
        request: US dollars for a request, whatever its tokens.
        above_input_tokens: the rates hold for requests (all of their tokens) that read more than this.
    """

    input: Decimal
    cached_input: Decimal
    output: Decimal
    request: Decimal = Decimal(0)
    above_input_tokens: int = 0

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> Decimal:
        """US dollars of one run; `prompt_tokens` counts the cached ones too."""
        tokens = (
            (prompt_tokens - cached_tokens) * self.input
            + cached_tokens * self.cached_input
            + completion_tokens * self.output
        )
        return tokens / TOKENS_PRICED_TOGETHER + self.request


@dataclass(frozen=True, slots=True)
class MatchedPrice:
    """The price that a model's name was taken to stand for.

    Attributes:
        model: as the service named it.
        matched: the entry that it was matched to: a key of the own table, or `provider/model` of the list.
        source: "own", or the list with its version.
        rates: at least one, by rising `above_input_tokens`, the first from 0.
    """

    model: str
    matched: str
    source: str
    rates: tuple[Rates, ...]

    def cost(self, run: Usage) -> Decimal | None:
        """US dollars of one run, None if its counts were not told or cannot be."""
        # Compatible servers send what they like: text, fractions, more cached than read.
        counts: tuple[object, ...] = (run.prompt_tokens, run.cached_tokens or 0, run.completion_tokens)
        if not all(isinstance(count, int) for count in counts):
            return None
        read, cached, written = cast("tuple[int, int, int]", counts)
        if not 0 <= cached <= read or written < 0:
            return None
        rates = next((rates for rates in reversed(self.rates) if read > rates.above_input_tokens), self.rates[0])
        return rates.cost(read, cached, written)

    def facts(self) -> dict[str, Any]:
        """For the journal and for machines; the rates as exact decimal text, tokens by the million."""
        return {
            "model": self.model,
            "matched": self.matched,
            "source": self.source,
            "usd_per_million_tokens": [
                {name: str(getattr(rates, name)) for name in _RATE_NAMES}
                | ({"request": str(rates.request)} if rates.request else {})
                | ({"above_input_tokens": rates.above_input_tokens} if rates.above_input_tokens else {})
                for rates in self.rates
            ],
        }

    def line(self) -> str:
        """For people."""
        first = self.rates[0]
        read, cached, written, request = (
            f"${rate.normalize():f}" for rate in (first.input, first.cached_input, first.output, first.request)
        )
        more = f", {request} a request" if first.request else ""
        more += ", more for long prompts" if len(self.rates) > 1 else ""
        return (
            f"{self.model} priced as {self.matched} ({self.source}): {read} in, {cached} cached, {written} out "
            f"for a million tokens{more}"
        )


class PriceList:
    """Prices runs: the own table first, then the list's entry for the model at the provider that the URL belongs to.

    A model is looked up within its provider, so that a local model whose name resembles a hosted one is not given that
    one's price; a server of one's own has no list price.

    All state: what names were matched to (`_found`, `_matches` for a minute each, since some prices change with the
    time of the day), and the matches that were reported.
    """

    def __init__(
        self,
        base_url: str | None,
        own: Mapping[str, Mapping[str, float]] | None = None,
        *,
        embedded: bool = False,
        service_tier: object = None,
        clock: WallClock = utc_now,
        on_match: Callable[[MatchedPrice], None] | None = None,
    ) -> None:
        """
        Args:
            base_url: of the service, None for OpenAI's.
            own: model → US dollars for a million tokens: `input`, `output`, and `cached_input` where cached tokens
                cost less. An entry holds for its name and for the name with a date behind it (`NAME-2026-08-06`).
            embedded: the service is the embedded server: nothing has a list price.
            service_tier: as the job asks for it. A tier that the list has no price for makes the price unknown.
            on_match: called once with every price that is used.

        Raises:
            InputError: the own table is wrong; names the entry and what was expected.
        """
        self._base_url = None if embedded else base_url or OPENAI_URL
        self._own = {model: _own_rates(model, prices) for model, prices in (own or {}).items()}
        self._service_tier = service_tier
        self._clock = clock
        self._on_match = on_match
        self._found: dict[str, PriceCalculation | None] = {}
        self._matches: dict[str, tuple[datetime, MatchedPrice | None]] = {}
        self._reported: set[MatchedPrice] = set()

    def __call__(self, model: str | None, usage: Usage) -> float | None:
        """US dollars, None where the price or a count is unknown. Several runs of a row are priced one by one."""
        cost = self.exact(model, usage)
        return None if cost is None else float(cost)

    def exact(self, model: str | None, usage: Usage) -> Decimal | None:
        """The same, before it is rounded to a float."""
        match = self.matched(model)
        if match is None:
            return None
        total = Decimal(0)
        for run in runs_of(usage):
            cost = match.cost(run)
            if cost is None:
                return None
            total += cost
        if self._on_match is not None and match not in self._reported:
            self._reported.add(match)
            self._on_match(match)
        return total

    def matched(self, model: str | None) -> MatchedPrice | None:
        """What the name stands for now, None where no price is known."""
        if model is None:
            return None
        minute = self._clock().replace(second=0, microsecond=0)
        known = self._matches.get(model)
        if known is None or known[0] != minute:
            known = minute, self._own_match(model) or self._listed_match(model, minute)
            self._matches[model] = known
        return known[1]

    def _own_match(self, model: str) -> MatchedPrice | None:
        for name in (model, _DATE.sub("", model)):
            if name in self._own:
                return MatchedPrice(model, name, OWN, (self._own[name],))
        return None

    def _listed_match(self, model: str, now: datetime) -> MatchedPrice | None:
        if model not in self._found:
            self._found[model] = _find(model, self._base_url)
        found = self._found[model]
        if found is None:
            return None
        context = None
        if self._service_tier not in _USUAL_TIERS:
            context = {"service_tier": str(self._service_tier)}
            ours = any(found.model is each for each in found.provider.models)
            if not ours or not _has_variant(found.model, context):
                return None
        rates = tuple(_listed_rates(found.model.get_prices(now, context)))
        return MatchedPrice(model, f"{found.provider.id}/{found.model.id}", _source(), rates) if rates else None


def runs_of(usage: Usage) -> Iterator[Usage]:
    """The runs that `records.sum_usage` made one usage of, as the services counted them."""
    if usage.raw is None or not isinstance(usage.raw.get("runs"), list):
        yield usage
        return
    for raw in objects(usage.raw["runs"]):
        if "runs" in raw:
            yield from runs_of(Usage(raw=raw))
        else:
            yield usage_of_response(raw) if "input_tokens" in raw else usage_of_tokens(raw)


def _own_rates(model: str, prices: Mapping[str, float]) -> Rates:
    where = f"prices: {model!r}"
    for name, price in prices.items():
        if name not in _RATE_NAMES:
            raise InputError(
                f"{where}: unknown key {name!r}{nearest(name, _RATE_NAMES)}; there are input, cached_input, output"
            )
        if not 0 <= price < float("inf"):
            raise InputError(f"{where}: {name}: US dollars for a million tokens are needed, 0 or more, got {price!r}")
    for name in ("input", "output"):
        if name not in prices:
            raise InputError(f"{where}: {name} is missing: US dollars for a million tokens")
    # The shortest text of a float is what the user wrote; its binary value is not.
    exact = {name: Decimal(str(price)) for name, price in prices.items()}
    return Rates(exact["input"], exact.get("cached_input", exact["input"]), exact["output"])


def _find(model: str, base_url: str | None) -> PriceCalculation | None:
    if base_url is None:
        return None
    # Imported late: it takes 0.7 s.
    from genai_prices import Usage as PricedUsage
    from genai_prices import calc_price

    try:
        return calc_price(PricedUsage(input_tokens=1, output_tokens=1), model, provider_api_url=base_url)
    except LookupError:
        return None


def _source() -> str:
    from genai_prices import __version__

    return f"genai-prices {__version__}"


def _has_variant(model: ModelInfo, context: Mapping[str, str]) -> bool:
    return any(context.items() >= variant.when.items() for variant in model.price_variants or ())


def _listed_rates(price: ModelPrice) -> Iterator[Rates]:
    """The list's price as `Rates`; nothing where it does not price tokens in and tokens out."""
    read, written = price.input_mtok, price.output_mtok
    if read is None or written is None:
        return
    cached = price.cache_read_mtok if price.cache_read_mtok is not None else read
    request = price.requests_kcount or Decimal(0)
    steps = {0, *(tier.start for each in (read, cached, written, request) for tier in getattr(each, "tiers", ()))}
    for step in sorted(steps):
        at = [_above(each, step) for each in (read, cached, written, request)]
        yield Rates(at[0], at[1], at[2], at[3] / REQUESTS_PRICED_TOGETHER, step)


def _above(price: Decimal | TieredPrices, input_tokens: int) -> Decimal:
    """The rate of a request that reads more than `input_tokens`."""
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if tier.start <= input_tokens), price.base)
