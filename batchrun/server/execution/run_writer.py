"""The writes of one run: its states, messages and steps, in the file and in its event log.

Every method is synchronous and makes one transaction. Its events are published after the commit, so that no
client ever sees a state that a restart could undo.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from batchrun.server.execution.call_steps import CallStep, call_body, opened, with_contents
from batchrun.server.execution.run_states import ACTIVE, RunEvent, advance
from batchrun.server.protocol.bodies import Body, MessageBody, RunBody, RunStatus, StepBody
from batchrun.server.protocol.objects import assistant_message, new_step, usage_body
from batchrun.server.replies.encoding import dumps, frame, frame_text
from batchrun.server.responders.base import TokenCount
from batchrun.server.store.kinds import MESSAGE, STEP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchrun.server.clock import Clock
    from batchrun.server.execution.call_steps import CallKind
    from batchrun.server.replies.event_log import EventLog
    from batchrun.server.responders.base import ToolCall, ToolCallDelta
    from batchrun.server.store import Database, Objects, Replies
    from batchrun.server.store.hidden import RunHidden, StepHidden, TokenCountJson

__all__ = ["RunWriter", "opening_frames", "resuming_frames"]

StepEnd: TypeAlias = Literal["completed", "failed", "cancelled", "expired"]

_MESSAGE_REASONS = {
    "cancelled": "run_cancelled",
    "expired": "run_expired",
    "failed": "run_failed",
    "incomplete": "max_tokens",
}
_STEP_ENDS: dict[str, StepEnd] = {
    "cancelled": "cancelled",
    "expired": "expired",
    "failed": "failed",
    "incomplete": "completed",
}
_CALL_STEP_ENDS: Mapping[RunStatus, StepEnd] = {
    "cancelled": "cancelled",
    "expired": "expired",
    "failed": "failed",
    # The answer ended in the middle of its calls, so they are not made.
    "completed": "cancelled",
    "incomplete": "cancelled",
}
_STEP_TIMES: Mapping[StepEnd, Literal["completed_at", "failed_at", "cancelled_at", "expired_at"]] = {
    "completed": "completed_at",
    "failed": "failed_at",
    "cancelled": "cancelled_at",
    "expired": "expired_at",
}
_RUN_TIMES: Mapping[RunStatus, Literal["completed_at", "failed_at", "cancelled_at"]] = {
    "completed": "completed_at",
    "failed": "failed_at",
    "cancelled": "cancelled_at",
}


def opening_frames(run: RunBody, thread: Body | None, text: str | None = None) -> list[bytes]:
    """Return the events of a run's creation; `thread` is given if the same request created it."""
    text = text or dumps(run)
    frames = [] if thread is None else [frame("thread.created", thread)]
    return [*frames, frame_text("thread.run.created", text), frame_text("thread.run.queued", text)]


def resuming_frames(run: RunBody, steps: Sequence[StepBody]) -> list[bytes]:
    """Return the events of a submission: the step that now has its outputs, and the run, queued again."""
    return [*(frame("thread.run.step.completed", step) for step in steps), frame("thread.run.queued", run)]


@dataclass(slots=True)
class RunWriter:
    """A run that is being executed, with its open message and steps.

    Mutable state: everything but the server's parts and `owner`.

    Attributes:
        run: the run as clients see it.
        hidden: what only the server knows of the run.
        usage: tokens of all answers of this run so far.
    """

    database: Database
    objects: Objects
    replies: Replies
    clock: Clock
    owner: str
    run: RunBody
    hidden: RunHidden
    log: EventLog
    usage: TokenCount = field(default_factory=lambda: TokenCount(0, 0))
    _message: MessageBody | None = None
    _step: StepBody | None = None
    _text: list[str] = field(default_factory=list)
    _delta_head: str = ""
    _refusal: bool = False
    _functions: CallStep | None = None
    _hosted: CallStep | None = None

    @property
    def status(self) -> RunStatus:
        """The run's current status."""
        return self.run["status"]

    def _now(self) -> int:
        return int(self.clock.now())

    def save(self) -> str:
        """Write the run, inside a transaction, and return its JSON text."""
        status, text = self.run["status"], dumps(self.run)
        self.objects.save(self.run, status=status, active=status in ACTIVE, text=text)
        return text

    def begin(self) -> None:
        """queued → in_progress."""
        self.run["status"] = advance(self.run["status"], "start")
        if self.run["started_at"] is None:
            self.run["started_at"] = self._now()
        with self.database.transaction():
            text = self.save()
        self.log.append(frame_text("thread.run.in_progress", text))

    # Messages

    def delta(self, text: str, refusal: bool) -> None:
        """Append a piece of the answer's text, or of its refusal. The first piece opens the message and its step."""
        if self._message is None:
            self.open_message(refusal=refusal)
        self._text.append(text)
        tail = _REFUSAL_TAIL if self._refusal else _DELTA_TAIL if len(self._text) > 1 else _FIRST_DELTA_TAIL
        self.log.append(frame_text("thread.message.delta", f"{self._delta_head}{dumps(text)}{tail}"))

    def open_message(self, *, refusal: bool = False) -> None:
        """Begin a message, a text or a refusal, and the step that reports it."""
        now = self._now()
        message = assistant_message(self.run, now)
        details = {"type": "message_creation", "message_creation": {"message_id": message["id"]}}
        step = new_step(self.run, details, now)
        text, step_text = dumps(message), dumps(step)
        with self.database.transaction():
            self._add_step(step, text=step_text)
            self.objects.add(
                MESSAGE,
                self.owner,
                message,
                parent=self.run["thread_id"],
                run=self.run["id"],
                status="in_progress",
                text=text,
            )
        self._message, self._step, self._refusal = message, step, refusal
        self._delta_head = (
            f'{{"id":"{message["id"]}","object":"thread.message.delta","delta":{{"content":[{{"index":0,'
            + ('"type":"refusal","refusal":' if refusal else '"type":"text","text":{"value":')
        )
        self.log.append(
            *opened(step_text),
            frame_text("thread.message.created", text),
            frame_text("thread.message.in_progress", text),
        )

    def close_message(self, usage: TokenCount | None, annotations: Sequence[Body] = ()) -> None:
        """Complete the open message of a run that continues. The usage of text before calls belongs to their step."""
        with self.database.transaction():
            frames = self._end_message("completed", usage, annotations)
        self.log.append(*frames)

    def _end_message(self, end: str, usage: TokenCount | None = None, annotations: Sequence[Body] = ()) -> list[bytes]:
        """End the open message and its step, inside a transaction, and return the events."""
        message, step = self._message, self._step
        if message is None or step is None:
            return []
        now = self._now()
        text = "".join(self._text)
        if text or end == "completed":
            message["content"] = [
                {"type": "refusal", "refusal": text}
                if self._refusal
                else {"type": "text", "text": {"value": text, "annotations": list(annotations)}}
            ]
        if end == "completed":
            message["status"], message["completed_at"] = "completed", now
        else:
            reason = "content_filter" if end == "content_filter" else _MESSAGE_REASONS[end]
            message["status"], message["incomplete_at"] = "incomplete", now
            message["incomplete_details"] = {"reason": reason}
        content = dumps(message)
        self.objects.save(message, status=message["status"], text=content)
        frames = [frame_text(f"thread.message.{message['status']}", content)]
        frames += self._end_step(step, _STEP_ENDS.get(end, "completed"), usage)
        self._message = self._step = None
        self._text = []
        return frames

    # Steps

    def _add_step(self, step: StepBody, hidden: StepHidden | None = None, text: str | None = None) -> None:
        self.objects.add(STEP, self.owner, step, parent=self.run["id"], status="in_progress", hidden=hidden, text=text)

    def _end_step(
        self, step: StepBody, end: StepEnd, usage: TokenCount | None, hidden: StepHidden | None = None
    ) -> list[bytes]:
        step["status"] = end
        step[_STEP_TIMES[end]] = self._now()
        if end == "failed" and self.run["last_error"] is not None:
            error = self.run["last_error"]
            code = error["code"] if error["code"] == "rate_limit_exceeded" else "server_error"
            step["last_error"] = {"code": code, "message": error["message"]}
        if usage is not None:
            step["usage"] = usage_body(usage)
        text = dumps(step)
        self.objects.save(step, status=end, hidden=hidden, text=text)
        return [frame_text(f"thread.run.step.{end}", text)]

    def call_delta(self, delta: ToolCallDelta, kind: CallKind) -> None:
        """Append a piece of a tool call. The first one completes the open message, and opens the step of the calls."""
        step = self._functions if kind == "function" else self._hosted
        if step is None:
            step = self._open_calls(kind)
        self.log.append(*step.take(delta, kind))

    def _open_calls(self, kind: CallKind) -> CallStep:
        """Begin a step of tool calls: those of functions have their own, which waits for the client's outputs."""
        step = CallStep(new_step(self.run, {"type": "tool_calls", "tool_calls": []}, self._now()))
        self.hidden["tool_steps"] = True
        with self.database.transaction():
            frames = self._end_message("completed")
            self._add_step(step.step)
        if kind == "function":
            self._functions = step
        else:
            self._hosted = step
        self.log.append(*frames, *step.opened())
        return step

    def require_action(self, calls: Sequence[ToolCall], usage: TokenCount) -> None:
        """in_progress → requires_action: the client must call these functions."""
        assert self._functions is not None
        step, self._functions = self._functions.step, None
        bodies = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
        step["step_details"]["tool_calls"] = [
            call_body("function", call.id, call.name, call.arguments) for call in calls
        ]
        self.run["status"] = advance(self.run["status"], "call")
        self.run["required_action"] = {
            "type": "submit_tool_outputs",
            "submit_tool_outputs": {"tool_calls": bodies},
        }
        frames = [frame("thread.run.requires_action", self.run)]
        self.hidden["usage"] = _count_json(self.usage)
        with self.database.transaction():
            self.objects.save(step, status="in_progress", hidden={"usage": _count_json(usage)})
            self.objects.save(self.run, status="requires_action", active=True, hidden=self.hidden)
            self._keep_events(frames)
        self.log.append(*frames)
        self.log.close()

    def show_result(self, call: Body) -> None:
        """Publish the result of a hosted call. It is stored when its step ends."""
        assert self._hosted is not None
        self.log.append(*self._hosted.show_result(call))

    def end_tools(self, calls: Sequence[Body], hidden: StepHidden, usage: TokenCount) -> None:
        """Complete the step of hosted tools with its results; the run continues."""
        assert self._hosted is not None
        step, self._hosted = self._hosted.step, None
        step["step_details"]["tool_calls"] = list(calls)
        self.hidden["usage"] = _count_json(self.usage)
        with self.database.transaction():
            frames = self._end_step(step, "completed", usage, hidden)
            if self.hidden.get("with_contents"):
                frames = [frame("thread.run.step.completed", with_contents(step, hidden))]
            self.objects.save(self.run, status=self.status, active=True, hidden=self.hidden)
        self.log.append(*frames)

    def annotate(self, annotations: Sequence[Body]) -> None:
        """Publish the annotations of the open message. They are stored when it ends."""
        numbered = [{"index": index, **each} for index, each in enumerate(annotations)]
        part = {"index": 0, "type": "text", "text": {"value": "", "annotations": numbered}}
        if self._message is not None and numbered:
            data = {"id": self._message["id"], "object": "thread.message.delta", "delta": {"content": [part]}}
            self.log.append(frame("thread.message.delta", data))

    def accept_outputs(self, outputs: Mapping[str, str]) -> None:
        """requires_action → queued, with the functions' outputs, inside the request's transaction."""
        frames: list[bytes] = []
        for step in self.objects.children(self.owner, STEP, self.run["id"]):
            if step["status"] != "in_progress":
                continue
            for call in step["step_details"]["tool_calls"]:
                call["function"]["output"] = outputs[call["id"]]
            usage = TokenCount(**self.objects.step_hidden(step["id"])["usage"])
            frames += self._end_step(step, "completed", usage)
        self.run["status"] = advance(self.run["status"], "submit")
        self.run["required_action"] = None
        self.hidden["segment"] = self.log.segment
        self.objects.save(self.run, status="queued", active=True, hidden=self.hidden)
        self.log.append(*frames, *resuming_frames(self.run, ()))

    # Ends

    def complete(self, usage: TokenCount, annotations: Sequence[Body] = ()) -> None:
        """in_progress → completed, with the open message."""
        self._finish("complete", "completed", usage, annotations)

    def fail(self, code: str, message: str) -> None:
        """→ failed, with `last_error`."""
        self.run["last_error"] = {"code": code, "message": message}
        self._finish("fail", "failed")

    def cut(self, reason: str, usage: TokenCount | None, annotations: Sequence[Body] = ()) -> None:
        """in_progress → incomplete; the reason is `max_completion_tokens`, `max_prompt_tokens` or `content_filter`."""
        # The SDK's Run does not have the reason "content_filter"; the message's details give it.
        self.run["incomplete_details"] = {"reason": None if reason == "content_filter" else reason}
        message_end = "content_filter" if reason == "content_filter" else "incomplete"
        self._finish("cut", message_end, usage, annotations)

    def cancelling(self) -> None:
        """→ cancelling, inside the request's transaction; the task is stopped afterwards."""
        self.run["status"] = advance(self.run["status"], "cancel")
        self.save()

    def publish_cancelling(self) -> None:
        """Publish the cancellation, after the commit."""
        self.log.append(frame("thread.run.cancelling", self.run))

    def cancelled(self) -> None:
        """cancelling → cancelled."""
        self._finish("stop", "cancelled")

    def expire(self) -> None:
        """→ expired."""
        self._finish("expire", "expired")

    def _finish(
        self,
        event: RunEvent,
        message_end: str,
        usage: TokenCount | None = None,
        annotations: Sequence[Body] = (),
    ) -> None:
        run = self.run
        run["status"] = advance(run["status"], event)
        time_key = _RUN_TIMES.get(run["status"])
        if time_key is not None:
            run[time_key] = self._now()
        if run["status"] != "expired":
            run["expires_at"] = None
        run["required_action"] = None
        run["usage"] = usage_body(self.usage)
        with self.database.transaction():
            frames = self._end_message(message_end, usage, annotations)
            frames += self._end_open_steps()
            frames.append(frame_text(f"thread.run.{run['status']}", self.save()))
            self._keep_events(frames)
        self.log.append(*frames)
        self.log.close()

    def _end_open_steps(self) -> list[bytes]:
        """End the steps whose calls are being written or made, or wait for outputs, together with the run."""
        end = _CALL_STEP_ENDS[self.run["status"]]
        frames: list[bytes] = []
        for open_step in (self._functions, self._hosted):
            if open_step is not None:
                open_step.step["step_details"]["tool_calls"] = open_step.written()
                frames += self._end_step(open_step.step, end, None)
        self._functions = self._hosted = None
        if self.run["status"] in ("completed", "incomplete") or not self.hidden.get("tool_steps"):
            return frames
        for step in self.objects.children(self.owner, STEP, self.run["id"]):
            if step["status"] == "in_progress":
                frames += self._end_step(step, end, None)
        return frames

    def _keep_events(self, more: Sequence[bytes]) -> None:
        self.replies.keep_events(
            self.log.stream, self.log.segment, b"".join((*self.log.frames, *more)), self.clock.now()
        )

    # Tools

    def add_usage(self, count: TokenCount) -> None:
        """Add the tokens of one more answer."""
        self.usage += count


_FIRST_DELTA_TAIL = ',"annotations":[]}}]}}'
_DELTA_TAIL = "}}]}}"
_REFUSAL_TAIL = "}]}}"


def _count_json(count: TokenCount) -> TokenCountJson:
    return {
        "prompt_tokens": count.prompt_tokens,
        "completion_tokens": count.completion_tokens,
        "cached_tokens": count.cached_tokens,
        "reasoning_tokens": count.reasoning_tokens,
    }
