"""Ended runs, for tests of rows with several runs."""

from __future__ import annotations

from typing import Any

from batchrun.records import Reply, RunEnd, ToolCall
from batchrun.token_usage import Usage

__all__ = ["CALL", "asking", "ended"]

CALL = ToolCall("call_1", "double", '{"x": 1}')


def asking(*calls: ToolCall, waiting: bool = False, text: str = "", usage: Usage | None = None) -> Reply:
    """Return the reply of a run that calls functions; one that waits has its text as a message."""
    history = ({"content": text},) if waiting and text else ()
    return Reply(
        "requires_action",
        text,
        usage or Usage(10, 5, 15),
        "m",
        calls=calls or (CALL,),
        waiting=waiting,
        history=history,
    )


def ended(number: int, turn: int, reply: str | Reply, *, attempt: int = 1, **fields: Any) -> RunEnd:
    """Return the end of one run of a row with several runs; a string is the text of a completed reply."""
    if isinstance(reply, str):
        reply = Reply("completed", reply, Usage(10, 5, 15, 0, 0, {"prompt_tokens": 10}), "m")
    usual = {"thread_id": "thread_1", "run_id": f"run_{number}"}
    return RunEnd(number, turn, attempt, f"question {turn}", reply, **{**usual, **fields})
