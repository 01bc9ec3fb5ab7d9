"""A conversation has the same messages in every protocol, each in the protocol's own form."""

from __future__ import annotations

from batchrun.prompts.conversations import messages_in
from batchrun.records import Turn
from batchrun.services.conversations import chat_messages, question_of, response_items

URL = "https://example.org/a.png"
SYSTEM = {"role": "system", "content": "Be short"}
USER = {"role": "user", "content": "1+1?"}
ANSWER = {"role": "assistant", "content": "2"}
EXAMPLES = ({"role": "user", "content": "0+1?"}, {"role": "assistant", "content": "1"})
IMAGE = {"type": "image_url", "image_url": {"url": URL}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


def turn_of(*messages: object) -> Turn:
    return Turn("shown", messages=messages_in(list(messages)), examples=EXAMPLES)


def test_a_single_question_is_one_user_message() -> None:
    """Without a conversation and examples, the prompt is the only message."""
    for made in (chat_messages, response_items):
        assert made(Turn("1+1?")) == [USER]
        assert made(Turn("1+1?", examples=EXAMPLES)) == [*EXAMPLES, USER]


def test_examples_follow_the_system_message() -> None:
    """Examples are before the first message that is neither the system's nor the developer's."""
    more = {"role": "developer", "content": "No words"}
    turn = turn_of(SYSTEM, more, USER, ANSWER, USER)
    for made in (chat_messages, response_items):
        assert made(turn) == [SYSTEM, more, *EXAMPLES, USER, ANSWER, USER]
    assert chat_messages(turn_of(USER)) == [*EXAMPLES, USER]


def test_calls_and_their_outputs_are_items_of_a_response() -> None:
    """Chat sends tool messages as they are, with `content: null`; Responses has an item for each call and output."""
    calling = {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}
    outputs: list[dict[str, object]] = [
        {"role": "tool", "content": text, "tool_call_id": f"call_{text}"} for text in "12"
    ]
    outputs[1]["content"] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    turn = Turn("", messages=messages_in([USER, calling, *outputs]))
    assert chat_messages(turn) == [USER, calling, *outputs]
    assert response_items(turn) == [
        USER,
        {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_2", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
        {"type": "function_call_output", "call_id": "call_2", "output": "a\nb"},
    ]
    said = {**calling, "content": "Let me add.", "tool_calls": [CALL]}
    assert response_items(Turn("", messages=messages_in([USER, said, outputs[0]])))[1:3] == [
        {"role": "assistant", "content": "Let me add."},
        {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": "{}"},
    ]


def test_empty_messages_are_messages() -> None:
    """A message without text is sent as it is: without it, its neighbours would seem to follow each other."""
    empty = {"role": "assistant", "content": ""}
    assert response_items(Turn("", messages=messages_in([USER, empty, USER]))) == [USER, empty, USER]
    assert chat_messages(Turn("", messages=messages_in([USER, empty, USER]))) == [USER, empty, USER]


def test_parts_of_a_response_have_its_types() -> None:
    """Texts are input or output by who wrote them, and an image keeps its detail."""
    text = {"type": "text", "text": "What?"}
    image = {"type": "image_url", "image_url": {"url": URL, "detail": "low"}}
    turn = Turn(
        "",
        messages=messages_in(
            [{"role": "user", "content": [text, IMAGE, image]}, {"role": "assistant", "content": [text]}, USER]
        ),
    )
    assert response_items(turn) == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": URL, "detail": "auto"},
                {"type": "input_image", "image_url": URL, "detail": "low"},
            ],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "What?"}]},
        USER,
    ]


def test_the_rows_files_go_with_the_last_user_message() -> None:
    """The message with the files takes the place of the last user message, and keeps the images that it has."""
    seen = {"role": "user", "content": [{"type": "text", "text": "And this?"}, IMAGE]}
    turn = Turn("", messages=messages_in([SYSTEM, USER, ANSWER, seen]))
    assert question_of(turn).text == "And this?"
    with_file = {"role": "user", "content": [{"type": "file", "file": {}}, {"type": "text", "text": "And this?"}]}
    assert chat_messages(turn, with_file)[-1]["content"] == [IMAGE, *with_file["content"]]
    as_text = {"role": "user", "content": "a.txt:\n\nA\n\nAnd this?"}
    assert chat_messages(turn, as_text)[-1]["content"] == [IMAGE, {"type": "text", "text": as_text["content"]}]
    items = response_items(turn, {"role": "user", "content": [{"type": "input_text", "text": "And this?"}]})
    assert items[:3] == [SYSTEM, USER, ANSWER]
    assert [part["type"] for part in items[3]["content"]] == ["input_image", "input_text"]
    plain = {"role": "user", "content": "with a file", "attachments": []}
    assert chat_messages(Turn("", messages=messages_in([USER])), plain) == [plain]
