"""Planted secrets are searched for in everything that is written; and who can read the files."""

from __future__ import annotations

import stat
import traceback
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.records import Outcome
from tests.integration.reliability.batches import ENDED, Table, killed_when, write_table
from tests.integration.reliability.processes import Served, batchrun
from tests.support.scripted_http import Answer, Request, ScriptedHttp, event, json_answer, stream

pytestmark = pytest.mark.anyio

KEY = "sk-planted-7f3a9c51e0b24d68"
HEADER = "planted-header-5d1c77aa90e3"
SECRETS = (KEY, HEADER)

JOB = """
input = "rows.csv"
output = "answers.csv"
base_url = "{url}"
api = "assistants"
model = "m"
max_attempts = 2
keep_going = true
header = {{ X-Secret = "${{PLANTED_HEADER}}" }}
"""


def indiscreet(request: Request) -> Answer:
    """A server that repeats the request in every message."""
    sent = f"{request.headers.get('authorization')} {request.headers.get('x-secret')}"
    if request.path.endswith("/assistants") or "/assistants/" in request.path:
        return json_answer({"id": "asst_1"})
    if request.method == "GET":
        return json_answer({"error": {"message": f"nothing here for {sent}", "code": None}}, 404)
    row = request.body["metadata"]["row"]
    ids = {"id": f"run_{row}", "thread_id": f"thread_{row}", "model": "m", "usage": None}
    created = event("thread.run.created", {**ids, "status": "queued"})
    failed = {**ids, "status": "failed", "last_error": {"code": "invalid_prompt", "message": f"not with {sent}"}}
    match int(row) % 5:
        case 0:
            return json_answer({"error": {"message": f"wrong: {sent}", "code": "bad", "param": "thread"}}, 400)
        case 1:
            return json_answer({"error": {"message": f"broken: {sent}", "type": "server_error"}}, 500)
        case 2:
            return stream(created, event("thread.run.failed", failed))
        case 3:
            page = f"<html><title>{sent}</title></html>".encode()
            return Answer(b"HTTP/1.1 502 X\r\ncontent-length: %d\r\n\r\n" % len(page) + page)
        case _:
            return stream(event("error", {"message": f"no: {sent}", "code": "server_error"}))


def leaks(folder: Path) -> list[str]:
    """Return the files below `folder` that contain a secret, or a large part of one."""
    parts = [secret[:-6].encode() for secret in SECRETS]
    return [
        path.name for path in folder.rglob("*") if path.is_file() and any(part in path.read_bytes() for part in parts)
    ]


def test_no_secret_is_written_anywhere(tmp_path: Path) -> None:
    """With a key in the environment and a secret header in a job file, and a server that repeats both in its errors, no
    output, journal, log, lock, message, summary, `status`, `show` or process title contains either."""
    table = write_table(tmp_path, 15)
    environ = {"OPENAI_API_KEY": KEY, "PLANTED_HEADER": HEADER}
    with ScriptedHttp(indiscreet) as server:
        (tmp_path / "job.toml").write_text(JOB.format(url=server.url))
        with batchrun(tmp_path, "run", "job.toml", "--json", environ=environ) as process:
            titles = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert killed_when(process, lambda: table.count(ENDED) >= 5), process.stderr
        assert leaks(tmp_path) == []
        assert KEY.encode() not in titles
        with batchrun(tmp_path, "run", "job.toml", environ=environ) as process:
            assert process.wait() == 3, process.stderr
        assert "bad" in process.stderr
        assert leaks(tmp_path) == []
        for command in (
            ("status", "answers.csv"),
            ("show", "answers.csv", "2"),
            ("show", "answers.csv", "1", "--json"),
        ):
            with batchrun(tmp_path, *command, environ=environ) as process:
                assert process.wait() == 0, process.stderr
            assert leaks(tmp_path) == []
    assert {request.headers["x-secret"] for request in server.requests if "/threads/runs" in request.path} == {HEADER}
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    assert all("***" in row["error"] for row in table.answers())


async def test_no_secret_in_the_traceback_of_a_bug(tmp_path: Path) -> None:
    """A bug in the caller's own code ends the batch with a traceback that shows no key."""
    table = write_table(tmp_path, 3)

    def buggy(outcome: Outcome) -> None:
        raise ZeroDivisionError(outcome.row_key)

    with ScriptedHttp(indiscreet) as server:
        options: dict[str, Any] = {"base_url": server.url, "api": "assistants", "model": "m", "header": {"X": HEADER}}
        plan = make_plan(make_job(options), table.input, Environment(api_key=KEY), table.output)
        with pytest.raises(ZeroDivisionError) as bug:
            await run_batch(plan, Environment(api_key=KEY), on_outcome=buggy)
    text = "".join(traceback.format_exception(bug.value))
    assert "ZeroDivisionError" in text
    assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": f"http://user:{KEY}@127.0.0.1/v1"},
        {"base_url": f"user:{KEY}@127.0.0.1/v1"},
        {"base_url": f"http://127.0.0.1/v1?key={KEY}"},
        {"base_url": "http://127.0.0.1/v1", "header": [f"Authorization: Bearer {KEY}"]},
    ],
    ids=["user and password", "without scheme", "query", "a colon for an equals sign"],
)
def test_a_secret_in_the_wrong_place_is_refused_unseen(tmp_path: Path, options: dict[str, Any]) -> None:
    """A base URL that would put a secret into the journal, and a mistyped header, are refused without being shown."""
    table = write_table(tmp_path, 1)
    with pytest.raises(InputError) as refusal:
        make_plan(make_job({"model": "m", **options}), table.input, Environment(), table.output)
    assert KEY not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def others_may_read(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077}


def test_threads_are_their_owners_business(tmp_path: Path) -> None:
    """Whatever the umask, only the owner can read the journal, its log, the embedded server's store and the copy of
    standard input, while the batch runs and afterwards."""
    table = Table(tmp_path / "batch", 200, tmp_path / "rows.csv", tmp_path / "batch" / "answers.csv")
    table.input.write_text("question\n" + "".join(f"{row} + 1\n" for row in range(table.rows)))
    arguments: list[str | Path] = ["run", "-", "-o", table.output]
    with batchrun(table.folder, *arguments, umask=0, streams={0: str(table.input)}) as process:
        assert killed_when(process, lambda: table.count(ENDED) >= 20), process.stderr
    files = {path.name for path in table.folder.iterdir()}
    assert files >= {f"answers.csv{ending}" for ending in (".journal", ".journal-wal", ".store", ".input.csv")}
    assert others_may_read(table.folder) <= {"answers.csv.lock"}
    with batchrun(table.folder, *arguments, umask=0, streams={0: str(table.input)}) as process:
        assert process.wait() == 0, process.stderr
    assert others_may_read(table.folder) <= {"answers.csv", "answers.csv.lock"}


def test_a_servers_file_is_its_owners_business(tmp_path: Path) -> None:
    """Only the owner can read the data file of a server."""
    with Served(tmp_path / "server"):
        pass
    assert stat.S_IMODE((tmp_path / "server" / "server.sqlite3").stat().st_mode) == 0o600
