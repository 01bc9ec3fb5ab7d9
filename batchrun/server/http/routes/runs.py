"""The operations of /threads/runs and /threads/{thread_id}/runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batchrun.server.errors import (
    bad_value,
    busy_thread,
    forgotten_events,
    refused_outputs,
    uncancellable,
    wrong_outputs,
)
from batchrun.server.execution.run_states import TRANSITIONS
from batchrun.server.execution.run_writer import opening_frames
from batchrun.server.http.endpoint import operation
from batchrun.server.http.routes.messages import active_run, add_messages
from batchrun.server.http.routes.resources import resources_body, usable_resources, wants_contents
from batchrun.server.http.routes.threads import add_thread
from batchrun.server.protocol.metadata import merged_metadata
from batchrun.server.protocol.objects import new_run
from batchrun.server.protocol.requests.runs import CreateRun, CreateThreadAndRun, RunOptions, SubmitToolOutputs
from batchrun.server.protocol.requests.threads import CreateThread, UpdateMetadata
from batchrun.server.replies.encoding import dumps
from batchrun.server.replies.event_log import EventLog
from batchrun.server.replies.replies import HttpReply, Json, Stream, json_reply
from batchrun.server.responders.base import answering_model
from batchrun.server.store.kinds import ASSISTANT, RUN, THREAD

if TYPE_CHECKING:
    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body, RunBody
    from batchrun.server.store.hidden import RunHidden

__all__ = ["OPERATIONS"]


def create_thread_and_run(call: Call, request: CreateThreadAndRun) -> HttpReply:
    assistant = call.objects.get(ASSISTANT, call.owner, request.assistant_id)
    thread = add_thread(call, request.thread or CreateThread())
    run = new_run(
        request,
        assistant,
        thread["id"],
        model=_model(call, request, assistant),
        additional_instructions=None,
        now=call.parts.now(),
        timeout_s=call.parts.settings.run_timeout_s,
    )
    own = request.tool_resources
    resources = assistant["tool_resources"] if own is None else resources_body(call, own)
    effort = request.reasoning_effort or assistant.get("reasoning_effort")
    return _started(call, run, thread, resources, effort, stream=bool(request.stream))


def create_run(call: Call, request: CreateRun) -> HttpReply:
    thread_id = call.path["thread_id"]
    call.objects.get(THREAD, call.owner, thread_id)
    assistant = call.objects.get(ASSISTANT, call.owner, request.assistant_id)
    active = active_run(call, thread_id)
    if active is not None:
        raise busy_thread(thread_id, active)
    add_messages(call, thread_id, request.additional_messages or [])
    run = new_run(
        request,
        assistant,
        thread_id,
        model=_model(call, request, assistant),
        additional_instructions=request.additional_instructions,
        now=call.parts.now(),
        timeout_s=call.parts.settings.run_timeout_s,
    )
    effort = request.reasoning_effort or assistant.get("reasoning_effort")
    return _started(call, run, None, assistant["tool_resources"], effort, stream=bool(request.stream))


def _model(call: Call, request: RunOptions, assistant: Body) -> str:
    """Return the name of the model that answers."""
    return answering_model(call.parts.responder, request.model or assistant["model"])


def _started(
    call: Call, run: RunBody, thread: Body | None, resources: Body, effort: str | None, *, stream: bool
) -> HttpReply:
    """Store the run, execute it after the commit, and return its events or the queued run."""
    hidden: RunHidden = {
        "attempt": 1,
        "segment": 0,
        "creates_thread": thread is not None,
        "resources": usable_resources(resources),
    }
    if wants_contents(call):
        hidden["with_contents"] = True
    if effort is not None:
        hidden["parameters"] = {"reasoning_effort": effort}
    text = dumps(run)
    call.objects.add(
        RUN, call.owner, run, parent=run["thread_id"], status="queued", active=True, hidden=hidden, text=text
    )
    log = EventLog(run["id"], 0, opening_frames(run, thread, text))
    call.after.append(partial(call.core.runs.launch, call.owner, run, hidden, log))
    return Stream(log=log) if stream else Json(text=text)


def list_runs(call: Call) -> Json:
    thread_id = call.path["thread_id"]
    call.objects.get(THREAD, call.owner, thread_id)
    return Json(text=call.objects.page(RUN, call.owner, call.page(), parent=thread_id))


def find_run(call: Call) -> RunBody:
    """Return the run that the path names.

    Raises:
        ApiError: 404: there is no such thread or run.
    """
    thread_id = call.path["thread_id"]
    call.objects.get(THREAD, call.owner, thread_id)
    return call.objects.get(RUN, call.owner, call.path["run_id"], parent=thread_id)


def retrieve_run(call: Call) -> Json:
    reply = json_reply(find_run(call))
    reply.headers["openai-poll-after-ms"] = str(call.parts.settings.poll_after_ms)
    return reply


def update_run(call: Call, request: UpdateMetadata) -> Json:
    run = find_run(call)
    run["metadata"] = merged_metadata(run["metadata"], request.metadata)
    call.core.runs.change_metadata(call.owner, run)
    return json_reply(run)


def cancel_run(call: Call) -> Json:
    run = find_run(call)
    if (run["status"], "cancel") not in TRANSITIONS:
        raise uncancellable(run["status"])
    writer = call.core.runs.cancel(call.owner, run)
    call.after.append(partial(call.core.runs.stop, writer))
    return json_reply(writer.run)


def submit_tool_outputs(call: Call, request: SubmitToolOutputs) -> HttpReply:
    run = find_run(call)
    if (run["status"], "submit") not in TRANSITIONS:
        raise refused_outputs(run["status"])
    action = run["required_action"]
    assert action is not None
    expected = [each["id"] for each in action["submit_tool_outputs"]["tool_calls"]]
    got = [each.tool_call_id for each in request.tool_outputs]
    if sorted(expected) != sorted(got):
        raise wrong_outputs(expected, got)
    outputs = {each.tool_call_id: each.output for each in request.tool_outputs}
    writer = call.core.runs.resume(call.owner, run, outputs)
    call.after.append(partial(call.core.runs.proceed, writer))
    return Stream(log=writer.log) if request.stream else json_reply(writer.run)


def follow_run(call: Call) -> Stream:
    """Return a run's events from a position on, during the run and for `retention_s` after it.

    The hosted API does not have this operation. Every event has an `id: <attempt>.<number>`; `after=<id>`, or the
    header `Last-Event-ID`, requests the events that follow. A plain number counts the events of the first attempt. A
    run that the server started again has a new attempt; a position of an earlier attempt means its start.
    """
    run = find_run(call)
    attempt = call.objects.run_hidden(run["id"]).get("attempt", 1)
    position = _position(call.one("after") or call.last_event_id or "0", attempt)
    live = call.core.runs.live.get(run["id"])
    stored = call.parts.replies.all_events(run["id"])
    if live is not None:
        log = live.writer.log
        before = [event for segment, events in stored for event in events if segment < log.segment]
    else:
        if not stored:
            raise forgotten_events(run["id"])
        log = EventLog(run["id"], stored[-1][0])
        log.close()
        before = [event for _, events in stored for event in events]
    return Stream(log=log, before=before, skip=position, numbered=f"{attempt}.")


def _position(text: str, attempt: int) -> int:
    attempt_text, _, number = text.rpartition(".")
    if not number.isascii() or not number.isdigit() or not (attempt_text or "1").isdigit() or len(text) > 20:
        raise bad_value("after", f"Invalid 'after': expected an event id such as '1.7', but got '{text}'.")
    return int(number) if int(attempt_text or 1) == attempt else 0


OPERATIONS = (
    operation("POST", "/threads/runs", create_thread_and_run, CreateThreadAndRun),
    operation("GET", "/threads/{thread_id}/runs/{run_id}", retrieve_run),
    operation("POST", "/threads/{thread_id}/runs", create_run, CreateRun),
    operation("GET", "/threads/{thread_id}/runs", list_runs),
    operation("POST", "/threads/{thread_id}/runs/{run_id}", update_run, UpdateMetadata),
    operation("POST", "/threads/{thread_id}/runs/{run_id}/cancel", cancel_run),
    operation("POST", "/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", submit_tool_outputs, SubmitToolOutputs),
    operation("GET", "/threads/{thread_id}/runs/{run_id}/events", follow_run),
)
