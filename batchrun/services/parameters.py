"""The model parameters of a job: those that options give, and those of --param, as one object.

Both may give the same parameter. Parts that do not exclude each other are joined: the members of `text`, `metadata` and
`stream_options`, and the list `tools`. Two values for one parameter are refused before the first request, so that
neither overwrites the other. Only what batchrun sends without being asked, such as `store`, gives way to --param.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from batchrun.errors import InputError
from batchrun.job.options import Api, Job
from batchrun.records import JsonDict, JsonObject
from batchrun.wording import shortened

__all__ = [
    "USAGE_TOO",
    "check_parameters",
    "metadata_of",
    "model_parameters",
    "response_format",
    "with_format",
    "with_tools",
]

USAGE_TOO: Final[JsonObject] = {"include_usage": True}
"""The `stream_options` of chat completions: without them, the last chunk has no usage."""
LOGPROBS: Final = "message.output_text.logprobs"
"""What a response must include to have log probabilities."""
_OWN_METADATA: Final = ("batch", "row", "attempt")
"""Keys of `metadata` by which batchrun recognises its own runs."""


class _Owned(NamedTuple):
    """A parameter that an option gives; `owner` is the option, as a message names it."""

    owner: str
    name: str
    value: object


def model_parameters(job: Job, api: Api) -> JsonDict:
    """Return the model parameters that the user set, under the names of the protocol.

    Examples:
        >>> from batchrun import Job
        >>> model_parameters(Job(max_completion_tokens=9, param={"seed": 7}), "responses")
        {'seed': 7, 'max_output_tokens': 9}
    """
    parameters = {**job.param, **{owned.name: owned.value for owned in _owned(job, api)}}
    if job.functions:
        parameters["tools"] = with_tools([_tool(each, api) for each in job.functions], job.param.get("tools"))
    if job.response_format is not None and api == "responses":
        parameters["text"] = with_format(job.param.get("text"), response_format(job.response_format, api) or {})
    if api != "chat":
        parameters.pop("metadata", None)  # it goes with batchrun's own: see `metadata_of`
    if job.keep and "logprobs" in job.keep:
        parameters |= _with_logprobs(parameters, api)
    given = job.param.get("stream_options")
    if api == "chat" and job.stream and isinstance(given, Mapping):
        parameters["stream_options"] = {**USAGE_TOO, **given}
    return parameters


def _with_logprobs(parameters: JsonObject, api: Api) -> JsonDict:
    """Return the parameter by which a service sends log probabilities, joined with the user's own."""
    if api != "responses":
        return {"logprobs": True}
    included: list[object] = parameters.get("include") or []
    return {"include": included if LOGPROBS in included else [*included, LOGPROBS]}


def _owned(job: Job, api: Api) -> Iterator[_Owned]:
    """Yield the parameters of which an option gives the whole value."""
    limit = "max_output_tokens" if api == "responses" else "max_completion_tokens"
    owned = [
        _Owned("--temperature", "temperature", job.temperature),
        _Owned("--top-p", "top_p", job.top_p),
        _Owned("--max-completion-tokens", limit, job.max_completion_tokens),
    ]
    if api != "responses":
        owned.append(_Owned("response_format", "response_format", response_format(job.response_format, api)))
    yield from (each for each in owned if each.value is not None)


def response_format(wanted: JsonObject | None, api: Api) -> JsonDict | None:
    """Return a response format as the protocol has it.

    Responses expects the fields of a schema next to its type, not below it, and all of it under `format`.
    """
    if wanted is None or api != "responses":
        return dict(wanted) if wanted is not None else None
    schema = wanted.get("json_schema")
    return {"format": {"type": wanted["type"], **schema} if isinstance(schema, Mapping) else dict(wanted)}


def _tool(function: JsonObject, api: Api) -> JsonDict:
    """Return a function as a tool. Responses expects its fields next to the tool's type, and requires `strict`."""
    if api == "responses":
        return {"type": "function", "strict": False, **function}
    return {"type": "function", "function": dict(function)}


# -- joining --------------------------------------------------------------------------------------------------


def with_format(text: object, own: JsonObject) -> JsonDict:
    """Return the `text` of --param (None for none) with the format of answers."""
    return {**text, **own} if isinstance(text, Mapping) else dict(own)


def with_tools(own: Sequence[JsonObject], given: object) -> list[JsonObject]:
    """Return tools followed by those of --param (None for none), without those that are the same."""
    return [*own, *(tool for tool in given if tool not in own)] if isinstance(given, list) else [*own]


def metadata_of(job: Job, batch_id: str) -> dict[str, str]:
    """Return the metadata of every object of a batch: batchrun's own, and those of --param."""
    return {**(job.param.get("metadata") or {}), "batch": batch_id}


# -- conflicts ------------------------------------------------------------------------------------------------


def check_parameters(job: Job, api: Api, structure: JsonObject | None = None) -> None:
    """Refuse a parameter of --param for which an option gives another value.

    Args:
        job: one combination of settings, with the functions of --tools.
        structure: response format of structured answers; None without --schema.

    Raises:
        InputError: names the option and the parameter.
    """
    if job.keep and "logprobs" in job.keep:
        _check_logprobs(job, api)
    for owner, name, own in _owned(job, api):
        if name in job.param and job.param[name] != own:
            raise _conflict(owner, name, name)
    form = [("--schema", structure), ("response_format", job.response_format)]
    for owner, wanted in form:
        if wanted is not None:
            _check_format(job, api, owner, wanted)
    if job.functions:
        _check_tools(job, "--tools" if job.tools else "functions", [_tool(each, api) for each in job.functions])
    for owner, kind, is_given in (
        ("--file-search", "file_search", bool(job.file_search)),
        ("--code-interpreter", "code_interpreter", job.code_interpreter),
    ):
        if is_given:
            _check_tools(job, owner, [{"type": kind}])
    if api != "chat":
        _check_metadata(job)


def _check_logprobs(job: Job, api: Api) -> None:
    if api == "assistants":
        raise InputError("--keep logprobs: the Assistants API has no log probabilities; use --api chat or responses")
    if api == "chat" and job.param.get("logprobs", True) is not True:
        raise _conflict("--keep logprobs", "logprobs", "logprobs")
    included = job.param.get("include")
    if api == "responses" and included is not None and not isinstance(included, list):
        raise InputError(f"--keep logprobs and --param include: expected a list of texts, got {shortened(included)}")


def _check_format(job: Job, api: Api, owner: str, wanted: JsonObject) -> None:
    name = "text" if api == "responses" else "response_format"
    if name not in job.param:
        return
    given = job.param[name]
    if api != "responses":
        if given != wanted:
            raise _conflict(owner, name, name)
        return
    if not isinstance(given, Mapping):
        raise InputError(f"{owner} and --param text: expected an object, such as text={{…}}, got {shortened(given)}")
    if "format" in given and {"format": given["format"]} != response_format(wanted, api):
        raise _conflict(owner, name, "text.format")


def _check_tools(job: Job, owner: str, own: Sequence[JsonObject]) -> None:
    """Refuse a tool of --param that has the name of another one, or that cannot be joined to them."""
    if "tools" not in job.param:
        return
    given = job.param["tools"]
    if not isinstance(given, list):
        raise InputError(f"{owner} and --param tools: expected a list of tools, got {shortened(given)}")
    names = {_tool_name(tool): tool for tool in own}
    for tool in given:
        name = _tool_name(tool)
        if name in names and tool != names[name]:
            raise _conflict(owner, "tools", f"the tool {name}")


def _tool_name(tool: object) -> str:
    """Return what a model calls a tool: the name of a function, or the type of a hosted tool."""
    if not isinstance(tool, Mapping):
        return ""
    function = tool.get("function")
    named = function if isinstance(function, Mapping) else tool
    return str(named.get("name") if tool.get("type") == "function" else tool.get("type"))


def _check_metadata(job: Job) -> None:
    given = job.param.get("metadata", {})
    if not isinstance(given, Mapping):
        raise InputError(
            f'param: metadata: expected an object, such as metadata={{"team": "a"}}, got {shortened(given)}; '
            "batchrun adds its own keys to it"
        )
    reserved = [name for name in _OWN_METADATA if name in given]
    if reserved:
        raise InputError(
            f"param: metadata: the key {reserved[0]!r} is set by batchrun, which recognises its runs by it; "
            "use another key"
        )


def _conflict(owner: str, parameter: str, what: str) -> InputError:
    return InputError(f"{owner} and --param {parameter}: both set {what}, to different values; remove one of them")
