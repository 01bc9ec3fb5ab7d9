from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.server import ManualClock
from batchrun.server.errors import ApiError
from batchrun.server.execution.rate_limits import RateLimits


def test_requests_of_a_minute_are_admitted_then_refused() -> None:
    """The requests of a minute pass at once. The next one gets the time to wait, and passes after it."""
    clock = ManualClock()
    limits = RateLimits(60, None, clock)
    remaining = [limits.admit("a")["x-ratelimit-remaining-requests"] for _ in range(60)]
    assert remaining == [str(59 - number) for number in range(60)]
    with pytest.raises(ApiError) as caught:
        limits.admit("a")
    assert caught.value.status == 429
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.message == "You've exceeded the rate limit, please slow down and try again later."
    assert caught.value.headers["retry-after-ms"] == "1000"
    clock.advance(1)
    limits.admit("a")


def test_owners_have_accounts_of_their_own() -> None:
    """Requests of one key do not count for another key."""
    limits = RateLimits(1, None, ManualClock())
    limits.admit("a")
    limits.admit("b")
    with pytest.raises(ApiError):
        limits.admit("a")


def test_tokens_are_charged_after_the_answer() -> None:
    """An answer may exceed the limit; the next request waits until its tokens are available again."""
    clock = ManualClock()
    limits = RateLimits(None, 600, clock)
    limits.admit("a")
    limits.charge("a", 1200)
    with pytest.raises(ApiError) as caught:
        limits.admit("a")
    assert caught.value.type == "tokens"
    clock.advance(60.05)
    with pytest.raises(ApiError):
        limits.admit("a")
    clock.advance(0.1)
    assert limits.admit("a")["x-ratelimit-limit-tokens"] == "600"


def test_without_limits_there_are_no_headers() -> None:
    """A server without limits sends no x-ratelimit headers."""
    assert RateLimits(None, None, ManualClock()).admit("a") == {}


@settings(deadline=None)
@given(st.lists(st.floats(-5, 30), max_size=60), st.integers(1, 120))
def test_never_more_than_the_limit_and_a_bucket(steps: list[float], limit: int) -> None:
    """Over any time at most one bucket plus the limit's rate is admitted, even if the clock is set back."""
    clock = ManualClock()
    limits, admitted, forward = RateLimits(limit, None, clock), 0, 0.0
    for step in steps:
        clock.advance(step)
        forward += max(0.0, step)
        try:
            limits.admit("a")
        except ApiError:
            continue
        admitted += 1
    assert admitted <= limit + forward * limit / 60 + 1e-6
