"""The governor of a batch: it shares the rate limits and the budget among the workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from batchrun.engine.pacer import TOKEN_CREDIT_SHARE
from batchrun.engine.rate import Unit
from batchrun.scale.dollar_governor import DollarAnswer, DollarGovernor, DollarReport
from batchrun.scale.rate_governor import RateAsk, RateGovernor, RateLease, places_of

__all__ = ["Asks", "Governor", "Leases"]


@dataclass(frozen=True, slots=True)
class Asks:
    """What a worker asks of the governor.

    Attributes:
        money: None without a budget.
        held_s: seconds for which the service has asked this worker to wait, since its last report; 0 for none.
    """

    rates: Mapping[Unit, RateAsk]
    money: DollarReport | None
    held_s: float


@dataclass(frozen=True, slots=True)
class Leases:
    """The governor's answer.

    Attributes:
        money: None without a budget.
    """

    rates: Mapping[Unit, RateLease]
    money: DollarAnswer | None

    @property
    def held_s(self) -> float:
        """Seconds for which nobody may send."""
        return max(lease.held_s for lease in self.rates.values())


class Governor:
    """Shares the limits of one batch.

    Attributes:
        dollars: None without a budget.

    Mutable state: the governors of requests, tokens and dollars.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        budget_usd: float | None,
        spent_usd: float,
        unknown_usd: float = 0.0,
        announces: bool = False,
    ) -> None:
        """
        Args:
            requests_per_minute, tokens_per_minute: None for no limit, until a reply reports one.
            budget_usd: US dollars that the batch may cost; None for no budget.
            spent_usd: cost of its earlier runs.
            unknown_usd: what their requests may have cost besides.
            announces: dollars are lent up to a ceiling only: see `DollarGovernor`.
        """
        self._limits = {"--rpm": requests_per_minute, "--tpm": tokens_per_minute}
        self._rates: dict[Unit, RateGovernor] = {
            "requests": RateGovernor(requests_per_minute),
            "tokens": RateGovernor(tokens_per_minute, credit_share=TOKEN_CREDIT_SHARE),
        }
        self.dollars = (
            None
            if budget_usd is None
            else DollarGovernor(budget_usd, spent_usd, unknown_usd=unknown_usd, announces=announces)
        )

    def notices(self, workers: int) -> Iterator[str]:
        """Yield a line for people about each limit that is too low for so many workers."""
        for option, limit in self._limits.items():
            if limit is not None and (places := places_of(limit)) < workers:
                yield (
                    f"{option} {limit:g} is too low for {workers} workers: at most {places} can send at a time; another"
                    " one begins when one of these has nothing left to do"
                )

    def answer(self, worker: str, asks: Asks, now_s: float) -> Leases:
        """Return what a worker may use.

        Args:
            worker: its name. No other worker may ever have the same.
            now_s: on a clock that does not run backwards.
        """
        if asks.held_s > 0:
            self._rates["requests"].hold(asks.held_s, now_s)
        rates = {unit: self._rates[unit].lease(worker, ask, now_s) for unit, ask in asks.rates.items()}
        money = None
        if self.dollars is not None and asks.money is not None:
            money = self.dollars.reported(worker, asks.money)
        return Leases(rates, money)

    def buried(self, worker: str, spent_usd: float, unknown_usd: float, *, is_whole: bool) -> float:
        """Take back the money of a worker that has ended: see `DollarGovernor.buried`."""
        return 0.0 if self.dollars is None else self.dollars.buried(worker, spent_usd, unknown_usd, is_whole=is_whole)
