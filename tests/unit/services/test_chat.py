"""The Chat Completions service over a real socket, against a server that sends the bytes of each test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from batchrun.engine.limits import Limits
from batchrun.engine.service import Reply
from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    PermanentFault,
    RateLimited,
    Refused,
    RunLost,
    ServerFault,
    ServiceFault,
    Silence,
    Unavailable,
)
from batchrun.records import Exchange, ToolCall, ToolOutput
from batchrun.services.chat import ChatService, ChatSettings
from batchrun.services.client import Endpoint
from batchrun.services.wire import Wire
from batchrun.token_usage import Usage
from tests.support import scripted_http
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import Answer, ScriptedHttp, event, json_answer, stream
from tests.support.seen import Seen

pytestmark = pytest.mark.anyio

KEY = "sk-secret-0123456789"
ROUTE = "POST /chat/completions"
USAGE = {
    "prompt_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens": 4,
    "completion_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 13,
}
Served: TypeAlias = Callable[..., ScriptedHttp]
TOOL_CALLS = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]


def completion(content: Any = "It is 4.", finish_reason: str | None = "stop", **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": None, **fields.pop("message", {})}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    return {"id": "chatcmpl-1", "model": "m-1", "choices": choices, "usage": USAGE, **fields}


def chunk(finish_reason: str | None = None, index: int = 0, **delta: Any) -> bytes:
    choices = [{"index": index, "delta": delta, "finish_reason": finish_reason}]
    return data({"id": "chatcmpl-1", "model": "m-1", "choices": choices, "usage": None})


def data(body: Any) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()


COUNTED = data({"id": "chatcmpl-1", "model": "m-1", "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"
PIECES = [
    chunk(
        tool_calls=[{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}]
    ),
    chunk(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]),
    chunk(tool_calls=[{"index": 0, "function": {"arguments": "}"}}]),
]
BEGUN = [chunk(role="assistant", content=""), chunk(content="It is "), chunk(content="4.")]
WHOLE = [*BEGUN, chunk("stop"), COUNTED, DONE]


@pytest.fixture
def serve(serve: scripted_http.Served) -> Served:
    """Start servers that answer completions with the given answers."""
    return lambda *answers: serve({ROUTE: answers})


async def ask(
    server: ScriptedHttp,
    *,
    asked: Exchange | None = None,
    silence_timeout_s: float = 5.0,
    on_unknown_end: Callable[[str], None] | None = None,
    **options: Any,
) -> tuple[Reply, list[tuple[str | None, str | None]]]:
    """Answer a row with these `ChatSettings`; return the reply and the reported ids."""
    settings = {"model": "m-1", "instructions": "Be brief.", **options}
    wire = Wire(
        Endpoint(server.url, KEY),
        Limits(),
        silence_timeout_s=silence_timeout_s,
        settings=settings.get("parameters", ()),
    )
    seen: list[tuple[str | None, str | None]] = []
    service = ChatService(wire, ChatSettings(**settings), on_unknown_end=on_unknown_end)
    try:
        await service.prepare()
        reply = await service.answer(
            asked or exchange(3), attempt(2, 1, "key-7"), lambda *ids, with_reply=False: seen.append(ids)
        )
        return reply, seen
    finally:
        await wire.aclose()


async def fault_of(server: ScriptedHttp, **options: Any) -> ServiceFault:
    with pytest.raises(ServiceFault) as caught:
        await ask(server, **options)
    return caught.value


# -- whole replies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finish_reason", "named"), [("stop", []), ("EOS", []), (None, []), ("length", []), ("weary", ["'weary'"])]
)
async def test_an_unknown_finish_reason_is_named(serve: Served, finish_reason: str | None, named: list[str]) -> None:
    """The answer counts as whole, and somebody hears of it: it may be cut off in a way that nobody knows."""
    reply = completion()
    reply["choices"][0]["finish_reason"] = finish_reason
    lines: list[str] = []
    found, _ = await ask(serve(json_answer(reply)), on_unknown_end=lines.append)
    assert found.status == ("incomplete" if finish_reason == "length" else "completed")
    assert [line.split("finish reason ")[1].partition(",")[0] for line in lines] == named


async def test_one_request_a_row(serve: Served) -> None:
    """A row takes one POST request under its key."""
    server = serve(json_answer(completion()))
    reply, seen = await ask(server, parameters={"temperature": 0.5})
    assert server.paths() == [ROUTE]
    assert server.requests[0].headers["idempotency-key"] == "key-7"
    assert server.requests[0].body == {
        "model": "m-1",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}],
        "temperature": 0.5,
    }
    assert replace(reply, history=()) == Reply("completed", "It is 4.", Usage(9, 4, 13, 2, 1, USAGE), "m-1")
    assert [message["role"] for message in reply.history] == ["system", "user", "assistant"]
    assert seen == [(None, "chatcmpl-1")]


async def test_no_instructions_no_system_message(serve: Served) -> None:
    """Without instructions, the user's message is the only message."""
    server = serve(json_answer(completion()))
    await ask(server, instructions=None)
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.mark.parametrize(
    ("body", "status", "text", "reason"),
    [
        (completion("It", "length"), "incomplete", "It", "max_completion_tokens"),
        (completion("", "content_filter"), "incomplete", "", "content_filter"),
        (completion("It", "model_length"), "incomplete", "It", "max_completion_tokens"),
        (completion("It", "MAX_TOKENS"), "incomplete", "It", "max_completion_tokens"),
        (completion("It", "SAFETY"), "incomplete", "It", "content_filter"),
        (completion("It", "content_filter: RECITATION"), "incomplete", "It", "content_filter"),
        (completion("It", "sensitive"), "incomplete", "It", "content_filter"),
        (completion(None, message={"refusal": "I can't."}), "incomplete", "I can't.", "refusal"),
        (completion(None), "incomplete", "", "empty_answer"),
        (completion(" \n\u00a0\u200b"), "incomplete", " \n\u00a0\u200b", "empty_answer"),
        (completion("\u00ad\u200f"), "incomplete", "\u00ad\u200f", "empty_answer"),
        (completion("\u2800 \u3164\ufe0f"), "incomplete", "\u2800 \u3164\ufe0f", "empty_answer"),
        (completion("\x1b\x07"), "incomplete", "\x1b\x07", "empty_answer"),
        (completion("<think>Hm.\n</think>\n"), "incomplete", "", "empty_answer"),
        (completion("<think>Hm."), "incomplete", "", "empty_answer"),
        (completion("<think>Hm.</think>4"), "completed", "4", None),
        (completion("👍🏽"), "completed", "👍🏽", None),
        (completion(None, message={"reasoning_content": "Hm."}), "incomplete", "", "empty_answer"),
        (completion(None, "length"), "incomplete", "", "max_completion_tokens"),
        (completion(None, message={"images": [{"image_url": {"url": "data:"}}]}), "completed", "", None),
        (completion(finish_reason=None), "completed", "It is 4.", None),
        (completion(finish_reason="eos"), "completed", "It is 4.", None),
        (
            completion([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "4"}, {"type": "text"}]),
            "completed",
            "4",
            None,
        ),
        (completion([None, {"type": "text", "text": "4"}, None]), "completed", "4", None),
        (completion([None]), "incomplete", "", "empty_answer"),
        (completion(error=None), "completed", "It is 4.", None),
    ],
)
async def test_ends(serve: Served, body: dict[str, Any], status: str, text: str, reason: str | None) -> None:
    """Each end keeps its text and its reason, and a refusal is distinguished from an answer."""
    reply, _ = await ask(serve(json_answer(body)))
    assert (reply.status, reply.response, reply.reason) == (status, text, reason)
    assert reply.usage.total_tokens == 13


@pytest.mark.parametrize("streamed", [False, True])
async def test_missing_usage_stays_missing(serve: Served, streamed: bool) -> None:
    """If the server reports no usage, every count is None, never 0."""
    answer = stream(*BEGUN, chunk("stop"), DONE) if streamed else json_answer(completion(usage=None))
    reply, _ = await ask(serve(answer), stream=streamed)
    assert (reply.response, reply.usage) == ("It is 4.", Usage())


@pytest.mark.parametrize(
    "answer",
    [
        json_answer(completion(None, "tool_calls", message={"tool_calls": TOOL_CALLS})),
        stream(chunk(role="assistant"), *PIECES, chunk("tool_calls"), COUNTED, DONE),
    ],
)
async def test_calls_of_functions(serve: Served, answer: Answer) -> None:
    """The called functions are reported with the usage and the message that must precede the outputs."""
    reply, _ = await ask(serve(answer), stream=answer.data.find(b"event-stream") >= 0)
    assert (reply.status, reply.waiting, reply.usage.total_tokens) == ("requires_action", False, 13)
    assert reply.calls == (ToolCall("call_1", "weather", "{}"),)
    assert reply.history[-1]["tool_calls"] == [
        {name: value for name, value in TOOL_CALLS[0].items() if name != "index"}
    ]


@pytest.mark.parametrize("instructions", ["Be brief.", None])
async def test_a_later_turn(serve: Served, instructions: str | None) -> None:
    """A later turn sends all earlier messages, with the instructions once, and reports the messages that it added."""
    answers = [json_answer(completion()), json_answer(completion("Since it is."))]
    server = serve(*answers)
    first, _ = await ask(server, instructions=instructions)
    second, _ = await ask(server, asked=exchange(3, "Why?", history=first.history), instructions=instructions)
    system = [{"role": "system", "content": instructions}] if instructions is not None else []
    question, answer = {"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4."}
    assert first.history == (*system, question, answer)
    assert server.requests[1].body["messages"] == [*first.history, {"role": "user", "content": "Why?"}]
    assert second.history == ({"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Since it is."})


@pytest.mark.parametrize("structured", [False, True])
async def test_only_the_last_turn_has_a_form(serve: Served, structured: bool) -> None:
    """The structure is requested only for exchanges that are structured."""
    server = serve(json_answer(completion()))
    await ask(server, asked=exchange(3, structured=structured), structure={"type": "json_schema"})
    assert ("response_format" in server.requests[0].body) == structured


async def test_outputs_follow_the_conversation(serve: Served) -> None:
    """The outputs of functions follow all earlier messages, under a key of their round."""
    server = serve(json_answer(completion()))
    said = ({"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": TOOL_CALLS})
    wire = Wire(Endpoint(server.url, KEY), Limits(), silence_timeout_s=5.0)
    try:
        asked = exchange(3, history=said, outputs=(ToolOutput("call_1", "sun"),), round=1)
        service = ChatService(wire, ChatSettings(model="m-1", instructions="Be brief."))
        reply = await service.answer(asked, attempt(2, 1, "key-7"), lambda *ids, with_reply=False: None)
    finally:
        await wire.aclose()
    output = {"role": "tool", "tool_call_id": "call_1", "content": "sun"}
    assert server.requests[0].body["messages"] == [*said, output]
    assert server.requests[0].headers["idempotency-key"] == "key-7-1"
    assert reply.history == (output, {"role": "assistant", "content": "It is 4."})


async def test_a_call_that_cannot_be_answered(serve: Served) -> None:
    """A call in the form of before 2023 has no id: it fails the row, with its usage, and leaves nothing to cancel."""
    answer = json_answer(completion(None, "function_call", message={"function_call": {"name": "weather"}}))
    fault = await fault_of(serve(answer))
    assert isinstance(fault, PermanentFault)
    assert (fault.error_type, fault.run_ended) == ("requires_action", True)
    assert fault.usage is not None
    assert fault.usage.total_tokens == 13


@pytest.mark.parametrize(
    ("body", "kind", "error_type"),
    [
        ({"error": {"message": "slow down", "code": 429}}, RateLimited, "rate_limit_exceeded"),
        ({"error": {"message": "over", "type": "throttling_error", "code": "429"}}, RateLimited, "rate_limit_exceeded"),
        ({"error": {"message": "it broke", "code": 502}, "choices": []}, Unavailable, "http_502"),
        ({"error": "it broke"}, ServerFault, "server_error"),
        ({"error": {"message": "no funds", "code": "insufficient_quota"}}, BatchRefused, "insufficient_quota"),
        ({"error": {"message": "no key", "code": 401}}, BatchRefused, "authentication_error"),
        ({"choices": []}, ServerFault, "no_choices"),
        (
            {"id": "x", "choices": None, "usage": {"prompt_tokens": 3, "completion_tokens": 0}},
            ServerFault,
            "no_choices",
        ),
        ({"choices": ["words"]}, PermanentFault, "bad_reply"),
        ({"choices": [{"message": None}]}, PermanentFault, "bad_reply"),
        ({"id": "resp_1", "output": []}, PermanentFault, "bad_reply"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_errors_with_http_200(
    serve: Served, body: Any, kind: type[ServiceFault], error_type: str, streamed: bool
) -> None:
    """An error or another object in place of the expected one is a fault, not a crash."""
    fault = await fault_of(serve(json_answer(body)), stream=streamed)
    assert type(fault) is kind
    assert fault.error_type == error_type
    assert fault.run_ended == (error_type == "no_choices")


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Unsupported value: 'temperature' does not support 0.5.", "param": "temperature"},
        {"message": "Unrecognized request argument supplied: logitbias", "param": None, "code": None},
        {"message": "/chat/completions: Invalid model name passed in model=m-1. Call `/v1/models`", "code": "400"},
    ],
)
async def test_a_refused_setting_stops_the_batch(serve: Served, error: dict[str, Any]) -> None:
    """The first refusal of the model, or of a parameter that the user set, stops the batch with its message."""
    server = serve(json_answer({"error": error}, 400))
    fault = await fault_of(server, parameters={"temperature": 0.5, "logitbias": {}})
    assert isinstance(fault, BatchRefused)
    assert error["message"] in str(fault)


@pytest.mark.parametrize(
    "words", ["The user asked for something unsafe.", "Please stop.", "Your text holds no question."]
)
async def test_a_word_is_not_a_setting(serve: Served, words: str) -> None:
    """A refusal whose text uses a parameter's name as a word fails its row, and the batch continues."""
    fault = await fault_of(
        serve(json_answer({"error": {"message": words}}, 400)), parameters={"user": "u", "stop": "x", "text": {}}
    )
    assert type(fault) is PermanentFault


async def test_a_refused_parameter_of_fastapi(serve: Served) -> None:
    """A refusal in FastAPI's form, as self-hosted servers send it, is understood too."""
    body = {"detail": [{"loc": ["body", "temperature"], "msg": "must be a number"}]}
    fault = await fault_of(serve(json_answer(body, 422)), parameters={"temperature": "hot"})
    assert isinstance(fault, BatchRefused)


@pytest.mark.parametrize("method", ["follow"])
async def test_nothing_can_be_followed(serve: Served, method: str) -> None:
    """A completion cannot be looked up: it is requested again under the same key, without another request."""
    server = serve(json_answer(completion()))
    wire = Wire(Endpoint(server.url, KEY), Limits(), silence_timeout_s=5)
    service = ChatService(wire, ChatSettings("m-1", None))
    try:
        with pytest.raises(RunLost) as caught:
            await service.follow(exchange(), attempt(1, 1, "key-7", run_id="chatcmpl-1"), Seen(server))
        await service.cancel(exchange(), attempt(1, 1, "key-7", run_id="chatcmpl-1"))
    finally:
        await wire.aclose()
    assert not caught.value.run_ended
    assert server.requests == []


# -- streams ----------------------------------------------------------------------------------------------------


async def test_stream(serve: Served) -> None:
    """A streamed row is one request, and gives the same reply as a row without streaming."""
    server = serve(stream(*WHOLE))
    reply, seen = await ask(server, stream=True)
    body = server.requests[0].body
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert replace(reply, history=()) == Reply("completed", "It is 4.", Usage(9, 4, 13, 2, 1, USAGE), "m-1")
    assert [message["role"] for message in reply.history] == ["system", "user", "assistant"]
    assert seen == [(None, "chatcmpl-1")]


async def test_stream_options_can_be_dropped(serve: Served) -> None:
    """A parameter of the user overrides the stream options, for servers that do not support them."""
    server = serve(stream(*WHOLE))
    await ask(server, stream=True, parameters={"stream_options": None})
    assert server.requests[0].body["stream_options"] is None


async def test_a_server_that_does_not_stream(serve: Served) -> None:
    """A JSON reply in place of a stream is read as the whole reply."""
    reply, seen = await ask(serve(json_answer(completion())), stream=True)
    assert (reply.response, seen) == ("It is 4.", [(None, "chatcmpl-1")])


@pytest.mark.parametrize(
    ("frames", "status", "text", "reason"),
    [
        ([chunk(content="It"), chunk("length")], "incomplete", "It", "max_completion_tokens"),
        ([chunk(refusal="I can"), chunk(refusal="'t."), chunk("stop")], "incomplete", "I can't.", "refusal"),
        ([chunk(content="4"), chunk(index=1, content="five"), chunk("stop")], "completed", "4", None),
        ([chunk(content=[{"type": "text", "text": "4"}]), chunk("stop")], "completed", "4", None),
        ([data({"error": None, "choices": []}), chunk("stop", content="4")], "completed", "4", None),
        ([b": ping\n\n", chunk("stop", content="4")], "completed", "4", None),
        ([b"data:\n\n", b"event: ping\ndata: ping\n\n", chunk("stop", content="4")], "completed", "4", None),
    ],
)
async def test_ends_of_streams(serve: Served, frames: list[bytes], status: str, text: str, reason: str | None) -> None:
    """A streamed answer ends like any other; only the first of several choices counts."""
    reply, _ = await ask(serve(stream(*frames, COUNTED, DONE)), stream=True)
    assert (reply.status, reply.response, reply.reason) == (status, text, reason)


@pytest.mark.parametrize(
    ("pieces", "text"), [(["\ud83d", "\ude00!"], "\U0001f600!"), (["4\ud83d"], "4\ufffd"), (["naïve ✓"], "naïve ✓")]
)
async def test_halves_of_a_character(serve: Served, pieces: list[str], text: str) -> None:
    """A character that two chunks share is joined, and half a character never gets into the journal."""
    reply, _ = await ask(serve(stream(*[chunk(content=piece) for piece in pieces], chunk("stop"), DONE)), stream=True)
    assert reply.response == text


@pytest.mark.parametrize("end", ["whole", "cut", "silence"])
@pytest.mark.parametrize("frames", range(len(BEGUN) + 1))
async def test_a_stream_that_breaks_before_the_end(serve: Served, frames: int, end: Any) -> None:
    """Without a finish reason the answer may be incomplete: the fault leaves the key for another attempt."""
    server = serve(stream(*WHOLE[:frames], end=end))
    fault = await fault_of(server, stream=True, silence_timeout_s=0.2)
    assert isinstance(fault, Silence if end == "silence" else ConnectionLost)
    assert not fault.run_ended
    assert server.paths() == [ROUTE]


@pytest.mark.parametrize("end", ["whole", "cut", "silence"])
@pytest.mark.parametrize("frames", range(len(BEGUN) + 1, len(WHOLE)))
async def test_a_stream_that_breaks_behind_the_end(serve: Served, frames: int, end: Any) -> None:
    """A complete answer is kept if only its usage is lost: it would have to be paid for again."""
    reply, seen = await ask(serve(stream(*WHOLE[:frames], end=end)), stream=True, silence_timeout_s=0.2)
    assert (reply.status, reply.response) == ("completed", "It is 4.")
    assert reply.usage.total_tokens == (13 if COUNTED in WHOLE[:frames] else None)
    assert seen == [(None, "chatcmpl-1")]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource", "MALFORMED_FUNCTION_CALL", "TIMEOUT"])
async def test_answers_that_were_broken_off(serve: Served, reason: str, streamed: bool) -> None:
    """An answer that its service broke off is no answer: another run is requested, and its usage is counted."""
    answer = stream(*BEGUN, chunk(reason), COUNTED, DONE) if streamed else json_answer(completion("It", reason))
    fault = await fault_of(serve(answer), stream=streamed)
    assert (type(fault), fault.error_type, fault.run_ended) == (ServerFault, "server_error", True)
    assert fault.usage is not None
    assert fault.usage.total_tokens == 13


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}}, RateLimited),
        ({"error": {"message": "it broke", "type": "None", "code": "500"}}, ServerFault),
        (
            {"error": {"message": "it broke", "code": 502}, "choices": [{"delta": {}, "finish_reason": "error"}]},
            Unavailable,
        ),
        ({"error": {"message": "no", "type": "invalid_request_error", "code": None}}, PermanentFault),
        ({"object": "error", "message": "out of memory", "code": 500}, ServerFault),
        ([1], ConnectionLost),
    ],
)
async def test_errors_inside_a_stream(serve: Served, body: Any, kind: type[ServiceFault]) -> None:
    """An error between the events of a stream is that error, and the text before it is not an answer."""
    fault = await fault_of(serve(stream(*BEGUN, data(body), DONE)), stream=True)
    assert type(fault) is kind
    assert not fault.run_ended


@pytest.mark.parametrize("behind_the_end", [False, True])
async def test_an_event_that_is_named_an_error(serve: Served, behind_the_end: bool) -> None:
    """An event with the name `error` is an error, whatever its fields are called; the answer before it is withdrawn."""
    frames = [*BEGUN, chunk("stop")] if behind_the_end else BEGUN
    withdrawn = event("error", {"message": "moderated", "code": "403"})
    fault = await fault_of(serve(stream(*frames, withdrawn, chunk("stop"), DONE)), stream=True)
    assert (type(fault), str(fault)) == (Refused, "moderated")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("reason", [None, "stop"])
async def test_an_error_of_the_choice(serve: Served, reason: str | None, streamed: bool) -> None:
    """An error inside the choice, as OpenRouter sends it, is that error: the text next to it is not an answer."""
    error = {"code": 502, "message": "the provider broke off"}
    whole = completion("It is", reason)
    whole["choices"][0]["error"] = error
    last = {"index": 0, "delta": {"content": ""}, "finish_reason": reason, "error": error}
    frames = [*BEGUN, data({"id": "chatcmpl-1", "model": "m-1", "choices": [last]}), chunk("stop"), DONE]
    fault = await fault_of(serve(stream(*frames) if streamed else json_answer(whole)), stream=streamed)
    assert (type(fault), fault.error_type, str(fault)) == (Unavailable, "http_502", "the provider broke off")
    assert fault.run_ended
    assert streamed or fault.usage == Usage(9, 4, 13, 2, 1, USAGE)
