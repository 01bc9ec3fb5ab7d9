"""Who is asking: API keys, compared in constant time, each the owner of its objects."""

from __future__ import annotations

import hashlib
import hmac

from batchrun.server.errors import ApiError, wrong_key

__all__ = ["Keyring"]


class Keyring:
    """The accepted keys. The keys themselves are not kept, only their hashes."""

    def __init__(self, keys: tuple[str, ...], owner: str | None = None) -> None:
        self._digests = tuple(_digest(key) for key in keys)
        self._owner = owner

    def owner(self, authorization: str | None) -> str:
        """The owner that an `Authorization` header stands for: "" where the server asks for no key.

        Every key is compared, whichever matches, so that time tells nothing about them.

        Raises:
            ApiError: 401.
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
    """The key as error messages may show it: the first and last four characters of a long one."""
    return f"{key[:4]}{'*' * 8}{key[-4:]}" if len(key) >= 20 else "*" * 8
