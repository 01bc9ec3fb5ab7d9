"""Reads the runs and messages of the Assistants protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from batchrun.engine.service import Reply
from batchrun.errors import BatchRefused, TransientFault
from batchrun.records import JsonObject, ToolCall
from batchrun.services.finish_reason import CUT, end_of_completed, meaning_of
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
from batchrun.token_usage import Usage

__all__ = [
    "ENDED",
    "TERMINAL",
    "has_text_only",
    "id_of",
    "ids_of",
    "is_by_assistant",
    "is_created_with",
    "is_of_run",
    "message_text",
    "reply_of_run",
    "status_of",
]

TERMINAL = frozenset({"cancelled", "failed", "completed", "incomplete", "expired"})
"""States in which a run has ended for good."""
ENDED = TERMINAL | {"requires_action"}
"""States in which a run does not continue by itself: it has ended, or waits for the outputs of functions."""
STATUSES = ENDED | {"queued", "in_progress", "cancelling"}
"""All states of a run."""


def id_of(body: JsonObject, field: str = "id") -> str:
    """Return the id in a field of an object.

    Raises:
        PermanentFault: the field is missing: the server does not speak this protocol.
    """
    found = name(body.get(field))
    if found is None:
        raise bad_reply(repr(field), body, "Assistants", ())
    return found


def ids_of(run: JsonObject) -> tuple[str, str]:
    """Return (thread id, run id). Raises as `id_of` does."""
    return id_of(run, "thread_id"), id_of(run)


def status_of(run: JsonObject) -> str:
    """Return the status of a run.

    Raises:
        PermanentFault: the protocol has no such status, so nobody knows whether the run continues.
    """
    status = run.get("status")
    if status is None:
        raise bad_reply("'status'", run, "Assistants", ())
    if not isinstance(status, str) or status not in STATUSES:
        raise unexpected(status, "the run's `status`", "one of the protocol's")
    return status


def is_created_with(run: JsonObject, metadata: Mapping[str, str]) -> bool:
    """Return whether a run has this metadata, and therefore belongs to one attempt of one row of one batch."""
    found = mapping(run.get("metadata"))
    return all(found.get(key) == value for key, value in metadata.items())


def reply_of_run(
    run: JsonObject,
    messages: Sequence[JsonObject],
    usage: Usage,
    *,
    parameters: JsonObject,
    secrets: tuple[str, ...],
) -> Reply:
    """Return how a run ended, or what it waits for, without the files that are not in its messages.

    Args:
        messages: the assistant's messages of the run, oldest first, without thoughts in their texts.
        parameters: the model parameters of the run.
        secrets: strings that must not appear in any message.

    Raises:
        ServiceFault: the run failed in a way that another run may cure, or that concerns the whole batch.
    """
    model, status = name(run.get("model")), status_of(run)
    response = "\n\n".join([message_text(message) for message in messages])
    if status == "requires_action":
        return Reply("requires_action", response, calls=_calls_of(run), waiting=True, model=model)
    if status == "failed" or (status == "completed" and run.get("last_error")):
        failure = mapping(run.get("last_error"))
        error = name(failure.get("message")) or "the run failed"
        fault = fault_of_failed_run(name(failure.get("code")), error, usage, secrets)
        if isinstance(fault, TransientFault | BatchRefused):
            raise fault
        return Reply("failed", response, usage, model, fault.error_type, str(fault))
    is_cut = name(mapping(run.get("incomplete_details")).get("reason")) is not None
    is_cut = is_cut or any(message.get("status") == "incomplete" for message in messages)
    if status == "incomplete" or (status == "completed" and is_cut):
        return Reply("incomplete", response, usage, model, _reason_of(run, messages))
    if status != "completed":
        ended_as: Literal["cancelled", "expired"] = "cancelled" if status == "cancelled" else "expired"
        return Reply(ended_as, response, usage, model, f"run_{status}", f"the run ended as {status}")
    end, why = end_of_completed(
        response,
        usage,
        refused=any(part.get("type") == "refusal" for message in messages for part in objects(message.get("content"))),
        parameters=parameters if not run.get("incomplete_details") else None,
    )
    return Reply(end, response, usage, model, why)


def _reason_of(run: JsonObject, messages: Sequence[JsonObject]) -> str:
    """Return why a run is incomplete. If the run names no reason, its last message may: a filter, for example."""
    for each in (run, *reversed(messages)):
        reason = name(mapping(each.get("incomplete_details")).get("reason"))
        if reason is not None:
            return CUT if meaning_of(reason) == CUT else reason
    return "incomplete"


def _calls_of(run: JsonObject) -> tuple[ToolCall, ...]:
    """Return the functions whose outputs a run waits for."""
    action = mapping(mapping(run.get("required_action")).get("submit_tool_outputs"))
    calls = members(action.get("tool_calls"), "`tool_calls`")
    if not calls:
        raise unexpected(None, "`tool_calls` of a run that waits for them", "a list")
    return tuple(
        ToolCall(
            required(call.get("id"), "the `id` of a call"),
            required(mapping(call.get("function")).get("name"), "the name of a called function"),
            whole_text(arguments(mapping(call.get("function")).get("arguments"))) or "{}",
        )
        for call in calls
    )


# -- messages ---------------------------------------------------------------------------------------------------


def is_by_assistant(message: JsonObject) -> bool:
    """Return whether the assistant wrote a message."""
    return required(message.get("role"), "the role of a message") == "assistant"


def is_of_run(message: JsonObject, run_id: str | None) -> bool:
    """Return whether a message belongs to a run. A server may not know the filter of the list, which then has the
    answers of earlier runs on the thread, too.

    Args:
        run_id: None if it is not known yet.
    """
    return run_id is None or name(message.get("run_id")) in (None, run_id)


def has_text_only(messages: Sequence[JsonObject]) -> bool:
    """Return whether messages have nothing but text: no annotations, images or refusals."""
    for message in messages:
        for part in objects(message.get("content")):
            if part.get("type") != "text" or mapping(part.get("text")).get("annotations"):
                return False
    return True


def message_text(message: JsonObject) -> str:
    """Return the text of a message: its text and refusal parts, one per line; an image as `[image file-…]`.

    `batchrun.services.files.produced` counts the characters of these texts for the positions of citations.
    """
    lines = []
    for part in members(message.get("content"), "the content of a message"):
        kind = required(part.get("type"), "the type of a message part")
        if kind == "text":
            lines.append(text(_inner(part, "text").get("value"), "the text of a message"))
        elif kind == "refusal":
            lines.append(text(part.get("refusal"), "a refusal"))
        elif kind == "image_file":
            lines.append(f"[image {required(_inner(part, 'image_file').get('file_id'), 'the `file_id` of an image')}]")
    return whole_text("\n".join(lines))


def _inner(part: JsonObject, field: str) -> JsonObject:
    """Return the object in a field of a message part; an empty one for null."""
    found = part.get(field)
    if found is not None and not isinstance(found, dict):
        raise unexpected(found, f"`{field}` of a message", "an object")
    return mapping(found)
