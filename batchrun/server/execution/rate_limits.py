"""The server's own rate limits: requests and tokens a minute, for each key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError

if TYPE_CHECKING:
    from batchrun.server.clock import Clock

__all__ = ["Bucket", "RateLimits"]


@dataclass(slots=True)
class Bucket:
    """A token bucket that holds one minute's worth and fills evenly.

    Mutable state: `level` and the time it was true at.

    Attributes:
        per_minute: what flows in during a minute, and the most it holds.
        level: what is in it; below 0 after a charge that was larger than what was there.
        at: seconds, by the clock.
    """

    per_minute: int
    level: float
    at: float

    def fill(self, now: float) -> None:
        """Bring the level up to `now`. A clock set back fills nothing and empties nothing."""
        elapsed = max(0.0, now - self.at)
        self.level = min(float(self.per_minute), self.level + elapsed * self.per_minute / 60)
        self.at = now

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` is there; 0 where it is."""
        return max(0.0, (amount - self.level) * 60 / self.per_minute)


class RateLimits:
    """Admits requests of each owner within `requests_per_minute` and `tokens_per_minute`.

    A request costs one request when it comes. Tokens are charged when an answer is finished, as many as it
    used: while the account is overdrawn, further requests are refused until it is level again.

    Mutable state: two buckets for each owner that has asked.
    """

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None, clock: Clock) -> None:
        self._limits = {"requests": requests_per_minute, "tokens": tokens_per_minute}
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def _bucket(self, owner: str, kind: str) -> Bucket | None:
        limit = self._limits[kind]
        if limit is None:
            return None
        bucket = self._buckets.get((owner, kind))
        if bucket is None:
            bucket = self._buckets[owner, kind] = Bucket(limit, float(limit), self._clock.now())
        bucket.fill(self._clock.now())
        return bucket

    def admit(self, owner: str) -> dict[str, str]:
        """Take one request from the account; returns the `x-ratelimit-*` headers of the reply.

        Raises:
            ApiError: 429 with `retry-after`, in whole seconds, and `retry-after-ms`.
        """
        requests, tokens = self._bucket(owner, "requests"), self._bucket(owner, "tokens")
        waits = {
            "requests": requests.wait_s(1) if requests is not None else 0.0,
            "tokens": tokens.wait_s(1) if tokens is not None else 0.0,
        }
        kind = max(waits, key=lambda each: waits[each])
        if waits[kind] > 0:
            raise ApiError(
                429, "You've exceeded the rate limit, please slow down and try again later.",
                type=kind, code="rate_limit_exceeded",
                headers={
                    "retry-after": str(math.ceil(waits[kind])),
                    "retry-after-ms": str(math.ceil(waits[kind] * 1000)),
                    **_headers(requests, tokens),
                },
            )  # fmt: skip
        if requests is not None:
            requests.level -= 1
        return _headers(requests, tokens)

    def charge(self, owner: str, tokens: int) -> None:
        """Take the tokens of a finished answer from the account."""
        bucket = self._bucket(owner, "tokens")
        if bucket is not None:
            bucket.level -= tokens


def _headers(requests: Bucket | None, tokens: Bucket | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    for kind, bucket in (("requests", requests), ("tokens", tokens)):
        if bucket is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(bucket.per_minute)
            headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(bucket.level)))
            headers[f"x-ratelimit-reset-{kind}"] = f"{bucket.wait_s(bucket.per_minute):.3f}s"
    return headers
