"""The settings of a request: those of the batch, or of the row where it has its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

from batchrun.job.options import Job
from batchrun.records import JsonObject, RowSettings

__all__ = ["RequestSettings", "job_of_row"]


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
