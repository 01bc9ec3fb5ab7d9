"""The line about the upstream endpoint when the server starts."""

from __future__ import annotations

import socket

import pytest

from batchrun.server.responders.upstream_check import upstream_line
from tests.support.scripted_http import ScriptedHttp, json_answer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("status", "key", "state"),
    [
        (200, "right", "can be reached"),
        (401, "wrong", "refuses the key (401); --upstream-key-env names the environment variable with the right one"),
        (404, None, "can be reached, but has no /models (404); if runs fail, check the URL, which usually ends in /v1"),
        (500, None, "can be reached, but replies 500 to /models"),
    ],
)
async def test_an_endpoint_that_replies(status: int, key: str | None, state: str) -> None:
    """The line has the state by the reply to a single request for the models, which sends the key."""
    with ScriptedHttp(lambda _: json_answer({"data": []}, status), lists_models=True) as server:
        assert await upstream_line(server.url, key) == f"upstream {server.url}: {state}"
        (request,) = server.requests
    assert request.path.endswith("/models")
    assert request.headers["authorization"] == f"Bearer {key or 'none'}"


async def test_an_endpoint_that_is_not_there() -> None:
    """The line says that it cannot be reached, without the key."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    line = await upstream_line(url, "sk-planted-0123456789")
    assert line.startswith(f"upstream {url}: cannot be reached now, and runs fail until it can: ")
    assert "planted" not in line
