"""The validation of request bodies: null, neutral values, and messages that name what was meant."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import BaseModel, ValidationError

from batchrun.server.errors import ApiError
from batchrun.server.http.routes import OPERATIONS
from batchrun.server.protocol.metadata import merged_metadata
from batchrun.server.protocol.requests.base import validate
from batchrun.server.protocol.requests.chat import CreateChatCompletion
from batchrun.server.protocol.requests.items import CountInputTokens, CreateResponse
from batchrun.server.protocol.requests.neutral import change_refusal
from batchrun.server.protocol.requests.runs import CreateRun
from batchrun.server.protocol.requests.threads import CreateMessage
from batchrun.server.protocol.requests.vector_stores import AddVectorStoreFiles, SearchVectorStore

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
RESPONSE: dict[str, Any] = {"model": "m", "input": "x"}


def models_in(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in a type, and those of their fields."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models_in(field.annotation)
    for argument in typing.get_args(kind):
        yield from models_in(argument)


MODELS = sorted(
    {model for op in OPERATIONS if op.model is not None for model in models_in(op.model)},
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("model", MODELS, ids=lambda each: each.__name__)
def test_null_means_not_given(model: type[BaseModel]) -> None:
    """Every optional parameter of every body, and of each object in it, may be null; that is the same as leaving it out."""
    optional = {field.alias or name for name, field in model.model_fields.items() if not field.is_required()}
    required = {field.alias or name for name, field in model.model_fields.items() if field.is_required()}
    without = errors_of(model, {})
    assert errors_of(model, dict.fromkeys(optional)) == without
    assert {error["loc"][0] for error in without if error["type"] == "missing"} == required
    properties = model.model_json_schema()["properties"]
    for name in optional:
        accepted = properties[name].get("anyOf")
        assert accepted is None or {"type": "null"} in accepted, name
        assert accepted is not None or "type" not in properties[name] or properties[name]["type"] == "null", name


def errors_of(model: type[BaseModel], data: dict[str, Any]) -> list[Any]:
    try:
        found = model.model_validate(data)
    except ValidationError as exc:
        return [{"loc": error["loc"], "type": error["type"]} for error in exc.errors()]
    assert not found.model_fields_set
    return []


@pytest.mark.parametrize(
    ("model", "sdk"),
    [
        (CreateChatCompletion, CompletionCreateParamsNonStreaming),
        (CreateResponse, ResponseCreateParamsNonStreaming),
        (CountInputTokens, InputTokenCountParams),
    ],
)
def test_every_parameter_of_the_protocol_is_known(model: type[BaseModel], sdk: Any) -> None:
    """No parameter of the SDK is taken for an unknown one, which would change nothing without a word."""
    assert set(typing.get_type_hints(sdk)) - set(model.model_fields) == set()


NEUTRAL: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (CreateChatCompletion, {"logprobs": False}),
    (CreateChatCompletion, {"top_logprobs": 0}),
    (CreateChatCompletion, {"modalities": ["text"]}),
    (CreateChatCompletion, {"functions": [], "function_call": "auto"}),
    (CreateChatCompletion, {"n": 1, "service_tier": "auto", "prompt_cache_retention": "24h", "store": True}),
    (CreateChatCompletion, {"prediction": {"type": "content", "content": "x"}}),
    (CreateResponse, {"top_logprobs": 0}),
    (CreateResponse, {"context_management": [], "max_tool_calls": 3, "prompt_cache_retention": "in_memory"}),
    (CreateResponse, {"include": ["reasoning.encrypted_content"]}),
]
CHANGING: list[tuple[type[BaseModel], dict[str, Any], str]] = [
    (CreateChatCompletion, {"logprobs": True}, "logprobs"),
    (CreateChatCompletion, {"top_logprobs": 2}, "top_logprobs"),
    (CreateChatCompletion, {"modalities": ["text", "audio"]}, "modalities"),
    (CreateChatCompletion, {"audio": {"voice": "alloy"}}, "audio"),
    (CreateChatCompletion, {"functions": [{"name": "f"}]}, "functions"),
    (CreateChatCompletion, {"web_search_options": {}}, "web_search_options"),
    (CreateResponse, {"top_logprobs": 1}, "top_logprobs"),
    (CreateResponse, {"prompt": {"id": "pmpt_1"}}, "prompt"),
    (CreateResponse, {"context_management": [{"type": "compaction"}]}, "context_management"),
    (CreateResponse, {"include": ["message.output_text.logprobs"]}, "include"),
    (
        CreateResponse,
        {"tools": [{"type": "file_search", "vector_store_ids": ["v"], "ranking_options": {"hybrid_search": {}}}]},
        "tools[0].ranking_options.hybrid_search",
    ),
    (
        CreateResponse,
        {
            "tools": [
                {"type": "code_interpreter", "container": {"type": "auto", "network_policy": {"type": "allowlist"}}}
            ]
        },
        "tools[0].container.network_policy",
    ),
]


def asked(model: Any, more: dict[str, Any]) -> Any:
    return validate(model, {**(CHAT if model is CreateChatCompletion else RESPONSE), **more})


@pytest.mark.parametrize(("model", "values"), NEUTRAL)
def test_neutral_values_are_accepted(model: Any, values: dict[str, Any]) -> None:
    """A value that changes no answer is accepted, whoever answers."""
    for responder in ("tutor", "upstream", "script"):
        assert change_refusal(asked(model, values), responder) is None


@pytest.mark.parametrize(("model", "values", "param"), CHANGING)
def test_values_that_would_change_the_answer_are_refused(model: Any, values: dict[str, Any], param: str) -> None:
    """A value that can't be applied is refused by its name; a script rehearses it."""
    refusal = change_refusal(asked(model, values), "tutor")
    assert refusal is not None
    assert refusal.param == param
    assert "null" in refusal.message
    assert change_refusal(asked(model, values), "script") is None
    assert (change_refusal(asked(model, values), "upstream") is None) == (param == "web_search_options")


@pytest.mark.parametrize(
    ("model", "more", "param", "message"),
    [
        (CreateChatCompletion, {"tool_choice": 5}, "tool_choice",
         "expected one of 'none', 'auto' or 'required' or an object, but got an integer"),
        (CreateChatCompletion, {"tool_choice": "any"}, "tool_choice",
         "Supported values are: 'none', 'auto' or 'required', or an object."),
        (CreateChatCompletion, {"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name",
         "Missing required parameter"),
        (CreateChatCompletion, {"tool_choice": {"type": "function"}}, "tool_choice.function", "Missing required"),
        (CreateRun, {"assistant_id": "a", "tool_choice": {"type": "function"}}, "tool_choice.function", "Missing required"),
        (CreateRun, {"assistant_id": "a", "tool_choice": {"type": "web"}}, "tool_choice.type", "'code_interpreter'"),
        (CreateChatCompletion, {"stop": 1}, "stop", "expected a string or an array"),
        (CreateChatCompletion, {"stop": [1]}, "stop[0]", "expected a string, but"),
        (CreateResponse, {"input": 5}, "input", "expected a string or an array"),
        (CreateResponse, {"input": [{"type": "nope"}]}, "input[0].type", "'item_reference', 'reasoning', 'file_search"),
        (CreateResponse, {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]",
         "needs 'image_url' or 'file_id'"),
        (CreateChatCompletion, {"tool_choice": {"type": "allowed_tools"}}, "tool_choice", "needs its 'mode'"),
        (CreateResponse, {"tool_choice": {"type": "allowed_tools", "mode": "any", "tools": []}}, "tool_choice",
         "'auto' or 'required'"),
        (CreateResponse, {"include": ["all"]}, "include[0]", "'file_search_call.results'"),
        (CreateRun, {"assistant_id": "a", "response_format": "json"}, "response_format", "'auto', or an object"),
        (CreateMessage, {"role": "user", "content": []}, "content", "array too short"),
        (CreateMessage, {"role": "user", "content": ""}, "content", "string too short"),
        (CreateMessage, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": ""}}]},
         "content[0].image_url.url", "string too short"),
        (SearchVectorStore, {"query": {}}, "query", "expected a string or an array, but got an object"),
    ],
)  # fmt: skip
def test_a_union_names_the_alternative_that_was_meant(model: Any, more: Any, param: str, message: str) -> None:
    """The error of a value with several allowed forms belongs to the form that was meant, or names all of them."""
    base = {CreateChatCompletion: CHAT, CreateResponse: RESPONSE}.get(model, {})
    with pytest.raises(ApiError) as caught:
        validate(model, {**base, **more})
    assert caught.value.param is not None
    assert caught.value.param.startswith(param)
    assert message in caught.value.message


def test_an_error_of_the_whole_body_names_no_parameter() -> None:
    """A rule about several parameters at once is refused by its own words, without a parameter."""
    with pytest.raises(ApiError, match="Give either 'file_ids' or 'files'") as caught:
        validate(AddVectorStoreFiles, {"file_ids": None, "files": []})
    assert caught.value.body()["error"]["param"] is None


def test_metadata_is_merged() -> None:
    """An update sets its keys and keeps the others; null or an empty value removes one; at most 16 remain."""
    current = {"a": "1", "b": "2", "c": "3"}
    assert merged_metadata(current, {"a": "9", "b": None, "c": "", "d": "4"}) == {"a": "9", "d": "4"}
    assert merged_metadata(current, None) == merged_metadata(current, {}) == current
    full = {str(number): "x" for number in range(16)}
    assert len(merged_metadata(full, {"0": None, "new": "x"})) == 16
    with pytest.raises(ApiError, match="at most 16"):
        merged_metadata(full, {"new": "x"})
