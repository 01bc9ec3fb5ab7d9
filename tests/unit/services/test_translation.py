"""Every form of refusal, and its place in batchrun's error tree."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

import aiohttp
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
    Refused,
    ServerFault,
    ServiceFault,
    Shortage,
    Silence,
    Unavailable,
)
from batchrun.services.client import Endpoint
from batchrun.services.redaction import scrubbed
from batchrun.services.retry_after import parse_retry_after
from batchrun.services.translation import fault_of_error_body, fault_of_exception, fault_of_failed_run
from batchrun.token_usage import Usage

KEY = "sk-secret-0123456789"


def status_error(status: int, body: Any, headers: dict[str, str] | None = None) -> openai.APIStatusError:
    """Return the exception that the SDK itself raises for such a reply."""
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
        (403, error(), Refused, "http_403"),
        (403, error("Your account is not active.", "account_deactivated"), BatchRefused, "permission_denied"),
        (403, error("Not supported", "unsupported_country_region_territory"), BatchRefused, "permission_denied"),
        (403, error("You do not have permission to send this."), Refused, "http_403"),
        (403, error("Flagged; repeated violations may cost you your account."), Refused, "http_403"),
        (403, "<html><title>403 Forbidden</title> firewall</html>", Refused, "http_403"),
        (403, error("Project does not have access to model `m`", "model_not_found"), BatchRefused, "model_not_found"),
        (404, error("No thread found with id 'thread_1'."), Refused, "http_404"),
        (
            404,
            error("Previous response with id 'resp_1' not found.", "previous_response_not_found"),
            Refused,
            "previous_response_not_found",
        ),
        (404, error("File Not Found"), BatchRefused, "not_found"),
        (404, error("Nothing here."), BatchRefused, "not_found"),
        (403, error("Your key may be blocked if you send this again."), Refused, "http_403"),
        (403, error("Denied.", "project_archived"), BatchRefused, "permission_denied"),
        (403, error(code="insufficient_user_quota"), BatchRefused, "permission_denied"),
        (403, error("Insufficient balance", "insufficient_balance"), BatchRefused, "insufficient_balance"),
        (400, error("Your credit balance is too low to access the API."), BatchRefused, "insufficient_quota"),
        (405, {"detail": "Method Not Allowed"}, BatchRefused, "not_found"),
        (407, error(), BatchRefused, "proxy_refused"),
        (498, error(), RateLimited, "rate_limit_exceeded"),
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
        (529, error(), Unavailable, "http_529"),
        (500, error("Model is loading, come back later"), Unavailable, "http_500"),
        (
            429,
            error("Request too large for m in organization o on tokens per min (TPM): Limit 100, Requested 200"),
            PermanentFault,
            "request_too_large",
        ),
        (400, error("API key not valid. Please pass a valid API key."), BatchRefused, "authentication_error"),
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
        (404, error("File Not Found"), "no such endpoint on this server: /v1/threads/runs; check --base-url, and whether the "
         "server supports the protocol of --api (the server's message: File Not Found)"),
        (404, "nope", "no such endpoint on this server: /v1/threads/runs; check --base-url, and whether"),
    ],
)  # fmt: skip
def test_messages(status: int, body: Any, words: str) -> None:
    """The message has the server's text, whatever its form."""
    assert str(fault_of(status, body)).startswith(words)


TOO_LONG = {
    "OpenAI": (400, error("This model's maximum context length is 8192 tokens.", "context_length_exceeded", "messages")),
    "OpenAI Responses": (400, error("Your input exceeds the context window of this model.", "context_length_exceeded")),
    "llama.cpp": (400, {"error": {"code": 400, "message": "request (1231 tokens) exceeds the available context size "
                  "(512 tokens), try increasing it", "type": "exceed_context_size_error", "n_ctx": 512}}),
    "vLLM": (400, {"object": "error", "message": "This model's maximum context length is 10 tokens. However, you requested "
             "20 tokens (10 in the messages, 10 in the completion). Please reduce max_tokens.", "code": 400}),
    "LiteLLM": (400, error("litellm.ContextWindowExceededError: OpenAIException - too long", "400")),
    "Anthropic": (400, error("prompt is too long: 208310 tokens > 200000 maximum")),
    "Gemini": (400, [{"error": {"code": 400, "status": "INVALID_ARGUMENT",
               "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}]),
    "LiteLLM before Anthropic": (400, error("litellm.BadRequestError: AnthropicException - input length and `max_tokens` "
                                 "exceed context limit: 179413 + 32768 > 200000, decrease input length", "400")),
    "Azure": (400, error("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 509178 "
              "tokens.", "400")),
    "vLLM, decoder": (400, error("The decoder prompt (length 5000) is longer than the maximum model length of 4096.")),
    "vLLM, max_tokens": (400, error("'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum "
                         "context length is 4096 tokens and your request has 100 input tokens")),
    "llama-cpp-python": (500, error("Requested tokens (2285) exceed context window of 2048")),
    "Mistral": (400, {"object": "error", "code": "3051", "message": "Prompt contains 40000 tokens and 0 draft tokens, too "
                "large for model with 32768 maximum context length"}),
    "Text Generation Inference": (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= "
                                  "4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`"}),
    "SGLang": (400, error("Input length (5000 tokens) exceeds the maximum allowed length (4096 tokens).")),
    "Ollama": (400, error("the input length exceeds the context length")),
    "Cohere": (400, error("too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000")),
    "Bedrock": (400, error("Input is too long for requested model.")),
    "a 413": (413, error("The input is too long for the context length of this model.")),
    "a 500": (500, error("the request exceeds the available context size")),
}  # fmt: skip


@pytest.mark.parametrize("service", TOO_LONG)
def test_a_prompt_that_is_too_long_has_one_name(service: str) -> None:
    """A prompt that is too long fails its row with `context_length_exceeded`, whatever words the service uses."""
    status, body = TOO_LONG[service]
    fault = fault_of(status, body, settings=frozenset({"max_tokens", "max_completion_tokens"}))
    assert (type(fault), fault.error_type) == (PermanentFault, "context_length_exceeded")
    in_stream = fault_of_error_body(body)
    assert (type(in_stream), in_stream.error_type) == (PermanentFault, "context_length_exceeded")


def test_a_run_that_failed_for_its_length_has_that_name_too() -> None:
    """Runs of assistants and of background responses report it under their own codes."""
    for code in ("invalid_prompt", "server_error", "exceed_context_size_error", None):
        fault = fault_of_failed_run(code, "This model's maximum context length is 512 tokens.")
        assert (type(fault), fault.error_type, fault.run_ended) == (PermanentFault, "context_length_exceeded", True)


LARGE = {
    "OpenAI": (429, "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested "
               "30601. The input or output tokens must be reduced in order to run successfully."),
    "Groq": (413, "Request too large for model `llama` in organization `org` service tier `on_demand` on tokens per minute "
             "(TPM): Limit 6000, Requested 12328, please reduce your message size and try again."),
    "without the words": (429, "Rate limit reached for gpt-4 on tokens per min (TPM): Limit 10,000, Used 0, Requested 20,000."),
}  # fmt: skip


@pytest.mark.parametrize("service", LARGE)
def test_a_request_above_the_limit_of_a_minute_is_not_waited_for(service: str) -> None:
    """A request above the limit of a minute fails its row; one that fits into a later minute waits."""
    status, words = LARGE[service]
    for fault in (
        fault_of(status, error(words, "rate_limit_exceeded")),
        fault_of_failed_run("rate_limit_exceeded", words),
        fault_of_error_body({"error": {"message": words, "code": status}}),
    ):
        assert (type(fault), fault.error_type) == (PermanentFault, "request_too_large")
    later = (
        "Rate limit reached on tokens per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in 644ms."
    )
    fault = fault_of(429, error(later, "rate_limit_exceeded"))
    assert (type(fault), fault.retry_after_s) == (RateLimited, 0.644)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, Unavailable),
        (503, {"error": "Model gpt2 is currently loading", "estimated_time": 20.0}, Unavailable),
        (500, {"error": "model is loading"}, Unavailable),
        (400, error("The model is still loading, please wait"), Unavailable),
        (500, {"error": "error loading model /models/x.gguf: no such file"}, ServerFault),
        (500, {"error": "failed loading model"}, ServerFault),
        (522, "<html><title>522: Connection timed out</title></html>", Unavailable),
        (503, error(code="rate_limit_exceeded"), RateLimited),
        (400, error(code="rate_limit_exceeded"), RateLimited),
    ],
)
def test_transient_errors_are_recognised_by_their_words(status: int, body: Any, kind: type[ServiceFault]) -> None:
    """A loading model is waited for, whatever the status; a model that cannot be loaded is not."""
    assert type(fault_of(status, body)) is kind


def test_a_spent_quota_is_distinguished_from_a_rate_limit() -> None:
    """Some gateways give the quota only as a type; Gemini calls a rate limit a quota, and names the seconds."""
    spent = {"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": None}}
    assert type(fault_of(429, spent)) is BatchRefused
    assert type(fault_of_failed_run("rate_limit_exceeded", "You exceeded your current quota.")) is BatchRefused
    fault = fault_of_failed_run("rate_limit_exceeded", "You exceeded your current quota. Please retry in 12s.")
    assert (type(fault), fault.retry_after_s) == (RateLimited, 12.0)
    assert type(fault_of_error_body([{"error": {"code": 429, "message": "Please retry in 12s."}}])) is RateLimited


def test_an_error_in_a_list_is_read() -> None:
    """Gemini sends a list with one error in it."""
    body = [{"error": {"code": 429, "message": "Resource exhausted. Please retry in 53.2s.", "status": "X"}}]
    fault = fault_of(429, body)
    assert (type(fault), fault.retry_after_s) == (RateLimited, 53.2)
    assert str(fault).startswith("Resource exhausted")


def test_a_broken_server_is_asked_again_unless_a_setting_breaks_it() -> None:
    """A 500 that names a parameter of the user is permanent; any other 500 is transient."""
    settings = frozenset({"temperature"})
    assert type(fault_of(500, error("'temperature' must be a number"), settings=settings)) is BatchRefused
    for words in ("The model m does not exist", "`top_p` is odd", "invalid request", "model not found"):
        assert type(fault_of(500, error(words), settings=settings)) is ServerFault


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", BatchRefused), ("/v1/responses", BatchRefused), ("/v1/threads/runs", BatchRefused),
        ("/v1/conversations", BatchRefused), ("/openai/deployments/name/chat/completions", BatchRefused),
        ("/v1/threads/thread_1/runs", Refused), ("/v1/responses/resp_1", Refused),
        ("/v1/conversations/conv_1/items", Refused), ("/v1/threads/thread_1/runs/run_1/steps", Refused),
    ],
)  # fmt: skip
def test_a_404_is_about_what_the_path_names(path: str, kind: type[ServiceFault]) -> None:
    """If the path names no object, the endpoint does not exist, whatever the body; the message names the path."""
    request = httpx2.Request("POST", f"http://127.0.0.1:1{path}")
    response = httpx2.Response(404, content=json.dumps(error("There is nothing.")).encode(), request=request)
    client = openai.AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1:1/v1")
    fault = fault_of_exception(client._make_status_error_from_response(response))
    assert type(fault) is kind
    assert (path in str(fault)) == (kind is BatchRefused)


@pytest.mark.parametrize("code", [400, 404, 500, "500", ""])
def test_codes_that_are_not_names(code: Any) -> None:
    """A code that only repeats the status, as vLLM's does, is not the name of an error."""
    fault = fault_of(500, error(code=code))
    assert fault.error_type == "http_500"


def test_a_setting_that_is_refused_stops_the_batch() -> None:
    """A 400 that names a parameter of the user concerns every row; one that names another does not."""
    settings = frozenset({"temperature"})
    for body in (error(param="temperature"), error("temperature must be below 1")):
        assert type(fault_of(400, body, settings=settings)) is BatchRefused
    for body in (error(param="messages"), error("the text is too long")):
        assert type(fault_of(400, body, settings=settings)) is PermanentFault


def caused_by(cause: Exception) -> openai.APIConnectionError:
    """Return the SDK's exception with the transport's error as its cause."""
    exc = openai.APIConnectionError(request=httpx2.Request("GET", "http://x"))
    exc.__cause__ = httpx2.ConnectTimeout("x")
    exc.__cause__.__cause__ = cause
    return exc


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL])
def test_a_shortage_on_this_machine(number: int) -> None:
    """Without a free descriptor or port nothing was sent, and the message does not blame the service."""
    fault = fault_of_exception(caused_by(OSError(number, os.strerror(number))))
    assert type(fault) is Shortage
    assert not fault.unseen
    assert os.strerror(number) in str(fault)


def test_a_kept_connection_that_is_gone() -> None:
    """A request that could not be written to a closed connection had certainly no effect."""
    fault = fault_of_exception(caused_by(aiohttp.ClientConnectionResetError("Cannot write to closing transport")))
    assert type(fault) is Unavailable
    assert not fault.unseen


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
    """Failures below HTTP are transient; silence and broken connections are distinguished."""
    fault = fault_of_exception(exc)
    assert type(fault) is kind
    assert fault.error_type == error_type


@pytest.mark.parametrize(("text", "words"), [("refused", "refused"), ("", "ConnectError")])
def test_a_lost_connection_names_its_cause(text: str, words: str) -> None:
    """The message has the text of the transport's error, or its name if it has no text."""
    assert words in str(fault_of_exception(httpx2.ConnectError(text)))


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
    """A run that failed with HTTP 200 is classified like a refused request, and another attempt needs another run."""
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
    """An error event, wrapped or bare, has its branch by name or number, and does not mean that the run has ended."""
    fault = fault_of_error_body(body)
    assert type(fault) is kind
    assert str(fault) == words
    assert not fault.run_ended


def test_secrets_show_nowhere() -> None:
    """A key that a server repeats is in no message, wherever the message comes from and is cut."""
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
    """An endpoint can be logged without its secrets."""
    assert KEY not in repr(Endpoint("http://x", KEY, headers={"X-Token": KEY}))


def test_an_empty_key_is_not_a_secret() -> None:
    """The placeholder for a missing key is not removed from messages."""
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
    """Seconds, milliseconds and dates are read, by the server's own clock; anything else is None."""
    assert parse_retry_after(headers) == seconds


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), st.text(max_size=40)))
def test_any_retry_after_is_a_finite_wait_or_none(headers: dict[str, str]) -> None:
    """No header makes the parser raise, or return an infinite wait."""
    seconds = parse_retry_after(headers)
    assert seconds is None or 0 <= seconds < float("inf")
