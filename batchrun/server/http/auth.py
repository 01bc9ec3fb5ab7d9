"""Authentication by API keys, which are compared in constant time. Each key owns its objects."""

from __future__ import annotations

import hashlib
import hmac

from batchrun.server.errors import ApiError, wrong_key

__all__ = ["Keyring"]


class Keyring:
    """The accepted keys. Only their hashes are kept."""

    def __init__(self, keys: tuple[str, ...], owner: str | None = None) -> None:
        self._digests = tuple(_digest(key) for key in keys)
        self._owner = owner

    def owner(self, authorization: str | None) -> str:
        """Return the owner for an `Authorization` header: "" if the server requires no key.

        Every key is compared, even after a match, so that the time reveals nothing about the keys.

        Raises:
            ApiError: 401: the key is missing or wrong.
        """
        if not self._digests:
            return ""
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise ApiError(
                401,
                "You didn't provide an API key. You need to provide your API key in an Authorization header "
                "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            )
        digest = _digest(key)
        known = False
        for each in self._digests:
            known |= hmac.compare_digest(each, digest)
        if not known:
            raise wrong_key(_masked(key))
        return digest if self._owner is None else self._owner


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _masked(key: str) -> str:
    """Return the key as error messages may show it: the first and last four characters of a long key."""
    return f"{key[:4]}{'*' * 8}{key[-4:]}" if len(key) >= 20 else "*" * 8
