"""Which hosts and web pages may use a server without keys.

A browser sends requests of any page to this machine. Without a key, two headers are the only protection: `Origin` names
the page that sends a request, and `Host` reveals a page whose own name was pointed at this machine (DNS rebinding).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError
from batchrun.server.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchrun.server.settings import ServerSettings

__all__ = ["Visitors"]


_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::\d*)?")


class Visitors:
    """Refuses requests that a web page may have sent. With keys it refuses none: no page knows a key."""

    def __init__(self, settings: ServerSettings) -> None:
        self._checks = not settings.api_keys
        self._hosts = frozenset(map(str.lower, settings.allowed_hosts))
        self._origins = frozenset(map(str.lower, settings.allowed_origins))

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> ApiError | None:
        """Return the error for a request that is refused: 403, or None."""
        if not self._checks:
            return None
        hosts, origins = [], []
        for name, value in headers:
            if name == b"host":
                hosts.append(value.decode("latin-1").lower())
            elif name == b"origin":
                origins.append(value.decode("latin-1").lower())
        host = hosts[0] if len(hosts) == 1 else ""
        if not is_loopback_authority(host) and _name(host) not in self._hosts:
            return _refused(
                f"Host {host!r} is not a name of this machine's loopback address. Use the server's own URL, add the "
                "name with --allow-host (allowed_hosts), or give the server a key.",
                "host_not_allowed",
            )
        for origin in origins:
            if origin != f"http://{host}" and origin not in self._origins:
                return _refused(
                    f"Web pages of {origin!r} may not use this server. Add the origin with --allow-origin "
                    "(allowed_origins), or give the server a key.",
                    "origin_not_allowed",
                )
        return None


@lru_cache(maxsize=64)
def is_loopback_authority(host: str) -> bool:
    """Return whether a `Host` header, with or without a port, names the loopback interface."""
    return is_loopback(_name(host))


def _name(host: str) -> str:
    """Return the name or address of a `Host` header, without its port and brackets; "" if it is malformed."""
    found = _AUTHORITY.fullmatch(host)
    return "" if found is None else found[1] or found[2].removesuffix(".")


def _refused(message: str, code: str) -> ApiError:
    return ApiError(403, message, code=code)
