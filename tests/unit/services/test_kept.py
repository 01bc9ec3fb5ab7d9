"""What replies carry besides their text, in each protocol, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.engine.limits import Limits
from batchrun.engine.service import Reply
from batchrun.errors import InputError
from batchrun.job.options import Api, Job
from batchrun.job.validation import make_job
from batchrun.records import JsonObject
from batchrun.services.chat import ChatService, ChatSettings
from batchrun.services.client import Endpoint
from batchrun.services.parameters import check_parameters, model_parameters
from batchrun.services.wire import Wire
from tests.support import assistants_service
from tests.support.chat import chat_reply
from tests.support.responses_service import call_service, message, response, stream_event, text
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import Answer, Served, event, json_answer, stream
from tests.support.seen import Seen

pytestmark = pytest.mark.anyio

URL = "https://example.org"
TOKENS = [{"token": "4", "logprob": -0.1, "bytes": [52], "top_logprobs": []}]
EVERYTHING = frozenset({"raw", "logprobs", "service_tier"})


async def chat(serve: Served, answer: Answer, **options: Any) -> tuple[Reply, list[Any]]:
    """Return the reply to a row, and the bodies of the requests."""
    server = serve({"POST /chat/completions": answer})
    wire = Wire(Endpoint(server.url, "sk-x"), Limits(), silence_timeout_s=5.0)
    try:
        service = ChatService(wire, ChatSettings("m", None, **options))
        reply = await service.answer(exchange(3), attempt(1, 1, "key"), Seen(server))
    finally:
        await wire.aclose()
    return reply, [request.body for request in server.requests]


def chunks(*deltas: JsonObject, **last: Any) -> Answer:
    """Return a stream of these deltas; `last` are fields of the last chunk."""
    bodies = [{"id": "c", "model": "m", "choices": [{"index": 0, **delta}]} for delta in deltas]
    bodies.append({"id": "c", "choices": [], **last})
    return stream(*(f"data: {json.dumps(body)}\n\n".encode() for body in bodies), b"data: [DONE]\n\n")


STOP = {"delta": {}, "finish_reason": "stop"}


# -- chat -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({"reasoning_content": "Hm."}, "Hm."),
        ({"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}, "Hm."),
        ({"reasoning": "Hm.", "reasoning_content": "Hm."}, "Hm."),
        ({"reasoning": None, "reasoning_content": ""}, None),
        ({"reasoning": {"effort": "low"}}, None),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "yes"}]}, "Hm."),
        ({"content": "<think>\nSo.\n</think>\n\nyes", "reasoning_content": " Hm. "}, "Hm.\n\nSo."),
    ],
)  # fmt: skip
async def test_reasoning_of_a_completion(serve: Served, fields: dict[str, Any], reasoning: str | None) -> None:
    """Reasoning is kept once, whatever field or part it comes in, and the answer does not have it."""
    reply, _ = await chat(serve, json_answer(chat_reply(message=fields)))
    assert (reply.status, reply.response) == ("completed", "yes")
    assert reply.extras == (None if reasoning is None else {"reasoning": reasoning})
    assert reply.history[-1] == {"role": "assistant", "content": "yes"}, "the next turn does not see it"


async def test_a_streamed_completion(serve: Served) -> None:
    """Pieces of reasoning, sources, log probabilities and the tier are put together, and raw is the list of chunks."""
    answer = chunks(
        {"delta": {"role": "assistant", "content": "", "reasoning": "H"}},
        {"delta": {"reasoning": "m."}},
        {"delta": {"content": "4"}, "logprobs": {"content": TOKENS}},
        {"delta": {"annotations": [{"type": "url_citation", "url_citation": {"url": URL, "title": "Stars"}}]}},
        STOP,
        citations=[URL], service_tier="flex", usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    )  # fmt: skip
    reply, _ = await chat(serve, answer, stream=True, keep=EVERYTHING)
    assert reply.response == "4"
    assert reply.extras is not None
    assert len(reply.extras["raw"]) == 6
    assert {name: value for name, value in reply.extras.items() if name != "raw"} == {
        "citations": [{"url": URL, "title": "Stars"}],
        "reasoning": "Hm.",
        "service_tier": "flex",
        "logprobs": TOKENS,
    }
    assert reply.usage.raw is not None
    assert reply.usage.raw["service_tier"] == "flex"


@pytest.mark.parametrize("delta", ["<think>Let me", "<think>Let me</th"])
async def test_a_stream_that_was_cut_inside_its_thought(serve: Served, delta: str) -> None:
    """A thought that was cut off at the token limit is not passed for the answer."""
    answer = chunks({"delta": {"content": delta[:9]}}, {"delta": {"content": delta[9:]}, "finish_reason": "length"})
    reply, _ = await chat(serve, answer, stream=True)
    assert (reply.status, reply.reason, reply.response) == ("incomplete", "max_completion_tokens", "")
    assert reply.extras == {"reasoning": delta.removeprefix("<think>")}


async def test_reasoning_goes_back_with_calls(serve: Served) -> None:
    """The message with calls goes back with its `reasoning_content`, even an empty one: DeepSeek requires it."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for found in ("Hm.", ""):
        body = chat_reply(None, "tool_calls", message={"tool_calls": [call], "reasoning_content": found})
        reply, _ = await chat(serve, json_answer(body))
        assert reply.history[-1]["reasoning_content"] == found
    reply, _ = await chat(
        serve, json_answer(chat_reply(None, "tool_calls", message={"tool_calls": [call], "reasoning": "Hm."}))
    )
    assert "reasoning_content" not in reply.history[-1]


@pytest.mark.parametrize(
    ("asked", "reported", "keep", "kept"),
    [
        (None, "default", False, None),
        (None, "on_demand", False, None),
        (None, None, True, None),
        (None, "default", True, "default"),
        (None, "priority", False, "priority"),
        ("flex", "default", False, "default"),
        ("flex", None, False, None),
        (None, {"odd": 1}, True, None),
    ],
)
async def test_service_tier(serve: Served, asked: str | None, reported: Any, keep: bool, kept: str | None) -> None:
    """The tier as served is kept if it is not the standard one, if a tier was asked for, or on request."""
    parameters = {} if asked is None else {"service_tier": asked}
    options = {"parameters": parameters, "keep": frozenset({"service_tier"} if keep else ())}
    reply, _ = await chat(serve, json_answer(chat_reply(service_tier=reported)), **options)
    assert reply.extras == (None if kept is None else {"service_tier": kept})


async def test_an_ordinary_completion_carries_nothing(serve: Served) -> None:
    """An answer without any of this has no extras, and the whole reply is kept only on request."""
    body = chat_reply(message={"annotations": [], "refusal": None}, service_tier="default", citations=None)
    reply, _ = await chat(serve, json_answer(body))
    assert reply.extras is None
    reply, _ = await chat(serve, json_answer(body), keep=frozenset({"raw"}))
    assert reply.extras == {"raw": body}


# -- responses --------------------------------------------------------------------------------------------------

OUTPUT = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "First"}, {"type": "summary_text", "text": "then"}]},
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Open."}]},
    message({**text("4"), "annotations": [{"type": "url_citation", "url": URL, "title": "Stars"}], "logprobs": TOKENS}),
]  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_response(serve: Served, streamed: bool) -> None:
    """Summaries, reasoning, sources, log probabilities, the tier and the whole response are kept."""
    body = response(output=OUTPUT, service_tier="priority")
    frames = [stream_event("created", 0, response=response("in_progress")), stream_event("completed", 1, response=body)]
    answer = stream(*frames) if streamed else json_answer(body)
    reply, _ = await call_service(serve({"POST /responses": answer}), stream=streamed, keep=EVERYTHING)
    assert reply.extras == {
        "citations": [{"url": URL, "title": "Stars"}],
        "reasoning": "First\n\nthen\n\nOpen.",
        "service_tier": "priority",
        "logprobs": TOKENS,
        "raw": json.loads(json.dumps(body)),
    }
    assert reply.usage.raw is not None
    assert reply.usage.raw["service_tier"] == "priority"


async def test_a_failed_response_is_kept_whole(serve: Served) -> None:
    """With raw, the reply of a run that failed is kept, too."""
    body = response("failed", error={"code": "invalid_prompt", "message": "No."})
    reply, _ = await call_service(serve({"POST /responses": json_answer(body)}), keep=frozenset({"raw"}))
    assert reply.status == "failed"
    assert reply.extras == {"raw": body}


# -- assistants -------------------------------------------------------------------------------------------------


async def test_a_run(serve: Served) -> None:
    """Without files of its own, a run keeps its citations and thoughts; raw has the run and its messages."""
    said = assistants_service.message("<think>Hm.</think>See【1】")
    cited = {
        "type": "file_citation",
        "text": "【1】",
        "start_index": 21,
        "end_index": 24,
        "file_citation": {"file_id": "f"},
    }
    said["content"][0]["text"]["annotations"] = [cited]
    frames = [
        event("thread.run.created", assistants_service.run("queued")),
        event("thread.message.completed", said),
        event("thread.run.completed", assistants_service.run()),
    ]
    server = serve({"POST /threads/runs": stream(*frames)})
    reply, _ = await assistants_service.answer(server, keep=frozenset({"raw"}))
    assert reply.response == "See【1】"
    assert reply.extras == {
        "citations": [{"file_id": "f", "text": "【1】", "start": 3, "end": 6}],
        "reasoning": "Hm.",
        "raw": {"run": assistants_service.run(), "messages": [said]},
    }


# -- the option -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "param", "expected"),
    [
        ("chat", {}, {"logprobs": True}),
        ("chat", {"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ("responses", {}, {"include": ["message.output_text.logprobs"]}),
        ("responses", {"include": ["x"]}, {"include": ["x", "message.output_text.logprobs"]}),
    ],
)
def test_log_probabilities_are_requested(api: Api, param: dict[str, Any], expected: dict[str, Any]) -> None:
    """--keep logprobs asks the service for them, next to what the user asks for."""
    assert model_parameters(Job(keep=["logprobs"], param=param), api) == expected
    assert "logprobs" not in str(model_parameters(Job(keep=["raw"]), api))


def test_unusable_names() -> None:
    """A name that nothing has is refused, and log probabilities where the API has none; one name may be a text."""
    assert make_job({"keep": "raw"}).keep == ["raw"]
    with pytest.raises(InputError, match=r"keep.*'citations'.*'raw'.*got 'usage'"):
        make_job({"keep": ["usage"]})
    with pytest.raises(InputError, match="--keep logprobs: the Assistants API has no log probabilities"):
        check_parameters(Job(keep=["logprobs"]), "assistants")
