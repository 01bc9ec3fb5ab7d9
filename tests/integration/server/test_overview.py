"""The code of OpenAI's own overview runs unchanged against the embedded server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchrun.server import EmbeddedServer, ServerSettings
from tests.support.markdown import code_blocks
from tests.support.obliging import Obliging

OVERVIEW = Path(__file__).with_name("overview.md")


def test_the_overview_runs_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OPENAI_BASE_URL and OPENAI_API_KEY set, every block works as the overview describes. The model answers
    with text, as the overview's code expects."""
    shown: list[Any] = []
    names: dict[str, Any] = {"display": shown.append}  # IPython's, in a notebook
    clients: dict[int, Any] = {}  # a later block replaces the client of an earlier one
    with EmbeddedServer(ServerSettings(api_keys=("sk-test",)), Obliging()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        for number, block in enumerate(code_blocks(OVERVIEW, "python")):
            exec(compile(block, f"overview.md, block {number}", "exec"), names)
            if "client" in names:
                clients[id(names["client"])] = names["client"]
        runs = [names["wait_on_run"](names[f"run{n}"], names[f"thread{n}"]) for n in (1, 2, 3)]
        answers = [names["get_response"](names[f"thread{n}"]).data[-1].content[0].text.value for n in (1, 2, 3)]
        for client in clients.values():
            client.close()
    assistant, thread, message, queued, ended, listed, explained = shown
    assert assistant["instructions"].startswith("You are a personal math tutor.")
    assert thread["tool_resources"] == {"code_interpreter": None, "file_search": None}
    assert message["content"][0]["text"]["value"].startswith("I need to solve the equation `3x + 11 = 14`.")
    assert (queued["status"], queued["usage"]) == ("queued", None)
    assert (ended["status"], ended["expires_at"]) == ("completed", None)
    assert ended["usage"]["total_tokens"] > 0
    assert [each["role"] for each in listed["data"]] == ["assistant", "user"]
    assert "x = 1" in listed["data"][0]["content"][0]["text"]["value"]
    assert len(explained["data"]) == 1
    assert "subtract 11" in explained["data"][0]["content"][0]["text"]["value"]
    assert [run.status for run in runs] == ["completed"] * 3
    assert "x = 1" in answers[0]
    assert all("not a language model" in answer for answer in answers[1:])


def test_no_block_is_missing() -> None:
    """The copy contains the eleven Python blocks."""
    assert len(code_blocks(OVERVIEW, "python")) == 11
