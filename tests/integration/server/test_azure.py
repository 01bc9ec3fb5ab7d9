"""The client of Azure OpenAI, with only its endpoint changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from openai import AuthenticationError, AzureOpenAI

from tests.integration.server.conftest import Running


def _client(running: Running, key: str = "secret", **options: Any) -> AzureOpenAI:
    endpoint = running.url.removesuffix("/v1")
    return AzureOpenAI(azure_endpoint=endpoint, api_key=key, api_version="2024-05-01-preview", max_retries=0, **options)


@pytest.mark.parametrize("options", [{}, {"azure_deployment": "org/gpt-4o"}], ids=["endpoint", "deployment"])
def test_azures_client_works_unchanged(start: Callable[..., Running], options: dict[str, str]) -> None:
    """Completions, runs, files and Responses work with Azure's client; the deployment is the model."""
    running = start(api_keys=("secret",))
    with _client(running, **options) as client:
        hello: Any = [{"role": "user", "content": "hi"}]
        assert client.chat.completions.create(model="org/gpt-4o", messages=hello).model == "org/gpt-4o"
        assistant = client.beta.assistants.create(model="gpt-4o")
        run = client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id, thread={"messages": hello}, poll_interval_ms=20
        )
        assert (run.status, run.model) == ("completed", "gpt-4o")
        file = client.files.create(file=("a.txt", b"text"), purpose="assistants")
        assert client.files.content(file.id).content == b"text"
        assert client.responses.create(model="gpt-4o", input="hi").output_text == "You said: hi"


def test_plain_requests_of_azure(start: Callable[..., Running]) -> None:
    """A key in `api-key` is checked, a deployment needs no model in the body, and assistants no beta header."""
    running = start(api_keys=("secret",))
    base = running.url.removesuffix("/v1") + "/openai"
    body: Any = {"messages": [{"role": "user", "content": "hi"}]}
    url = f"{base}/deployments/mine/chat/completions?api-version=2024-10-21"
    assert httpx2.post(url, json=body, headers={"api-key": "secret"}).json()["model"] == "mine"
    assert httpx2.post(url, json=body, headers={"api-key": "wrong"}).status_code == 401
    assert httpx2.get(f"{base}/assistants", headers={"api-key": "secret"}).status_code == 200
    with _client(running, key="wrong") as client, pytest.raises(AuthenticationError):
        client.models.list()


def test_a_key_of_idempotency_belongs_to_one_deployment(start: Callable[..., Running]) -> None:
    """The same body with the same idempotency key for another deployment is another request."""
    base = start().url.removesuffix("/v1") + "/openai/deployments"
    body: Any = {"messages": [{"role": "user", "content": "hi"}]}
    headers = {"Idempotency-Key": "k"}
    codes = [
        httpx2.post(f"{base}/{each}/chat/completions", json=body, headers=headers).status_code
        for each in ("one", "one", "two")
    ]
    assert codes == [200, 200, 409]
