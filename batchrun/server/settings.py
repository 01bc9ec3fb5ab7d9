"""The settings of a server, validated once."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from batchrun.server.errors import SettingsError

__all__ = ["ServerSettings"]


_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+")
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[^/?#@\s*]+", re.I)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Options of the embedded server.

    Attributes:
        host: address to listen on. Any address but loopback requires at least one key.
        port: TCP port; 0 takes a free one.
        data: the SQLite file; None uses a private temporary file, which is deleted when the server closes.
        api_keys: accepted keys, each with its own objects. If empty, any key or none is accepted and all share one set.
        allowed_hosts: names besides those of the loopback interface under which clients may address a server without
            keys, such as `host.docker.internal`. With keys, every name is accepted.
        allowed_origins: web pages that may use the server, such as `http://localhost:3000`. Their browsers also get
            the headers of CORS. Without keys, all other pages are refused.
        owner: the owner whose objects all keys share, for a server that makes a new key at each start; None for one
            owner per key.
        max_concurrent_runs: maximum of runs that answer at the same time; further runs wait in order.
        max_body_bytes: size of the largest JSON body.
        max_upload_bytes: size of the largest file upload (the hosted API allows 512 MB).
        requests_per_minute: limit of each key; None for no limit.
        tokens_per_minute: limit of each key, prompt and completion together; None for no limit.
        keep_alive_s: seconds of silence after which a stream sends a comment line.
        poll_after_ms: value of the header `openai-poll-after-ms`, for clients that poll.
        shutdown_grace_s: seconds that active runs get to finish when the server stops.
        run_timeout_s: lifetime of a run in seconds, `expires_at - created_at`.
        retention_s: seconds for which idempotency keys and the events of finished runs are kept.
    """

    host: str = "127.0.0.1"
    port: int = 0
    data: Path | None = None
    api_keys: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    owner: str | None = None
    max_concurrent_runs: int = 1000
    max_body_bytes: int = 32 * 1024 * 1024
    max_upload_bytes: int = 512 * 1024 * 1024
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    keep_alive_s: float = 15.0
    poll_after_ms: int = 500
    shutdown_grace_s: float = 2.5
    run_timeout_s: int = 600
    retention_s: int = 24 * 3600

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"port must be between 0 and 65535, not {self.port}.")
        if any(not key.strip() or not key.isascii() for key in self.api_keys):
            raise SettingsError("an API key is empty or contains characters outside ASCII; give a printable ASCII key.")
        if not self.api_keys and not is_loopback(self.host):
            raise SettingsError(
                f"host {self.host} can be reached from other machines; give at least one API key, "
                "or listen on 127.0.0.1."
            )
        for host in self.allowed_hosts:
            if _HOST_NAME.fullmatch(host) is None:
                raise SettingsError(
                    f"allowed_hosts: {host!r} is not a host name; give a name without scheme and port, "
                    "such as host.docker.internal."
                )
        for origin in self.allowed_origins:
            if _ORIGIN.fullmatch(origin) is None:
                raise SettingsError(
                    f"allowed_origins: {origin!r} is not an origin; give scheme, host and port without a path, "
                    "such as http://localhost:3000."
                )
        for name in ("max_concurrent_runs", "max_body_bytes", "max_upload_bytes", "run_timeout_s"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} must be at least 1 (or not set), not {value}.")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
