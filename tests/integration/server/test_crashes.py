from __future__ import annotations

import json
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.integration.server.crashing import killed
from tests.integration.server.scripted import WEATHER
from tests.integration.server.test_service_batches import CHAT, RESPONSES, create, ended, request

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")


def thread_of(text: str) -> Any:
    return {"messages": [{"role": "user", "content": text}]}


def test_a_killed_server_resumes_every_run(tmp_path: Path) -> None:
    """After a SIGKILL and a new start all runs finish, and their threads are complete and unlocked."""
    data = tmp_path / "data.sqlite3"
    with killed(data, "by_word") as url, OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        threads = client.beta.threads
        plain = client.beta.assistants.create(model="m").id
        calling = client.beta.assistants.create(model="m", tools=[WEATHER]).id
        done = threads.create_and_run_poll(assistant_id=plain, thread=thread_of("hello"), poll_interval_ms=20)
        waiting = threads.create_and_run_poll(assistant_id=calling, thread=thread_of("call"), poll_interval_ms=20)
        headers = {"Idempotency-Key": "stalled"}
        stream: Any = threads.create_and_run(
            assistant_id=plain, thread=thread_of("stall"), stream=True, extra_headers=headers
        )
        stalled = next(event.data for event in stream if event.event == "thread.run.in_progress")
        next(event for event in stream if event.event == "thread.message.delta")
        background = client.responses.create(model="m", input="stall", background=True)
        stream.close()
    with killed(data, "echo") as url, OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        threads = client.beta.threads
        assert threads.runs.retrieve(done.id, thread_id=done.thread_id) == done
        again = threads.runs.poll(stalled.id, thread_id=stalled.thread_id, poll_interval_ms=20)
        assert (again.status, again.expires_at) == ("completed", None)
        texts = [each.content[0].text.value for each in threads.messages.list(again.thread_id)]  # type: ignore[union-attr]  # all text
        assert texts == ["You said: stall", "stall"]
        events: Any = threads.create_and_run(
            assistant_id=plain, thread=thread_of("stall"), stream=True, extra_headers=headers
        )
        replayed = list(events)
        assert [event.event for event in replayed][:3] == [
            "thread.created", "thread.run.created", "thread.run.queued",
        ]  # fmt: skip
        assert replayed[-1].data == again
        assert threads.runs.retrieve(waiting.id, thread_id=waiting.thread_id).status == "requires_action"
        resumed = threads.runs.submit_tool_outputs_and_poll(
            run_id=waiting.id, thread_id=waiting.thread_id, poll_interval_ms=20,
            tool_outputs=[{"tool_call_id": "call_0", "output": "sunny"}],
        )  # fmt: skip
        assert resumed.status == "completed"
        stream = client.responses.retrieve(background.id, stream=True)
        assert list(stream)[-1].type == "response.completed"
        threads.messages.create(again.thread_id, role="user", content="the thread is free")


@pytest.mark.parametrize("replies_before_kill", [pytest.param(1, marks=pytest.mark.nightly), 20])
def test_a_kill_under_load_loses_no_run_and_makes_none_twice(tmp_path: Path, replies_before_kill: int) -> None:
    """After a kill in the middle of many streamed runs each key has exactly one run, and all are completed."""
    data = tmp_path / "data.sqlite3"
    seen: dict[str, str] = {}
    enough = threading.Event()
    keys = [f"row-{number}" for number in range(40)]

    def post(client: OpenAI, assistant_id: str, mine: list[str]) -> None:
        for key in mine:
            try:
                stream: Any = client.beta.threads.create_and_run(
                    assistant_id=assistant_id, thread=thread_of(key), stream=True,
                    extra_headers={"Idempotency-Key": key},
                )  # fmt: skip
                for event in stream:
                    if event.event == "thread.run.created":
                        seen[key] = event.data.id
            except openai.APIConnectionError:
                return
            if len(seen) >= replies_before_kill:
                enough.set()

    with killed(data, "slowly") as url:
        client = OpenAI(base_url=url, api_key="k", max_retries=0)
        assistant_id = client.beta.assistants.create(model="m").id
        posting = [threading.Thread(target=post, args=(client, assistant_id, keys[part::4])) for part in range(4)]
        for each in posting:
            each.start()
        enough.wait()
    for each in posting:
        each.join()
    client.close()
    before = dict(seen)
    with killed(data, "slowly") as url, OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        post(client, assistant_id, keys)
        assert seen == seen | before
        assert len(set(seen.values())) == len(keys)
        listed: Any = client.get(
            "/threads?limit=100", cast_to=object, options={"headers": {"OpenAI-Beta": "assistants=v2"}}
        )
        assert len(listed["data"]) == len(keys)
        for thread in listed["data"]:
            (run,) = client.beta.threads.runs.list(thread["id"]).data
            assert run.status == "completed"
            assert len(client.beta.threads.messages.list(thread["id"]).data) == 2


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_a_killed_server_ends_its_service_batches(tmp_path: Path, endpoint: str) -> None:
    """After a kill in the middle, each line is answered and in the output file once, and no response is left over."""
    data = tmp_path / "data.sqlite3"
    words = [*(f"word {number}" for number in range(300)), "stall"]
    with killed(data, "by_word") as url, OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        batch = create(client, [request(word, word, endpoint) for word in words], endpoint)
        while batch.request_counts is None or batch.request_counts.completed < 100:
            batch = client.batches.retrieve(batch.id)
    with killed(data, "echo") as url, OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        batch = ended(client, batch)
        assert (batch.status, batch.error_file_id) == ("completed", None)
        text = client.files.content(batch.output_file_id or "").text
        assert sorted(json.loads(line)["custom_id"] for line in text.splitlines()) == sorted(words)
    with sqlite3.connect(data) as db:
        kinds = dict(db.execute("SELECT kind, count(*) FROM objects GROUP BY kind").fetchall())
        assert kinds == {"batch": 1, "file": 2, **({"response": len(words)} if endpoint == RESPONSES else {})}
        assert db.execute("SELECT count(*) FROM request_lines").fetchone() == (0,)
    db.close()
