"""The server's own rate limits: requests and tokens per minute, for each key."""

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
    """A token bucket that holds the amount of one minute and fills evenly.

    Mutable state: `level`, and the time of its last update.

    Attributes:
        per_minute: amount that is added per minute, and the capacity.
        level: current amount; below 0 after a charge that exceeded it.
        at: time of the last update, in seconds of the clock.
    """

    per_minute: int
    level: float
    at: float

    def fill(self, now: float) -> None:
        """Update the level to the time `now`. A clock that was set back changes nothing."""
        elapsed = max(0.0, now - self.at)
        self.level = min(float(self.per_minute), self.level + elapsed * self.per_minute / 60)
        self.at = now

    def wait_s(self, amount: float) -> float:
        """Return the seconds until `amount` is available; 0 if it is already."""
        return max(0.0, (amount - self.level) * 60 / self.per_minute)


class RateLimits:
    """Admits requests of each owner within `requests_per_minute` and `tokens_per_minute`.

    A request is charged when it arrives. The tokens of an answer are charged when it is finished. While a bucket is
    overdrawn, further requests are refused.

    Mutable state: two buckets for each owner that has sent requests.
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
        """Charge one request and return the `x-ratelimit-*` headers of its reply.

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
                429,
                "You've exceeded the rate limit, please slow down and try again later.",
                type=kind,
                code="rate_limit_exceeded",
                headers={
                    "retry-after": str(math.ceil(waits[kind])),
                    "retry-after-ms": str(math.ceil(waits[kind] * 1000)),
                    **_headers(requests, tokens),
                },
            )
        if requests is not None:
            requests.level -= 1
        return _headers(requests, tokens)

    def charge(self, owner: str, tokens: int) -> None:
        """Charge the tokens of a finished answer."""
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
