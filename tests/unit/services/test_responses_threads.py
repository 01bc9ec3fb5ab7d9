"""The Responses service with conversations, and on threads that rows continue."""

from __future__ import annotations

import pytest

from batchrun.engine.service import Reply
from batchrun.errors import (
    RateLimited,
)
from batchrun.records import ToolOutput
from tests.support.responses_service import (
    ITEM_OF_QUESTION,
    ITEMS,
    call_service,
    fault_of,
    message,
    response,
    text,
)
from tests.support.rows import attempt, exchange
from tests.support.scripted_http import Answer, Served, json_answer

pytestmark = pytest.mark.anyio


# -- conversations ----------------------------------------------------------------------------------------------


async def test_two_requests_with_a_conversation(serve: Served) -> None:
    """A conversation's id is written to the journal before the response is requested in it."""
    server = serve(
        {
            "POST /conversations": json_answer({"id": "conv_1"}),
            "POST /responses": json_answer(response(conversation={"id": "conv_1"})),
        }
    )
    reply, seen = await call_service(server, conversation=True)
    assert server.paths() == ["POST /conversations", "POST /responses"]
    assert server.requests[0].body == {"metadata": {"batch": "b", "row": "3", "attempt": "1"}}
    assert server.requests[1].body["conversation"] == "conv_1"
    assert (seen.ids, seen.requests) == ([("conv_1", None), ("conv_1", "resp_1")], [1, 2])
    assert reply.response == "It is 4."


async def test_a_conversation_that_is_not_echoed(serve: Served) -> None:
    """The thread is the conversation, even if the server does not repeat it in the response."""
    server = serve({"POST /conversations": json_answer({"id": "conv_1"}), "POST /responses": json_answer(response())})
    _, seen = await call_service(server, conversation=True)
    assert seen.ids[-1] == ("conv_1", "resp_1")


async def test_an_answer_found_in_the_conversation(serve: Served) -> None:
    """An answer that an earlier attempt left in the conversation is used, and not requested again."""
    server = serve({ITEMS: json_answer({"data": [message(text()), ITEM_OF_QUESTION], "has_more": False})})
    reply, _ = await call_service(server, attempt(2, 1, "key-7", thread_id="conv_1"), conversation=True)
    assert server.paths() == [ITEMS]
    assert reply == Reply("completed", "It is 4.")


async def test_a_refusal_found_in_the_conversation(serve: Served) -> None:
    """A refusal in the conversation is distinguished from an answer."""
    refusal = message({"type": "refusal", "refusal": "No."})
    server = serve({ITEMS: json_answer({"data": [refusal]})})
    reply, _ = await call_service(server, attempt(2, 1, "key-7", thread_id="conv_1"), conversation=True)
    assert (reply.status, reply.response, reply.reason) == ("incomplete", "No.", "refusal")


async def test_an_empty_conversation_is_used_again(serve: Served) -> None:
    """If the conversation is empty, the same request is sent to it under the same key."""
    routes = {"POST /conversations": json_answer({"id": "conv_1"}), "POST /responses": json_answer(response())}
    first = serve(routes)
    await call_service(first, conversation=True)
    again = serve({**routes, ITEMS: json_answer({"data": []})})
    await call_service(again, attempt(2, 1, "key-7", thread_id="conv_1"), conversation=True)
    assert again.paths() == [ITEMS, "POST /responses"]
    assert again.requests[1].body == first.requests[1].body
    assert again.requests[1].headers["idempotency-key"] == first.requests[1].headers["idempotency-key"]


async def test_a_conversation_whose_id_was_lost_is_not_created_twice(serve: Served) -> None:
    """A batch that is killed before the conversation's id is in its journal sends both requests again under their keys;
    a conversation that takes the place of an abandoned one has another key."""
    keys = []
    for number, thread_id in ((1, None), (2, None), (3, "conv_1")):
        server = serve(
            {
                ITEMS: json_answer({"data": [ITEM_OF_QUESTION]}),
                "POST /conversations": json_answer({"id": "conv_2"}),
                "POST /responses": json_answer(response()),
            }
        )
        await call_service(server, attempt(number, 1, "key-7", thread_id=thread_id), conversation=True)
        keys.append([each.headers["idempotency-key"] for each in server.requests if each.method == "POST"])
    assert keys[0] == keys[1] == ["key-7-conversation", "key-7-conv_2"]
    assert keys[2] == ["key-7-conversation-conv_1", "key-7-conv_2"]


@pytest.mark.parametrize(
    "items",
    [
        json_answer({"data": [ITEM_OF_QUESTION]}),
        json_answer({"data": [ITEM_OF_QUESTION, message(text("An earlier answer that the row sent."))]}),
        json_answer({"data": [message(text("It"), status="in_progress"), ITEM_OF_QUESTION]}),
        json_answer({"error": {"message": "Conversation with id 'conv_1' not found.", "code": None}}, 404),
    ],
)
async def test_a_conversation_of_no_more_use(serve: Served, items: Answer) -> None:
    """If the conversation was deleted or holds only what the row sent, another is created and used under another key."""
    server = serve(
        {
            ITEMS: items,
            "POST /conversations": json_answer({"id": "conv_2"}),
            "POST /responses": json_answer(response(conversation={"id": "conv_2"})),
        }
    )
    _, seen = await call_service(server, attempt(2, 1, "key-7", thread_id="conv_1"), conversation=True)
    assert server.paths() == [ITEMS, "POST /conversations", "POST /responses"]
    assert server.requests[2].body["conversation"] == "conv_2"
    assert "conv_1" not in server.requests[2].headers["idempotency-key"]
    assert seen.ids == [("conv_2", None), ("conv_2", "resp_1")]


async def test_a_conversation_left_by_another_setting(serve: Served) -> None:
    """A conversation of an earlier process is read even if conversations are off now."""
    server = serve({ITEMS: json_answer({"data": [message(text())]})})
    reply, _ = await call_service(server, attempt(2, 1, "key-7", thread_id="conv_1"))
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
    """A later turn continues from the turns before it."""
    server = serve({"POST /responses": json_answer(response())})
    _, seen = await call_service(
        server, attempt(2, 2, "key-8"), custom_exchange=exchange(3, "Why?", thread_id=thread_id, previous_id=after)
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
    """Only a row that begins a thread creates a conversation."""
    server = serve({"POST /responses": json_answer(response())})
    await call_service(server, custom_exchange=exchange(3, thread_id="resp_0", previous_id="resp_0"), conversation=True)
    assert server.paths() == ["POST /responses"]


@pytest.mark.parametrize("thread_id", ["resp_1", "conv_1"])
async def test_outputs_of_functions(serve: Served, thread_id: str) -> None:
    """Outputs replace the message, continue from the response that asked for them, and have a key of their round."""
    server = serve({"POST /responses": json_answer(response())})
    outputs = (ToolOutput("call_1", "sun"), ToolOutput("call_2", "no luck", failed=True))
    asked = exchange(3, thread_id=thread_id, previous_id="resp_1", outputs=outputs, round=2)
    await call_service(server, attempt(1, 1, "key-7"), custom_exchange=asked)
    (request,) = server.requests
    assert request.headers["idempotency-key"] == "key-7-2"
    assert request.body["input"] == [
        {"type": "function_call_output", "call_id": "call_1", "output": "sun"},
        {"type": "function_call_output", "call_id": "call_2", "output": "no luck"},
    ]
    assert request.body.get("previous_response_id", request.body.get("conversation")) == thread_id


@pytest.mark.parametrize("structured", [False, True])
async def test_only_the_last_turn_has_a_form(serve: Served, structured: bool) -> None:
    """The structure is requested only for exchanges that are structured."""
    server = serve({"POST /responses": json_answer(response())})
    await call_service(
        server, custom_exchange=exchange(3, structured=structured), structure={"format": {"type": "json_schema"}}
    )
    assert ("text" in server.requests[0].body) == structured
