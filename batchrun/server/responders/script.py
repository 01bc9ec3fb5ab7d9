"""The responder `script`: answers by the rules of a file, for tests of a batch. Its answers are reproducible."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import regex
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from batchrun.server.protocol.bodies import Body
from batchrun.server.responders.base import (
    HOSTED_FUNCTIONS,
    Conversation,
    Finish,
    Part,
    ResponderError,
    TextDelta,
    TokenCount,
    ToolCall,
    ToolCallDelta,
)
from batchrun.server.responders.batch_faults import BatchFaults
from batchrun.server.responders.pieces import cut_to_tokens, in_pieces, in_words
from batchrun.server.responders.settings_file import (
    Settings,
    SettingsFileError,
    read_json_lines,
    read_text,
    read_toml,
    validated,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["ScriptResponder"]

_MATCH_TIMEOUT_S = 0.25
_STATUS_OF = {"server_error": 500, "rate_limit_exceeded": 429, "invalid_prompt": 400}


class _Usage(Settings):
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    cached_tokens: NonNegativeInt = 0
    reasoning_tokens: NonNegativeInt = 0


class _Fault(Settings):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    message: str = "The script makes this answer fail."
    retry_after_s: NonNegativeFloat | None = None
    after_deltas: NonNegativeInt = 0


class _Call(Settings):
    name: str
    arguments: Body = Field(default_factory=dict)


class _Reply(Settings):
    """An answer; `_Rule` adds the conditions."""

    reply: str = ""
    tool_calls: list[_Call] = Field(default_factory=list)
    after: str | None = None
    usage: _Usage | None = None
    finish: Literal["stop", "length", "content_filter"] = "stop"
    delay_s: NonNegativeFloat = 0
    deltas: PositiveInt | None = None
    delta_delay_s: NonNegativeFloat = 0
    fault: _Fault | None = None

    @model_validator(mode="after")
    def _is_an_answer(self) -> _Reply:
        if not (self.reply or self.tool_calls or self.fault):
            raise ValueError("the answer is empty; give it a 'reply', 'tool_calls' or a 'fault'")
        if bool(self.tool_calls) != (self.after is not None):
            raise ValueError("'tool_calls' and 'after' (the reply to the tools' outputs) must be given together")
        return self


class _Rule(_Reply):
    pattern: str | None = None
    model: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    times: PositiveInt | None = None

    @model_validator(mode="after")
    def _can_miss(self) -> _Rule:
        if self.pattern is None and self.model is None and not self.metadata and self.times is None:
            raise ValueError(
                "the rule matches every request; give it a 'pattern', 'model' or 'metadata', or make it the default"
            )
        return self


class _Answers(Settings):
    file: str
    question: str = "question"
    answer: str = "answer"


class _Script(Settings):
    rule: list[Body] = Field(default_factory=list)
    default: Body | None = None
    answers: Body | None = None
    batch_api: list[Body] = Field(default_factory=list)


@dataclass(slots=True)
class _LoadedRule:
    """A rule that is ready to match.

    Mutable state: `left`.

    Attributes:
        place: its place in the file, for messages.
        left: number of further matches; None for any number.
    """

    place: str
    rule: _Rule
    pattern: regex.Pattern[str] | None
    left: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.rule.times

    def match(self, question: str, conversation: Conversation) -> _Match | None:
        if self.rule.model not in (None, conversation.model):
            return None
        if any(conversation.metadata.get(key) != value for key, value in self.rule.metadata.items()):
            return None
        found = self._found(question) if self.pattern else None
        if self.pattern and found is None:
            return None
        groups = (found[0], *found.groups("")) if found else (question,)
        return _Match(self.place, self.rule, groups)

    def _found(self, question: str) -> regex.Match[str] | None:
        assert self.pattern is not None
        try:
            return self.pattern.search(question, timeout=_MATCH_TIMEOUT_S)
        except TimeoutError:
            raise ResponderError(
                f"{self.place} of the script: the pattern takes more than {_MATCH_TIMEOUT_S:g} s on this question; "
                "avoid repetitions inside repetitions, such as (a+)+",
                code="invalid_prompt",
                status_code=400,
            ) from None


@dataclass(frozen=True, slots=True)
class _Match:
    """A chosen reply, and the texts that replace `\\0`, `\\1`, … in it."""

    place: str
    reply: _Reply
    groups: tuple[str, ...]


class ScriptResponder:
    """Answers by the first rule that matches, then by the table of answers, then by the default.

    docs/guides/rehearsal.md describes the file format. The answer depends only on the request, except for rules with
    `times`, which count their matches over the responder's lifetime.

    Mutable state: the remaining matches of rules with `times`, and `batch_faults`.

    Attributes:
        batch_faults: planned faults of the Batch API.

    Raises:
        SettingsFileError: the file cannot be used; the message names file, rule and key.
    """

    name = "script"
    models: tuple[str, ...] = ()

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        script, places = _read(self._path)
        self._rules = [_loaded(data, self._path, place) for data, place in zip(script.rule, places, strict=True)]
        self._answers = _answers(script.answers, self._path) if script.answers else {}
        self._default = validated(_Reply, script.default, self._path, "default") if script.default is not None else None
        if self._default is not None:
            _check_references(self._default, 0, self._path, "default")
        self.batch_faults = BatchFaults.of(script.batch_api, self._path)

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        """Yield the scripted answer, then a Finish; see `Responder.respond`.

        Raises:
            ResponderError: the rule's fault; or `invalid_prompt` if nothing matches, or if a rule calls a function
                that the request does not offer.
        """
        match, text = self._decide(conversation)
        reply, answering_tools = match.reply, _outputs(conversation) is not None
        if reply.delay_s:
            await anyio.sleep(reply.delay_s)
        shortened = cut_to_tokens(text, conversation.max_completion_tokens)
        pieces = in_words(shortened) if reply.deltas is None else in_pieces(shortened, reply.deltas)
        fault = None if answering_tools else reply.fault
        for number, piece in enumerate(pieces):
            if fault is not None and number == fault.after_deltas:
                break
            if number and reply.delta_delay_s:
                await anyio.sleep(reply.delta_delay_s)
            yield TextDelta(piece)
        if fault is not None:
            raise ResponderError(
                fault.message,
                code=fault.code,
                status_code=fault.status or _STATUS_OF[fault.code],
                retry_after_s=fault.retry_after_s,
            )
        usage = TokenCount(**reply.usage.model_dump()) if reply.usage else None
        if shortened != text:
            yield Finish("length", usage)
        elif reply.tool_calls and not answering_tools:
            for call in reply.tool_calls:
                made = _tool_call(call, match, conversation)
                for number, piece in enumerate(in_words(made.arguments)):
                    if number and reply.delta_delay_s:
                        await anyio.sleep(reply.delta_delay_s)
                    yield ToolCallDelta(made.id, made.name, piece)
                yield made
            yield Finish("tool_calls", usage)
        else:
            yield Finish(reply.finish, usage)

    async def aclose(self) -> None:
        """Do nothing: the responder holds no resources."""

    def _decide(self, conversation: Conversation) -> tuple[_Match, str]:
        """Return the reply and its text. Synchronous, so that `times` is exact under concurrency."""
        question = next((m.text for m in reversed(conversation.messages) if m.role == "user"), "")
        outputs = _outputs(conversation)
        if outputs is None:
            match = self._first_match(question, conversation)
            return match, _filled(match.reply.reply, match.groups)
        match = self._calling_rule(question, conversation)
        return match, _filled(match.reply.after or "", match.groups, outputs)

    def _first_match(self, question: str, conversation: Conversation) -> _Match:
        for rule in self._rules:
            match = rule.match(question, conversation) if rule.left != 0 else None
            if match is not None:
                if rule.left is not None:
                    rule.left -= 1
                return match
        answer = self._answers.get(question.strip())
        if answer is not None:
            # Recorded answers are data: group references in them are not replaced.
            return _Match("answers", _Reply.model_construct(reply=answer), ())
        return self._default_match(question, conversation)

    def _calling_rule(self, question: str, conversation: Conversation) -> _Match:
        """Return the rule that made the calls whose outputs have arrived; `times` has counted it already."""
        called = next((m.tool_calls for m in reversed(conversation.messages) if m.tool_calls), ())
        names = [call.name for call in called]
        for rule in self._rules:
            if rule.rule.tool_calls and _are_calls(rule.rule.tool_calls, names):
                match = rule.match(question, conversation)
                if match is not None:
                    return match
        return self._default_match(question, conversation)

    def _default_match(self, question: str, conversation: Conversation) -> _Match:
        if self._default is not None and (self._default.tool_calls or _outputs(conversation) is None):
            return _Match("default", self._default, (question,))
        raise ResponderError(
            f"{self._path.name}: no rule matches {question[:80]!r}, and there is no default",
            code="invalid_prompt",
            status_code=400,
        )


def _read(path: Path) -> tuple[_Script, list[str]]:
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        script: Body = {"rule": []}
        places: list[str] = []
        for line, data in read_json_lines(path):
            special = next((key for key in ("default", "answers", "batch_api") if set(data) == {key}), None)
            if special == "batch_api":
                script.setdefault("batch_api", []).append(data["batch_api"])
            elif special is None:
                script["rule"].append(data)
                places.append(f"line {line}")
            elif special in script:
                raise SettingsFileError(f"{path}: line {line}: '{special}' is given a second time; keep one")
            else:
                script[special] = data[special]
        return validated(_Script, script, path, ""), places
    loaded = validated(_Script, read_toml(path), path, "")
    return loaded, [f"rule {number}" for number in range(1, len(loaded.rule) + 1)]


def _loaded(data: Body, path: Path, place: str) -> _LoadedRule:
    rule = validated(_Rule, data, path, place)
    try:
        if rule.pattern is not None:
            re.compile(rule.pattern)  # the format allows the patterns of Python's `re`
        # `regex` accepts the same patterns and has a time limit.
        pattern = regex.compile(rule.pattern) if rule.pattern is not None else None
    except (re.error, regex.error) as exc:
        raise SettingsFileError(f"{path}: {place}: key 'pattern': not a valid regular expression: {exc}") from exc
    _check_references(rule, pattern.groups if pattern else 0, path, place)
    return _LoadedRule(place, rule, pattern)


def _check_references(reply: _Reply, groups: int, path: Path, place: str) -> None:
    for key, text in (("reply", reply.reply), ("after", reply.after or "")):
        for reference in _REFERENCE.finditer(text):
            if reference["group"] and int(reference["group"]) > groups:
                raise SettingsFileError(
                    f"{path}: {place}: key '{key}': {reference[0]} refers to group {reference['group']}, "
                    f"but the number of groups in the pattern is {groups}"
                )


def _answers(data: Body, path: Path) -> dict[str, str]:
    """Return question → answer from the table of recorded answers."""
    table = validated(_Answers, data, path, "answers")
    source = path.parent / table.file
    rows = read_json_lines(source) if source.suffix.lower() in (".jsonl", ".ndjson") else _csv_rows(source)
    answers: dict[str, str] = {}
    for line, row in rows:
        for column in (table.question, table.answer):
            if not isinstance(row.get(column), str):
                has = ", ".join(filter(None, row))
                raise SettingsFileError(f"{source}: line {line}: no text in column '{column}'; the columns are: {has}")
        question = row[table.question].strip()
        if answers.setdefault(question, row[table.answer]) != row[table.answer]:
            raise SettingsFileError(f"{source}: line {line}: a second, different answer to {question[:60]!r}; keep one")
    return answers


def _csv_rows(source: Path) -> list[tuple[int, Body]]:
    reader = csv.DictReader(io.StringIO(read_text(source), newline=""))
    rows: list[tuple[int, Body]] = []
    try:
        reader.fieldnames  # noqa: B018 - reads the header, so that the first row starts after line_num
        line = reader.line_num + 1
        for row in reader:
            rows.append((line, row))
            line = reader.line_num + 1
    except csv.Error as exc:
        raise SettingsFileError(f"{source}: line {reader.line_num}: not valid CSV: {exc}") from exc
    return rows


def _outputs(conversation: Conversation) -> tuple[str, ...] | None:
    """Return the tool outputs at the end of the conversation; None if it ends with another message."""
    outputs: list[str] = []
    for message in reversed(conversation.messages):
        if message.role != "tool":
            break
        outputs[:0] = [output.output for output in message.tool_outputs]
    return tuple(outputs) or None


_REFERENCE = re.compile(r"\\(?:(?P<group>\d{1,2})|o(?P<output>\d{1,2})|(?P<backslash>\\))")


def _filled(text: str, groups: tuple[str, ...], outputs: tuple[str, ...] = ()) -> str:
    """Return the text with `\\1` replaced by a group, `\\0` by the whole match and `\\o1` by a tool's output."""

    def value(reference: re.Match[str]) -> str:
        if reference["backslash"]:
            return "\\"
        number = int(reference["group"] or reference["output"])
        source, index = (groups, number) if reference["group"] else (outputs, number - 1)
        return source[index] if 0 <= index < len(source) else ""

    return _REFERENCE.sub(value, text) if groups else text


def _tool_call(call: _Call, match: _Match, conversation: Conversation) -> ToolCall:
    offered = [str(tool["function"]["name"]) for tool in conversation.tools]
    name = call.name if call.name in offered else HOSTED_FUNCTIONS.get(call.name, call.name)
    if name not in offered:
        listed = ", ".join(map(repr, offered)) or "no function"
        raise ResponderError(
            f"{match.place} of the script calls the function {call.name!r}, which the request does not offer; "
            f"it offers {listed}",
            code="invalid_prompt",
            status_code=400,
        )
    arguments = _each_text(call.arguments, lambda text: _filled(text, match.groups))
    return ToolCall(f"call_{uuid.uuid4().hex[:24]}", name, json.dumps(arguments, ensure_ascii=False))


def _are_calls(calls: list[_Call], names: list[str]) -> bool:
    """Return whether a rule's calls have these names of functions, or the protocol's names of hosted tools."""
    return len(calls) == len(names) and all(
        name in (call.name, HOSTED_FUNCTIONS.get(call.name)) for call, name in zip(calls, names, strict=True)
    )


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_text(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_each_text(inner, change) for inner in value]
    return value
