"""Workers in the surroundings of a user: files in the working directory, in the way, or gone; what functions print;
processes that are stopped for a while."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

import batchrun as package
from batchrun.batch.plan import make_plan
from batchrun.batch.shard_plan import ShardPlan
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.journal import Journal
from batchrun.scale.messages import Begin, Broken, Shard
from batchrun.scale.pipes import start_process
from batchrun.services.client import Endpoint
from tests.integration.reliability.batches import ENDED, assert_each_row_once, command, write_table
from tests.integration.reliability.processes import Served, batchrun, waited, workers_of
from tests.integration.reliability.test_disks import Disk, disk
from tests.integration.reliability.test_workers import nothing_left
from tests.integration.workers.test_options import ROWS, Service, answers, ran, service, table, url
from tests.support.chat import chat_reply
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

__all__ = ["disk", "service", "table", "url"]

TOOLS = r'''
import sys

def double(number: int) -> int:
    """Return twice the number."""
    sys.stdout.write(f"doubled {number}\n")
    return 2 * number
'''


def test_files_with_the_names_of_modules(service: Service, url: str, table: Path) -> None:
    """A worker imports what the leader would, and no file of the working directory."""
    for name in ("random.py", "anyio.py", "batchrun.py"):
        table.with_name(name).write_text("raise SystemExit('a file of the user was imported')\n")
    assert ran(table, url).returncode == 0
    assert Counter(service.asked.values()) == {1: len(answers(table))}


def test_what_functions_print(table: Path) -> None:
    """What a function prints in a worker is printed, on standard error."""
    table.with_name("tools.py").write_text(TOOLS)

    def calling(request: Request) -> Answer:
        *_, last = request.body["messages"]
        if last["role"] == "tool":
            return json_answer(chat_reply(last["content"]))
        function = {"name": "double", "arguments": json.dumps({"number": int(last["content"].split()[1])})}
        call = {"id": "call", "type": "function", "function": function}
        return json_answer(chat_reply(None, "tool_calls", message={"tool_calls": [call]}))

    with ScriptedHttp(calling) as server:
        result = ran(table, server.url, "--tools", "tools.py")
    assert result.returncode == 0
    assert sorted(result.stderr.splitlines()) == sorted(f"doubled {row}" for row in range(ROWS))


def test_a_file_in_the_way(url: str, table: Path) -> None:
    """If the folder of the shards cannot be created, the batch ends with one line; without the obstacle it continues."""
    ran(table, url, "--limit", "1")
    folder = table.with_name("answers.csv.journal.d")
    folder.write_text("a file")
    refused = ran(table, url)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "answers.csv.journal.d: the workers of this batch cannot use it" in refused.stderr
    folder.unlink()
    assert ran(table, url).returncode == 0


@pytest.mark.parametrize("gone", ["*.rows", "*"])
def test_files_that_are_deleted_meanwhile(tmp_path: Path, gone: str) -> None:
    """If somebody deletes files of the workers, the batch ends with one line, and the next run asks what is missing."""
    table = write_table(tmp_path / "batch", 300)
    folder = table.journal.with_name(table.journal.name + ".d")
    with Served(tmp_path / "server") as server:
        arguments = command(table, server.url, "--concurrency", "4", api="chat")
        with batchrun(table.folder, *arguments, "--workers", "2") as process:
            assert waited(process, lambda: table.count(ENDED) >= 20)
            for path in folder.glob(gone):
                path.unlink(missing_ok=True)
            assert process.wait() == 2, process.stderr
        assert (process.stderr.count("\n"), str(folder.name) in process.stderr) == (1, True), process.stderr
        with batchrun(table.folder, *arguments) as process:
            assert process.wait() == 0, process.stderr
    assert [row["response"] for row in table.answers()] == [f"answer {row}" for row in range(table.rows)]
    assert nothing_left(table)


def files_of(shard: Shard) -> list[Path]:
    return list(shard.journal.parent.glob(f"{shard.journal.stem}*"))


@pytest.mark.anyio
async def test_a_shard_whose_journal_is_deleted(tmp_path: Path) -> None:
    """A worker that finds no journal of its shard says so, whoever notices first, and makes no empty one."""
    table = write_table(tmp_path, 1)
    plan = make_plan(make_job({"model": "m"}), table.input, Environment(api_key="k"), table.output)
    link = await start_process("worker 1", "batchrun.batch.shard_worker", tmp_path / "worker-1.log")
    shard = Shard(1, tmp_path / "00001.journal", tmp_path / "00001.rows", 1)
    await link.send(Begin(ShardPlan.of(plan, None), Endpoint("http://127.0.0.1:9/v1", "k"), logging.WARNING))
    await link.send(shard)
    while not isinstance(message := await link.receive(), Broken):
        pass
    await link.aclose()
    assert message.message.startswith(f"{shard.journal}: was deleted while the batch ran")
    assert files_of(shard) == []


def test_a_full_disk(tmp_path: Path, disk: Any) -> None:
    """A disk that fills up while workers run ends the batch with one line; with space it continues."""
    small: Disk = disk("24m")
    table = write_table(small.path / "batch", 500)
    with Served(tmp_path / "server") as server:
        arguments = command(table, server.url)
        small.fill(leave_kib=700)
        with batchrun(tmp_path, *arguments, "--workers", "2") as process:
            assert process.wait() == 2, process.stderr
        assert (process.stderr.count("\n"), "Traceback" in process.stderr) == (1, False), process.stderr
        small.make_space()
        with batchrun(tmp_path, *arguments) as process:
            assert process.wait() == 0, process.stderr
    assert_each_row_once(table, server)


def test_rows_that_are_asked_again_are_reported(service: Service, url: str, table: Path) -> None:
    """With --max-age, the new outcomes take the place of the earlier ones, and each is reported."""
    seen: list[str] = []
    options: dict[str, Any] = {
        "model": "m",
        "api": "chat",
        "base_url": url,
        "api_key": "k",
        "workers": 1,
        "max_age": "0s",
    }
    for _ in range(2):
        seen.clear()
        package.run(
            [f"row {n}" for n in range(100)],
            output=table.with_name("again.csv"),
            on_outcome=lambda outcome: seen.append(outcome.row_key),
            **options,
        )
        assert (len(seen), len(set(seen))) == (100, 100)
    assert Counter(service.asked.values()) == {2: 100}


@pytest.mark.parametrize("options", [("--max-age", "0s"), ("--retry-failed",)])
def test_a_lost_worker_does_not_repeat_rows(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Rows that have ended in this run are not asked again by the worker that continues, and are counted once."""
    table = write_table(tmp_path / "batch", 150)
    fails = options == ("--retry-failed",)
    faults = "[[fault]]\nkind = 'run_failed'\nrate = 0.1\ncode = 'invalid_prompt'\n" if fails else None
    with Served(tmp_path / "server", faults=faults) as server:
        arguments = command(table, server.url, "--workers", "1", "--concurrency", "2", *options)
        with batchrun(table.folder, *arguments) as process:
            assert waited(process, lambda: table.count(ENDED) >= 20)
            for worker in workers_of(process):
                worker.kill()
            assert process.wait() == (3 if fails else 0), process.stderr
        facts = process.facts()
    assert facts["this_run"]["asked"] == table.rows
    with Journal(table.journal, read_only=True) as journal:
        assert journal.last_outcome()[1] == 0  # no outcome has taken the place of another one


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_leader_that_was_stopped(tmp_path: Path) -> None:
    """Ctrl-Z stops the leader only. When it continues after more than a minute, its workers are still there."""
    table = write_table(tmp_path / "batch", 600)
    with Served(tmp_path / "server") as server:
        with batchrun(table.folder, *command(table, server.url, "--workers", "2", "--concurrency", "4")) as process:
            assert waited(process, lambda: table.count(ENDED) >= 50)
            before = {worker.pid for worker in workers_of(process)}
            psutil.Process(process.pid).suspend()
            time.sleep(65)
            process.signal(signal.SIGCONT)
            assert process.wait() == 0, process.stderr
        assert len(before) == 2
        assert process.stderr == ""
        assert process.facts()["this_run"]["asked"] == table.rows
    assert_each_row_once(table, server)
