"""Planned faults, for rehearsals of a batch. A plan is a TOML file; draws from it are pure functions."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import anyio
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from batchrun.server.protocol.bodies import Body
from batchrun.server.responders.base import Conversation, Finish, Part, Responder, ResponderError, TextDelta
from batchrun.server.responders.settings_file import Settings, read_toml, validated

__all__ = ["Fault", "FaultKind", "FaultPlan", "FaultyResponder"]

FaultKind: TypeAlias = Literal["http_429", "http_500", "html", "drop", "stall", "slow_start", "run_failed"]

_HTTP_KINDS: frozenset[FaultKind] = frozenset({"http_429", "http_500", "html", "drop"})
_DELAYS: frozenset[FaultKind] = frozenset({"stall", "slow_start"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to inject.

    Attributes:
        kind: faults of requests are `http_429`, `http_500`, `html` (a 502 with an HTML body) and `drop` (the
            connection closes in the middle of a stream). Faults of runs are `stall` (silence in the middle),
            `slow_start` (silence before the first piece) and `run_failed`.
        after_deltas: pieces of text to send before `drop`, `stall` and `run_failed`. An answer with fewer pieces
            gets the fault at its end.
        delay_s: seconds of silence for `stall` and `slow_start`.
        retry_after_s: seconds in the Retry-After header of `http_429`; None for no header.
        code: error code of `run_failed`.
        message: error text of `http_429`, `http_500` and `run_failed`.
    """

    kind: FaultKind
    after_deltas: int = 0
    delay_s: float = 0.0
    retry_after_s: float | None = None
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"] = "server_error"
    message: str = "A planned fault."


class _Entry(Settings):
    """One `[[fault]]` of the file: a fault, and the requests or runs that get it."""

    kind: FaultKind
    rate: Annotated[float, Field(gt=0, le=1)] | None = None
    rows: list[str] | None = None
    attempts: PositiveInt | None = None
    after_deltas: NonNegativeInt = 0
    delay_s: Annotated[float, Field(gt=0)] | None = None
    retry_after_s: NonNegativeFloat | None = None
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"] = "server_error"
    message: str = "A planned fault."

    @model_validator(mode="after")
    def _is_whole_number(self) -> _Entry:
        if (self.rate is None) == (self.rows is None):
            raise ValueError("give either 'rate' (share of requests, 0 to 1) or 'rows' (a list of row numbers)")
        if (self.delay_s is not None) != (self.kind in _DELAYS):
            raise ValueError("'delay_s' (seconds) is required, and allowed, only for the kinds stall and slow_start")
        if self.after_deltas and self.kind not in ("drop", "stall", "run_failed"):
            raise ValueError("'after_deltas' is allowed only for the kinds drop, stall and run_failed")
        if self.retry_after_s is not None and self.kind != "http_429":
            raise ValueError("'retry_after_s' is allowed only for the kind http_429")
        if "code" in self.model_fields_set and self.kind != "run_failed":
            raise ValueError("'code' is allowed only for the kind run_failed")
        return self

    def fault(self) -> Fault:
        return Fault(
            self.kind,
            after_deltas=self.after_deltas,
            delay_s=self.delay_s or 0.0,
            retry_after_s=self.retry_after_s,
            code=self.code,
            message=self.message,
        )


class _Plan(Settings):
    seed: int = 0
    row_key: str = "row"
    attempt_key: str = "attempt"
    fault: list[Body] = Field(min_length=1)


class FaultPlan:
    """A plan of faults for requests and runs. It is immutable; every draw is a function of its arguments.

    A draw by rate hashes the seed with the row and the attempt if the run's metadata names both, so that a plan
    selects the same rows in any order; otherwise with the sequence number. The first entry of the file that applies
    is used.
    """

    def __init__(self, plan: _Plan, entries: Sequence[_Entry]) -> None:
        self._plan = plan
        self._entries = entries

    @classmethod
    def load(cls, path: str | Path) -> FaultPlan:
        """Read a plan from a TOML file; docs/guides/rehearsal.md describes it.

        Raises:
            SettingsFileError: the file cannot be used; the message names file, entry and key.
        """
        path = Path(path)
        plan = validated(_Plan, read_toml(path), path, "")
        entries = [validated(_Entry, data, path, f"fault {n}") for n, data in enumerate(plan.fault, 1)]
        return cls(plan, entries)

    def draw(self, kind_of_request: Literal["http", "run"], metadata: Mapping[str, str], sequence: int) -> Fault | None:
        """Return the fault of this request or run, or None.

        Args:
            metadata: metadata of the run; empty if the request has none.
            sequence: number of the request or run since the server started, from 0.
        """
        row, attempt = metadata.get(self._plan.row_key), metadata.get(self._plan.attempt_key)
        occasion = f"{row}/{attempt}" if row is not None and attempt is not None else f"#{sequence}"
        for number, entry in enumerate(self._entries):
            if (entry.kind in _HTTP_KINDS) != (kind_of_request == "http"):
                continue
            if entry.attempts is not None and (_whole_number(attempt) or 1) > entry.attempts:
                continue
            if entry.rows is not None:
                hit = row in entry.rows
            else:
                hit = _fraction(f"{self._plan.seed}/{number}/{occasion}") < (entry.rate or 0)
            if hit:
                return entry.fault()
        return None

    def draw_http(self, metadata: Mapping[str, str], sequence: int, hits: int = 0) -> Fault | None:
        """Return the fault of a request: http_429, http_500, html or drop; None for no fault.

        Args:
            hits: number of earlier faults of this row and attempt. A client that repeats a refused request sends the
                same metadata; each repetition counts as another attempt.
        """
        attempt = _whole_number(metadata.get(self._plan.attempt_key))
        if hits and attempt is not None:
            metadata = {**metadata, self._plan.attempt_key: str(attempt + hits)}
        return self.draw("http", metadata, sequence)

    def occasion(self, metadata: Mapping[str, str]) -> tuple[str, str] | None:
        """Return (row, attempt) from the metadata; None if it does not name both."""
        row, attempt = metadata.get(self._plan.row_key), metadata.get(self._plan.attempt_key)
        return None if row is None or attempt is None else (row, attempt)

    def draw_run(self, metadata: Mapping[str, str], sequence: int) -> Fault | None:
        """Return the fault of a run: stall, slow_start or run_failed; None for no fault."""
        return self.draw("run", metadata, sequence)


class FaultyResponder:
    """Another responder, whose answers get the plan's faults `stall`, `slow_start` and `run_failed`.

    Mutable state: the number of answers so far.
    """

    def __init__(self, responder: Responder, plan: FaultPlan) -> None:
        self.name = responder.name
        self.models = responder.models
        self.own_model = getattr(responder, "own_model", None)
        self.batch_faults = getattr(responder, "batch_faults", None)
        self.embed = getattr(responder, "embed", None)
        self._responder = responder
        self._plan = plan
        self._sequence = itertools.count()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        """Yield the other responder's parts, with the drawn fault; see `Responder.respond`.

        Raises:
            ResponderError: the planned error, or one of the other responder.
        """
        fault = self._plan.draw_run(conversation.metadata, next(self._sequence))
        if fault is not None and fault.kind == "slow_start":
            await anyio.sleep(fault.delay_s)
            fault = None
        deltas = 0
        parts = self._responder.respond(conversation)
        try:
            async for part in parts:
                if fault is not None and (deltas == fault.after_deltas or isinstance(part, Finish)):
                    await _inject(fault)
                    fault = None
                deltas += isinstance(part, TextDelta)
                yield part
        finally:
            # A generator that is not exhausted would hold its connection until it is garbage-collected.
            if isinstance(parts, AsyncGenerator):
                await parts.aclose()

    async def aclose(self) -> None:
        """Close the other responder."""
        await self._responder.aclose()


async def _inject(fault: Fault) -> None:
    if fault.kind == "stall":
        await anyio.sleep(fault.delay_s)
    else:
        status = {"rate_limit_exceeded": 429, "invalid_prompt": 400}.get(fault.code, 500)
        raise ResponderError(fault.message, code=fault.code, status_code=status)


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _fraction(text: str) -> float:
    """Return a number in [0, 1) that depends only on the text: the same on every machine and Python."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48
