"""Conversations: cells that hold a list of messages, read into the messages that are sent.

Three forms are read, as real lists or as JSON text: OpenAI's messages with `role` and `content` (fine-tuning and Batch
files, Hugging Face, TRL), the same with the parts of the Responses API, and ShareGPT's with `from` and `value`. The
result has the form of Chat Completions; `batchrun.services.conversations` translates it for the other protocols.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from batchrun.job.options import Api
from batchrun.prompts.attachments import is_url
from batchrun.records import JsonDict, JsonObject, Value
from batchrun.wording import shortened

__all__ = [
    "CONVERSATION_COLUMNS",
    "ConversationError",
    "ends_with_answer",
    "is_conversation",
    "messages_in",
    "question_text",
    "spoken",
    "text_of_messages",
    "without_answer",
    "without_instructions",
]

CONVERSATION_COLUMNS: Final = ("messages", "conversations")
"""Columns that are asked as conversations if the table has no column `prompt` or `question` and no prompt is given."""

ROLES: Final = ("system", "developer", "user", "assistant", "tool")
SHAREGPT_ROLES: Final[Mapping[str, str]] = {"human": "user", "gpt": "assistant", "system": "system"}
"""ShareGPT's roles → those of Chat Completions."""

_TEXT_PARTS: Final = ("text", "input_text", "output_text")
_IMAGE_PARTS: Final = ("image_url", "input_image")
_UNSENT: Final = frozenset({"weight"})
"""Keys of a message that concern only the training of models."""
_LIST_TEXT: Final = re.compile(r"\s*\[\s*\{")
_OBJECT_TEXT: Final = re.compile(r"""\s*\{\s*["'](messages|role|from)["']\s*:""")
_ROLE_TEXT: Final = re.compile(r"""["'](role|from)["']\s*:""")
_PYTHON_TEXT: Final = re.compile(r"\s*\[\s*\{\s*'")
"""The beginning of a list as Python prints it."""


class ConversationError(Exception):
    """A cell cannot be sent as a conversation. The row fails and the batch continues. The text is one line.

    Attributes:
        error_type: `not_messages` if the cell is not a list of messages, `bad_messages` if a message in it cannot be
            sent, `empty_prompt` if there is none.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


def messages_in(cell: Value, api: Api | None = None) -> tuple[JsonObject, ...]:
    """Return the messages of a cell that are sent: all but the assistant's messages at the end.

    Args:
        cell: a list of messages, or its JSON text.
        api: the protocol, which may not have all kinds of messages; None to read without asking.

    Returns:
        Messages of Chat Completions: `role`, `content` (a text, or a list of parts of type `text` or `image_url`), and
        if there are any `name`, `tool_calls`, `tool_call_id`.

    Raises:
        ConversationError: the cell is not a conversation, or one of its messages cannot be sent.

    Examples:
        >>> messages_in('[{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2", "weight": 0}]')
        ({'role': 'user', 'content': '1+1?'},)
        >>> messages_in([{"from": "human", "value": "1+1?"}])
        ({'role': 'user', 'content': '1+1?'},)
    """
    messages = [_message(each, f"message {number}") for number, each in enumerate(_listed(cell), start=1)]
    sent = messages[: len(messages) - _answers_at_end(messages)]
    if not any(message["role"] in ("user", "tool") for message in sent):
        raise ConversationError("bad_messages", "the conversation has no message of the user to answer")
    if sent[-1]["role"] == "user" and not _has_content(sent[-1]):
        raise ConversationError("empty_prompt", f"message {len(sent)}: the user's message is empty")
    if api is not None:
        for number, message in enumerate(sent, start=1):
            _check_protocol(message, api, f"message {number}")
    return tuple(sent)


def is_conversation(cell: Value, column: str) -> bool:
    """Return whether a cell looks like a conversation, so that it is not asked as a text.

    It is a list of objects, or a text that begins like one, and has roles unless the name of the column says enough.
    Lists as Python or numpy print them, and a single message or an object with messages in place of a list, count too:
    they are refused with the reason.

    >>> is_conversation([{"role": "user", "content": "1+1?"}], "prompt"), is_conversation("1+1?", "messages")
    (True, False)
    """
    is_named = column in CONVERSATION_COLUMNS
    if isinstance(cell, str):
        if is_named:
            return (_LIST_TEXT.match(cell) or _OBJECT_TEXT.match(cell)) is not None
        return _LIST_TEXT.match(cell) is not None and _ROLE_TEXT.search(cell, 0, 2_000) is not None
    if isinstance(cell, dict):
        return "messages" in cell or {"role", "content"} <= cell.keys() or {"from", "value"} <= cell.keys()
    if not isinstance(cell, list) or not cell or not all(isinstance(each, dict) for each in cell):
        return False
    return is_named or "role" in cell[0] or "from" in cell[0]


def ends_with_answer(cell: Value) -> bool:
    """Return whether the last message of a cell is the assistant's; False for a cell that cannot be read."""
    try:
        last = _listed(cell)[-1]
    except ConversationError:
        return False
    return isinstance(last, dict) and (last.get("role") == "assistant" or last.get("from") == "gpt")


def without_answer(cell: Value) -> tuple[list[Any], str | None]:
    """Return (the messages of a cell without the last one if it is an answer in text, that answer).

    The messages are as they are in the cell. The answer is None if the last message is not the assistant's, or calls
    functions.

    Raises:
        ConversationError: the cell is not a conversation.
    """
    listed = _listed(cell)
    last = [_message(each, f"message {number}") for number, each in enumerate(listed, start=1)][-1]
    if last["role"] != "assistant" or "tool_calls" in last:
        return listed, None
    return listed[:-1], _text_of(last)


def without_instructions(messages: Sequence[JsonObject]) -> tuple[str, tuple[JsonObject, ...]]:
    """Return (the texts of the system and developer messages, joined by a blank line; the other messages)."""
    instructing = [message for message in messages if message["role"] in ("system", "developer")]
    others = tuple(message for message in messages if message not in instructing)
    return "\n\n".join(filter(None, map(_text_of, instructing))), others


def text_of_messages(messages: Sequence[JsonObject]) -> str:
    """Return a conversation as text for people. That of a single user message is its own text.

    >>> print(text_of_messages([{"role": "system", "content": "Be short"}, {"role": "user", "content": "1+1?"}]))
    system:
    Be short
    <BLANKLINE>
    user:
    1+1?
    """
    if len(messages) == 1 and messages[0]["role"] == "user":
        return _text_of(messages[0])
    return "\n\n".join(f"{role}:\n{text}" for role, text in spoken(messages))


def spoken(messages: Sequence[JsonObject]) -> tuple[tuple[str, str], ...]:
    """Return (role, text) of each message, with its images and calls as short notes."""
    return tuple((message["role"], _text_of(message)) for message in messages)


def question_text(messages: Sequence[JsonObject]) -> str:
    """Return the text of the last user message; "" if there is none."""
    last = next((message for message in reversed(messages) if message["role"] == "user"), None)
    if last is None:
        return ""
    content = last["content"]
    return (
        content if isinstance(content, str) else "\n".join(part["text"] for part in content if part["type"] == "text")
    )


# -- the list ---------------------------------------------------------------------------------------------------


def _listed(cell: Value) -> list[Any]:
    """Return the list in a cell, with at least one entry."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)) or (isinstance(cell, str) and not cell.strip()):
        raise ConversationError("empty_prompt", "the cell is empty; expected a list of messages")
    if isinstance(cell, str):
        cell = _from_json(cell)
    if not isinstance(cell, list):
        inside = "; its list is in `messages`" if isinstance(cell, dict) and "messages" in cell else ""
        raise ConversationError("not_messages", f"expected a list of messages, got {_described(cell)}{inside}")
    if not cell:
        raise ConversationError("empty_prompt", "the list of messages is empty")
    return cell


def _from_json(text: str) -> Any:
    if _PYTHON_TEXT.match(text):
        raise ConversationError(
            "not_messages",
            "the cell is a list as Python prints it, not JSON; write the column with json.dumps, or the table as JSON "
            "Lines or Parquet",
        )
    if not text.lstrip().startswith(("[", "{", '"')):
        raise ConversationError("not_messages", f"expected a list of messages, got the text {shortened(text[:80])}")
    try:
        return json.loads(text)
    except RecursionError:
        raise ConversationError("not_messages", "the list of messages is nested too deeply") from None
    except ValueError as exc:
        raise ConversationError("not_messages", f"the list of messages is not valid JSON: {exc}") from None


def _described(value: Value) -> str:
    if value is None:
        return "null"
    kinds = ((str, "text"), (bool, "a boolean"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((words for kind, words in kinds if isinstance(value, kind)), type(value).__name__)


def _answers_at_end(messages: Sequence[JsonObject]) -> int:
    """Return how many messages at the end are the assistant's."""
    return next((n for n, message in enumerate(reversed(messages)) if message["role"] != "assistant"), len(messages))


# -- one message ------------------------------------------------------------------------------------------------


def _message(entry: Any, where: str) -> JsonDict:
    """Return one message in the form of Chat Completions.

    Args:
        entry: the entry of the list.
        where: its place, for messages.
    """
    if not isinstance(entry, dict):
        raise ConversationError(
            "not_messages", f"{where}: expected an object with `role` and `content`, got {_described(entry)}"
        )
    given = {key: value for key, value in _present(entry).items() if key not in _UNSENT}
    if "from" in given and "role" not in given:
        return _sharegpt_message(given, where)
    if given.get("type") == "message":
        del given["type"]
    elif "type" in given:
        _fail(where, f"an item of type {given['type']!r} is not a message; write it as `tool_calls` or role `tool`")
    role = given.pop("role", None)
    if role is None:
        keys = ", ".join(sorted(map(str, entry)))
        raise ConversationError("not_messages", f"{where}: has no `role` (keys: {keys[:200]})")
    if role not in ROLES:
        _fail(where, f"unknown role {_shown(role)} (roles: {', '.join(ROLES)})")
    if "function_call" in given:
        _fail(
            where,
            "`function_call` is the former form of `tool_calls`; write it as such, with role `tool` for its output",
        )
    message: JsonDict = {"role": role, "content": None}
    if calls := given.pop("tool_calls", None):
        if role != "assistant":
            _fail(where, f"only assistant messages have `tool_calls`, not those of role {role!r}")
        message["tool_calls"] = _calls(calls, where)
    content = given.pop("content", None)
    if content is not None:
        message["content"] = _content(content, where, role)
    elif "tool_calls" not in message:
        _fail(where, "has no `content`")
    for key in ("name", "tool_call_id"):
        if key in given:
            message[key] = _text(given.pop(key), f"{where}: `{key}`")
    if (role == "tool") != ("tool_call_id" in message):
        has = "has no" if role == "tool" else f"is of role {role!r} and cannot have a"
        _fail(where, f"{has} `tool_call_id`")
    _no_more(given, where, "role, content, name, tool_calls, tool_call_id")
    return message


def _sharegpt_message(given: JsonDict, where: str) -> JsonDict:
    role = given.pop("from")
    if not isinstance(role, str) or role not in SHAREGPT_ROLES:
        _fail(where, f"unknown role {_shown(role)} in `from` (roles there: {', '.join(SHAREGPT_ROLES)})")
    if "value" not in given:
        _fail(where, "has no `value`")
    text = _text(given.pop("value"), f"{where}: `value`")
    _no_more(given, where, "from, value")
    return {"role": SHAREGPT_ROLES[role], "content": text}


def _present(entry: Mapping[str, Any]) -> JsonDict:
    """Return the keys that have a value: Arrow pads structs with nulls, and an empty list has nothing to send."""
    return {key: value for key, value in entry.items() if value is not None and (value != [] or key == "content")}


def _no_more(rest: Mapping[str, Any], where: str, known: str) -> None:
    if rest:
        _fail(where, f"unknown key {_shown(next(iter(rest)))} (known: {known}); a message is sent whole or not at all")


def _fail(where: str, problem: str) -> NoReturn:
    raise ConversationError("bad_messages", f"{where}: {problem}")


def _shown(value: object) -> str:
    return shortened(value)[:80]


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ConversationError("bad_messages", f"{what}: expected text, got {_described(value)}")
    return value


# -- its content ------------------------------------------------------------------------------------------------


def _content(content: Any, where: str, role: str) -> str | list[JsonObject]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        _fail(where, f"the content is {_described(content)}; expected text or a list of parts")
    if not content:
        _fail(where, "the content is an empty list")
    return [_part(part, f"{where}, part {number}", role) for number, part in enumerate(content, start=1)]


def _part(part: Any, where: str, role: str) -> JsonObject:
    """Return a part of a message in the form of Chat Completions."""
    if not isinstance(part, dict):
        raise ConversationError("bad_messages", f"{where}: expected an object with `type`, got {_described(part)}")
    given = _present(part)
    kind = given.pop("type", None)
    if kind in _TEXT_PARTS:
        text = _text(given.pop("text", None), f"{where}: `text`")
        _no_more(given, where, "type, text")
        return {"type": "text", "text": text}
    if kind not in _IMAGE_PARTS:
        known = "text, image_url"
        _fail(where, f"{'has no `type`' if kind is None else f'unknown type {_shown(kind)}'} (types: {known})")
    if role != "user":
        _fail(where, f"only user messages can have images, not those of role {role!r}")
    image = given.pop("image_url", None)
    source = _present(image) if isinstance(image, dict) else {"url": image, **_taken(given, "detail")}
    url = _text(source.pop("url", None), f"{where}: the URL of the image")
    if not (is_url(url) or url.startswith("data:image/")):
        _fail(where, f"the image {_shown(url)} is not a URL (https://… or data:image/…); use --attach for files")
    detail = source.pop("detail", None)
    _no_more({**given, **source}, where, "type, image_url with url and detail")
    return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail is not None else {})}}


def _taken(given: JsonDict, key: str) -> JsonDict:
    return {key: given.pop(key)} if key in given else {}


def _calls(calls: Any, where: str) -> list[JsonObject]:
    """Return the function calls of an assistant message. Arguments that are an object become the JSON text of one."""
    if not isinstance(calls, list):
        _fail(where, f"`tool_calls`: expected a list, got {_described(calls)}")
    return [_call(call, f"{where}, call {number}") for number, call in enumerate(calls, start=1)]


def _call(call: Any, where: str) -> JsonObject:
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        _fail(where, "expected an object with `id`, `type` and `function`")
    given = _present(call)
    function = _present(given.pop("function"))
    if (kind := given.pop("type", "function")) != "function":
        _fail(where, f"unknown type {_shown(kind)}; expected a function")
    if "id" not in given:
        _fail(where, "has no `id`, by which the service knows its output")
    call_id = _text(given.pop("id"), f"{where}: `id`")
    name = _text(function.pop("name", None), f"{where}: `name` of the function")
    arguments = function.pop("arguments", "{}")
    if isinstance(arguments, dict):
        arguments = json.dumps(_without_nulls(arguments), ensure_ascii=False)
    text = _text(arguments, f"{where}: `arguments`")
    _no_more({**given, **function}, where, "id, type, function with name and arguments")
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


# -- the protocols ----------------------------------------------------------------------------------------------


def _check_protocol(message: JsonObject, api: Api, where: str) -> None:
    """Raise if the protocol has no such message: it is never sent in part."""
    if api == "chat":
        return
    if "name" in message:
        _fail(where, f"--api {api} has no `name` of messages; use --api chat, or remove the names")
    if api == "responses":
        return
    if message["role"] == "tool" or "tool_calls" in message:
        what = "messages of role 'tool'" if message["role"] == "tool" else "`tool_calls` in messages"
        _fail(where, f"--api assistants has no {what}; use --api chat or --api responses")
    for url in _images(message):
        if not is_url(url):
            _fail(where, "--api assistants accepts only images by https URL; use --api chat or --api responses")


def _images(message: JsonObject) -> Iterator[str]:
    if isinstance(message["content"], list):
        yield from (part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url")


# -- its text ---------------------------------------------------------------------------------------------------


def _has_content(message: JsonObject) -> bool:
    content = message["content"]
    if isinstance(content, str):
        return bool(content.strip())
    return any(part["type"] != "text" or part["text"].strip() for part in content or ())


def _text_of(message: JsonObject) -> str:
    """Return the text of a message, with its images and calls as short notes."""
    content = message["content"]
    lines = [content] if isinstance(content, str) else [_part_text(part) for part in content or ()]
    calls = [each["function"] for each in message.get("tool_calls", ())]
    return "\n".join([*lines, *(f"[calls {each['name']}({each['arguments']})]" for each in calls)])


def _part_text(part: JsonObject) -> str:
    if part["type"] == "text":
        text: str = part["text"]
        return text
    url: str = part["image_url"]["url"]
    return f"[image {url}]" if is_url(url) else f"[image {url.partition(',')[0]}, {len(url):,} characters]"
