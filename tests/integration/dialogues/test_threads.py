"""Rows that continue a thread of an earlier batch or of another row, or one that another run locks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from openai import OpenAI

from tests.integration.dialogues.bench import MODES, Bench, opened, until
from tests.support.command import batchrun
from tests.support.rows import write_csv

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK, of every call of Assistants

CONTINUED = ["assistants", "assistants poll", "responses", "responses stream", "responses conversation"]
THREADS = {"assistants": "thread_", "responses": "resp_", "responses conversation": "conv_"}


def client_of(bench: Bench) -> OpenAI:
    return OpenAI(base_url=bench.url, api_key="none", max_retries=0, timeout=30)


@pytest.mark.parametrize("mode", CONTINUED)
def test_rows_continue_the_threads_of_an_earlier_batch(bench: Bench, mode: str) -> None:
    """The second prompt sees the first one; an empty cell begins a new thread."""
    bench.ask("one", "two")
    bench.resumed(*MODES[mode])
    threads = [row["thread_id"] for row in bench.rows()]
    kind = THREADS.get(mode, THREADS[mode.split()[0]])
    assert all(thread.startswith(kind) for thread in threads)
    bench.ask("<said>", "<said>", "three", thread=[*threads, ""])
    bench.resumed(*MODES[mode], "--thread-column", "thread", "-o", "second.csv")
    rows = bench.rows("second.csv")
    assert [row["response"] for row in rows] == ["one / one", "two / two", "three"]
    if kind != "resp_":
        assert [row["thread_id"] for row in rows[:2]] == threads
    assert rows[2]["thread_id"].startswith(kind)
    assert rows[2]["thread_id"] not in threads


def test_rows_continue_the_embedded_servers_threads(tmp_path: Path) -> None:
    """Two batches with the same `--store` share its threads, without a service."""
    (tmp_path / "script.toml").write_text(
        "[[rule]]\npattern = '(?s)(.*)'\nreply = 'heard \\1'\nusage = { prompt_tokens = 5, completion_tokens = 2 }\n"
    )
    write_csv(tmp_path / "in.csv", [{"question": "one"}])
    options = ("--script", "script.toml", "--store", "threads.store", "--quiet")
    assert batchrun(tmp_path, "run", "in.csv", "-o", "first.csv", *options).returncode == 0
    (tmp_path / "again.csv").write_text((tmp_path / "first.csv").read_text().replace("response,status", "before,was"))
    again = ("--prompt", "more of {{ before }}", "--thread-column", "thread_id", "--output-prefix", "new_")
    done = batchrun(tmp_path, "run", "again.csv", "-o", "second.csv", *options, *again)
    assert done.returncode == 0, done.stderr
    shown = batchrun(tmp_path, "show", "second.csv", "0")
    for text in ("one", "heard one", "more of heard one", "heard more of heard one"):
        assert text in shown.stdout, shown.stdout + shown.stderr


@pytest.mark.parametrize("mode", ["assistants", "assistants poll", "responses conversation"])
def test_rows_with_the_same_thread_take_turns(bench: Bench, mode: str) -> None:
    """Rows on the same thread run one after the other in input order, each once, even after a kill."""
    bench.ask("begin")
    bench.resumed(*MODES[mode])
    thread = bench.rows()[0]["thread_id"]
    bench.ask("a", "b <said>", "c <said>", "elsewhere", thread=[thread, thread, thread, ""], name="more.csv")
    bench.table = "more.csv"
    options = (*MODES[mode], "--thread-column", "thread", "-o", "more-out.csv")
    bench.responder.held = lambda conversation: conversation.messages[-1].text.startswith("b")
    bench.killed(lambda: any(each.messages[-1].text.startswith("b") for each in bench.responder.asked), *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    before = "begin / begin / a / a"
    told = [row["response"] for row in bench.rows("more-out.csv")]
    assert told == ["a", f"b {before}", f"c {before} / b <said> / b {before}", "elsewhere"]
    assert bench.responder.asked_twice() == []
    assert len(bench.responder.asked) == 5


def test_a_thread_that_a_foreign_run_locks_is_waited_for(bench: Bench) -> None:
    """A row whose thread is locked by another run waits until that run has ended."""
    with client_of(bench) as client:
        assistant = client.beta.assistants.create(model="m")
        thread = client.beta.threads.create()
        bench.responder.held = lambda conversation: conversation.messages[-1].text == "foreign"
        client.beta.threads.messages.create(thread.id, role="user", content="foreign")
        client.beta.threads.runs.create(thread.id, assistant_id=assistant.id)
        until(lambda: len(bench.responder.asked) == 1)
        bench.ask("ours <said>", thread=[thread.id])
        release = threading.Timer(0.6, lambda: setattr(bench.responder, "held", lambda _: False))
        release.start()
        bench.resumed(*MODES["assistants"], "--thread-column", "thread")
        release.join()
    (row,) = bench.rows()
    assert (row["response"], row["attempts"]) == ("ours foreign / foreign", "1")


def test_a_thread_that_does_not_exist(bench: Bench) -> None:
    """A thread that does not exist fails its row, and the other rows continue."""
    bench.ask("lost", "found", thread=["thread_nobody", ""])
    bench.resumed(*MODES["assistants"], "--thread-column", "thread", exit_code=3)
    lost, found = bench.rows()
    assert (lost["status"], found["status"]) == ("failed", "completed")
    assert "thread_nobody" in lost["error"]


def test_chats_have_no_threads_to_continue(bench: Bench) -> None:
    """The option is refused with one line, before anything is sent."""
    bench.ask("one", thread=["thread_1"])
    done = bench.run(*MODES["chat"], "--thread-column", "thread")
    assert done.returncode == 2
    assert done.stderr.startswith("batchrun: ")
    assert done.stderr.rstrip().endswith(
        " · --thread-column requires --api assistants or responses, and this batch uses --api chat"
    )
    assert bench.responder.asked == []


@pytest.mark.parametrize("mode", CONTINUED)
def test_killed_on_a_thread_that_existed(tmp_path: Path, mode: str) -> None:
    """A row killed during its run continues with it: the thread has each prompt once."""
    with opened(tmp_path / "batch") as bench:
        bench.ask("one")
        bench.resumed(*MODES[mode])
        bench.ask("two <said>", thread=[bench.rows()[0]["thread_id"]], name="more.csv")
        bench.table = "more.csv"
        options = (*MODES[mode], "--thread-column", "thread", "-o", "more-out.csv")
        bench.responder.held = lambda _: True
        bench.killed(lambda: len(bench.responder.asked) == 2, *options)
        bench.responder.held = lambda _: False
        bench.resumed(*options)
        assert [row["response"] for row in bench.rows("more-out.csv")] == ["two one / one"]
        assert len(bench.responder.asked) == 2
