from __future__ import annotations

from typing import Any

import pytest

from batchrun.server.protocol.items import item_messages

CALL: Any = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT: Any = {"type": "function_call_output", "call_id": "c", "output": "1"}


@pytest.mark.parametrize(
    ("items", "counts"),
    [
        ([CALL, OUTPUT], [(1, 0), (0, 1)]),
        ([CALL, CALL, OUTPUT], [(1, 0), (0, 1)]),  # by `previous_response_id`, and again in the input
        ([CALL, OUTPUT, CALL, OUTPUT], [(1, 0), (0, 1), (1, 0), (0, 1)]),
    ],
)
def test_a_call_that_is_sent_again(items: list[Any], counts: list[tuple[int, int]]) -> None:
    """A call that comes again before its output is one call for the model; after it, another one."""
    found = item_messages(items)
    assert [(len(message.tool_calls), len(message.tool_outputs)) for message in found] == counts
