"""Computes US dollars from usage: with the user's own prices, else with the price list of genai-prices.

An unknown cost is None, never 0. The list is that of the installed package; a newer one is never downloaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from ipaddress import ip_address
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast
from urllib.parse import urlsplit

from batchrun.clock import WallClock, utc_now
from batchrun.errors import InputError
from batchrun.job.option_values import suggestion
from batchrun.services.kept import STANDARD_TIERS
from batchrun.services.reply_fields import name as known_name
from batchrun.services.reply_fields import objects
from batchrun.services.usage import usage_of_response, usage_of_tokens
from batchrun.token_usage import MODEL_OF_RUN, PROCESSING_OF_RUN, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceCalculation, TieredPrices

__all__ = ["MatchedPrice", "PriceFacts", "PriceList", "RateFacts", "Rates", "runs_of"]

OPENAI_URL = "https://api.openai.com/v1"
OWN = "own"
"""The source of prices that the user set."""
TOKENS_PRICED_TOGETHER = Decimal(1_000_000)
REQUESTS_PRICED_TOGETHER = Decimal(1_000)

_RATE_NAMES = ("input", "cached_input", "output")
_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""The date at the end of a model's full name."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Exact US dollars per million tokens.

    Attributes:
        input: rate of tokens that were read, except those from the service's cache.
        cached_input: rate of tokens that were read from the cache.
        output: rate of tokens that were written, reasoning included.
        request: US dollars per request, in addition to its tokens.
        above_input_tokens: the rates apply to requests that read more tokens than this, and then to all their tokens.
    """

    input: Decimal
    cached_input: Decimal
    output: Decimal
    request: Decimal = Decimal(0)
    above_input_tokens: int = 0

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> Decimal:
        """Return the US dollars of one run; `prompt_tokens` includes the cached ones."""
        tokens = (
            (prompt_tokens - cached_tokens) * self.input
            + cached_tokens * self.cached_input
            + completion_tokens * self.output
        )
        return tokens / TOKENS_PRICED_TOGETHER + self.request


class RateFacts(TypedDict):
    """`Rates` as exact decimal text."""

    input: str
    cached_input: str
    output: str
    request: NotRequired[str]
    above_input_tokens: NotRequired[int]


class PriceFacts(TypedDict):
    """`MatchedPrice`, as the journal and `--json` show it."""

    model: str
    matched: str
    source: str
    usd_per_million_tokens: list[RateFacts]
    service_tier: NotRequired[str]
    processing: NotRequired[str]


@dataclass(frozen=True, slots=True)
class MatchedPrice:
    """The price that a model's name was matched to.

    Attributes:
        model: the name, as the service reported it.
        matched: the entry: a key of the user's own table, or `provider/model` of the list.
        source: "own", or the list with its version.
        rates: at least one, by increasing `above_input_tokens`, which is 0 in the first.
        tier: the service tier that has these rates; None for the standard one.
        is_batch: the rates are those of the Batch API.
    """

    model: str
    matched: str
    source: str
    rates: tuple[Rates, ...]
    tier: str | None = None
    is_batch: bool = False

    def cost(self, run: Usage) -> Decimal | None:
        """Return the US dollars of one run, None if its counts are missing or impossible."""
        # Compatible servers send anything: text, fractions, more cached tokens than tokens read.
        counts: tuple[object, ...] = (run.prompt_tokens, run.cached_tokens or 0, run.completion_tokens)
        if not all(isinstance(count, int) for count in counts):
            return None
        read, cached, written = cast("tuple[int, int, int]", counts)
        if not 0 <= cached <= read or written < 0:
            return None
        rates = next((rates for rates in reversed(self.rates) if read > rates.above_input_tokens), self.rates[0])
        return rates.cost(read, cached, written)

    def facts(self) -> PriceFacts:
        """Return the price for the journal and for machines."""
        facts: PriceFacts = {
            "model": self.model,
            "matched": self.matched,
            "source": self.source,
            "usd_per_million_tokens": [_rate_facts(rates) for rates in self.rates],
        }
        if self.tier is not None:
            facts["service_tier"] = self.tier
        if self.is_batch:
            facts["processing"] = "batch"
        return facts

    def line(self) -> str:
        """Return the price for people."""
        first = self.rates[0]
        read, cached, written, request = (
            f"${rate.normalize():f}" for rate in (first.input, first.cached_input, first.output, first.request)
        )
        more = f", {request} per request" if first.request else ""
        tier = f", {self.tier} tier" if self.tier is not None else ""
        tier += ", Batch API" if self.is_batch else ""
        more += "; long prompts cost more" if len(self.rates) > 1 else ""
        return (
            f"{self.model} priced as {self.matched} ({self.source}{tier}): {read} in, {cached} cached, {written} out "
            f"per million tokens{more}"
        )


def no_price_text(model: str | None, place: str | None = None) -> str:
    """Return that a price is unknown and how to set it.

    Args:
        model: the model; None if the assistant decides it.
        place: the service; None if it does not matter.

    >>> no_price_text("m", "http://127.0.0.1:8000/v1").partition("; ")[0]
    'no price is known for m at http://127.0.0.1:8000/v1'
    >>> no_price_text("m").partition(", such as ")[2]
    'prices."m" = { input = 0.5, output = 2.0 }'
    """
    at = f" at {place}" if place is not None else ""
    key = json.dumps(model if model is not None else "NAME", ensure_ascii=False)
    return (
        f"no price is known for {model or 'the model of the assistant'}{at}; set it in a job file, in US dollars "
        f"per million tokens, such as prices.{key} = {{ input = 0.5, output = 2.0 }}"
    )


def _rate_facts(rates: Rates) -> RateFacts:
    facts: RateFacts = {
        "input": str(rates.input),
        "cached_input": str(rates.cached_input),
        "output": str(rates.output),
    }
    if rates.request:
        facts["request"] = str(rates.request)
    if rates.above_input_tokens:
        facts["above_input_tokens"] = rates.above_input_tokens
    return facts


class PriceList:
    """Prices runs with the user's own table, else with the list's entry for the model at the provider of the URL.

    A model is looked up only within its provider: a local model with the name of a hosted one must not get the price of
    that one. A local server has no list price.

    Mutable state: `_found` and `_matches` cache the entries of names (`_matches` for a minute, since some prices depend
    on the time of day); `_reported`, the prices passed to `on_match`.
    """

    def __init__(
        self,
        base_url: str | None,
        own: Mapping[str, Mapping[str, float]] | None = None,
        *,
        embedded: bool = False,
        service_tier: object = None,
        batch_api: bool = False,
        clock: WallClock = utc_now,
        on_match: Callable[[MatchedPrice], None] | None = None,
    ) -> None:
        """
        Args:
            base_url: URL of the service, None for OpenAI's.
            own: model → US dollars per million tokens: `input`, `output`, and `cached_input` if cached tokens cost
                less. An entry applies to its name, also with a date appended (`NAME-2026-08-06`).
            embedded: the service is the embedded server, which has no list price.
            service_tier: the tier that the job requests, which counts for runs whose tier the service does not report.
                Without a list price for a run's tier, its price is unknown. The own table has prices of this tier.
            batch_api: the job requests the Batch API, which counts where no run is given. A run of the Batch API is
                recognised by its usage; without a list price for it, its price is unknown. The own table has the prices
                of all requests.
            on_match: called once with each price that is used.

        Raises:
            InputError: the own table is invalid; names the entry and what was expected.
        """
        self._base_url = None if embedded else base_url or OPENAI_URL
        self._own = {model: _own_rates(model, prices) for model, prices in (own or {}).items()}
        self._service_tier = None if service_tier in STANDARD_TIERS else str(service_tier)
        self._batch_api = batch_api
        self._clock = clock
        self._on_match = on_match
        self._found: dict[str, PriceCalculation | None] = {}
        self._matches: dict[tuple[str, str | None, bool], tuple[datetime, MatchedPrice | None]] = {}
        self._reported: set[MatchedPrice] = set()

    def __call__(self, model: str | None, usage: Usage) -> float | None:
        """Return US dollars, None if the price or a count is unknown. Several runs of a row are priced one by one."""
        cost = self.exact(model, usage)
        return None if cost is None else float(cost)

    def exact(self, model: str | None, usage: Usage) -> Decimal | None:
        """Return the exact US dollars, None if the price or a count is unknown."""
        total = Decimal(0)
        for run in runs_of(usage):
            # The runs of a first model, before the fallback model answered, name it.
            own = run.raw.get(MODEL_OF_RUN) if run.raw is not None else None
            match = self.matched(own if isinstance(own, str) else model, run)
            cost = match.cost(run) if match is not None else None
            if match is None or cost is None:
                return None
            total += cost
            if self._on_match is not None and match not in self._reported:
                self._reported.add(match)
                self._on_match(match)
        return total

    def matched(self, model: str | None, run: Usage | None = None) -> MatchedPrice | None:
        """Return the current price of a model, None if it is unknown.

        Args:
            run: a run, whose service tier counts; None for the requested tier.
        """
        if model is None:
            return None
        tier, is_batch = self._tier(run), self._is_batch(run)
        minute = self._clock().replace(second=0, microsecond=0)
        known = self._matches.get((model, tier, is_batch))
        if known is None or known[0] != minute:
            known = minute, self._match(model, tier, minute, is_batch=is_batch)
            self._matches[model, tier, is_batch] = known
        return known[1]

    def _is_batch(self, run: Usage | None) -> bool:
        """Return whether a run was made by the Batch API; without a run or its usage, whether the job asks for that."""
        if run is None or run.raw is None:
            return self._batch_api
        return run.raw.get(PROCESSING_OF_RUN) == "batch"

    def _tier(self, run: Usage | None) -> str | None:
        """Return the tier that a run was served in; None for the standard one."""
        served = known_name(run.raw.get("service_tier")) if run is not None and run.raw is not None else None
        if served is None:
            return self._service_tier
        return None if served in STANDARD_TIERS or served == "batch" else served

    def _match(self, model: str, tier: str | None, now: datetime, *, is_batch: bool) -> MatchedPrice | None:
        for name in (model, _DATE.sub("", model)):
            if name in self._own:
                is_asked = tier == self._service_tier
                return MatchedPrice(model, name, OWN, (self._own[name],), tier, is_batch) if is_asked else None
        return self._listed_match(model, tier, now, is_batch=is_batch)

    def _listed_match(self, model: str, tier: str | None, now: datetime, *, is_batch: bool) -> MatchedPrice | None:
        if model not in self._found:
            self._found[model] = _find(model, self._base_url)
        found = self._found[model]
        if found is None:
            return None
        asked = {"service_tier": tier, "processing": "batch" if is_batch else None}
        context = {name: value for name, value in asked.items() if value is not None}
        if context:
            # The entry may be that of another provider (`fallback_model_providers`), whose tiers are not this one's.
            is_of_provider = any(found.model is each for each in found.provider.models)
            if not is_of_provider or not _has_variant(found.model, context):
                return None
        rates = tuple(_listed_rates(found.model.get_prices(now, context or None)))
        name = f"{found.provider.id}/{found.model.id}"
        return MatchedPrice(model, name, _source(), rates, tier, is_batch) if rates else None


def runs_of(usage: Usage) -> Iterator[Usage]:
    """Yield the usage of each run that `token_usage.sum_usage` added up, as the service counted it."""
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
                f"{where}: unknown key {name!r}{suggestion(name, _RATE_NAMES)}; "
                "the keys are input, cached_input, output"
            )
        if not 0 <= price < float("inf"):
            raise InputError(f"{where}: {name}: expected US dollars per million tokens, 0 or more, got {price!r}")
    for name in ("input", "output"):
        if name not in prices:
            raise InputError(f"{where}: {name} is missing: expected US dollars per million tokens")
    # The shortest text of a float is what the user wrote; its binary value differs from it.
    exact = {name: Decimal(str(price)) for name, price in prices.items()}
    return Rates(exact["input"], exact.get("cached_input", exact["input"]), exact["output"])


def _find(model: str, base_url: str | None) -> PriceCalculation | None:
    """Return the list's entry for a model at the provider of the URL, None without one."""
    if base_url is None or _is_of_no_provider(base_url):
        return None
    # Imported late, since that takes 0.7 s.
    from genai_prices import Usage as PricedUsage
    from genai_prices import calc_price

    try:
        return calc_price(PricedUsage(input_tokens=1, output_tokens=1), model, provider_api_url=base_url)
    except LookupError:
        return None


def _is_of_no_provider(base_url: str) -> bool:
    """Return whether the host is an address or this machine: providers in the list have names."""
    try:
        host = urlsplit(base_url).hostname or ""
        return host == "localhost" or bool(ip_address(host))
    except ValueError:
        return False


def _source() -> str:
    from genai_prices import __version__

    return f"genai-prices {__version__}"


def _has_variant(model: ModelInfo, context: Mapping[str, str]) -> bool:
    return any(context.items() == variant.when.items() for variant in model.price_variants or ())


def _listed_rates(price: ModelPrice) -> Iterator[Rates]:
    """Yield the list's price as `Rates`; nothing if it lacks a price for tokens in or out."""
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
    """Return the rate of a request that reads more than `input_tokens`."""
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if tier.start <= input_tokens), price.base)
