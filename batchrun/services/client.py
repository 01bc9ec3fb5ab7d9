"""The one `AsyncOpenAI` client of a batch: the service's address, the credentials, and hooks for the rate limits."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI

from batchrun.engine.limits import Limits
from batchrun.errors import InputError
from batchrun.job.environment import ApiKey
from batchrun.records import JsonDict, JsonObject
from batchrun.services.auth import CREDENTIALS, KeySource, check_header, guarded
from batchrun.services.lean_client import LeanAzureOpenAI, LeanHttpClient, LeanOpenAI, can_be_lean
from batchrun.services.lean_exchange import with_clean_connections
from batchrun.services.redaction import scrubbed
from batchrun.services.reply_size import bound
from batchrun.services.request_log import LoggingClient, is_enabled, mark_sent
from batchrun.services.retry_after import parse_retry_after
from batchrun.services.route import Route, no_certificates, trusted_certificates

__all__ = ["Endpoint", "open_client", "timeouts"]

MAX_CONNECTIONS = 10_000
CONNECT_TIMEOUT_S = 15.0
NO_KEY = "none"
"""Sent if the user gives no key. Messages use the word too, so it does not count as a secret."""

_RESERVED_OPTIONS = frozenset({"base_url", "default_headers", "default_query", "http_client", "max_retries", "timeout"})
"""Arguments of the SDK's client that batchrun sets from its own options, or on which the rate limits depend."""

_OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a service and the credentials for it; no secret shows in its repr.

    Attributes:
        base_url: None for the SDK's default. For Azure: the resource's endpoint.
        api_key: a key, or a function that returns one; None if the service needs none.
        azure: authenticate and build URLs as Azure requires.
        api_version: of Azure's API; None for every other service.
        headers, query: sent with every request.
        client_options: further arguments of the SDK's client, such as `workload_identity`.
        certificates: SSL_CERT_FILE and SSL_CERT_DIR, if they are set; see `trusted_certificates`.
        trust_env: use the proxy that the environment names. False for the embedded server, which is always reached
            directly.
    """

    base_url: str | None
    api_key: ApiKey | None = field(repr=False)
    organization: str | None = None
    project: str | None = None
    azure: bool = False
    api_version: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    client_options: JsonObject = field(default_factory=dict, repr=False)
    certificates: Mapping[str, str] = field(default_factory=dict)
    trust_env: bool = True
    _fixed_secrets: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    """The secrets, if they do not change; None if a function returns one of them."""

    def __post_init__(self) -> None:
        if callable(self.api_key):
            object.__setattr__(self, "api_key", KeySource(self.api_key))
        object.__setattr__(self, "client_options", guarded(self.client_options))
        credentials = (self.api_key, *(self.client_options.get(name) for name in CREDENTIALS))
        if not any(isinstance(each, KeySource) for each in credentials):
            object.__setattr__(self, "_fixed_secrets", self._secrets())

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings that must not appear in any message."""
        return self._secrets() if self._fixed_secrets is None else self._fixed_secrets

    def _secrets(self) -> tuple[str, ...]:
        keys: list[str] = []
        for credential in (self.api_key, *(self.client_options.get(name) for name in sorted(CREDENTIALS))):
            if isinstance(credential, KeySource):
                keys += credential.last_keys
            elif isinstance(credential, str) and credential != NO_KEY:
                keys.append(credential)
        keys += [value for value in self.query.values() if len(value) >= 8]
        for header in self.headers.values():
            keys += [part for part in (header, header.rpartition(" ")[2]) if len(part) >= 8]  # "Bearer KEY", and KEY
        return tuple(keys)

    @property
    def signs_in_otherwise(self) -> bool:
        """Whether `client_options` hold the credentials, so that the SDK must not get a key."""
        return not CREDENTIALS.isdisjoint(self.client_options)


def timeouts(silence_timeout_s: float, *, read_s: float | None) -> httpx2.Timeout:
    """Return a request's timeouts, in seconds. Waiting for a free connection has none: the slots bound that."""
    return httpx2.Timeout(connect=CONNECT_TIMEOUT_S, read=read_s, write=silence_timeout_s, pool=None)


def open_client(endpoint: Endpoint, limits: Limits, *, silence_timeout_s: float) -> tuple[AsyncOpenAI, Route]:
    """Return the SDK's client, whose requests all pass `limits`, and the route that they take.

    Raises:
        InputError: the SDK refuses these arguments, or the environment names a proxy or certificates that cannot be
            used.
    """
    _check_endpoint(endpoint)
    hooks = _Hooks(limits, is_logged=is_enabled())
    http_client = _http_client(endpoint, hooks, min(MAX_CONNECTIONS, limits.max_slots or MAX_CONNECTIONS))
    options = _client_options(endpoint, http_client, silence_timeout_s)
    try:
        client = (LeanAzureOpenAI if endpoint.azure else LeanOpenAI)(**options)
    except (TypeError, ValueError, openai.OpenAIError) as exc:
        line = " ".join(scrubbed(str(exc), endpoint.secrets).split())
        raise InputError(f"the service's client cannot be created: {line}") from exc
    base_url = endpoint.base_url or str(client.base_url)
    # The HTTP client has no public way to ask for its proxy, and only it knows how it reads NO_PROXY.
    transport: Any = http_client._transport_for_url(httpx2.URL(base_url))
    if (make_session := getattr(transport, "get_client", None)) is not None:
        transport.get_client = lambda: with_clean_connections(make_session())
    hooks.route = Route(base_url, getattr(transport, "proxy", None), endpoint.certificates)
    if can_be_lean(transport):
        http_client.transport = transport
        has_fixed_key = not callable(endpoint.api_key) and not endpoint.signs_in_otherwise
        client.shorten(http_client if has_fixed_key and not _is_sdk_logging() else None)
    return client, hooks.route


def _is_sdk_logging() -> bool:
    return logging.getLogger("openai").isEnabledFor(logging.DEBUG)


def is_beside(request: httpx2.Request) -> bool:
    """Return whether a request is for no row: it is outside of the limits, and its reply says nothing about them."""
    return request.method == "GET" and request.url.path.endswith("/models")


class _Hooks:
    """Called by the HTTP client before each request and after each reply.

    Mutable state: `route`, which is known only when the client exists.
    """

    def __init__(self, limits: Limits, *, is_logged: bool) -> None:
        self._limits = limits
        self.is_logged = is_logged
        self.route: Route

    async def before(self, request: httpx2.Request) -> None:
        if request.method == "GET":
            await request.aread()  # else a redirected GET would be sent with a chunked body, although it has none
            if is_beside(request):
                return
        if not self.route.leads_away(request):
            await self._limits.request()

    async def after(self, response: httpx2.Response) -> None:
        bound(response)
        self.route.answered()
        if not self.route.leads_away(response.request) and not is_beside(response.request):
            self.observe(response.status_code, response.headers)

    def lean_before(self, request: httpx2.Request) -> Awaitable[None]:
        return self._logged_before(request) if self.is_logged else self._limits.request()

    async def _logged_before(self, request: httpx2.Request) -> None:
        await self._limits.request()
        await mark_sent(request)

    def lean_after(self, status: int, headers: Mapping[str, str]) -> None:
        self.route.answered()
        self.observe(status, headers)

    def observe(self, status: int, headers: Mapping[str, str]) -> None:
        self._limits.observe(headers)
        if status == 429:
            self._limits.cool_down(parse_retry_after(headers) or 0.0)


def _check_endpoint(endpoint: Endpoint) -> None:
    """
    Raises:
        InputError: a header cannot be sent, or `client_options` set what batchrun's own options decide.
    """
    for name, value in endpoint.headers.items():
        check_header(f"--header {name}", value, name)
    if isinstance(endpoint.api_key, str):
        name = "AZURE_OPENAI_API_KEY" if endpoint.azure else "OPENAI_API_KEY"
        check_header(f"the API key ({name})", endpoint.api_key)
    for option, ident in (("--organization", endpoint.organization), ("--project", endpoint.project)):
        check_header(option, ident or "")
    for name in sorted(_RESERVED_OPTIONS & endpoint.client_options.keys()):
        raise InputError(f"client_options: {name!r} cannot be set here; use the batch option for it instead")


def _client_options(endpoint: Endpoint, http_client: httpx2.AsyncClient, silence_timeout_s: float) -> JsonDict:
    """Return the arguments of the SDK's client."""
    options: JsonDict = {
        "organization": endpoint.organization,
        "project": endpoint.project,
        "default_headers": endpoint.headers or None,
        "default_query": endpoint.query or None,
        # The SDK's own retries bypass the limits, and repeat requests that must not be sent twice.
        "max_retries": 0,
        "timeout": timeouts(silence_timeout_s, read_s=silence_timeout_s),
        "http_client": http_client,
        **endpoint.client_options,
    }
    if not endpoint.signs_in_otherwise:
        # The SDK requires a key; self-hosted servers often need none.
        options["api_key"] = endpoint.api_key or NO_KEY
    if endpoint.azure:
        options["azure_endpoint"] = endpoint.base_url
        if endpoint.api_version is not None:
            options["api_version"] = endpoint.api_version
    else:
        # With None the SDK would read OPENAI_BASE_URL itself, and take an empty variable for a URL.
        options["base_url"] = endpoint.base_url or _OPENAI_URL
    return options


def _http_client(endpoint: Endpoint, hooks: _Hooks, connections: int) -> LeanHttpClient:
    verify = trusted_certificates(endpoint.certificates) if endpoint.trust_env else no_certificates()
    client_class = LoggingClient if hooks.is_logged else LeanHttpClient
    try:
        client = client_class(
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            event_hooks={
                "request": [hooks.before, mark_sent] if hooks.is_logged else [hooks.before],
                "response": [hooks.after],
            },
            # A redirect would carry headers, query and prompts to another place, and turn a POST into a GET.
            follow_redirects=False,
            trust_env=endpoint.trust_env,
            verify=verify,
        )
    except (ValueError, httpx2.InvalidURL):
        # The value is not shown: it may hold a password.
        raise InputError(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: the value is not the URL of a proxy; expected one such as "
            "http://HOST:PORT"
        ) from None
    client.before = hooks.lean_before
    client.after = hooks.lean_after
    if isinstance(client, LoggingClient):
        client.scrub = lambda text: scrubbed(text, endpoint.secrets)
    return client
