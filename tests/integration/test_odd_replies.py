"""Replies that violate their protocol: whatever one row gets, the other rows have their answers.

In a good reply of each protocol and mode, each JSON value is replaced by each other JSON type, and each key is removed.
Each such reply goes to one row, between rows that get the good reply.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from tests.support.rows import read_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, event, json_answer, stream

pytestmark = pytest.mark.anyio


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


OTHERS: Sequence[Any] = (
    None,
    True,
    7,
    -1,
    2**70,
    1.5,
    float("nan"),
    "odd",
    "\ud800",
    [],
    ["odd"],
    {},
    {"odd": 1},
    deep(900),
)
GONE = object()
SHARE = 17
"""One in so many of the odd replies is tested each time, and all of them in the nightly run. The number is not a multiple
of the number of types, so that each type is tested in every protocol."""
TEXT = "It is 4."
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 2}}
RESPONSE_USAGE = {
    "input_tokens": 9,
    "output_tokens": 4,
    "total_tokens": 13,
    "output_tokens_details": {"reasoning_tokens": 1},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside a value."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def changed(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    """Return a copy with another value at one path, or without it."""
    made = copy.deepcopy(value)
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    if put is GONE:
        del inside[path[-1]]
    else:
        inside[path[-1]] = put
    return made


@dataclass
class Way:
    """A mode of a protocol: the parts of a good reply, each JSON, and how they are sent.

    Attributes:
        good: name → part; one part is varied at a time.
        send: returns the answer to a request, from the parts.
    """

    job: dict[str, Any]
    good: dict[str, Any]
    send: Callable[[dict[str, Any], Request], Answer]
    tools: bool = False

    def variants(self, others: Sequence[Any]) -> Iterator[dict[str, Any]]:
        for part, whole in self.good.items():
            for path in places(whole):
                for put in (GONE, *others):
                    yield {**self.good, part: changed(whole, path, put)}


# -- the protocols ------------------------------------------------------------------------------------------------


CALL = {"id": "call_1", "type": "function", "function": {"name": "double", "arguments": '{"x": 1}'}}


def completion(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "annotations": [], **message}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m-1", "choices": [choice], "usage": USAGE}


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "m-1", "choices": [choice], "usage": None}


def data(body: Any) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _called(request: Request) -> bool:
    return any(message.get("role") == "tool" for message in request.body["messages"])


def chat_plain(parts: dict[str, Any], request: Request) -> Answer:
    return json_answer(parts["calls"] if "calls" in parts and not _called(request) else parts["answer"])


def chat_streamed(parts: dict[str, Any], request: Request) -> Answer:
    begun = "calls" in parts and not _called(request)
    names = ("call", "call's end") if begun else ("first", "last", "usage")
    return stream(*(data(parts[name]) for name in names), b"data: [DONE]\n\n")


CHUNKS = {
    "first": chunk({"role": "assistant", "content": TEXT, "annotations": [{"type": "url_citation"}]}),
    "last": chunk({}, "stop"),
    "usage": {"id": "chatcmpl-1", "model": "m-1", "choices": [], "usage": USAGE},
}


def response(output: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "m-1",
        "error": None,
        "incomplete_details": None,
        "conversation": None,
        "output": output,
        "usage": RESPONSE_USAGE,
        **fields,
    }


ANNOTATIONS = [{"type": "url_citation", "url": "https://example.org", "title": "t", "start_index": 0, "end_index": 2}]
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": TEXT, "annotations": ANNOTATIONS}],
}
ITEMS: list[dict[str, Any]] = [{"type": "reasoning", "id": "rs_1", "summary": []}, MESSAGE]
FUNCTION_CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "double", "arguments": '{"x": 1}'}


def _outputs_given(request: Request) -> bool:
    return isinstance(request.body["input"], list)


def responses_plain(parts: dict[str, Any], request: Request) -> Answer:
    if request.path.endswith("/conversations"):
        return json_answer(parts["conversation"])
    if request.path.endswith("/cancel"):
        return json_answer(parts["answer"])
    if "calls" in parts and request.method == "POST" and not _outputs_given(request):
        return json_answer(parts["calls"])
    if "made" in parts and request.method == "POST":
        return json_answer(parts["made"])
    return json_answer(parts["answer"])


def responses_streamed(parts: dict[str, Any], request: Request) -> Answer:
    if request.method == "GET" or request.path.endswith("/cancel"):
        return json_answer(response(ITEMS))
    return stream(event("response.created", parts["created"]), event("response.completed", parts["completed"]))


RUN = {
    "id": "run_1",
    "object": "thread.run",
    "thread_id": "thread_1",
    "status": "completed",
    "model": "m-1",
    "last_error": None,
    "incomplete_details": None,
    "required_action": None,
    "usage": USAGE,
}
THREAD_MESSAGE = {
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "text", "text": {"value": TEXT, "annotations": [{"type": "file_citation", "text": "x"}]}}],
}
WAITING = {
    **RUN,
    "status": "requires_action",
    "usage": None,
    "required_action": {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [CALL]}},
}
QUEUED = {**RUN, "status": "queued", "usage": None}
PAGE = {"object": "list", "data": [THREAD_MESSAGE], "has_more": False, "last_id": "msg_1"}


def assistants_prepared(request: Request) -> Answer | None:
    if request.path.endswith("/assistants"):
        return json_answer({"id": "asst_1", "tools": []})
    return json_answer(RUN) if request.path.endswith("/cancel") else None


def assistants_streamed(parts: dict[str, Any], request: Request) -> Answer:
    if request.method == "GET":
        return json_answer(PAGE if request.path.endswith("/messages") else RUN)
    if "waiting" in parts and request.path.endswith("/runs"):
        return stream(event("thread.run.created", QUEUED), event("thread.run.requires_action", parts["waiting"]))
    return stream(
        event("thread.run.created", parts["created"]),
        event("thread.message.completed", parts["message"]),
        event("thread.run.completed", parts["completed"]),
        event("done", "[DONE]"),
    )


def assistants_polled(parts: dict[str, Any], request: Request) -> Answer:
    if request.method == "GET":
        return json_answer(parts["page"] if request.path.endswith("/messages") else parts["run"])
    return json_answer(parts["made"])


STREAMED_RUN = {"created": QUEUED, "message": THREAD_MESSAGE, "completed": RUN}
ANSWERED = completion({"content": TEXT})
CALLED = completion({"content": None, "tool_calls": [CALL]}, "tool_calls")

WAYS: dict[str, Way] = {
    "chat": Way({"api": "chat"}, {"answer": ANSWERED}, chat_plain),
    "chat, parts": Way(
        {"api": "chat"}, {"answer": completion({"content": [{"type": "text", "text": TEXT}]})}, chat_plain
    ),
    "chat, functions": Way({"api": "chat"}, {"calls": CALLED, "answer": ANSWERED}, chat_plain, tools=True),
    "chat, streamed": Way({"api": "chat", "stream": True}, CHUNKS, chat_streamed),
    "chat, streamed, functions": Way(
        {"api": "chat", "stream": True},
        {
            "call": chunk({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **CALL}]}),
            "call's end": chunk({}, "tool_calls"),
            **CHUNKS,
            "calls": None,
        },
        chat_streamed,
        tools=True,
    ),
    "responses": Way({"api": "responses"}, {"answer": response(ITEMS)}, responses_plain),
    "responses, functions": Way(
        {"api": "responses"},
        {"calls": response([FUNCTION_CALL]), "answer": response(ITEMS)},
        responses_plain,
        tools=True,
    ),
    "responses, streamed": Way(
        {"api": "responses", "stream": True},
        {
            "created": {
                "type": "response.created",
                "sequence_number": 0,
                "response": response([], status="in_progress"),
            },
            "completed": {"type": "response.completed", "sequence_number": 1, "response": response(ITEMS)},
        },
        responses_streamed,
    ),
    "responses, in the background": Way(
        {"api": "responses", "background": True},
        {"made": response([], status="queued", usage=None), "answer": response(ITEMS)},
        responses_plain,
    ),
    "responses, conversation": Way(
        {"api": "responses", "conversation": True},
        {
            "conversation": {"id": "conv_1", "object": "conversation"},
            "answer": response(ITEMS, conversation={"id": "conv_1"}),
        },
        responses_plain,
    ),
    "assistants": Way({"api": "assistants"}, STREAMED_RUN, assistants_streamed),
    "assistants, functions": Way(
        {"api": "assistants"}, {"waiting": WAITING, **STREAMED_RUN}, assistants_streamed, tools=True
    ),
    "assistants, polled": Way(
        {"api": "assistants", "poll": True}, {"made": QUEUED, "run": RUN, "page": PAGE}, assistants_polled
    ),
}


# -- the batches --------------------------------------------------------------------------------------------------

TOOLS = "def double(x: int) -> int:\n    '''Twice the number.\n\n    Args:\n        x: the number.\n    '''\n    return 2 * x\n"


async def batch(way: Way, variants: list[dict[str, Any]], folder: Path) -> tuple[int, list[dict[str, str]]]:
    """Run a batch in which every second row gets a variant; return (exit code, rows of the output)."""
    # An id of a thread, run or response names its row: a request for that id gets the variant of the row.
    numbers: dict[str, dict[str, Any]] = {}

    def script(request: Request) -> Answer:
        prepared = assistants_prepared(request) if way.job["api"] == "assistants" else None
        if prepared is not None:
            return prepared
        key = request.headers.get("idempotency-key")
        if request.method == "POST" and key is not None:
            row = int(key.split("-")[1])
            parts = variants[row // 2] if row % 2 else way.good
            owned = json.dumps(parts)
            for name in ("thread_1", "run_1", "resp_1", "conv_1"):
                owned = owned.replace(f'"{name}"', f'"{name}-{row}"')
            own: dict[str, Any] = json.loads(owned)
            numbers[str(row)] = own
            return way.send(own, request)
        named = next((part for part in request.path.split("/") if "-" in part), "")
        return way.send(numbers.get(named.rpartition("-")[2], way.good), request)

    with ScriptedHttp(script) as server:
        (folder / "in.csv").write_text("q\n" + "\n".join(str(row) for row in range(2 * len(variants) + 1)) + "\n")
        (folder / "tools.py").write_text(TOOLS)
        job = Job(
            prompt="{{ q }}",
            model="m-1",
            base_url=server.url,
            concurrency=16,
            max_attempts=1,
            keep_going=True,
            **way.job,
            tools=folder / "tools.py" if way.tools else None,
        )
        environment = Environment(api_key="test")
        plan = make_plan(job, folder / "in.csv", environment, folder / "out.csv")
        summary = await run_batch(plan, environment)
    return summary.exit_code, read_csv(folder / "out.csv")


@pytest.fixture(autouse=True)
def _polls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchrun.services.polling.FIRST_WAIT_S", 0.0)


def check(code: int, rows: list[dict[str, str]], variants: int) -> None:
    assert code in (0, 3)
    assert len(rows) == 2 * variants + 1
    good = rows[::2]
    assert {(row["status"], row["response"]) for row in good} == {("completed", TEXT)}
    assert {row["status"] for row in rows} <= {"completed", "incomplete", "failed"}


@pytest.mark.parametrize("name", WAYS)
async def test_an_odd_reply_is_its_rows(name: str, tmp_path: Path) -> None:
    """Each value of a reply in turn is missing or has another type: the rows around it complete, and all is written."""
    way = WAYS[name]
    some = slice(sum(name.encode()) % SHARE, None, SHARE)
    variants = list(way.variants(OTHERS))[some]
    code, rows = await batch(way, variants, tmp_path)
    check(code, rows, len(variants))


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", WAYS)
async def test_all_odd_replies(name: str, tmp_path: Path) -> None:
    """The same test with every value and every other type."""
    variants = list(WAYS[name].variants(OTHERS))
    code, rows = await batch(WAYS[name], variants, tmp_path)
    check(code, rows, len(variants))
