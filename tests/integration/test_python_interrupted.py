"""Batches from Python that are interrupted, cancelled or left: they stop, and a message gives the path of their
answers."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pandas as pd
import pytest

import batchrun
from batchrun.errors import InputError
from tests.support.chat import chat_reply
from tests.support.rows import read_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there"),
]


def script(request: Request) -> Answer:
    """The first row is answered, the others never."""
    if "row 0" not in request.body["messages"][-1]["content"]:
        return Answer(b"", "silence")
    return json_answer(chat_reply())


@pytest.fixture
def service() -> Iterator[ScriptedHttp]:
    """A service that answers one row."""
    with ScriptedHttp(script) as server:
        yield server


PROGRAM = """
import asyncio, os, signal, sys, threading
import batchrun, pandas

def ask():
    def interrupt(_):
        os.kill(os.getpid(), signal.SIGINT)
    frame = pandas.DataFrame({{"question": [f"row {{n}}" for n in range(3)]}})
    try:
        batchrun.run(frame, model="m", api="chat", base_url={url!r}, grace={grace}, on_outcome=interrupt, **{options!r})
    except KeyboardInterrupt as error:
        print(f"{{type(error).__name__}}: {{error}}")
    print(sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("batchrun")))

async def cell():
    ask()

if {notebook}:  # a kernel's loop runs in the main thread, under Python's own handler of SIGINT
    asyncio.new_event_loop().run_until_complete(cell())
else:
    ask()
print("went on")
"""


def statuses(path: Path) -> list[str]:
    return [row["status"] for row in read_csv(path)]


def tables(folder: Path) -> list[Path]:
    """Return the temporary tables that calls with a DataFrame left."""
    return list(folder.glob("batchrun-*/*.csv"))


@pytest.mark.parametrize(
    ("notebook", "output"),
    [
        (True, True),
        (False, False),
        pytest.param(True, False, marks=pytest.mark.nightly),
        pytest.param(False, True, marks=pytest.mark.nightly),
    ],
)
def test_an_interrupted_run_keeps_its_answers(
    tmp_path: Path, service: ScriptedHttp, *, notebook: bool, output: bool
) -> None:
    """Ctrl-C in a script or in a notebook's cell: a KeyboardInterrupt names the table with the answers, no thread is
    left, and the program continues."""
    options = {"output": str(tmp_path / "a.csv")} if output else {}
    program = PROGRAM.format(url=service.url, grace=0.1, options=options, notebook=notebook)
    environment = {"OPENAI_API_KEY": "any", "PATH": "", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told, threads, last = done.stdout.splitlines()
    assert (threads, last) == ("[]", "went on")
    found = re.fullmatch(r"Interrupted: interrupted by SIGINT: the answers so far are in (\S+); the same call .*", told)
    assert found is not None, told
    assert (Path(found[1]) == tmp_path / "a.csv") is output
    kept = statuses(Path(found[1]))
    assert (kept[0], len(kept)) == ("completed", 3)


@pytest.mark.parametrize("output", [True, False])
async def test_a_cancelled_batch_keeps_its_answers(
    tmp_path: Path, service: ScriptedHttp, monkeypatch: pytest.MonkeyPatch, *, output: bool
) -> None:
    """Cancelled while rows are in flight: a note on the exception gives the path of the answers, and the same call with
    that output pays for none of them again."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    frame = pd.DataFrame({"question": ["row 0", "row 1"]})
    options: dict[str, Any] = {
        "model": "m",
        "api": "chat",
        "base_url": service.url,
        **({"output": tmp_path / "a.csv"} if output else {}),
    }
    notes: list[str] = []
    with anyio.CancelScope() as scope:
        try:
            await batchrun.arun(frame, on_outcome=lambda _: scope.cancel(), **options)
        except anyio.get_cancelled_exc_class() as exc:
            notes += exc.__notes__
            raise
    (note,) = notes
    where = Path(re.findall(r"the answers so far are in (\S+);", note)[0])
    assert statuses(where)[0] == "completed"
    before = len(service.requests)
    service.script = lambda _: json_answer(chat_reply())
    answers = await batchrun.arun(frame, **{**options, "output": where})
    assert list(answers["status"]) == ["completed", "completed"]
    assert [request.body["messages"][-1]["content"] for request in service.requests[before:]] == ["row 1"]


async def test_outcomes_that_are_left_keep_their_answers(
    tmp_path: Path, service: ScriptedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving early names the folder with the answers of a DataFrame; an exception in the block carries it as a note."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    frame = pd.DataFrame({"question": ["row 0", "row 1"]})
    options: dict[str, Any] = {"model": "m", "api": "chat", "base_url": service.url}
    with pytest.warns(RuntimeWarning, match="the batch was left before its end: the answers so far are in"):
        async with batchrun.outcomes(frame, **options) as found:
            await found.__anext__()
    with pytest.raises(KeyboardInterrupt) as interrupted:  # noqa: PT012 - the block raises
        async with batchrun.outcomes(frame, **options) as found:
            await found.__anext__()
            raise KeyboardInterrupt
    assert "the answers so far are in" in interrupted.value.__notes__[0]
    assert len(tables(tmp_path)) == 2


async def test_a_whole_batch_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DataFrame that was answered leaves no files, nor does one without an answer; no thread is left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(threading.enumerate())  # functions of other tests may still be waiting in theirs
    frame = pd.DataFrame({"question": ["1+1"]})
    await batchrun.arun(frame)
    async with batchrun.outcomes(frame) as found:
        assert [outcome.row_key async for outcome in found] == ["0"]
    with pytest.raises(InputError):
        await batchrun.arun(frame, prompt="{{ nope }}")
    assert tables(tmp_path) == []
    left = set(threading.enumerate()) - before
    assert [thread.name for thread in left if thread.name.startswith("batchrun")] == []
