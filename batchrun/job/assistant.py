"""Conversion of an assistant into the options of a job, for services without assistants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchrun.errors import InputError
from batchrun.job.templated import is_template
from batchrun.records import JsonDict, Settings
from batchrun.wording import shortened

__all__ = ["checked_assistant", "job_of_assistant", "read_assistant"]

_DEFAULTS = {"temperature": 1.0, "top_p": 1.0}
"""Values that the API returns for parameters that were not set. They are not sent: some models refuse them."""


def job_of_assistant(assistant: Settings) -> tuple[JsonDict, list[str]]:
    """Return (options of a job, one line for each setting that could not be carried over).

    Model, instructions, temperature, top_p, response_format and function tools are carried over. Hosted tools, their
    files and metadata are not.
    """
    options: JsonDict = {"model": assistant["model"]}
    dropped: list[str] = []
    if assistant.get("instructions"):
        options["instructions"] = _literal(assistant["instructions"])
    for name, default in _DEFAULTS.items():
        if assistant.get(name) not in (None, default):
            options[name] = assistant[name]
    response_format = assistant.get("response_format")
    if isinstance(response_format, Mapping) and response_format.get("type") != "text":
        options["response_format"] = _storable(response_format)
    functions = []
    for tool in assistant.get("tools") or ():
        if tool["type"] == "function":
            functions.append({name: value for name, value in tool["function"].items() if value is not None})
        else:
            dropped.append(_dropped_tool(tool["type"], assistant.get("tool_resources") or {}))
    if functions:
        options["functions"] = _storable(functions)
    if assistant.get("reasoning_effort"):
        dropped.append(
            f"reasoning_effort = {assistant['reasoning_effort']!r}: set it in [param] under the service's name for it"
        )
    if assistant.get("metadata"):
        dropped.append(f"metadata: {json.dumps(assistant['metadata'], ensure_ascii=False)}")
    return options, dropped


def _dropped_tool(kind: str, resources: Settings) -> str:
    resource = resources.get(kind) or {}
    ids = [*resource.get("file_ids", ()), *resource.get("vector_store_ids", ())]
    return f"tool {kind}" + (f", with {', '.join(map(str, ids))}" if ids else "")


def _literal(text: str) -> str:
    """Return the text as it has to be written in a job: a leading @ is doubled, so that it is not read as the name of a
    file, and braces of templates are marked as text."""
    if is_template(text):
        raw = "{% raw %}" + text + "{% endraw %}"
        text = raw if "endraw" not in text else f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
    return f"@{text}" if text.startswith("@") else text


def _storable(value: Any) -> Any:
    """Return the value, or JSON text if it contains null, as in `enum: ["a", null]`: TOML has no null."""
    return json.dumps(value, ensure_ascii=False, indent=2) if _holds_null(value) else value


def _holds_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_null(each) for each in value.values())
    if isinstance(value, list):
        return any(_holds_null(each) for each in value)
    return value is None


def read_assistant(path: Path) -> JsonDict:
    """Return an assistant from a file with its JSON, as the API returns it.

    Raises:
        InputError: the file cannot be read or does not contain an assistant.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise InputError(f"{path}: {(exc.strerror or str(exc)).lower()}") from None
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{path}: is not valid JSON: {exc}") from None
    return checked_assistant(value, str(path))


def checked_assistant(value: object, name: str) -> JsonDict:
    """Return the object after checking that `job_of_assistant` can convert it.

    Args:
        value: a JSON value.
        name: origin of the value, for the message.

    Raises:
        InputError: the value is not an assistant.
    """
    if not isinstance(value, dict) or not isinstance(value.get("model"), str):
        raise InputError(f"{name}: is not the JSON of an assistant: it has no model")
    for key, kind in _KINDS.items():
        if not isinstance(value.get(key), (kind, type(None))):
            raise InputError(f"{name}: {key}: expected {_WORDS[kind]}, got {shortened(value[key])}")
    for number, tool in enumerate(value.get("tools") or (), start=1):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise InputError(f"{name}: tool {number}: expected an object with a type, got {shortened(tool)}")
        if tool["type"] == "function" and not isinstance(tool.get("function"), dict):
            raise InputError(f"{name}: tool {number}: expected an object `function`, got {shortened(tool)}")
    for kind, resource in (value.get("tool_resources") or {}).items():
        if not isinstance(resource, (dict, type(None))):
            raise InputError(f"{name}: tool_resources: {kind}: expected an object, got {shortened(resource)}")
        for ids in (resource or {}).values():
            if not isinstance(ids, list):
                raise InputError(f"{name}: tool_resources: {kind}: expected lists of ids, got {shortened(ids)}")
    _check_depth(value, name)
    return value


_KINDS: Mapping[str, type] = {
    "instructions": str,
    "tools": list,
    "tool_resources": dict,
    "metadata": dict,
    "reasoning_effort": str,
}
"""Types of the fields that are not null."""

_WORDS: Mapping[type, str] = {str: "text", list: "a list", dict: "an object"}

_MAX_DEPTH = 100
"""Maximum levels of lists and objects. Services accept far fewer, and a job file is written by recursion."""


def _check_depth(found: object, name: str) -> None:
    level: list[object] = [found]
    for _ in range(_MAX_DEPTH):
        level = [
            each
            for value in level
            if isinstance(value, (dict, list))
            for each in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise InputError(f"{name}: is nested more than {_MAX_DEPTH} levels deep")
