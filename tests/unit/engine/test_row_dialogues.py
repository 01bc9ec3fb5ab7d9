"""Rows that are more than one question: what is asked, kept and billed, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.batch.work import remaining_task, with_finished_runs
from batchrun.engine import Budget, DialogueSettings, Engine, Limits, RetryPolicy, RowTask, Stop
from batchrun.errors import (
    BatchRefused,
    OutputError,
    PermanentFault,
    RateLimited,
    RunLost,
    ServerFault,
    ServiceFault,
    unwrapped,
)
from batchrun.journal import Journal
from batchrun.records import (
    EMPTY_ANSWER,
    Completed,
    Failed,
    Outcome,
    Prompt,
    Reply,
    Row,
    ToolCall,
    ToolOutput,
    Usage,
)
from tests.support.ends import CALL, asking
from tests.support.rows import noon, prompter
from tests.support.scripted_service import Asked, Move, ScriptedService, answered

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

TWO = ("one {{ q }}", "two {{ responses[0] }}")


def row(
    turns: Sequence[str] = TWO, number: int = 0, thread_id: str | None = None, settings: Mapping[str, Any] | None = None
) -> Prompt:
    made = prompter(turns, ["q"], **(settings or {}))
    return replace(made.render(Row(number, {"q": str(number)})), thread_id=thread_id)


@dataclass
class Toolbox:
    """Functions that remember what they were called with.

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
class Run:
    """What one run of the batch did with its rows."""

    service: ScriptedService
    engine: Engine
    budget: Budget | None

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """(row, what it was asked) for each request that makes or continues a run, in order."""
        return [(each.row_key, *said(each)) for each in self.service.of("answer")]


def said(asked: Asked) -> tuple[str, ...]:
    exchange = asked.exchange
    return tuple(output.text for output in exchange.outputs) or (exchange.turn.text,)


@dataclass
class Bench:
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
    ) -> Run:
        """One run of the batch, as `batchrun.batch.work` feeds the engine; stopped, or killed, where the test says so."""
        service = ScriptedService(moves, cancel=cancel)
        with Journal(self.path) as journal:
            kept = Budget(budget, journal.spent_usd(), lambda u: price("m", u)) if budget is not None else None
            engine = Engine(
                service=service,
                journal=journal,
                limits=Limits(concurrency=concurrency, max_tokens_per_minute=tpm, row_timeout_s=timeout_s),
                policy=RetryPolicy(max_attempts=3),
                batch_id="b",
                clock=noon,
                random_unit=lambda: 0.0,
                price=price,
                budget=kept,
                dialogue_settings=settings or DialogueSettings(recorded=True),
            )
            work = list(self.work(journal, prompts or [row()], retry_failed=retry_failed))
            with unwrapped():
                async with anyio.create_task_group() as tasks:
                    if stop_after_s is not None:
                        tasks.start_soon(self._stop, engine, stop_after_s)
                    with anyio.move_on_after(killed_after_s):
                        await engine.run(work)
                    tasks.cancel_scope.cancel()
        return Run(service, engine, kept)

    @staticmethod
    async def _stop(engine: Engine, after_s: float) -> None:
        await anyio.sleep(after_s)
        engine.request_stop(Stop("interrupted", 130), 0.0)

    @staticmethod
    def work(journal: Journal, prompts: Sequence[Prompt], *, retry_failed: bool) -> Iterator[RowTask]:
        for each in prompts:
            history = journal.history(each.row_key)
            if history is None:
                yield RowTask(each)
                continue
            task = remaining_task(each, history, retry_failed=retry_failed, stale_before=None)
            if task is not None:
                yield with_finished_runs(task, history, journal, has_max_age=False)

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


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "out.csv.journal")


def says(text: str, **move: Any) -> Move:
    return Move(answered(text), **move)


def faults(kind: type[ServiceFault] = ServerFault, **fields: Any) -> Move:
    return Move(kind("not now", **{"error_type": "server_error", **fields}), ids=None)


NEVER = Move(end=None)
TOKENS = 15
"""Of every run."""


# -- turns --------------------------------------------------------------------------------------------------------


async def test_turns_one_after_the_other(bench: Bench) -> None:
    """Each turn is a run of its own under a key of its own; the outcome is the last answer, with all that it took."""
    run = await bench.run({0: [says("A"), says("B")]})
    assert run.texts == [("0", "one 0"), ("0", "two A")]
    first, second = run.service.of("answer")
    assert (first.attempt.key, second.attempt.key) == ("b-0-1", "b-0-2")
    assert (second.exchange.thread_id, second.exchange.previous_id) == ("thread_0_1", "run_0_1")
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.response, outcome.attempts, outcome.run_id) == ("B", 2, "run_0_2")
    assert outcome.usage.total_tokens == 2 * TOKENS
    assert outcome.cost_usd == pytest.approx(2 * TOKENS / 100)
    assert outcome.duration_s == pytest.approx(2.0, abs=0.01)
    assert bench.answers(row()) == {1: "A", 2: "B"}
    assert bench.tries("number", "turn", "run_id") == [(1, 1, "run_0_1"), (2, 2, "run_0_2")]


async def test_rows_are_not_held_up_by_others(bench: Bench) -> None:
    """The turns of one row follow one another; rows go side by side."""
    run = await bench.run(prompts=[row(number=number) for number in range(4)])
    assert run.service.most_in_flight == 4
    assert sorted(each[0] for each in run.texts[:4]) == sorted(each[0] for each in run.texts[4:]) == list("0123")


@pytest.mark.parametrize("killed_after_s", [0.5, 1.5, 2.5])
async def test_killed_in_any_turn(bench: Bench, killed_after_s: float) -> None:
    """The next run follows the run that was in flight by its id, and makes only those behind it."""
    turns = [*TWO, "three {{ responses[1] }}"]
    killed_in = int(killed_after_s) + 1
    first = await bench.run(
        {0: [*(says(text) for text in "ABC"[: killed_in - 1]), NEVER]}, [row(turns)], killed_after_s=killed_after_s
    )
    assert len(first.texts) == killed_in
    second = await bench.run({0: [says(text) for text in "ABC"[killed_in - 1 :]]}, [row(turns)])
    assert [each.attempt.run_id for each in second.service.of("follow")] == [f"run_0_{killed_in}"]
    assert len(second.texts) == 3 - killed_in
    assert bench.answers(row(turns)) == {1: "A", 2: "B", 3: "C"}
    outcome = bench.outcome()
    assert (outcome.usage.total_tokens, outcome.attempts) == (3 * TOKENS, 4)


async def test_killed_before_a_turn_named_its_run(bench: Bench) -> None:
    """The request of the second turn is repeated under its own key; the first turn is not asked again."""
    await bench.run({0: [says("A"), Move(end=None, ids=None)]}, killed_after_s=1.5)
    second = await bench.run({0: [says("B")]})
    assert second.texts == [("0", "two A")]
    assert [each.attempt.key for each in second.service.of("answer")] == ["b-0-2"]
    assert second.engine.statistics().created_again == 1


async def test_killed_between_two_turns(bench: Bench) -> None:
    """An answer is on disk the moment it is known: killed right behind it, the batch goes on with the next turn."""
    await bench.run({0: [says("A"), NEVER]}, killed_after_s=1.5)
    with Journal(bench.path) as journal:
        journal._db.write("DELETE FROM attempts WHERE number = 2")
    second = await bench.run({0: [says("B")]})
    assert second.texts == [("0", "two A")]
    assert [each.attempt.key for each in second.service.of("answer")] == ["b-0-2"]
    assert bench.outcome().usage.total_tokens == 2 * TOKENS


async def test_killed_behind_the_last_answer(bench: Bench) -> None:
    """Every run is kept, and only the outcome is missing: nothing is asked, and nothing counts as one try more."""
    await bench.run({0: [says("A"), says("B")]})
    with Journal(bench.path) as journal:
        journal._db.write("DELETE FROM outcomes")
    second = await bench.run()
    assert second.service.asked == []
    outcome = bench.outcome()
    assert (outcome.response, outcome.attempts, outcome.run_id) == ("B", 2, "run_0_2")
    assert outcome.usage.total_tokens == 2 * TOKENS


async def test_interrupted_between_turns(bench: Bench) -> None:
    """A stop without grace leaves the row where it is; the same command goes on there."""
    first = await bench.run({0: [says("A"), NEVER]}, stop_after_s=1.5)
    assert first.engine.stop is not None
    assert not bench.ended()
    second = await bench.run({0: [says("B")]})
    assert [each.method for each in second.service.asked] == ["follow"]
    assert bench.outcome().response == "B"


@pytest.mark.parametrize("fault", [faults(), faults(RateLimited, retry_after_s=3.0)], ids=["503", "429"])
async def test_faults_that_pass_in_a_later_turn(bench: Bench, fault: Move) -> None:
    """The turn is tried again under its key; the turns before it are not."""
    run = await bench.run({0: [says("A"), fault, says("B")]})
    assert run.texts == [("0", "one 0"), ("0", "two A"), ("0", "two A")]
    assert [each.attempt.key for each in run.service.of("answer")] == ["b-0-1", "b-0-2", "b-0-2"]
    outcome = bench.outcome()
    assert (outcome.response, outcome.attempts) == ("B", 3)


async def test_a_run_that_is_lost_in_a_later_turn(bench: Bench) -> None:
    """It is made again on the thread that there is, behind the answers that there are."""
    await bench.run({0: [says("A"), NEVER]}, killed_after_s=1.5)
    second = await bench.run({0: [faults(RunLost, run_ended=True), says("B")]})
    assert second.texts == [("0", "two A")]
    (again,) = second.service.of("answer")
    assert (again.exchange.thread_id, again.attempt.key) == ("thread_0_1", "b-0-3")
    assert bench.outcome().usage.total_tokens == 2 * TOKENS


def gone(name: str = "thread_0_1", status_code: int = 404, **fields: Any) -> Move:
    fault = PermanentFault(
        f"Nothing found with id '{name}'.", **{"error_type": "x", "status_code": status_code, **fields}
    )
    return Move(fault, ids=None)


@pytest.mark.parametrize(
    "lost", [gone(), gone("run_0_1", 400, error_type="previous_response_not_found")], ids=["thread", "chain"]
)
async def test_a_thread_that_is_lost(bench: Bench, lost: Move) -> None:
    """Deleted meanwhile, or left at another service: the row is asked from its first turn; all that it took is told."""
    await bench.run({0: [says("A"), faults(), faults(), faults()]})
    second = await bench.run({0: [lost, says("A2"), says("B2")]}, retry_failed=True)
    assert second.texts == [("0", "two A"), ("0", "one 0"), ("0", "two A2")]
    assert [each.exchange.thread_id for each in second.service.of("answer")] == ["thread_0_1", None, "thread_0_2"]
    assert len({each.attempt.key for each in second.service.of("answer")}) == 3
    assert second.engine.statistics().created_again == 1, "the first turn: that nothing came of the second was seen"
    outcome = bench.outcome()
    assert (outcome.response, outcome.usage.total_tokens) == ("B2", 3 * TOKENS)
    assert bench.answers(row()) == {1: "A2", 2: "B2"}
    assert bench.spent() == 3 * TOKENS / 100


async def test_a_thread_that_is_lost_again_and_again(bench: Bench) -> None:
    """Once is enough: a service that keeps no threads costs no more than one more beginning."""
    run = await bench.run({0: [says("A"), gone(), says("A2"), gone("thread_0_3")]})
    assert len(run.texts) == 4
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.usage.total_tokens) == ("x", 2 * TOKENS)


@pytest.mark.parametrize(
    ("prompt", "moves"),
    [
        (row(), [says("A"), gone("file_9")]),
        (row(), [says("A"), gone(status_code=400)]),
        (row(), [gone()]),
        (row(thread_id="thread_0_1"), [says("A"), gone()]),
    ],
    ids=["something else", "another fault", "in the first turn", "the user's thread"],
)
async def test_what_is_no_lost_thread(bench: Bench, prompt: Prompt, moves: list[Move]) -> None:
    """The row fails with what the service says, and nothing is asked again."""
    run = await bench.run({0: moves}, [prompt])
    assert len(run.texts) == len(moves)
    assert isinstance(bench.outcome(), Failed)


async def test_a_later_run_that_failed_is_billed_too(bench: Bench) -> None:
    """A run that failed and took tokens, and the one in its place, both count."""
    fault = faults(run_ended=True, usage=Usage(1, 1, 2))
    await bench.run({0: [says("A"), fault, says("B")]})
    assert bench.outcome().usage.total_tokens == 2 * TOKENS + 2


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
async def test_a_later_run_that_ends_badly(bench: Bench, status: Any) -> None:
    """The row ends as its run did, at a turn that is named; the answers before it, and their cost, are kept."""
    reply = Reply(status, "half", Usage(1, 1, 2), "m", "content_filter", "no")
    await bench.run({0: [says("A"), Move(reply)]})
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.error_type, outcome.error) == (status, "content_filter", "turn 2: no")
    assert (outcome.response, outcome.usage.total_tokens, outcome.run_id) == ("half", TOKENS + 2, "run_0_2")
    assert bench.answers(row()) == {1: "A"}


async def test_a_later_turn_that_is_given_up(bench: Bench) -> None:
    """Its last fault is the row's; the answer before it is not thrown away."""
    await bench.run({0: [says("A"), faults(), faults(), faults()]})
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error, outcome.response, outcome.attempts) == ("turn 2: not now", "A", 4)
    assert (outcome.thread_id, outcome.run_id, outcome.model) == ("thread_0_1", "run_0_1", "m")
    assert (outcome.usage.total_tokens, outcome.cost_usd) == (TOKENS, TOKENS / 100)


async def test_time_runs_out_in_a_later_turn(bench: Bench) -> None:
    """The time of a row is that of all its turns; the run in flight is stopped."""
    run = await bench.run({0: [says("A", after_s=6.0), NEVER]}, timeout_s=10.0)
    (cancelled,) = run.service.of("cancel")
    assert cancelled.attempt.run_id == "run_0_2"
    assert cancelled.at_s == pytest.approx(10.0, abs=0.01)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.response) == ("row_timeout", "A")
    assert outcome.error.startswith("turn 2: not finished within 10 s")


async def test_a_later_turn_that_cannot_be_rendered(bench: Bench) -> None:
    """It is named by its own number, and counts as no try."""
    turns = ("one", "two {{ 1 // (responses[0] | int) }}")
    await bench.run({0: [says("0")]}, [row(turns)])
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.attempts, outcome.response) == ("template_error", 1, "0")
    assert outcome.error.startswith("turn 2: the template fails on this row")


async def test_killed_before_a_turn_that_cannot_be_rendered(bench: Bench) -> None:
    """The same where another process finds it: one try was made, and one is counted."""
    turns = ("one", "two {{ 1 // (responses[0] | int) }}")
    await bench.run({0: [says("0")]}, [row(turns)])
    with Journal(bench.path) as journal:
        journal._db.write("DELETE FROM outcomes")
    second = await bench.run(prompts=[row(turns)])
    assert second.service.asked == []
    assert bench.outcome().attempts == 1


async def test_a_refusal_in_a_later_turn_stops_the_batch(bench: Bench) -> None:
    """The row is left where it is, to go on behind its first answer."""
    refusal = faults(BatchRefused, error_type="insufficient_quota", status_code=429)
    first = await bench.run({0: [says("A"), refusal]})
    assert first.engine.stop is not None
    assert not bench.ended()
    second = await bench.run({0: [says("B")]})
    assert second.texts == [("0", "two A")]
    assert bench.outcome().usage.total_tokens == 2 * TOKENS


async def test_a_journal_that_can_be_written_no_more(bench: Bench) -> None:
    """The batch ends with what the journal says, and the next run goes on behind what it holds."""
    await bench.run({0: [says("A"), NEVER]}, killed_after_s=1.5)
    with Journal(bench.path) as journal:
        journal._db.write(
            "CREATE TRIGGER full BEFORE INSERT ON exchanges BEGIN SELECT raise(ABORT, 'disk is full'); END"
        )
    with pytest.raises(OutputError, match="the disk is full"):
        await bench.run({0: [says("B")]})
    with Journal(bench.path) as journal:
        journal._db.write("DROP TRIGGER full")
    third = await bench.run({0: [says("B")]})
    assert [each.method for each in third.service.asked] == ["follow"]
    assert bench.answers(row()) == {1: "A", 2: "B"}


# -- asked again --------------------------------------------------------------------------------------------------


async def test_a_retry_begins_where_the_row_failed(bench: Bench) -> None:
    """`--retry-failed` makes another run of the turn that failed; what went before is neither asked nor billed again."""
    await bench.run({0: [says("A"), Move(Reply("failed", "", Usage(1, 1, 2), "m", "invalid_prompt", "no"))]})
    assert bench.spent() == (TOKENS + 2) / 100
    second = await bench.run({0: [says("B")]}, retry_failed=True)
    assert second.texts == [("0", "two A")]
    assert [each.attempt.key for each in second.service.of("answer")] == ["b-0-3"]
    outcome = bench.outcome()
    assert (outcome.response, outcome.usage.total_tokens, outcome.attempts) == ("B", 2 * TOKENS, 3)
    assert bench.spent() == (2 * TOKENS + 2) / 100


async def test_without_a_retry_failed_rows_stay(bench: Bench) -> None:
    """A row that failed in a later turn is left alone."""
    await bench.run({0: [says("A"), faults(PermanentFault, error_type="invalid_prompt")]})
    assert (await bench.run()).service.asked == []


async def test_a_lost_request_is_repeated_by_the_retry(bench: Bench) -> None:
    """Given up without a word from the service, a turn is asked for under the key that it had: it may have been done."""
    await bench.run({0: [says("A"), faults(), faults(), faults()]})
    second = await bench.run({0: [says("B")]}, retry_failed=True)
    assert [each.attempt.key for each in second.service.of("answer")] == ["b-0-2"]
    assert bench.answers(row()) == {1: "A", 2: "B"}


async def test_a_retry_of_what_cannot_be_rendered_costs_nothing(bench: Bench) -> None:
    """The answers stay what they are, and so does the error: nobody is asked."""
    turns = ("one", "two {{ 1 // (responses[0] | int) }}")
    await bench.run({0: [says("0")]}, [row(turns)])
    second = await bench.run(prompts=[row(turns)], retry_failed=True)
    assert second.service.asked == []
    assert isinstance(bench.outcome(), Failed)
    assert bench.answers(row(turns)) == {1: "0"}
    assert bench.spent() == TOKENS / 100


async def test_a_retry_that_is_killed_goes_on(bench: Bench) -> None:
    """The run that the retry made is followed; the answers before it are still known and still not billed twice."""
    await bench.run({0: [says("A"), faults(PermanentFault, error_type="invalid_prompt")]})
    await bench.run({0: [NEVER]}, retry_failed=True, killed_after_s=0.5)
    third = await bench.run({0: [says("B")]})
    assert [each.method for each in third.service.asked] == ["follow"]
    assert bench.outcome().usage.total_tokens == 2 * TOKENS
    assert bench.spent() == 2 * TOKENS / 100


async def test_retries_after_retries(bench: Bench) -> None:
    """However often a later turn fails, the first is asked once and billed once."""
    failure = Reply("failed", "", Usage(1, 1, 2), "m", "invalid_prompt", "no")
    first = await bench.run({0: [says("A"), Move(failure)]})
    for _ in range(3):
        await bench.run({0: [Move(failure)]}, retry_failed=True)
    last = await bench.run({0: [says("B")]}, retry_failed=True)
    assert [len(run.texts) for run in (first, last)] == [2, 1]
    assert bench.spent() == (2 * TOKENS + 4 * 2) / 100


async def test_an_edited_row_is_asked_from_the_beginning(bench: Bench) -> None:
    """Another prompt has nothing in common with what was answered before; what that obtained is kept."""
    await bench.run({0: [says("A"), says("B")]})
    other = row(("uno", "due {{ responses[0] }}"))
    second = await bench.run({0: [says("C"), says("D")]}, [other])
    assert second.texts == [("0", "uno"), ("0", "due C")]
    assert bench.answers(other) == {1: "C", 2: "D"}
    assert bench.answers(row()) == {1: "A", 2: "B"}
    assert bench.spent() == 4 * TOKENS / 100


# -- threads ------------------------------------------------------------------------------------------------------


async def test_rows_of_one_thread_go_in_turn(bench: Bench) -> None:
    """Rows that go on with the same thread follow one another, whole, in input order; others do not wait for them."""
    rows = [row(number=number, thread_id=thread) for number, thread in enumerate(["t", "t", "u", "t"])]
    run = await bench.run(prompts=rows)
    assert [each[0] for each in run.texts if each[0] != "2"] == ["0", "0", "1", "1", "3", "3"]
    assert max(each.at_s for each in run.service.asked if each.row_key == "2") < 2.0
    assert {each.exchange.thread_id for each in run.service.of("answer")} == {"t", "u"}


async def test_a_row_that_fails_lets_the_thread_go(bench: Bench) -> None:
    """The next row of the thread is asked all the same."""
    rows = [row(("q",), number=number, thread_id="t") for number in range(2)]
    await bench.run({0: [faults(PermanentFault)]}, rows)
    assert isinstance(bench.outcome("0"), Failed)
    assert isinstance(bench.outcome("1"), Completed)


async def test_a_stop_reaches_those_who_wait_for_a_thread(bench: Bench) -> None:
    """After a stop the row that has the thread may finish; the rows behind it are not begun."""
    rows = [row(("q",), number=number, thread_id="t") for number in range(3)]
    refused = faults(BatchRefused, error_type="insufficient_quota")
    run = await bench.run({0: [refused]}, rows)
    assert [each[0] for each in run.texts] == ["0"]
    assert not bench.ended("1")


# -- functions ----------------------------------------------------------------------------------------------------


def with_tools(toolbox: Toolbox, **settings: Any) -> DialogueSettings:
    return DialogueSettings(recorded=True, call_tools=toolbox.call, **settings)


def asks(*calls: ToolCall, waiting: bool, text: str = "", **move: Any) -> Move:
    return Move(asking(*calls, waiting=waiting, text=text), **move)


ONE = [row(("q",))]
OTHER = ToolCall("call_2", "double", '{"x": 2}')
each_manner = pytest.mark.parametrize("waiting", [True, False], ids=["the run waits", "runs follow"])


@each_manner
async def test_functions(bench: Bench, waiting: bool) -> None:
    """Outputs go back in the order of the calls, round after round; each function is called once a call."""
    toolbox = Toolbox()
    moves = [asks(CALL, OTHER, waiting=waiting), asks(ToolCall("c", "f", "{}"), waiting=waiting), says("done")]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox))
    assert run.texts == [("0", "q"), ("0", "output 1", "output 2"), ("0", "output 3")]
    assert [each.exchange.round for each in run.service.of("answer")] == [0, 1, 2]
    assert len({each.attempt.key for each in run.service.of("answer")}) == 1
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.response, outcome.attempts) == ("done", 1)
    assert outcome.extras == {"tool_calls": 3, "tool_errors": 0}
    assert outcome.usage.total_tokens == (TOKENS if waiting else 3 * TOKENS), (
        "a run that waits tells its usage at its end"
    )


@each_manner
async def test_calls_that_are_all_named_alike(bench: Bench, waiting: bool) -> None:
    """Where a server gives every call the same id, each still gets its own output."""
    toolbox = Toolbox()
    calls = [ToolCall("", "f", '{"x": 1}'), ToolCall("", "f", '{"x": 2}')]
    await bench.run({0: [asks(*calls, waiting=waiting), says("done")]}, ONE, settings=with_tools(toolbox))
    assert toolbox.called == calls


async def test_the_same_name_in_the_next_round(bench: Bench) -> None:
    """A call of the next run is another one, though it be named and mean the same."""
    toolbox = Toolbox()
    moves = [asks(CALL, waiting=False), asks(CALL, waiting=False), says("done")]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox))
    assert run.texts[1:] == [("0", "output 1"), ("0", "output 2")]


async def test_failing_functions_are_counted(bench: Bench) -> None:
    """The model is told, the row goes on, and the outcome says how many failed."""
    toolbox = Toolbox(answer=lambda call, number: ToolOutput(call.call_id, "no luck", failed=number == 1))
    run = await bench.run({0: [asks(CALL, OTHER, waiting=True), says("done")]}, ONE, settings=with_tools(toolbox))
    assert bench.outcome().extras == {"tool_calls": 2, "tool_errors": 1}
    statistics = run.engine.statistics()
    assert (statistics.tool_calls, statistics.tool_errors) == (2, 1)


@each_manner
async def test_too_many_rounds(bench: Bench, waiting: bool) -> None:
    """A model that does not stop asking fails its row; the last request for functions is not obeyed, but billed."""
    toolbox = Toolbox()
    calls = [asks(ToolCall(str(number), "f", "{}"), waiting=waiting) for number in range(4)]
    run = await bench.run({0: calls}, ONE, settings=with_tools(toolbox, max_tool_rounds=2))
    assert len(toolbox.called) == 2
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.extras) == ("too_many_tool_rounds", {"tool_calls": 2, "tool_errors": 0})
    assert len(run.service.of("cancel")) == waiting
    assert outcome.usage.total_tokens == (None if waiting else 3 * TOKENS)


@each_manner
async def test_no_functions_here(bench: Bench, waiting: bool) -> None:
    """A model that asks for functions where there are none fails its row; what it took is known."""
    await bench.run({0: [asks(CALL, waiting=waiting)]}, ONE, settings=DialogueSettings())
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "requires_action"
    assert outcome.usage.total_tokens == (None if waiting else TOKENS)


@each_manner
async def test_time_runs_out_in_a_function(bench: Bench, waiting: bool) -> None:
    """The row fails, and the batch goes on; a run that waits is stopped, one that ended needs nothing."""
    toolbox = Toolbox(takes_s=100.0)
    rows = [*ONE, row(("q",), number=1)]
    run = await bench.run({0: [asks(CALL, waiting=waiting)]}, rows, settings=with_tools(toolbox), timeout_s=10.0)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "row_timeout"
    assert outcome.run_id == "run_0_1"
    assert [each.attempt.run_id for each in run.service.of("cancel")] == (["run_0_1"] if waiting else [])
    assert isinstance(bench.outcome("1"), Completed)
    assert outcome.usage.total_tokens == (None if waiting else TOKENS)


async def test_functions_are_called_again_after_their_time_ran_out(bench: Bench) -> None:
    """A retry does not pay again for the run that asked for them."""
    await bench.run({0: [asks(CALL, waiting=False)]}, ONE, settings=with_tools(Toolbox(takes_s=100.0)), timeout_s=10.0)
    second = await bench.run({0: [says("done")]}, ONE, settings=with_tools(Toolbox()), retry_failed=True)
    assert second.texts == [("0", "output 1")]
    assert bench.spent() == 2 * TOKENS / 100


@each_manner
async def test_killed_in_a_function(bench: Bench, waiting: bool) -> None:
    """The run that asked is not made again: its functions are called, and it goes on."""
    slow, quick = Toolbox(takes_s=5.0), Toolbox()
    await bench.run({0: [asks(CALL, waiting=waiting)]}, ONE, settings=with_tools(slow), killed_after_s=2.0)
    moves = [asks(CALL, waiting=True), says("done")] if waiting else [says("done")]
    second = await bench.run({0: moves}, ONE, settings=with_tools(quick))
    assert second.texts == [("0", "output 1")]
    assert [each.method for each in second.service.asked] == (["follow", "answer"] if waiting else ["answer"])
    (told,) = second.service.of("answer")
    assert (told.attempt.key, told.exchange.round) == ("b-0-1", 1)
    assert bench.outcome().usage.total_tokens == (TOKENS if waiting else 2 * TOKENS)


@each_manner
async def test_killed_behind_a_function(bench: Bench, waiting: bool) -> None:
    """What a function returned is told again as it was, and it is not called again."""
    toolbox, later = Toolbox(), Toolbox(answer=lambda call, _: ToolOutput(call.call_id, "something else"))
    lost = Move(end=None, ids=None)
    await bench.run({0: [asks(CALL, waiting=waiting), lost]}, ONE, settings=with_tools(toolbox), killed_after_s=5.0)
    moves = [asks(CALL, waiting=True), says("done")] if waiting else [says("done")]
    second = await bench.run({0: moves}, ONE, settings=with_tools(later))
    assert later.called == []
    assert second.texts == [("0", "output 1")]
    assert bench.outcome().extras == {"tool_calls": 1, "tool_errors": 0}


@pytest.mark.parametrize("rounds", [1, 2, 3])
async def test_killed_in_any_round(bench: Bench, rounds: int) -> None:
    """The request of the round at hand is repeated under the key and the round that it had."""
    toolbox = Toolbox()
    asked = [asks(ToolCall(str(number), "f", "{}"), waiting=False) for number in range(rounds)]
    first = await bench.run(
        {0: [*asked, Move(end=None, ids=None)]}, ONE, settings=with_tools(toolbox), killed_after_s=rounds + 0.5
    )
    second = await bench.run({0: [says("done")]}, ONE, settings=with_tools(toolbox))
    before, after = first.service.of("answer")[-1], second.service.of("answer")[0]
    assert (before.attempt.key, before.exchange) == (
        after.attempt.key,
        replace(after.exchange, turn=before.exchange.turn),
    )
    assert before.exchange.round == rounds
    assert len(toolbox.called) == rounds
    assert bench.outcome().usage.total_tokens == (rounds + 1) * TOKENS


async def test_a_run_of_a_later_round_is_followed(bench: Bench) -> None:
    """Killed when the run behind the outputs had named itself, the batch follows that one; what comes next has its round."""
    toolbox = Toolbox()
    await bench.run({0: [asks(CALL, waiting=False), NEVER]}, ONE, settings=with_tools(toolbox), killed_after_s=1.5)
    second = await bench.run({0: [asks(OTHER, waiting=False), says("done")]}, ONE, settings=with_tools(toolbox))
    assert [each.method for each in second.service.asked] == ["follow", "answer"]
    assert second.service.asked[0].attempt.run_id == "run_0_2"
    assert (second.texts, second.service.asked[1].exchange.round) == ([("0", "output 2")], 2)
    assert len(toolbox.called) == 2


@each_manner
async def test_a_fault_behind_a_function(bench: Bench, waiting: bool) -> None:
    """The outputs are sent again as they were; no function is called twice, and no round is counted twice."""
    toolbox = Toolbox()
    again = [asks(CALL, waiting=True)] if waiting else []
    moves = [asks(CALL, waiting=waiting), faults(status_code=503), *again, says("done")]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox, max_tool_rounds=1))
    assert toolbox.called == [CALL]
    assert run.texts[1:] == [("0", "output 1")] * 2
    assert {each.exchange.round for each in run.service.of("answer")[1:]} == {1}
    assert bench.outcome().response == "done"


async def test_another_run_in_place_of_one_that_waited(bench: Bench) -> None:
    """A run that fails behind its functions is made again from the message, with all its rounds before it."""
    toolbox = Toolbox()
    moves = [
        asks(CALL, waiting=True, text="hm"),
        faults(run_ended=True),
        asks(OTHER, waiting=True, text="let me see"),
        says("done"),
    ]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox, max_tool_rounds=1))
    assert run.texts == [("0", "q"), ("0", "output 1"), ("0", "q"), ("0", "output 2")]
    asked = run.service.of("answer")
    assert [each.exchange.partial_text for each in asked] == ["", "hm", "", "let me see"]
    assert bench.outcome().response == "done"


async def test_another_run_behind_outputs(bench: Bench) -> None:
    """Where each round is a run, only the one that failed is made again, under another key."""
    toolbox = Toolbox()
    moves = [asks(CALL, waiting=False), faults(run_ended=True, usage=Usage(1, 1, 2)), says("done")]
    run = await bench.run({0: moves}, ONE, settings=with_tools(toolbox))
    assert run.texts == [("0", "q"), ("0", "output 1"), ("0", "output 1")]
    assert [each.attempt.key for each in run.service.of("answer")] == ["b-0-1", "b-0-1", "b-0-2"]
    assert bench.outcome().usage.total_tokens == 2 * TOKENS + 2


async def test_interrupted_in_a_function(bench: Bench) -> None:
    """Ctrl-C in a call: the row stays in flight, and nothing is paid for again."""
    await bench.run(
        {0: [asks(CALL, waiting=False)]}, ONE, settings=with_tools(Toolbox(takes_s=100.0)), stop_after_s=2.0
    )
    assert not bench.ended()
    second = await bench.run({0: [says("done")]}, ONE, settings=with_tools(Toolbox()))
    assert second.texts == [("0", "output 1")]


# -- form ---------------------------------------------------------------------------------------------------------


def upper(answer: str) -> str | None:
    return None if answer.isupper() else "not in capitals"


SHAPED = DialogueSettings(recorded=True, check=upper, max_corrections=1)


async def test_an_answer_is_corrected(bench: Bench) -> None:
    """On the same thread, in another run; both are billed."""
    run = await bench.run({0: [says("no"), says("YES")]}, ONE, settings=SHAPED)
    assert run.service.asked[1].exchange.thread_id == "thread_0_1"
    outcome = bench.outcome()
    assert (outcome.response, outcome.usage.total_tokens, outcome.attempts) == ("YES", 2 * TOKENS, 2)


async def test_a_hopeless_answer(bench: Bench) -> None:
    """The row fails with what is wrong, and keeps its last answer; all of them are in the journal."""
    await bench.run({0: [says("no"), says("never")]}, ONE, settings=SHAPED)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.response, outcome.attempts) == ("schema_mismatch", "never", 2)
    assert outcome.error == "the answer does not have the requested form: not in capitals"
    assert outcome.usage.total_tokens == 2 * TOKENS


async def test_a_hopeless_answer_is_asked_for_anew(bench: Bench) -> None:
    """A retry asks the question, not the correction, in a run and on a thread of its own."""
    await bench.run({0: [says("no"), says("never")]}, ONE, settings=SHAPED)
    second = await bench.run({0: [says("YES")]}, ONE, settings=SHAPED, retry_failed=True)
    assert second.texts == [("0", "q")]
    (asked,) = second.service.of("answer")
    assert (asked.attempt.key, asked.exchange.thread_id) == ("b-0-3", None)
    outcome = bench.outcome()
    assert (outcome.response, outcome.usage.total_tokens, outcome.attempts) == ("YES", TOKENS, 3)
    assert bench.spent() == 3 * TOKENS / 100


async def test_hopeless_in_another_process(bench: Bench) -> None:
    """Killed behind the last wrong answer, the row fails without another try, and a retry still asks it anew."""
    await bench.run({0: [says("no"), says("never")]}, ONE, settings=SHAPED)
    with Journal(bench.path) as journal:
        journal._db.write("DELETE FROM outcomes")
        journal._db.write("UPDATE attempts SET fault_type = NULL, fault = NULL, run_ended = 0")
    second = await bench.run(prompts=ONE, settings=SHAPED)
    assert second.service.asked == []
    assert bench.outcome().attempts == 2
    third = await bench.run({0: [says("YES")]}, ONE, settings=SHAPED, retry_failed=True)
    assert third.texts == [("0", "q")]
    assert [each.method for each in third.service.asked] == ["answer"]


# -- limits and money ---------------------------------------------------------------------------------------------


async def test_every_run_passes_the_token_limit(bench: Bench) -> None:
    """Tokens are set aside for each run of a row, and what a run really took is settled once."""
    turns = ("x" * 40, "y" * 40, "z" * 40)
    usage = Usage(500, 500, 1_000)
    run = await bench.run({0: [Move(answered("a", usage=usage)) for _ in turns]}, [row(turns)], tpm=1_000)
    at_s = [each.at_s for each in run.service.of("answer")]
    assert at_s[1] > 30.0
    assert at_s[2] > at_s[1] + 30.0


async def test_the_budget_counts_all_turns(bench: Bench) -> None:
    """What rows of several turns take is learned as a whole: the batch stops before it would cost more."""
    rows = [row(number=number) for number in range(100)]
    run = await bench.run(prompts=rows, budget=20.0, concurrency=1)
    assert run.engine.stop is not None
    assert run.engine.stop.exit_code == 4
    assert 19.0 < bench.spent() <= 20.0


async def test_the_budget_counts_what_a_retry_takes_over_once(bench: Bench) -> None:
    """A first turn that the failed row has paid for is not spent again."""
    await bench.run({0: [says("A"), faults(PermanentFault, error_type="invalid_prompt")]})
    run = await bench.run({0: [says("B")]}, retry_failed=True, budget=100.0)
    assert run.budget is not None
    assert run.budget.spent_usd == pytest.approx(2 * TOKENS / 100)
    assert bench.spent() == 2 * TOKENS / 100


# -- empty answers ------------------------------------------------------------------------------------------------


def says_nothing(text: str = "", **move: Any) -> Move:
    return Move(Reply("incomplete", text, Usage(10, 5, 15), "m", EMPTY_ANSWER), **move)


ONE_QUESTION = ("one {{ q }}",)


async def test_an_empty_answer_is_asked_for_again(bench: Bench) -> None:
    """Once, as another run under another key; what the empty one took is billed to the row."""
    run = await bench.run({0: [says_nothing(), says("A")]}, [row(ONE_QUESTION)], settings=DialogueSettings())
    assert run.texts == [("0", "one 0"), ("0", "one 0")]
    assert [each.attempt.key for each in run.service.of("answer")] == ["b-0-1", "b-0-2"]
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.status, outcome.response, outcome.reason) == ("completed", "A", None)
    assert (outcome.usage.total_tokens, outcome.attempts) == (2 * TOKENS, 2)
    assert bench.spent() == pytest.approx(2 * TOKENS / 100)
    assert bench.tries("fault_type", "run_ended") == [(EMPTY_ANSWER, 1), (None, 0)]


async def test_an_answer_that_is_empty_twice(bench: Bench) -> None:
    """Ends its row as incomplete, and a later run of the batch takes it as it is."""
    run = await bench.run({0: [says_nothing(), says_nothing(" ")]}, [row(ONE_QUESTION)], settings=DialogueSettings())
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.status, outcome.reason, outcome.response) == ("incomplete", EMPTY_ANSWER, " ")
    assert outcome.usage.total_tokens == 2 * TOKENS
    assert run.engine.statistics().incomplete == 1
    again = await bench.run({}, [row(ONE_QUESTION)], retry_failed=True)
    assert again.texts == []


async def test_an_empty_turn_ends_its_row(bench: Bench) -> None:
    """It is asked twice; later turns, which would build on nothing, are not asked, also by the next run."""
    turns = [*TWO, "three {{ responses[1] }}"]
    run = await bench.run({0: [says("A"), says_nothing(), says_nothing()]}, [row(turns)])
    assert [text for _, text in run.texts] == ["one 0", "two A", "two A"]
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.status, outcome.reason, outcome.usage.total_tokens) == ("incomplete", EMPTY_ANSWER, 3 * TOKENS)
    assert (await bench.run({}, [row(turns)])).texts == []


async def test_each_turn_is_asked_again_once(bench: Bench) -> None:
    """An empty first turn takes the second nothing away."""
    run = await bench.run({0: [says_nothing(), says("A"), says_nothing(), says("B")]})
    assert [text for _, text in run.texts] == ["one 0", "one 0", "two A", "two A"]
    assert (bench.outcome().status, bench.outcome().usage.total_tokens) == ("completed", 4 * TOKENS)


async def test_killed_between_two_empty_answers(bench: Bench) -> None:
    """The next run knows that the row was asked again already."""
    await bench.run({0: [says_nothing(), Move(end=None, ids=None)]}, [row(ONE_QUESTION)], killed_after_s=1.5)
    run = await bench.run({0: [says_nothing()]}, [row(ONE_QUESTION)])
    assert len(run.texts) == 1
    assert (bench.outcome().status, bench.outcome().attempts) == ("incomplete", 3)


async def test_an_empty_answer_is_not_corrected(bench: Bench) -> None:
    """Where answers are to have a form, nothing is said about the form of nothing."""
    settings = DialogueSettings(recorded=True, check=lambda text: None if text == "A" else "not A", max_corrections=2)
    run = await bench.run({0: [says_nothing(), says_nothing()]}, [row(ONE_QUESTION)], settings=settings)
    assert [text for _, text in run.texts] == ["one 0", "one 0"]
    assert bench.outcome().status == "incomplete"


@each_manner
async def test_an_empty_answer_behind_functions(bench: Bench, waiting: bool) -> None:
    """It is incomplete as well, and is not asked for again: another run would call the functions once more."""
    toolbox = Toolbox()
    await bench.run({0: [asks(waiting=waiting), says_nothing()]}, [row(ONE_QUESTION)], settings=with_tools(toolbox))
    assert len(toolbox.called) == 1
    outcome = bench.outcome()
    assert isinstance(outcome, Completed)
    assert (outcome.status, outcome.reason) == ("incomplete", EMPTY_ANSWER)
