"""Parameters that --param and another option give: joined where both have a place, otherwise refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

import batchrun
from batchrun.batch.plan import Plan, make_plan
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.options import Api
from batchrun.job.validation import make_job
from batchrun.services.parameters import model_parameters
from tests.support.rows import write_csv
from tests.support.scripted_http import ScriptedHttp, json_answer

SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
SUM = '{"sum": 4}'
RUN = {"id": "run_1", "thread_id": "thread_1", "status": "completed", "model": "m-1", "usage": None}
MESSAGE = {"id": "msg_1", "role": "assistant", "run_id": "run_1", "content": [{"type": "text", "text": {"value": SUM}}]}
PART = {"type": "output_text", "text": SUM, "annotations": []}
ROUTES = {
    "POST /chat/completions": {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": SUM}, "finish_reason": "stop"}],
    },
    "POST /responses": {
        "id": "resp_1",
        "status": "completed",
        "output": [{"type": "message", "role": "assistant", "content": [PART]}],
    },
    "POST /assistants": {"id": "asst_1", "tools": []},
    "POST /threads/runs": RUN,
    "GET /threads/thread_1/runs/run_1": RUN,
    "GET /threads/thread_1/runs/run_1/steps": {"data": [], "has_more": False},
    "GET /threads/thread_1/messages": {"data": [MESSAGE], "has_more": False},
}
PATHS = {"chat": "POST /chat/completions", "responses": "POST /responses", "assistants": "POST /threads/runs"}


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"rain in {city}"


def sent(folder: Path, api: Api, **options: Any) -> dict[str, Any]:
    """The body that asks a row, as a server receives it."""
    with ScriptedHttp.answering({route: json_answer(body) for route, body in ROUTES.items()}) as server:
        batchrun.run(["2 + 2"], api=api, base_url=server.url, model="m-1", output=folder / "out.csv", **options)
        body: dict[str, Any] = next(
            request.body for request, path in zip(server.requests, server.paths(), strict=True) if path == PATHS[api]
        )
    return body


def planned(folder: Path, api: str, **options: Any) -> Plan:
    table = write_csv(folder / "q.csv", [{"question": "2 + 2"}])
    environment = Environment(base_url="http://127.0.0.1:1/v1")
    return make_plan(make_job({"model": "m-1", "api": api, **options}), table, environment, folder / "out.csv")


@pytest.mark.parametrize("api", get_args(Api))
def test_names_of_parameters(api: Api) -> None:
    """The token limit has its protocol's name; unset parameters are not sent; those of --param are added."""
    bound = "max_output_tokens" if api == "responses" else "max_completion_tokens"
    assert model_parameters(make_job({}), api) == {}
    job = make_job({"temperature": 0, "max_completion_tokens": 9, "param": {"seed": 7}})
    assert model_parameters(job, api) == {"temperature": 0, bound: 9, "seed": 7}


@pytest.mark.parametrize(
    ("api", "options", "name", "value"),
    [
        (
            "responses",
            {"schema": SCHEMA, "param": {"text": {"verbosity": "low"}}},
            "text",
            {"verbosity": "low", "format": {"type": "json_schema"}},
        ),
        ("responses", {"param": {"text": {"verbosity": "low"}}}, "text", {"verbosity": "low"}),
        (
            "responses",
            {"response_format": {"type": "json_object"}, "param": {"text": {"verbosity": "low"}}},
            "text",
            {"verbosity": "low", "format": {"type": "json_object"}},
        ),
        (
            "responses",
            {"tools": [weather], "param": {"tools": [{"type": "web_search"}]}},
            "tools",
            [{"type": "function", "name": "weather"}, {"type": "web_search"}],
        ),
        (
            "chat",
            {"tools": [weather], "param": {"tools": [{"type": "custom", "custom": {"name": "sql"}}]}},
            "tools",
            [{"type": "function", "function": {"name": "weather"}}, {"type": "custom", "custom": {"name": "sql"}}],
        ),
        (
            "assistants",
            {"tools": [weather], "param": {"tools": [{"type": "code_interpreter"}]}},
            "tools",
            [{"type": "function", "function": {"name": "weather"}}, {"type": "code_interpreter"}],
        ),
        (
            "assistants",
            {"code_interpreter": True, "param": {"tools": [{"type": "code_interpreter"}]}},
            "tools",
            [{"type": "code_interpreter"}],
        ),
        (
            "chat",
            {"stream": True, "param": {"stream_options": {"include_obfuscation": False}}},
            "stream_options",
            {"include_usage": True, "include_obfuscation": False},
        ),
        ("chat", {"stream": True, "param": {"stream_options": None}}, "stream_options", None),
        ("responses", {"param": {"store": False}}, "store", False),
        ("chat", {"param": {"metadata": {"team": "a"}}}, "metadata", {"team": "a"}),
        ("responses", {"param": {"metadata": {"team": "a"}}}, "metadata", {"team": "a", "row": "0", "attempt": "1"}),
        ("assistants", {"param": {"metadata": {"team": "a"}}}, "metadata", {"team": "a", "row": "0", "attempt": "1"}),
        ("chat", {"temperature": 0.5, "param": {"temperature": 0.5, "n": 1}}, "temperature", 0.5),
        ("chat", {"response_format": {"type": "text"}, "param": {"response_format": {"type": "text"}}}, "n", ...),
    ],
)
def test_joined(tmp_path: Path, api: Api, options: dict[str, Any], name: str, value: Any) -> None:
    """What --param and another option give for one parameter arrives together at the service."""
    found = sent(tmp_path, api, **options).get(name, ...)
    if isinstance(value, dict):
        assert isinstance(found, dict)
        assert found.keys() - {"batch"} == value.keys()
        assert {key: found[key] for key in value if key != "format"} == {
            key: each for key, each in value.items() if key != "format"
        }
        assert found.get("format", {}).get("type") == value.get("format", {}).get("type")
    elif isinstance(value, list):
        assert [_only_names(tool) for tool in found] == value
    else:
        assert found == value


def _only_names(tool: dict[str, Any]) -> dict[str, Any]:
    kept = {key: each for key, each in tool.items() if key in ("type", "name", "custom")}
    return kept | ({"function": {"name": tool["function"]["name"]}} if "function" in tool else {})


@pytest.mark.parametrize(
    ("apis", "options", "words"),
    [
        (get_args(Api), {"temperature": 0, "param": {"temperature": 1}}, "--temperature and --param temperature: both"),
        (get_args(Api), {"top_p": 0.5, "param": {"top_p": None}}, "--top-p and --param top_p: both set top_p"),
        (
            ("chat", "assistants"),
            {"max_completion_tokens": 300, "param": {"max_completion_tokens": 400}},
            "--max-completion-tokens and --param max_completion_tokens: both",
        ),
        (
            ("responses",),
            {"max_completion_tokens": 30, "param": {"max_output_tokens": 40}},
            "--max-completion-tokens and --param max_output_tokens: both",
        ),
        (
            ("chat", "assistants"),
            {"schema": SCHEMA, "param": {"response_format": {"type": "json_object"}}},
            "--schema and --param response_format: both",
        ),
        (
            ("responses",),
            {"schema": SCHEMA, "param": {"text": {"format": {"type": "text"}}}},
            "--schema and --param text: both set text.format",
        ),
        (("responses",), {"schema": SCHEMA, "param": {"text": "low"}}, "--schema and --param text: expected an object"),
        (
            ("chat", "assistants"),
            {"response_format": {"type": "text"}, "param": {"response_format": {"type": "json_object"}}},
            "response_format and --param response_format: both",
        ),
        (get_args(Api), {"tools": [weather], "param": {"tools": None}}, "--tools and --param tools: expected a list"),
        (
            ("chat", "assistants"),
            {"tools": [weather], "param": {"tools": [{"type": "function", "function": {"name": "weather"}}]}},
            "--tools and --param tools: both set the tool weather",
        ),
        (
            ("responses",),
            {"tools": [weather], "param": {"tools": [{"type": "function", "name": "weather"}]}},
            "--tools and --param tools: both set the tool weather",
        ),
        (
            ("responses",),
            {"code_interpreter": True, "param": {"tools": [{"type": "code_interpreter", "container": "c_1"}]}},
            "--code-interpreter and --param tools: both set the tool code_interpreter",
        ),
        (("responses", "assistants"), {"param": {"metadata": {"row": "x"}}}, "metadata: the key 'row' is set by"),
        (("responses", "assistants"), {"param": {"metadata": "{{ n }}"}}, "param: metadata: expected an object, such"),
        (
            get_args(Api),
            {"matrix": {"temperature": [0, 1]}, "param": {"temperature": 1}},
            "--temperature and --param temperature: both",
        ),
        (
            ("chat",),
            {"keep": ["logprobs"], "param": {"logprobs": False}},
            "--keep logprobs and --param logprobs: both set logprobs",
        ),
        (
            ("responses",),
            {"keep": ["logprobs"], "param": {"include": "x"}},
            "--keep logprobs and --param include: expected a list",
        ),
        (get_args(Api), {"param": {"n": 3}}, "param: n cannot be set as a model parameter; use --epochs"),
        (get_args(Api), {"param": {"n": "{{ n }}"}}, "use --epochs"),
        (get_args(Api), {"matrix": {"param": [{"n": 2}, {"seed": 1}]}}, "use --epochs"),
        (get_args(Api), {"param": {"instructions": "Be brief."}}, "use --instructions"),
        (get_args(Api), {"param": {"thread": {"messages": []}}}, "use --prompt"),
    ],
)
def test_refused(tmp_path: Path, apis: tuple[str, ...], options: dict[str, Any], words: str) -> None:
    """Two values for one parameter, or more than one answer per row, are refused in planning; both owners are named."""
    for api in apis:
        with pytest.raises(InputError) as refusal:
            planned(tmp_path, api, **options)
        assert words in str(refusal.value)
