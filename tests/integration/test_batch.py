"""Whole batches: a table in, the server's answers out, and every way to resume a batch that was stopped."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from batchrun.batch.plan import Plan, make_plan
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary
from batchrun.errors import InputError, JournalMismatch, OutputError, OutputHeld
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.journal import Journal
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Conversation, Part, ResponderError
from batchrun.server.responders.tutor import TutorResponder
from tests.integration.reliability import processes
from tests.support.rows import read_csv, write_csv
from tests.support.scripted_http import Answer, ScriptedHttp, html, json_answer

pytestmark = pytest.mark.anyio

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.csv"
KEY = "sk-test-0123456789"


@dataclass
class Counting:
    """The tutor, which records the questions that reach it.

    Attributes:
        hold: while it is set, questions that contain this text get no answer.
        refuse: while it is set, runs on questions that contain this text fail.
    """

    tutor: TutorResponder = field(default_factory=TutorResponder)
    asked: list[Conversation] = field(default_factory=list)
    hold: str | None = None
    refuse: str | None = None
    name: str = "counting"
    models: tuple[str, ...] = ()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        self.asked.append(conversation)
        while self.hold is not None and self.hold in conversation.messages[-1].text:
            await anyio.sleep(0.01)
        if self.refuse is not None and self.refuse in conversation.messages[-1].text:
            raise ResponderError("I will not.", code="invalid_prompt")
        async for part in self.tutor.respond(conversation):
            yield part

    async def aclose(self) -> None:
        pass

    @property
    def questions(self) -> list[str]:
        return sorted(conversation.messages[-1].text for conversation in self.asked)


@dataclass
class Bench:
    """A service that outlives batches, and a folder for their files."""

    folder: Path
    server: EmbeddedServer
    responder: Counting

    def input(self, *questions: str, name: str = "in.csv") -> Path:
        return write_csv(
            self.folder / name, [{"id": f"q{number}", "question": text} for number, text in enumerate(questions)]
        )

    def plan(self, table: Path, **options: Any) -> Plan:
        options = {"base_url": self.server.url, "model": "m", "api": "assistants", **options}
        return make_plan(make_job(options), table, Environment(api_key=KEY), self.output)

    async def run(self, table: Path, **options: Any) -> Summary:
        return await run_batch(self.plan(table, **options), Environment(api_key=KEY))

    @property
    def output(self) -> Path:
        return self.folder / "out.csv"

    def rows(self) -> list[dict[str, str]]:
        return read_csv(self.output)

    def is_held_up(self) -> bool:
        """Return whether seven rows are answered and the run of the eighth is known."""
        try:
            with self.journal() as journal:
                return journal.counts().completed == 7 and any(a["run_id"] for a in journal.attempts("5"))
        except OutputError:
            return False  # not begun yet

    def journal(self) -> Journal:
        return Journal(self.output.with_name("out.csv.journal"), read_only=True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    responder = Counting()
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder) as server:
        yield Bench(tmp_path, server, responder)


SUMS = [f"What is {number} + {number}?" for number in range(8)]


# -- running ---------------------------------------------------------------------------------------------------


async def test_a_batch(bench: Bench) -> None:
    """Every row has its own answer, in input order, with thread, run, model and usage, and one run each."""
    summary = await bench.run(bench.input(*SUMS))
    rows = bench.rows()
    assert [row["id"] for row in rows] == [f"q{n}" for n in range(8)]
    assert all(str(2 * number) in row["response"] for number, row in enumerate(rows))
    assert {row["status"] for row in rows} == {"completed"}
    assert len({row["thread_id"] for row in rows} | {row["run_id"] for row in rows}) == 16
    assert all(int(row["total_tokens"]) > 0 for row in rows)
    assert bench.responder.questions == sorted(SUMS)
    assert (summary.exit_code, summary.totals.by_status["completed"], summary.totals.by_status["pending"]) == (0, 8, 0)


async def test_one_request_a_row(bench: Bench) -> None:
    """A whole batch takes one request for its assistant and one per row."""
    summary = await bench.run(bench.input(*SUMS))
    assert summary.statistics.limits.requests == 1 + len(SUMS)


async def test_polled(bench: Bench) -> None:
    """--poll gives the same answers."""
    await bench.run(bench.input(*SUMS[:3]), poll=True)
    assert all(str(2 * number) in row["response"] for number, row in enumerate(bench.rows()))


async def test_the_embedded_server(tmp_path: Path) -> None:
    """Without a key and a base URL the batch starts its own server, with its store next to the output."""
    table = write_csv(tmp_path / "in.csv", [{"question": "3x + 11 = 14"}, {"question": "Who was Ada Lovelace?"}])
    plan = make_plan(make_job({}), table, Environment(), tmp_path / "out.csv")
    assert plan.destination.is_embedded
    summary = await run_batch(plan, Environment())
    assert summary.exit_code == 0
    first, second = read_csv(tmp_path / "out.csv")
    assert "x = 1" in first["response"]
    assert "not a language model" in second["response"]
    assert plan.paths.store.exists()


async def test_rows_without_a_question(bench: Bench) -> None:
    """An empty prompt fails its row and sends nothing; the others are sent, and the exit code reports that some failed."""
    summary = await bench.run(bench.input("1 + 1", "", "   ", "2 + 2"))
    assert [row["status"] for row in bench.rows()] == ["completed", "failed", "failed", "completed"]
    assert [row["error_type"] for row in bench.rows()] == ["", "empty_prompt", "empty_prompt", ""]
    assert len(bench.responder.asked) == 2
    assert summary.exit_code == 3


# -- resuming --------------------------------------------------------------------------------------------------


async def test_finished_rows_are_not_asked_again(bench: Bench) -> None:
    """The same command again sends nothing and writes the same table."""
    table = bench.input(*SUMS, "")
    await bench.run(table)
    before = bench.output.read_bytes()
    summary = await bench.run(table)
    assert len(bench.responder.asked) == 8
    assert bench.output.read_bytes() == before
    assert summary.statistics.finished_before == 9


async def test_an_interrupted_batch_resumes(bench: Bench) -> None:
    """After Ctrl-C rows in flight are followed by their run ids: each question reaches the model once."""
    bench.responder.hold = "5"
    table = bench.input(*SUMS)
    assert await interrupted(bench, table, signal.SIGINT) == 130
    stopped = {row["id"]: row["status"] for row in bench.rows()}
    assert stopped["q5"] == "in_flight"
    assert len(stopped) == 8
    bench.responder.hold = None
    summary = await bench.run(table)
    assert summary.exit_code == 0
    assert bench.responder.questions == sorted(SUMS)
    assert summary.statistics.created_again == 0
    assert "10" in bench.rows()[5]["response"]


async def interrupted(bench: Bench, table: Path, number: signal.Signals) -> int:
    """A batch in its own process that receives a signal once the seven other rows are answered and the held one runs."""
    options = ("--api", "assistants", "--base-url", bench.server.url, "--model", "m", "--grace", "0", "--quiet")
    command = ("run", str(table), "-o", str(bench.output), *options)
    with processes.batchrun(bench.output.parent, *command, environ={"OPENAI_API_KEY": KEY}) as process:
        with anyio.fail_after(60):
            while not bench.is_held_up():
                assert process.running
                await anyio.sleep(0.02)
            process.signal(number)
            return await anyio.to_thread.run_sync(process.wait)


async def test_a_killed_batch_resumes(bench: Bench) -> None:
    """SIGKILL loses no answer and pays for none twice."""
    bench.responder.hold = "5"
    table = bench.input(*SUMS)
    assert await interrupted(bench, table, signal.SIGKILL) == -signal.SIGKILL
    assert not bench.output.exists()
    bench.responder.hold = None
    summary = await bench.run(table)
    assert (summary.exit_code, summary.statistics.finished_before) == (0, 7)
    assert bench.responder.questions == sorted(SUMS)
    assert [row["status"] for row in bench.rows()] == ["completed"] * 8


async def test_failed_rows_are_left_unless_asked_for(bench: Bench) -> None:
    """A failed row stays failed in the next run; --retry-failed retries it, and only it."""
    bench.responder.refuse = "3 + 3"
    table = bench.input(*SUMS)
    summary = await bench.run(table)
    assert (summary.totals.failed, summary.exit_code) == (1, 3)
    assert (bench.rows()[3]["error_type"], bench.rows()[3]["error"]) == ("invalid_prompt", "I will not.")
    bench.responder.refuse = None
    assert (await bench.run(table)).exit_code == 3
    assert len(bench.responder.asked) == 8
    assert (await bench.run(table, retry_failed=True)).exit_code == 0
    assert len(bench.responder.asked) == 9
    assert "6" in bench.rows()[3]["response"]


async def test_a_changed_prompt_is_refused(bench: Bench) -> None:
    """Another prompt for the same output is refused with an explanation, before anything is sent; the output stays."""
    table = bench.input(*SUMS)
    await bench.run(table)
    before = bench.output.read_bytes()
    with pytest.raises(JournalMismatch, match="prompt was"):
        await bench.run(table, prompt="Please: {{ question }}")
    assert len(bench.responder.asked) == 8
    assert bench.output.read_bytes() == before


async def test_accepted_changes_ask_only_what_changed(bench: Bench) -> None:
    """--accept-changes after an edit of the table runs only the edited rows, and joins no answer to a new question."""
    await bench.run(bench.input(*SUMS))
    edited = [*SUMS[:2], "What is 50 + 50?", *SUMS[3:]]
    summary = await bench.run(bench.input(*edited), accept_changes=True)
    assert len(bench.responder.asked) == 9
    assert "100" in bench.rows()[2]["response"]
    assert (summary.exit_code, summary.totals.by_status["completed"]) == (0, 8)


async def test_rows_that_moved_keep_no_wrong_answer(bench: Bench) -> None:
    """After a row was inserted at the top every answer is still next to its own question."""
    await bench.run(bench.input(*SUMS))
    await bench.run(bench.input("What is 70 + 7?", *SUMS), accept_changes=True)
    answers = [row["response"] for row in bench.rows()]
    assert "77" in answers[0]
    assert all(str(2 * number) in text for number, text in enumerate(answers[1:]))


async def test_a_shorter_table(bench: Bench) -> None:
    """Rows that were removed from the table are not counted: the remaining rows are complete."""
    await bench.run(bench.input(*SUMS))
    summary = await bench.run(bench.input(*SUMS[:3]), accept_changes=True)
    assert len(bench.rows()) == 3
    assert (summary.totals.by_status["completed"], summary.totals.by_status["pending"], summary.exit_code) == (3, 0, 0)


@pytest.mark.parametrize("changed", [{"instructions": "Answer in French."}, {"model": "m2"}])
async def test_changed_instructions_reach_the_model(bench: Bench, changed: dict[str, str]) -> None:
    """--accept-changes with other instructions or another model uses those, not the earlier assistant's."""
    table = bench.input(*SUMS[:2])
    await bench.run(table, instructions="Answer in English.")
    await bench.run(table, **{"instructions": "Answer in English.", **changed}, accept_changes=True)
    assert len(bench.responder.asked) == 4
    last = bench.responder.asked[-1]
    assert (last.instructions, last.model) == (
        changed.get("instructions", "Answer in English."),
        changed.get("model", "m"),
    )


async def test_fresh(bench: Bench) -> None:
    """--fresh runs all rows again and keeps the old journal."""
    table = bench.input(*SUMS[:3])
    await bench.run(table)
    await bench.run(table, fresh=True)
    assert len(bench.responder.asked) == 6
    assert len(list(bench.folder.glob("out.csv.journal.2*Z"))) == 1


async def test_a_deleted_assistant_is_made_again(bench: Bench) -> None:
    """A batch whose assistant was deleted creates another and continues."""
    table = bench.input(*SUMS[:2], "")
    await bench.run(table)
    with bench.journal() as journal:
        (assistant_id,) = journal.read_manifest()["assistants"].values()
    headers = {"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "assistants=v2"}
    async with httpx2.AsyncClient(headers=headers) as client:
        assert (await client.delete(f"{bench.server.url}/assistants/{assistant_id}")).status_code == 200
    summary = await bench.run(bench.input(*SUMS[:3]), accept_changes=True)
    assert summary.exit_code == 0
    assert len(bench.responder.asked) == 3


async def test_a_lost_run_is_made_again(bench: Bench) -> None:
    """A run that the service forgot is made again, counted, and answered."""
    table = bench.input(*SUMS)
    bench.responder.hold = "5"
    await interrupted(bench, table, signal.SIGKILL)
    bench.responder.hold = None
    with contextlib.closing(sqlite3.connect(bench.output.with_name("out.csv.journal"))) as db, db:
        db.execute("UPDATE attempts SET run_id = 'run_gone' WHERE row_key = '5'")
    db.close()
    summary = await bench.run(table)
    assert (summary.exit_code, summary.statistics.created_again) == (0, 1)


# -- obstacles ------------------------------------------------------------------------------------


async def test_a_second_batch_on_the_same_output(bench: Bench) -> None:
    """Two batches cannot write one output; the second names the lock and changes nothing."""
    bench.responder.hold = "0"
    table = bench.input(*SUMS)
    plan = bench.plan(table)

    async def second(_: Any) -> None:
        try:
            with pytest.raises(OutputHeld, match=r"lock: .*out\.csv\.lock"):
                await bench.run(table)
        finally:
            bench.responder.hold = None
        await anyio.sleep_forever()

    summary = await run_batch(plan, Environment(api_key=KEY), watch=second)
    assert summary.exit_code == 0
    assert len(bench.responder.asked) == 8


async def test_the_output_is_free_after_a_batch(bench: Bench) -> None:
    """A batch that failed releases its output."""
    table = bench.input(*SUMS[:2])
    bench.output.with_name("out.csv.journal").write_text("not a journal\n" * 50)
    for _ in range(2):
        with pytest.raises(OutputError, match="not a readable journal"):
            await bench.run(table)


async def test_an_output_folder_that_cannot_be(bench: Bench) -> None:
    """An output below a file, or in a folder that the system refuses, is one line before anything is sent."""
    table = bench.input(*SUMS[:2])
    for folder in (table, Path("/proc/nothing")):
        with pytest.raises((OutputError, InputError)) as caught:
            make_plan(make_job({"base_url": bench.server.url, "model": "m"}), table, Environment(), folder / "out.csv")
        assert "\n" not in str(caught.value)
    assert bench.responder.asked == []


SERVICES = {
    "key refused": (json_answer({"error": {"message": f"Incorrect API key: {KEY}", "code": "invalid_api_key"}}, 401),
                    "the service refused the key: Incorrect API key: ***"),
    "forbidden": (json_answer({"error": {"message": "Not yours."}}, 403), "the service cannot be used: Not yours."),
    "quota": (json_answer({"error": {"message": "Pay.", "code": "insufficient_quota"}}, 429),
              "the quota is exhausted: Pay."),
    "model": (json_answer({"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}, 404),
              "the service refused a setting: The model `m` does not exist"),
    "html": (html(), "the service has been unavailable for 0.2 s (--max-outage): the server answered 200 with text/html"),
    "404 page": (html(status=404), "no such endpoint on this server: /v1/assistants"),
    "closes at once": (Answer(b"", "close"), "the service has been unavailable for 0.2 s (--max-outage): the server closed"),
    "no http": (Answer(b"220 smtp ready\r\n", "close"), "the service cannot be used: the connection failed: "),
    "silent": (Answer(b"", "silence"), "the service cannot be used: the server sent nothing within the deadline"),
    "other json": (json_answer({"models": []}), "the service cannot be used: the server's reply has no"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SERVICES))
async def test_urls_without_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A service that refuses, or that is no such service, stops the batch with one line and exit code 5; nothing is
    written."""
    from batchrun.engine import engine

    monkeypatch.setattr(engine, "PREPARE_ATTEMPTS", 1)
    reply, words = SERVICES[name]
    table = write_csv(tmp_path / "in.csv", [{"question": "1 + 1"}])
    with ScriptedHttp(lambda _: reply) as server:
        job = make_job(
            {"base_url": server.url, "model": "m", "api": "assistants", "silence_timeout": 0.2, "max_outage": 0.2}
        )
        environment = Environment(api_key=KEY)
        summary = await run_batch(make_plan(job, table, environment, tmp_path / "out.csv"), environment)
        assert len(server.requests) <= (6 if "--max-outage" in words else 1)
    assert summary.stop is not None
    assert summary.stop.reason.startswith(words)
    assert "\n" not in summary.stop.reason
    assert KEY not in summary.stop.reason
    assert (summary.exit_code, summary.output, summary.totals.by_status["pending"]) == (5, None, 1)
    assert not (tmp_path / "out.csv").exists()
    assert capfd.readouterr() == ("", "")


async def test_a_key_that_is_refused_midway(tmp_path: Path) -> None:
    """A key that is withdrawn stops the batch; the answers so far are written, the rest runs next time."""
    responder = Counting()
    table = write_csv(tmp_path / "in.csv", [{"question": text} for text in SUMS])
    with EmbeddedServer(ServerSettings(api_keys=(KEY,), owner="x"), responder) as server:
        refusing = threading.Event()
        with Gate(server.url, refusing) as gate:
            job = make_job({"base_url": gate.url, "model": "m", "api": "assistants", "concurrency": 1})
            environment = Environment(api_key=KEY)

            def after_three(_: Any) -> None:
                if len(responder.asked) == 3:
                    refusing.set()

            def plan() -> Plan:
                return make_plan(job, table, environment, tmp_path / "out.csv")

            summary = await run_batch(plan(), environment, on_outcome=after_three)
            assert (summary.exit_code, summary.totals.by_status["completed"], summary.totals.by_status["pending"]) == (
                5,
                3,
                5,
            )
            refusing.clear()
            summary = await run_batch(plan(), environment)
    assert (summary.exit_code, summary.statistics.created_again) == (0, 0)
    assert len(responder.asked) == 8


class Gate(ScriptedHttp):
    """Passes requests on to a server, unless it refuses them."""

    def __init__(self, url: str, refusing: threading.Event) -> None:
        def passed(request: Any) -> Answer:
            if refusing.is_set():
                return json_answer({"error": {"message": "revoked", "code": "invalid_api_key"}}, 401)
            reply = httpx2.request(
                request.method,
                url.removesuffix("/v1") + request.path,
                json=request.body,
                headers={name: request.headers[name] for name in ("authorization", "openai-beta", "idempotency-key")
                         if name in request.headers},
            )  # fmt: skip
            head = f"HTTP/1.1 {reply.status_code} X\r\ncontent-type: {reply.headers['content-type']}\r\n"
            return Answer(f"{head}content-length: {len(reply.content)}\r\n\r\n".encode() + reply.content)

        super().__init__(passed)


@pytest.mark.nightly
@pytest.mark.skipif(not GSM8K.exists(), reason="the GSM8K questions lie beside the project, not in it")
async def test_gsm8k(tmp_path: Path) -> None:
    """1,319 real rows with line breaks come out whole: every one, in order, each with its own thread and run."""
    output = tmp_path / "gsm8k.csv"
    plan = make_plan(make_job({}), GSM8K, Environment(), output)
    assert plan.rows == 1_319
    summary = await run_batch(plan, Environment())
    asked = read_csv(GSM8K)
    answered = read_csv(output)
    assert len(answered) == len(asked) == 1_319
    assert [{name: row[name] for name in asked[0]} for row in answered] == asked
    assert {row["status"] for row in answered} == {"completed"}
    assert len({row["thread_id"] for row in answered}) == len({row["run_id"] for row in answered}) == 1_319
    assert summary.exit_code == 0
    assert summary.statistics.limits.requests == 1_320
