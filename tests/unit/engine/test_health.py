"""The health of the service, in virtual time: the batch waits outages and rate limits out, and they count as no row's
attempts."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.engine import Answers, Engine, Limits, RowTask, Stop
from batchrun.engine.health import MAX_PROBE_S, MAX_UNREACHED_S, Health, Trouble
from batchrun.engine.service import OnIds
from batchrun.engine.slots import SlotPolicy
from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    PermanentFault,
    RateLimited,
    Refused,
    ServerFault,
    ServiceFault,
    Shortage,
    Silence,
    Unavailable,
)
from batchrun.journal import Journal
from batchrun.records import Attempt, Completed, Exchange, Failed, Outcome, Reply
from tests.support.engine_bench import engine_for
from tests.support.rows import prompt
from tests.support.scripted_service import answered

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


def away(connected: bool = False) -> Unavailable:
    fault = Unavailable("nobody is there", error_type="connection_error", status_code=503 if connected else None)
    fault.connected = connected
    return fault


Behaviour = Callable[[str, float], ServiceFault | None]
"""(row_key, seconds since the start) → what a request ends with; None for an answer."""


class Service:
    """Answers within a second, unless its behaviour returns a fault.

    Mutable state: `sent`, the loop times and rows of the requests; `refused`, how many of them it refused.
    """

    def __init__(self, limits: Limits, behaviour: Behaviour, *, prepare: bool = False, takes_s: float = 1.0) -> None:
        self._limits = limits
        self._behaviour = behaviour
        self._prepare = prepare
        self._takes_s = takes_s
        self.began_s = anyio.current_time()
        self.sent: list[tuple[float, str]] = []
        self.refused = 0

    def now_s(self) -> float:
        return anyio.current_time() - self.began_s

    async def prepare(self) -> None:
        if self._prepare:
            self._ask("prepare")

    def _ask(self, row_key: str) -> None:
        self.sent.append((self.now_s(), row_key))
        fault = self._behaviour(row_key, self.now_s())
        if fault is not None:
            self.refused += 1
            raise fault

    async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        await self._limits.request()
        self._ask(exchange.row_key)
        await anyio.sleep(self._takes_s)
        return answered()

    async def follow(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
        raise NotImplementedError

    async def cancel(self, exchange: Exchange, attempt: Attempt) -> None:
        raise NotImplementedError


@dataclass
class Ran:
    engine: Engine
    service: Service
    took_s: float
    outcomes: list[Outcome]

    @property
    def completed(self) -> int:
        return sum(isinstance(outcome, Completed) for outcome in self.outcomes)

    @property
    def failed(self) -> dict[str, str]:
        return {each.row_key: each.error_type for each in self.outcomes if isinstance(each, Failed)}


async def run(
    journal: Journal, behaviour: Behaviour, rows: int, *, prepare: bool = False, takes_s: float = 1.0, **limits: Any
) -> Ran:
    made = Limits(**limits)
    service = Service(made, behaviour, prepare=prepare, takes_s=takes_s)
    outcomes: list[Outcome] = []
    engine = engine_for(service, journal, made, random_unit=lambda: 0.5, on_outcome=outcomes.append)
    await engine.run(RowTask(prompt(row, f"q{row}")) for row in range(rows))
    return Ran(engine, service, service.now_s(), outcomes)


# -- outages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connected", [False, True], ids=["refused", "503"])
@pytest.mark.parametrize("concurrency", [None, 1, 3, 200])
async def test_an_outage_costs_no_row(journal: Journal, connected: bool, concurrency: int | None) -> None:
    """A service that is away for a minute in the middle: every row completes, and few requests find it away."""
    ran = await run(
        journal, lambda _, now_s: away(connected) if 5 <= now_s < 65 else None, 300, concurrency=concurrency
    )
    assert ran.completed == 300
    assert ran.service.refused <= (concurrency or 160) + 12  # the requests of one moment, and the probes
    assert ran.engine.stop is None


async def test_probes_grow_apart(journal: Journal) -> None:
    """While the service is away, one probe at a time is sent, at intervals that double up to a bound."""
    ran = await run(journal, lambda _, now_s: away() if 5 <= now_s < 200 else None, 300, concurrency=10)
    probes = [at_s for at_s, _ in ran.service.sent if 6 < at_s < 200]
    gaps = [later - earlier for earlier, later in pairwise(probes)]
    assert gaps[:3] == pytest.approx([2.0, 4.0, 8.0], rel=0.05)
    assert gaps[4:] == pytest.approx([MAX_PROBE_S] * len(gaps[4:]), rel=0.05)
    assert len({row for at_s, row in ran.service.sent if 6 < at_s < 200}) > 3, "rows take turns in probing"
    assert ran.completed == 300


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("rows", [1, 500])
async def test_a_service_that_was_never_there_stops_the_batch_soon(journal: Journal, prepare: bool, rows: int) -> None:
    """Refused connections from the start: exit code 5 after half a minute, every row pending."""
    ran = await run(journal, lambda *_: away(), rows, prepare=prepare)
    assert ran.engine.stop is not None
    assert ran.engine.stop.exit_code == 5
    assert "unavailable" in ran.engine.stop.reason
    assert MAX_UNREACHED_S <= ran.took_s <= MAX_UNREACHED_S + 2
    assert ran.outcomes == []


@pytest.mark.parametrize("prepare", [False, True])
async def test_a_model_that_is_loading_is_waited_for(journal: Journal, prepare: bool) -> None:
    """503 from the start may last for --max-outage: a model that takes ten minutes to load is waited for."""
    ran = await run(journal, lambda _, now_s: away(True) if now_s < 600 else None, 50, prepare=prepare)
    assert ran.completed == 50


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("since_s", [0.0, 20.0])
async def test_an_outage_that_lasts_stops_the_batch(journal: Journal, since_s: float, prepare: bool) -> None:
    """After --max-outage the batch stops with exit code 5; no row has failed, and the others wait for the next run."""
    ran = await run(
        journal,
        lambda _, now_s: away(True) if now_s >= since_s else None,
        2_000,
        concurrency=10,
        prepare=prepare,
        max_outage_s=300.0,
    )
    assert ran.engine.stop is not None
    assert ran.engine.stop.exit_code == 5
    assert "--max-outage" in ran.engine.stop.reason
    assert ran.took_s == pytest.approx(since_s + 300.0, abs=20)
    assert ran.failed == {}
    assert ran.completed == (0 if since_s == 0.0 else pytest.approx(200, abs=20))


@pytest.mark.parametrize("concurrency", [1, 2, None])
async def test_a_row_that_alone_finds_the_service_away_fails_alone(journal: Journal, concurrency: int | None) -> None:
    """A gateway that answers 503 to one row while others are answered: that row fails, and the others do not wait
    long."""
    ran = await run(journal, lambda row, _: away(True) if row == "7" else None, 60, concurrency=concurrency)
    assert ran.failed == {"7": "connection_error"}
    assert ran.completed == 59


async def test_rows_that_find_the_service_away_while_it_refuses_others_fail(journal: Journal) -> None:
    """A service that replies to most rows is available, even if it answers none: rows that a gateway rejects fail too."""

    def behaviour(row: str, _: float) -> ServiceFault:
        return away(True) if int(row) % 3 == 0 else PermanentFault("no", error_type="bad", status_code=400)

    ran = await run(journal, behaviour, 15, concurrency=20)
    assert ran.failed == {str(row): "connection_error" if row % 3 == 0 else "bad" for row in range(15)}
    assert ran.took_s < 60


async def test_single_bad_moments_cost_one_row_an_attempt(journal: Journal) -> None:
    """Single 503s, with answers between them, do not delay other rows."""
    chance = random.Random(1)
    ran = await run(journal, lambda *_: away(True) if chance.random() < 0.1 else None, 500, concurrency=20)
    assert ran.completed == 500
    assert ran.took_s < 3 * 500 / 20


async def test_the_outage_shows(journal: Journal) -> None:
    """The statistics show for how long the service has been away, and nothing once it is back."""
    limits = Limits(concurrency=5)
    service = Service(limits, lambda _, now_s: away() if 5 <= now_s < 65 else None)
    engine = engine_for(service, journal, limits, random_unit=lambda: 0.5)
    seen: dict[int, float | None] = {}

    async def look() -> None:
        for second in (4, 35, 90):
            await anyio.sleep(second - service.now_s())
            seen[second] = engine.statistics().limits.away_s

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await engine.run(RowTask(prompt(row, f"q{row}")) for row in range(400))
    assert seen == {4: None, 35: pytest.approx(30.0, abs=1.5), 90: None}


# -- rate limits --------------------------------------------------------------------------------------------------


class Window:
    """Accepts at most `most` requests in any `span_s` seconds, refused ones not counted, and sends no Retry-After."""

    def __init__(self, most: int, span_s: float, *, counts_refused: bool = False) -> None:
        self._most, self._span_s, self._counts_refused = most, span_s, counts_refused
        self._taken: deque[float] = deque()

    def __call__(self, _row: str, now_s: float) -> ServiceFault | None:
        while self._taken and self._taken[0] <= now_s - self._span_s:
            self._taken.popleft()
        refused = len(self._taken) >= self._most
        if not refused or self._counts_refused:
            self._taken.append(now_s)
        return RateLimited("too many", error_type="rate_limit_exceeded", status_code=429) if refused else None


@pytest.mark.parametrize("counts_refused", [False, True])
@pytest.mark.parametrize("concurrency", [None, 1, 50])
async def test_a_limit_that_is_not_told_costs_no_row(
    journal: Journal, counts_refused: bool, concurrency: int | None
) -> None:
    """With an unannounced limit of 20 requests per minute, 100 rows are answered and few requests are refused."""
    window = Window(20, 60.0, counts_refused=counts_refused)
    ran = await run(journal, window, 100, concurrency=concurrency)
    assert ran.completed == 100
    assert ran.service.refused <= 150
    assert ran.took_s <= 60 * 60


async def test_rows_come_back_paced(journal: Journal) -> None:
    """After a refusal the rows do not return in one moment."""
    ran = await run(
        journal,
        lambda _, now_s: None if now_s > 0.5 else RateLimited("x", error_type="x", status_code=429),
        100,
        concurrency=50,
    )
    back_s = sorted(at_s for at_s, _ in ran.service.sent if at_s > 0.5)[:50]
    assert back_s == pytest.approx([1.0 + row / 50 for row in range(50)], abs=0.01)
    assert ran.completed == 100


async def test_rate_limits_of_single_rows_do_not_hold_the_batch(journal: Journal) -> None:
    """If one attempt in twenty meets a rate limit without Retry-After, the batch takes little longer."""
    seen: set[str] = set()

    def one_in_twenty(row: str, _: float) -> ServiceFault | None:
        if int(row) % 20 or row in seen:
            return None
        seen.add(row)
        return RateLimited("x", error_type="x", status_code=429)

    ran = await run(journal, one_in_twenty, 1_000, concurrency=40, takes_s=2.5)
    assert ran.completed == 1_000
    assert ran.service.refused == 50
    assert ran.took_s < 1.1 * 1_000 * 2.5 / 40


async def test_rate_limits_without_end_stop_the_batch(journal: Journal) -> None:
    """If no row is answered for --max-outage, the batch stops with exit code 5, its rows pending."""
    refused = RateLimited("too many", error_type="rate_limit_exceeded", status_code=429)
    ran = await run(journal, lambda *_: refused, 100)
    assert ran.engine.stop is not None
    assert ran.engine.stop.exit_code == 5
    assert "--max-outage" in ran.engine.stop.reason
    assert ran.took_s == pytest.approx(900, abs=61)
    assert ran.outcomes == []
    assert len(ran.service.sent) < 60


async def test_a_row_that_alone_is_refused_fails_in_the_end(journal: Journal) -> None:
    """A row that gets only rate limits while others are answered fails in the end."""
    refused = RateLimited("too many", error_type="rate_limit_exceeded", status_code=429)
    ran = await run(journal, lambda row, _: refused if row == "7" else None, 800, concurrency=4, max_outage_s=100.0)
    assert ran.failed == {"7": "rate_limit_exceeded"}
    assert ran.completed == 799


@pytest.mark.parametrize("retry_after_s", [None, 60.0])
@pytest.mark.parametrize("concurrency", [None, 1, 5])
async def test_a_row_that_alone_is_refused_does_not_slow_down_the_batch(
    journal: Journal, concurrency: int | None, retry_after_s: float | None
) -> None:
    """A row that meets rate limits whenever it is sent, while others are answered, soon waits by itself."""
    refused = RateLimited("x", error_type="rate_limit_exceeded", status_code=429, retry_after_s=retry_after_s)
    ran = await run(
        journal, lambda row, _: refused if row == "7" else None, 2_000, concurrency=concurrency, takes_s=0.1
    )
    assert ran.completed == 1_999
    last_s = max(at_s for at_s, row in ran.service.sent if row != "7")
    assert last_s < 2_000 * 0.1 / (concurrency or 1) + 10 * (retry_after_s or 2.0)


async def test_a_shortage_on_this_machine_costs_no_row(journal: Journal) -> None:
    """If this machine can open only 15 connections, the batch works with 15, and no row fails."""
    limits = Limits(concurrency=40)

    class Machine(Service):
        open = 0

        async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
            await limits.request()
            if self.open >= 15:
                raise Shortage("no descriptor left", error_type="too_many_open_files")
            self.open += 1
            try:
                await anyio.sleep(1)
            finally:
                self.open -= 1
            return answered()

    outcomes: list[Outcome] = []
    engine = engine_for(
        Machine(limits, lambda *_: None), journal, limits, random_unit=lambda: 0.5, on_outcome=outcomes.append
    )
    await engine.run(RowTask(prompt(row, f"q{row}")) for row in range(300))
    assert [type(outcome) for outcome in outcomes] == [Completed] * 300


# -- servers of one thing at a time -------------------------------------------------------------------------------


async def test_a_server_that_drops_a_reply_for_the_next_request_is_asked_one_by_one(journal: Journal) -> None:
    """llama-cpp-python breaks off its stream when another request arrives: rows run one at a time, and none fails."""
    limits = Limits(start=4)

    class OneStream(Service):
        current: anyio.CancelScope | None = None

        async def answer(self, exchange: Exchange, attempt: Attempt, on_ids: OnIds) -> Reply:
            await limits.request()
            if self.current is not None:
                self.current.cancel()
            with anyio.CancelScope() as self.current:
                await anyio.sleep(2)
                self.current = None
                return answered()
            raise ConnectionLost("broken off", error_type="connection_error")

    outcomes: list[Outcome] = []
    engine = engine_for(
        OneStream(limits, lambda *_: None), journal, limits, random_unit=lambda: 0.5, on_outcome=outcomes.append
    )
    await engine.run(RowTask(prompt(row, f"q{row}")) for row in range(60))
    assert [type(outcome) for outcome in outcomes] == [Completed] * 60
    assert limits.statistics().one_at_a_time
    assert limits.statistics().capacity == 1


# -- rows and the service, told apart ------------------------------------------------------------------------------


def refusal(status_code: int = 403) -> Refused:
    return Refused("flagged", error_type="content_filter", status_code=status_code)


@pytest.mark.parametrize("status_code", [403, 404])
@pytest.mark.parametrize("concurrency", [1, 20])
async def test_a_refused_row_fails_alone(journal: Journal, status_code: int, concurrency: int) -> None:
    """A 403 or 404 about some rows, in the middle of a batch, fails these rows; the others complete."""
    refused = {"25", "26", "40", "41", "42", "43", "99"}
    ran = await run(
        journal, lambda row, _: refusal(status_code) if row in refused else None, 100, concurrency=concurrency
    )
    assert ran.failed == dict.fromkeys(refused, "content_filter")
    assert ran.completed == 93
    assert ran.engine.stop is None


async def test_five_refusals_in_a_row_stop_the_batch(journal: Journal) -> None:
    """Refusals in a row concern all rows: exit code 5, and the refused rows are pending, not failed."""
    ran = await run(journal, lambda row, _: refusal() if int(row) >= 50 else None, 100, concurrency=1)
    assert ran.engine.stop is not None
    assert ran.engine.stop.exit_code == 5
    assert ran.completed == 50
    assert ran.failed == {}
    assert len(ran.service.sent) == 55


async def test_a_refusal_before_the_first_answer_stops_the_batch(journal: Journal) -> None:
    """Nothing shows that any row would be accepted: exit code 5, every row pending."""
    ran = await run(journal, lambda *_: refusal(), 100, concurrency=1)
    assert ran.engine.stop is not None
    assert ran.engine.stop.exit_code == 5
    assert ran.outcomes == []
    assert len(ran.service.sent) == 1


async def test_an_answer_of_an_earlier_run_counts(journal: Journal) -> None:
    """A nightly job whose first row is flagged tonight is not stopped by it: the service has answered before."""
    await run(journal, lambda *_: None, 3)
    limits = Limits(concurrency=1)
    outcomes: list[Outcome] = []
    service = Service(limits, lambda row, _: refusal() if row == "3" else None)
    engine = engine_for(service, journal, limits, on_outcome=outcomes.append)
    await engine.run(RowTask(prompt(row, f"q{row}")) for row in range(3, 10))
    assert [type(outcome) for outcome in sorted(outcomes, key=lambda each: each.row_key)] == [Failed, *[Completed] * 6]


def key_refused() -> BatchRefused:
    fault = BatchRefused("the service refused the key", error_type="authentication_error", status_code=401)
    fault.may_be_odd = True
    return fault


@pytest.mark.parametrize("concurrency", [1, 20])
async def test_a_single_reply_does_not_end_the_batch(journal: Journal, concurrency: int) -> None:
    """A reply that would concern all rows, such as a refused key, fails its row if later rows are answered."""
    odd = {"25", "40"}
    ran = await run(journal, lambda row, _: key_refused() if row in odd else None, 100, concurrency=concurrency)
    assert ran.failed == dict.fromkeys(odd, "authentication_error")
    assert ran.completed == 98
    assert ran.engine.stop is None


@dataclass
class Shards:
    """Two engines of one process: the second begins with its rows while the first one has some left.

    Mutable state: `engines`, of those that run; `ran`, their service and their stop, in order.
    """

    folder: Path
    behaviour: Behaviour
    engines: list[Engine] = field(default_factory=list)
    ran: list[tuple[Service, Stop | None]] = field(default_factory=list)

    async def run(self) -> None:
        answers = Answers(lambda: len(self.engines))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._shard, range(10), 0.0, answers)
            tasks.start_soon(self._shard, range(10, 30), 5.0, answers)

    async def _shard(self, rows: range, after_s: float, answers: Answers) -> None:
        await anyio.sleep(after_s)
        limits = Limits(concurrency=1)
        service = Service(limits, self.behaviour)
        with Journal(self.folder / f"{rows.start}.journal") as journal:
            engine = engine_for(service, journal, limits, answers=answers)
            self.engines.append(engine)
            await engine.run([RowTask(prompt(row, f"q{row}")) for row in rows])
            self.engines.remove(engine)
            self.ran.append((service, engine.stop))


async def test_shards_judge_an_odd_reply_together(tmp_path: Path) -> None:
    """An odd reply to the last row of a shard, or to the first one of the next, stops nothing: others are answered."""
    odd = {"9", "10"}
    shards = Shards(tmp_path, lambda row, _: key_refused() if row in odd else None)
    await shards.run()
    assert [(len(service.sent), stop) for service, stop in shards.ran] == [(10, None), (20, None)]
    for name, failed in (("0", "9"), ("10", "10")):
        with Journal(tmp_path / f"{name}.journal") as journal:
            assert journal.failures() == {"authentication_error": 1}
            found = journal.outcome(failed)
            assert found is not None
            assert found[0].status == "failed"


async def test_shards_whose_rows_are_all_refused_stop(tmp_path: Path) -> None:
    """No answer comes any more: each shard stops with the reason, and fails no row."""
    shards = Shards(tmp_path, lambda row, _: key_refused() if int(row) >= 9 else None)
    await shards.run()
    assert [stop.exit_code for _, stop in shards.ran if stop is not None] == [5, 5]
    for name in ("0", "10"):
        with Journal(tmp_path / f"{name}.journal") as journal:
            assert journal.failures() == {}


@pytest.mark.parametrize(("first", "sent"), [(0, 1), (50, 55), (98, 100)])
async def test_a_refused_key_fails_no_row(journal: Journal, first: int, sent: int) -> None:
    """If no later row is answered, the batch stops with its reason and leaves the rows pending, even the last ones."""
    ran = await run(journal, lambda row, _: key_refused() if int(row) >= first else None, 100, concurrency=1)
    assert ran.engine.stop is not None
    assert (ran.engine.stop.reason, ran.engine.stop.exit_code) == ("the service refused the key", 5)
    assert (ran.completed, ran.failed, len(ran.service.sent)) == (first, {}, sent)


async def test_a_spent_quota_stops_at_once(journal: Journal) -> None:
    """A fault that is not one reply's own stops the batch, whatever was answered before."""
    spent = BatchRefused("the quota is exhausted", error_type="insufficient_quota", status_code=429)
    ran = await run(journal, lambda row, _: spent if row == "50" else None, 100, concurrency=1)
    assert ran.engine.stop is not None
    assert (ran.completed, ran.failed, len(ran.service.sent)) == (50, {}, 51)


# -- the object itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        ServerFault("x", error_type="x", status_code=500),
        PermanentFault("x", error_type="x", status_code=400),
        BatchRefused("x", error_type="x", status_code=401),
        RateLimited("x", error_type="x", status_code=429),
    ],
)
def test_any_word_of_the_service_ends_an_outage(fault: ServiceFault) -> None:
    """A service that refuses a request is available."""
    health = Health(SlotPolicy())
    for second in range(5):
        health.failed(away(), 5, second, second + 0.1)
    assert health.away
    health.failed(fault, 5, 6.0, 6.1)
    assert not health.away


@pytest.mark.parametrize("fault", [Silence("x", error_type="x"), ConnectionLost("x", error_type="x"), None])
def test_a_probe_that_learns_nothing_is_followed_by_another(fault: ServiceFault | None) -> None:
    """Silence, a broken connection or a cancelled row shows nothing: the next probe is due after a wait."""
    health = Health(SlotPolicy())
    for second in range(3):
        health.failed(away(), 5, second, second + 0.1)
    health.sending(10.0)
    assert health.hold_s(11.0) == float("inf")
    if fault is not None:
        health.failed(fault, 5, 10.0, 12.0)
    health.left(12.0)
    assert 0 < health.hold_s(12.0) <= MAX_PROBE_S


def test_an_absence_is_the_rows_own_where_others_are_answered() -> None:
    """It counts as an attempt if the service has replied since the first one, unless other rows find it away as well; and it
    makes no outage alone."""
    health, trouble = Health(SlotPolicy()), Trouble()

    def absence(now_s: float, of: Trouble) -> bool:
        health.failed(away(), 5, now_s - 0.1, now_s, of)
        return health.is_ill(away(), of, now_s)

    assert absence(1.0, trouble)
    assert absence(2.0, trouble)
    health.answered(5, 2.0, 3.0)
    assert not any(absence(4.0 + n / 10, trouble) for n in range(5))
    assert not health.away
    assert [absence(5.0 + n, Trouble()) for n in range(3)] == [True] * 3
    assert absence(9.0, trouble)
    assert not health.is_ill(ServerFault("x", error_type="x", status_code=500), Trouble(), 4.0)


def test_after_several_bursts_rows_come_back_one_by_one() -> None:
    """Each answer lets one more row send, until as many do as there are slots."""
    health = Health(SlotPolicy(4))
    limited = RateLimited("x", error_type="x", status_code=429)
    assert health.abreast == 4
    health.failed(limited, 4, 0.0, 0.1)
    assert health.abreast == 4, "after one burst the wait is enough"
    health.failed(limited, 4, 2.0, 2.1)
    found = [health.abreast]
    for second in range(5, 9):
        health.answered(4, second, second + 0.5)
        found.append(health.abreast)
    assert found == [1, 2, 3, 4, 4]
