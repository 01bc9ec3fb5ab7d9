"""Reads the completions of the Chat Completions protocol, whole or in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from batchrun.engine.service import OnIds, Reply
from batchrun.errors import ConnectionLost, ServerFault
from batchrun.records import JsonDict, JsonObject, ToolCall
from batchrun.services.citations import citations_of_completion
from batchrun.services.finish_reason import BROKEN, end_of_completed, meaning_of
from batchrun.services.kept import extras_of, tier_of
from batchrun.services.reasoning import REASONING_FIELDS, reasoning_of_part
from batchrun.services.reply_fields import (
    Billed,
    arguments,
    cleaned,
    count,
    mapping,
    members,
    name,
    objects,
    required,
    text,
    unexpected,
    whole_text,
)
from batchrun.services.translation import bad_reply, fault_of_error_body, is_error_body, needs_tools
from batchrun.services.usage import usage_of_tokens
from batchrun.thoughts import split_thought

__all__ = ["Completion", "whole_completion"]


_BESIDE_CHOICES = frozenset({"error", "citations", "search_results"})
"""What a chunk can have next to its choices, besides its id, model, usage and tier."""
_OF_TEXT = frozenset({"content", "role"})


def whole_completion(body: JsonObject, secrets: tuple[str, ...]) -> Completion:
    """Return a completion that came in one piece.

    Raises:
        ServiceFault: the body is an error that came with HTTP 200, or is not a completion.
    """
    choices = objects(body.get("choices"))
    message = choices[0].get("message") if choices else None
    if not isinstance(message, dict):
        if is_error_body(body):
            raise fault_of_error_body(body, secrets)
        usage = usage_of_tokens(body.get("usage"))
        if "choices" in body and not body["choices"]:
            # Gateways send this if the model that they use broke off.
            raise ServerFault(
                "the service answered without a choice", error_type="no_choices", run_ended=True, usage=usage
            )
        fault = bad_reply("choice with a message", body, "Chat Completions", secrets)
        fault.usage = usage
        raise fault
    completion = Completion(in_one_piece=True)
    completion.add({**body, "choices": [{**choices[0], "index": 0, "delta": message}]}, secrets)
    return completion


@dataclass(slots=True)
class Completion:
    """A completion, assembled from its chunks.

    Mutable state: all attributes but `in_one_piece`.

    Attributes:
        in_one_piece: the completion is not a stream, so it is complete even without a finish reason.
        texts: the pieces of the answer, and `refusals`, the pieces of a refusal.
        sources: `citations`, `search_results` and `context`, as `citations_of_completion` takes them.
        reasoning: the pieces of the reasoning that came apart from the answer, by the field that they came in.
        tier: the service tier, as the service reports it.
        logprobs: the tokens of the answer with their log probabilities.
        calls: index of a call → the call, in the protocol's form.
        calls_function: the model used `function_call`, the old form of a call.
        has_more: the answer has images or speech, next to its text or instead of it.
    """

    in_one_piece: bool = False
    id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: JsonObject | None = None
    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    annotations: list[JsonObject] = field(default_factory=list)
    sources: JsonDict = field(default_factory=dict)
    reasoning: dict[str, list[str]] = field(default_factory=dict)
    tier: str | None = None
    logprobs: list[JsonObject] = field(default_factory=list)
    calls: dict[int, JsonDict] = field(default_factory=dict)
    calls_function: bool = False
    has_more: bool = False

    def add(self, chunk: JsonObject, secrets: tuple[str, ...]) -> None:
        """Add one chunk. Only the first of several choices counts.

        Raises:
            ServiceFault: the chunk is an error, or a part of the answer in it has another type.
        """
        if self._adds_text_only(chunk):
            return
        if is_error_body(chunk):
            raise fault_of_error_body(chunk, secrets)
        self.id = name(chunk.get("id")) or self.id
        self.model = name(chunk.get("model")) or self.model
        self.usage = mapping(chunk.get("usage")) or self.usage
        self.tier = name(chunk.get("service_tier")) or self.tier
        for source in ("citations", "search_results"):
            if found := chunk.get(source):
                self.sources[source] = cleaned(found)
        with Billed(lambda: usage_of_tokens(self.usage)) if self.usage else nullcontext():
            for choice in members(chunk.get("choices"), "`choices`"):
                if not count(choice.get("index")):
                    if choice.get("error"):  # OpenRouter's, where the model's provider broke the answer off
                        fault = fault_of_error_body(choice, secrets)
                        fault.run_ended, fault.usage = True, usage_of_tokens(self.usage)
                        raise fault
                    self._add_choice(choice)

    def _adds_text_only(self, chunk: JsonObject) -> bool:
        """Add a chunk that has a piece of text and nothing new besides, as nearly all chunks of a stream; return False
        for any other."""
        if self.id is None or chunk.get("id") != self.id or chunk.get("model") != self.model or chunk.get("usage"):
            return False
        choices = chunk.get("choices")
        if type(choices) is not list or len(choices) != 1 or type(choices[0]) is not dict:
            return False
        if chunk.get("service_tier") != self.tier or not _BESIDE_CHOICES.isdisjoint(chunk):
            return False
        choice, delta = choices[0], choices[0].get("delta")
        if choice.get("index") != 0 or choice.get("finish_reason") or choice.get("logprobs") or choice.get("error"):
            return False
        if type(delta) is not dict or not delta.keys() <= _OF_TEXT or type(delta.get("content")) is not str:
            return False
        self.texts.append(delta["content"])
        return True

    def _add_choice(self, choice: JsonObject) -> None:
        finish_reason = choice.get("finish_reason")
        if finish_reason:
            self.finish_reason = required(finish_reason, "`finish_reason`")
        if logprobs := choice.get("logprobs"):
            self.logprobs += objects(mapping(logprobs).get("content"))
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            if delta is not None:
                raise unexpected(delta, "`delta`", "an object")
            return
        if (content := delta.get("content")) is not None:
            self.texts.append(_text(content, "`content`"))
            if type(content) is list:
                self._add_reasoning("content", "".join(map(reasoning_of_part, objects(content))))
        for field_name in REASONING_FIELDS:
            if (found := delta.get(field_name)) is not None:
                self._add_reasoning(field_name, found)
        if (refusal := delta.get("refusal")) is not None:
            self.refusals.append(_text(refusal, "`refusal`"))
        if annotations := delta.get("annotations"):
            self.annotations += objects(cleaned(annotations))
        if context := delta.get("context"):
            self.sources["context"] = cleaned(mapping(context))
        if calls := delta.get("tool_calls"):
            for position, call in enumerate(members(calls, "`tool_calls`")):
                index = count(call.get("index"))
                self._add_call(call, position if index is None else index)
        self.calls_function = self.calls_function or bool(delta.get("function_call"))
        # `images` is OpenRouter's.
        self.has_more = self.has_more or bool(objects(delta.get("images")) or mapping(delta.get("audio")))

    def _add_reasoning(self, field_name: str, piece: object) -> None:
        if isinstance(piece, str):
            self.reasoning.setdefault(field_name, []).append(piece)

    def _add_call(self, piece: JsonObject, index: int) -> None:
        """Add a piece of a call: the arguments come in several pieces, everything else in the first."""
        function = piece.get("function")
        if not isinstance(function, dict):
            if function is not None:
                raise unexpected(function, "the function of a call", "an object")
            function = {}
        call = self.calls.setdefault(
            index, {**{key: value for key, value in piece.items() if key != "index"}, "function": {"arguments": ""}}
        )
        call["id"] = name(piece.get("id")) or call.get("id")
        call["function"] |= {key: value for key, value in function.items() if key != "arguments" and value}
        call["function"]["arguments"] += arguments(function.get("arguments"))

    def reply(
        self,
        on_ids: OnIds,
        added: Sequence[JsonObject],
        parameters: JsonObject,
        keep: frozenset[str] = frozenset(),
        raw: object = None,
    ) -> Reply:
        """Return the reply, when no chunk is left.

        Args:
            added: the messages that this completion answers, without the history before them.
            parameters: the model parameters of the completion.
            keep: see `extras_of`.
            raw: the whole reply.

        Raises:
            ServiceFault: the stream ended early (without a finish reason nothing shows that the answer is complete), or
                the model calls a function by `function_call`.
        """
        if self.finish_reason is None and not self.in_one_piece:
            raise ConnectionLost("the stream ended before the answer did", error_type="connection_error")
        tier = tier_of(self.tier, parameters.get("service_tier"))
        usage = usage_of_tokens(self.usage, tier)
        reason = meaning_of(self.finish_reason)
        if reason == BROKEN:
            broken = f"the service broke off the answer (finish reason {self.finish_reason:.80})"
            raise ServerFault(broken, error_type="server_error", run_ended=True, usage=usage)
        on_ids(None, self.id, with_reply=True)
        whole, refusal = whole_text("".join(self.texts)), whole_text("".join(self.refusals))
        answer, thought = split_thought(whole)
        carries = keep or thought or tier or self.reasoning or self.annotations or self.sources
        extras = self._extras(keep, thought, len(whole) - len(answer), tier, raw) if carries else None
        if self.calls:
            with Billed(usage):
                calls = [_call_message(self.calls[index], index) for index in sorted(self.calls)]
            requested = tuple(
                ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls
            )
            message = {"role": "assistant", "content": answer or None, **self._sent_back(), "tool_calls": calls}
            return Reply(
                "requires_action", answer, usage, self.model, calls=requested, history=(*added, message), extras=extras
            )
        if self.calls_function:
            raise needs_tools(usage)
        history = (*added, {"role": "assistant", "content": answer + refusal})
        if reason is not None and not refusal:
            return Reply("incomplete", answer, usage, self.model, reason, history=history, extras=extras)
        status, reason = end_of_completed(
            answer + refusal,
            usage,
            refused=bool(refusal),
            parameters=parameters if self.finish_reason is None else None,
            more=self.has_more,
        )
        return Reply(status, answer + refusal, usage, self.model, reason, history=history, extras=extras)

    def _extras(self, keep: frozenset[str], thought: str, cut: int, tier: str | None, raw: object) -> JsonObject | None:
        """Return what the completion carried.

        Args:
            thought: from the beginning of the text.
            cut: characters that were removed with it.
        """
        apart = ("".join(pieces) for pieces in self.reasoning.values())
        return extras_of(
            keep,
            citations=citations_of_completion(self.annotations, self.sources, cut)
            if self.annotations or self.sources
            else (),
            # Some servers send the same text in two fields.
            reasoning=(next(filter(None, apart), ""), thought) if self.reasoning or thought else (),
            tier=tier,
            reported_tier=self.tier,
            logprobs=self.logprobs,
            raw=raw,
        )

    def _sent_back(self) -> JsonDict:
        """Return the reasoning that goes back with the calls: DeepSeek refuses calls that come back without it."""
        field_name = REASONING_FIELDS[0]
        return {field_name: "".join(self.reasoning[field_name])} if field_name in self.reasoning else {}


def _call_message(pieces: JsonObject, index: int) -> JsonDict:
    """Return a call in the form in which it is sent back with its output.

    The id connects the two. Some servers give none, so one is made up.
    """
    call: JsonDict = {**cleaned(pieces), "type": "function", "id": name(pieces.get("id")) or f"call_{index}"}
    required(call["function"].get("name"), "the name of a called function")
    call["function"]["arguments"] = call["function"]["arguments"] or "{}"
    return call


def _text(content: object, field_name: str) -> str:
    """Return a message's text. Some servers (Mistral) send it in parts, which need not all be text."""
    if isinstance(content, str):
        return content
    parts = members(content, field_name)
    return "".join(
        text(part.get("text"), field_name) for part in parts if required(part.get("type"), field_name) == "text"
    )
