"""Batches with files to search, attach, compute with, cite and download; killed, resumed and cleaned up."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.integration.dialogues.bench import MODES, READ, Bench, each_protocol
from tests.support.command import batchrun
from tests.support.sandbox import needs_bubblewrap

NOTES = "The dahlias are watered on Tuesday evening by Ursula."
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SEARCH = 'call file_search {"query": "dahlias"} then found <outputs>'
COMPUTE = (
    "call python "
    + json.dumps(
        {"code": "n = sum(map(int, open('numbers.csv').read().split()))\nopen('sum.txt', 'w').write(str(n))\nn"}
    )
    + " then <outputs> in sandbox:/mnt/data/sum.txt"
)


@pytest.fixture(autouse=True)
def _files(bench: Bench) -> None:
    for name, content in (("notes.md", NOTES.encode()), ("numbers.csv", b"1 2 3"), ("dot.png", PNG)):
        (bench.folder / name).write_bytes(content)


def names_at(bench: Bench) -> list[str]:
    """Return the names of the service's files, oldest first."""
    with OpenAI(base_url=bench.url, api_key="none", max_retries=0) as client:
        return [file.filename for file in client.files.list(order="asc")]


def stores_at(bench: Bench) -> int:
    with OpenAI(base_url=bench.url, api_key="none", max_retries=0) as client:
        return len(list(client.vector_stores.list()))


def cleaned(bench: Bench) -> str:
    done = batchrun(bench.folder, "cleanup", "out.csv")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def parts_of(bench: Bench) -> list[Any]:
    """Return the kinds of the parts of the last message."""
    return [part["type"] for part in bench.responder.asked[-1].messages[-1].content or ()]


def test_the_files_of_the_batch_are_searched(bench: Bench) -> None:
    """Answers cite the files by name; after a kill nothing is uploaded or requested twice; a cleanup deletes all."""
    bench.ask(SEARCH, SEARCH, "no search")
    options = (*MODES["assistants"], "--file-search", "*.md")
    bench.responder.held = lambda conversation: conversation.messages[-1].text == "no search"
    bench.killed(lambda: bench.exchanges() + len(bench.responder.asked) >= 5, *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    first, _, last = bench.rows()
    assert NOTES in first["response"]
    (citation,) = json.loads(first["citations"])
    assert citation["filename"] == "notes.md"
    assert first["response"][citation["start"] : citation["end"]] == citation["text"]
    assert last["citations"] == ""
    assert (first["prompt_tokens"], len(bench.responder.asked)) == (str(2 * READ), 5)
    assert (names_at(bench), stores_at(bench)) == (["notes.md"], 1)
    cleaned(bench)
    assert (names_at(bench), stores_at(bench)) == ([], 0)


@each_protocol
def test_a_row_brings_a_text(bench: Bench, mode: str) -> None:
    """The model reads or finds a row's file in the way of each protocol."""
    bench.ask(SEARCH if mode == "assistants" else "read this", "nothing", file=["notes.md", ""])
    bench.resumed(*MODES[mode], "--attach", "file")
    first, second = bench.rows()
    assert NOTES in first["response"]
    assert NOTES not in second["response"]
    assert names_at(bench) == ([] if mode == "chat" else ["notes.md"])
    cleaned(bench)
    assert names_at(bench) == []


def test_a_later_turn_searches_what_the_row_brought(bench: Bench) -> None:
    """The file of the first turn is found in the second."""
    bench.ask("hello", file=["notes.md"])
    bench.resumed(*MODES["assistants"], "--attach", "file", "--prompt", "{{ question }}", "--prompt", SEARCH)
    (row,) = bench.rows()
    assert row["response_1"] == "hello"
    assert NOTES in row["response_2"]
    assert [each["filename"] for each in json.loads(row["citations"])] == ["notes.md"]


def test_threads_that_exist_search_the_files_of_the_batch(bench: Bench) -> None:
    """A thread of an earlier batch finds the files, even if the batch now has other files."""
    bench.ask("hello")
    bench.resumed(*MODES["assistants"])
    bench.ask(SEARCH, thread=[bench.rows()[0]["thread_id"]])
    options = (*MODES["assistants"], "--thread-column", "thread", "--file-search", "*.md", "-o", "second.csv")
    bench.resumed(*options)
    assert NOTES in bench.rows("second.csv")[0]["response"]
    (bench.folder / "notes.md").write_text("The dahlias are gone.")
    bench.resumed(*options, "--accept-changes")
    assert "The dahlias are gone." in bench.rows("second.csv")[0]["response"]


def test_files_for_threads_of_an_assistant_of_the_users(bench: Bench) -> None:
    """Neither may be changed, so the batch is refused with one line before anything is sent."""
    bench.ask("a", thread=["thread_1"])
    done = bench.run("--assistant", "asst_1", "--thread-column", "thread", "--file-search", "*.md")
    assert done.returncode == 2
    assert "--file-search cannot be used with threads that exist already" in done.stderr


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_files_for_an_assistant_of_the_users(bench: Bench) -> None:
    """The user's assistant keeps its tools, and gets those that the row's file needs."""
    with OpenAI(base_url=bench.url, api_key="none", max_retries=0) as client:
        assistant = client.beta.assistants.create(model="m", tools=[{"type": "code_interpreter"}])
    bench.ask(SEARCH, "look", file=["notes.md", "dot.png"])
    bench.model = None
    bench.resumed("--assistant", assistant.id, "--attach", "file", "--concurrency", "1")
    assert NOTES in bench.rows()[0]["response"]
    offered = [{tool["function"]["name"] for tool in each.tools} for each in bench.responder.asked]
    assert offered == [{"python", "file_search"}, {"python", "file_search"}, {"python"}]


@each_protocol
def test_a_row_brings_an_image(bench: Bench, mode: str) -> None:
    """An image is part of the message; several rows share one upload, even in a batch that was killed."""
    (bench.folder / "same.png").write_bytes(PNG)
    bench.ask("look", "look again", "look", file=["dot.png", "same.png", '["dot.png"]'])
    options = (*MODES[mode], "--attach", "file", "--concurrency", "2")
    bench.responder.held = lambda conversation: "again" in conversation.messages[-1].text
    bench.killed(lambda: len(bench.responder.asked) == 3, *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    assert parts_of(bench) == ["image_url", "text"]
    assert len(bench.responder.asked) == 3
    assert len(names_at(bench)) == (0 if mode == "chat" else 1)


@each_protocol
def test_files_that_are_not_there(bench: Bench, mode: str) -> None:
    """Missing files fail their rows before anything is sent; the other rows continue."""
    bench.ask("a", "b", file=["nowhere.txt", ""])
    bench.resumed(*MODES[mode], "--attach", "file", exit_code=3)
    missing, good = bench.rows()
    assert (missing["status"], missing["error_type"]) == ("failed", "bad_attachment")
    assert "nowhere.txt" in missing["error"]
    assert good["status"] == "completed"
    assert len(bench.responder.asked) == 1


@needs_bubblewrap
def test_files_that_runs_make(bench: Bench) -> None:
    """Produced files are in the row's folder next to the output, even after a kill, and a cleanup keeps them."""
    bench.ask(COMPUTE, "no code", file=["numbers.csv", ""])
    options = (*MODES["assistants"], "--attach", "file", "--code-interpreter")
    bench.responder.held = lambda conversation: conversation.messages[-1].role == "tool"
    bench.killed(lambda: len(bench.responder.asked) == 3, *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    first, second = bench.rows()
    (path,) = json.loads(first["files"])
    assert path == "out.csv.files/0/sum.txt"
    assert (bench.folder / path).read_text() == "6"
    assert first["response"].startswith("6")
    assert second["files"] == ""
    assert len(bench.responder.asked) == 3
    cleaned(bench)
    assert names_at(bench) == []
    assert (bench.folder / path).is_file()


@needs_bubblewrap
def test_turns_with_files(bench: Bench) -> None:
    """A row's file goes with its first turn; the row has the files of all turns."""
    again = COMPUTE.replace("sum.txt", "again.txt")
    bench.ask(COMPUTE, file=["numbers.csv"], more=[again])
    options = ("--attach", "file", "--code-interpreter", "--prompt", "{{ question }}", "--prompt", "{{ more }}")
    bench.resumed(*MODES["assistants"], *options)
    (row,) = bench.rows()
    assert [Path(path).name for path in json.loads(row["files"])] == ["sum.txt", "again.txt"]
    assert [row["response_1"][:1], row["response_2"][:1]] == ["6", "6"]
