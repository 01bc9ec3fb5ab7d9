"""Random sequences of calls, compared with a model of the protocol."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as HypothesisBundle
from hypothesis.stateful import RuleBasedStateMachine, consumes, invariant, rule

from batchrun.server import EmbeddedServer, ManualClock, ServerSettings
from batchrun.server.responders.base import Conversation, Part, ResponderError
from tests.integration.server.scripted import WEATHER, Scripted, call_functions, echo, forever


async def by_metadata(conversation: Conversation) -> AsyncIterator[Part]:
    """Answer, call, stall or fail, as the run's metadata states."""
    manner = conversation.metadata.get("manner", "answer")
    if manner == "fail":
        raise ResponderError("as told", code="rate_limit_exceeded")
    script = {"answer": echo, "call": call_functions, "stall": forever}[manner]
    async for part in script(conversation):
        yield part


def _lines(reply: httpx2.Response) -> Iterator[str]:
    """Yield the lines of an event stream. `iter_lines` also ends one at U+0085 and U+2028, which JSON may contain."""
    rest = b""
    for piece in reply.iter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode() for line in lines)


@dataclass
class ModelThread:
    """A thread of the model.

    Attributes:
        messages: ids, oldest first.
        runs: run id → status, oldest first.
        expires_at: expiry of the active run.
    """

    id: str
    messages: list[str] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    expires_at: float = 0.0

    @property
    def active(self) -> str | None:
        return next((run for run, status in self.runs.items() if status in ("in_progress", "requires_action")), None)

    @property
    def last(self) -> str | None:
        return next(reversed(self.runs), None)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "model", "name", "tools", "tool_resources", "metadata", "messages", "content", "role", "assistant_id", "stream",
    "thread", "input", "truncation_strategy", "response_format", "tool_choice", "tool_outputs", "items", "file_ids",
    "query", "filters", "chunking_strategy", "conversation", "previous_response_id", "text", "reasoning",
]  # fmt: skip
PATHS = [
    "/assistants", "/threads", "/threads/runs", "/threads/{t}", "/threads/{t}/messages", "/threads/{t}/runs",
    "/threads/{t}/runs/{r}", "/threads/{t}/runs/{r}/cancel", "/threads/{t}/runs/{r}/submit_tool_outputs",
    "/threads/{t}/runs/{r}/steps", "/threads/{t}/runs/{r}/events", "/responses", "/conversations",
    "/chat/completions", "/vector_stores", "/files", "/models", "/models/x",
]  # fmt: skip


class Protocol(RuleBasedStateMachine):
    """Calls one server, with new threads for each sequence."""

    threads = HypothesisBundle("threads")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.clock = ManualClock()
        server = EmbeddedServer(ServerSettings(shutdown_grace_s=0), Scripted(by_metadata), clock=self.clock)
        self.stack.enter_context(server)
        self.http = self.stack.enter_context(
            httpx2.Client(base_url=server.url, headers={"OpenAI-Beta": "assistants=v2"}, timeout=30)
        )
        self.assistant_id = self.post("/assistants", {"model": "m", "tools": [WEATHER]}, 200)["id"]
        self.known: list[ModelThread] = []

    def teardown(self) -> None:
        self.stack.close()

    def post(self, path: str, body: Any, status: int) -> Any:
        reply = self.http.post(path, json=body)
        assert reply.status_code == status, reply.text
        return reply.json()

    def get(self, path: str) -> Any:
        reply = self.http.get(path)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def stream(self, path: str, body: Any, until: str) -> list[tuple[str, Any]]:
        """Return the events of a streamed request, up to the event `until`."""
        events: list[tuple[str, Any]] = []
        with self.http.stream("POST", path, json={**body, "stream": True}) as reply:
            assert reply.status_code == 200, reply.read()
            name = ""
            for line in _lines(reply):
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: ") and name != "done":
                    events.append((name, json.loads(line.removeprefix("data: "))))
                    if name == until:
                        break
        return events

    @rule(target=threads, texts=st.lists(st.text(min_size=1, max_size=5), max_size=3))
    def create_thread(self, texts: list[str]) -> Any:
        body = {"messages": [{"role": "user", "content": text} for text in texts]}
        thread = ModelThread(self.post("/threads", body, 200)["id"])
        listed = self.get(f"/threads/{thread.id}/messages?order=asc")["data"]
        assert [each["content"][0]["text"]["value"] for each in listed] == texts
        thread.messages = [each["id"] for each in listed]
        self.known.append(thread)
        return thread

    @rule(thread=threads)
    def add_message(self, thread: ModelThread) -> None:
        body = {"role": "user", "content": "more"}
        path = f"/threads/{thread.id}/messages"
        if thread.active is None:
            thread.messages.append(self.post(path, body, 200)["id"])
        else:
            error = self.post(path, body, 400)["error"]
            assert error["message"] == (f"Can't add messages to {thread.id} while a run {thread.active} is active.")

    @rule(thread=threads, manner=st.sampled_from(["answer", "call", "stall", "fail"]))
    def run(self, thread: ModelThread, manner: str) -> None:
        body = {"assistant_id": self.assistant_id, "metadata": {"manner": manner}}
        path = f"/threads/{thread.id}/runs"
        if thread.active is not None:
            error = self.post(path, body, 400)["error"]
            assert error["message"] == f"Thread {thread.id} already has an active run {thread.active}."
            return
        events = self.stream(path, body, until="thread.message.delta" if manner == "stall" else "")
        run = events[0][1]
        status = {"answer": "completed", "call": "requires_action", "stall": "in_progress", "fail": "failed"}[manner]
        thread.runs[run["id"]] = status
        thread.expires_at = run["expires_at"]
        thread.messages += [data["id"] for name, data in events if name == "thread.message.created"]
        if manner != "stall":
            assert events[-1][0] == f"thread.run.{status}"

    @rule(thread=threads, right=st.booleans())
    def submit(self, thread: ModelThread, right: bool) -> None:
        if thread.last is None:
            return
        run_id = thread.active or thread.last
        path = f"/threads/{thread.id}/runs/{run_id}/submit_tool_outputs"
        body = {"tool_outputs": [{"tool_call_id": "call_0" if right else "call_x", "output": "sunny"}]}
        if thread.runs[run_id] != "requires_action":
            error = self.post(path, body, 400)["error"]
            assert error["message"] == f'Runs in status "{thread.runs[run_id]}" do not accept tool outputs.'
        elif not right:
            error = self.post(path, body, 400)["error"]
            assert error["message"] == "Expected tool outputs for call_ids ['call_0'], got ['call_x']"
        else:
            events = self.stream(path, body, until="")
            assert events[-1][0] == "thread.run.completed"
            thread.runs[run_id] = "completed"
            thread.messages += [data["id"] for name, data in events if name == "thread.message.created"]

    @rule(thread=threads)
    def cancel(self, thread: ModelThread) -> None:
        if thread.last is None:
            return
        run_id = thread.active or thread.last
        path = f"/threads/{thread.id}/runs/{run_id}"
        if thread.active is None:
            error = self.post(f"{path}/cancel", {}, 400)["error"]
            assert error["message"] == f"Cannot cancel run with status '{thread.runs[run_id]}'."
            return
        assert self.post(f"{path}/cancel", {}, 200)["status"] == "cancelling"
        last = self.http.get(f"{path}/events").text
        assert re.findall(r"event: (thread\.run\.\w+)\n", last)[-1] == "thread.run.cancelled"
        thread.runs[run_id] = "cancelled"

    @rule(seconds=st.sampled_from([1, 300, 600]))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)
        for thread in self.known:
            if thread.active is not None and self.clock.now() >= thread.expires_at:
                thread.runs[thread.active] = "expired"

    @rule(thread=consumes(threads))
    def delete_thread(self, thread: ModelThread) -> None:
        assert self.http.delete(f"/threads/{thread.id}").json()["deleted"] is True
        assert self.http.get(f"/threads/{thread.id}").status_code == 404
        self.known.remove(thread)

    @rule(thread=threads, limit=st.integers(1, 3), order=st.sampled_from(["asc", "desc"]))
    def list_messages(self, thread: ModelThread, limit: int, order: str) -> None:
        collected: list[str] = []
        after = ""
        while True:
            page = self.get(f"/threads/{thread.id}/messages?limit={limit}&order={order}{after}")
            collected += [each["id"] for each in page["data"]]
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
        assert collected == (thread.messages if order == "asc" else thread.messages[::-1])

    @rule(
        method=st.sampled_from(["GET", "POST", "DELETE"]),
        path=st.sampled_from(PATHS),
        body=st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=4) | JUNK,
    )
    def send_junk(self, method: str, path: str, body: Any) -> None:
        url = path.replace("{t}", "thread_nobody").replace("{r}", "run_nobody")
        # Python's encoder writes Infinity and lone surrogates, which a JSON parser must not accept.
        content = json.dumps(body) if method == "POST" else None
        reply = self.http.request(method, url, content=content, headers={"Content-Type": "application/json"})
        assert reply.status_code < 500, reply.text
        if reply.status_code >= 400:
            assert reply.json()["error"].keys() == {"message", "type", "param", "code"}

    @invariant()
    def runs_are_as_the_model_says(self) -> None:
        for thread in self.known:
            listed = self.get(f"/threads/{thread.id}/runs?order=asc")["data"]
            assert {run["id"]: run["status"] for run in listed} == thread.runs


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
