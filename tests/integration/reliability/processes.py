"""Real processes, forked from one that is `preloaded`: a start takes milliseconds instead of a second."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

__all__ = ["Batchrun", "Served", "ServerRecords", "batchrun", "wait_until", "waited", "workers_of"]

COMMAND = "from batchrun.cli import main; main()"
END_TIMEOUT_S = 100.0
STREAMS = {0: os.devnull, 1: "stdout.txt", 2: "stderr.txt"}
"""The standard streams of a command, in its folder."""
_CONTEXT: Any = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
if hasattr(os, "fork"):
    _CONTEXT.set_forkserver_preload(["tests.integration.reliability.preloaded"])


def _call(
    program: str,
    arguments: Sequence[str],
    folder: str,
    environ: Mapping[str, str],
    umask: int,
    streams: Mapping[int, str | None],
) -> None:
    os.umask(umask)
    os.chdir(folder)
    for name in [*os.environ]:
        if name.startswith(("OPENAI_", "BATCHRUN_")):
            del os.environ[name]
    os.environ.update(environ)
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        path = streams[number]
        if (
            path is None
        ):  # closed: as in a new interpreter, the stream does not exist, and the next file gets its number
            os.close(number)
            setattr(sys, name, None)
        else:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY, 0o600)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            # As in a new interpreter: lines of standard error are written at once.
            setattr(sys, name, os.fdopen(number, "w" if number else "r", 1 if number == 2 else -1))
    sys.argv = ["batchrun", *arguments]
    exec(program, {"__name__": "__main__"})


@dataclass(slots=True)
class Batchrun:
    """One `batchrun` command in its own process.

    Attributes:
        folder: working directory; standard output and error are written there too.
    """

    folder: Path
    _process: Any

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def running(self) -> bool:
        return bool(self._process.is_alive())

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(
                ProcessLookupError
            ):  # it ended just now: its parent, the fork server, has reaped it
                os.kill(self.pid, number)

    def wait(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """Return the exit code; negative if a signal ended the process."""
        self._process.join(timeout_s)
        assert self._process.exitcode is not None, f"batchrun has not ended within {timeout_s:g} s"
        return int(self._process.exitcode)

    def kill(self) -> bool:
        """Send SIGKILL; return whether the process was still running."""
        self.signal(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def said(self, lines: int) -> list[str]:
        """Wait until standard error has so many lines; return them."""
        until, path = time.monotonic() + END_TIMEOUT_S, self.folder / STREAMS[2]
        while not path.exists() or self.stderr.count("\n") < lines:
            assert self.running, f"batchrun has ended with {self.wait()}"
            assert time.monotonic() < until, f"batchrun has not written {lines} lines within {END_TIMEOUT_S:g} s"
            time.sleep(0.01)
        return self.stderr.splitlines()[:lines]

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr.txt").read_text()

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout.txt").read_text()

    def facts(self) -> dict[str, Any]:
        """Return the summary of `run --json`."""
        return dict(json.loads(self.stdout.splitlines()[-1]))


@contextlib.contextmanager
def batchrun(
    folder: Path,
    *arguments: str | Path,
    environ: Mapping[str, str] | None = None,
    umask: int = 0o022,
    streams: Mapping[int, str | None] | None = None,
    program: str = COMMAND,
) -> Iterator[Batchrun]:
    """Start a command; it has ended when the context ends, whatever happens.

    Args:
        streams: number → path of a standard stream that is not the usual one; None if it is closed.
        program: Python code to run with the arguments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("stdout.txt", "stderr.txt"):  # of an earlier command
        (folder / name).unlink(missing_ok=True)
    process = _CONTEXT.Process(
        target=_call,
        args=(
            program,
            [str(each) for each in arguments],
            str(folder),
            dict(environ or {}),
            umask,
            {**STREAMS, **(streams or {})},
        ),
    )
    process.start()
    try:
        yield Batchrun(folder, process)
    finally:
        process.kill()
        process.join()


def workers_of(process: Batchrun) -> list[psutil.Process]:
    """Return the worker processes of a batch that are running now."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [
            child
            for child in psutil.Process(process.pid).children()
            if "batchrun.batch.shard_worker" in " ".join(child.cmdline())
        ]
    return []


def wait_until(process: Batchrun, reached: Callable[[], object], within_s: float = 200.0) -> None:
    """Wait until something is reached, while the process runs."""
    until = time.monotonic() + within_s
    while not reached():
        assert process.running, process.stderr
        assert time.monotonic() < until, process.stderr
        time.sleep(0.02)


def waited(process: Batchrun, reached: Callable[[], object]) -> bool:
    """Wait until `reached()` is true; return whether the batch is still running."""
    until = time.monotonic() + END_TIMEOUT_S
    while process.running and not reached():
        assert time.monotonic() < until, process.stderr
        time.sleep(0.005)
    return process.running


def _serve(settings: dict[str, Any], script: str, faults: str | None, log: str, started: Connection) -> None:
    from batchrun.server import ServerSettings, serve_forever
    from batchrun.server.responders.base import Responder
    from batchrun.server.responders.fault_injection import FaultPlan, FaultyResponder
    from batchrun.server.responders.script import ScriptResponder

    os.dup2(os.open(Path(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    responder: Responder = ScriptResponder(Path(script))
    plan = FaultPlan.load(faults) if faults is not None else None
    if plan is not None:
        responder = FaultyResponder(responder, plan)
    serve_forever(ServerSettings(**settings), responder, faults=plan, on_started=started.send)


ANSWERS = r"""
[[rule]]
pattern = 'row (\d+)'
reply = 'answer \1'
deltas = 4
delay_s = {delay_s}
delta_delay_s = {delta_delay_s}
"""


@dataclass(slots=True)
class Served:
    """A server of the Assistants protocol in its own process, over its own SQLite file. It answers `row 17` with
    `answer 17`.

    Use as a context manager; it may be killed and started again.

    Attributes:
        delay_s, delta_delay_s: seconds before the first piece of an answer, and between its four pieces.
        faults: text of a fault plan.
        settings: further fields of `ServerSettings`.
    """

    folder: Path
    delay_s: float = 0.02
    delta_delay_s: float = 0.01
    faults: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    _process: Any = None

    @property
    def data(self) -> Path:
        return self.folder / "server.sqlite3"

    @property
    def log(self) -> Path:
        """Return its standard error. The file is next to its folder, which may be a full disk."""
        return self.folder.parent.parent / "server.log"

    def __enter__(self) -> Served:
        self.start()
        return self

    def start(self) -> None:
        """Start the server, or start it again after `kill`, on the same port and file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        script = self.folder / "script.toml"
        script.write_text(ANSWERS.format(delay_s=self.delay_s, delta_delay_s=self.delta_delay_s))
        plan: Path | None = None
        if self.faults is not None:
            plan = self.folder / "faults.toml"
            plan.write_text(self.faults)
        port = int(self.url.rsplit(":", 1)[1].split("/")[0]) if self.url else 0
        settings = {"data": self.data, "port": port, "shutdown_grace_s": 0.0, **self.settings}
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(
            target=_serve, args=(settings, str(script), plan and str(plan), str(self.log), sender)
        )
        self._process.start()
        sender.close()
        with receiver:
            self.url = receiver.recv()

    def kill(self) -> None:
        """Send SIGKILL."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join(END_TIMEOUT_S)

    def records(self) -> ServerRecords:
        """Return the content of its file, once it has stopped."""
        assert not self._process.is_alive()
        return ServerRecords.read(self.data)


@dataclass(frozen=True, slots=True)
class ServerRecords:
    """The server's own record of its requests.

    Attributes:
        objects: kind → id → the object as clients see it.
    """

    objects: dict[str, dict[str, dict[str, Any]]]

    @classmethod
    def read(cls, path: Path) -> ServerRecords:
        found: dict[str, dict[str, dict[str, Any]]] = {}
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            for kind, body in db.execute("SELECT kind, body FROM objects ORDER BY seq"):
                decoded = json.loads(body)
                found.setdefault(kind, {})[decoded["id"]] = decoded
        return cls(found)

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        return self.objects.get(kind, {})

    def answer_of(self, run_id: str) -> str:
        """Return the text of the assistant's messages of a run."""
        return "".join(
            part["text"]["value"]
            for message in self.of("message").values()
            if message["run_id"] == run_id and message["role"] == "assistant"
            for part in message["content"]
        )
