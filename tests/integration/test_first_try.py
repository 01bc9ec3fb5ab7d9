"""A wrong first attempt is not a batch: if nothing was answered and nothing paid, the corrected command continues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat import chat_reply
from tests.support.command import Result, batchrun
from tests.support.rows import read_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

ROWS = 4
NOWHERE = "http://127.0.0.1:9/v1"


def error(status: int, code: str, message: str = "no") -> Answer:
    return json_answer({"error": {"message": message, "code": code, "type": "invalid_request_error"}}, status)


def service(request: Request) -> Answer:
    """A service with a single model and a single key."""
    if request.headers.get("authorization") != "Bearer right":
        return error(401, "invalid_api_key")
    if not request.path.endswith("/v1/chat/completions"):
        return error(405, "method_not_allowed")
    if request.body["model"] != "right":
        return error(404, "model_not_found", "The model does not exist")
    if request.body.get("temperature") == 2.0:
        return error(400, "bad_row")
    return json_answer(chat_reply("answer", model="right"))


@pytest.fixture
def server() -> Iterator[ScriptedHttp]:
    with ScriptedHttp(service) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text("question\n" + "".join(f"q{row}\n" for row in range(ROWS)))
    return tmp_path


def run(folder: Path, base_url: str, *options: str, model: str = "right", key: str = "right") -> Result:
    # A row that alone is left cannot be told from an outage, which would be waited out.
    fixed = (
        "--api",
        "chat",
        "--base-url",
        base_url,
        "--model",
        model,
        "--max-attempts",
        "1",
        "--max-outage",
        "2",
        "--json",
    )
    return batchrun(folder, "run", "q.csv", "-o", "a.csv", *fixed, *options, OPENAI_API_KEY=key)


def statuses(folder: Path) -> list[str]:
    return [row["status"] for row in read_csv(folder / "a.csv")]


WRONG: dict[str, Any] = {
    "model": {"model": "wrong"},
    "key": {"key": "wrong"},
    "path": {"path": "/elsewhere"},
    "setting": {"options": ["--temperature", "2"]},
    "prompt and setting": {"options": ["--temperature", "2", "--prompt", "{{ question }}!"]},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_corrected_command_continues(folder: Path, server: ScriptedHttp, wrong: str) -> None:
    """Wrong model, key, URL or setting: after the correction every row is answered, without a further option."""
    tried = dict(WRONG[wrong])
    first = run(folder, server.url + tried.pop("path", ""), *tried.pop("options", []), **tried)
    assert first.returncode not in (0, 2), first.stderr
    dry = run(folder, server.url, "--dry-run")
    assert "differs" not in dry.stdout
    second = run(folder, server.url)
    assert second.returncode == 0, second.stderr
    assert statuses(folder) == ["completed"] * ROWS
    assert second.facts()["created_again"] == 0


def test_a_wrong_port(folder: Path, server: ScriptedHttp) -> None:
    """No server received a request there, so nothing counts as sent again, even with another model."""
    assert run(folder, NOWHERE, "--max-outage", "0.2", model="wrong").returncode == 5
    second = run(folder, server.url)
    assert second.returncode == 0, second.stderr
    assert second.facts()["created_again"] == 0


def test_from_a_service_to_the_rehearsal_and_back(folder: Path, server: ScriptedHttp) -> None:
    """As long as there is no answer, the destination can change altogether."""
    (folder / "s.toml").write_text('[default]\nreply = ""\nfault = { code = "invalid_prompt" }\n')
    assert run(folder, server.url, key="wrong").returncode == 5
    rehearsal = batchrun(
        folder, "run", "q.csv", "-o", "a.csv", "--script", "s.toml", "--max-attempts", "1", "--keep-going"
    )
    assert rehearsal.returncode == 3, rehearsal.stderr


@pytest.mark.parametrize("asked", ["answered", "may have been acted on"])
def test_what_may_have_cost_is_a_batch(folder: Path, asked: str) -> None:
    """After one answer, or one request whose answer was not received, another model is refused as usual."""

    def once(request: Request) -> Answer:
        if request.body["messages"][-1]["content"] != "q0":
            return error(400, "bad_row")
        return json_answer(chat_reply("answer", model="right")) if asked == "answered" else Answer(b"", "close")

    with ScriptedHttp(once) as server:
        run(folder, server.url, "--keep-going")
        refused = run(folder, server.url, model="other")
    assert refused.returncode == 2
    assert "model was 'right' and is 'other'" in refused.stderr


def test_failed_rows_stay_failed_where_nothing_changed(folder: Path, server: ScriptedHttp) -> None:
    """The same command again retries no failed row: only a correction does."""
    for _ in range(2):
        assert run(folder, server.url, "--temperature", "2", "--keep-going").returncode == 3
    asked = len(server.paths())
    assert run(folder, server.url, "--temperature", "2", "--keep-going").returncode == 3
    assert len(server.paths()) == asked
