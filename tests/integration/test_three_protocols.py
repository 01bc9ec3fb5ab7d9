"""One batch in every protocol and mode, against the embedded server's three protocols behind a counting proxy."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Conversation, Part
from tests.integration.reliability import processes
from tests.integration.reliability.network import Proxy
from tests.support.obliging import Obliging
from tests.support.rows import read_csv, write_csv

pytestmark = pytest.mark.anyio

KEY = "sk-test-0123456789"
HELD = "What is 5 + 5?"
SUMS = ["What is 3 * 4?", HELD, "Solve 3x + 11 = 14", "Who was Ada Lovelace?", "1/3 + 1/6"]
OWN_COLUMNS = ("thread_id", "run_id", "duration_s", "completed_at")
"""What differs between two runs of the same batch."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to ask.

    Attributes:
        requests: (per row, once per batch).
        named: whether the run's id is known while the model still writes.
        asked_twice: whether a row whose reply was lost is sent again if the service ignores idempotency keys.
    """

    name: str
    options: dict[str, Any]
    requests: tuple[int, int] = (1, 0)
    named: bool = False
    asked_twice: bool = False


MODES = [
    Mode("assistants", {"api": "assistants"}, (1, 1), named=True),
    Mode("responses", {"api": "responses"}, asked_twice=True),
    Mode("responses stream", {"api": "responses", "stream": True}, named=True),
    Mode("responses conversation", {"api": "responses", "conversation": True}, (2, 0)),
    Mode(
        "responses conversation stream", {"api": "responses", "conversation": True, "stream": True}, (2, 0), named=True
    ),
    Mode("responses background", {"api": "responses", "background": True}, named=True),
    Mode("responses background stream", {"api": "responses", "background": True, "stream": True}, named=True),
    Mode("chat", {"api": "chat"}, asked_twice=True),
    Mode("chat stream", {"api": "chat", "stream": True}, asked_twice=True),
]
each_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


@dataclass
class Remembering:
    """The tutor with a record of its questions; it can hold one answer back."""

    asked: list[str] = field(default_factory=list)
    holding: bool = False
    tutor: Obliging = field(default_factory=Obliging)
    name: str = "remembering"
    models: tuple[str, ...] = ()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        question = conversation.messages[-1].text
        self.asked.append(question)
        while self.holding and question == HELD:
            await anyio.sleep(0.01)
        async for part in self.tutor.respond(conversation):
            yield part

    async def aclose(self) -> None:
        pass


@dataclass
class Bench:
    """A service behind a proxy, and a folder for the files of a batch."""

    folder: Path
    server: EmbeddedServer
    responder: Remembering
    proxy: Proxy

    def __post_init__(self) -> None:
        self.table = write_csv(self.folder / "in.csv", [{"question": question} for question in SUMS])

    async def run(self, mode: Mode, output: str = "out.csv") -> Summary:
        environment = Environment(api_key=KEY)
        options = {"base_url": self.proxy.url, "model": "m", "instructions": "Be brief.", **mode.options}
        plan = make_plan(make_job(options), self.table, environment, self.folder / output)
        return await run_batch(plan, environment)

    def rows(self, output: str = "out.csv") -> list[dict[str, str]]:
        return read_csv(self.folder / output)

    def count(self, query: str) -> int:
        """Return a count from the journal, or 0 without a journal."""
        journal = (self.folder / "out.csv.journal").as_uri()
        try:
            with closing(sqlite3.connect(f"{journal}?mode=ro", uri=True, timeout=5)) as connection:
                return int(connection.execute(query).fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    def is_held_up(self, mode: Mode) -> bool:
        """Whether all rows but the held one have ended, and all possible facts about that row are known."""
        named = self.count("SELECT count(*) FROM attempts WHERE row_key = '1' AND run_id IS NOT NULL")
        ended = self.count("SELECT count(*) FROM outcomes")
        return HELD in self.responder.asked and ended == len(SUMS) - 1 and named == int(mode.named)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Start the service; `without` names headers that do not reach it."""
    with ExitStack() as stack:

        def started(*without: str) -> Bench:
            responder = Remembering()
            settings = ServerSettings(shutdown_grace_s=0.05, poll_after_ms=20)
            server = stack.enter_context(EmbeddedServer(settings, responder))
            proxy = stack.enter_context(Proxy(server.url, without=frozenset(without)))
            return Bench(tmp_path, server, responder, proxy)

        yield started


# -- the same table ---------------------------------------------------------------------------------------------


async def test_the_same_table(start: Callable[..., Bench]) -> None:
    """All protocols and modes give the same table, except for ids and times."""
    bench = start()
    tables = {}
    for number, mode in enumerate(MODES):
        summary = await bench.run(mode, f"out-{number}.csv")
        assert summary.exit_code == 0
        rows = bench.rows(f"out-{number}.csv")
        tables[mode.name] = [{k: v for k, v in row.items() if k not in OWN_COLUMNS} for row in rows]
    assert tables == dict.fromkeys(tables, tables["assistants"])
    first = tables["assistants"]
    assert [row["question"] for row in first] == SUMS
    assert "x = 1" in first[2]["response"]
    assert all(int(row["total_tokens"]) > 0 for row in first)


@each_mode
async def test_requests_a_row(start: Callable[..., Bench], mode: Mode) -> None:
    """The number of requests per row, counted on the way to the service, without the polls of background responses."""
    bench = start()
    await bench.run(mode)
    a_row, a_batch = mode.requests
    posts = [request for request in bench.proxy.requests if request.method == "POST"]
    assert len(posts) == a_row * len(SUMS) + a_batch
    polls = len(bench.proxy.requests) - len(posts)
    assert (polls > 0) == (mode.name == "responses background")


@each_mode
async def test_ids(start: Callable[..., Bench], mode: Mode) -> None:
    """Every row has its own run id and, if the protocol has threads, its own thread id."""
    bench = start()
    await bench.run(mode)
    rows = bench.rows()
    threads, runs = {row["thread_id"] for row in rows}, {row["run_id"] for row in rows}
    kinds = {"assistants": ("thread_", "run_"), "responses": ("resp_", "resp_"), "chat": ("", "chatcmpl-")}
    thread, run = kinds[mode.options["api"]]
    thread = "conv_" if "conversation" in mode.options else thread
    assert len(runs) == len(SUMS)
    assert all(each.startswith(run) for each in runs)
    assert len(threads) == (len(SUMS) if thread else 1)
    assert all(each.startswith(thread) for each in threads)


# -- resuming ---------------------------------------------------------------------------------------------------


async def broken_off(bench: Bench, mode: Mode) -> None:
    """Run until one row is held up, and then drop everything, as a crash does."""
    bench.responder.holding = True
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.run, mode)
            while not bench.is_held_up(mode):
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    bench.responder.holding = False


@each_mode
@pytest.mark.parametrize("without", [(), ("idempotency-key",)], ids=["keys honoured", "keys ignored"])
async def test_resuming_costs_at_most(start: Callable[..., Bench], mode: Mode, without: tuple[str, ...]) -> None:
    """A row in flight is resumed if its mode allows it or if keys are honored; otherwise it is sent twice."""
    bench = start(*without)
    await broken_off(bench, mode)
    summary = await bench.run(mode)
    assert summary.exit_code == 0
    assert "10" in bench.rows()[1]["response"]
    asked = Counter(bench.responder.asked)
    assert asked.pop(HELD) == (2 if mode.asked_twice and without else 1)
    assert set(asked.values()) == {1}
    assert summary.statistics.created_again == (0 if mode.named else 1)


@pytest.mark.parametrize("mode", [MODES[1], MODES[5], MODES[7]], ids=lambda mode: mode.name)
async def test_resuming_after_sigkill(start: Callable[..., Bench], mode: Mode) -> None:
    """A process killed with a row in flight loses no answer, and pays for none twice if keys are honored."""
    bench = start()
    bench.responder.holding = True
    flags = [part for name, value in mode.options.items() for part in _flag(name, value)]
    command = ["run", str(bench.table), "-o", str(bench.folder / "out.csv"), *flags]
    command += ["--base-url", bench.proxy.url, "--model", "m", "--instructions", "Be brief.", "--quiet"]
    with processes.batchrun(bench.folder, *command, environ={"OPENAI_API_KEY": KEY}) as process:
        with anyio.fail_after(60):
            while not bench.is_held_up(mode):
                assert process.running
                await anyio.sleep(0.02)
            process.kill()
    bench.responder.holding = False
    summary = await bench.run(mode)
    assert (summary.exit_code, summary.statistics.finished_before) == (0, len(SUMS) - 1), summary
    assert Counter(bench.responder.asked) == dict.fromkeys(SUMS, 1)


def _flag(name: str, value: Any) -> list[str]:
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]


async def test_another_mode_continues(start: Callable[..., Bench]) -> None:
    """A batch broken off without streams continues with streams: the old key belongs to another request, so a new key
    is used."""
    bench = start()
    await broken_off(bench, MODES[1])
    summary = await bench.run(MODES[2])
    assert summary.exit_code == 0
    assert Counter(bench.responder.asked)[HELD] == 2


# -- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [MODES[1], MODES[7]], ids=lambda mode: mode.name)
async def test_a_refused_parameter_stops_the_batch(start: Callable[..., Bench], mode: Mode) -> None:
    """The first refusal of a parameter ends the batch with the service's message and exit code 5."""
    bench = start()
    summary = await bench.run(Mode("refused", {**mode.options, "param": {"temperature": [1]}, "concurrency": 1}))
    assert summary.exit_code == 5
    assert summary.stop is not None
    assert "temperature" in summary.stop.reason
    assert len(bench.proxy.requests) == 1
    assert bench.responder.asked == []
