from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from openai import OpenAI

from batchrun.server import EmbeddedServer, ServerSettings, SettingsError, StoreError
from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta
from tests.integration.server.scripted import Scripted, echo, forever


def test_a_taken_port_is_an_error_of_the_caller() -> None:
    """An address in use raises a SettingsError in the caller's thread; its one line states what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1 port {port}") as caught:
            EmbeddedServer(ServerSettings(port=port), Scripted(echo)).__enter__()
    assert "\n" not in str(caught.value)


def test_an_unusable_file_is_an_error_of_the_caller(tmp_path: Path) -> None:
    """A data file in use by another server raises a StoreError in the caller's thread; the first server continues."""
    settings = ServerSettings(data=tmp_path / "data.sqlite3", shutdown_grace_s=0)
    with EmbeddedServer(settings, Scripted(echo)) as server:
        with pytest.raises(StoreError, match="in use by another server"):
            EmbeddedServer(settings, Scripted(echo)).__enter__()
        with OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
            client.beta.threads.create()
        # POSIX releases all locks of a process on a file that it closes, so another process has to look.
        look = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM sqlite_schema')"
        ended = subprocess.run(
            [sys.executable, "-c", look, str(settings.data)], capture_output=True, text=True, check=False
        )
        assert "database is locked" in ended.stderr


def test_a_file_outlives_its_server(tmp_path: Path) -> None:
    """The next server on a file serves the stored objects; the write-ahead log is merged into the file at the end."""
    data = tmp_path / "data.sqlite3"
    settings = ServerSettings(data=data, shutdown_grace_s=0)
    with EmbeddedServer(settings, Scripted(echo)) as server, OpenAI(base_url=server.url, api_key="k") as client:
        thread = client.beta.threads.create(metadata={"a": "b"})
    assert [path.name for path in tmp_path.iterdir()] == [data.name]
    with EmbeddedServer(settings, Scripted(echo)) as server, OpenAI(base_url=server.url, api_key="k") as client:
        assert client.beta.threads.retrieve(thread.id) == thread


def test_without_a_file_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `data` the temporary file is deleted with the server."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0), Scripted(echo)):
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_leaving_waits_for_runs_that_finish() -> None:
    """A run that needs less than the grace period finishes, and its client gets the end of the stream."""
    leaving = threading.Event()

    async def patient(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("before")
        while not leaving.is_set():
            await anyio.sleep(0.005)
        await anyio.sleep(0.2)
        yield Finish("stop")

    server = EmbeddedServer(ServerSettings(shutdown_grace_s=20), Scripted(patient))
    with server, OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        assistant = client.beta.assistants.create(model="m")
        stream: Any = client.beta.threads.create_and_run(assistant_id=assistant.id, stream=True)
        next(event for event in stream if event.event == "thread.message.delta")
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        leaving.set()
        assert [event.event for event in stream][-1] == "thread.run.completed"
        stopping.join()


def test_an_interrupted_run_is_resumed_by_the_next_server(tmp_path: Path) -> None:
    """A run that needs more than the grace period is finished by the next server on the file."""
    settings = ServerSettings(data=tmp_path / "data.sqlite3", shutdown_grace_s=0)
    with EmbeddedServer(settings, Scripted(forever)) as server, OpenAI(base_url=server.url, api_key="k") as client:
        run = client.beta.threads.create_and_run(assistant_id=client.beta.assistants.create(model="m").id)
    with EmbeddedServer(settings, Scripted(echo)) as server, OpenAI(base_url=server.url, api_key="k") as client:
        finished = client.beta.threads.runs.poll(run.id, thread_id=run.thread_id, poll_interval_ms=20)
        assert finished.status == "completed"


@pytest.mark.parametrize("occupied", ["a thread", "the loop"])
def test_stopping_does_not_wait_for_what_never_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, occupied: str
) -> None:
    """A server in whose thread something never ends is left all the same; if its loop runs, its file can be used at once."""
    released, began = threading.Event(), threading.Event()

    async def stuck(conversation: Conversation) -> AsyncIterator[Part]:
        yield TextDelta("You ")
        began.set()
        if occupied == "a thread":
            await anyio.to_thread.run_sync(released.wait)
        else:
            released.wait()
        yield Finish("stop")

    settings = ServerSettings(data=tmp_path / "data.sqlite3", shutdown_grace_s=0)
    server = EmbeddedServer(settings, Scripted(stuck))
    others = set(threading.enumerate())  # such as those of servers that other tests share
    try:
        with server, OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
            assistant = client.beta.assistants.create(model="m")
            run = client.beta.threads.create_and_run(assistant_id=assistant.id)
            assert began.wait(20)
            (thread,) = (each for each in {*threading.enumerate()} - others if each.name == "batchrun-server")
        assert thread.is_alive()
        assert "did not end in time" in caplog.text
        if occupied == "a thread":
            with EmbeddedServer(settings, Scripted(echo)) as after, OpenAI(base_url=after.url, api_key="k") as client:
                finished = client.beta.threads.runs.poll(run.id, thread_id=run.thread_id, poll_interval_ms=20)
                assert finished.status == "completed"
    finally:
        released.set()
        thread.join(20)
    assert not thread.is_alive()
    with EmbeddedServer(settings, Scripted(echo)) as after, OpenAI(base_url=after.url, api_key="k") as client:
        assert client.beta.assistants.retrieve(assistant.id) == assistant


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_a_signal_ends_a_server_that_something_occupies(tmp_path: Path) -> None:
    """A server in which a thread never ends still ends soon after SIGTERM, and its file can be used."""
    data = tmp_path / "data.sqlite3"
    command = [sys.executable, "-m", "tests.integration.server.crashing", str(data), "stuck"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        with OpenAI(base_url=process.stdout.readline().strip(), api_key="k", max_retries=0) as client:
            assistant = client.beta.assistants.create(model="m")
            stream: Any = client.beta.threads.create_and_run(assistant_id=assistant.id, stream=True)
            next(event for event in stream if event.event == "thread.message.delta")
            process.terminate()
            assert process.wait(timeout=60) == 1
    settings = ServerSettings(data=data, shutdown_grace_s=0)
    with EmbeddedServer(settings, Scripted(echo)) as server, OpenAI(base_url=server.url, api_key="k") as client:
        assert client.beta.assistants.retrieve(assistant.id) == assistant


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """After SIGTERM or SIGINT serve_forever returns: the exit code is 0, and the file is closed."""
    data = tmp_path / "data.sqlite3"
    command = [sys.executable, "-m", "tests.integration.server.crashing", str(data), "echo"]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        with OpenAI(base_url=process.stdout.readline().strip(), api_key="k", max_retries=0) as client:
            client.beta.threads.create()
        os.kill(process.pid, number)
        assert process.wait(timeout=60) == 0
    assert [path.name for path in tmp_path.iterdir()] == [data.name]
