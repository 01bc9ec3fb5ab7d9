"""Conversations are read from the forms that people have; what cannot be sent whole is refused by its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.job.options import Api
from batchrun.prompts.conversations import (
    ConversationError,
    ends_with_answer,
    is_conversation,
    messages_in,
    text_of_messages,
    without_answer,
)

USER = {"role": "user", "content": "1+1?"}
ANSWER = {"role": "assistant", "content": "2"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
OUTPUT = {"role": "tool", "content": "2", "tool_call_id": "call_1"}
URL = "https://example.org/a.png"
IMAGE = {"type": "image_url", "image_url": {"url": URL, "detail": "low"}}


@pytest.mark.parametrize(
    ("cell", "sent"),
    [
        pytest.param([USER], [USER], id="list"),
        pytest.param(json.dumps([USER]), [USER], id="json"),
        pytest.param(f"\n {json.dumps([USER], indent=1)}\n", [USER], id="json-over-lines"),
        pytest.param([{"role": "system", "content": ""}, USER], [{"role": "system", "content": ""}, USER], id="system"),
        pytest.param(
            [{"role": "developer", "content": "Short."}, USER], [{"role": "developer", "content": "Short."}, USER], id="dev"
        ),
        pytest.param([USER, ANSWER, USER, ANSWER], [USER, ANSWER, USER], id="answer-at-end"),
        pytest.param([USER, ANSWER, ANSWER], [USER], id="answers-at-end"),
        pytest.param([USER, {**ANSWER, "weight": 0}, USER], [USER, ANSWER, USER], id="weight"),
        pytest.param([{**USER, "name": None, "tool_calls": None, "tool_call_id": None}], [USER], id="padded-by-arrow"),
        pytest.param([{**USER, "tool_calls": []}], [USER], id="no-calls"),
        pytest.param([{**USER, "name": "Ann"}], [{**USER, "name": "Ann"}], id="name"),
        pytest.param([{**USER, "type": "message"}], [USER], id="item"),
        pytest.param([USER, CALLING, OUTPUT], [USER, CALLING, OUTPUT], id="tool"),
        pytest.param([USER, CALLING, OUTPUT, ANSWER], [USER, CALLING, OUTPUT], id="tool-and-answer"),
        pytest.param(
            [USER, {"role": "assistant", "tool_calls": [CALL]}, OUTPUT], [USER, CALLING, OUTPUT], id="no-content-key"
        ),
        pytest.param(
            [USER, {**CALLING, "tool_calls": [{**CALL, "function": {"name": "add", "arguments": {"a": 1, "b": None}}}]}, OUTPUT],
            [USER, {**CALLING, "tool_calls": [{**CALL, "function": {"name": "add", "arguments": '{"a": 1}'}}]}, OUTPUT],
            id="arguments-as-object",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "text", "text": "What?", "image_url": None}, IMAGE]}],
            [{"role": "user", "content": [{"type": "text", "text": "What?"}, IMAGE]}],
            id="parts",
        ),
        pytest.param(
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": URL, "detail": "low"},
                    ],
                }
            ],
            [{"role": "user", "content": [{"type": "text", "text": "What?"}, IMAGE]}],
            id="parts-of-responses",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}],
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}],
            id="image-alone",
        ),
        pytest.param(
            [
                {"from": "system", "value": "Short."},
                {"from": "human", "value": "1+1?", "weight": None},
                {"from": "gpt", "value": "2", "weight": 1},
            ],
            [{"role": "system", "content": "Short."}, USER],
            id="sharegpt",
        ),
    ],
)  # fmt: skip
def test_the_messages_that_are_sent(cell: Any, sent: list[Any]) -> None:
    """Nulls, training weights and the answer at the end are not sent; everything else is, as it is in the cell."""
    assert list(messages_in(cell, "chat")) == sent


@pytest.mark.parametrize(
    ("cell", "error_type", "words"),
    [
        (None, "empty_prompt", "the cell is empty"),
        (float("nan"), "empty_prompt", "the cell is empty"),
        ("  ", "empty_prompt", "the cell is empty"),
        ([], "empty_prompt", "the list of messages is empty"),
        ("[]", "empty_prompt", "the list of messages is empty"),
        ([{"role": "user", "content": " "}], "empty_prompt", "message 1: the user's message is empty"),
        ("Hello", "not_messages", "expected a list of messages, got the text 'Hello'"),
        ('"Hello"', "not_messages", "expected a list of messages, got text"),
        (7, "not_messages", "expected a list of messages, got a number"),
        (USER, "not_messages", "expected a list of messages, got an object"),
        ({"messages": [USER]}, "not_messages", "got an object; its list is in `messages`"),
        ([USER, {**ANSWER, "content": None, "function_call": {}}], "bad_messages", "message 2: `function_call` is the former form"),
        (str([USER]), "not_messages", "a list as Python prints it, not JSON; write the column with json.dumps"),
        ("[{'content': 'a', 'role': 'user'}\n {'content': 'b', 'role': 'user'}]", "not_messages", "as Python prints it"),
        ('[{"role": "user", ', "not_messages", "not valid JSON"),
        ("[" * 100_000, "not_messages", "nested too deeply"),
        ([USER, None], "not_messages", "message 2: expected an object with `role` and `content`, got null"),
        (["Hello"], "not_messages", "message 1: expected an object with `role` and `content`, got text"),
        ([{"speaker": "a", "text": "b"}], "not_messages", "message 1: has no `role` (keys: speaker, text)"),
        ([{"role": "system", "content": "Be short"}], "bad_messages", "no message of the user"),
        ([ANSWER], "bad_messages", "no message of the user"),
        ([{**USER, "role": "robot"}], "bad_messages", "message 1: unknown role 'robot' (roles: system, developer, user"),
        ([{**USER, "role": ["user"]}], "bad_messages", "unknown role ['user']"),
        ([{**USER, "mood": "good"}], "bad_messages", "message 1: unknown key 'mood' (known: role, content, name"),
        ([USER, {"role": "user", "content": None}], "bad_messages", "message 2: has no `content`"),
        ([{"role": "user", "content": []}], "bad_messages", "message 1: the content is an empty list"),
        ([{"role": "user", "content": {"text": "a"}}], "bad_messages", "the content is an object; expected text"),
        ([{"role": "user", "content": ["a"]}], "bad_messages", "message 1, part 1: expected an object with `type`"),
        ([{"role": "user", "content": [{"text": "a"}]}], "bad_messages", "message 1, part 1: has no `type`"),
        ([{"role": "user", "content": [{"type": "image"}]}], "bad_messages", "unknown type 'image' (types: text, image_url)"),
        ([{"role": "user", "content": [{"type": "text", "text": 7}]}], "bad_messages", "`text`: expected text, got a number"),
        ([{"role": "user", "content": [{"type": "text", "text": "a", "b": 1}]}], "bad_messages", "unknown key 'b'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}], "bad_messages", "'a.png' is not a URL"),
        ([{"role": "assistant", "content": [IMAGE]}, USER], "bad_messages", "only user messages can have images"),
        ([USER, CALLING, {**OUTPUT, "tool_call_id": None}], "bad_messages", "message 3: has no `tool_call_id`"),
        ([{**USER, "tool_call_id": "a"}], "bad_messages", "message 1: is of role 'user' and cannot have a `tool_call_id`"),
        ([{**USER, "tool_calls": [CALL]}], "bad_messages", "only assistant messages have `tool_calls`"),
        ([USER, {**CALLING, "tool_calls": [{**CALL, "id": None}]}, OUTPUT], "bad_messages", "message 2, call 1: has no `id`"),
        ([USER, {**CALLING, "tool_calls": [{**CALL, "type": "custom"}]}], "bad_messages", "unknown type 'custom'"),
        ([USER, {**CALLING, "tool_calls": ["add"]}, OUTPUT], "bad_messages", "expected an object with `id`"),
        ([{"type": "function_call", "name": "add"}, USER], "bad_messages", "type 'function_call' is not a message"),
        ([{"from": "human", "value": "a"}, {"from": "observation", "value": "b"}], "bad_messages", "message 2: unknown role 'observation' in `from` (roles there: human, gpt, system)"),
        ([{"from": ["human"], "value": "a"}], "bad_messages", "unknown role ['human'] in `from`"),
        ([{"from": "human"}], "bad_messages", "message 1: has no `value`"),
        ([{"from": "human", "value": "a", "rank": 1}], "bad_messages", "unknown key 'rank' (known: from, value)"),
    ],
)  # fmt: skip
def test_cells_that_cannot_be_sent(cell: Any, error_type: str, words: str) -> None:
    """A cell that is not a conversation, and a message that would lose a part, is refused in one line with its place."""
    with pytest.raises(ConversationError) as caught:
        messages_in(cell, "chat")
    assert caught.value.error_type == error_type
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("api", "message", "words"),
    [
        ("assistants", CALLING, "message 2: --api assistants has no `tool_calls` in messages; use --api chat"),
        ("assistants", OUTPUT, "message 2: --api assistants has no messages of role 'tool'; use --api chat"),
        ("assistants", {**USER, "name": "Ann"}, "--api assistants has no `name` of messages"),
        ("responses", {**USER, "name": "Ann"}, "--api responses has no `name` of messages; use --api chat"),
        (
            "assistants",
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
            "message 2: --api assistants accepts only images by https URL",
        ),
    ],
)
def test_messages_that_a_protocol_lacks(api: Api, message: Any, words: str) -> None:
    """A message that the protocol cannot express fails the row by name; the others take it."""
    cell = [USER, message, USER]
    with pytest.raises(ConversationError) as caught:
        messages_in(cell, api)
    assert caught.value.error_type == "bad_messages"
    assert words in str(caught.value)
    assert list(messages_in(cell, "chat"))[1] == message


def test_cells_that_look_like_conversations() -> None:
    """A column `messages` needs a list of objects, any other column roles too; texts and lists of texts are prompts."""
    odd = [{"speaker": "a"}]
    cell: Any
    for cell in ([USER], json.dumps([USER]), str([USER]), [{"from": "human", "value": "a"}]):
        assert is_conversation(cell, "prompt"), cell
        assert is_conversation(cell, "messages"), cell
    for cell in (odd, json.dumps(odd)):
        assert not is_conversation(cell, "prompt"), cell
        assert is_conversation(cell, "messages"), cell
    for cell in ("1+1?", "[12:01] hello", ["a", "b"], [], 7, {"role": "user"}, '["a"]'):
        assert not is_conversation(cell, "prompt"), cell
        assert not is_conversation(cell, "messages"), cell


def test_the_answer_at_the_end_can_be_taken_off() -> None:
    """The messages stay as they are in the cell; the text of the last answer is apart."""
    weighed = {**USER, "weight": 1}
    assert without_answer([weighed, ANSWER]) == ([weighed], "2")
    assert without_answer(json.dumps([USER])) == ([USER], None)
    assert [
        ends_with_answer(cell) for cell in ([USER, ANSWER], [USER], [{"from": "gpt", "value": "a"}], "?", None)
    ] == [
        True,
        False,
        True,
        False,
        False,
    ]


def test_a_conversation_as_text() -> None:
    """Each message is under its role; images and calls are short notes, however long they are."""
    parts = [{"type": "text", "text": "What?"}, IMAGE, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 5_000}"}}]  # fmt: skip
    text = text_of_messages(messages_in([{"role": "user", "content": parts}, CALLING, OUTPUT]))
    assert text == (
        f"user:\nWhat?\n[image {URL}]\n[image data:image/png;base64, 5,022 characters]\n\n"
        'assistant:\n[calls add({"a":1})]\n\ntool:\n2'
    )
    assert text_of_messages([USER]) == "1+1?"
