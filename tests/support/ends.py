"""Runs that ended, as tests of rows of several need them."""

from __future__ import annotations

from typing import Any

from batchrun.records import Reply, RunEnd, ToolCall, Usage

__all__ = ["CALL", "asking", "ended"]

CALL = ToolCall("call_1", "double", '{"x": 1}')


def asking(*calls: ToolCall, waiting: bool = False, text: str = "", usage: Usage | None = None) -> Reply:
    """A run that asks for functions to be called."""
    return Reply("requires_action", text, usage or Usage(10, 5, 15), "m", calls=calls or (CALL,), waiting=waiting)


def ended(number: int, turn: int, reply: str | Reply, *, attempt: int = 1, **fields: Any) -> RunEnd:
    """A run of a row that needs several; text stands for an answer."""
    if isinstance(reply, str):
        reply = Reply("completed", reply, Usage(10, 5, 15, 0, 0, {"prompt_tokens": 10}), "m")
    usual = {"thread_id": "thread_1", "run_id": f"run_{number}"}
    return RunEnd(number, turn, attempt, f"question {turn}", reply, **{**usual, **fields})
