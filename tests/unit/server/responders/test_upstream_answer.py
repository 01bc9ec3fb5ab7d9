from __future__ import annotations

from typing import Any

import pytest

from batchrun.server.responders.base import Conversation, Finish, Part, ResponderError, TextDelta, ToolCall
from batchrun.server.responders.upstream_answer import UpstreamAnswer


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def read(*events: dict[str, Any]) -> list[Part]:
    """Return the texts of a stream, and the parts of its end."""
    answer = UpstreamAnswer(Conversation("m", "", ()))
    texts = [answer.take(event) for event in events]
    return [*(text for text in texts if text.text), *answer.end()]


def fragment(index: int | None, call_id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    """Return a fragment of a call; None leaves a field out."""
    fields = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in fields.items() if value is not None}


@pytest.mark.parametrize(
    "fragments",
    [
        [(0, "a", "f", '{"x":1}'), (0, "b", "f", "{}")],  # Gemini, older versions of Ollama
        [(0, "a", "f", '{"x"'), (0, None, None, ":1}"), (0, "b", "f", ""), (0, None, None, "{}")],
        [(0, "a", "f", '{"x"'), (1, "a", "f", "{}"), (0, "a", None, ":1}")],
        [(None, None, "f", '{"x":1}'), (None, None, "f", "{}")],
        [(0, "", "f", '{"x":1}'), (1, "", "f", "{}")],
        [(0, "a", "f", '{"x"'), (0, "a", "f", ":1}"), (1, "b", "f", ""), (1, "b", "f", "{}")],
        [(0, "a", "f", '{"x"'), (0, "c", None, ":1}"), (1, "b", "f", "{}")],  # another id in each fragment
    ],
)
def test_parallel_calls_of_sloppy_servers(fragments: list[tuple[int | None, str | None, str | None, str]]) -> None:
    """Two calls with the same index, the same id, or neither, are still two calls, each with an id of its own."""
    found = read(*(chunk({"tool_calls": [fragment(*each)]}) for each in fragments), chunk({}, "tool_calls"))
    calls = [part for part in found if isinstance(part, ToolCall)]
    assert [(call.name, call.arguments) for call in calls] == [("f", '{"x":1}'), ("f", "{}")]
    assert len({call.id for call in calls}) == 2


def test_content_in_parts() -> None:
    """Of content in parts, as Mistral sends it, the text is the answer, and thoughts are left out."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]}
    text = {"type": "text", "text": "4"}
    found = read(chunk({"content": [thought]}), chunk({"content": [text]}), chunk({"content": "2"}, "stop"))
    assert found == [TextDelta("4"), TextDelta("2"), Finish("stop")]


def test_counts_that_are_not_numbers() -> None:
    """A usage that is not made of numbers counts as no usage, so that the server counts itself."""
    assert read(chunk({"content": "x"}, "stop"), {"usage": {"prompt_tokens": "5"}})[-1] == Finish("stop")


@pytest.mark.parametrize(
    "event", [{"choices": ["x"]}, {"choices": [{"delta": {"tool_calls": {"a": 1}}}]}, {"choices": 1}, {"usage": [1]}]
)
def test_a_malformed_chunk(event: dict[str, Any]) -> None:
    """A chunk of another form is the endpoint's fault, and the message says so."""
    with pytest.raises(ResponderError, match="not a chunk of a chat completion") as caught:
        read(event)
    assert caught.value.status_code == 502


def test_an_error_without_its_key() -> None:
    """An error event of older servers, without the key `error`, is reported with its message."""
    with pytest.raises(ResponderError, match="too long") as caught:
        read({"object": "error", "message": "too long", "type": "invalid_request_error"})
    assert caught.value.code == "invalid_prompt"
