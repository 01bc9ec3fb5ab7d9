"""Errors for clients, and errors for the person who starts the server.

ServerError                an error for the person who starts the server, in one line
├── SettingsError          a setting cannot be used (also a ValueError)
└── StoreError             the data file cannot be opened, read, written or locked
ApiError                   the reply to a request: HTTP status and the protocol's error body

Clients match the texts of the functions below with regular expressions, so they are those of the hosted API,
byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchrun.server.protocol.bodies import Body

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
    """The server cannot start or continue. `str(error)` is one line for a person."""


class SettingsError(ServerError, ValueError):
    """A setting cannot be used; the message names it and states what to do."""


class StoreError(ServerError):
    """The data file cannot be opened, read, written or locked.

    Attributes:
        client_message: the same without the path, for clients.
    """

    def __init__(self, message: str, client_message: str = "The server cannot use its store.") -> None:
        super().__init__(message)
        self.client_message = client_message


class ApiError(Exception):
    """A reply with the error body `{"error": {message, type, param, code}}`, which always has all four keys.

    Attributes:
        status: HTTP status.
        param: the parameter at fault, such as `tools[0].type`; None if the error concerns no parameter.
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

    def body(self) -> Body:
        """Return the JSON body of the error."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def no_such(noun: str, object_id: str) -> ApiError:
    """404: there is no such object, or it belongs to another key. The reply must not reveal which."""
    return ApiError(404, f"No {noun} found with id '{object_id}'.")


def locked_thread(thread_id: str, run_id: str) -> ApiError:
    """400: messages cannot change while a run reads them."""
    return ApiError(400, f"Can't add messages to {thread_id} while a run {run_id} is active.")


def busy_thread(thread_id: str, run_id: str) -> ApiError:
    """400: a thread can have one active run only."""
    return ApiError(400, f"Thread {thread_id} already has an active run {run_id}.")


def uncancellable(status: str) -> ApiError:
    """400: the run can no longer be cancelled."""
    return ApiError(400, f"Cannot cancel run with status '{status}'.")


def refused_outputs(status: str) -> ApiError:
    """400: the run does not wait for tool outputs."""
    return ApiError(400, f'Runs in status "{status}" do not accept tool outputs.')


def wrong_outputs(expected: Sequence[str], got: Sequence[str]) -> ApiError:
    """400: the tool outputs do not match the calls. The lists are quoted without spaces."""

    def quoted(ids: Sequence[str]) -> str:
        return "[" + ",".join(f"'{call_id}'" for call_id in ids) + "]"

    return ApiError(400, f"Expected tool outputs for call_ids {quoted(expected)}, got {quoted(got)}")


def missing_beta() -> ApiError:
    """400: the header that the beta endpoints require is missing."""
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
    """401. `shown` is the key with its middle masked: a reply never contains a whole key."""
    return ApiError(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def forgotten_events(stream: str) -> ApiError:
    """404: the events were kept for a limited time."""
    return ApiError(404, f"The events of '{stream}' are no longer stored; retrieve the object instead.")


def bad_value(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """400: a parameter has an invalid value."""
    return ApiError(400, message, param=param, code=code)
