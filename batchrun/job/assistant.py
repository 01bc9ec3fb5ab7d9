"""What an assistant was, as a job: for services that know no assistants any more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchrun.errors import InputError
from batchrun.wording import shortened

__all__ = ["checked_assistant", "job_of_assistant", "read_assistant"]

_DEFAULTS = {"temperature": 1.0, "top_p": 1.0}
"""What the API echoes where nothing was set; sending it would be refused by models that take no such parameter."""


def job_of_assistant(assistant: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(options of a job, what could not be carried over, a line each).

    Model, instructions, temperature, top_p, response_format and function tools carry over. The hosted tools with their
    files, and metadata, do not.
    """
    options: dict[str, Any] = {"model": assistant["model"]}
    lost: list[str] = []
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
            lost.append(_lost_tool(tool["type"], assistant.get("tool_resources") or {}))
    if functions:
        options["functions"] = _storable(functions)
    if assistant.get("reasoning_effort"):
        lost.append(f"reasoning_effort = {assistant['reasoning_effort']!r}: say it in [param], as the service calls it")
    if assistant.get("metadata"):
        lost.append(f"metadata: {json.dumps(assistant['metadata'], ensure_ascii=False)}")
    return options, lost


def _lost_tool(kind: str, resources: Mapping[str, Any]) -> str:
    held = resources.get(kind) or {}
    ids = [*held.get("file_ids", ()), *held.get("vector_store_ids", ())]
    return f"the tool {kind}" + (f", with {', '.join(map(str, ids))}" if ids else "")


def _literal(text: str) -> str:
    """Instructions that begin with @ would be taken for a file's name."""
    return f"@{text}" if text.startswith("@") else text


def _storable(value: Any) -> Any:
    """TOML has no null: a schema that holds one (`enum: ["a", null]`) is kept as JSON text, which job files take."""
    return json.dumps(value, ensure_ascii=False, indent=2) if _holds_null(value) else value


def _holds_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_null(each) for each in value.values())
    if isinstance(value, list):
        return any(_holds_null(each) for each in value)
    return value is None


def read_assistant(path: Path) -> dict[str, Any]:
    """The JSON of an assistant, as the API returned it.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise InputError(f"{path}: {(exc.strerror or str(exc)).lower()}") from None
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{path}: is not valid JSON: {exc}") from None
    return checked_assistant(found, str(path))


def checked_assistant(found: object, name: str) -> dict[str, Any]:
    """What `job_of_assistant` can read.

    Args:
        name: where it is from, for the message.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(found, dict) or not isinstance(found.get("model"), str):
        raise InputError(f"{name}: is not the JSON of an assistant: it names no model")
    for key, kind in _KINDS.items():
        if not isinstance(found.get(key), (kind, type(None))):
            raise InputError(f"{name}: {key}: {_WORDS[kind]} is expected, got {shortened(found[key])}")
    for number, tool in enumerate(found.get("tools") or (), start=1):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise InputError(f"{name}: tool {number}: an object with a type is expected, got {shortened(tool)}")
        if tool["type"] == "function" and not isinstance(tool.get("function"), dict):
            raise InputError(f"{name}: tool {number}: an object `function` is expected, got {shortened(tool)}")
    for kind, held in (found.get("tool_resources") or {}).items():
        if not isinstance(held, (dict, type(None))):
            raise InputError(f"{name}: tool_resources: {kind}: an object is expected, got {shortened(held)}")
        for ids in (held or {}).values():
            if not isinstance(ids, list):
                raise InputError(f"{name}: tool_resources: {kind}: lists of ids are expected, got {shortened(ids)}")
    _check_depth(found, name)
    return found


_KINDS: Mapping[str, type] = {
    "instructions": str,
    "tools": list,
    "tool_resources": dict,
    "metadata": dict,
    "reasoning_effort": str,
}
"""What the API returns under these names, where it is not null."""

_WORDS: Mapping[type, str] = {str: "text", list: "a list", dict: "an object"}

_DEEPEST = 100
"""Levels of lists and objects; services take far fewer, and writing a job file goes down by recursion."""


def _check_depth(found: object, name: str) -> None:
    level: list[object] = [found]
    for _ in range(_DEEPEST):
        level = [
            each
            for value in level
            if isinstance(value, (dict, list))
            for each in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise InputError(f"{name}: is nested more than {_DEEPEST} levels deep")
