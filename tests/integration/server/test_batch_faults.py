"""Planned faults of the Batch API, as a client sees them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.script import ScriptResponder
from tests.integration.server.test_service_batches import create, ended, lines_of, request, until, upload

Script = Callable[..., OpenAI]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Return a function that starts a server with these faults, and returns its client."""
    with ExitStack() as stack:

        def start(*faults: dict[str, Any]) -> OpenAI:
            path = tmp_path / "script.jsonl"
            lines: list[dict[str, Any]] = [{"default": {"reply": "An answer."}}]
            lines += [{"batch_api": fault} for fault in faults]
            path.write_text("\n".join(map(json.dumps, lines)))
            settings = ServerSettings(shutdown_grace_s=0.05)
            server = stack.enter_context(EmbeddedServer(settings, ScriptResponder(path)))
            return stack.enter_context(OpenAI(base_url=server.url, api_key="any", max_retries=0))

        yield start


def abc(client: OpenAI) -> Batch:
    return create(client, [request(each, f"about {each}") for each in "abc"])


def counts(batch: Batch) -> tuple[int, int, int] | None:
    found = batch.request_counts
    return None if found is None else (found.total, found.completed, found.failed)


def test_some_lines_expire(script: Script) -> None:
    """Only the named batch expires, with the selected lines in the error file and the others answered."""
    client = script({"kind": "expire", "batches": [1], "lines": [2]})
    first, second = ended(client, abc(client)), ended(client, abc(client))
    assert (first.status, counts(first), second.status) == ("expired", (3, 2, 1), "completed")
    assert lines_of(client, first.output_file_id).keys() == {"a", "c"}
    assert lines_of(client, first.error_file_id)["b"]["error"]["code"] == "batch_expired"


@pytest.mark.parametrize(("lines", "named"), [({"lines": [1, 3]}, [1, 3]), ({}, [None])])
def test_the_check_of_the_input_fails(script: Script, lines: Any, named: list[int | None]) -> None:
    """The errors name the planned lines, or none."""
    client = script({"kind": "fail", "code": "model_not_found", "message": "No such model.", **lines})
    batch = ended(client, abc(client))
    assert (batch.status, batch.output_file_id) == ("failed", None)
    assert batch.errors is not None
    assert [(each.line, each.code, each.message) for each in batch.errors.data or ()] == [
        (line, "model_not_found", "No such model.") for line in named
    ]


def test_a_queue_has_room_for_some_lines(script: Script) -> None:
    """A batch fails if it would exceed the lines in progress, and passes when the others have ended."""
    client = script(
        {"kind": "fail", "code": "token_limit_exceeded", "queue_lines": 5},
        {"kind": "hold", "batches": [1], "status": "in_progress", "retrievals": 3},
    )
    first = abc(client)
    until(client, first, "in_progress")
    assert ended(client, abc(client)).status == "failed"
    ended(client, first)
    assert ended(client, abc(client)).status == "completed"


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ({"status": 429, "code": "rate_limit_exceeded"}, (429, "rate_limit_exceeded", None)),
        ({"status": 500}, (500, None, None)),
        ({"status": 0}, (0, None, None)),
        ({"status": 200, "code": "server_error"}, (200, "server_error", None)),
        ({"code": "request_timeout"}, (None, None, "request_timeout")),
    ],
)
@pytest.mark.parametrize("file", [None, "output", "error"])
def test_lines_have_errors(script: Script, fault: Any, line: Any, file: str | None) -> None:
    """A planned error has its status, its code and its file."""
    client = script({"kind": "line_error", "pattern": "about b", **fault, **({"file": file} if file else {})})
    batch = ended(client, abc(client))
    expected = file or ("output" if fault.get("status") == 200 else "error")
    files = {"output": batch.output_file_id, "error": batch.error_file_id}
    found = lines_of(client, files[expected])["b"]
    response, error = found["response"] or {}, found["error"] or {}
    body = response.get("body") or {}
    assert (response.get("status_code"), body.get("error", {}).get("code"), error.get("code")) == line
    assert batch.status == "completed"


def test_a_status_lasts(script: Script) -> None:
    """A held status is shown to as many retrievals as planned, and lines that wait can still be cancelled."""
    client = script(
        {"kind": "hold", "status": "validating", "retrievals": 2},
        {"kind": "hold", "status": "in_progress", "retrievals": 50, "lines": [3]},
    )
    batch = abc(client)
    assert [client.batches.retrieve(batch.id).status for _ in range(2)] == ["validating"] * 2
    batch = until(client, batch, "in_progress")
    while counts(batch) != (3, 2, 0):
        batch = client.batches.retrieve(batch.id)
    client.batches.cancel(batch.id)
    batch = ended(client, batch)
    assert (batch.status, counts(batch)) == ("cancelled", (3, 2, 1))


@pytest.mark.parametrize("shows", [None, ""])
def test_result_files_come_late(script: Script, shows: str | None) -> None:
    """A batch that is completed has no file ids for a number of retrievals."""
    client = script({"kind": "missing_files", "retrievals": 2, **({} if shows is None else {"shows": shows})})
    batch = ended(client, abc(client))
    seen = [batch.output_file_id]
    while seen[-1] == shows:
        seen.append(client.batches.retrieve(batch.id).output_file_id)
    assert seen[:-1] == [shows] * 2
    assert str(seen[-1]).startswith("file-")


def test_a_batch_is_shown_wrong(script: Script) -> None:
    """Statuses have other names and counts are wrong, in every operation that returns batches."""
    client = script(
        {"kind": "unknown_status", "status": "completed", "shows": "succeeded"},
        {"kind": "wrong_counts", "batches": [1]},
        {"kind": "wrong_counts", "counts": {"total": 9, "completed": 9, "failed": 9}},
    )
    for expected in (None, (9, 9, 9)):
        batch = abc(client)
        while str(batch.status) != "succeeded":
            batch = client.batches.retrieve(batch.id)
        assert counts(batch) == expected
    assert [str(each.status) for each in client.batches.list()] == ["succeeded"] * 2


def test_result_files_are_odd(script: Script) -> None:
    """Lines are in another order, missing, repeated or foreign, and between odd bytes."""
    client = script(
        {"kind": "odd_files", "batches": [1], "shuffled": True, "bytes": True, "foreign": True},
        {"kind": "odd_files", "lost": True, "lines": [1]},
        {"kind": "odd_files", "repeated": True, "lines": [2]},
    )
    asked = [request(str(number)) for number in range(20)]
    batch = ended(client, create(client, asked))
    content = client.files.content(batch.output_file_id or "").read()
    assert content.startswith(b"\xef\xbb\xbf{")
    assert content.count(b"\r\n\r\n") == content.count(b"\n") / 2
    ids = [json.loads(line)["custom_id"] for line in content.decode("utf-8-sig").splitlines() if line]
    assert ids.count("1") == 3
    assert set(ids) == {"foreign-1", *(each["custom_id"] for each in asked[1:])}
    assert ids != sorted(ids, key=lambda each: (not each.startswith("foreign"), each))


def test_a_reply_is_lost_after_the_work(script: Script) -> None:
    """The connection closes, but the batch exists; a download that breaks is complete the next time."""
    client = script(
        {"kind": "request", "request": "create", "lost_reply": True},
        {"kind": "request", "request": "content", "lost_reply": True, "after": 1},
    )
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
        abc(client)
    (batch,) = client.batches.list()
    batch = ended(client, batch)
    assert lines_of(client, batch.output_file_id).keys() == set("abc")
    with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
        lines_of(client, batch.output_file_id)
    assert lines_of(client, batch.output_file_id).keys() == set("abc")


def test_requests_are_refused(script: Script) -> None:
    """A planned refusal has its status, code and wait, as often as planned, and nothing is done."""
    client = script(
        {"kind": "request", "request": "create", "status": 429, "code": "token_limit_exceeded", "retry_after_s": 2},
        {"kind": "request", "request": "retrieve", "status": 503, "html": True, "times": 2},
        {"kind": "request", "request": "upload", "status": 413},
    )
    with pytest.raises(openai.APIStatusError) as upload_error:
        upload(client, [request("a")])
    assert upload_error.value.status_code == 413
    assert list(client.files.list()) == []
    with pytest.raises(openai.RateLimitError) as refused:
        abc(client)
    assert (refused.value.code, refused.value.response.headers["retry-after"]) == ("token_limit_exceeded", "2")
    batch = abc(client)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError) as page:
            client.batches.retrieve(batch.id)
        assert page.value.response.headers["content-type"] == "text/html"
    assert ended(client, batch).status == "completed"
