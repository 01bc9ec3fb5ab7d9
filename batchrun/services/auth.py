"""Authenticates requests: keys as text, and the user's own functions that return keys and tokens."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping

from batchrun.errors import BatchRefused, InputError
from batchrun.records import JsonDict, JsonObject
from batchrun.services.redaction import scrubbed

__all__ = ["CREDENTIALS", "KeySource", "check_header", "guarded"]

CREDENTIALS = frozenset({"api_key", "azure_ad_token", "azure_ad_token_provider", "provider", "workload_identity"})
"""Arguments of the SDK's client that authenticate. The SDK refuses a key next to one of them."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header: a token (RFC 9110 §5.6.2)."""

_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
"""The value of a header that every server accepts: printable ASCII, no blank at either end (RFC 9110 §5.5)."""


def check_header(source: str, value: str, name: str = "x") -> None:
    """Check that HTTP can send a header.

    Args:
        source: the option or variable with the header, for the message, which does not show the value.

    Raises:
        InputError: the name or the value is not allowed.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{source!r} is not a valid header name; use letters, digits and dashes")
    if _VALUE.fullmatch(value) is None:
        is_padded = value != value.strip()
        fault = (
            "begins or ends with a blank or a line break" if is_padded else "has a character other than printable ASCII"
        )
        raise InputError(f"{source} cannot be sent in a header: its value {fault}")


class KeySource:
    """The user's function that returns keys or tokens. The SDK calls it before every request.

    Mutable state: the last two keys, which no message may show; a request in flight may still have the earlier one.
    """

    def __init__(self, function: Callable[[], Awaitable[str] | str], name: str = "api_key") -> None:
        self._function = function
        self._name = name
        self.last_keys: tuple[str, ...] = ()

    async def __call__(self) -> str:
        """Return a key.

        Raises:
            BatchRefused: the function failed, or returned something else.
        """
        try:
            returned = self._function()
            key: object = await returned if inspect.isawaitable(returned) else returned
        except Exception as exc:
            raise _failed(self._name, exc, self.last_keys) from exc
        if not isinstance(key, str) or not key:
            kind = "an empty str" if key == "" else f"a value of type {type(key).__name__}"
            raise BatchRefused(
                f"the function {self._name} returned {kind}; expected a key (a str)", error_type="authentication_error"
            )
        try:
            check_header("the returned key", key)
        except InputError as exc:
            raise _failed(self._name, exc, ()) from exc
        if key not in self.last_keys:
            self.last_keys = (*self.last_keys[-1:], key)
        return key


def guarded(client_options: JsonObject) -> JsonDict:
    """Return the options with the user's functions wrapped, so that a failure counts as a refusal and not as a bug."""
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
