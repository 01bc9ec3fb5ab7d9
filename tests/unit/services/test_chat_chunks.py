"""Chunks of a streamed completion: the short way for chunks of text reads them as the whole reader does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import pytest

from batchrun.errors import ServiceFault
from batchrun.records import JsonObject
from batchrun.services.chat_replies import Completion


class WholeReader(Completion):
    """A completion without the short way."""

    __slots__ = ()

    def _adds_text_only(self, chunk: JsonObject) -> bool:
        return False


def chunk(delta: Any = None, choice: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    usual = {"index": 0, "delta": {"content": "b"} if delta is None else delta, "logprobs": None, "finish_reason": None}
    return {"id": "c-1", "model": "m", "choices": [{**usual, **(choice or {})}], **fields}


CHUNKS: Mapping[str, Any] = MappingProxyType(
    {
        "text": chunk(),
        "text and role": chunk({"content": "b", "role": "assistant"}),
        "empty text": chunk({"content": ""}),
        "null text": chunk({"content": None}),
        "half a character": chunk({"content": "\ud83d"}),
        "number as text": chunk({"content": 1}),
        "parts": chunk({"content": [{"type": "text", "text": "b"}]}),
        "text and reasoning": chunk({"content": "b", "reasoning_content": "r"}),
        "text and refusal": chunk({"content": "b", "refusal": "no"}),
        "text and a call": chunk({"content": "b", "tool_calls": [{"index": 0, "id": "x", "function": {"name": "f"}}]}),
        "text and annotations": chunk({"content": "b", "annotations": [{"type": "url_citation"}]}),
        "no delta": chunk(choice={"delta": None}),
        "delta of another type": chunk(choice={"delta": "b"}),
        "finish reason": chunk(choice={"finish_reason": "stop"}),
        "finish reason of another type": chunk(choice={"finish_reason": 1}),
        "log probabilities": chunk(choice={"logprobs": {"content": [{"token": "b"}]}}),
        "second choice": chunk(choice={"index": 1}),
        "no index": chunk(choice={"index": None}),
        "index that is true": chunk(choice={"index": True}),
        "two choices": {**chunk(), "choices": [*chunk()["choices"], *chunk(choice={"index": 1})["choices"]]},
        "no choices": chunk(choices=[]),
        "choices of another type": chunk(choices={"0": {}}),
        "choice of another type": chunk(choices=["b"]),
        "another id": chunk(id="c-2"),
        "no id": chunk(id=None),
        "another model": chunk(model="n"),
        "usage": chunk(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
        "usage and a wrong text": chunk({"content": 1}, usage={"prompt_tokens": 1, "completion_tokens": 2}),
        "tier": chunk(service_tier="flex"),
        "citations": chunk(citations=["https://example.com"]),
        "error": chunk(error={"message": "no"}),
        "unknown fields": chunk({"content": "b"}, obfuscation="x", provider="p"),
    }
)


@pytest.mark.parametrize("name", CHUNKS)
def test_the_short_way_reads_the_same(name: str) -> None:
    """After any chunk, the completion or its fault is the same with and without the short way."""
    ends = []
    for completion in (Completion(), WholeReader()):
        try:
            for each in (chunk({"role": "assistant", "content": ""}), CHUNKS[name], chunk({"content": "c"})):
                completion.add(each, ())
            ends.append(str(asdict(completion)))
        except ServiceFault as fault:
            ends.append(str((type(fault), fault, fault.error_type, fault.usage, fault.run_ended)))
    assert ends[0] == ends[1]


def test_chunks_of_text_take_the_short_way() -> None:
    """A chunk of text, as services send it, is added without the whole reader."""
    completion = Completion()
    completion.add(chunk({"role": "assistant", "content": "a"}), ())
    assert completion._adds_text_only(chunk(object="chat.completion.chunk", system_fingerprint=None, usage=None))
    assert completion.texts == ["a", "b"]
