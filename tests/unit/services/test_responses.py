"""The Responses service: requests and ends of responses."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.engine.service import Reply
from batchrun.errors import (
    BatchRefused,
    PermanentFault,
    RateLimited,
    ServerFault,
    ServiceFault,
    Unavailable,
)
from batchrun.records import ToolCall
from batchrun.token_usage import Usage
from tests.support.responses_service import (
    BEGUN,
    CALL,
    KEY,
    USAGE,
    call_service,
    fault_of,
    message,
    response,
    stream_event,
    text,
)
from tests.support.scripted_http import Served, json_answer, stream

pytestmark = pytest.mark.anyio


# -- one request ------------------------------------------------------------------------------------------------


async def test_one_request_a_row(serve: Served) -> None:
    """A row takes one POST request under its key."""
    server = serve({"POST /responses": json_answer(response())})
    reply, seen = await call_service(server, parameters={"temperature": 0.5, "reasoning": {"effort": "low"}})
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
    """A parameter of the user overrides the one that the service would send itself."""
    server = serve({"POST /responses": json_answer(response())})
    await call_service(server, parameters={"store": False, "model": "m-2"})
    assert (server.requests[0].body["store"], server.requests[0].body["model"]) == (False, "m-2")


@pytest.mark.parametrize("usage", [None, {}])
async def test_missing_usage_stays_missing(serve: Served, usage: object) -> None:
    """If the server reports no usage, every count is None, never 0."""
    server = serve({"POST /responses": json_answer(response(usage=usage))})
    reply, _ = await call_service(server)
    assert reply.usage == Usage()


async def test_a_status_may_be_left_out(serve: Served) -> None:
    """A response without a status has ended: the protocol allows servers to omit it."""
    body = {"id": "resp_1", "output": [message(text())], "model": "m-1"}
    reply, _ = await call_service(serve({"POST /responses": json_answer(body)}))
    assert (reply.status, reply.response) == ("completed", "It is 4.")


async def test_messages_and_parts(serve: Served) -> None:
    """Messages are joined by a blank line and their parts by a line break; reasoning and unknown items are left out."""
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        message(text("One."), text("Two.")),
        {"type": "web_search_call"},
        message(text("Three."), {"type": "output_audio"}),
    ]
    reply, _ = await call_service(serve({"POST /responses": json_answer(response(output=output))}))
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
            response(output=[message(text("It"))], incomplete_details={"reason": "length"}),
            "incomplete",
            "It",
            "max_completion_tokens",
        ),
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
        (response(output=[message(text("It"), status="incomplete")]), "incomplete", "It", "incomplete"),
        (response("failed", error={"code": None, "message": None}), "failed", "", "run_failed"),
        (response(error={"code": "invalid_prompt", "message": "no"}), "failed", "It is 4.", "invalid_prompt"),
        (response("failed", error=None), "failed", "", "run_failed"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_ends(serve: Served, body: dict[str, Any], status: str, words: str, reason: str, streamed: bool) -> None:
    """Each end that another attempt would not change keeps its text, reason and usage, plain and streamed."""
    last = stream_event(body["status"], 3, response=body)
    answer = stream(*BEGUN, last) if streamed else json_answer(body)
    reply, _ = await call_service(serve({"POST /responses": answer}), stream=streamed)
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
    """A response that failed by a limit, the server or the quota is that fault, billed, and needs another key."""
    body = response("failed", error={"code": code, "message": words})
    answer = stream(*BEGUN, stream_event("failed", 3, response=body)) if streamed else json_answer(body)
    fault = await fault_of(serve({"POST /responses": answer}), stream=streamed)
    assert type(fault) is kind
    assert words in str(fault)
    assert (fault.run_ended, fault.retry_after_s) == (True, retry_after_s)
    assert fault.usage is not None
    assert fault.usage.total_tokens == 13


async def test_an_error_in_a_completed_response(serve: Served) -> None:
    """A response that calls itself completed and has an error is that error, and is retried as such."""
    body = response(error={"code": "server_error", "message": "it broke"})
    fault = await fault_of(serve({"POST /responses": json_answer(body)}))
    assert (type(fault), fault.run_ended) == (ServerFault, True)


async def test_messages_of_the_user_are_not_an_answer(serve: Served) -> None:
    """A server may repeat the prompt among the output items: only what the assistant wrote is the answer."""
    body = response(output=[message(text("What is 2 + 2?"), role="user"), message(text())])
    reply, _ = await call_service(serve({"POST /responses": json_answer(body)}))
    assert reply.response == "It is 4."


@pytest.mark.parametrize("body", [{"choices": []}, {"output": None, "choices": []}])
async def test_a_reply_of_another_protocol(serve: Served, body: dict[str, Any]) -> None:
    """A completed object without output is not a response with an empty answer; what it cost is counted."""
    fault = await fault_of(serve({"POST /responses": json_answer({"id": "chatcmpl-1", "usage": USAGE, **body})}))
    assert (type(fault), fault.error_type, fault.run_ended) == (PermanentFault, "bad_reply", True)
    assert fault.usage is not None
    assert fault.usage.total_tokens == 13


@pytest.mark.parametrize(
    "item",
    [
        {"type": "custom_tool_call", "call_id": "call_1", "name": "sql", "input": "SELECT 1"},
        {"type": "computer_call", "call_id": "call_1", "action": {"type": "screenshot"}},
        {"type": "local_shell_call", "call_id": "call_1", "action": {"command": ["ls"]}},
        {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}},
        {"type": "apply_patch_call", "call_id": "call_1", "operation": {"type": "delete_file"}},
    ],
)
async def test_calls_that_nobody_can_make(serve: Served, item: dict[str, Any]) -> None:
    """If the model waits for a call that batchrun cannot make, the text before it is not an answer."""
    body = response(output=[message(text("I will look.")), CALL, item])
    fault = await fault_of(serve({"POST /responses": json_answer(body)}))
    assert (type(fault), fault.error_type, fault.run_ended) == (PermanentFault, "requires_action", True)
    assert item["type"] in str(fault)
    assert fault.usage is not None
    assert fault.usage.total_tokens == 13


async def test_calls_that_the_service_has_made(serve: Served) -> None:
    """A call with its output was made by the service, in a container of its own."""
    output = [{"type": "shell_call", "call_id": "call_1"}, {"type": "shell_call_output", "call_id": "call_1"}]
    reply, _ = await call_service(serve({"POST /responses": json_answer(response(output=[*output, message(text())]))}))
    assert (reply.status, reply.response) == ("completed", "It is 4.")


@pytest.mark.parametrize("streamed", [False, True])
async def test_calls_of_functions(serve: Served, streamed: bool) -> None:
    """The called functions are reported with the usage; the response itself does not wait for the outputs."""
    body = response(output=[CALL])
    answer = stream(*BEGUN, stream_event("completed", 3, response=body)) if streamed else json_answer(body)
    reply, _ = await call_service(serve({"POST /responses": answer}), stream=streamed)
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
    """An error or another object in place of the expected one is a fault, not a crash."""
    fault = await fault_of(serve({"POST /responses": json_answer(body)}), stream=streamed)
    assert type(fault) is kind
    assert fault.error_type == error_type
    assert not fault.run_ended


async def test_a_bad_reply_shows_no_key(serve: Served) -> None:
    """The excerpt of a bad reply does not show the key."""
    fault = await fault_of(serve({"POST /responses": json_answer({"you": KEY})}))
    assert KEY not in str(fault)
    assert "***" in str(fault)


async def test_a_locked_conversation_may_come_free(serve: Served) -> None:
    """`conversation_locked` is retried, although its status is 400 and its param is a setting."""
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
    """The first refusal of the model, or of a parameter that the user set, stops the batch with its message."""
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
    """A refusal of one row's text fails that row alone, even if it names a parameter that limits the answer."""
    server = serve({"POST /responses": json_answer({"error": error}, 400)})
    fault = await fault_of(server, parameters={"max_tokens": 100})
    assert type(fault) is PermanentFault
