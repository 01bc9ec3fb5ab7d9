"""Tables of conversations, from the file to the model, in every protocol; and what of them is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchrun as package
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Conversation, Part
from tests.support.command import Result, batchrun
from tests.support.obliging import Obliging

SYSTEM = {"role": "system", "content": "Be short"}
USER = {"role": "user", "content": "What is 1+1?"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
TALK = [
    SYSTEM,
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Good day"},
    {"role": "user", "content": [{"type": "text", "text": "What is 1+1?"}, IMAGE]},
]
ANSWERED = [USER, {"role": "assistant", "content": "2", "weight": 1}]
CALLED = [
    USER,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "2"},
]
SHAREGPT = [{"from": "system", "value": "Be short"}, {"from": "human", "value": "What is 1+1?"}]
PROTOCOLS = ("assistants", "responses", "chat")


@dataclass
class Listening:
    """A model that writes down what it reads."""

    read: list[Conversation] = field(default_factory=list)
    tutor: Obliging = field(default_factory=Obliging)
    name: str = "listening"
    models: tuple[str, ...] = ()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        self.read.append(conversation)
        async for part in self.tutor.respond(conversation):
            yield part

    async def aclose(self) -> None:
        pass

    def take(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return (instructions, roles with texts) of each request since the last call, by their texts."""
        heard: list[tuple[str, list[tuple[str, str]]]]
        heard = [(each.instructions, [(m.role, m.text) for m in each.messages]) for each in self.read]
        self.read.clear()
        return sorted(heard)


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Listening, str]]:
    listening = Listening()
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), listening) as server:
        yield listening, server.url


@pytest.fixture
def model(service: tuple[Listening, str]) -> tuple[Listening, str]:
    """A model that has read nothing yet, and its URL."""
    service[0].read.clear()
    return service


def write(folder: Path, *rows: dict[str, Any], name: str = "in.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(
    folder: Path, url: str, api: str, *options: str, table: str = "in.jsonl"
) -> tuple[Result, list[dict[str, Any]]]:
    """Run a table at the service; return the command's result and the rows of the output."""
    done = batchrun(
        folder, "run", table, "--base-url", url, "--model", "m", "--api", api, "-o", f"{api}.jsonl", "--fresh", *options
    )
    path = folder / f"{api}.jsonl"
    return done, [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.mark.parametrize("api", PROTOCOLS)
def test_the_model_reads_the_conversation(api: str, tmp_path: Path, model: tuple[Listening, str]) -> None:
    """Roles, order, instructions and images arrive as the cell has them; the answer at the end does not, and one line
    says so. Tool messages go along, or their row fails by name."""
    listening, url = model
    write(tmp_path, {"messages": TALK}, {"messages": json.dumps(ANSWERED)}, {"messages": CALLED}, {"messages": []})
    done, rows = run(tmp_path, url, api, "--instructions", "In English.")
    assert done.returncode == 3
    assert done.stderr.count("at the end of 1 row is not sent; `batchrun convert in.jsonl OUTPUT --from messages`") == 1
    has_tools = api != "assistants"
    assert [row["status"] for row in rows] == [
        "completed",
        "completed",
        "completed" if has_tools else "failed",
        "failed",
    ]
    assert (rows[0]["response"], rows[3]["error_type"]) == ("1 + 1 = 2.", "empty_prompt")
    if not has_tools:
        assert rows[2]["error_type"] == "bad_messages"
        assert "message 2: --api assistants has no `tool_calls`" in rows[2]["error"]
    pictures = [part["type"] for each in listening.read for m in each.messages for part in m.content or ()]
    assert pictures == ["text", "image_url"]
    heard = listening.take()
    asked = [("user", "Hello"), ("assistant", "Good day"), ("user", "What is 1+1?")]
    system = [("system", "Be short")] if api == "responses" else []
    both = {"assistants": "In English.\n\nBe short", "responses": "In English.", "chat": "In English.\nBe short"}[api]
    assert (both, [*system, *asked]) in heard
    assert ("In English.", [("user", "What is 1+1?")]) in heard
    assert len(heard) == (3 if has_tools else 2)
    if has_tools:
        assert ("In English.", [("user", "What is 1+1?"), ("assistant", ""), ("tool", "")]) in heard


@pytest.mark.parametrize("api", PROTOCOLS)
def test_examples_come_before_the_question(api: str, tmp_path: Path, model: tuple[Listening, str]) -> None:
    """In a table of prompts the examples are written by the same prompt; in one of conversations they follow the system
    message. Changed examples are a changed setting, and the same ones are not sent again."""
    listening, url = model
    (tmp_path / "shots.csv").write_text("question,answer\n0+1,1\n", encoding="utf-8")
    write(tmp_path, {"question": "1+1"}, name="q.jsonl")
    options = ("--examples", "shots.csv", "--prompt", "What is {{ question }}?")
    assert run(tmp_path, url, api, *options, table="q.jsonl")[0].returncode == 0
    shots = [("user", "What is 0+1?"), ("assistant", "1")]
    assert listening.take() == [("", [*shots, ("user", "What is 1+1?")])]
    again = ("run", "q.jsonl", "--base-url", url, "--model", "m", "--api", api, "-o", f"{api}.jsonl", *options)
    assert batchrun(tmp_path, *again).returncode == 0
    (tmp_path / "shots.csv").write_text("question,answer\n0+2,2\n", encoding="utf-8")
    refused = batchrun(tmp_path, *again)
    assert (refused.returncode, "examples was" in refused.stderr) == (2, True)
    assert listening.take() == []
    write(tmp_path, {"messages": [SYSTEM, USER]})
    assert run(tmp_path, url, api, "--examples", "shots.csv")[0].returncode == 0
    ((instructions, heard),) = listening.take()
    system = [("system", "Be short")] if api == "responses" else []
    assert heard == [*system, ("user", "0+2"), ("assistant", "2"), ("user", "What is 1+1?")]
    assert instructions == ("" if system else "Be short")


def test_one_question_in_every_kind_of_table(tmp_path: Path, model: tuple[Listening, str]) -> None:
    """Parquet with padded structs, CSV with JSON, ShareGPT, TRL's `prompt` and a named column ask the same."""
    listening, url = model
    padded = pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string()), ("weight", pa.int64())])
    cells = pa.array([[SYSTEM, USER]], pa.list_(padded))
    pq.write_table(pa.table({"messages": cells}), tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "messages"], ["1", json.dumps([SYSTEM, USER])]])
    write(tmp_path, {"conversations": SHAREGPT}, name="b.jsonl")
    write(tmp_path, {"prompt": [SYSTEM, USER], "completion": [{"role": "assistant", "content": "2"}]}, name="c.jsonl")
    write(tmp_path, {"prompt": "unused", "talk": [SYSTEM, USER]}, name="d.jsonl")
    for table in ("a.parquet", "a.csv", "b.jsonl", "c.jsonl", "d.jsonl"):
        options = ("--messages", "talk") if table == "d.jsonl" else ()
        assert run(tmp_path, url, "chat", *options, table=table)[0].returncode == 0, table
        assert listening.take() == [("Be short", [("user", "What is 1+1?")])], table


def test_what_is_refused_before_anything_is_sent(tmp_path: Path, model: tuple[Listening, str]) -> None:
    """A column that is not one of conversations, and options that exclude each other, are one line each."""
    listening, url = model
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["messages"], [str([SYSTEM, USER])]])
    refused, _ = run(tmp_path, url, "chat", table="in.csv")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "in.csv, line 2: column 'messages': the cell is a list as Python prints it" in refused.stderr
    write(tmp_path, {"messages": [SYSTEM, USER], "text": "Hello"})
    for options, words in (
        (("--messages", "text"), "in.jsonl, line 1: column 'text': expected a list of messages, got the text 'Hello'"),
        (("--messages", "talk"), "--messages: no column named 'talk' in the input"),
        (("--messages", "messages", "--prompt", "{{ text }}"), "messages: cannot be combined with a prompt"),
        (("--messages", "messages", "--prompt", "{{ text }}", "--prompt", "Why?"), "cannot be combined with turns"),
        (("--examples", "none.csv"), "--examples: none.csv: no such file"),
        (("--examples", "in.jsonl"), "in.jsonl"),
    ):
        refused, _ = run(tmp_path, url, "chat", *options)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert words in refused.stderr
    assert listening.take() == []


def test_a_row_as_show_and_the_report_have_it(tmp_path: Path, model: tuple[Listening, str]) -> None:
    """`show` prints each message under its role, a dry run counts all of them, and nothing is asked twice."""
    _, url = model
    write(tmp_path, {"messages": TALK})
    dry = batchrun(
        tmp_path, "run", "in.jsonl", "--base-url", url, "--model", "m", "--api", "chat", "--dry-run", "--json"
    )
    assert dry.facts()["prompt_tokens"] > 20
    assert run(tmp_path, url, "chat")[0].returncode == 0
    again = batchrun(
        tmp_path, "run", "in.jsonl", "--base-url", url, "--model", "m", "--api", "chat", "-o", "chat.jsonl", "--json"
    )
    assert again.facts()["finished_before"] == 1
    shown = batchrun(tmp_path, "show", "chat.jsonl", "0").stdout
    lines = [line for line in shown.splitlines() if line]
    assert lines[2:11] == [
        "system:", "  Be short", "user:", "  Hello", "assistant:", "  Good day",
        "user:", "  What is 1+1?", "  [image https://example.org/a.png]",
    ]  # fmt: skip


def test_conversations_from_python(model: tuple[Listening, str]) -> None:
    """Rows as dicts are asked as in a file, each by what its cell is: a text or a conversation."""
    listening, _ = model
    rows = [{"talk": [SYSTEM, USER], "id": 1}]
    answers = package.run(rows, messages="talk", model="tutor", api="chat")
    assert answers["response"].tolist() == ["1 + 1 = 2."]
    assert listening.take() == []
    mixed: list[dict[str, Any]] = [{"prompt": each} for each in ("What is 2+2?", [SYSTEM, USER], "7 * 6")]
    answers = package.run(mixed, model="tutor", api="chat")
    assert answers["response"].tolist() == ["2 + 2 = 4.", "1 + 1 = 2.", "7 * 6 = 42."]
    with pytest.raises(package.InputError, match="messages: no column named 'other'"):
        package.run(rows, messages="other", model="tutor")
