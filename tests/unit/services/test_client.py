"""The address and the credentials of requests, as a server that records them receives them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest

from batchrun.engine.limits import Limits
from batchrun.engine.pacer import Pacers
from batchrun.errors import BatchRefused, InputError, ServiceFault
from batchrun.services.client import Endpoint, open_client
from batchrun.services.wire import Wire
from tests.support.scripted_http import Request, ScriptedHttp, json_answer

pytestmark = pytest.mark.anyio

KEY = "sk-secret-0123456789"
BODY = {"model": "m-1", "messages": []}


@pytest.fixture
def server() -> Iterator[ScriptedHttp]:
    """Start a server that answers every request."""
    with ScriptedHttp(lambda _: json_answer({"id": "x"})) as started:
        yield started


@pytest.fixture
def refusing() -> Iterator[ScriptedHttp]:
    """Start a server that refuses every key, and repeats it."""

    def script(request: Request) -> Any:
        sent = request.headers.get("authorization", request.headers.get("api-key", ""))
        return json_answer(
            {"error": {"message": f"Incorrect API key provided: {sent}", "code": "invalid_api_key"}}, 401
        )

    with ScriptedHttp(script) as started:
        yield started


async def post(endpoint: Endpoint, path: str = "/chat/completions", limits: Limits | None = None) -> None:
    async with aclosing(Wire(endpoint, limits or Limits(), silence_timeout_s=5)) as wire:
        await wire.post(path, BODY, {"Idempotency-Key": "key-7"})


def limited(**headers: str) -> ScriptedHttp:
    """Start a server that sends limits with every reply."""
    return ScriptedHttp(lambda _: json_answer({"id": "x"}, 200, **headers))


def origin(server: ScriptedHttp) -> str:
    return server.url.removesuffix("/v1")


# -- addresses and headers --------------------------------------------------------------------------------------


async def test_key_organization_and_project(server: ScriptedHttp) -> None:
    """The key, the organization and the project are sent in OpenAI's headers."""
    await post(Endpoint(server.url, KEY, organization="org-1", project="proj-1"))
    headers = server.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")


async def test_headers_and_queries(server: ScriptedHttp) -> None:
    """The user's headers and query parameters are sent with every request; they override those of the SDK."""
    await post(Endpoint(server.url, KEY, headers={"Authorization": "Basic Zm9v", "X-Team": "a b"}, query={"tier": "1"}))
    request = server.requests[0]
    assert (request.headers["authorization"], request.headers["x-team"]) == ("Basic Zm9v", "a b")
    assert request.query == {"tier": "1"}


@pytest.mark.parametrize("value", ["", "http://127.0.0.1:9/other"])
async def test_the_service_does_not_depend_on_the_sdks_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Without a base URL the client is OpenAI's: the SDK reads no OPENAI_BASE_URL, of which an empty one has no host."""
    monkeypatch.setenv("OPENAI_BASE_URL", value)
    client, _ = open_client(Endpoint(None, KEY), Limits(), silence_timeout_s=5)
    async with client:
        assert str(client.base_url) == "https://api.openai.com/v1/"


async def test_no_key(server: ScriptedHttp) -> None:
    """Without a key, a placeholder is sent: the environment's key is meant for another service."""
    await post(Endpoint(server.url, None))
    assert server.requests[0].headers["authorization"] == "Bearer none"


async def test_no_key_of_the_environment(server: ScriptedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK does not replace a missing key by one of the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    await post(Endpoint(server.url, None))
    assert server.requests[0].headers["authorization"] == "Bearer none"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/chat/completions", "/openai/deployments/m-1/chat/completions"),
        ("/responses", "/openai/responses"),
        ("/conversations", "/openai/conversations"),
    ],
)
async def test_azure(server: ScriptedHttp, path: str, expected: str) -> None:
    """Azure is addressed by deployment and API version, with the key in its own header."""
    await post(Endpoint(origin(server), KEY, azure=True, api_version="2025-04-01-preview"), path)
    request = server.requests[0]
    assert request.path == expected
    assert request.query == {"api-version": "2025-04-01-preview"}
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers


@pytest.mark.parametrize("key", [None, KEY])
async def test_azure_entra_token(server: ScriptedHttp, key: str | None) -> None:
    """A token provider replaces the key, and is called before every request."""
    made: list[str] = []

    async def token() -> str:
        made.append(f"token-{len(made)}")
        return made[-1]

    endpoint = Endpoint(
        origin(server),
        key,
        azure=True,
        api_version="2025-04-01-preview",
        client_options={"azure_ad_token_provider": token},
    )
    await post(endpoint)
    assert server.requests[0].headers["authorization"] == f"Bearer {made[-1]}"
    assert "api-key" not in server.requests[0].headers


# -- keys that are made -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("azure", [False, True])
async def test_a_key_for_each_request(server: ScriptedHttp, azure: bool) -> None:
    """An async function returns a new key for every request."""
    made: list[str] = []

    async def make() -> str:
        made.append(f"key-number-{len(made)}")
        return made[-1]

    endpoint = Endpoint(
        origin(server) if azure else server.url, make, azure=azure, api_version="2025-04-01-preview" if azure else None
    )
    async with aclosing(Wire(endpoint, Limits(), silence_timeout_s=5)) as wire:
        for _ in range(2):
            await wire.post("/responses", BODY, {})
    sent = [request.headers["api-key" if azure else "authorization"] for request in server.requests]
    assert [key.removeprefix("Bearer ") for key in sent] == ["key-number-0", "key-number-1"]


@pytest.mark.parametrize("azure", [False, True])
async def test_made_keys_show_nowhere(refusing: ScriptedHttp, azure: bool) -> None:
    """A key that a function returned does not show in a refusal that repeats it."""

    async def make() -> str:
        return KEY

    endpoint = Endpoint(
        origin(refusing) if azure else refusing.url,
        make,
        azure=azure,
        api_version="2025-04-01-preview" if azure else None,
    )
    with pytest.raises(BatchRefused) as caught:
        await post(endpoint)
    assert KEY not in str(caught.value)
    assert "***" in str(caught.value)


async def test_made_tokens_show_nowhere(refusing: ScriptedHttp) -> None:
    """A provider's token does not show in a refusal that repeats it."""
    endpoint = Endpoint(
        origin(refusing),
        None,
        azure=True,
        api_version="2025-04-01-preview",
        client_options={"azure_ad_token_provider": lambda: KEY},
    )
    with pytest.raises(BatchRefused) as caught:
        await post(endpoint)
    assert KEY not in str(caught.value)
    assert "***" in str(caught.value)


async def test_a_token_in_a_header_shows_nowhere(refusing: ScriptedHttp) -> None:
    """A key in a header does not show in a refusal, with or without its scheme."""
    with pytest.raises(BatchRefused) as caught:
        await post(Endpoint(refusing.url, None, headers={"Authorization": f"Bearer {KEY}"}))
    assert KEY not in str(caught.value)


async def test_a_function_that_fails(server: ScriptedHttp) -> None:
    """A key function that fails stops the batch with its message, and nothing is sent."""

    async def make() -> str:
        raise OSError("the vault is\nsealed")

    with pytest.raises(BatchRefused, match="the function api_key failed: the vault is sealed"):
        await post(Endpoint(server.url, make))
    assert server.requests == []


@pytest.mark.parametrize("made", [None, "", 7])
async def test_a_function_that_makes_nothing(server: ScriptedHttp, made: Any) -> None:
    """A key function that returns anything but text stops the batch, and nothing is sent."""

    async def make() -> Any:
        return made

    with pytest.raises(BatchRefused, match="expected a key"):
        await post(Endpoint(server.url, make))
    assert server.requests == []


async def test_workload_identity(server: ScriptedHttp) -> None:
    """A workload identity replaces the key, and the error of its provider is the fault, in one line."""

    def get_token() -> str:
        raise RuntimeError("no metadata service here")

    identity = {
        "client_id": "c",
        "identity_provider_id": "i",
        "service_account_id": "s",
        "provider": {"token_type": "jwt", "get_token": get_token},
    }
    with pytest.raises(ServiceFault) as caught:
        await post(Endpoint(server.url, KEY, client_options={"workload_identity": identity}))
    assert "no metadata service here" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert server.requests == []


# -- arguments that cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_retries": 3}, "max_retries"),
        ({"http_client": None}, "http_client"),
        ({"base_url": "http://127.0.0.1:1"}, "base_url"),
        ({"nonsense": 1}, "nonsense"),
        ({"workload_identity": {}}, "workload_identity"),
    ],
)
async def test_arguments_that_cannot_be(server: ScriptedHttp, options: dict[str, Any], words: str) -> None:
    """Arguments that bypass the limits, or that the SDK refuses, are one line before anything is sent."""
    with pytest.raises(InputError, match=words) as caught:
        await post(Endpoint(server.url, KEY, client_options=options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        {"headers": {"X-Team": "a\r\nX-Evil: 1"}},
        {"headers": {"X Team": "a"}},
        {"headers": {"X-Team": "naïve ✓"}},
        {"api_key": "sk-with-newline\n"},
        {"api_key": "sk-ключ-0123"},
    ],
)
async def test_headers_that_cannot_be_sent(server: ScriptedHttp, endpoint: dict[str, Any]) -> None:
    """A header or key that HTTP cannot send is one line that names it and shows no key."""
    with pytest.raises(InputError) as caught:
        await post(Endpoint(**{"base_url": server.url, "api_key": KEY, **endpoint}))
    message = str(caught.value)
    assert ("header" in message) or ("key" in message)
    assert "\n" not in message
    assert "sk-" not in message
    assert server.requests == []


# -- limits in replies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["-1", "0", "", "many"])
async def test_invalid_limits(told: str) -> None:
    """A limit of -1, 0, nothing or words in a reply's headers is ignored."""
    headers = {
        "x_ratelimit_limit_requests": told,
        "x_ratelimit_limit_tokens": told,
        "x_ratelimit_remaining_requests": "0",
    }
    limits = Limits()
    with limited(**headers) as server:
        await post(Endpoint(server.url, KEY), limits=limits)
    found = limits.statistics()
    assert (found.max_requests_per_minute, found.max_tokens_per_minute, found.cool_down_s) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("own", "in_force"),
    [(Pacers(), (5_000, 90_000)), (Pacers(requests_per_minute=60, tokens_per_minute=1_000), (60, 1_000))],
)
async def test_limits_of_replies(own: Pacers, in_force: tuple[float, float]) -> None:
    """Limits in the headers of two replies apply unless the user set limits."""
    headers = {"x_ratelimit_limit_requests": "5000", "x_ratelimit_limit_tokens": "90000"}
    limits = Limits(rates=own)
    with limited(**headers) as server:
        for _ in range(2):
            await post(Endpoint(server.url, KEY), limits=limits)
    found = limits.statistics()
    assert (found.max_requests_per_minute, found.max_tokens_per_minute) == in_force
