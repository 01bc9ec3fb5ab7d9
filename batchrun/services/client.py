"""The one `AsyncOpenAI` client of a batch: where the service is, how to sign in, and the limits in its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
from openai import AsyncAzureOpenAI, AsyncOpenAI

from batchrun.engine.limits import Limits
from batchrun.job import ApiKey
from batchrun.services.faults import parse_retry_after

__all__ = ["Endpoint", "open_client"]

MAX_CONNECTIONS = 10_000
CONNECT_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is and how to sign in; no secret shows in a repr.

    Attributes:
        base_url: None for the SDK's default. For Azure: the resource's endpoint.
        azure: sign in and build URLs as Azure wants it.
        api_version: of Azure.
        headers, query: sent with every request.
        client_options: further arguments of the SDK's client, such as `workload_identity`.
    """

    base_url: str | None
    api_key: ApiKey | None = field(repr=False)
    organization: str | None = None
    project: str | None = None
    azure: bool = False
    api_version: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    client_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings that must not appear in any message."""
        # "none" stands for no key: a word that messages use.
        keys = (self.api_key,) if isinstance(self.api_key, str) and self.api_key != "none" else ()
        return keys + tuple(value for value in self.headers.values() if len(value) >= 8)


def open_client(endpoint: Endpoint, limits: Limits, *, silence_timeout_s: float) -> AsyncOpenAI:
    """The SDK's client on its fastest transport, every request of which passes `limits`."""

    async def before(_: httpx2.Request) -> None:
        await limits.request()

    async def after(response: httpx2.Response) -> None:
        limits.observe(response.headers)
        if response.status_code == 429:
            limits.cool_down(parse_retry_after(response.headers) or 0.0)

    options: dict[str, Any] = {
        "organization": endpoint.organization,
        "project": endpoint.project,
        "default_headers": endpoint.headers or None,
        "default_query": endpoint.query or None,
        # The SDK's own retries go round the limits and send requests twice that must not be.
        "max_retries": 0,
        "timeout": httpx2.Timeout(
            connect=CONNECT_TIMEOUT_S, read=silence_timeout_s, write=silence_timeout_s, pool=None
        ),
        "http_client": openai.DefaultAioHttpClient(
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            event_hooks={"request": [before], "response": [after]},
        ),
        **endpoint.client_options,
    }
    if endpoint.api_key is not None:
        options["api_key"] = endpoint.api_key
    if not endpoint.azure:
        return AsyncOpenAI(base_url=endpoint.base_url, **options)
    if endpoint.api_version is not None:
        options["api_version"] = endpoint.api_version
    return AsyncAzureOpenAI(azure_endpoint=str(endpoint.base_url), **options)
