from __future__ import annotations

from typing import Any

import pytest

from batchrun.server.protocol.requests.chat import CreateChatCompletion
from batchrun.server.protocol.requests.items import CreateResponse
from batchrun.server.protocol.tool_choices import chosen, missing_tool

FUNCTIONS: Any = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "python")]
F, G = FUNCTIONS[:2]
ITEM = {"type": "function", "name": "f"}
REQUESTS: dict[Any, dict[str, Any]] = {
    CreateChatCompletion: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    CreateResponse: {"model": "m", "input": "hi"},
}


@pytest.mark.parametrize(
    ("model", "choice", "expected"),
    [
        (CreateChatCompletion, None, ("auto", FUNCTIONS)),
        (CreateChatCompletion, "required", ("required", FUNCTIONS)),
        (CreateChatCompletion, F, (F, FUNCTIONS)),
        (CreateResponse, ITEM, (F, FUNCTIONS)),
        (CreateResponse, {"type": "code_interpreter"}, (FUNCTIONS[2], FUNCTIONS)),
        (
            CreateChatCompletion,
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [F]}},
            ("auto", [F]),
        ),
        (
            CreateResponse,
            {"type": "allowed_tools", "mode": "required", "tools": [ITEM, {"type": "code_interpreter"}]},
            ("required", [F, FUNCTIONS[2]]),
        ),
    ],
)
def test_choices(model: Any, choice: Any, expected: Any) -> None:
    """A choice of each form reaches the model with the tools that it allows."""
    request = model.model_validate({**REQUESTS[model], "tool_choice": choice})
    given = request.tool_choice
    body = given if given is None or isinstance(given, str) else given.model_dump()
    assert chosen(body, FUNCTIONS) == expected
    assert missing_tool(body, FUNCTIONS) is None


@pytest.mark.parametrize(
    ("choice", "missing"),
    [
        ({"type": "function", "name": "h"}, "h"),
        ({"type": "function", "function": {"name": "h"}}, "h"),
        ({"type": "file_search"}, "file_search"),
        ({"type": "web_search"}, "web_search"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [ITEM, {"type": "mcp"}]}, "mcp"),
    ],
)
def test_a_tool_that_is_not_offered(choice: Any, missing: str) -> None:
    """The tool that a choice names and the request does not offer is named as the request names it."""
    assert missing_tool(choice, FUNCTIONS) == missing
