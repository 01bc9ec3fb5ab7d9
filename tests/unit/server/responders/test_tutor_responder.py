"""The tutor as a responder: conversation in, parts out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.server.responders.base import (
    Conversation,
    Finish,
    Message,
    Part,
    ResponderError,
    TextDelta,
    ToolCall,
    ToolOutput,
)
from batchrun.server.responders.pieces import cut_to_tokens
from batchrun.server.responders.tutor import TutorResponder

pytestmark = pytest.mark.anyio

EQUATION = "I need to solve the equation `3x + 11 = 14`. Can you help me?"
CALL_NOW = {"type": "function", "function": {"name": "now"}}
CALL_WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}},
}


def asked(*texts: str, **options: Any) -> Conversation:
    messages = tuple(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))
    return Conversation(model="any", instructions="", messages=messages, **options)


async def parts(conversation: Conversation) -> list[Part]:
    return [part async for part in TutorResponder().respond(conversation)]


async def said(conversation: Conversation) -> str:
    return "".join(part.text for part in await parts(conversation) if isinstance(part, TextDelta))


async def test_equation() -> None:
    """The overview's equation is solved in its two steps, word by word, and ends with one `stop`."""
    answer = await parts(asked(EQUATION))
    texts = [part.text for part in answer if isinstance(part, TextDelta)]
    assert "".join(texts) == "Subtract 11 from both sides to get 3x = 3, then divide by 3 to find x = 1."
    assert len(texts) > 10
    assert [part for part in answer if not isinstance(part, TextDelta)] == [Finish("stop")]


async def test_explanation_from_the_thread() -> None:
    """A follow-up gets the steps of the last solved problem; refused ones are skipped."""
    answer = await said(
        asked(EQUATION, "…", "Who won the cup in 1998?", "…", "Could you explain this to me?"),
    )
    assert answer == (
        "For 3x + 11 = 14: 1. subtract 11 from both sides to get 3x = 3; 2. divide by 3. "
        "The result is x = 1; to check it, with x = 1 both sides come to 14."
    )


@pytest.mark.parametrize(
    "text",
    [
        "Could you explain linear algebra to me?",
        "I don't like math. What can I do?",
        "Could you explain this to me?",
        "Tom has 3 apples and buys 4 more. How many does he have?",
        "5 plus 3 times 2",
        "",
    ],
)
async def test_honest_refusal(text: str) -> None:
    """A refusal is one sentence, which also states that the tutor is not a language model."""
    answer = await said(asked(text))
    assert "not a language model" in answer
    assert answer.count(". ") == 0


async def test_no_user_message() -> None:
    """A conversation without a question gets a refusal, not an error."""
    assert "not a language model" in await said(asked())


async def test_completion_tokens_bound() -> None:
    """An answer over max_completion_tokens is cut off, at 4 bytes per token, and ends with `length`."""
    answer = await parts(asked(EQUATION, max_completion_tokens=5))
    assert "".join(p.text for p in answer if isinstance(p, TextDelta)) == "Subtract 11 from bot"
    assert answer[-1] == Finish("length")


async def test_cut_keeps_whole_characters() -> None:
    """The cut never splits a character of several bytes."""
    assert cut_to_tokens("√√√", 1) == "√"
    assert cut_to_tokens("√√√", 3) == "√√√"


async def test_tools_on_demand() -> None:
    """A required function without required parameters is called with no arguments."""
    for choice in ("required", CALL_NOW):
        answer = await parts(asked("hi", tools=[CALL_WEATHER, CALL_NOW], tool_choice=choice))
        assert isinstance(answer[0], ToolCall)
        assert (answer[0].name, answer[0].arguments) == ("now", "{}")
        assert answer[1:] == [Finish("tool_calls")]


@pytest.mark.parametrize("choice", ["auto", "none", {"type": "function", "function": {"name": "weather"}}])
async def test_tools_otherwise_left_alone(choice: Any) -> None:
    """The tutor answers with text if no call is required, or if it could not fill in the arguments."""
    assert await said(asked("2 + 2", tools=[CALL_NOW, CALL_WEATHER], tool_choice=choice)) == "2 + 2 = 4."


async def test_tool_output_ends_the_calls() -> None:
    """After a tool's output the answer is text, so that a run with `required` ends."""
    call = ToolCall("call_1", "now", "{}")
    messages = (
        Message("user", "2 + 2"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "", tool_outputs=(ToolOutput("call_1", "12:00"),)),
    )
    conversation = Conversation("any", "", messages, tools=[CALL_NOW], tool_choice="required")
    assert await said(conversation) == "2 + 2 = 4."


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_object"},
        {
            "type": "json_schema",
            "json_schema": {
                "name": "a",
                "schema": {
                    "type": "object",
                    "properties": {"answer": {"type": "string"}},
                    "required": ["answer"],
                    "additionalProperties": False,
                },
            },
        },
    ],
)
async def test_json(response_format: dict[str, Any]) -> None:
    """A JSON answer is an object with the single key `answer`."""
    answer = await said(asked("2 + 2", response_format=response_format))
    assert json.loads(answer) == {"answer": "2 + 2 = 4."}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object", "properties": {"answer": {"type": "integer"}}},
        {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]},
        {"type": "object", "properties": {}, "additionalProperties": False},
        {"anyOf": []},
    ],
)
async def test_schema_out_of_reach(schema: dict[str, Any]) -> None:
    """A schema that the tutor may not be able to satisfy is refused as an invalid prompt."""
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with pytest.raises(ResponderError, match="JSON schema") as caught:
        await parts(asked("2 + 2", response_format=wanted))
    assert (caught.value.code, caught.value.status_code) == ("invalid_prompt", 400)
