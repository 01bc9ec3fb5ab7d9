"""Errors that a client sees, and errors that the person who starts the server sees.

ServerError                what the person who starts the server did: one clear line
├── SettingsError          a setting that cannot be used (also a ValueError)
└── StoreError             the data file cannot be opened, read or locked
ApiError                   the answer to a request: HTTP status and the protocol's error body

The texts of the constructors below are matched by clients with regular expressions: they are the hosted
API's, to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "ApiError",
    "ServerError",
    "SettingsError",
    "StoreError",
    "bad_value",
    "busy_thread",
    "forgotten_events",
    "locked_thread",
    "missing_beta",
    "no_such",
    "refused_outputs",
    "server_error",
    "uncancellable",
    "wrong_key",
    "wrong_outputs",
]


class ServerError(Exception):
    """Base of what stops the server from starting or going on. `str(error)` is one line for a person."""


class SettingsError(ServerError, ValueError):
    """A setting cannot be used; the message names it and says what to do."""


class StoreError(ServerError):
    """The data file cannot be opened, read, written or locked.

    Attributes:
        told_to_clients: the same without the path.
    """

    def __init__(self, message: str, told_to_clients: str = "The server cannot use its store.") -> None:
        super().__init__(message)
        self.told_to_clients = told_to_clients


class ApiError(Exception):
    """An answer with an error body `{"error": {message, type, param, code}}`, always all four keys.

    Attributes:
        status: HTTP status.
        param: the request's parameter at fault, such as `tools[0].type`, or None.
        headers: further response headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 -- the protocol's own name
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The error as its JSON body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def no_such(noun: str, object_id: str) -> ApiError:
    """404: there is no such object, or it belongs to another key (the two must not differ)."""
    return ApiError(404, f"No {noun} found with id '{object_id}'.")


def locked_thread(thread_id: str, run_id: str) -> ApiError:
    """400: messages cannot change while a run reads them."""
    return ApiError(400, f"Can't add messages to {thread_id} while a run {run_id} is active.")


def busy_thread(thread_id: str, run_id: str) -> ApiError:
    """400: one active run a thread."""
    return ApiError(400, f"Thread {thread_id} already has an active run {run_id}.")


def uncancellable(status: str) -> ApiError:
    """400: the run is past cancelling."""
    return ApiError(400, f"Cannot cancel run with status '{status}'.")


def refused_outputs(status: str) -> ApiError:
    """400: the run waits for nothing."""
    return ApiError(400, f'Runs in status "{status}" do not accept tool outputs.')


def wrong_outputs(expected: Sequence[str], got: Sequence[str]) -> ApiError:
    """400: tool outputs that do not answer exactly the calls made. The lists are quoted without blanks."""

    def quoted(ids: Sequence[str]) -> str:
        return "[" + ",".join(f"'{call_id}'" for call_id in ids) + "]"

    return ApiError(400, f"Expected tool outputs for call_ids {quoted(expected)}, got {quoted(got)}")


def missing_beta() -> ApiError:
    """400: the header that the beta endpoints demand is not there."""
    return ApiError(
        400,
        "You must provide the 'OpenAI-Beta' header to access the Assistants API. "
        "Please try again by setting the header 'OpenAI-Beta: assistants=v2'.",
        code="invalid_beta",
    )


def server_error() -> ApiError:
    """500: the server has a fault; the details are in its log only."""
    return ApiError(500, "The server had an error while processing your request.", type="server_error")


def wrong_key(shown: str) -> ApiError:
    """401. `shown` is the key with its middle masked; keys never travel back whole."""
    return ApiError(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def forgotten_events(stream: str) -> ApiError:
    """404: the events were kept for a while only."""
    return ApiError(404, f"The events of '{stream}' are not kept any more; retrieve it instead.")


def bad_value(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """400 that names the parameter."""
    return ApiError(400, message, param=param, code=code)
