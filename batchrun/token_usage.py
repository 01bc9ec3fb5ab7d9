"""Usage: the tokens of a run as a service counted them, and sums of several runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["MODEL_OF_RUN", "PROCESSING_OF_RUN", "Usage", "sum_usage", "usage_by_batch_api", "usage_of_model"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a run as the service counted them. None means unknown, never 0.

    Attributes:
        prompt_tokens: tokens read, including cached ones.
        completion_tokens: tokens written, including reasoning.
        raw: the service's own usage object, kept so that costs can be recalculated.

    Examples:
        >>> import batchrun
        >>> ended = []
        >>> answers = batchrun.run(["7 * 6"], model="tutor", on_outcome=ended.append)
        >>> ended[0].usage.prompt_tokens, ended[0].usage.completion_tokens
        (6, 3)
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: Mapping[str, Any] | None = None

    @property
    def is_known(self) -> bool:
        """Whether the service reported tokens."""
        return self.prompt_tokens is not None and self.completion_tokens is not None


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """Return the usage of several runs of one row. A count that is unknown for all runs stays None; `raw` lists all."""
    if len(usages) == 1:
        return usages[0]
    raws = [usage.raw for usage in usages if usage.raw is not None]
    return Usage(
        prompt_tokens=_sum(usage.prompt_tokens for usage in usages),
        completion_tokens=_sum(usage.completion_tokens for usage in usages),
        total_tokens=_sum(usage.total_tokens for usage in usages),
        cached_tokens=_sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=_sum(usage.reasoning_tokens for usage in usages),
        raw={"runs": raws} if len(raws) > 1 else (raws[0] if raws else None),
    )


MODEL_OF_RUN = "batchrun_model"
"""Key in the usage object of a run of another model than that of its row: the model whose prices it has."""


PROCESSING_OF_RUN = "batchrun_processing"
"""Key in the usage object of a run that was not an ordinary request: `batch` for the Batch API and its prices."""


def usage_by_batch_api(usage: Usage) -> Usage:
    """Return the usage of a run that the Batch API has made, so that it has the prices of that.

    >>> usage_by_batch_api(Usage(raw={"prompt_tokens": 6})).raw
    {'batchrun_processing': 'batch', 'prompt_tokens': 6}
    """
    if usage.raw is None:
        return usage
    return Usage(  # `dataclasses.replace` takes three times as long
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        {PROCESSING_OF_RUN: "batch", **usage.raw},
    )


def usage_of_model(usage: Usage, model: str | None) -> Usage:
    """Return usage whose runs have the prices of a model, also in the sum with runs of another one.

    >>> usage_of_model(Usage(raw={"prompt_tokens": 6}), "m-1").raw
    {'batchrun_model': 'm-1', 'prompt_tokens': 6}
    """
    if usage.raw is None or model is None:
        return usage
    runs = usage.raw.get("runs")
    if isinstance(runs, list):
        return replace(usage, raw={"runs": [usage_of_model(Usage(raw=run), model).raw for run in runs]})
    return replace(usage, raw={MODEL_OF_RUN: model, **usage.raw})


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    total = sum(known)
    return total if known and total < 2**63 else None  # the journal cannot store larger integers
