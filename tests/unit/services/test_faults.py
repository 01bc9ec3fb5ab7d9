"""Every way a service can say no, and what batchrun makes of it."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    PermanentFault,
    RateLimited,
    ServerFault,
    ServiceFault,
    Silence,
    Unavailable,
)
from batchrun.records import Usage
from batchrun.services.client import Endpoint
from batchrun.services.faults import (
    fault_of_error_body,
    fault_of_exception,
    fault_of_failed_run,
    parse_retry_after,
    scrubbed,
)

KEY = "sk-secret-0123456789"


def status_error(status: int, body: Any, headers: dict[str, str] | None = None) -> openai.APIStatusError:
    """What the SDK raises for such a reply, made by the SDK itself."""
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = httpx2.Request("POST", "http://127.0.0.1:1/v1/threads/runs")
    response = httpx2.Response(status, content=content, headers=headers, request=request)
    client = openai.AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1:1/v1")
    return client._make_status_error_from_response(response)


def error(message: str = "No.", code: Any = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def fault_of(status: int, body: Any, headers: dict[str, str] | None = None, **options: Any) -> ServiceFault:
    return fault_of_exception(status_error(status, body, headers), (KEY,), **options)


@pytest.mark.parametrize(
    ("status", "body", "kind", "error_type"),
    [
        (400, error(), PermanentFault, "http_400"),
        (400, error(code="context_length_exceeded"), PermanentFault, "context_length_exceeded"),
        (400, error(code="invalid_model"), BatchRefused, "invalid_model"),
        (400, error(code="unsupported_parameter"), BatchRefused, "unsupported_parameter"),
        (401, error(code="invalid_api_key"), BatchRefused, "authentication_error"),
        (402, error(), BatchRefused, "insufficient_quota"),
        (403, error(), BatchRefused, "permission_denied"),
        (404, error("No thread found with id 'thread_1'."), PermanentFault, "http_404"),
        (404, error("The model `gpt-0` does not exist", "model_not_found"), BatchRefused, "model_not_found"),
        (404, error("No assistant found with id 'asst_1'."), BatchRefused, "not_found"),
        (404, {"detail": "Not Found"}, BatchRefused, "not_found"),
        (404, "<html><title>404</title></html>", BatchRefused, "not_found"),
        (408, error(), ServerFault, "http_408"),
        (409, error(), ServerFault, "http_409"),
        (413, error(), PermanentFault, "http_413"),
        (422, error(), PermanentFault, "http_422"),
        (429, error(code="rate_limit_exceeded"), RateLimited, "rate_limit_exceeded"),
        (429, error(), RateLimited, "rate_limit_exceeded"),
        (429, "slow down", RateLimited, "rate_limit_exceeded"),
        (429, error(code="insufficient_quota"), BatchRefused, "insufficient_quota"),
        (500, error(), ServerFault, "http_500"),
        (502, "<html><title>Bad Gateway</title></html>", Unavailable, "http_502"),
        (503, "", Unavailable, "http_503"),
        (529, error(), ServerFault, "http_529"),
    ],
)
def test_statuses(status: int, body: Any, kind: type[ServiceFault], error_type: str) -> None:
    """Each status and code has its branch of the error tree, its stable name, and one line of text."""
    fault = fault_of(status, body)
    assert type(fault) is kind
    assert (fault.error_type, fault.status_code) == (error_type, status)
    assert str(fault)
    assert "\n" not in str(fault)
    assert not fault.run_ended


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, error("Incorrect API key provided"), "the service refused the key: Incorrect API key provided"),
        (502, "<html><title>Bad\nGateway</title></html>", "the server answered 502 with HTML: Bad Gateway"),
        (500, "oops", "the server answered 500 with something that is not JSON: oops"),
        (503, "", "the server answered 503 with something that is not JSON: an empty body"),
        (400, {"error": "model is required"}, "model is required"),
        (422, {"detail": [{"loc": ["body"]}]}, "[{'loc': ['body']}]"),
        (404, "nope", "no such endpoint on this server: /v1/threads/runs (is --base-url right, and --api what it"),
    ],
)
def test_messages(status: int, body: Any, words: str) -> None:
    """The line says what the server said, in whatever form it said it."""
    assert str(fault_of(status, body)).startswith(words)


@pytest.mark.parametrize("code", [400, 404, 500, "500", ""])
def test_codes_that_are_no_names(code: Any) -> None:
    """A code that only repeats the status, as vLLM's does, is not taken for the name of an error."""
    fault = fault_of(500, error(code=code))
    assert fault.error_type == "http_500"


def test_a_setting_that_is_refused_stops_the_batch() -> None:
    """A 400 that names a parameter which the user set concerns every row; one that names another does not."""
    settings = frozenset({"temperature"})
    for body in (error(param="temperature"), error("temperature must be below 1")):
        assert type(fault_of(400, body, settings=settings)) is BatchRefused
    for body in (error(param="messages"), error("the text is too long")):
        assert type(fault_of(400, body, settings=settings)) is PermanentFault


@pytest.mark.parametrize(
    ("exc", "kind", "error_type"),
    [
        (httpx2.ReadTimeout("x"), Silence, "timeout"),
        (httpx2.ConnectTimeout("x"), ConnectionLost, "connection_error"),
        (httpx2.ConnectError("refused"), ConnectionLost, "connection_error"),
        (httpx2.ReadError("reset"), ConnectionLost, "connection_error"),
        (httpx2.RemoteProtocolError("peer closed"), ConnectionLost, "connection_error"),
        (openai.APITimeoutError(httpx2.Request("GET", "http://x")), Silence, "timeout"),
        (openai.APIConnectionError(request=httpx2.Request("GET", "http://x")), ConnectionLost, "connection_error"),
        (httpx2.TooManyRedirects("x"), PermanentFault, "request_error"),
        (openai.OpenAIError("odd"), PermanentFault, "request_error"),
    ],
)
def test_connections(exc: Exception, kind: type[ServiceFault], error_type: str) -> None:
    """What goes wrong below HTTP may pass; silence and broken connections are told apart."""
    fault = fault_of_exception(exc)
    assert type(fault) is kind
    assert fault.error_type == error_type


@pytest.mark.parametrize(
    ("code", "message", "kind", "error_type", "retry_after_s"),
    [
        ("rate_limit_exceeded", "Slow down", RateLimited, "rate_limit_exceeded", None),
        ("rate_limit_exceeded", "Please try again in 1.5s. See", RateLimited, "rate_limit_exceeded", 1.5),
        ("rate_limit_exceeded", "try again in 250ms", RateLimited, "rate_limit_exceeded", 0.25),
        ("rate_limit_exceeded", "Try again in 2m", RateLimited, "rate_limit_exceeded", 120.0),
        ("rate_limit_exceeded", "You exceeded your current quota", BatchRefused, "insufficient_quota", None),
        ("server_error", "Sorry", ServerFault, "server_error", None),
        ("invalid_prompt", "no", PermanentFault, "invalid_prompt", None),
        (None, "no", PermanentFault, "run_failed", None),
    ],
)
def test_failed_runs(
    code: str | None, message: str, kind: type[ServiceFault], error_type: str, retry_after_s: float | None
) -> None:
    """A run that failed with HTTP 200 is sorted like a refused request; another try needs another run."""
    fault = fault_of_failed_run(code, message, Usage(1, 2, 3))
    assert type(fault) is kind
    assert (fault.error_type, fault.retry_after_s, fault.run_ended) == (error_type, retry_after_s, True)
    assert fault.usage == Usage(1, 2, 3)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, RateLimited, "m"),
        ({"message": "m", "type": "server_error", "code": None}, ServerFault, "m"),
        ({"error": {"message": "m", "type": "invalid_request_error"}}, PermanentFault, "m"),
        ({"error": {"message": "m", "type": "InternalServerError", "code": 500}}, ServerFault, "m"),
        ({"error": {"message": "m", "code": 429}}, RateLimited, "m"),
        ({"error": {"message": "m", "code": 400}}, PermanentFault, "m"),
        ({"error": "in words"}, ServerFault, "in words"),
        ("in words", ServerFault, "in words"),
        ([], ServerFault, "[]"),
        ({}, ServerFault, "the service sent an error"),
    ],
)
def test_errors_inside_a_stream(body: Any, kind: type[ServiceFault], words: str) -> None:
    """Wrapped or bare, by name or by number, an error event has its branch, and says nothing about the run's end."""
    fault = fault_of_error_body(body)
    assert type(fault) is kind
    assert str(fault) == words
    assert not fault.run_ended


def test_secrets_show_nowhere() -> None:
    """A key that a server repeats appears in no message, wherever the message comes from and is cut."""
    messages = [
        fault_of(401, error(f"Incorrect API key provided: {KEY}")),
        fault_of(500, f"<html><title>key {KEY}</title></html>"),
        fault_of(500, "x" * 110 + KEY),
        fault_of(400, error(KEY, param="temperature"), settings=frozenset({"temperature"})),
        fault_of_exception(httpx2.ConnectError(f"bad header {KEY}"), (KEY,)),
        fault_of_exception(openai.OpenAIError(KEY), (KEY,)),
        fault_of_error_body({"error": {"message": KEY}}, (KEY,)),
        fault_of_failed_run("server_error", KEY, None, (KEY,)),
    ]
    assert not [str(fault) for fault in messages if KEY[:8] in str(fault)]
    assert scrubbed("x" * 1_995 + KEY, (KEY,))[1_990:] == "xxxxx***"


def test_secrets_show_in_no_repr() -> None:
    """An endpoint can be logged."""
    assert KEY not in repr(Endpoint("http://x", KEY, headers={"X-Token": KEY}))


def test_no_key_is_no_secret() -> None:
    """Where there is no key, the word that stands for it is not struck out of messages."""
    assert scrubbed("tool_choice: none", Endpoint("http://x", "none").secrets) == "tool_choice: none"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT", "date": "Mon, 23 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT", "date": "Mon, 23 Nov 2026 12:00:00 GMT"}, 0.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:30 -0000", "date": "Mon, 23 Nov 2026 12:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates are understood, measured on the server's own clock; the rest is None."""
    assert parse_retry_after(headers) == seconds


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), st.text(max_size=40)))
def test_any_retry_after_is_a_finite_wait_or_none(headers: dict[str, str]) -> None:
    """No header makes the parser raise, or answer with a wait without end."""
    seconds = parse_retry_after(headers)
    assert seconds is None or 0 <= seconds < float("inf")
