"""Reads the responses and items of the Responses protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchrun.engine.service import Reply
from batchrun.errors import BatchRefused, PermanentFault, TransientFault
from batchrun.records import JsonObject, ToolCall
from batchrun.services.citations import citations_of_items, item_parts
from batchrun.services.files.produced import produced_in_items
from batchrun.services.finish_reason import CUT, end_of_completed, meaning_of
from batchrun.services.kept import extras_of, tier_of
from batchrun.services.reasoning import separated_items
from batchrun.services.reply_fields import (
    arguments,
    mapping,
    members,
    name,
    objects,
    required,
    text,
    unexpected,
    whole_text,
)
from batchrun.services.translation import bad_reply, fault_of_failed_run
from batchrun.services.usage import usage_of_response
from batchrun.token_usage import Usage

__all__ = [
    "TERMINAL",
    "answer_in",
    "extras_of_response",
    "reply_of_response",
    "status_of",
    "thread_id_of",
    "usage_in",
]

TERMINAL = frozenset({"completed", "failed", "incomplete", "cancelled"})
STATUSES = TERMINAL | {"queued", "in_progress"}

_OUR_CALLS = frozenset({"custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"})
"""Types of the calls that a client has to make. The service makes some of them itself, and then sends their output."""

_TEXT_FIELDS = {"output_text": "text", "refusal": "refusal"}
"""Type of a message part → its field with the text."""


def status_of(response: JsonObject) -> str:
    """Return the status, which the protocol allows a server to omit from a response that has ended.

    Raises:
        PermanentFault: the protocol has no such status, so nobody knows whether the response continues.
    """
    status = response.get("status")
    if status is None:
        return "failed" if response.get("error") else "completed"
    if not isinstance(status, str) or status not in STATUSES:
        raise unexpected(status, "`status`", "one of the protocol's")
    return status


def thread_id_of(response: JsonObject, response_id: str) -> str:
    """Return the id of the conversation, or of the response itself: `previous_response_id` continues its chain."""
    return name(mapping(response.get("conversation")).get("id")) or response_id


def usage_in(response: JsonObject, parameters: JsonObject) -> Usage:
    """Return the usage of a response, with the service tier that it was served in.

    Args:
        parameters: the model parameters of the response.
    """
    tier = tier_of(response.get("service_tier"), parameters.get("service_tier"))
    return usage_of_response(response.get("usage"), tier)


def extras_of_response(
    response: JsonObject,
    output: Sequence[JsonObject],
    reasoning: Sequence[str],
    parameters: JsonObject,
    keep: frozenset[str],
    *,
    with_files: bool,
) -> JsonObject | None:
    """Return what a response carried besides its text and files.

    Args:
        output: its output items, without thoughts in their texts.
        reasoning: its thoughts.
        parameters: the model parameters of the response.
        keep: see `extras_of`.
        with_files: the citations include the files that the response created.
    """
    parts = [part for _, part in item_parts(output)] if "logprobs" in keep else ()
    return extras_of(
        keep,
        citations=citations_of_items(output, with_files=with_files),
        reasoning=reasoning,
        tier=tier_of(response.get("service_tier"), parameters.get("service_tier")),
        reported_tier=response.get("service_tier"),
        logprobs=[token for part in parts for token in objects(part.get("logprobs"))],
        raw=response,
    )


def reply_of_response(
    response: JsonObject, usage: Usage, *, parameters: JsonObject, secrets: tuple[str, ...]
) -> tuple[Reply, Sequence[JsonObject], list[str]]:
    """Return (how a response ended; its output items without the thoughts in their texts; its reasoning).

    Args:
        parameters: the model parameters of the response.
        secrets: strings that must not appear in any message.

    Raises:
        ServiceFault: the response failed in a way that another one may cure, or that concerns the whole batch; or it
            cannot be understood.
    """
    model, status = name(response.get("model")), status_of(response)
    output, thoughts = separated_items(members(response.get("output"), "`output`"))
    answer, refused = _text_of(output)
    if status == "failed" or (status == "completed" and response.get("error")):
        failure = mapping(response.get("error"))
        error = name(failure.get("message")) or "the response failed"
        fault = fault_of_failed_run(name(failure.get("code")), error, usage, secrets)
        if isinstance(fault, TransientFault | BatchRefused):
            raise fault
        return Reply("failed", answer, usage, model, fault.error_type, str(fault)), output, thoughts
    if status == "cancelled":
        return Reply("cancelled", answer, usage, model, "run_cancelled", "the response was cancelled"), output, thoughts
    reason = name(mapping(response.get("incomplete_details")).get("reason"))
    # Some servers call every response completed, or give no status.
    if (
        status == "incomplete"
        or reason is not None
        or any(item.get("status") == "incomplete" for item in _messages(output))
    ):
        reason = CUT if meaning_of(reason) == CUT else reason or "incomplete"
        return Reply("incomplete", answer, usage, model, reason), output, thoughts
    if response.get("output") is None:
        raise bad_reply("output", response, "Responses", secrets)
    if (open_call := _open_call_in(output)) is not None:
        raise PermanentFault(
            f"the model waits for the output of a {open_call}, and batchrun makes calls of functions only",
            error_type="requires_action",
            run_ended=True,
            usage=usage,
        )
    if calls := _calls_in(output):
        return Reply("requires_action", answer, usage, model, calls=calls), output, thoughts
    waits = _waits_for_approval(output)
    end, why = end_of_completed(
        "" if waits else answer,
        usage,
        refused=refused,
        parameters=parameters if not response.get("incomplete_details") else None,
        more=bool(produced_in_items(output)) and not waits,
    )
    return Reply(end, answer, usage, model, why), output, thoughts


def answer_in(items: Sequence[JsonObject], keep: frozenset[str] = frozenset()) -> Reply | None:
    """Return the answer that a conversation already holds, or the functions that it asks for; None if it holds neither.

    The service created the response, and the reply that named it was lost. The items do not include its usage. What the
    row sent comes first and may hold answers and calls itself: it ends with a message of the user, or with the output
    of a function.
    """
    sent = [number for number, item in enumerate(items) if _is_sent(item)]
    before = items[sent[-1] + 1 :] if sent else items
    items, thoughts = separated_items(before)
    messages = [item for item in items if item.get("type") == "message" and item.get("role") == "assistant"]
    if calls := _calls_in(items):
        return Reply("requires_action", _text_of(messages)[0], calls=calls)
    if not messages or messages[-1].get("status") != "completed":
        return None
    answer, refused = _text_of(messages)
    status, reason = end_of_completed(answer, Usage(), refused=refused, more=bool(produced_in_items(items)))
    extras = extras_of(keep, citations=citations_of_items(items), reasoning=thoughts, raw={"items": before})
    return Reply(status, answer, reason=reason, extras=extras)


def _is_sent(item: JsonObject) -> bool:
    """Return whether an item is one that only the row sends, never the model."""
    if item.get("type") == "message":
        return item.get("role") != "assistant"
    return item.get("type") == "function_call_output"


def _calls_in(items: Iterable[JsonObject]) -> tuple[ToolCall, ...]:
    """Return the functions that a response asks for."""
    return tuple(
        ToolCall(
            required(item.get("call_id"), "the `call_id` of a call"),
            required(item.get("name"), "the name of a called function"),
            whole_text(arguments(item.get("arguments"))) or "{}",
        )
        for item in items
        if item.get("type") == "function_call"
    )


def _open_call_in(items: Sequence[JsonObject]) -> str | None:
    """Return the type of a call that only a client can make, other than that of a function; None for no such call."""
    made = {item.get("call_id") for item in items if str(item.get("type")).endswith("_output")}
    return next(
        (item["type"] for item in items if item.get("type") in _OUR_CALLS and item.get("call_id") not in made), None
    )


def _waits_for_approval(items: Iterable[JsonObject]) -> bool:
    """Return whether the model asks to be allowed an action. No one can allow it here, so its text is not an answer."""
    return any(item.get("type") == "mcp_approval_request" for item in items)


def _messages(items: Iterable[JsonObject]) -> list[JsonObject]:
    """Return the assistant's messages; a server may repeat those of the user among the items."""
    return [
        item
        for item in items
        if required(item.get("type"), "the type of an output item") == "message"
        and item.get("role") not in ("user", "system", "developer")
    ]


def _text_of(items: Iterable[JsonObject]) -> tuple[str, bool]:
    """Return (the text of the messages among the items, joined by a blank line; whether the model refused)."""
    texts, refused = [], False
    for item in _messages(items):
        lines = []
        for part in members(item.get("content"), "the content of a message"):
            kind = required(part.get("type"), "the type of a message part")
            if kind in _TEXT_FIELDS:
                lines.append(text(part.get(_TEXT_FIELDS[kind]), "a part of a message"))
                refused = refused or kind == "refusal"
        texts.append("\n".join(lines))
    return whole_text("\n\n".join(each for each in texts if each)), refused
