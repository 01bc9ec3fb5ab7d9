"""The Batch API of the embedded server, called with OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.convert import convert
from batchrun.server.responders.base import Conversation, Finish, Part, ResponderError, TextDelta, TokenCount
from tests.integration.server.conftest import Running
from tests.integration.server.scripted import forever
from tests.support.rows import read_csv

Start = Callable[..., Running]

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


async def answer(conversation: Conversation) -> AsyncIterator[Part]:
    """Repeat the question; refuse "fail", and never answer "wait"."""
    question = conversation.messages[-1].text
    if question == "fail":
        raise ResponderError("Too many.", code="rate_limit_exceeded")
    if question == "wait":
        await anyio.sleep_forever()
    yield TextDelta(f"You said: {question}")
    yield Finish("stop", TokenCount(10, 4, 3, 2))


def request(custom_id: str, question: str = "hello", url: str = CHAT, **changes: Any) -> dict[str, Any]:
    asked = {"input": question} if url == RESPONSES else {"messages": [{"role": "user", "content": question}]}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": url,
        "body": {"model": "m", **asked, **changes.pop("body", {})},
        **changes,
    }


def upload(client: OpenAI, lines: list[Any]) -> str:
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    return client.files.create(file=("requests.jsonl", text.encode()), purpose="batch").id


def create(client: OpenAI, lines: list[Any], endpoint: Any = CHAT, **options: Any) -> Batch:
    return client.batches.create(
        input_file_id=upload(client, lines), endpoint=endpoint, completion_window="24h", **options
    )


def until(client: OpenAI, batch: Batch, *statuses: str) -> Batch:
    while batch.status not in statuses:
        batch = client.batches.retrieve(batch.id)
    return batch


def ended(client: OpenAI, batch: Batch) -> Batch:
    return until(client, batch, "completed", "failed", "expired", "cancelled")


def lines_of(client: OpenAI, file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    found = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    return {line["custom_id"]: line for line in found}


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_a_batch_answers_its_lines(start: Start, endpoint: str) -> None:
    """Answers are in the output file, and refusals, with their HTTP status, in the error file."""
    client = start(answer).client
    asked = [
        request("a", "one", endpoint),
        request("b", "two", endpoint),
        request("c", "x", endpoint, body={"top_p": 7}),
    ]
    batch = create(client, asked, endpoint, metadata={"night": "1"})
    assert (batch.status, batch.metadata) == ("validating", {"night": "1"})
    batch = ended(client, batch)
    assert (batch.status, batch.model, batch.errors) == ("completed", "m", None)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 3, "completed": 2, "failed": 1}
    assert batch.usage is not None
    assert (batch.usage.total_tokens, batch.usage.input_tokens_details.cached_tokens) == (28, 6)
    assert batch.expires_at == batch.created_at + 86_400
    answers, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert answers.keys() == {"a", "b"}
    reply = answers["a"]["response"]
    assert (reply["status_code"], answers["a"]["error"]) == (200, None)
    assert "You said: one" in json.dumps(reply["body"])
    refusal = errors["c"]["response"]
    assert (refusal["status_code"], refusal["body"]["error"]["param"]) == (400, "top_p")
    file = client.files.retrieve(batch.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")


def test_files_without_lines_do_not_exist(start: Start) -> None:
    """The id of a result file that would be empty is null."""
    client = start(answer).client
    good = ended(client, create(client, [request("a")]))
    assert (good.output_file_id is None, good.error_file_id) == (False, None)
    bad = ended(client, create(client, [request("a", "fail")]))
    assert (bad.status, bad.output_file_id) == ("completed", None)
    assert lines_of(client, bad.error_file_id)["a"]["response"]["status_code"] == 429


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["{nonsense\n", request("a")], [("invalid_json_line", 1, None)]),
        (["[]\n"], [("invalid_json_line", 1, None)]),
        ([request("a"), "\n", request("a")], [("duplicate_custom_id", 3, "custom_id")]),
        ([request("a"), request("b", body={"model": "other"})], [("mismatched_model", 2, "body.model")]),
        ([request("a", method="GET"), request("b", url=RESPONSES)],
         [("invalid_method", 1, "method"), ("mismatched_url", 2, "url")]),
        ([{"custom_id": "a"}], [("missing_required_parameter", 1, "method")]),
        ([request("a", body={"model": None})], [("missing_required_parameter", 1, "body.model")]),
        (["\n"], [("empty_file", None, None)]),
    ],
)  # fmt: skip
def test_a_wrong_input_fails_the_whole_batch(start: Start, lines: list[Any], found: list[Any]) -> None:
    """Nothing is executed, and each wrong line is named with its number, code and parameter."""
    running = start(answer)
    batch = ended(running.client, create(running.client, lines))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(each.code, each.line, each.param) for each in batch.errors.data or ()] == found
    assert (batch.output_file_id, running.responder.asked) == (None, [])


def test_a_batch_has_at_most_50_000_lines(start: Start) -> None:
    """One line more fails the batch without naming a line."""
    client = start(answer).client
    batch = ended(client, create(client, ["1\n" * 50_001]))
    assert batch.errors is not None
    assert [(each.code, each.line) for each in batch.errors.data or ()] == [("too_many_tasks", None)]


def test_a_cancelled_batch_keeps_its_answers(start: Start) -> None:
    """Lines that were not answered are in the error file as `batch_cancelled`."""
    client = start(answer).client
    batch = create(client, [request("a"), request("b", "wait")])
    while batch.request_counts is None or not batch.request_counts.completed:
        batch = client.batches.retrieve(batch.id)
    batch = client.batches.cancel(batch.id)
    assert batch.status == "cancelling"
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    assert lines_of(client, batch.output_file_id).keys() == {"a"}
    assert lines_of(client, batch.error_file_id)["b"]["error"]["code"] == "batch_cancelled"
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'cancelled'"):
        client.batches.cancel(batch.id)


def test_a_batch_expires(start: Start) -> None:
    """After 24 hours, lines that were not answered are in the error file as `batch_expired`."""
    running = start(answer)
    client = running.client
    batch = until(client, create(client, [request("a", "wait")]), "in_progress")
    running.clock.advance(86_400)
    batch = ended(client, batch)
    assert (batch.status, batch.output_file_id) == ("expired", None)
    assert lines_of(client, batch.error_file_id)["a"]["error"]["code"] == "batch_expired"


def test_batches_are_listed_in_pages(start: Start) -> None:
    """The SDK follows the pages to the end, and another key sees nothing."""
    running = start(answer, api_keys=("one", "two"), key="one")
    client = running.client
    made = [create(client, [request("a")]).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]
    with OpenAI(base_url=running.url, api_key="two", max_retries=0) as other:
        assert list(other.batches.list()) == []
        with pytest.raises(openai.NotFoundError, match=f"No batch found with id '{made[0]}'"):
            other.batches.retrieve(made[0])


@pytest.mark.parametrize(
    ("purpose", "options", "param"),
    [
        (None, {}, "input_file_id"),
        ("assistants", {}, "input_file_id"),
        ("batch", {"completion_window": "1h"}, "completion_window"),
        ("batch", {"endpoint": "/v1/embeddings"}, "endpoint"),
    ],
)
def test_a_wrong_creation_is_refused(start: Start, purpose: Any, options: Any, param: str) -> None:
    """The error names the parameter, and no batch is made."""
    client = start(answer).client
    file_id = "file-none" if purpose is None else client.files.create(file=("x", b"x"), purpose=purpose).id
    arguments: Any = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", **options}
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(**arguments)
    assert caught.value.param == param
    assert list(client.batches.list()) == []


def test_a_restarted_server_continues(start: Start, tmp_path: Path) -> None:
    """Lines with a result are not answered again; the others are, and each is in a result file once."""
    data = tmp_path / "server.sqlite3"
    running = start(answer, data=data)
    batch = create(running.client, [request("a", url=RESPONSES), request("b", "wait", url=RESPONSES)], RESPONSES)
    while batch.request_counts is None or not batch.request_counts.completed:
        batch = running.client.batches.retrieve(batch.id)
    running.server.stop()
    again = start(data=data)
    batch = ended(again.client, batch)
    assert lines_of(again.client, batch.output_file_id).keys() == {"a", "b"}
    assert [asked.messages[-1].text for asked in again.responder.asked] == ["wait"]


def test_lines_have_their_own_quota(start: Start) -> None:
    """The tokens of a batch do not count in the limit of ordinary requests."""
    client = start(answer, tokens_per_minute=20).client
    assert ended(client, create(client, [request(str(n)) for n in range(10)])).status == "completed"


def test_a_key_makes_one_batch(start: Start) -> None:
    """The same creation with the same idempotency key returns the same batch."""
    client = start(forever).client
    file_id = upload(client, [request("a")])
    made = {
        client.batches.create(
            input_file_id=file_id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            extra_headers={"Idempotency-Key": "k"},
        ).id
        for _ in range(2)
    }
    assert len(made) == 1


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_converted_requests_are_answered(start: Start, tmp_path: Path, api: str) -> None:
    """A table goes through `convert`, the Batch API and `convert` again, and has its answers."""
    client = start(answer).client
    table, requests, results = (tmp_path / name for name in ("q.csv", "requests.jsonl", "results.jsonl"))
    table.write_text("id,question\na,one\nb,fail\n")
    convert([str(table)], requests, Conversion(to_format="batch-requests", model="m", api=api))
    lines = requests.read_text()
    batch = ended(client, create(client, [lines], CHAT if api == "chat" else RESPONSES))
    files = [client.files.content(each).read() for each in (batch.output_file_id, batch.error_file_id) if each]
    results.write_bytes(b"".join(files))
    joined = tmp_path / "answers.csv"
    convert([str(results)], joined, Conversion(from_format="batch-results", join=str(table), key="id"))
    one, two = read_csv(joined)
    assert (one["response"], one["total_tokens"], one["status_code"]) == ("You said: one", "14", "200")
    assert (two["status"], two["error_type"]) == ("failed", "rate_limit_exceeded")
