"""The execution of runs: start, cancellation, expiry, and restart with the server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from batchrun.server.errors import server_error
from batchrun.server.execution.answer import Answer, ask, check_format, unknown_function
from batchrun.server.execution.citations import citations
from batchrun.server.execution.conversation import run_conversation, truncated
from batchrun.server.execution.hosted_tools import (
    DEFAULT_RESULTS,
    HOSTED,
    MAX_ROUNDS,
    HostedTools,
    SearchOptions,
    ToolResult,
    hidden_calls,
    offered_tools,
)
from batchrun.server.execution.input_files import image_url
from batchrun.server.execution.run_writer import RunWriter, opening_frames, resuming_frames
from batchrun.server.execution.supervisor import Live, Supervisor
from batchrun.server.replies.event_log import EventLog
from batchrun.server.responders.base import Conversation, ResponderError, TokenCount
from batchrun.server.store.hidden import UsableResources
from batchrun.server.store.kinds import MESSAGE, RUN, STEP, THREAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body, RunBody, StepBody
    from batchrun.server.responders.base import ToolCallDelta
    from batchrun.server.store.hidden import RunHidden, StepHidden

__all__ = ["Runs"]


@dataclass(slots=True)
class LiveRun(Live):
    """A run that has a task."""

    writer: RunWriter


class Runs(Supervisor[LiveRun]):
    """Executes runs; at most `max_concurrent_runs` of them answer at once.

    Mutable state: `live`, and `_deadlines` (run id → `expires_at`, oldest first; all active runs, including those that
    wait for tool outputs).
    """

    noun = "run"
    expected = (ResponderError,)

    def __init__(self, parts: Parts, tools: HostedTools) -> None:
        super().__init__(parts)
        self._tools = tools
        self._database = parts.database
        self._objects = parts.objects
        self._replies = parts.replies
        self._clock = parts.clock
        self._deadlines: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Runs live={len(self.live)} active={len(self._deadlines)}>"

    # Starting

    def launch(self, owner: str, run: RunBody, hidden: RunHidden, log: EventLog) -> None:
        """Execute a queued run; `log` holds the earlier events of its segment."""
        self._deadlines.setdefault(run["id"], _deadline(run))
        self.start(LiveRun(log, self._writer(owner, run, hidden, log)))

    def _writer(self, owner: str, run: RunBody, hidden: RunHidden, log: EventLog) -> RunWriter:
        used = hidden.get("usage")
        return RunWriter(
            self._database,
            self._objects,
            self._replies,
            self._clock,
            owner,
            run,
            hidden,
            log,
            TokenCount(**used) if used else TokenCount(0, 0),
        )

    # Cancelling and expiring

    def cancel(self, owner: str, run: RunBody) -> RunWriter:
        """Set a run to cancelling. Call it inside the request's transaction, and `stop` after the commit."""
        live = self.live.get(run["id"])
        writer = live.writer if live is not None else self._idle(owner, run)
        writer.cancelling()
        return writer

    def stop(self, writer: RunWriter) -> None:
        """Stop the task of a cancelling run, which then ends as cancelled. Without a task the run ends here."""
        writer.publish_cancelling()
        live = self.live.get(writer.run["id"])
        if live is None:
            self._close(writer)
        else:
            live.scope.cancel()

    def resume(self, owner: str, run: RunBody, outputs: Mapping[str, str]) -> RunWriter:
        """Store the tool outputs of a run in requires_action, inside the request's transaction; then call `proceed`."""
        writer = self._idle(owner, run)
        writer.accept_outputs(outputs)
        return writer

    def proceed(self, writer: RunWriter) -> None:
        """Execute a resumed run. Call it after the commit."""
        self.launch(writer.owner, writer.run, writer.hidden, writer.log)

    def _idle(self, owner: str, run: RunBody) -> RunWriter:
        """Return a writer for a run without a task. Its next events form a new segment."""
        hidden = self._objects.run_hidden(run["id"])
        segment = hidden.get("segment", 0) + 1
        return self._writer(owner, run, hidden, EventLog(run["id"], segment))

    def _close(self, writer: RunWriter) -> None:
        writer.cancelled()
        self._deadlines.pop(writer.run["id"], None)

    def expire_due(self) -> None:
        """Expire every active run whose time is over. Before each request, so that no client sees a stale state."""
        now = self._clock.now()
        while self._deadlines:
            run_id = next(iter(self._deadlines))
            if self._deadlines[run_id] > now:
                return
            del self._deadlines[run_id]
            self._expire(run_id)

    def _expire(self, run_id: str) -> None:
        live = self.live.get(run_id)
        if live is None:
            owner = self._objects.owner(run_id)
            run = None if owner is None else self._objects.find(RUN, owner, run_id)
            if owner is not None and run is not None and run["status"] == "requires_action":
                self._idle(owner, run).expire()
        elif live.writer.status in ("queued", "in_progress"):
            live.writer.expire()
            live.scope.cancel()

    def change_metadata(self, owner: str, run: RunBody) -> None:
        """Store a run's new metadata, and change it in the live run too."""
        live = self.live.get(run["id"])
        if live is not None:
            live.writer.run["metadata"] = run["metadata"]
        self._writer(owner, run, {}, EventLog(run["id"], 0)).save()

    def forget_all(self, run_ids: list[str]) -> None:
        """Stop runs whose thread was deleted; nothing more is written about them."""
        for run_id in run_ids:
            self._deadlines.pop(run_id, None)
            self.forget(run_id)

    # Executing

    async def _answer(self, live: LiveRun) -> None:
        async with self._parts.slots:
            await self._write_answer(live.writer)

    def _settle(self, live: LiveRun, failure: BaseException | None) -> None:
        writer = live.writer
        if live.interrupted:
            return
        if writer.status == "cancelling":
            writer.cancelled()
        elif isinstance(failure, Exception) and writer.status in ("queued", "in_progress"):
            writer.fail(*_last_error(failure))
        if writer.status != "requires_action":
            self._deadlines.pop(writer.run["id"], None)

    async def _write_answer(self, writer: RunWriter) -> None:
        """Call the responder, again after each round of hosted tools, until the run ends or requires action."""
        writer.begin()
        for _ in range(MAX_ROUNDS):
            left = writer.run["max_completion_tokens"]
            if left is not None:
                left -= writer.usage.completion_tokens
                if left <= 0:
                    writer.cut("max_completion_tokens", None)
                    return
            conversation = self._conversation(writer, left)
            if conversation is None:
                writer.cut("max_prompt_tokens", None)
                return
            answer = await ask(
                self._parts.responder, conversation, writer.delta, partial(_take_call, writer, conversation)
            )
            writer.add_usage(answer.usage)
            self._parts.limits.charge(writer.owner, answer.usage.total_tokens)
            if not await self._run_hosted(writer, answer):
                self._conclude(writer, answer, conversation)
                return
        raise ResponderError(f"The model called hosted tools {MAX_ROUNDS} times without an answer.")

    async def _run_hosted(self, writer: RunWriter, answer: Answer) -> bool:
        """Make the answer's calls of hosted tools; return True if it has no other calls, so that the run continues."""
        kinds = {tool["type"] for tool in writer.run["tools"]}
        calls = [call for call in answer.calls if HOSTED.get(call.name) in kinds]
        if not calls or answer.finish.reason in ("length", "content_filter"):
            return False
        if answer.text:
            writer.close_message(answer.usage)
        resources = self._resources(writer)
        options = _search_options(writer.run)
        results: list[ToolResult] = []
        shown: list[Body] = []
        for call in calls:
            searches = writer.hidden.get("searches", 0)
            result = await self._tools.run(writer.owner, options, resources, call, searches)
            writer.hidden["searches"] = searches + (call.name == "file_search")
            writer.hidden["produced"] = [*writer.hidden.get("produced", ()), *result.facts.get("paths", {}).values()]
            resources["file_ids"] += result.facts.get("paths", {}).values()
            results.append(result)
            shown.append(_shown_result(result, writer.run))
            writer.show_result(shown[-1])
        writer.end_tools(shown, hidden_calls(results), answer.usage)
        return len(calls) == len(answer.calls)

    def _resources(self, writer: RunWriter) -> UsableResources:
        """Return the vector stores and files that a run may use: the assistant's, or its own, and the thread's."""
        own: UsableResources = writer.hidden.get("resources", UsableResources(vector_store_ids=[], file_ids=[]))
        thread = self._objects.find(THREAD, writer.owner, writer.run["thread_id"]) or {}
        shared = thread.get("tool_resources", {})
        search, interpreter = shared.get("file_search") or {}, shared.get("code_interpreter") or {}
        stores = [*own["vector_store_ids"], *(search.get("vector_store_ids") or ())]
        files = [
            *own["file_ids"],
            *(interpreter.get("file_ids") or ()),
            *writer.hidden.get("produced", ()),
        ]
        return {"vector_store_ids": list(dict.fromkeys(stores)), "file_ids": list(dict.fromkeys(files))}

    def _conversation(self, writer: RunWriter, left: int | None) -> Conversation | None:
        run = writer.run
        messages = self._objects.children(writer.owner, MESSAGE, run["thread_id"])
        conversation = run_conversation(
            run,
            messages,
            self._steps(writer),
            offered_tools(run["tools"]),
            completion_left=left,
            parameters=writer.hidden.get("parameters", {}),
            image_url=partial(image_url, self._parts, writer.owner),
        )
        if run["max_prompt_tokens"] is None:
            return conversation
        return truncated(conversation, run["max_prompt_tokens"] - writer.usage.prompt_tokens)

    def _conclude(self, writer: RunWriter, answer: Answer, conversation: Conversation) -> None:
        """End the run, or require action, by the answer. Its calls of hosted tools are already made."""
        kinds = {tool["type"] for tool in writer.run["tools"]}
        calls = [call for call in answer.calls if HOSTED.get(call.name) not in kinds]
        if answer.finish.reason == "length":
            writer.cut("max_completion_tokens", answer.usage)
        elif answer.finish.reason == "content_filter":
            writer.cut("content_filter", answer.usage)
        elif calls:
            if answer.text:
                writer.close_message(answer.usage)
            writer.require_action(calls, answer.usage)
        else:
            check_format(answer, conversation.response_format, self._parts.responder)
            if not answer.text:
                writer.open_message()
            annotations = self._citations(writer, answer.text)
            writer.annotate(annotations)
            writer.complete(answer.usage, annotations)

    def _citations(self, writer: RunWriter, text: str) -> list[Body]:
        """Return annotations for the search results and produced files that the answer cites."""
        sources: dict[str, str] = {}
        paths: dict[str, str] = {}
        for _, hidden in self._steps(writer):
            for call in hidden.get("calls", {}).values():
                sources |= call.get("sources", {})
                paths |= call.get("paths", {})
        return citations(text, sources, paths) if sources or paths else []

    def _steps(self, writer: RunWriter) -> list[tuple[StepBody, StepHidden]]:
        """Return the run's steps with their hidden parts. Without tool steps the file is not read."""
        if not writer.hidden.get("tool_steps"):
            return []
        steps = self._objects.children(writer.owner, STEP, writer.run["id"])
        return [(step, self._objects.step_hidden(step["id"])) for step in steps]

    # Restart and end

    def recover(self) -> None:
        """Resume every active run of the file, after a start and before the first request.

        Queued and answering runs start again from the thread, without what the interrupted attempt had begun to
        write. Runs that wait for tool outputs continue to wait. Cancelling runs become cancelled.
        """
        for owner, run in self._objects.active(RUN):
            self._deadlines[run["id"]] = _deadline(run)
            if run["status"] == "requires_action":
                continue
            hidden = self._objects.run_hidden(run["id"])
            segment = hidden.get("segment", 0)
            if run["status"] == "cancelling":
                self._close(self._writer(owner, run, hidden, EventLog(run["id"], segment)))
                continue
            self._restart(owner, run, hidden, segment)
        self._deadlines = dict(sorted(self._deadlines.items(), key=lambda item: item[1]))

    def _restart(self, owner: str, run: RunBody, hidden: RunHidden, segment: int) -> None:
        run["status"] = "queued"
        if segment == 0:
            run["started_at"] = None
        hidden["attempt"] = hidden.get("attempt", 1) + 1
        with self._database.transaction():
            steps = self._objects.children(owner, STEP, run["id"])
            messages = self._objects.children(owner, MESSAGE, run["thread_id"])
            for body in (*steps, *messages):
                if body["status"] == "in_progress" and body["run_id"] == run["id"]:
                    self._objects.remove(body["id"])
            self._objects.save(run, status="queued", active=True, hidden=hidden)
        thread = None
        if segment == 0 and hidden.get("creates_thread"):
            thread = self._objects.find(THREAD, owner, run["thread_id"])
        frames = opening_frames(run, thread) if segment == 0 else self._resuming_frames(owner, run)
        self.launch(owner, run, hidden, EventLog(run["id"], segment, frames))

    def _resuming_frames(self, owner: str, run: RunBody) -> list[bytes]:
        """Return the events with which a submission of tool outputs begins."""
        steps = self._objects.children(owner, STEP, run["id"])
        answered = [step for step in steps if step["type"] == "tool_calls" and step["status"] == "completed"]
        return resuming_frames(run, answered[-1:])


def _take_call(writer: RunWriter, conversation: Conversation, delta: ToolCallDelta) -> None:
    """Publish a piece of a call.

    Raises:
        ResponderError: the run does not offer the function.
    """
    kind = HOSTED.get(delta.name)
    if kind is not None and any(tool["type"] == kind for tool in writer.run["tools"]):
        writer.call_delta(delta, kind)
        return
    if all(tool["function"]["name"] != delta.name for tool in conversation.tools):
        raise unknown_function(delta.name, conversation.tools)
    writer.call_delta(delta, "function")


def _search_tool(run: RunBody) -> Body | None:
    return next((tool["file_search"] for tool in run["tools"] if tool["type"] == "file_search"), None)


def _search_options(run: RunBody) -> SearchOptions:
    tool = _search_tool(run)
    if tool is None:
        return SearchOptions()
    return SearchOptions(tool["max_num_results"] or DEFAULT_RESULTS, tool["ranking_options"]["score_threshold"])


def _shown_result(result: ToolResult, run: RunBody) -> Body:
    """Return a completed call in the form that its step shows."""
    call = result.call
    if call.name == "file_search":
        tool = _search_tool(run)
        assert tool is not None
        results = [{"file_id": hit.file_id, "file_name": hit.filename, "score": hit.score} for hit in result.hits]
        inner = {"ranking_options": tool["ranking_options"], "results": results}
        return {"id": call.id, "type": "file_search", "file_search": inner}
    outputs: list[Body] = [{"type": "logs", "logs": result.logs}] if result.logs else []
    outputs += [{"type": "image", "image": {"file_id": file_id}} for file_id in result.images]
    inner = {"input": result.code, "outputs": outputs}
    return {"id": call.id, "type": "code_interpreter", "code_interpreter": inner}


def _deadline(run: RunBody) -> int:
    """Return when an active run expires."""
    assert run["expires_at"] is not None
    return run["expires_at"]


def _last_error(failure: Exception) -> tuple[str, str]:
    """Return code and message of a failed run's `last_error`."""
    if isinstance(failure, ResponderError):
        return failure.code, str(failure)
    return "server_error", server_error().message
