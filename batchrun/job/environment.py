"""Environment: the settings that are read from environment variables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from batchrun.errors import InputError
from batchrun.job.variables import Variables
from batchrun.records import Settings

__all__ = ["ApiKey", "Environment"]


ApiKey: TypeAlias = str | Callable[[], Awaitable[str]]
"""An API key, or a function that returns one for each request (for tokens that expire)."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Settings from environment variables, read once by the command line or `batchrun.run`. None: not set.

    Attributes:
        api_key: OPENAI_API_KEY, or a key or function that was passed to the Python call.
        azure_key: AZURE_OPENAI_API_KEY, or the same.
        client_options: further arguments for the SDK's client (Python only).
        certificates: SSL_CERT_FILE and SSL_CERT_DIR, as far as they are set.
        variables: where the variables come from, if a `.env` may be among the sources; see `batchrun.job.sources`.
    """

    api_key: ApiKey | None = field(default=None, repr=False)
    azure_key: ApiKey | None = field(default=None, repr=False)
    api_version: str | None = None
    base_url: str | None = None
    organization: str | None = None
    project: str | None = None
    model: str | None = None
    client_options: Settings = field(default_factory=dict, repr=False)
    certificates: Mapping[str, str] = field(default_factory=dict)
    variables: Variables | None = field(default=None, repr=False)

    def with_key(self, api_key: ApiKey) -> Environment:
        """Return a copy with another key. An empty key counts as not set.

        Raises:
            InputError: the key is neither a text nor a function. The message does not show it.
        """
        given: object = api_key  # callers without a type checker give anything
        if not isinstance(given, str) and not callable(given):
            name = type(given).__name__
            raise InputError(f"api_key: expected a text or an async function that returns one, got a {name}")
        return replace(self, api_key=api_key or None, azure_key=api_key or None)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """Return the settings of `environ`. An empty variable counts as not set."""

        def get(name: str) -> str | None:
            return environ.get(name) or None

        return cls(
            api_key=get("OPENAI_API_KEY"),
            azure_key=get("AZURE_OPENAI_API_KEY"),
            api_version=get("OPENAI_API_VERSION"),
            base_url=get("OPENAI_BASE_URL"),
            organization=get("OPENAI_ORG_ID"),
            project=get("OPENAI_PROJECT_ID"),
            model=get("BATCHRUN_MODEL"),
            certificates={name: environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if get(name)},
            variables=environ if isinstance(environ, Variables) else None,
        )
