"""The Responses service over a real socket, against a server that sends the bytes of each test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from batchrun.engine.limits import Limits
from batchrun.engine.service import Reply
from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    PermanentFault,
    RateLimited,
    RunLost,
    ServerFault,
    ServiceFault,
    Unavailable,
)
from batchrun.records import Attempt, Exchange, ToolCall, ToolOutput, Usage
from batchrun.services.client import Endpoint
from batchrun.services.responses import ResponseSettings, ResponsesService
from batchrun.services.wire import Wire
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import Answer, ScriptedHttp, Served, event, html, json_answer, stream
from tests.support.seen import Seen

pytestmark = pytest.mark.anyio

KEY = "sk-secret-0123456789"
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 13,
}
ITEMS = "GET /conversations/conv_1/items"


def message(*parts: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts, **fields}


def text(words: str = "It is 4.") -> dict[str, Any]:
    return {"type": "output_text", "text": words, "annotations": []}


def response(status: str = "completed", **fields: Any) -> dict[str, Any]:
    ended = status in ("completed", "incomplete", "failed")
    output = [message(text())] if status == "completed" else []
    usage = USAGE if ended else None
    return {"id": "resp_1", "status": status, "error": None, "model": "m-1", "output": output, "usage": usage, **fields}


CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
ITEM_OF_QUESTION = {"type": "message", "role": "user", "status": "completed", "content": []}


def told(name: str, number: int, **fields: Any) -> bytes:
    """An event of a stream, named twice as the protocol has it."""
    return event(f"response.{name}", {"type": f"response.{name}", "sequence_number": number, **fields})


BEGUN = [
    told("created", 0, response=response("in_progress")),
    told("in_progress", 1, response=response("in_progress")),
    told("output_text.delta", 2, delta="It is"),
]
ENDED = told("completed", 3, response=response())
WHOLE = [*BEGUN, ENDED]


async def ask(
    server: ScriptedHttp,
    tried: Attempt | None = None,
    *,
    asked: Exchange | None = None,
    method: str = "answer",
    silence_timeout_s: float = 5.0,
    **options: Any,
) -> tuple[Reply, Seen]:
    """One call of the service, with `ResponseSettings` as keywords."""
    settings = {"model": "m-1", "instructions": "Be brief.", "metadata": {"batch": "b"}, **options}
    wire = Wire(
        Endpoint(server.url, KEY),
        Limits(),
        silence_timeout_s=silence_timeout_s,
        settings=settings.get("parameters", ()),
    )
    seen = Seen(server)
    service = ResponsesService(wire, ResponseSettings(**settings))
    try:
        await service.prepare()
        call = service.answer if method == "answer" else service.follow
        return await call(asked or exchange(3), tried or attempt(2, 1, "key-7"), seen), seen
    finally:
        await wire.aclose()


async def fault_of(server: ScriptedHttp, tried: Attempt | None = None, **options: Any) -> ServiceFault:
    with pytest.raises(ServiceFault) as caught:
        await ask(server, tried, **options)
    return caught.value


# -- one request ------------------------------------------------------------------------------------------------


async def test_one_request_a_row(serve: Served) -> None:
    """A plain row is one POST that stores the response, under the row's key, with its place in the metadata."""
    server = serve({"POST /responses": json_answer(response())})
    reply, seen = await ask(server, parameters={"temperature": 0.5, "reasoning": {"effort": "low"}})
    assert server.paths() == ["POST /responses"]
    assert server.requests[0].headers["idempotency-key"] == "key-7"
    assert server.requests[0].body == {
        "model": "m-1",
        "input": "What is 2 + 2?",
        "instructions": "Be brief.",
        "store": True,
        "metadata": {"batch": "b", "row": "3", "attempt": "1"},
        "temperature": 0.5,
        "reasoning": {"effort": "low"},
    }
    assert reply == Reply("completed", "It is 4.", Usage(9, 4, 13, 2, 1, USAGE), "m-1")
    assert seen.ids == [("resp_1", "resp_1")]


async def test_parameters_win(serve: Served) -> None:
    """A parameter of the user stands above what the service would send itself."""
    server = serve({"POST /responses": json_answer(response())})
    await ask(server, parameters={"store": False, "model": "m-2"})
    assert (server.requests[0].body["store"], server.requests[0].body["model"]) == (False, "m-2")


@pytest.mark.parametrize("usage", [None, {}])
async def test_no_usage_is_none(serve: Served, usage: object) -> None:
    """Where the server tells no usage every count is None, never 0."""
    server = serve({"POST /responses": json_answer(response(usage=usage))})
    reply, _ = await ask(server)
    assert reply.usage == Usage()


async def test_a_status_may_be_left_out(serve: Served) -> None:
    """A response without a status has ended, as the protocol lets servers leave it out."""
    body = {"id": "resp_1", "output": [message(text())], "model": "m-1"}
    reply, _ = await ask(serve({"POST /responses": json_answer(body)}))
    assert (reply.status, reply.response) == ("completed", "It is 4.")


async def test_messages_and_parts(serve: Served) -> None:
    """All messages count, apart by a blank line, their parts by a line; reasoning and unknown items do not."""
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        message(text("One."), text("Two.")),
        {"type": "web_search_call"},
        message(text("Three."), {"type": "output_audio"}),
    ]
    reply, _ = await ask(serve({"POST /responses": json_answer(response(output=output))}))
    assert reply.response == "One.\nTwo.\n\nThree."


# -- ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "words", "reason"),
    [
        (
            response(
                "incomplete",
                output=[message(text("It"), status="incomplete")],
                incomplete_details={"reason": "max_output_tokens"},
            ),
            "incomplete",
            "It",
            "max_completion_tokens",
        ),
        (response("incomplete", incomplete_details={"reason": "content_filter"}), "incomplete", "", "content_filter"),
        (response("incomplete", incomplete_details=None), "incomplete", "", "incomplete"),
        (
            response(output=[message({"type": "refusal", "refusal": "I can't."})]),
            "incomplete",
            "I can't.",
            "refusal",
        ),
        (response("cancelled", output=[message(text("It"))]), "cancelled", "It", "run_cancelled"),
        (
            response("failed", error={"code": "invalid_prompt", "message": "no such\nprompt"}),
            "failed",
            "",
            "invalid_prompt",
        ),
        (response("failed", error={"code": None, "message": None}), "failed", "", "run_failed"),
        (response("failed", error=None), "failed", "", "run_failed"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_ends(serve: Served, body: dict[str, Any], status: str, words: str, reason: str, streamed: bool) -> None:
    """Each end that another try would not change keeps its text, reason and usage, plain and streamed."""
    last = told(body["status"], 3, response=body)
    answer = stream(*BEGUN, last) if streamed else json_answer(body)
    reply, _ = await ask(serve({"POST /responses": answer}), stream=streamed)
    assert (reply.status, reply.response, reply.reason) == (status, words, reason)
    assert (reply.error is not None) == (status in ("failed", "cancelled"))
    assert "\n" not in (reply.error or "")
    assert reply.usage.total_tokens == (None if status == "cancelled" else 13)


@pytest.mark.parametrize(
    ("code", "words", "kind", "retry_after_s"),
    [
        ("rate_limit_exceeded", "Please try again in 2s.", RateLimited, 2.0),
        ("server_error", "it broke", ServerFault, None),
        ("insufficient_quota", "pay first", BatchRefused, None),
        ("billing_not_active", "pay first", BatchRefused, None),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_failures_with_http_200(
    serve: Served, code: str, words: str, kind: type[ServiceFault], retry_after_s: float | None, streamed: bool
) -> None:
    """A response that failed for a limit, the server or the quota is that fault, billed, and needs another key."""
    body = response("failed", error={"code": code, "message": words})
    answer = stream(*BEGUN, told("failed", 3, response=body)) if streamed else json_answer(body)
    fault = await fault_of(serve({"POST /responses": answer}), stream=streamed)
    assert type(fault) is kind
    assert words in str(fault)
    assert (fault.run_ended, fault.retry_after_s) == (True, retry_after_s)
    assert fault.usage is not None
    assert fault.usage.total_tokens == 13


@pytest.mark.parametrize("streamed", [False, True])
async def test_calls_of_functions(serve: Served, streamed: bool) -> None:
    """What the model asks for is told, with what it cost; nothing waits for the outputs."""
    body = response(output=[CALL])
    answer = stream(*BEGUN, told("completed", 3, response=body)) if streamed else json_answer(body)
    reply, _ = await ask(serve({"POST /responses": answer}), stream=streamed)
    assert (reply.status, reply.waiting, reply.usage.completion_tokens) == ("requires_action", False, 4)
    assert reply.calls == (ToolCall(CALL["call_id"], CALL["name"], CALL["arguments"]),)


@pytest.mark.parametrize(
    ("body", "kind", "error_type"),
    [
        ({"error": {"message": "slow down", "type": "too_many_requests"}}, RateLimited, "rate_limit_exceeded"),
        ({"error": {"message": "slow down", "code": 429}}, RateLimited, "rate_limit_exceeded"),
        ({"error": {"message": "it broke", "code": "502"}}, Unavailable, "http_502"),
        ({"error": {"message": "no", "type": "invalid_request_error"}}, PermanentFault, "invalid_request_error"),
        ({"error": "no words"}, ServerFault, "server_error"),
        ({"choices": []}, PermanentFault, "bad_reply"),
        ({"id": None}, PermanentFault, "bad_reply"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_errors_with_http_200(
    serve: Served, body: Any, kind: type[ServiceFault], error_type: str, streamed: bool
) -> None:
    """An error or another object in place of a response is one fault of the row, not a crash."""
    fault = await fault_of(serve({"POST /responses": json_answer(body)}), stream=streamed)
    assert type(fault) is kind
    assert fault.error_type == error_type
    assert not fault.run_ended


async def test_a_bad_reply_shows_no_key(serve: Served) -> None:
    """What is shown of a reply that is none does not hold the key."""
    fault = await fault_of(serve({"POST /responses": json_answer({"you": KEY})}))
    assert KEY not in str(fault)
    assert "***" in str(fault)


async def test_a_locked_conversation_may_come_free(serve: Served) -> None:
    """`conversation_locked` is tried again, although its status is 400 and its param is a setting."""
    locked = {"error": {"message": "Another process", "param": "conversation", "code": "conversation_locked"}}
    server = serve({"POST /conversations": json_answer({"id": "conv_1"}), "POST /responses": json_answer(locked, 400)})
    fault = await fault_of(server, conversation=True)
    assert isinstance(fault, ServerFault)
    assert (fault.error_type, fault.run_ended) == ("conversation_locked", False)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Unknown parameter: 'temprature'.", "param": "temprature", "code": "unknown_parameter"},
        {
            "message": "Unsupported parameter: 'temprature' is not supported with this model.",
            "param": None,
            "code": None,
        },
        {"message": "temprature: extra inputs are not permitted", "param": None, "code": 400},
        {"message": "The requested model 'm-1' does not exist.", "param": "model", "code": "model_not_found"},
        {"message": "Invalid model name passed in model=m-1.", "param": None, "code": "400"},
        {"message": "Background mode needs storage.", "param": "background", "code": None},
    ],
)
async def test_a_refused_setting_stops_the_batch(serve: Served, error: dict[str, Any]) -> None:
    """A refusal of the model, or of a parameter that the user set, concerns every row and carries its message."""
    server = serve({"POST /responses": json_answer({"error": error}, 400)})
    fault = await fault_of(server, parameters={"temprature": 1})
    assert isinstance(fault, BatchRefused)
    assert error["message"] in str(fault)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Your input exceeds the context window.", "param": "input", "code": "context_length_exceeded"},
        {"message": "'max_tokens' is too large: this model's maximum context length is 4096 tokens", "code": 400},
        {"message": "Invalid prompt: your prompt was flagged.", "param": None, "code": "invalid_prompt"},
    ],
)
async def test_a_refused_row_does_not(serve: Served, error: dict[str, Any]) -> None:
    """A refusal of one row's text fails that row alone, even where it names a parameter that bounds the answer."""
    server = serve({"POST /responses": json_answer({"error": error}, 400)})
    fault = await fault_of(server, parameters={"max_tokens": 100})
    assert type(fault) is PermanentFault


# -- background -------------------------------------------------------------------------------------------------


async def test_background_is_polled(serve: Served) -> None:
    """A background response is journalled before the first poll, and polled until it has ended."""
    server = serve(
        {
            "POST /responses": json_answer(response("queued")),
            "GET /responses/resp_1": [json_answer(response("in_progress")), json_answer(response())],
        }
    )
    reply, seen = await ask(server, background=True)
    assert server.requests[0].body["background"] is True
    assert server.paths() == ["POST /responses", "GET /responses/resp_1", "GET /responses/resp_1"]
    assert (seen.ids, seen.requests) == ([("resp_1", "resp_1")], [1])
    assert reply.response == "It is 4."


async def test_follow(serve: Served) -> None:
    """A run that the journal names is looked up by its id and never made again."""
    server = serve({"GET /responses/resp_1": json_answer(response())})
    reply, _ = await ask(server, attempt(3, 1, "key-7", thread_id="resp_1", run_id="resp_1"), method="follow")
    assert server.paths() == ["GET /responses/resp_1"]
    assert reply == Reply("completed", "It is 4.", Usage(9, 4, 13, 2, 1, USAGE), "m-1")


async def test_follow_what_is_gone(serve: Served) -> None:
    """A response that the service does not know is lost, and another key is needed to make it again."""
    gone = json_answer({"error": {"message": "Response with id 'resp_1' not found.", "code": None}}, 404)
    fault = await fault_of(
        serve({"GET /responses/resp_1": gone}),
        attempt(3, 1, "key-7", thread_id="resp_1", run_id="resp_1"),
        method="follow",
    )
    assert isinstance(fault, RunLost)
    assert fault.run_ended


BEGUN_BEHIND = json_answer(response("queued"))
UNKNOWN = {"error": {"message": "Response with id 'resp_1' not found.", "code": None}}


@pytest.mark.parametrize(
    "answer",
    [
        json_answer(UNKNOWN, 404),
        json_answer({"detail": "Not Found"}, 404),
        html("<title>404 Not Found</title>", 404),
        json_answer({"detail": "Method Not Allowed"}, 405),
        html("<title>405</title>", 405),
        json_answer({"error": {"message": "Not implemented", "type": "server_error"}}, 501),
    ],
)
async def test_a_service_that_cannot_look_responses_up(serve: Served, answer: Answer) -> None:
    """A response in the background that cannot be looked up from the start stops the batch, and says what to do."""
    server = serve({"POST /responses": BEGUN_BEHIND, "GET /responses/resp_1": answer})
    fault = await fault_of(server, background=True)
    assert isinstance(fault, BatchRefused)
    assert "without --background" in str(fault)
    assert fault.run_ended
    assert server.paths().count("POST /responses") == 1


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_another_fault_at_the_first_look(serve: Served, status: int) -> None:
    """What does not say that there is no such object or endpoint is taken for what it is."""
    refused = json_answer({"error": {"message": "no", "code": None}}, status)
    server = serve({"POST /responses": BEGUN_BEHIND, "GET /responses/resp_1": [refused, json_answer(response())]})
    if status == 500:
        reply, _ = await ask(server, background=True)
        assert reply.response == "It is 4."
    else:
        assert "--background" not in str(await fault_of(server, background=True))


async def test_a_response_that_is_known_a_moment_later(serve: Served) -> None:
    """A service that knows a new response only a moment later can look responses up."""
    looks = [json_answer(UNKNOWN, 404), json_answer(response("in_progress")), json_answer(response())]
    server = serve({"POST /responses": BEGUN_BEHIND, "GET /responses/resp_1": looks})
    reply, _ = await ask(server, background=True)
    assert reply.response == "It is 4."


async def test_a_response_that_is_gone_after_it_was_seen(serve: Served) -> None:
    """A response that was looked up and is gone later is lost: it is made again, and the batch goes on."""
    looks = [json_answer(response("in_progress")), json_answer(UNKNOWN, 404)]
    server = serve({"POST /responses": BEGUN_BEHIND, "GET /responses/resp_1": looks})
    fault = await fault_of(server, background=True)
    assert isinstance(fault, RunLost)
    assert server.paths().count("GET /responses/resp_1") == 2


async def test_cancelled_too_late(serve: Served) -> None:
    """A response that ended before it was cancelled is not taken for a cancelled one: its answer is paid for."""
    server = serve({"POST /responses/resp_1/cancel": json_answer(response("completed"))})
    wire = Wire(Endpoint(server.url, KEY), Limits(), silence_timeout_s=5)
    try:
        service = ResponsesService(wire, ResponseSettings(model="m-1", instructions=None, metadata={}))
        with pytest.raises(PermanentFault):
            await service.cancel(exchange(), attempt(1, 1, "key-7", thread_id="resp_1", run_id="resp_1"))
    finally:
        await wire.aclose()


async def test_cancel(serve: Served) -> None:
    """Cancelling a background response is one request to it."""
    server = serve({"POST /responses/resp_1/cancel": json_answer(response("cancelled"))})
    wire = Wire(Endpoint(server.url, KEY), Limits(), silence_timeout_s=5)
    try:
        service = ResponsesService(wire, ResponseSettings("m-1", None, {}, background=True))
        await service.cancel(exchange(), attempt(1, 1, "key-7", thread_id="resp_1", run_id="resp_1"))
    finally:
        await wire.aclose()
    assert server.paths() == ["POST /responses/resp_1/cancel"]


# -- streams ----------------------------------------------------------------------------------------------------


async def test_stream(serve: Served) -> None:
    """A streamed row is one request, and its id is seen before the rest of the stream."""
    server = serve({"POST /responses": stream(*WHOLE)})
    reply, seen = await ask(server, stream=True)
    assert server.paths() == ["POST /responses"]
    assert server.requests[0].body["stream"] is True
    assert reply == Reply("completed", "It is 4.", Usage(9, 4, 13, 2, 1, USAGE), "m-1")
    assert seen.ids == [("resp_1", "resp_1")]


async def test_a_stream_without_event_lines(serve: Served) -> None:
    """Events that carry their name only in `type`, as LiteLLM sends them, are read alike."""
    bare = [frame.partition(b"\n")[2] for frame in WHOLE]
    server = serve({"POST /responses": stream(*bare, b"data: [DONE]\n\n")})
    reply, seen = await ask(server, stream=True)
    assert (reply.response, seen.ids) == ("It is 4.", [("resp_1", "resp_1")])
    assert server.paths() == ["POST /responses"]


async def test_a_server_that_does_not_stream(serve: Served) -> None:
    """JSON in place of a stream is read as the whole reply."""
    server = serve({"POST /responses": json_answer(response())})
    reply, _ = await ask(server, stream=True)
    assert (reply.response, server.paths()) == ("It is 4.", ["POST /responses"])


@pytest.mark.parametrize("end", ["whole", "cut", "silence"])
@pytest.mark.parametrize("frames", range(1, len(WHOLE)))
async def test_a_broken_stream_is_looked_up(serve: Served, frames: int, end: Any) -> None:
    """However a plain stream ends early, once it named the response that one is looked up and not made again."""
    server = serve(
        {"POST /responses": stream(*WHOLE[:frames], end=end), "GET /responses/resp_1": json_answer(response())}
    )
    reply, seen = await ask(server, stream=True, silence_timeout_s=0.2)
    assert server.paths() == ["POST /responses", "GET /responses/resp_1"]
    assert (reply.response, seen.ids) == ("It is 4.", [("resp_1", "resp_1")])


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("end", ["whole", "cut"])
@pytest.mark.parametrize("frames", [[], [b": ping\n\n"], [WHOLE[0][:40]]])
async def test_a_stream_that_names_nothing(serve: Served, frames: list[bytes], end: Any, background: bool) -> None:
    """A stream that breaks before it names a response leaves the key as it is, for the same request again."""
    server = serve({"POST /responses": stream(*frames, end=end)})
    fault = await fault_of(server, stream=True, background=background)
    assert isinstance(fault, ConnectionLost)
    assert not fault.run_ended
    assert server.paths() == ["POST /responses"]


@pytest.mark.parametrize("end", ["whole", "cut", "silence"])
@pytest.mark.parametrize("frames", range(1, len(WHOLE)))
async def test_a_background_stream_is_resumed(serve: Served, frames: int, end: Any) -> None:
    """A background stream that ends early goes on behind the last event that came, without another response."""
    server = serve(
        {
            "POST /responses": stream(*WHOLE[:frames], end=end),
            "GET /responses/resp_1": stream(*WHOLE[frames:]),
        }
    )
    reply, seen = await ask(server, stream=True, background=True, silence_timeout_s=0.2)
    assert server.paths() == ["POST /responses", "GET /responses/resp_1"]
    assert server.requests[1].query == {"stream": "true", "starting_after": str(frames - 1)}
    assert (reply.response, seen.ids) == ("It is 4.", [("resp_1", "resp_1")])


async def test_a_background_stream_is_resumed_again(serve: Served) -> None:
    """Each resumption begins behind the last event of the one before."""
    server = serve(
        {
            "POST /responses": stream(WHOLE[0], end="cut"),
            "GET /responses/resp_1": [stream(WHOLE[1], WHOLE[2], end="cut"), stream(ENDED)],
        }
    )
    reply, _ = await ask(server, stream=True, background=True)
    assert [request.query["starting_after"] for request in server.requests[1:]] == ["0", "2"]
    assert reply.response == "It is 4."


async def test_a_stream_that_never_lasts(serve: Served) -> None:
    """After five streams that broke the response is polled."""
    broken = stream(told("in_progress", 1, response=response("in_progress")), end="cut")
    server = serve({"POST /responses": stream(*BEGUN, end="cut"), "GET /responses/resp_1": [broken] * 5})
    server_script = server.script

    def script(request: Any) -> Answer:
        polled = request.method == "GET" and "stream" not in request.query
        return json_answer(response()) if polled else server_script(request)

    server.script = script
    reply, _ = await ask(server, stream=True, background=True)
    assert reply.response == "It is 4."
    assert [("stream" in request.query) for request in server.requests] == [False, *[True] * 5, False]


@pytest.mark.parametrize("status", [400, 422])
async def test_a_stream_that_cannot_be_resumed(serve: Served, status: int) -> None:
    """Where the service refuses to resume, the response is polled."""
    refused = json_answer({"error": {"message": "This response cannot be streamed.", "code": None}}, status)
    server = serve(
        {"POST /responses": stream(*BEGUN, end="cut"), "GET /responses/resp_1": [refused, json_answer(response())]}
    )
    reply, _ = await ask(server, stream=True, background=True)
    assert reply.response == "It is 4."
    assert len(server.requests) == 3


async def test_a_stream_whose_response_is_gone(serve: Served) -> None:
    """A response that is unknown when its stream is resumed is lost, not a failure of the row."""
    gone = json_answer({"error": {"message": "Response with id 'resp_1' not found.", "code": None}}, 404)
    server = serve({"POST /responses": stream(*BEGUN, end="cut"), "GET /responses/resp_1": gone})
    assert isinstance(await fault_of(server, stream=True, background=True), RunLost)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slow"}, RateLimited),
        ({"type": "error", "code": None, "message": "it broke"}, ServerFault),
        ({"type": "error", "error": {"type": "server_error", "message": "it broke"}}, ServerFault),
        ({"type": "error", "code": "invalid_prompt", "message": "no"}, PermanentFault),
        ({"error": {"message": "over", "type": "None", "code": "503"}}, Unavailable),
    ],
)
@pytest.mark.parametrize("named", [False, True])
async def test_an_error_event_before_any_response(
    serve: Served, data: dict[str, Any], kind: type[ServiceFault], named: bool
) -> None:
    """An error event that comes first is its own fault, under the same key, whichever way its name is sent."""
    frame = event("error", data) if named else event("error", data).partition(b"\n")[2]
    fault = await fault_of(serve({"POST /responses": stream(frame)}), stream=True)
    assert type(fault) is kind
    assert not fault.run_ended


async def test_an_error_event_behind_the_id(serve: Served) -> None:
    """An error event that may pass, in a stream that named its response, has that one looked up."""
    server = serve(
        {
            "POST /responses": stream(*BEGUN, event("error", {"type": "error", "message": "it broke"})),
            "GET /responses/resp_1": json_answer(response()),
        }
    )
    reply, _ = await ask(server, stream=True)
    assert (reply.response, len(server.requests)) == ("It is 4.", 2)


@pytest.mark.parametrize("data", ["[1]", "{", '"words"', "null"])
async def test_garbage_in_a_stream(serve: Served, data: str) -> None:
    """An event that is no object breaks the stream, and nothing else."""
    server = serve({"POST /responses": stream(event("response.created", data))})
    assert isinstance(await fault_of(server, stream=True), ConnectionLost)


async def test_html_in_place_of_a_reply(serve: Served) -> None:
    """A proxy's page is a fault that may pass, and says what came."""
    fault = await fault_of(serve({"POST /responses": html()}))
    assert isinstance(fault, Unavailable)
    assert "text/html" in str(fault)
    assert fault.unseen


# -- conversations ----------------------------------------------------------------------------------------------


async def test_two_requests_with_a_conversation(serve: Served) -> None:
    """A conversation's id is journalled before the response is asked for in it."""
    server = serve(
        {
            "POST /conversations": json_answer({"id": "conv_1"}),
            "POST /responses": json_answer(response(conversation={"id": "conv_1"})),
        }
    )
    reply, seen = await ask(server, conversation=True)
    assert server.paths() == ["POST /conversations", "POST /responses"]
    assert server.requests[0].body == {"metadata": {"batch": "b", "row": "3", "attempt": "1"}}
    assert server.requests[1].body["conversation"] == "conv_1"
    assert (seen.ids, seen.requests) == ([("conv_1", None), ("conv_1", "resp_1")], [1, 2])
    assert reply.response == "It is 4."


async def test_a_conversation_that_is_not_echoed(serve: Served) -> None:
    """The thread stays the conversation where the server does not repeat it in the response."""
    server = serve({"POST /conversations": json_answer({"id": "conv_1"}), "POST /responses": json_answer(response())})
    _, seen = await ask(server, conversation=True)
    assert seen.ids[-1] == ("conv_1", "resp_1")


async def test_an_answer_found_in_the_conversation(serve: Served) -> None:
    """An answer that an earlier try left in the conversation is taken, and not asked for again."""
    server = serve({ITEMS: json_answer({"data": [ITEM_OF_QUESTION, message(text())], "has_more": False})})
    reply, _ = await ask(server, attempt(2, 1, "key-7", thread_id="conv_1"), conversation=True)
    assert server.paths() == [ITEMS]
    assert reply == Reply("completed", "It is 4.")


async def test_a_refusal_found_in_the_conversation(serve: Served) -> None:
    """A refusal found in the conversation is told apart from an answer."""
    refusal = message({"type": "refusal", "refusal": "No."})
    server = serve({ITEMS: json_answer({"data": [refusal]})})
    reply, _ = await ask(server, attempt(2, 1, "key-7", thread_id="conv_1"), conversation=True)
    assert (reply.status, reply.response, reply.reason) == ("incomplete", "No.", "refusal")


async def test_an_empty_conversation_is_used_again(serve: Served) -> None:
    """Where nothing reached the conversation, the same request goes to it under the same key as before."""
    routes = {"POST /conversations": json_answer({"id": "conv_1"}), "POST /responses": json_answer(response())}
    first = serve(routes)
    await ask(first, conversation=True)
    again = serve({**routes, ITEMS: json_answer({"data": []})})
    await ask(again, attempt(2, 1, "key-7", thread_id="conv_1"), conversation=True)
    assert again.paths() == [ITEMS, "POST /responses"]
    assert again.requests[1].body == first.requests[1].body
    assert again.requests[1].headers["idempotency-key"] == first.requests[1].headers["idempotency-key"]


@pytest.mark.parametrize(
    "items",
    [
        json_answer({"data": [ITEM_OF_QUESTION]}),
        json_answer({"data": [ITEM_OF_QUESTION, message(text("It"), status="in_progress")]}),
        json_answer({"error": {"message": "Conversation with id 'conv_1' not found.", "code": None}}, 404),
    ],
)
async def test_a_conversation_of_no_more_use(serve: Served, items: Answer) -> None:
    """Where the conversation is gone or holds the question alone, another is made, and another key used in it."""
    server = serve(
        {
            ITEMS: items,
            "POST /conversations": json_answer({"id": "conv_2"}),
            "POST /responses": json_answer(response(conversation={"id": "conv_2"})),
        }
    )
    _, seen = await ask(server, attempt(2, 1, "key-7", thread_id="conv_1"), conversation=True)
    assert server.paths() == [ITEMS, "POST /conversations", "POST /responses"]
    assert server.requests[2].body["conversation"] == "conv_2"
    assert "conv_1" not in server.requests[2].headers["idempotency-key"]
    assert seen.ids == [("conv_2", None), ("conv_2", "resp_1")]


async def test_a_conversation_left_by_another_setting(serve: Served) -> None:
    """A conversation that an earlier run left is looked into also where conversations are off now."""
    server = serve({ITEMS: json_answer({"data": [message(text())]})})
    reply, _ = await ask(server, attempt(2, 1, "key-7", thread_id="conv_1"))
    assert (reply.response, server.paths()) == ("It is 4.", [ITEMS])


async def test_a_conversation_that_is_an_error(serve: Served) -> None:
    """An error with HTTP 200 in place of a conversation is that error."""
    server = serve({"POST /conversations": json_answer({"error": {"message": "slow", "code": "429"}})})
    assert isinstance(await fault_of(server, conversation=True), RateLimited)


# -- threads that exist ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thread_id", "after", "named"),
    [
        ("resp_0", "resp_0", {"previous_response_id": "resp_0"}),
        ("conv_1", "resp_0", {"conversation": "conv_1"}),
        ("conv_1", "conv_1", {"conversation": "conv_1"}),
    ],
    ids=["a chain", "a conversation", "a conversation of the table"],
)
async def test_a_later_turn(serve: Served, thread_id: str, after: str, named: dict[str, str]) -> None:
    """It goes on with the conversation, or behind the response before it; one request, with the instructions again."""
    server = serve({"POST /responses": json_answer(response())})
    _, seen = await ask(
        server, attempt(2, 2, "key-8"), asked=exchange(3, "Why?", thread_id=thread_id, previous_id=after)
    )
    (request,) = server.requests
    assert request.headers["idempotency-key"] == "key-8"
    assert request.body == {
        "model": "m-1",
        "input": "Why?",
        "instructions": "Be brief.",
        "store": True,
        "metadata": {"batch": "b", "row": "3", "attempt": "2"},
        **named,
    }
    assert seen.ids == [("conv_1" if "conversation" in named else "resp_1", "resp_1")]


async def test_a_later_turn_needs_no_conversation_of_its_own(serve: Served) -> None:
    """Only a row that begins a thread makes a conversation."""
    server = serve({"POST /responses": json_answer(response())})
    await ask(server, asked=exchange(3, thread_id="resp_0", previous_id="resp_0"), conversation=True)
    assert server.paths() == ["POST /responses"]


@pytest.mark.parametrize("thread_id", ["resp_1", "conv_1"])
async def test_outputs_of_functions(serve: Served, thread_id: str) -> None:
    """They go behind the response that asked for them, in the place of the message, under a key of their round."""
    server = serve({"POST /responses": json_answer(response())})
    outputs = (ToolOutput("call_1", "sun"), ToolOutput("call_2", "no luck", failed=True))
    asked = exchange(3, thread_id=thread_id, previous_id="resp_1", outputs=outputs, round=2)
    await ask(server, attempt(1, 1, "key-7"), asked=asked)
    (request,) = server.requests
    assert request.headers["idempotency-key"] == "key-7-2"
    assert request.body["input"] == [
        {"type": "function_call_output", "call_id": "call_1", "output": "sun"},
        {"type": "function_call_output", "call_id": "call_2", "output": "no luck"},
    ]
    assert request.body.get("previous_response_id", request.body.get("conversation")) == thread_id


@pytest.mark.parametrize("structured", [False, True])
async def test_only_the_last_turn_has_a_form(serve: Served, structured: bool) -> None:
    """The form is asked for where the exchange is to have it."""
    server = serve({"POST /responses": json_answer(response())})
    await ask(server, asked=exchange(3, structured=structured), structure={"format": {"type": "json_schema"}})
    assert ("text" in server.requests[0].body) == structured


# -- silence ----------------------------------------------------------------------------------------------------


async def test_a_long_answer_is_waited_for(serve: Served) -> None:
    """A plain reply that comes later than the silence deadline is taken: giving it up would have it paid again."""
    import threading

    server = serve({"POST /responses": json_answer(response())})
    script = server.script

    def late(request: Any) -> Answer:
        threading.Event().wait(0.4)
        return script(request)

    server.script = late
    reply, _ = await ask(server, silence_timeout_s=0.1)
    assert (reply.response, server.paths()) == ("It is 4.", ["POST /responses"])
