"""A service that follows the instructions in a prompt and records every completion, and batches against it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Conversation, Finish, Message, Part, TextDelta, TokenCount, ToolCall
from tests.integration.reliability.batches import killed_when
from tests.integration.reliability.processes import Batchrun, ServerRecords
from tests.integration.reliability.processes import batchrun as process_of
from tests.support.command import Result, batchrun
from tests.support.rows import read_csv, write_csv

__all__ = ["MODES", "READ", "WRITTEN", "Bench", "Obedient", "each_mode", "each_protocol", "opened", "until"]

CORRECTION = "That answer does not have the form"
READ, WRITTEN = 10, 3
"""Tokens of every completion."""

MODES: Mapping[str, Sequence[str]] = {
    "assistants": ("--api", "assistants"),
    "assistants poll": ("--api", "assistants", "--poll"),
    "responses": ("--api", "responses"),
    "responses stream": ("--api", "responses", "--stream"),
    "responses background": ("--api", "responses", "--background"),
    "responses conversation": ("--api", "responses", "--conversation"),
    "chat": ("--api", "chat"),
    "chat stream": ("--api", "chat", "--stream"),
}
"""Name of a mode → its options."""

OFTEN = ("assistants", "responses conversation", "chat")
each_mode = pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=() if mode in OFTEN else pytest.mark.nightly) for mode in MODES]
)
"""Every mode; those that are most similar to another run only in the nightly tests."""
each_protocol = pytest.mark.parametrize("mode", ["assistants", "responses", "chat"])


@dataclass(eq=False)
class Obedient:
    """A responder that follows the instructions in the last question:

    - `call NAME JSON & NAME JSON then REST`: call functions together, then follow REST when the outputs have come;
    - `ONE || OTHER`: follow OTHER after a correction;
    - anything else is the answer, in which `<outputs>` is replaced by the outputs of the last functions, and `<said>`
      by all earlier messages.

    Mutable state: `asked`.

    Attributes:
        asked: the conversation of every requested completion, each of which is paid for.
        held: a conversation is not answered while this returns True.
    """

    name: str = "obedient"
    models: tuple[str, ...] = ()
    asked: list[Conversation] = field(default_factory=list)
    held: Callable[[Conversation], bool] = lambda _: False

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        self.asked.append(conversation)
        while self.held(conversation):
            await anyio.sleep(0.005)
        question, corrections, rounds = _last_question(conversation.messages)
        alternatives = question.split(" || ")
        steps = alternatives[min(corrections, len(alternatives) - 1)].split(" then ")
        step = steps[min(len(rounds), len(steps) - 1)]
        if step.startswith("call "):
            for number, call in enumerate(step.removeprefix("call ").split(" & ")):
                name, _, arguments = call.partition(" ")
                yield ToolCall(f"call_{len(conversation.messages)}_{number}", name, arguments or "{}")
            yield Finish("tool_calls", TokenCount(READ, WRITTEN))
            return
        said = " / ".join(m.text for m in conversation.messages[:-1] if m.role in ("user", "assistant"))
        text = step.replace("<outputs>", " and ".join(rounds[-1]) if rounds else "").replace("<said>", said)
        for piece in text.partition(" "):
            yield TextDelta(piece)
        yield Finish("stop", TokenCount(READ, WRITTEN))

    async def aclose(self) -> None:
        pass

    def asked_twice(self) -> list[str]:
        """Return the conversations that were requested more than once, and so paid for twice."""
        return [text for text, number in Counter(map(_described, self.asked)).items() if number > 1]


def _described(conversation: Conversation) -> str:
    row, model = conversation.metadata.get("row"), conversation.model
    said = (f"{m.role}: {m.text}{m.tool_calls or ''}{m.tool_outputs or ''}" for m in conversation.messages)
    return " / ".join([f"{row} {model}", *said])


def _last_question(messages: Sequence[Message]) -> tuple[str, int, list[list[str]]]:
    """Return (the last question that is not a correction, its corrections, the outputs after them, round by round)."""
    question, corrections, rounds = "", 0, list[list[str]]()
    for before, message in zip((None, *messages), messages, strict=False):
        if message.role == "user":
            is_correction = message.text.startswith(CORRECTION)
            question = question if is_correction else message.text
            corrections = corrections + 1 if is_correction else 0
            rounds = []
        elif message.role == "tool":
            outputs = [output.output for output in message.tool_outputs]
            if before is not None and before.role == "tool":
                rounds[-1] += outputs
            else:
                rounds.append(outputs)
    return question, corrections, rounds


@dataclass
class Bench:
    """The service, and a folder for a batch's files.

    Attributes:
        table: the argument of the command: the input, or a job file.
        model: for --model; None if the options or the job file give it.
        data: the server's file.
    """

    folder: Path
    server: EmbeddedServer
    responder: Obedient
    data: Path
    table: str = "in.csv"
    model: str | None = "m"

    @property
    def url(self) -> str:
        return self.server.url

    def ask(self, *questions: str, name: str = "in.csv", **columns: Sequence[str]) -> None:
        """Write the input: the prompts, and further columns."""
        rows = [{"question": question} for question in questions]
        for column, cells in columns.items():
            for row, cell in zip(rows, cells, strict=True):
                row[column] = cell
        write_csv(self.folder / name, rows)

    def _arguments(self, options: Sequence[str]) -> list[str]:
        model = ["--model", self.model] if self.model is not None else []
        return ["run", self.table, "-o", "out.csv", "--base-url", self.url, *model, "--json", *options]

    def run(self, *options: str) -> Result:
        """Run the batch in this process."""
        return batchrun(self.folder, *self._arguments(options))

    def started(self, *options: str) -> AbstractContextManager[Batchrun]:
        """Start the batch in another process."""
        return process_of(self.folder, *self._arguments(options))

    def killed(self, reached: Callable[[], bool], *options: str) -> None:
        """Start the batch, and kill it as soon as `reached` returns True."""
        with self.started(*options) as process:
            while not reached():
                assert process.running, process.stderr
                time.sleep(0.002)
            assert process.kill()

    def killed_after(self, count: Callable[[], int], goal: int, pause_s: float, *options: str) -> None:
        """Start the batch, and kill it `pause_s` seconds after `count` reaches `goal`; it may have ended before."""
        with self.started(*options) as process:
            while process.running and count() < goal:
                time.sleep(0.001)
            end = time.monotonic() + pause_s
            killed_when(process, lambda: time.monotonic() >= end)

    def job(self, text: str) -> None:
        """Run a job file over the same input."""
        (self.folder / "job.toml").write_text(f'input = "in.csv"\n{text}', encoding="utf-8")
        self.table = "job.toml"

    def resumed(self, *options: str, exit_code: int = 0) -> dict[str, Any]:
        """Run the batch to its end; return its summary."""
        done = self.run(*options)
        assert done.returncode == exit_code, done.stderr + done.stdout
        return done.facts()

    def rows(self, name: str = "out.csv") -> list[dict[str, str]]:
        return read_csv(self.folder / name)

    def assert_billed(self, mode: str, runs: int) -> None:
        """Check that every row has the usage of so many runs.

        A killed row that finds its first answer in its Conversation does not know the usage of that run.
        """
        tokens = {(row["prompt_tokens"], row["completion_tokens"]) for row in self.rows()}
        without_first = {(str((runs - 1) * READ), str((runs - 1) * WRITTEN))} if "conversation" in mode else set()
        assert tokens - without_first == {(str(runs * READ), str(runs * WRITTEN))}

    def journal(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query to the journal; nothing if there is no journal yet."""
        path = self.folder / "out.csv.journal"
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as db:
                return db.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            return []

    def exchanges(self) -> int:
        """Return the number of ended runs, in the journal, of rows that need several runs."""
        counted = self.journal("SELECT count(*) FROM exchanges")
        return int(counted[0][0]) if counted else 0

    def completions(self) -> int:
        """Return the number of completions that were requested from the service."""
        return len(self.responder.asked)

    def records(self) -> ServerRecords:
        """Stop the server and return the contents of its file."""
        self.server.stop()
        return ServerRecords.read(self.data)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Bench]:
    """Open a bench with its own service, for one test."""
    folder.mkdir(exist_ok=True)
    data = folder.parent / "server.sqlite3"
    responder = Obedient()
    settings = ServerSettings(data=data, shutdown_grace_s=0.0, poll_after_ms=20)
    with EmbeddedServer(settings, responder) as server:
        yield Bench(folder, server, responder, data)


def until(reached: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for another process or thread."""
    end = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.002)
