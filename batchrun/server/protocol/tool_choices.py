"""The choice of a tool: which functions a model may call, and whether it must."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.responders.base import HOSTED_FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.protocol.bodies import Body

__all__ = ["chosen", "missing_tool"]


def chosen(choice: str | Body | None, functions: Sequence[Body]) -> tuple[str | Body, Sequence[Body]]:
    """Return a choice in the form of Chat Completions, and the functions that it leaves to the model.

    Args:
        choice: a word, a tool, or `allowed_tools`, in the form of Responses or of Chat Completions.
        functions: in the form of Chat Completions.
    """
    if choice is None or isinstance(choice, str):
        return choice or "auto", functions
    if choice["type"] == "allowed_tools":
        allowed = _allowed(choice)
        names = {_name(tool) for tool in allowed["tools"]}
        return allowed["mode"], [each for each in functions if each["function"]["name"] in names]
    name = _name(choice)
    return "auto" if name is None else {"type": "function", "function": {"name": name}}, functions


def missing_tool(choice: str | Body | None, functions: Sequence[Body]) -> str | None:
    """Return the first tool that a choice names and a request does not offer; None if there is none."""
    if choice is None or isinstance(choice, str):
        return None
    offered = {each["function"]["name"] for each in functions}
    named = _allowed(choice)["tools"] if choice["type"] == "allowed_tools" else [choice]
    missing = next((tool for tool in named if _name(tool) not in offered), None)
    if missing is None:
        return None
    return _name(missing) if missing.get("type") == "function" else str(missing.get("type"))


def _allowed(choice: Body) -> Body:
    body: Body = choice.get("allowed_tools") or choice
    return body


def _name(tool: Body) -> str | None:
    """Return the function by which a responder knows a tool; None for a tool of a service."""
    if tool.get("type") != "function":
        return HOSTED_FUNCTIONS.get(str(tool.get("type")))
    return tool.get("name") or (tool.get("function") or {}).get("name")
