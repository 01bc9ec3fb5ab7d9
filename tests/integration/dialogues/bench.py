"""A service that does what a question tells it to and remembers every completion; a batch against it, that may be killed."""

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
"""Every way to ask, by its name."""

OFTEN = ("assistants", "responses conversation", "chat")
each_mode = pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=() if mode in OFTEN else pytest.mark.nightly) for mode in MODES]
)
"""Every way to ask; those that differ least from another are left for the night."""
each_protocol = pytest.mark.parametrize("mode", ["assistants", "responses", "chat"])


@dataclass(eq=False)
class Obedient:
    """Does what the last question says:

    - `call NAME JSON & NAME JSON then REST`: calls functions together, and goes on with the rest when it has the outputs;
    - `ONE || OTHER`: the other when it is told that its answer does not have the form asked for;
    - anything else it says, with the outputs of the last functions in the place of `<outputs>`, and all that was said
      before in the place of `<said>`.

    Attributes:
        asked: every conversation that it was to go on with: a completion that is paid for.
        held: while it says so, nothing is answered.
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
        """What was asked more than once: paid for twice."""
        return [text for text, number in Counter(map(_told, self.asked)).items() if number > 1]


def _told(conversation: Conversation) -> str:
    row, model = conversation.metadata.get("row"), conversation.model
    said = (f"{m.role}: {m.text}{m.tool_calls or ''}{m.tool_outputs or ''}" for m in conversation.messages)
    return " / ".join([f"{row} {model}", *said])


def _last_question(messages: Sequence[Message]) -> tuple[str, int, list[list[str]]]:
    """(the last question that is no correction, the corrections behind it, the outputs behind these, round by round)."""
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
        table: what is run: the input, or a job file.
        model: that is asked, None where the options or the job file say it.
        data: the server's own file.
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
        """Write the input: the questions, and further columns."""
        rows = [{"question": question} for question in questions]
        for column, cells in columns.items():
            for row, cell in zip(rows, cells, strict=True):
                row[column] = cell
        write_csv(self.folder / name, rows)

    def _arguments(self, options: Sequence[str]) -> list[str]:
        model = ["--model", self.model] if self.model is not None else []
        return ["run", self.table, "-o", "out.csv", "--base-url", self.url, *model, "--json", *options]

    def run(self, *options: str) -> Result:
        """The batch, in this process."""
        return batchrun(self.folder, *self._arguments(options))

    def started(self, *options: str) -> AbstractContextManager[Batchrun]:
        """The batch in a process of its own."""
        return process_of(self.folder, *self._arguments(options))

    def killed(self, reached: Callable[[], bool], *options: str) -> None:
        """Start the batch, and kill it as soon as `reached`."""
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
        """Run a job file, over the same input."""
        (self.folder / "job.toml").write_text(f'input = "in.csv"\n{text}', encoding="utf-8")
        self.table = "job.toml"

    def resumed(self, *options: str, exit_code: int = 0) -> dict[str, Any]:
        """The summary of the batch, which ends."""
        done = self.run(*options)
        assert done.returncode == exit_code, done.stderr + done.stdout
        return done.facts()

    def rows(self, name: str = "out.csv") -> list[dict[str, str]]:
        return read_csv(self.folder / name)

    def assert_billed(self, mode: str, runs: int) -> None:
        """Every row bears the usage of so many runs.

        A killed row that finds its first answer in its Conversation is not told what that took.
        """
        tokens = {(row["prompt_tokens"], row["completion_tokens"]) for row in self.rows()}
        untold = {(str((runs - 1) * READ), str((runs - 1) * WRITTEN))} if "conversation" in mode else set()
        assert tokens - untold == {(str(runs * READ), str(runs * WRITTEN))}

    def journal(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the journal says, nothing while there is none."""
        path = self.folder / "out.csv.journal"
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as db:
                return db.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            return []

    def exchanges(self) -> int:
        """Runs of rows of several that have ended, as the journal knows."""
        counted = self.journal("SELECT count(*) FROM exchanges")
        return int(counted[0][0]) if counted else 0

    def completions(self) -> int:
        """Completions that the service was asked for."""
        return len(self.responder.asked)

    def records(self) -> ServerRecords:
        """What the server's file holds, for which it is stopped."""
        self.server.stop()
        return ServerRecords.read(self.data)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Bench]:
    """A service of its own for one test."""
    folder.mkdir(exist_ok=True)
    data = folder.parent / "server.sqlite3"
    responder = Obedient()
    settings = ServerSettings(data=data, shutdown_grace_s=0.0, poll_after_ms=20)
    with EmbeddedServer(settings, responder) as server:
        yield Bench(folder, server, responder, data)


def until(reached: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for something that another process or thread does."""
    end = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.002)
