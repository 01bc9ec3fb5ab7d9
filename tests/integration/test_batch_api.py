"""--batch-api as users see it: the table, the waves, --no-wait, the deadline, the budget, cancel and cleanup."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

import batchrun
from batchrun.batch.cancel import cancel_batch, cancel_exit_code, cancel_lines
from batchrun.batch.cleanup import clean_up
from batchrun.batch.cleanup_summary import cleanup_line
from batchrun.batch.plan import make_plan
from batchrun.batch.progress import BatchView, Watch
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary, summary_lines
from batchrun.batch.show import row_facts, row_lines
from batchrun.batch.status import batch_status, status_lines
from batchrun.errors import InputError, JournalMismatch
from batchrun.estimate.dry_run import dry_run, dry_run_lines
from batchrun.estimate.pilot import run_pilot
from batchrun.interrupts import Interrupts
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Finish, TokenCount
from batchrun.server.responders.script import ScriptResponder
from tests.support.command import batchrun as command
from tests.support.foreign_batch_api import ForeignBatchApi
from tests.support.recording import Recording
from tests.support.rows import read_csv, write_csv

KEY = Environment(api_key="sk-test-0123456789")
PRICES = {"m": {"input": 1.0, "output": 1.0}, "n": {"input": 1.0, "output": 1.0}}
TABLE = [{"question": f"question {number}"} for number in range(6)]
PLAIN = '[default]\nreply = "An answer."\n'
HELD = PLAIN + '[[batch_api]]\nkind = "hold"\nstatus = "in_progress"\nretrievals = 1\n'
DIFFERENT = ("thread_id", "run_id", "cost_usd", "duration_s", "completed_at")
"""Columns in which a batch through the Batch API differs from an ordinary one."""


@contextmanager
def serving(folder: Path, script: str) -> Iterator[str]:
    path = folder / "script.toml"
    path.write_text(script, encoding="utf-8")
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), ScriptResponder(path)) as server:
        yield server.url


async def run(
    folder: Path,
    url: str,
    table: Sequence[Mapping[str, str]] = TABLE,
    name: str = "out.csv",
    *,
    watch: Watch | None = None,
    interrupts: Interrupts | None = None,
    **options: Any,
) -> Summary:
    source = write_csv(folder / "in.csv", table)
    job = make_job({"model": "m", "prices": PRICES, "base_url": url, "batch_api": True, "batch_poll": 0.05, **options})
    plan = make_plan(job, source, KEY, folder / name)
    return await run_batch(plan, KEY, watch=watch, interrupts=interrupts)


def compared(path: Path) -> list[dict[str, str | bool]]:
    rows = read_csv(path)
    return [{name: bool(cell) if name == "run_id" else cell for name, cell in row.items()
             if name not in DIFFERENT or name == "run_id"} for row in rows]  # fmt: skip


def statuses(folder: Path, name: str = "out.csv") -> list[str]:
    return [row["status"] for row in read_csv(folder / name)]


# -- the table ------------------------------------------------------------------------------------------------

RICH = """
[[rule]]
pattern = "Refused"
fault = { code = "invalid_prompt" }

[[rule]]
pattern = "The price of (.+)"
tool_calls = [{ name = "price", arguments = { item = '\\1' } }]
after = 'It is \\o1.'

[[rule]]
pattern = "That answer does not have the form"
reply = '{"n": 1}'

[default]
reply = "An answer."
"""


def price(item: str) -> str:
    """Return the price of an item.

    Args:
        item: what to look up.
    """
    return f"{item} for 5"


@pytest.mark.anyio
@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt": ["Say {{ question }}", "Shorter than: {{ responses[0] }}"], "epochs": 2},
        {"model": ["m", "n"], "dedupe": True, "instructions": "Be brief.", "temperature": 0.5},
        # Over Responses the server refuses an answer that is not JSON: each further attempt waits twice as long.
        {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, "max_attempts": 2},
        {"tools": [price], "prompt": ["{{ question }}", "The price of {{ question }}"]},
    ],
    ids=["plain", "turns and epochs", "models and dedupe", "schema corrections", "functions"],
)
async def test_the_table_is_that_of_an_ordinary_run(tmp_path: Path, api: str, options: dict[str, Any]) -> None:
    """Each kind of row ends as in an ordinary run, but for ids, times and cost."""
    others = ["question 0", "The price of tea", "", "Refused"]
    table = [*TABLE, *({"question": each} for each in others)]
    with serving(tmp_path, RICH) as url:
        through = await run(tmp_path, url, table, api=api, **options)
        ordinary = await run(
            tmp_path, url, table, "ordinary.csv", api=api, batch_api=False, batch_poll=300.0, **options
        )
    assert through.exit_code == ordinary.exit_code
    assert compared(tmp_path / "out.csv") == compared(tmp_path / "ordinary.csv")
    assert through.statistics.in_flight == 0


@pytest.mark.anyio
async def test_failed_attempts_that_were_paid_are_in_the_usage(tmp_path: Path) -> None:
    """An empty answer is asked for again in another wave; its tokens are in the row, as in an ordinary run."""
    responder = Recording(reply=lambda _: [Finish("stop", TokenCount(5, 0))])
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder) as server:
        await run(tmp_path, server.url, TABLE[:1])
        await run(tmp_path, server.url, TABLE[:1], "ordinary.csv", batch_api=False, batch_poll=300.0)
    (row,) = read_csv(tmp_path / "out.csv")
    assert (row["error_type"], row["attempts"], row["prompt_tokens"]) == ("empty_answer", "2", "10")
    assert compared(tmp_path / "out.csv") == compared(tmp_path / "ordinary.csv")


# -- --no-wait ------------------------------------------------------------------------------------------------


def test_no_wait_submits_and_collects(tmp_path: Path) -> None:
    """Each run submits and collects what it can and exits with 8 while answers are missing; nothing is scored before
    the last, no monitor is called, and the service is asked once for each row."""
    write_csv(tmp_path / "in.csv", [{**row, "truth": "An answer."} for row in TABLE])
    with serving(tmp_path, HELD) as url:
        arguments = ["run", "in.csv", "--model", "m", "--batch-api", "--no-wait", "-o", "out.csv", "--base-url", url]
        arguments += ["--score", "exact", "--target", "truth", "--ping", "http://127.0.0.1:9/ping"]
        first = command(tmp_path, *arguments, OPENAI_API_KEY="sk-test")
        assert (first.returncode, statuses(tmp_path)) == (8, ["in_flight"] * 6)
        assert "this run submitted 6 requests in 1 batch; 6 requests in 1 batch at the service since 2" in first.stderr
        assert "in 1 wave of requests" in first.stderr
        assert "not scored yet" in first.stderr
        assert "--ping" not in first.stderr
        assert "at the service's Batch API" in status_lines(batch_status(tmp_path / "out.csv"))[0]
        ordinary = command(tmp_path, "run", "in.csv", "--model", "m", "--base-url", url, "-o", "out.csv", "--api",
                           "responses", OPENAI_API_KEY="sk-test")  # fmt: skip
        assert (ordinary.returncode, "add --batch-api to collect" in ordinary.stderr) == (2, True)
        second = command(tmp_path, *arguments, OPENAI_API_KEY="sk-test")
        assert second.returncode == 8
        assert "this run submitted and collected nothing; 6 requests in 1 batch at the service since 2" in second.stderr
        assert "in 1 wave" not in second.stderr
        last = command(tmp_path, *arguments, OPENAI_API_KEY="sk-test")
        assert (last.returncode, statuses(tmp_path)) == (0, ["completed"] * 6)
        assert "exact" in last.stdout
        assert "--ping" in last.stderr  # nobody listens there
        assert len(_service_batches(url)) == 1
        again = command(tmp_path, "cancel", "out.csv", "--json", OPENAI_API_KEY="sk-test")
        assert (again.returncode, json.loads(again.stdout)["cancelled"]) == (0, 0)


@pytest.mark.anyio
async def test_batches_of_other_rows_are_not_waited_for(tmp_path: Path) -> None:
    """A run of some rows ends when these have their answers, although batches of other rows are at the service."""
    with serving(tmp_path, PLAIN + FOREVER + "batches = [1]\n") as url:
        await run(tmp_path, url, no_wait=True, limit=2)
        some = await run(tmp_path, url, where="question == 'question 4'")
        assert (some.exit_code, some.totals.by_status["completed"], len(some.service_batches)) == (0, 1, 1)
        assert statuses(tmp_path) == ["skipped"] * 4 + ["completed", "skipped"]


def _service_batches(url: str) -> list[dict[str, Any]]:
    with openai.OpenAI(base_url=url, api_key="sk-test") as client:
        return [each.model_dump() for each in client.batches.list()]


# -- stopping -------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_ctrl_c_leaves_the_service_batches_running(tmp_path: Path) -> None:
    """Ctrl-C ends the wait at once, says how to continue, and the same command collects the same service batch."""
    interrupts = Interrupts()

    async def watch(view: BatchView) -> None:
        while not view.open_batches():
            await anyio.sleep(0.01)
        interrupts.interrupt()

    with serving(tmp_path, PLAIN + FOREVER) as url:
        summary = await run(tmp_path, url, batch_size=4, watch=watch, interrupts=interrupts)
        assert (summary.exit_code, statuses(tmp_path)) == (130, ["in_flight"] * 6)
        assert "2 batches at the service continue: run the same command again" in "\n".join(summary_lines(summary))
        assert [each["status"] for each in _service_batches(url)] == ["in_progress"] * 2


FOREVER = '[[batch_api]]\nkind = "hold"\nstatus = "in_progress"\nretrievals = 1000000\nlines = [1, 2]\n'


@pytest.mark.anyio
async def test_after_the_deadline_rows_are_sent_in_the_ordinary_way(tmp_path: Path) -> None:
    """A service batch that is not back in time is cancelled, its answers are kept, and only the other rows are sent as
    ordinary requests, whose cost is their own."""
    with serving(tmp_path, PLAIN + FOREVER) as url:
        summary = await run(tmp_path, url, batch_deadline="2s")
        assert (summary.exit_code, statuses(tmp_path)) == (0, ["completed"] * 6)
        assert [row["attempts"] for row in read_csv(tmp_path / "out.csv")] == ["2", "2", "1", "1", "1", "1"]
        ends = "at the service's Batch API: 1 batch was cancelled; 2 rows were asked again"
        assert ends in summary_lines(summary)
        (batch,) = _service_batches(url)
        assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 4)


@pytest.mark.anyio
async def test_cancel_keeps_what_is_done(tmp_path: Path) -> None:
    """`cancel` cancels the service batches of its output only and writes what they have answered; the next run sends
    the other rows again, and nothing else."""
    with serving(tmp_path, PLAIN + FOREVER + "batches = [1]\n") as url:
        elsewhere: dict[str, Any] = {"output": tmp_path / "far" / "out.csv", "journal": tmp_path / "out.csv.journal"}
        await run(tmp_path, url, no_wait=True, **elsewhere)
        await run(tmp_path, url, name="other.csv", no_wait=True)
        put = (tmp_path / "far" / "out.csv").read_text()
        facts = await cancel_batch(tmp_path / "out.csv", make_job({}), KEY)
        assert f"not put to {tmp_path / 'far' / 'out.csv'} yet: `run` with" in cancel_lines(facts)[-1]
        assert (tmp_path / "far" / "out.csv").read_text() == put
        assert statuses(tmp_path) == ["pending"] * 2 + ["completed"] * 4
        asked = [(row["run_id"] != "", row["attempts"]) for row in read_csv(tmp_path / "out.csv")]
        assert asked == [(False, "")] * 2 + [(True, "1")] * 4
        assert "4 rows completed, 2 pending; the next run asks these" in cancel_lines(facts)
        attempts = [
            line for line in row_lines(await row_facts(tmp_path / "out.csv", "0", KEY)) if line.startswith("attempt")
        ]
        assert attempts[1].endswith(" · for the Batch API, not sent yet")
        assert {each["status"] for each in _service_batches(url)} == {"cancelled", "completed"}
        assert (await cancel_batch(tmp_path / "out.csv", make_job({}), KEY))["cancelled"] == 0
        summary = await run(tmp_path, url, **elsewhere)
        assert (summary.exit_code, summary.statistics.created_again) == (0, 0)
        assert (tmp_path / "far" / "out.csv").read_text() == (tmp_path / "out.csv").read_text() != put
        assert [each["request_counts"]["total"] for each in _service_batches(url)] == [2, 6, 6]


@pytest.mark.anyio
async def test_cancel_does_not_wait_for_ever(tmp_path: Path) -> None:
    """`cancel` leaves a batch that the service does not end in time open, with exit code 8; the same command collects
    what is done later."""
    slow = '[[batch_api]]\nkind = "hold"\nstatus = "cancelling"\nretrievals = 2\n'
    with serving(tmp_path, PLAIN + FOREVER + slow) as url:
        await run(tmp_path, url, no_wait=True)
        facts = await cancel_batch(tmp_path / "out.csv", make_job({}), KEY, patience_s=0.0)
        assert (facts["cancelled"], facts["open"], cancel_exit_code(facts)) == (0, 1, 8)
        assert f"collect what is done with batchrun cancel {tmp_path / 'out.csv'}" in "\n".join(cancel_lines(facts))
        assert statuses(tmp_path) == ["in_flight"] * 6
        facts = await cancel_batch(tmp_path / "out.csv", make_job({"batch_poll": 0.05}), KEY)
        assert (facts["cancelled"], facts["open"], cancel_exit_code(facts)) == (1, 0, 0)
        assert statuses(tmp_path) == ["pending"] * 2 + ["completed"] * 4


@pytest.mark.anyio
async def test_cancel_ends_when_a_batch_fails_meanwhile(tmp_path: Path) -> None:
    """A batch at the service that fails as a whole while it is cancelled is not made once more, nor waited for."""
    with ForeignBatchApi(statuses=("validating", "failed")) as service:
        await run(tmp_path, service.url, api="chat", no_wait=True, batch_size=3)
        facts = await cancel_batch(tmp_path / "out.csv", make_job({"batch_poll": 0.05}), KEY)
        assert (facts["cancelled"], facts["pending"], len(service.batches)) == (2, 6, 2)


@pytest.mark.anyio
async def test_fresh_leaves_no_paid_batch_behind(tmp_path: Path) -> None:
    """--fresh, and another service, are refused while a batch is at the service, whose answers nobody would collect."""
    with serving(tmp_path, PLAIN + FOREVER) as url:
        await run(tmp_path, url, no_wait=True)
        with pytest.raises(InputError, match=r"^--fresh: 1 batch of this output is at the service.* batchrun cancel "):
            await run(tmp_path, url, no_wait=True, fresh=True)
        with pytest.raises(InputError, match=r"^--accept-changes with another service: 1 batch"):
            await run(tmp_path, url.replace("127.0.0.1", "localhost"), no_wait=True, accept_changes=True)
        assert len(_service_batches(url)) == 1
        await cancel_batch(tmp_path / "out.csv", make_job({}), KEY)
        assert (await run(tmp_path, url, no_wait=True, fresh=True)).totals.by_status["in_flight"] == 6


@pytest.mark.anyio
async def test_what_changes_at_the_service_is_said(tmp_path: Path) -> None:
    """Another model while requests are at the service is refused with their number; --accept-changes says how many rows
    are paid for twice, and cleanup that the files of open batches are kept."""
    with serving(tmp_path, PLAIN + FOREVER) as url:
        await run(tmp_path, url, no_wait=True)
        again = make_job({"model": "m", "prices": PRICES, "base_url": url, "batch_api": True})
        estimate = dry_run(make_plan(again, tmp_path / "in.csv", KEY, tmp_path / "out.csv"))
        assert (estimate.to_ask, estimate.at_service, estimate.notices) == (0, 6, ())
        with pytest.raises(JournalMismatch, match=r"6 requests are at the service's Batch API: .* paid for twice"):
            await run(tmp_path, url, no_wait=True, model="n")
        job = make_job({"model": "n", "prices": PRICES, "base_url": url, "batch_api": True, "no_wait": True,
                        "accept_changes": True})  # fmt: skip
        said: list[str] = []
        expected = "6 rows changed while at the service's Batch API: asked again, and both requests are paid for"
        assert expected in dry_run(make_plan(job, tmp_path / "in.csv", KEY, tmp_path / "out.csv")).notices
        await run_batch(make_plan(job, tmp_path / "in.csv", KEY, tmp_path / "out.csv"), KEY, notify=said.append)
        assert said == [expected]
        line = cleanup_line(await clean_up(tmp_path / "out.csv", make_job({}), KEY))
        assert "2 batches are open at the service's Batch API: their files are kept" in line
        assert f"cancel with batchrun cancel {tmp_path / 'out.csv'}" in line


@pytest.mark.anyio
async def test_edited_rows_at_the_service_are_counted(tmp_path: Path) -> None:
    """With --key, rows that are edited while their old prompt is at the service are asked again, and said to be paid
    for twice, once."""
    with serving(tmp_path, PLAIN + FOREVER) as url:
        said: list[str] = []
        for question in ("question", "other", "other"):
            table = [{"id": str(number), "question": f"{question} {number}"} for number in range(6)]
            table[0]["question"] = "the same"
            source = write_csv(tmp_path / "in.csv", table)
            job = make_job({"model": "m", "prices": PRICES, "base_url": url, "batch_api": True, "no_wait": True,
                            "key": "id", "prompt": "{{ question }}"})  # fmt: skip
            await run_batch(make_plan(job, source, KEY, tmp_path / "out.csv"), KEY, notify=said.append)
    assert said == ["5 rows changed while at the service's Batch API: asked again, and both requests are paid for"]


@pytest.mark.anyio
async def test_cleanup_deletes_the_files(tmp_path: Path) -> None:
    """`cleanup` deletes the stored responses and the files of the service batches, once their answers are there."""
    with serving(tmp_path, PLAIN) as url:
        await run(tmp_path, url)
        with openai.OpenAI(base_url=url, api_key="sk-test") as client:
            assert len(list(client.files.list())) == 2
            summary = await clean_up(tmp_path / "out.csv", make_job({}), KEY)
            assert (summary.exit_code, dict(summary.deleted)) == (0, {"response": 6, "file": 2})
            assert list(client.files.list()) == []


# -- money and estimates --------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_budget_holds_over_waves(tmp_path: Path) -> None:
    """Rows that the budget does not cover wait until the money of others is free, or stop the batch with exit code 4."""
    prices = {"m": {"input": 0.0, "output": 1_000_000.0}}
    with serving(tmp_path, PLAIN) as url:
        options: dict[str, Any] = {"prices": prices, "max_completion_tokens": 10, "api": "chat"}
        first = await run(tmp_path, url, name="first.csv", budget=25.0, no_wait=True, **options)
        assert "other rows are pending, since the money of --budget 25 is reserved" in "\n".join(summary_lines(first))
        await cancel_batch(tmp_path / "first.csv", make_job({}), KEY)
        summary = await run(tmp_path, url, budget=25.0, **options)
        assert summary.exit_code == 0
        assert summary.totals.cost_usd == pytest.approx(18.0)
        assert [each["request_counts"]["total"] for each in _service_batches(url)][::-1] == [2, 2, 1, 1, 1, 1]
        short = await run(tmp_path, url, name="short.csv", budget=15.0, **options)
        assert short.exit_code == 4
        assert short.totals.by_status["completed"] == 2


@pytest.mark.anyio
async def test_a_budget_asks_no_failed_row_twice_in_a_run(tmp_path: Path) -> None:
    """With --retry-failed, the later waves of a budget ask the rows that are left, and not those that have just
    failed."""
    refused = '[[rule]]\npattern = "question [01]"\nfault = { code = "invalid_prompt" }\n'
    prices = {"m": {"input": 0.0, "output": 1_000_000.0}}
    with serving(tmp_path, refused + PLAIN) as url:
        summary = await run(
            tmp_path, url, api="chat", prices=prices, max_completion_tokens=10, budget=45.0, retry_failed=True
        )
    assert (summary.exit_code, summary.stop) == (3, None)
    assert [row["attempts"] for row in read_csv(tmp_path / "out.csv")] == ["1"] * 6


@pytest.mark.anyio
async def test_a_budget_and_a_deadline_leave_no_row(tmp_path: Path) -> None:
    """Rows that waited for money of others are asked when a deadline has sent these in the ordinary way."""
    prices = {"m": {"input": 0.0, "output": 1_000_000.0}}
    options: dict[str, Any] = {"prices": prices, "max_completion_tokens": 10, "api": "chat"}
    with serving(tmp_path, PLAIN + FOREVER) as url:
        summary = await run(tmp_path, url, TABLE[:3], budget=25.0, batch_deadline="0.1s", **options)
    assert (summary.exit_code, statuses(tmp_path)) == (0, ["completed"] * 3)


def test_before_the_start(tmp_path: Path) -> None:
    """A dry run says how many waves there may be, how long each may take, and costs of the Batch API."""
    options: dict[str, Any] = {"model": "gpt-4o-mini", "prompt": ["{{ question }}", "Shorter."], "rpm": 60}
    table = write_csv(tmp_path / "in.csv", TABLE)
    both = [
        dry_run(make_plan(make_job({**options, "batch_api": batch_api}), table, KEY, tmp_path / "out.csv"))
        for batch_api in (True, False)
    ]
    lines = "\n".join(dry_run_lines(both[0]))
    assert "up to 2 waves of requests (turns), each of which may take up to 24 h" in lines
    assert "--rpm does not hold for requests of the Batch API" in lines
    assert "time: up to 48 h: each wave of requests may take up to 24 h" in lines
    assert "Batch API)" in lines
    assert both[0].cost is not None
    assert both[1].cost == 2 * both[0].cost


@pytest.mark.anyio
async def test_a_pilot_is_a_batch_of_its_own(tmp_path: Path) -> None:
    """The rows of a pilot are one service batch; the run sends the others, and no row twice."""
    with serving(tmp_path, PLAIN) as url:
        table = write_csv(tmp_path / "in.csv", TABLE)
        job = make_job({"model": "m", "prices": PRICES, "base_url": url, "batch_api": True, "batch_poll": 0.05})
        pilot = await run_pilot(make_plan(job, table, KEY, tmp_path / "out.csv"), KEY, 2)
        assert (pilot.exit_code, pilot.sampled) == (0, 2)
        await run(tmp_path, url)
        assert [each["request_counts"]["total"] for each in _service_batches(url)] == [4, 2]


def test_from_python(tmp_path: Path) -> None:
    """A call without an output, or with a score and no_wait, is refused by name."""
    with pytest.raises(InputError, match=r"^batch_api: needs output=\.\.\., because its journal"):
        batchrun.run(["1 + 1"], model="tutor", batch_api=True)
    with pytest.raises(InputError, match=r"^no_wait cannot be combined with score"):
        batchrun.run(["1 + 1"], model="tutor", batch_api=True, no_wait=True, score="exact", output=tmp_path / "o.csv")
