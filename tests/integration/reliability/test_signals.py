"""Signals to a real process: it writes what it has, reports the signal in its exit code, and can be resumed."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from batchrun.tables.atomic import remove_stale, replacing
from tests.integration.reliability.batches import (
    BEGUN,
    ENDED,
    Table,
    assert_each_row_once,
    command,
    killed_when,
    write_table,
)
from tests.integration.reliability.processes import Served, batchrun
from tests.support.chat import chat_reply
from tests.support.scripted_http import ScriptedHttp, json_answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_batch_with_its_output_written(tmp_path: Path, number: signal.Signals) -> None:
    """After SIGINT, SIGTERM or SIGHUP the output holds all outcomes so far, the exit code names the signal, and the
    same command resumes with the same runs."""
    table = write_table(tmp_path / "batch", 60)
    with Served(tmp_path / "server", delta_delay_s=0.1) as server:
        arguments = command(table, server.url, "--grace", "0.1", "--concurrency", "20")
        with batchrun(table.folder, *arguments) as process:
            while process.running and table.count(ENDED) < 20:
                time.sleep(0.005)
            process.signal(number)
            assert process.wait() == 128 + number, process.stderr
            stopped = process.facts()
        statuses = [row["status"] for row in table.answers()]
        with batchrun(table.folder, *arguments) as process:
            assert process.wait() == 0, process.stderr
    assert stopped["stop"] == f"interrupted by {number.name}"
    assert statuses.count("completed") == stopped["completed"] >= 20
    assert len(statuses) == table.rows
    assert statuses.count("pending") > 0
    assert_each_row_once(table, server)


def test_the_second_signal_leaves_at_once(tmp_path: Path) -> None:
    """During the grace period of rows in flight, a second signal ends the process, and nothing is lost."""
    table = write_table(tmp_path / "batch", 10)
    with Served(tmp_path / "server", delay_s=2.0) as server:
        arguments = command(table, server.url, "--grace", "3600")
        with batchrun(table.folder, *arguments) as process:
            while process.running and table.count(BEGUN) < table.rows:
                time.sleep(0.005)
            process.signal(signal.SIGINT)
            while process.running:  # two that come together are delivered as one
                time.sleep(0.05)
                process.signal(signal.SIGINT)
            # By the operating system, or by the handler if the loop is late: a shell calls both 130.
            assert process.wait() in (-signal.SIGINT, 130)
            assert process.stderr == ""
        assert not table.output.exists()
        with batchrun(table.folder, *arguments) as process:
            assert process.wait() == 0, process.stderr
    assert_each_row_once(table, server)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
def test_a_pair_of_signals_counts_once(tmp_path: Path, second: signal.Signals) -> None:
    """GNU `timeout` sends SIGTERM to the process and to its group: the output and the summary are written anyway,
    whenever the second signal arrives."""
    table = write_table(tmp_path / "batch", 10)
    with Served(tmp_path / "server", delay_s=5.0) as server:
        with batchrun(table.folder, *command(table, server.url, "--grace", "0.2")) as process:
            while process.running and table.count(BEGUN) < table.rows:
                time.sleep(0.005)
            process.signal(signal.SIGTERM)
            while process.running:
                time.sleep(0.02)
                with suppress(ProcessLookupError):  # it may have ended in between
                    process.signal(second)
            # A process that sleeps between the two gets the one with the lower number first.
            first = {143: signal.SIGTERM, 128 + second: second}[process.wait()]
            assert process.facts()["stop"] == f"interrupted by {first.name}"
        assert len(table.answers()) == table.rows


def test_a_signal_while_the_output_is_written_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM and SIGHUP at the end of a batch: the output is written completely."""
    table = write_table(tmp_path / "batch", 40)
    with Served(tmp_path / "server") as server, batchrun(table.folder, *command(table, server.url)) as process:
        while process.running and not table.is_being_written() and table.count(ENDED) < table.rows:
            time.sleep(0)
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGHUP)
        assert process.wait() in (0, 129, 143)  # 0: it had written it before
    assert [row["status"] for row in table.answers()].count("completed") == table.rows


BUSY = """
import itertools, signal, time

async def spin() -> str:
    \"\"\"Never gives the event loop back.\"\"\"
    open("spinning", "w").close()
    while True:
        pass

async def count() -> str:
    \"\"\"Holds the interpreter lock in C, once SIGINT is left to the operating system.\"\"\"
    import asyncio
    open("spinning", "w").close()
    while signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        await asyncio.sleep(0.01)
    open("deaf", "w").close()
    sum(itertools.repeat(1))
"""


@pytest.mark.parametrize(("function", "exit_code"), [("spin", 130), ("count", -signal.SIGINT)])
def test_the_second_signal_leaves_a_busy_loop(tmp_path: Path, function: str, exit_code: int) -> None:
    """The second signal also ends a process whose event loop is blocked by a user's function, in Python or in a C
    library."""
    table = write_table(tmp_path, 1)
    (tmp_path / "tools.py").write_text(BUSY)
    call = {"id": "call_1", "type": "function", "function": {"name": function, "arguments": "{}"}}
    reply = chat_reply(None, "tool_calls", message={"tool_calls": [call]})
    with ScriptedHttp(lambda _: json_answer(reply)) as server:
        arguments = command(table, server.url, "--tools", "tools.py", "--grace", "3600", api="chat")
        with batchrun(tmp_path, *arguments) as process:
            while process.running and not (tmp_path / "spinning").exists():
                time.sleep(0.005)
            process.signal(signal.SIGINT)
            while process.running and function == "count" and not (tmp_path / "deaf").exists():
                time.sleep(0.005)
            while process.running:
                process.signal(signal.SIGINT)
                time.sleep(0.05)
            assert process.wait() == exit_code


def test_a_suspended_batch_continues(tmp_path: Path) -> None:
    """Suspended (SIGSTOP) for longer than all its deadlines and continued, a batch completes its rows."""
    table = write_table(tmp_path / "batch", 40)
    with Served(tmp_path / "server", delay_s=0.1, delta_delay_s=0.1) as server:
        arguments = command(table, server.url, "--row-timeout", "2", "--silence-timeout", "1", "--concurrency", "20")
        with batchrun(table.folder, *arguments) as process:
            while process.running and table.count(ENDED) < 10:
                time.sleep(0.005)
            process.signal(signal.SIGSTOP)
            time.sleep(2.5)
            process.signal(signal.SIGCONT)
            assert process.wait() == 0, process.stdout
    assert_each_row_once(table, server)


def test_a_killed_writer_leaves_nothing_behind_for_long(tmp_path: Path) -> None:
    """The hidden file of a killed writer is gone after the next run."""
    table = write_table(tmp_path / "batch", 30)
    with Served(tmp_path / "server") as server:
        for _ in range(20):
            with batchrun(table.folder, *command(table, server.url)) as process:
                killed_when(process, table.is_being_written, pause_s=0.0)
            if table.is_being_written():
                break
            table.output.unlink(missing_ok=True)  # else the next run would not write it again
        assert table.is_being_written(), "the writing was over too soon 20 times"
        with batchrun(table.folder, *command(table, server.url)) as process:
            assert process.wait() == 0, process.stderr
    assert list(table.folder.glob(".batchrun-*")) == []
    assert_each_row_once(table, server)


def test_a_living_writer_keeps_its_file(tmp_path: Path) -> None:
    """Left-over files of an output are removed, but neither those of another output nor one that is being written."""
    output = tmp_path / "answers.csv"
    with replacing(tmp_path / "other.csv"), replacing(output) as living:
        living.write(b"whole")
        own = Path(f"/proc/self/fd/{living.fileno()}").readlink().name
        dead = tmp_path / f"{own.rpartition('-')[0]}-0000.tmp"
        dead.touch()
        remove_stale(output)
        assert not dead.exists()
        assert len(list(tmp_path.glob(".batchrun-*"))) == 2
    assert output.read_bytes() == b"whole"


def test_an_output_is_in_the_synced_part_of_the_journal(tmp_path: Path) -> None:
    """When the output is written, the journal's own file has every answer, without its write-ahead log: a power failure
    loses no answer of an output."""
    table = write_table(tmp_path / "batch", 30)
    with Served(tmp_path / "server") as server, batchrun(table.folder, *command(table, server.url)) as process:
        killed_when(process, table.output.exists, pause_s=0.0)
    synced = tmp_path / "synced.journal"
    shutil.copyfile(table.journal, synced)
    assert Table(tmp_path, 30, table.input, tmp_path / "synced").count(ENDED) == table.rows
