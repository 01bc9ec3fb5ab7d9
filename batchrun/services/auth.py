"""How to sign in: keys as text, and the user's own functions that make keys and tokens."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from batchrun.errors import BatchRefused, InputError
from batchrun.services.redaction import scrubbed

__all__ = ["CREDENTIALS", "KeySource", "check_header", "guarded"]

CREDENTIALS = frozenset({"api_key", "azure_ad_token", "azure_ad_token_provider", "provider", "workload_identity"})
"""Arguments of the SDK's client that sign in; a key beside one of them is refused by it."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name: a token (RFC 9110 §5.6.2)."""

_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
"""A header's value, as far as every server takes it: printable ASCII, no blank at either end (RFC 9110 §5.5)."""


def check_header(what: str, value: str, name: str = "x") -> None:
    """
    Args:
        what: names it in the message, which does not show the value.

    Raises:
        InputError: HTTP cannot carry it.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{what!r}: is no name of a header; letters, digits and dashes are")
    if _VALUE.fullmatch(value) is None:
        kind = "a line break or blank at an end" if value != value.strip() else "a character that is no printable ASCII"
        raise InputError(f"{what} cannot be sent in a header: it has {kind}")


class KeySource:
    """The user's function that makes keys or tokens, as the SDK calls it: before every request.

    All state: the last two keys made, so that they show in no message; a request may still carry the one before.
    """

    def __init__(self, make: Callable[[], Awaitable[str] | str], name: str = "api_key") -> None:
        self._make = make
        self._name = name
        self.made: tuple[str, ...] = ()

    async def __call__(self) -> str:
        """A key.

        Raises:
            BatchRefused: the function failed, or made none.
        """
        try:
            made = self._make()
            key: object = await made if inspect.isawaitable(made) else made
        except Exception as exc:
            raise _failed(self._name, exc, self.made) from exc
        if not isinstance(key, str) or not key:
            raise BatchRefused(
                f"the function {self._name} made no key but a {type(key).__name__}", error_type="authentication_error"
            )
        try:
            check_header("what it made", key)
        except InputError as exc:
            raise _failed(self._name, exc, ()) from exc
        if key not in self.made:
            self.made = (*self.made[-1:], key)
        return key


def guarded(client_options: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with the user's functions among them failing as faults of the service, not as bugs."""
    options = dict(client_options)
    provider = options.get("azure_ad_token_provider")
    if callable(provider) and not isinstance(provider, KeySource):
        options["azure_ad_token_provider"] = KeySource(provider, "azure_ad_token_provider")
    identity = options.get("workload_identity")
    if not isinstance(identity, Mapping):
        return options
    provider = identity.get("provider")
    if isinstance(provider, Mapping) and callable(provider.get("get_token")):
        get_token = _guarded_call(provider["get_token"])
        options["workload_identity"] = {**identity, "provider": {**provider, "get_token": get_token}}
    return options


def _guarded_call(get_token: Callable[[], str]) -> Callable[[], str]:
    def call() -> str:
        try:
            return get_token()
        except Exception as exc:
            raise _failed("get_token of workload_identity", exc, ()) from exc

    return call


def _failed(name: str, exc: Exception, secrets: tuple[str, ...]) -> BatchRefused:
    line = " ".join(scrubbed(str(exc) or type(exc).__name__, secrets).split())
    return BatchRefused(f"the function {name} failed: {line}", error_type="authentication_error")
