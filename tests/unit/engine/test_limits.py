"""Admission, requests, the shared cool-down and the stopwatch, in virtual time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine.durations import parse_reset, wait_in_words
from batchrun.engine.limits import Lease, Limits
from batchrun.engine.pacer import TRANSIT_SHARE, Pacers
from batchrun.engine.stopwatch import Stopwatch
from batchrun.errors import PermanentFault, RateLimited, Shortage
from batchrun.token_usage import Usage

SPACING = 1 / (1 - TRANSIT_SHARE)
"""Seconds between two requests at one a second: a little is kept back for their way to the service."""

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def now() -> float:
    return anyio.current_time()


async def run_rows(limits: Limits, rows: int, *, takes_s: float = 1.0, requests: int = 1) -> list[tuple[float, int]]:
    """Admit rows in order; each makes its requests, taking `takes_s` for each. Returns (loop time, row) of requests."""
    sent: list[tuple[float, int]] = []

    async def row(number: int, lease: Lease) -> None:
        with lease, lease.stopwatch.running():
            for _ in range(requests):
                await limits.request()
                sent.append((now(), number))
                await anyio.sleep(takes_s)

    async with anyio.create_task_group() as tasks:
        for number in range(rows):
            tasks.start_soon(row, number, await limits.admit(100))
    return sent


async def test_rows_are_admitted_in_order() -> None:
    """With slots, requests and tokens all scarce, rows still go in the order of the table."""
    limits = Limits(concurrency=3, rates=Pacers(requests_per_minute=120, tokens_per_minute=60_000))
    sent = await run_rows(limits, 30)
    assert [row for _, row in sent] == list(range(30))


async def test_slots_bound_what_is_in_flight() -> None:
    """Never more rows in flight than slots, and a slot that comes free is used at once."""
    limits = Limits(concurrency=4)
    sent = await run_rows(limits, 12)
    assert [at_s for at_s, _ in sent] == pytest.approx([n // 4 for n in range(12)], abs=1e-3)
    assert limits.statistics().in_use == 0


async def test_every_request_counts() -> None:
    """Polls and retries of a row pass the request limit like its first request: none goes round it."""
    limits = Limits(concurrency=50, rates=Pacers(requests_per_minute=60))
    sent = await run_rows(limits, 10, takes_s=0.0, requests=6)
    assert limits.requests == 60
    assert [at_s for at_s, _ in sent] == pytest.approx([n * SPACING for n in range(60)], abs=1e-3)


async def test_the_first_request_is_prepaid() -> None:
    """Admission holds the permit of a row's first request: a row in flight is a row that has been sent."""
    limits = Limits(rates=Pacers(requests_per_minute=1))
    with await limits.admit(10) as lease:
        await limits.request()
        assert now() == pytest.approx(0.0, abs=1e-3)
        with lease.stopwatch.running():
            await limits.request()
    assert now() == pytest.approx(60.0 * SPACING, abs=1e-3)


async def test_requests_outside_of_rows_are_limited_too() -> None:
    """What the batch itself sends, such as making its assistant, counts and waits as well."""
    limits = Limits(rates=Pacers(requests_per_minute=60))
    for _ in range(3):
        await limits.request()
    assert now() == pytest.approx(2.0 * SPACING, abs=1e-3)
    assert limits.requests == 3


async def test_a_cool_down_holds_everybody() -> None:
    """After a 429 neither new rows nor requests of rows in flight are sent before the cool-down ends."""
    limits = Limits(concurrency=10)
    sent_s: list[float] = []

    async def in_flight(lease: Lease) -> None:
        with lease, lease.stopwatch.running():
            await limits.request()
            await anyio.sleep(1)
            await limits.request()
            sent_s.append(now())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(in_flight, await limits.admit(1))
        await anyio.sleep(0.5)
        limits.cool_down(20.0)
        with await limits.admit(1):
            assert now() == pytest.approx(20.5, abs=1e-3)
    assert sent_s == pytest.approx([20.5] * 3, abs=1e-3)


async def test_the_longer_cool_down_applies() -> None:
    """A later and shorter cool-down does not shorten the one that runs; a longer one prolongs it."""
    limits = Limits()
    limits.cool_down(10.0)
    limits.cool_down(2.0)
    assert limits.statistics().cool_down_s == pytest.approx(10.0)
    limits.cool_down(30.0)
    (await limits.admit(1)).__exit__(None, None, None)
    assert now() == pytest.approx(30.0, abs=1e-3)


@pytest.mark.parametrize("asked_s", [86_400.0, float("inf")])
async def test_no_cool_down_lasts_for_ever(asked_s: float) -> None:
    """A service that asks for a day, or for eternity, is asked again after ten minutes."""
    limits = Limits()
    limits.cool_down(asked_s)
    (await limits.admit(1)).__exit__(None, None, None)
    assert now() == pytest.approx(600.0, abs=1e-3)


async def test_a_cool_down_saves_up_no_requests() -> None:
    """Requests that wait while nobody may send do not go all at once afterwards: the allowance holds then too."""
    limits = Limits(concurrency=100, rates=Pacers(requests_per_minute=60))
    sent_s: list[float] = []

    async def row(lease: Lease) -> None:
        with lease, lease.stopwatch.running():
            await limits.request()
            await anyio.sleep(30.0)
            await limits.request()
            sent_s.append(now())

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(row, await limits.admit(1))
        limits.cool_down(60.0)
    assert sent_s[0] == pytest.approx(79.0, abs=1.1)
    assert [later - earlier for earlier, later in pairwise(sent_s)] == pytest.approx([SPACING] * 19, abs=1e-3)


async def test_waits_for_limits_do_not_count_against_the_row() -> None:
    """A row's time runs while it works, not while it waits for a permit or a cool-down."""
    limits = Limits(concurrency=2, rates=Pacers(requests_per_minute=1), row_timeout_s=10.0)
    lease = await limits.admit(1)
    with lease, lease.stopwatch.running() as scope:
        await limits.request()
        await anyio.sleep(4)
        await limits.request()
        limits.cool_down(100)
        await limits.request()
        await anyio.sleep(5)
    assert not scope.cancelled_caught
    assert lease.stopwatch.elapsed_s == pytest.approx(9.0, abs=1e-3)
    assert now() > 100


async def test_a_request_after_the_rows_time_is_limited_like_any() -> None:
    """A row whose time is over may still send, such as the cancelling of its run, within the limits."""
    limits = Limits(rates=Pacers(requests_per_minute=60), row_timeout_s=1.0)
    lease = await limits.admit(1)
    with lease:
        with lease.stopwatch.running() as scope:
            await limits.request()
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        limits.cool_down(5.0)
        await limits.request()
    assert now() == pytest.approx(6.0, abs=1e-3)


async def test_only_answers_grow_the_slots() -> None:
    """A row that failed proves nothing about what the service can take."""
    limits = Limits()
    leases = [await limits.admit(1) for _ in range(20)]
    await anyio.sleep(1)
    for lease in leases:
        limits.failed(lease, PermanentFault("x", error_type="x"))
    assert limits.statistics().capacity == 20
    for lease in leases:
        assert await limits.next_attempt(lease)
    await anyio.sleep(1)
    for lease in leases:
        limits.answered(lease)
    assert limits.statistics().capacity == 40


async def test_a_refusal_cuts_the_slots_once() -> None:
    """Twenty 429s to requests that were sent together cut the slots once, to 15."""
    limits = Limits()
    leases = [await limits.admit(1) for _ in range(20)]
    for lease in leases:
        lease.sent_at_s = now()
    await anyio.sleep(1)
    for lease in leases:
        limits.failed(lease, RateLimited("x", error_type="x"))
        await anyio.sleep(0.01)
    assert limits.statistics().capacity == 15


async def test_who_tries_again_waits_in_the_same_line() -> None:
    """After a cut no more rows are at the service than there are slots, whoever is in flight; nobody is forgotten."""
    limits = Limits(concurrency=6)
    abreast: list[int] = []
    at_service = 0

    async def row(lease: Lease) -> None:
        nonlocal at_service
        with lease:
            for _ in range(3):
                assert await limits.next_attempt(lease)
                at_service += 1
                abreast.append(at_service)
                await anyio.sleep(1)
                at_service -= 1
                limits.failed(lease, Shortage("x", error_type="x"))

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(row, await limits.admit(1))
    assert len(abreast) == 18
    assert max(abreast[6:]) <= 5
    assert limits.statistics().in_use == 0


async def test_nobody_waits_in_a_closed_line() -> None:
    """When the batch stops, rows that wait for another attempt end their wait."""
    limits = Limits(concurrency=1)
    lease = await limits.admit(1)
    limits.failed(lease, RateLimited("x", error_type="x", retry_after_s=500))
    told: list[bool] = []

    async def wait() -> None:
        told.append(await limits.next_attempt(lease))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(1)
        limits.close()
    assert told == [False]
    assert now() == pytest.approx(1.0, abs=1e-3)


async def test_reservations_are_trued_up() -> None:
    """Tokens are reserved by the estimate and corrected by what was used, so that the next row waits for the truth."""
    limits = Limits(rates=Pacers(tokens_per_minute=6_000), max_completion_tokens=1_000)
    lease = await limits.admit(0)
    assert lease.reserved_tokens == 1_000
    before_s = now()
    lease.settle(Usage(0, 3_000, 3_000))
    second = await limits.admit(0)
    waited_s = now() - before_s
    assert second.reserved_tokens == pytest.approx(3_500 / 1.5)
    # 2,000 tokens more than reserved, and the second row's own, at what is drained of 6,000 a minute.
    assert waited_s == pytest.approx((2_000 + second.reserved_tokens) * 60 / (5_982 - 30 - 120), abs=0.7)


async def test_instructions_are_reserved_too() -> None:
    """The characters that every request has beside its prompt count, at first with a quarter token each."""
    limits = Limits(rates=Pacers(tokens_per_minute=6_000), max_completion_tokens=100, fixed_chars=400)
    assert (await limits.admit(40)).reserved_tokens == pytest.approx(100 + 440 / 4)


async def test_says_what_the_next_row_waits_for() -> None:
    """The statistics name the limit that holds the next row back, and nothing when none does."""
    seen = []

    async def look(limits: Limits) -> None:
        async with anyio.create_task_group() as tasks:

            async def admit() -> None:
                with await limits.admit(100):
                    pass

            tasks.start_soon(admit)
            await anyio.wait_all_tasks_blocked()
            seen.append(limits.statistics().waiting_for)
            tasks.cancel_scope.cancel()
        assert limits.statistics().waiting_for is None

    every: list[tuple[dict[str, Any], bool]] = [
        ({"concurrency": 1}, True),
        ({"rates": Pacers(requests_per_minute=1)}, True),
        ({"rates": Pacers(tokens_per_minute=10)}, False),
        ({}, False),
    ]
    for options, first in every:
        limits = Limits(**options)
        if first:
            await limits.admit(0)
        if not options:
            limits.cool_down(1)
        await look(limits)
    assert seen == ["slots", "requests", "tokens", "cool-down"]


async def test_limits_are_learnt_from_headers() -> None:
    """The x-ratelimit-limit-* that two replies carry is kept to from then on."""
    limits = Limits()
    reported = {"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000"}
    limits.observe(reported)
    assert limits.statistics().max_requests_per_minute is None
    limits.observe({})
    limits.observe(reported)
    statistics = limits.statistics()
    assert (statistics.max_requests_per_minute, statistics.max_tokens_per_minute) == (500, 30_000)
    limits.observe({"x-ratelimit-limit-requests": "900"})
    assert limits.statistics().max_requests_per_minute == 500


async def test_a_single_odd_limit_slows_nothing_down() -> None:
    """A limit that one reply reports is not adopted: not without a second one, and not below that of the second one."""
    limits = Limits()
    limits.observe({"x-ratelimit-limit-requests": "1", "x-ratelimit-limit-tokens": "1"})
    limits.observe({"x-ratelimit-limit-requests": "500"})
    statistics = limits.statistics()
    assert (statistics.max_requests_per_minute, statistics.max_tokens_per_minute) == (500, None)


async def test_the_users_limit_applies() -> None:
    """--rpm is not raised by what a service says it would take."""
    limits = Limits(rates=Pacers(requests_per_minute=60))
    limits.observe({"x-ratelimit-limit-requests": "10000"})
    assert limits.statistics().max_requests_per_minute == 60


@pytest.mark.parametrize("odd", ["-1", "0", "", "lots", "nan", "inf", "1e999"])
async def test_odd_headers_are_ignored(odd: str) -> None:
    """-1 and 0, which Azure has sent, and anything that is not a number set no limit and break nothing."""
    limits = Limits()
    limits.observe({"x-ratelimit-limit-requests": odd, "x-ratelimit-limit-tokens": odd})
    statistics = limits.statistics()
    assert (statistics.max_requests_per_minute, statistics.max_tokens_per_minute) == (None, None)


async def test_nothing_remaining_means_waiting_for_the_reset() -> None:
    """A reply that says no request is left holds everybody until the reset, for a minute at most."""
    for reset, expected_s in (("6s", 6.0), ("2m0s", 60.0)):
        limits = Limits()
        headers = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "0"}
        limits.observe({**headers, "x-ratelimit-reset-requests": reset})
        assert limits.statistics().cool_down_s == pytest.approx(expected_s)


async def test_a_cool_down_is_reported_once() -> None:
    """Rows that are refused together are one cool-down; a longer one and a later one are reported again."""
    told: list[tuple[float, float, str]] = []
    limits = Limits(on_cool_down=lambda wait_s, reason: told.append((round(anyio.current_time(), 3), wait_s, reason)))
    for extra_s in (0.0, 0.3, 0.6, 0.2):
        limits.cool_down(20.0 + extra_s)
    limits.cool_down(0.0)
    limits.cool_down(30.0, "overloaded")
    began_s = round(anyio.current_time(), 3)
    await anyio.sleep(40)
    limits.observe(
        {
            "x-ratelimit-limit-tokens": "100",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "500ms",
        }
    )
    assert [(round(at_s - began_s), wait_s, reason) for at_s, wait_s, reason in told] == [
        (0, 20.0, "rate_limit_exceeded"),
        (0, 30.0, "overloaded"),
        (40, 0.5, "no tokens left"),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("1d2h", 93_600), ("1h2m3.5s", 3_723.5), ("1m20ms", 60.02),
        ("0", 0), ("2.5", 2.5), ("", None), (None, None), ("soon", None), ("-1", None), ("nan", None), ("inf", None),
        ("s", None), ("1s1m", None),
    ],
)  # fmt: skip
async def test_resets(text: str | None, seconds: float | None) -> None:
    """Durations as services write them are understood, and everything else is None."""
    parsed = parse_reset(text)
    assert parsed == (pytest.approx(seconds) if seconds is not None else None)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached for m. Please try again in 6m0s. Visit https://x/1m.", 360),
        ("Please try again in 1m12s", 72), ("try again in 2h3m", 7_380), ("Please try again in 20ms.", 0.02),
        ("please try again in 1.5s", 1.5), ("Retry after 45 seconds.", 45), ("Please retry in 12 seconds", 12),
        ("Please wait 2 minutes and 5 seconds before retrying", 125), ("retry-after: 3 s", 3),
        ("Please retry after 1 hour, 2 minutes", 3_720), ("Please retry in 53.2s.", 53.2), ("try again in 1 day", 86_400),
        ("Your limit resets in 3 hours", 10_800), ("Expected to be available in 10 seconds.", 10),
        ("Please try again in an hour", 3_600), ("wait a minute and 5 s", 65), ("wait for a free slot", None),
        ("Limit 20 in 60 s", None), ("try again later", None), ("try again in 5 apples", None), ("", None),
        ("Try again. Error 429 s", None),
    ],
)  # fmt: skip
async def test_waits_in_words(message: str, seconds: float | None) -> None:
    """A message that names a time to wait is understood; one that only has numbers is not."""
    assert wait_in_words(message) == (pytest.approx(seconds) if seconds is not None else None)


@given(st.text(alphabet="0123456789dhms.-einfa ", max_size=12))
def test_any_reset_is_a_number_or_none(text: str) -> None:
    """No header text makes the parser raise or answer with a negative or endless time."""
    parsed = parse_reset(text)
    assert parsed is None or 0 <= parsed < float("inf")


async def test_stopwatch_ends_a_row_at_its_limit() -> None:
    """Laps add up: the time of an attempt is missing for the next one."""
    watch = Stopwatch(10.0)
    with watch.running() as first:
        await anyio.sleep(6)
    await anyio.sleep(1_000)
    with watch.running() as second:
        await anyio.sleep(60)
    assert (first.cancelled_caught, second.cancelled_caught) == (False, True)
    assert watch.elapsed_s == pytest.approx(10.0, abs=1e-3)
    with watch.running() as third:
        await anyio.sleep(0.001)
    assert third.cancelled_caught


async def test_stopwatch_pauses() -> None:
    """A pause may be longer than the limit, and ends nothing."""
    watch = Stopwatch(1.0)
    with watch.running() as scope:
        await anyio.sleep(0.5)
        with watch.paused():
            await anyio.sleep(100)
        await anyio.sleep(0.4)
    assert not scope.cancelled_caught
    assert watch.elapsed_s == pytest.approx(0.9, abs=1e-3)
