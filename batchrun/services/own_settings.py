"""The settings of a request: those of the batch, or of the row where it has its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from batchrun.job.options import Job
from batchrun.records import Attempt, Exchange, JsonObject, RowSettings

__all__ = ["RequestSettings", "job_of_row", "metadata_of"]


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """The settings that every protocol has.

    Attributes:
        parameters: temperature and the like, under the API's names.
        of_row: returns the settings of a row that has some of its own; None if no row has.
    """

    model: str | None
    instructions: str | None
    parameters: JsonObject = field(default_factory=dict, kw_only=True)
    of_row: Callable[[RowSettings], Self] | None = field(default=None, kw_only=True)

    def for_row(self, own: RowSettings | None) -> Self:
        """Return the settings of a request.

        Args:
            own: those that only its row has; None if it has those of the batch.
        """
        if own is None:
            return self
        assert self.of_row is not None
        return self.of_row(own)


def job_of_row(job: Job, own: RowSettings) -> Job:
    """Return a job with the settings that a row has of its own."""
    return replace(
        job,
        model=job.model if own.model is None else own.model,
        instructions=job.instructions if own.instructions is None else own.instructions,
        param=job.param if own.param is None else dict(own.param),
    )


def metadata_of(own: Mapping[str, str], exchange: Exchange, attempt: Attempt) -> dict[str, str]:
    """Return the metadata of what a request creates: those of the settings, the row and the number of its run."""
    # The API allows 512 characters per value.
    return {**own, "row": exchange.row_key[:512], "attempt": str(attempt.generation)}
