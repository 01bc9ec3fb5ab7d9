"""Cleaning up: the objects that a batch left at a service are deleted once, by `cleanup` or as the rows end."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from batchrun.errors import ServiceFault
from batchrun.journal import Created, Journal, open_journal, place_of
from tests.support.command import batchrun
from tests.support.rows import NOON, attempt, completed, none_strange, noon, prompt, write_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, html, json_answer

GONE = {"error": {"message": "No thread found with id 'X'.", "type": "invalid_request_error", "code": None}}


def deleted(_: Request) -> Answer:
    return json_answer({"id": "x", "deleted": True})


def batch_of(folder: Path, url: str, rows: int = 3, *, api: str = "assistants", in_flight: int = 0) -> Path:
    """Write a journal: `rows` rows that ended, and some after them that did not; return the output."""
    output = folder / "a.csv"
    manifest = {"settings": {"api": api, "embedded": False}, "base_url": url, "input_fingerprint": "i", "rows": rows}
    with open_journal(output.with_name("a.csv.journal"), manifest, count_strange=none_strange, clock=noon) as journal:
        journal.created.add(Created("assistant", "asst_1", None), place_of(manifest))
        for row in range(rows + in_flight):
            journal.begin_attempt(prompt(row), attempt(), NOON)
            journal.set_ids(str(row), 1, f"thread_{row}", f"run_{row}")
            if row < rows:
                journal.finish(completed(row), "fp")
    return output


def paths_sent(server: ScriptedHttp) -> list[str]:
    return sorted(server.paths())


def objects_in(store: Path) -> Counter[str]:
    db = sqlite3.connect(store)
    kinds = Counter(kind for (kind,) in db.execute("SELECT kind FROM objects"))
    db.close()
    return kinds


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "q.csv", [{"question": f"What is {number} + 1?"} for number in range(5)])


def test_the_embedded_store_is_emptied(tmp_path: Path, table: Path) -> None:
    """After a cleanup the embedded server holds no thread, run, message, step or assistant, and the answers stay."""
    assert batchrun(tmp_path, "run", "q.csv").returncode == 0
    store, output = tmp_path / "outputs" / "q.csv.store", tmp_path / "outputs" / "q.csv"
    answers = output.read_bytes()
    assert objects_in(store)["thread"] == 5
    done = batchrun(tmp_path, "cleanup", "outputs/q.csv")
    assert (done.returncode, done.stderr) == (0, "6 deleted · 5 threads, 1 assistant\n")
    assert objects_in(store) == Counter()
    assert output.read_bytes() == answers
    assert batchrun(tmp_path, "cleanup", "outputs/q.csv").stderr == "0 deleted\n"


def test_a_cleaned_batch_still_resumes(tmp_path: Path, table: Path) -> None:
    """The same command after a cleanup sends no row again, and new rows get a new assistant."""
    batchrun(tmp_path, "run", "q.csv")
    batchrun(tmp_path, "cleanup", "outputs/q.csv")
    write_csv(table, [{"question": f"What is {number} + 1?"} for number in range(6)])
    again = batchrun(tmp_path, "run", "q.csv", "--accept-changes", "--json")
    facts = again.facts()
    assert (again.returncode, facts["completed"], facts["finished_before"]) == (0, 6, 5)
    assert batchrun(tmp_path, "cleanup", "outputs/q.csv").stderr == "2 deleted · 1 thread, 1 assistant\n"


def test_a_store_that_is_gone_took_everything_along(tmp_path: Path, table: Path) -> None:
    """Without the embedded store there is nothing left to delete, and no new store is created."""
    batchrun(tmp_path, "run", "q.csv")
    store = tmp_path / "outputs" / "q.csv.store"
    for part in tmp_path.glob("outputs/q.csv.store*"):
        part.unlink()
    done = batchrun(tmp_path, "cleanup", "outputs/q.csv")
    assert (done.returncode, done.stderr) == (0, "0 deleted · 6 already gone\n")
    assert not store.exists()


def test_a_journal_set_aside_can_be_named(tmp_path: Path, table: Path) -> None:
    """The objects of a batch that `--fresh` set aside are deleted by the name of its journal, and none of the new
    batch."""
    batchrun(tmp_path, "run", "q.csv")
    batchrun(tmp_path, "run", "q.csv", "--fresh")
    (old,) = tmp_path.glob("outputs/q.csv.journal.*Z")
    assert batchrun(tmp_path, "cleanup", str(old)).stderr == "6 deleted · 5 threads, 1 assistant\n"
    assert objects_in(tmp_path / "outputs" / "q.csv.store")["thread"] == 5


def test_each_object_is_deleted_once_and_the_assistant_last(tmp_path: Path) -> None:
    """There is one DELETE per object, with the beta header where it is required; the assistant is deleted after the
    threads."""
    with ScriptedHttp(deleted) as server:
        output = batch_of(tmp_path, server.url)
        assert batchrun(tmp_path, "cleanup", str(output)).returncode == 0
    assert paths_sent(server) == ["DELETE /assistants/asst_1", *(f"DELETE /threads/thread_{row}" for row in range(3))]
    assert server.paths()[-1] == "DELETE /assistants/asst_1"
    assert {request.headers["openai-beta"] for request in server.requests} == {"assistants=v2"}


def test_what_the_service_does_not_know_counts_as_deleted(tmp_path: Path) -> None:
    """A 404 about the object counts as deleted."""
    with ScriptedHttp(lambda _: json_answer(GONE, 404)) as server:
        output = batch_of(tmp_path, server.url)
        first = batchrun(tmp_path, "cleanup", str(output))
        assert (first.returncode, first.stderr) == (0, "0 deleted · 4 already gone\n")
        assert batchrun(tmp_path, "cleanup", str(output)).stderr == "0 deleted\n"
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "answer",
    [
        json_answer({"detail": "Not Found"}, 404),
        json_answer({"error": {"message": "Unknown request URL: DELETE /threads/x.", "code": "unknown_url"}}, 404),
        html(),
        json_answer({"detail": "Method Not Allowed"}, 405),
    ],
    ids=["no route", "unknown url", "a page", "no method"],
)
def test_an_unspecific_reply_deletes_nothing(tmp_path: Path, answer: Answer) -> None:
    """With a service without the endpoint, or a page in front of it, the object stays on the list."""
    with ScriptedHttp(lambda _: answer) as server:
        output = batch_of(tmp_path, server.url)
        done = batchrun(tmp_path, "cleanup", str(output), "--max-attempts", "1")
        assert done.returncode in (3, 5)
        assert "Traceback" not in done.stderr
        with Journal(output.with_name("a.csv.journal"), read_only=True) as journal:
            assert journal.created.count(server.url, of_rows=True, followed=True) == 3


def test_the_same_command_resumes(tmp_path: Path) -> None:
    """After failures only the remaining objects are deleted."""
    broken = {"/v1/threads/thread_1"}

    def script(request: Request) -> Answer:
        return json_answer({"error": {"message": "broken"}}, 500) if request.path in broken else deleted(request)

    with ScriptedHttp(script) as server:
        output = batch_of(tmp_path, server.url)
        first = batchrun(tmp_path, "cleanup", str(output), "--max-attempts", "1")
        assert first.returncode == 3
        assert "1 left (1 × http_500); run the same command again" in first.stderr
        server.requests.clear()
        broken.clear()
        assert batchrun(tmp_path, "cleanup", str(output)).returncode == 0
    assert server.paths() == ["DELETE /threads/thread_1"]


def test_a_refused_key_stops_at_once(tmp_path: Path) -> None:
    """If every deletion would fail for the same reason, one line gives it and the exit code is 5."""
    refusal = json_answer({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, 401)
    with ScriptedHttp(lambda _: refusal) as server:
        output = batch_of(tmp_path, server.url, rows=300)
        done = batchrun(tmp_path, "cleanup", str(output), "--concurrency", "2")
    assert done.returncode == 5
    assert "stopped: the service refused the key" in done.stderr
    assert len(server.requests) < 10


def test_a_service_that_cannot_delete_is_given_up(tmp_path: Path) -> None:
    """After twenty failures and no success the rest is not attempted."""
    with ScriptedHttp(lambda _: json_answer({"error": {"message": "not allowed"}}, 400)) as server:
        output = batch_of(tmp_path, server.url, rows=300)
        done = batchrun(tmp_path, "cleanup", str(output), "--concurrency", "1")
    assert done.returncode == 3
    assert "the first 20 objects could not be deleted: not allowed" in done.stderr
    assert len(server.requests) < 30


def test_a_dry_run_lists_and_sends_nothing(tmp_path: Path) -> None:
    """`--dry-run` names every object that a cleanup would delete."""
    with ScriptedHttp(deleted) as server:
        output = batch_of(tmp_path, server.url)
        done = batchrun(tmp_path, "cleanup", str(output), "--dry-run")
        assert done.stdout.splitlines() == ["thread thread_0", "thread thread_1", "thread thread_2", "assistant asst_1"]
        assert (done.returncode, done.stderr) == (0, "4 would be deleted\n")
        assert server.requests == []


def test_rows_in_flight_are_not_taken_from_the_batch(tmp_path: Path) -> None:
    """Runs that the next start will follow, and their assistant, are deleted only with `--in-flight`."""
    with ScriptedHttp(deleted) as server:
        output = batch_of(tmp_path, server.url, in_flight=2)
        done = batchrun(tmp_path, "cleanup", str(output))
        assert done.returncode == 0
        assert "3 deleted · 3 threads · 2 kept for rows in flight" in done.stderr
        server.requests.clear()
        assert batchrun(tmp_path, "cleanup", str(output), "--in-flight").returncode == 0
    assert paths_sent(server) == ["DELETE /assistants/asst_1", "DELETE /threads/thread_3", "DELETE /threads/thread_4"]


def test_a_batch_that_runs_is_left_alone(tmp_path: Path) -> None:
    """While a process is writing the output, a cleanup exits with 6."""
    output = batch_of(tmp_path, "http://127.0.0.1:9/v1")
    with FileLock(tmp_path / "a.csv.lock"):
        done = batchrun(tmp_path, "cleanup", str(output))
    assert done.returncode == 6
    assert "another batch is writing this output" in done.stderr


@pytest.mark.parametrize("name", ["none.csv", "none.csv.journal"])
def test_without_a_journal_there_is_one_line(tmp_path: Path, name: str) -> None:
    """An output that no batch wrote is named, and no file is created."""
    done = batchrun(tmp_path, "cleanup", name)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert (
        "none.csv: no batch has written this output, since its journal none.csv.journal does not exist" in done.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_a_job_file_brings_the_way_in(tmp_path: Path) -> None:
    """`cleanup job.toml` finds the output and sends the headers that the job needs."""
    with ScriptedHttp(deleted) as server:
        batch_of(tmp_path, server.url)
        text = f'input = "q.csv"\noutput = "a.csv"\nbase_url = "{server.url}"\nheader = {{ X-Team = "${{TEAM}}" }}\n'
        (tmp_path / "job.toml").write_text(text, encoding="utf-8")
        done = batchrun(tmp_path, "cleanup", "job.toml", TEAM="blue", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert done.returncode == 0
    assert {request.headers["x-team"] for request in server.requests} == {"blue"}
    assert len(server.requests) == 4


def test_another_service_is_refused(tmp_path: Path) -> None:
    """A job file that names another service than the batch's deletes nothing there."""
    batch_of(tmp_path, "http://127.0.0.1:9/v1")
    text = 'input = "q.csv"\noutput = "a.csv"\nbase_url = "http://127.0.0.1:10/v1"\n'
    (tmp_path / "job.toml").write_text(text, encoding="utf-8")
    done = batchrun(tmp_path, "cleanup", "job.toml")
    assert done.returncode == 2
    assert "the objects of this batch are at http://127.0.0.1:9/v1, not at http://127.0.0.1:10/v1" in done.stderr


# -- as rows end ------------------------------------------------------------------------------------------------


def test_threads_go_as_rows_end(tmp_path: Path, table: Path) -> None:
    """With `--delete-threads` the server holds no thread at the end of the batch, and every answer is there."""
    done = batchrun(tmp_path, "run", "q.csv", "--delete-threads", "--json")
    facts = done.facts()
    assert (done.returncode, facts["completed"], facts["not_deleted"]) == (0, 5, 0)
    assert objects_in(tmp_path / "outputs" / "q.csv.store") == Counter({"assistant": 1})


def responses(broken: Callable[[], bool]) -> Callable[[Request], Answer]:
    """A Responses server whose DELETE fails while `broken()`."""
    made: Counter[str] = Counter()

    def script(request: Request) -> Answer:
        if request.method == "DELETE":
            return json_answer({"error": {"message": "broken"}}, 500) if broken() else deleted(request)
        made["responses"] += 1
        name = f"resp_{made['responses']}"
        content = [{"type": "output_text", "text": "yes", "annotations": []}]
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        body: dict[str, Any] = {"id": name, "object": "response", "status": "completed", "output": [message]}
        return json_answer({**body, "model": "m", "conversation": None})

    return script


def test_a_deletion_that_fails_fails_no_row(tmp_path: Path, table: Path) -> None:
    """The rows still complete; the remaining objects are counted, and `cleanup` deletes them."""
    state = {"broken": True}
    with ScriptedHttp(responses(lambda: state["broken"])) as server:
        options = ("--api", "responses", "--base-url", server.url, "--model", "m", "--concurrency", "1")
        done = batchrun(tmp_path, "run", "q.csv", *options, "--delete-threads", OPENAI_API_KEY="any")
        assert done.returncode == 0
        assert "5 threads, conversations or responses are not deleted yet: batchrun cleanup " in done.stderr
        state["broken"] = False
        server.requests.clear()
        after = batchrun(tmp_path, "cleanup", "outputs/q.csv", OPENAI_API_KEY="any")
        assert (after.returncode, after.stderr) == (0, "5 deleted · 5 responses\n")
    assert paths_sent(server) == [f"DELETE /responses/resp_{number}" for number in range(1, 6)]


def test_the_threads_of_earlier_attempts_are_deleted_too(tmp_path: Path, table: Path) -> None:
    """A row that needed two runs, one of them in an earlier process, leaves neither."""
    with ScriptedHttp(responses(lambda: False)) as server:
        options = ("--api", "responses", "--base-url", server.url, "--model", "m", "--concurrency", "1")
        batchrun(tmp_path, "run", "q.csv", *options, OPENAI_API_KEY="any")
        journal_path = tmp_path / "outputs" / "q.csv.journal"
        with Journal(journal_path) as journal:
            found = journal.outcome("2")
            assert found is not None
            journal.begin_attempt(prompt(2, fingerprint=found[1]), attempt(2, 2), NOON)
            journal.set_ids("2", 2, "resp_lost", "resp_lost")
            journal.record_fault("2", 2, ServiceFault("broke", error_type="server_error", run_ended=True))
        server.requests.clear()
        write_csv(table, [{"question": f"What is {number} + {1 + (number == 2)}?"} for number in range(5)])
        again = ("--accept-changes", "--delete-threads")
        done = batchrun(tmp_path, "run", "q.csv", *options, *again, OPENAI_API_KEY="any")
    assert done.returncode == 0
    gone = {path.removeprefix("DELETE /responses/") for path in server.paths() if path.startswith("DELETE")}
    assert gone == {"resp_3", "resp_lost", "resp_6"}
