"""The governor of a pipeline on Ray: an actor with a name, which the workers of all nodes ask."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

import ray

from batchrun.errors import InputError
from batchrun.scale.governor import Asks, Governor, Leases

__all__ = ["SharedLimits", "join_governor"]

IDLE_S: Final = 60.0
"""Seconds without a question after which the actor ends: its pipeline has ended."""


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """The limits of all workers together; None for no limit.

    Attributes:
        budget_usd: US dollars.
    """

    requests_per_minute: float | None
    tokens_per_minute: float | None
    budget_usd: float | None


class _RayGovernor:
    """The actor. It ends by itself, since no worker of a pipeline knows that it is the last.

    Mutable state: the governor; `_asked_s`, when the last question came.
    """

    def __init__(self, limits: SharedLimits) -> None:
        self._limits = limits
        self._governor = Governor(**asdict(limits), spent_usd=0.0)
        self._asked_s = time.monotonic()
        itself = ray.get_runtime_context().current_actor
        threading.Thread(target=self._end_when_idle, args=(itself,), daemon=True).start()

    async def limits(self) -> SharedLimits:
        self._asked_s = time.monotonic()
        return self._limits

    async def answer(self, worker: str, asks: Asks) -> Leases:
        self._asked_s = time.monotonic()
        return self._governor.answer(worker, asks, self._asked_s)

    def _end_when_idle(self, itself: Any) -> None:
        while time.monotonic() - self._asked_s < IDLE_S:
            time.sleep(IDLE_S / 10)
        ray.kill(itself)


def join_governor(name: str, limits: SharedLimits) -> Any:
    """Return the governor of this name in this job of Ray, an actor; the first worker that asks starts it.

    Raises:
        InputError: it has other limits.
    """
    actor = (
        ray.remote(_RayGovernor)
        .options(
            name=f"{name} of job {ray.get_runtime_context().get_job_id()}",
            namespace="batchrun",
            get_if_exists=True,
            # Otherwise it would end with the worker that happened to start it.
            lifetime="detached",
            num_cpus=0,
            enable_task_events=False,
        )
        .remote(limits)
    )
    found = ray.get(actor.limits.remote())
    if found != limits:
        raise InputError(
            f"governor: {name!r} has other limits, {found}, than this step, {limits}; give one of the two another name"
        )
    return actor
