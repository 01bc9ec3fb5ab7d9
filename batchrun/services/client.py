"""The one `AsyncOpenAI` client of a batch: where the service is, how to sign in, and the limits in its way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx2
import openai
from openai import AsyncAzureOpenAI, AsyncOpenAI

from batchrun.engine.limits import Limits
from batchrun.errors import InputError
from batchrun.job.environment import ApiKey
from batchrun.services.auth import CREDENTIALS, KeySource, check_header, guarded
from batchrun.services.redaction import scrubbed
from batchrun.services.reply_size import bound
from batchrun.services.retry_after import parse_retry_after
from batchrun.services.route import Route, trusted_certificates

__all__ = ["Endpoint", "open_client", "timeouts"]

MAX_CONNECTIONS = 10_000
CONNECT_TIMEOUT_S = 15.0
NO_KEY = "none"
"""What is sent where there is no key; a word that messages use, and no secret."""

_OURS = frozenset({"base_url", "default_headers", "default_query", "http_client", "max_retries", "timeout"})
"""Arguments of the client that have options of their own, or that the limits depend on."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is and how to sign in; no secret shows in a repr.

    Attributes:
        base_url: None for the SDK's default. For Azure: the resource's endpoint.
        azure: sign in and build URLs as Azure wants it.
        api_version: of Azure.
        headers, query: sent with every request.
        client_options: further arguments of the SDK's client, such as `workload_identity`.
        certificates: SSL_CERT_FILE and SSL_CERT_DIR, those that are set; see `trusted_certificates`.
        trust_env: the proxy is the one that the environment names. False for the embedded server, which is reached
            directly, whatever the environment says.
    """

    base_url: str | None
    api_key: ApiKey | None = field(repr=False)
    organization: str | None = None
    project: str | None = None
    azure: bool = False
    api_version: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    client_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    certificates: Mapping[str, str] = field(default_factory=dict)
    trust_env: bool = True

    def __post_init__(self) -> None:
        if callable(self.api_key):
            object.__setattr__(self, "api_key", KeySource(self.api_key))
        object.__setattr__(self, "client_options", guarded(self.client_options))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings that must not appear in any message."""
        keys: list[str] = []
        for credential in (self.api_key, *(self.client_options.get(name) for name in sorted(CREDENTIALS))):
            if isinstance(credential, KeySource):
                keys += credential.made
            elif isinstance(credential, str) and credential != NO_KEY:
                keys.append(credential)
        keys += [value for value in self.query.values() if len(value) >= 8]
        for header in self.headers.values():
            keys += [part for part in (header, header.rpartition(" ")[2]) if len(part) >= 8]  # "Bearer KEY", and KEY
        return tuple(keys)

    @property
    def signs_in_otherwise(self) -> bool:
        """The client's own arguments sign in, without the key."""
        return not CREDENTIALS.isdisjoint(self.client_options)


def timeouts(silence_timeout_s: float, *, read_s: float | None) -> httpx2.Timeout:
    """Bounds of a request, seconds; waiting for a free connection has none, since the slots bound it."""
    return httpx2.Timeout(connect=CONNECT_TIMEOUT_S, read=read_s, write=silence_timeout_s, pool=None)


def _check_headers(endpoint: Endpoint) -> None:
    for name, value in endpoint.headers.items():
        check_header(f"--header {name}", value, name)
    if isinstance(endpoint.api_key, str):
        name = "AZURE_OPENAI_API_KEY" if endpoint.azure else "OPENAI_API_KEY"
        check_header(f"the API key ({name})", endpoint.api_key)
    for what, ident in (("--organization", endpoint.organization), ("--project", endpoint.project)):
        check_header(what, ident or "")


def open_client(endpoint: Endpoint, limits: Limits, *, silence_timeout_s: float) -> tuple[AsyncOpenAI, Route]:
    """The SDK's client on its fastest transport, every request of which passes `limits`, and the way that they take.

    Raises:
        InputError: the SDK does not take these arguments, or the environment names a proxy or certificates that
            cannot be used.
    """

    async def before(request: httpx2.Request) -> None:
        if request.method == "GET":
            await request.aread()  # a redirected one would be sent in chunks, of which it has none
        if not route.leads_away(request):
            await limits.request()

    async def after(response: httpx2.Response) -> None:
        bound(response)
        route.answered()
        if route.leads_away(response.request):
            return
        # Looked at raw first: most replies carry none of these headers, and asking for each takes longer than this.
        if any(name[:12].lower() == b"x-ratelimit-" for name, _ in response.headers.raw):
            limits.observe(response.headers)
        if response.status_code == 429:
            limits.cool_down(parse_retry_after(response.headers) or 0.0)

    _check_headers(endpoint)
    for name in sorted(_OURS & endpoint.client_options.keys()):
        raise InputError(f"client_options: {name!r} cannot be given there; the batch's own options decide it")
    http_client = _http_client(endpoint, before, after, min(MAX_CONNECTIONS, limits.max_slots or MAX_CONNECTIONS))
    options: dict[str, Any] = {
        "organization": endpoint.organization,
        "project": endpoint.project,
        "default_headers": endpoint.headers or None,
        "default_query": endpoint.query or None,
        # The SDK's own retries go round the limits and send requests twice that must not be.
        "max_retries": 0,
        "timeout": timeouts(silence_timeout_s, read_s=silence_timeout_s),
        "http_client": http_client,
        **endpoint.client_options,
    }
    if not endpoint.signs_in_otherwise:
        # The SDK insists on a key; servers of one's own often want none.
        options["api_key"] = endpoint.api_key or NO_KEY
    if endpoint.azure:
        options |= {"azure_endpoint": endpoint.base_url}
        if endpoint.api_version is not None:
            options["api_version"] = endpoint.api_version
    else:
        options["base_url"] = endpoint.base_url
    try:
        client = (AsyncAzureOpenAI if endpoint.azure else AsyncOpenAI)(**options)
    except (TypeError, ValueError, openai.OpenAIError) as exc:
        line = " ".join(scrubbed(str(exc), endpoint.secrets).split())
        raise InputError(f"the service's client cannot be made: {line}") from exc
    base_url = endpoint.base_url or str(client.base_url)
    # The only way to learn which proxy the HTTP client takes: what NO_PROXY means is its own affair.
    transport = http_client._transport_for_url(httpx2.URL(base_url))
    route = Route(base_url, getattr(transport, "proxy", None), endpoint.certificates)
    return client, route


Hook: TypeAlias = Callable[[Any], Awaitable[None]]


def _http_client(endpoint: Endpoint, before: Hook, after: Hook, connections: int) -> httpx2.AsyncClient:
    verify = trusted_certificates(endpoint.certificates)
    try:
        return openai.DefaultAioHttpClient(
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            event_hooks={"request": [before], "response": [after]},
            # A redirect would carry headers, query and prompts to another place, and make a GET of a POST.
            follow_redirects=False,
            trust_env=endpoint.trust_env,
            verify=verify,
        )
    except (ValueError, httpx2.InvalidURL):
        # The value is not shown: it may hold a password.
        raise InputError(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: one of them is not the URL of a proxy; one such as "
            "http://HOST:PORT is expected"
        ) from None
