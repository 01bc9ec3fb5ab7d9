"""Few file descriptors: real processes under `ulimit -n`, with the embedded server and with a server in another
process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.reliability.batches import Table, write_table
from tests.integration.reliability.processes import COMMAND, END_TIMEOUT_S, batchrun
from tests.support.chat import chat_reply
from tests.support.command import Result
from tests.support.rows import read_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

LINE = "rows in flight: this process may open only"


def completion(_: Request) -> Answer:
    return json_answer(chat_reply('{"a": 1}'))


def limited(
    table: Table, soft: int, *arguments: str, hard: int | None = None, timeout_s: float = END_TIMEOUT_S
) -> Result:
    """Run `batchrun run` with limits, as `ulimit -n` sets them; one number sets both."""
    limits = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard or soft}))"
    command = ("run", str(table.input), "-o", str(table.output), *arguments)
    with batchrun(table.folder, *command, program=f"{limits}; {COMMAND}") as process:
        code = process.wait(timeout_s)
    return Result(code, process.stdout, process.stderr)


def completed(table: Table) -> int:
    return sum(row["status"] == "completed" for row in read_csv(table.output))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(
    "arguments", [(), ("--api", "chat", "--concurrency", "500"), ("--api", "responses", "--stream")]
)
def test_few_descriptors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """With 64 descriptors the embedded server answers every row at its first attempt, and a line reports how many rows
    can be in flight."""
    table = write_table(tmp_path, 150)
    ended = limited(table, 64, "--model", "tutor", *arguments)
    assert (ended.returncode, completed(table)) == (0, 150), ended.stderr
    assert LINE in ended.stderr
    assert {row["attempts"] for row in read_csv(table.output)} == {"1"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_few_descriptors_with_a_server_elsewhere(tmp_path: Path) -> None:
    """With 64 descriptors a service in another process answers every row."""
    table = write_table(tmp_path, 150)
    with ScriptedHttp(completion) as server:
        ended = limited(table, 64, "--model", "m", "--api", "chat", "--base-url", server.url, "--concurrency", "400")
    assert (ended.returncode, completed(table), len(server.requests)) == (0, 150, 150), ended.stderr
    assert LINE in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_soft_limit_is_raised(tmp_path: Path) -> None:
    """A low soft limit below a high hard one has no effect, and no line mentions it."""
    table = write_table(tmp_path, 40)
    ended = limited(table, 40, "--model", "tutor", hard=1024)
    assert (ended.returncode, completed(table)) == (0, 40), ended.stderr
    assert LINE not in ended.stderr


RECORDER = """
import sys
import batchrun.engine.limits as limits
begun, late, request = [], [], limits.Limits.request

async def noted(self):
    begun.append(1)
    await request(self)

class Recorder:
    def find_spec(self, name, path=None, target=None):
        if begun:
            late.append(name)

limits.Limits.request = noted
sys.meta_path.insert(0, Recorder())
from batchrun.cli import main
try:
    main()
finally:
    print("requests", len(begun), "late", sorted(set(late)))
"""

TOOLS = '''
def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: the one
        b: the other
    """
    return a + b
'''


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (
            "--api",
            "assistants",
            "--poll",
            "--delete-threads",
            "-o",
            "answers.jsonl.gz",
            "--ping",
            "http://127.0.0.1:9/x",
        ),
        ("--api", "responses", "--background", "--stream"),
        ("--api", "chat", "--tools", "tools.py", "--prompt", "{{ question }}", "--prompt", "And then?"),
        ("--api", "chat", "--score", "includes", "--target", "question"),
        ("SERVICE", "--schema", "schema.json", "-o", "answers.parquet"),
        ("SERVICE", "--schema", "schema.json", "--schema-retries", "1"),
    ],
)
def test_nothing_is_imported_after_the_first_request(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Whatever the batch does, all modules that it needs are imported before it sends anything."""
    table = write_table(tmp_path, 6)
    (tmp_path / "tools.py").write_text(TOOLS)
    kind = "string" if "--schema-retries" in arguments else "integer"
    (tmp_path / "schema.json").write_text(
        f'{{"type": "object", "properties": {{"a": {{"type": "{kind}"}}}}, "required": ["a"]}}'
    )
    asked: list[Request] = []

    def unsteady(request: Request) -> Answer:
        asked.append(request)
        if len(asked) == 2:
            head = {"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}
            return json_answer({"error": {"message": "slow down"}}, 429, **head)
        if len(asked) == 3:
            return json_answer({"error": {"message": "it broke"}}, 500)
        if len(asked) == 4:
            return Answer(b"", "close")
        if len(asked) == 5:
            return json_answer({"error": {"message": "no", "code": "flagged"}}, 400)
        return completion(request)

    with ScriptedHttp(unsteady) as server:
        target = ["--model", "tutor"]
        if arguments[:1] == ("SERVICE",):
            arguments = arguments[1:]
            target = ["--api", "chat", "--model", "gpt-4o-mini", "--base-url", server.url, "--keep-going"]
        where = ("run", str(table.input), "-o", str(table.output))
        command = [sys.executable, "-c", RECORDER, *where, *target, *arguments]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=END_TIMEOUT_S)
    told = ended.stdout.splitlines()[-1]
    assert told.startswith("requests "), ended.stderr
    assert not told.startswith("requests 0 "), ended.stderr
    assert told.endswith(" late []"), told


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("limit", [256, 64])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_large_batch_with_few_descriptors(tmp_path: Path, limit: int, *, elsewhere: bool) -> None:
    """With macOS's 256 descriptors, and with 64, a default batch of 4,000 rows completes."""
    table = write_table(tmp_path, 4_000)
    with ScriptedHttp(completion) as server:
        where = ["--api", "chat", "--model", "m", "--base-url", server.url] if elsewhere else ["--model", "tutor"]
        ended = limited(table, limit, *where, timeout_s=500.0)
    assert (ended.returncode, completed(table)) == (0, 4_000), ended.stderr
