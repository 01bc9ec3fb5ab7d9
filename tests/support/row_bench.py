"""A batch of rows over one journal and a scripted service, run any number of times in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.batch.work import remaining_task, with_finished_runs, with_first_end
from batchrun.engine import Budget, DialogueSettings, Engine, FixedPurse, Limits, RetryPolicy, RowTask, Stop
from batchrun.engine.pacer import Pacers
from batchrun.errors import (
    ServerFault,
    ServiceFault,
    unwrapped,
)
from batchrun.journal import Journal
from batchrun.records import EMPTY_ANSWER, Outcome, Prompt, Reply, Row, ToolCall, ToolOutput
from batchrun.token_usage import Usage
from tests.support.ends import asking
from tests.support.engine_bench import engine_for
from tests.support.rows import prompter
from tests.support.scripted_service import Asked, Move, ScriptedService, answered

__all__ = [
    "NEVER",
    "ONE",
    "TOKENS",
    "TWO",
    "BatchRun",
    "RowBench",
    "Toolbox",
    "asks",
    "each_way_to_call",
    "faults",
    "row",
    "said",
    "says",
    "says_nothing",
    "with_tools",
]

TWO = ("one {{ q }}", "two {{ responses[0] }}")


def row(
    turns: Sequence[str] = TWO, number: int = 0, thread_id: str | None = None, settings: Mapping[str, Any] | None = None
) -> Prompt:
    made = prompter(turns, ["q"], **(settings or {}))
    return replace(made.render(Row(number, {"q": str(number)})), thread_id=thread_id)


@dataclass
class Toolbox:
    """Functions that record their calls.

    Attributes:
        takes_s: seconds of a call.
        answer: from a call to its output; the default counts the calls.
    """

    takes_s: float = 0.0
    answer: Callable[[ToolCall, int], ToolOutput] = lambda call, number: ToolOutput(call.call_id, f"output {number}")

    def __post_init__(self) -> None:
        self.called: list[ToolCall] = []

    async def call(self, calls: Sequence[ToolCall]) -> tuple[ToolOutput, ...]:
        await anyio.sleep(self.takes_s)
        first = len(self.called)
        self.called += calls
        return tuple(self.answer(call, first + number) for number, call in enumerate(calls, start=1))


@dataclass
class BatchRun:
    """One run of the batch, and the requests that it sent."""

    service: ScriptedService
    engine: Engine
    budget: Budget | None

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """(row, texts sent) for each request that creates or continues a run, in order."""
        return [(each.row_key, *said(each)) for each in self.service.of("answer")]


def said(asked: Asked) -> tuple[str, ...]:
    exchange = asked.exchange
    return tuple(output.text for output in exchange.outputs) or (exchange.turn.text,)


@dataclass
class RowBench:
    """A batch over one journal, run any number of times."""

    path: Path

    async def run(
        self,
        moves: Mapping[int, Iterable[Move]] | None = None,
        prompts: Sequence[Prompt] | None = None,
        *,
        retry_failed: bool = False,
        settings: DialogueSettings | None = None,
        timeout_s: float = 600.0,
        stop_after_s: float | None = None,
        killed_after_s: float | None = None,
        budget: float | None = None,
        price: Callable[[str | None, Usage], float | None] = lambda _, usage: (usage.total_tokens or 0) / 100,
        tpm: float | None = None,
        cancel: ServiceFault | None = None,
        concurrency: int = 10,
    ) -> BatchRun:
        """Run the batch, with the work of `batchrun.batch.work`; stop or kill it at the given times."""
        service = ScriptedService(moves, cancel=cancel)
        with Journal(self.path) as journal:
            kept = (
                Budget(FixedPurse(budget), journal.spent_usd(), lambda u: price("m", u)) if budget is not None else None
            )
            engine = engine_for(
                service,
                journal,
                Limits(concurrency=concurrency, rates=Pacers(tokens_per_minute=tpm), row_timeout_s=timeout_s),
                policy=RetryPolicy(max_attempts=3),
                price=price,
                budget=kept,
                dialogue_settings=settings or DialogueSettings(recorded=True),
            )
            fallback = settings.fallback_model if settings is not None else None
            work = list(self.work(journal, prompts or [row()], retry_failed=retry_failed, fallback_model=fallback))
            with unwrapped():
                async with anyio.create_task_group() as tasks:
                    if stop_after_s is not None:
                        tasks.start_soon(self._stop, engine, stop_after_s)
                    with anyio.move_on_after(killed_after_s):
                        await engine.run(work)
                    tasks.cancel_scope.cancel()
        return BatchRun(service, engine, kept)

    @staticmethod
    async def _stop(engine: Engine, after_s: float) -> None:
        await anyio.sleep(after_s)
        engine.request_stop(Stop("interrupted", 130), 0.0)

    @staticmethod
    def work(
        journal: Journal, prompts: Sequence[Prompt], *, retry_failed: bool, fallback_model: str | None = None
    ) -> Iterator[RowTask]:
        for each in prompts:
            history = journal.history(each.row_key)
            if history is None:
                yield RowTask(each)
                continue
            task = remaining_task(each, history, retry_failed=retry_failed, stale_before=None)
            if task is not None:
                task = with_finished_runs(task, history, journal, has_max_age=False)
                yield with_first_end(task, history, journal, fallback_model)

    def outcome(self, row_key: str = "0") -> Outcome:
        with Journal(self.path, read_only=True) as journal:
            found = journal.outcome(row_key)
        assert found is not None
        return found[0]

    def ended(self, row_key: str = "0") -> bool:
        with Journal(self.path, read_only=True) as journal:
            return journal.outcome(row_key) is not None

    def answers(self, each: Prompt, attempts: int = 99) -> dict[int, str]:
        with Journal(self.path, read_only=True) as journal:
            return journal.exchanges.answers(each.row_key, each.fingerprint, attempts)

    def tries(self, *names: str, row_key: str = "0") -> list[tuple[Any, ...]]:
        with Journal(self.path, read_only=True) as journal:
            return [tuple(each[name] for name in names) for each in journal.attempts(row_key)]

    def spent(self) -> float:
        with Journal(self.path, read_only=True) as journal:
            return round(journal.spent_usd(), 6)


def says(text: str, **move: Any) -> Move:
    return Move(answered(text), **move)


def faults(kind: type[ServiceFault] = ServerFault, **fields: Any) -> Move:
    return Move(kind("not now", **{"error_type": "server_error", **fields}), ids=None)


NEVER = Move(end=None)
TOKENS = 15
"""Of every run."""


ONE = [row(("q",))]
"""A row with one turn."""


def says_nothing(text: str = "", **move: Any) -> Move:
    return Move(Reply("incomplete", text, Usage(10, 5, 15), "m", EMPTY_ANSWER), **move)


def with_tools(toolbox: Toolbox, **settings: Any) -> DialogueSettings:
    return DialogueSettings(recorded=True, call_tools=toolbox.call, **settings)


def asks(*calls: ToolCall, waiting: bool, text: str = "", **move: Any) -> Move:
    return Move(asking(*calls, waiting=waiting, text=text), **move)


each_way_to_call = pytest.mark.parametrize("waiting", [True, False], ids=["the run waits", "runs follow"])
