"""Parts that the benchmarks share: stand-in services, inputs, child processes and their cost."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cost", "Standin", "markdown", "pin", "run_child", "running", "standin", "table", "write_questions"]

HERE = Path(__file__).parent
STATS_TRIES = 60
STATS_WAIT_S = 0.5
KILL_CHECK_S = 0.02


@dataclass(frozen=True, slots=True)
class Standin:
    """A running stand-in service.

    Attributes:
        url: its base URL, `/v1` included.
        pid: of its process.
    """

    url: str
    pid: int

    def stats(self, *, reset: bool = False) -> dict[str, Any]:
        """Return the counts since the last reset (see the script of the stand-in)."""
        request = urllib.request.Request(self.url.removesuffix("/v1") + "/stats", method="POST" if reset else "GET")
        for _ in range(STATS_TRIES - 1):
            try:
                return _read_json(request)
            except urllib.error.URLError:
                time.sleep(STATS_WAIT_S)  # the scenario may be an outage
        return _read_json(request)


def _read_json(request: urllib.request.Request) -> dict[str, Any]:
    with urllib.request.urlopen(request, timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


@contextmanager
def standin(*, latency_ms: int = 50, deltas: int = 20, gap_ms: int = 0, rpm: int = 0) -> Iterator[Standin]:
    """Run `standin.js` inside a `with` block."""
    options = {"latency-ms": latency_ms, "deltas": deltas, "gap-ms": gap_ms, "rpm": rpm}
    with running("standin.js", options) as service:
        yield service


@contextmanager
def running(script: str, options: Mapping[str, object]) -> Iterator[Standin]:
    """Run a stand-in of this folder inside a `with` block, on a free port and on the first core (see `pin`)."""
    command = ["node", str(HERE / script), *(f"--{name}={value}" for name, value in options.items())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            pin(process.pid, first=True)
            assert process.stdout is not None
            yield Standin(process.stdout.readline().strip(), process.pid)
        finally:
            process.terminate()


def pin(pid: int, *, first: bool) -> None:
    """Pin a process to the first core or to the others, so that the stand-in and the measured process do not compete."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, set(cores[:1]) if first else set(cores[1:] or cores))


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a child process from its start to its end.

    Attributes:
        cpu_s: CPU seconds, user and system.
        printed: the JSON object on the last line of standard output.
    """

    cpu_s: float
    printed: dict[str, Any]


def run_child(arguments: Sequence[str], *, kill_when: Callable[[], bool] | None = None) -> Cost:
    """Run a Python script of this folder in its own process, not on the first core.

    Args:
        kill_when: called about 50 times a second; the process is killed when it returns True. It then has printed
            nothing.

    Raises:
        SystemExit: the script failed, or ended before it was to be killed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(HERE / arguments[0]), *arguments[1:]],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        pin(process.pid, first=False)
        while kill_when is not None and process.poll() is None:
            if kill_when():
                process.kill()
                break
            time.sleep(KILL_CHECK_S)
        output, _ = process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != (0 if kill_when is None else -signal.SIGKILL):
        raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}")
    return Cost(
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        printed=json.loads(output.strip().splitlines()[-1]) if kill_when is None else {},
    )


def write_questions(path: Path, rows: int) -> None:
    """Write a CSV input of two columns with about 80 characters per question."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question"])
        for number in range(rows):
            question = f"A train leaves at {number % 24} h and takes {number} minutes, with two stops. When is it due?"
            writer.writerow([f"q{number}", question])


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with columns as wide as their widest cell; the first is aligned left, the others right."""
    lines = [heading, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a page of the docs."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
