"""Prices: whose they are, which entry a name matches, and that an unknown cost is not taken for nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers

from batchrun.errors import InputError
from batchrun.pricing import MatchedPrice, PriceList, runs_of
from batchrun.services.kept import tier_of
from batchrun.services.usage import usage_of_response, usage_of_tokens
from batchrun.token_usage import Usage, sum_usage, usage_by_batch_api
from tests.support.rows import NOON, noon

OPENAI = "https://api.openai.com/v1"
OWN = {"house-1": {"input": 0.15, "cached_input": 0.075, "output": 0.6}}


def prices(url: str | None = OPENAI, own: Mapping[str, Mapping[str, float]] | None = None, **options: Any) -> PriceList:
    return PriceList(url, own, clock=noon, **options)


def tokens(read: int, written: int, cached: int = 0) -> Usage:
    details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
    return usage_of_tokens(
        {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, **details}
    )


def test_every_price_is_the_lists_own() -> None:
    """Each model of the list costs what genai-prices computes, below, at and above every step, cached or not."""
    compared = 0
    for provider in providers:
        for model in provider.models:
            price = model.get_prices(NOON)
            if price.input_mtok is None or price.output_mtok is None:
                continue
            found = PriceList(None, clock=noon)
            found._base_url = OPENAI
            found._found["m"] = model.calc_price(genai_prices.Usage(input_tokens=1, output_tokens=1), provider)
            match = found.matched("m")
            assert match is not None
            steps = [step.above_input_tokens for step in match.rates]
            for read in {1, 999, *(step + more for step in steps for more in (0, 1))}:
                counts = {"input_tokens": read, "cache_read_tokens": read // 3, "output_tokens": 77}
                wanted = model.calc_price(genai_prices.Usage(**counts), provider, genai_request_timestamp=NOON)
                assert match.cost(tokens(read, 77, read // 3)) == wanted.total_price, model.id
                compared += 1
    assert compared > 500


def test_a_listed_model_is_priced_at_its_provider() -> None:
    """A hosted model has its provider's price, also under a dated name."""
    assert prices()("gpt-4o-2024-08-06", tokens(1_000_000, 100_000)) == 2.5 + 1.0


def test_no_url_is_openai() -> None:
    """The SDK's default service is OpenAI's."""
    assert prices(None)("gpt-4o", tokens(1_000_000, 0)) == 2.5


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://llm.example.org/v1"])
def test_a_server_of_ones_own_has_no_list_price(url: str) -> None:
    """A local model with the name of a hosted one does not get that one's price."""
    assert prices(url)("gpt-4o", tokens(10, 10)) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://localhost:11434/v1", "http://[fd00::1]:80/v1"])
def test_the_list_is_not_loaded_for_an_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch over a server that is named by its address does not load the list, which takes 0.4 s of CPU."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)  # importing it now is an error
    assert PriceList(url)("gpt-4o-mini", Usage(1, 1, 2)) is None


def test_the_embedded_server_has_no_list_price() -> None:
    """The list does not price the embedded server's answers."""
    assert prices(None, embedded=True)("gpt-4o", tokens(10, 10)) is None


@pytest.mark.parametrize("model", ["gpt-9-unheard-of", None])
def test_an_unknown_model_is_unknown(model: str | None) -> None:
    """The cost of a missing or unlisted name is None, not 0."""
    assert prices()(model, tokens(10, 10)) is None


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(prompt_tokens=5),
        Usage(completion_tokens=5),
        Usage(5, -1),
        Usage(5, 5, cached_tokens=6),
        usage_of_tokens({"prompt_tokens": "5", "completion_tokens": 5}),
        usage_of_tokens({"prompt_tokens": 5.5, "completion_tokens": 5}),
    ],
    ids=["nothing", "no completion", "no prompt", "negative", "more cached than read", "text", "fraction"],
)
def test_a_count_that_is_not_known_makes_the_cost_unknown(usage: Usage) -> None:
    """With missing or impossible counts the cost is None, not 0."""
    assert prices(own=OWN)("house-1", usage) is None


def test_ones_own_price_wins() -> None:
    """The job's table takes precedence over the list."""
    own = {"gpt-4o": {"input": 1, "output": 2}}
    assert prices(own=own)("gpt-4o", tokens(1_000_000, 1_000_000)) == 3.0


def test_ones_own_price_holds_for_dated_names_only() -> None:
    """An entry applies to its name, and to that name with a date; never to another model whose name begins the same."""
    own = {"house": {"input": 1, "output": 2}}
    found = prices("http://127.0.0.1/v1", own)
    assert [found(name, tokens(1_000_000, 0)) for name in ("house", "house-2026-08-06", "house-20260806")] == [1.0] * 3
    assert [found(name, tokens(1_000_000, 0)) for name in ("house-mini", "house-2", "my-house")] == [None] * 3


def test_cached_tokens_cost_their_own_price() -> None:
    """Of a million tokens read, only those from the cache are cheaper."""
    assert prices(own=OWN)("house-1", tokens(1_000_000, 0, 400_000)) == pytest.approx(0.6 * 0.15 + 0.4 * 0.075)


def test_cached_tokens_cost_as_others_where_the_table_says_nothing() -> None:
    """Without cached_input the cost is an upper bound, not a guess at a discount."""
    own = {"m": {"input": 2.0, "output": 1.0}}
    assert prices(own=own)("m", tokens(1_000_000, 0, 400_000)) == 2.0


def test_costs_are_exact() -> None:
    """Dollars are added as decimals, so that nothing is lost to float rounding."""
    assert prices(own={"m": {"input": 0.1, "output": 0.2}}).exact("m", tokens(3, 0)) == Decimal("0.0000003")


def test_several_runs_of_a_row_are_priced_one_by_one() -> None:
    """A row of two runs costs their sum, even if one run of both lengths would cost more per token."""
    found, runs = prices(), [tokens(200_000, 10, 50), tokens(200_000, 20)]
    both = found("gpt-5.4", sum_usage(runs))
    assert both == pytest.approx(sum(found("gpt-5.4", run) or 0 for run in runs), abs=1e-12)
    assert both != found("gpt-5.4", tokens(400_000, 30, 50))


def test_runs_are_found_however_they_were_summed_up() -> None:
    """Sums of sums, and both spellings of usage, are separated into runs again."""
    response = usage_of_response({"input_tokens": 7, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 2}})
    summed = sum_usage([sum_usage([tokens(1, 2), tokens(3, 4)]), response])
    assert [(run.prompt_tokens, run.completion_tokens, run.cached_tokens) for run in runs_of(summed)] == [
        (1, 2, None),
        (3, 4, None),
        (7, 3, 2),
    ]


def test_one_unknown_run_makes_the_row_unknown() -> None:
    """A part of a cost is not shown as the cost."""
    raw = {"runs": [{"prompt_tokens": 1, "completion_tokens": 1}, {"prompt_tokens": 1}]}
    assert prices(own=OWN)("house-1", Usage(2, 1, raw=raw)) is None


def test_a_service_tier_has_its_own_price() -> None:
    """Flex is priced as flex, and the standard tiers as listed."""
    usual = prices()("gpt-5-mini", tokens(1_000_000, 0))
    assert usual is not None
    assert [prices(service_tier=tier)("gpt-5-mini", tokens(1_000_000, 0)) for tier in ("auto", "default")] == [
        usual
    ] * 2
    assert prices(service_tier="flex")("gpt-5-mini", tokens(1_000_000, 0)) == usual / 2


def test_a_service_tier_without_a_price_is_unknown() -> None:
    """A tier that the list does not know is not priced as the standard one."""
    assert prices(service_tier="express")("gpt-5-mini", tokens(10, 10)) is None
    assert prices(service_tier="flex")("gpt-4o", tokens(10, 10)) is None


def served(tier: object) -> Usage:
    """Return the usage of a run for which the service reported a tier."""
    counts = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}
    return usage_of_tokens(counts, tier_of(tier, "asked"))


def test_a_run_is_priced_as_it_was_served() -> None:
    """The tier that the service reports decides, run by run, whatever was asked for; without one, the tier asked for."""
    usual = prices()("gpt-5-mini", tokens(1_000_000, 0))
    assert usual is not None
    flex = prices(service_tier="flex")
    assert [flex("gpt-5-mini", served(tier)) for tier in ("flex", None, 7)] == [usual / 2] * 3
    assert [flex("gpt-5-mini", served(tier)) for tier in ("default", "standard", "auto")] == [usual] * 3
    assert flex("gpt-5-mini", sum_usage([served("flex"), served("default")])) == usual * 1.5
    assert prices()("gpt-5-mini", served("flex")) == usual / 2
    assert prices()("gpt-5-mini", served("express")) is None
    match = flex.matched("gpt-5-mini", served("flex"))
    assert match is not None
    assert match.facts()["service_tier"] == "flex"
    assert ", flex tier)" in match.line()
    assert tier_of("default", None) is None, "the usual tier leaves no trace"


def test_own_prices_are_those_of_the_tier_asked_for() -> None:
    """A run that was served in another tier than the one asked for has no price in the user's own table."""
    assert prices(own=OWN)("house-1", served("default")) == 0.15
    assert prices(own=OWN)("house-1", served("priority")) is None
    assert prices(own=OWN, service_tier="flex")("house-1", served("flex")) == 0.15
    assert prices(own=OWN, service_tier="flex")("house-1", served("default")) is None


def test_a_tier_of_another_provider_does_not_hold() -> None:
    """A model that one provider lists by another's price has that one's standard price, and not that of its tiers."""
    azure, usage = "https://house.openai.azure.com", tokens(10, 10)
    assert prices(azure)("gpt-4.1", usage) == prices()("gpt-4.1", usage)
    assert prices(service_tier="priority")("gpt-4.1", usage) is not None
    assert prices(azure, service_tier="priority")("gpt-4.1", usage) is None


def test_prices_follow_the_clock() -> None:
    """If the list's price depends on the date or the hour, the current one is used."""
    now = NOON
    found = PriceList(OPENAI, clock=lambda: now)
    changing = [(each, model) for each in providers for model in each.models if isinstance(model.prices, list)]
    changed = 0
    for number, (provider, model) in enumerate(changing):
        found._found[str(number)] = model.calc_price(genai_prices.Usage(input_tokens=1, output_tokens=1), provider)
        seen = set()
        for moment in (
            datetime(year, 6, 1, hour, tzinfo=UTC) for year in (2023, 2025, 2026) for hour in (1, 9, 17, 20)
        ):
            now = moment
            price = model.get_prices(moment)
            if price.input_mtok is None or price.output_mtok is None:
                continue
            cost = found(str(number), tokens(1_000, 1_000))
            assert cost == float(
                price.calc_price(genai_prices.Usage(input_tokens=1_000, output_tokens=1_000))["total_price"]
            )
            seen.add(cost)
        changed += len(seen) > 1
    assert changed > 0


def test_a_fee_for_each_request_is_in_it() -> None:
    """A provider that charges for requests in addition to tokens is not priced by tokens alone."""
    found = prices("https://api.perplexity.ai")
    assert found("sonar", tokens(0, 0)) == pytest.approx(0.012)
    assert found("sonar", sum_usage([tokens(0, 0), tokens(0, 0)])) == pytest.approx(0.024)


def test_the_matched_price_is_reported_once() -> None:
    """Each price is reported at its first use, with the entry that the name matched."""
    told: list[MatchedPrice] = []
    found = prices(own=OWN, on_match=told.append)
    for model in ("gpt-4o-2024-08-06", "house-1", "gpt-9-unheard-of", "gpt-4o-2024-08-06", "house-1"):
        found(model, tokens(1, 1))
    assert [match.facts() for match in told] == [
        {
            "model": "gpt-4o-2024-08-06",
            "matched": "openai/gpt-4o",
            "source": f"genai-prices {genai_prices.__version__}",
            "usd_per_million_tokens": [{"input": "2.5", "cached_input": "1.25", "output": "10"}],
        },
        {
            "model": "house-1",
            "matched": "house-1",
            "source": "own",
            "usd_per_million_tokens": [{"input": "0.15", "cached_input": "0.075", "output": "0.6"}],
        },
    ]


def test_a_price_that_priced_nothing_is_not_told() -> None:
    """A price counts as used only if a cost is based on it."""
    told: list[MatchedPrice] = []
    prices(own=OWN, on_match=told.append)("house-1", Usage())
    assert told == []


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"input": 1.0}, "prices: 'm': output is missing"),
        ({"output": 1.0}, "prices: 'm': input is missing"),
        ({}, "prices: 'm': input is missing"),
        ({"input": 1.0, "output": 1.0, "cached": 1.0}, "unknown key 'cached'; did you mean 'cached_input'"),
        ({"input": -1.0, "output": 1.0}, r"input: expected US dollars .* got -1\.0"),
        ({"input": 1.0, "output": float("nan")}, "output: expected US dollars .* got nan"),
        ({"input": 1.0, "output": float("inf")}, "output: expected US dollars .* got inf"),
    ],
)
def test_a_wrong_table_gets_one_line(entry: dict[str, float], expected: str) -> None:
    """The line names the entry, its key, and what was expected."""
    with pytest.raises(InputError, match=expected) as caught:
        PriceList(None, {"m": entry})
    assert "\n" not in str(caught.value)


def test_prices_are_read_offline_and_late() -> None:
    """The list comes with the package: it is imported at the first price, and opens no socket and no thread."""
    code = """
import socket, sys, threading
class Refused(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("a socket was opened")
socket.socket = Refused
from batchrun.pricing import PriceList
from batchrun.token_usage import Usage
assert "genai_prices" not in sys.modules
assert PriceList(None)("gpt-4o", Usage(1_000_000, 0)) == 2.5
from genai_prices import data_snapshot
assert not data_snapshot.get_snapshot().from_auto_update
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the Batch API --------------------------------------------------------------------------------------------


def test_runs_of_the_batch_api_have_its_list_price() -> None:
    """A run that the Batch API made has the list's price for that; an ordinary run of the same batch has its own."""
    run = tokens(1_000_000, 0)
    asked = prices(batch_api=True)
    assert (asked("gpt-4o-mini", usage_by_batch_api(run)), asked("gpt-4o-mini", run)) == (0.075, 0.15)
    assert prices()("gpt-4o-mini", sum_usage([run, usage_by_batch_api(run)])) == 0.225
    assert asked("gpt-4o-mini", Usage(1_000_000, 0)) == 0.075  # an estimate has no usage object


@pytest.mark.parametrize(
    ("url", "model", "tier"),
    [
        ("https://x.openai.azure.com", "gpt-4o-mini", None),
        (OPENAI, "gpt-4o-mini", "flex"),
        (OPENAI, "unheard-of", None),
    ],
)
def test_an_unknown_price_of_the_batch_api_stays_unknown(url: str, model: str, tier: str | None) -> None:
    """Nothing is halved by guess: a price that the list does not have for the Batch API is unknown."""
    run = tokens(10, 10)
    assert prices(url, batch_api=True, service_tier=tier)(model, usage_by_batch_api(run)) is None


def test_own_prices_are_those_of_the_batch_api_too() -> None:
    """The prices of a job file are taken as they are."""
    assert prices(own=OWN, batch_api=True)("house-1", usage_by_batch_api(tokens(1_000_000, 0))) == 0.15


def test_a_price_of_the_batch_api_says_so() -> None:
    """The price line and the journal name the Batch API."""
    match = prices(batch_api=True).matched("gpt-4o-mini")
    assert match is not None
    assert ", Batch API)" in match.line()
    assert match.facts()["processing"] == "batch"
