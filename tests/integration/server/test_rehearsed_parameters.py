"""A rehearsal takes the parameters that real services take: those of the SDK's types, and those of other servers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Required, Union, get_args, get_origin, get_type_hints

import httpx2
import pytest
from openai.types.beta.thread_create_and_run_params import ThreadCreateAndRunParamsBase
from openai.types.beta.threads.run_create_params import RunCreateParamsBase
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

import batchrun
from batchrun.job.options import Api
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.script import ScriptResponder
from tests.integration.server.conftest import Running

BETA = {"OpenAI-Beta": "assistants=v2"}
ASKED = {
    "assistant_id", "thread", "additional_messages", "conversation", "input", "messages", "model",
    "previous_response_id",
}  # fmt: skip
"""What asks the question: `--param` refuses it."""
NAMED_OBJECTS = {"tool_resources"}
"""Vector stores and files by their id, which have to exist."""
NUMBERS = {"max_prompt_tokens": 300, "max_output_tokens": 300}
OTHERS: dict[str, Any] = {
    "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "guided_json": {"type": "object"}, "ignore_eos": True,
    "chat_template_kwargs": {"enable_thinking": False}, "cache_prompt": True, "grammar": 'root ::= "yes"',
    "provider": {"order": ["a"]}, "keep_alive": "5m", "think": False, "extra": None,
    # in a protocol that does not have them
    "seed": 7, "service_tier": "flex", "user": "u", "store": True, "logprobs": True, "verbosity": "low",
    "prompt_cache_key": "k", "safety_identifier": "s", "top_logprobs": 2, "logit_bias": {"50256": -100.0},
    "parallel_tool_calls": False, "reasoning_effort": "low", "reasoning": {"effort": "low"},
}  # fmt: skip
"""Parameters of vLLM, llama.cpp, OpenRouter and Ollama, and of a protocol other than the rehearsed one."""


def samples(kind: Any, name: str = "", depth: int = 0) -> Iterator[Any]:
    """Yield values of a type of the SDK: every literal, every member of a union, every key of an object."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for member in arguments:
            yield from itertools.islice(samples(member, name, depth), 8)
    elif origin is Literal:
        yield from arguments
    elif hasattr(kind, "__total__"):
        yield from _objects(kind, depth)
    elif origin is dict:
        yield {"x": next(samples(arguments[1], name, depth + 1))}
    elif origin is not None and issubclass(origin, Iterable):
        yield [next(samples(arguments[0], name, depth + 1))]
        yield from ([each] for each in itertools.islice(samples(arguments[0], name, depth + 1), 1, 40))
    else:
        yield from {bool: (True, False), int: (NUMBERS.get(name, 1),), float: (0.5,), NoneType: (None,)}.get(kind, "x")


def _objects(kind: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield an object with its required keys, and one with each optional key as well."""
    hints = get_type_hints(kind)
    marks = get_type_hints(kind, include_extras=True)
    needed = {name for name, mark in marks.items() if get_origin(mark) is Required}
    required = {name: next(samples(hints[name], name, depth + 1)) for name in hints if name in needed}
    yield required
    for name in hints.keys() - needed if depth < 2 else ():
        yield from ({**required, name: each} for each in itertools.islice(samples(hints[name], name, depth + 1), 4))


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rehearsal") / "script.toml"
    path.write_text('[default]\nreply = "Yes."\n', encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rehearsal(script: Path) -> Iterator[str]:
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), ScriptResponder(script)) as server:
        yield server.url


@pytest.mark.parametrize(
    ("path", "base", "kind"),
    [
        (
            "/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True},
            CompletionCreateParamsBase,
        ),
        ("/responses", {"model": "m", "input": "x"}, ResponseCreateParamsBase),
        ("/threads/runs", {}, ThreadCreateAndRunParamsBase),
        ("/threads/THREAD/runs", {}, RunCreateParamsBase),
    ],
)
def test_parameters_of_the_protocol(rehearsal: str, path: str, base: dict[str, Any], kind: Any) -> None:
    """No parameter of the protocol, with any of its values, and no parameter of another server is refused.

    Only a choice of a function without its name, which the SDK's types allow, means nothing.
    """
    with httpx2.Client(base_url=rehearsal, headers=BETA) as client:
        if path.startswith("/threads"):
            base = {"assistant_id": client.post("/assistants", json={"model": "m"}).json()["id"]}
        refused, tried = [], 0
        values = {name: list(samples(hint, name)) for name, hint in get_type_hints(kind).items() if name not in ASKED}
        theirs = [(name, value) for name, listed in values.items() for value in listed if name not in NAMED_OBJECTS]
        for name, value in (*theirs, *OTHERS.items()):
            if "THREAD" in path:
                thread_id = client.post("/threads", json={}).json()["id"]
            reply = client.post(
                path.replace("THREAD", thread_id if "THREAD" in path else ""), json={**base, name: value}
            )
            tried += 1
            if path.startswith("/threads") and value == {"type": "function"}:
                assert reply.json()["error"]["param"] == "tool_choice.function"
                continue
            if reply.status_code != 200:
                refused.append((name, value, reply.text))
    assert refused == []
    assert tried > len(values) + len(OTHERS)


@pytest.mark.parametrize("api", get_args(Api))
def test_a_rehearsed_batch(script: Path, api: Api) -> None:
    """A batch with --script and many parameters is answered, in every protocol; so is one with a small token limit."""
    tools = [] if api == "assistants" else [{"type": "web_search"}]
    param = {**OTHERS, "tools": tools, "tool_choice": "auto", "metadata": {"team": "a"}}
    answers = batchrun.run(["2 + 2"], script=script, api=api, param=param, max_completion_tokens=50)
    assert answers["response"].tolist() == ["Yes."]


def test_only_a_script_takes_hosted_tools(shared: Running) -> None:
    """Where no script answers, a tool that runs at a service is refused: it would be left out without a word."""
    for path, body in (
        ("/responses", {"model": "m", "input": "x"}),
        ("/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]}),
    ):
        reply = httpx2.post(shared.url + path, json={**body, "tools": [{"type": "web_search"}]})
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "tools[0].type"


@pytest.mark.parametrize("reply", ['```json\n{"a": 1}\n```', '```\n{"a": 1}\n```', '<think>hm</think>\n{"a": 1}'])
def test_a_fenced_reply_can_be_rehearsed(tmp_path: Path, reply: str) -> None:
    """A script sends JSON in a Markdown fence, as servers of open models do, although the request asks for JSON."""
    path = tmp_path / "script.jsonl"
    path.write_text(json.dumps({"default": {"reply": reply}}), encoding="utf-8")
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), ScriptResponder(path)) as server:
        body = {"model": "m", "input": "x", "text": {"format": {"type": "json_object"}}}
        response = httpx2.post(f"{server.url}/responses", json=body).json()
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == reply
