"""Chat completions with `store: true`, and endpoints that are not offered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from openai import NotFoundError, OpenAI

from tests.integration.server.conftest import Running

HELLO: Any = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
]


def test_a_stored_completion_can_be_used_again(start: Callable[..., Running]) -> None:
    """A completion with `store: true` can be listed, retrieved, updated and deleted; others are not stored."""
    running = start(api_keys=("one", "two"), key="one")
    completions = running.client.chat.completions
    created = completions.create(model="m", messages=HELLO, store=True, metadata={"a": "1", "b": "2"})
    completions.create(model="m", messages=HELLO)
    assert [each.id for each in completions.list()] == [created.id]
    stored = completions.retrieve(created.id)
    assert stored.choices == created.choices
    updated = completions.update(created.id, metadata={"a": "", "c": "3"})
    assert updated.metadata == {"b": "2", "c": "3"}
    system, user = completions.messages.list(created.id)
    assert (system.content, system.content_parts) == ("Be kind.", None)
    assert user.content is None
    assert [part.type for part in user.content_parts or ()] == ["text"]
    with OpenAI(base_url=running.url, api_key="two", max_retries=0) as other, pytest.raises(NotFoundError):
        other.chat.completions.retrieve(created.id)
    assert completions.delete(created.id).deleted
    with pytest.raises(NotFoundError, match=f"No chat completion found with id '{created.id}'"):
        completions.retrieve(created.id)


def test_streamed_and_repeated_completions_are_stored_once(start: Callable[..., Running]) -> None:
    """A stream with `store: true` and an idempotency key stores one completion with the whole text."""
    completions = start().client.chat.completions
    headers = {"Idempotency-Key": "k"}
    for _ in range(2):
        stream = completions.create(model="m", messages=HELLO, store=True, stream=True, extra_headers=headers)
        ids = {chunk.id for chunk in stream}
    (stored,) = completions.list()
    assert ids == {stored.id}
    assert stored.choices[0].message.content == "You said: hi"


def test_the_list_is_filtered(start: Callable[..., Running]) -> None:
    """The list has the oldest first, in pages, and can be limited to a model or to metadata."""
    completions = start().client.chat.completions
    made = [
        completions.create(model=model, messages=HELLO, store=True, metadata={"n": str(n)}).id
        for n, model in enumerate(("m", "m", "other"))
    ]
    assert [each.id for each in completions.list(limit=1)] == made
    assert [each.id for each in completions.list(order="desc")] == made[::-1]
    assert [each.id for each in completions.list(model="m")] == made[:2]
    assert [each.id for each in completions.list(metadata={"n": "1"})] == [made[1]]


@pytest.mark.parametrize(
    "path", ["completions", "moderations", "audio/speech", "images/generations", "fine_tuning/jobs"]
)
def test_other_endpoints_name_a_way(shared: Running, path: str) -> None:
    """An endpoint that is not offered is a 404 that names it and says what to do."""
    reply = httpx2.post(f"{shared.url}/{path}", json={"model": "m", "input": "x"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unsupported_endpoint")
    assert reply.json()["error"]["message"].startswith(f"This server does not offer /v1/{path}: ")
