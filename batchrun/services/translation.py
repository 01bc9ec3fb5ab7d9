"""The one place where errors of the SDK and its HTTP client become batchrun's own."""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import httpx2
import openai

from batchrun.engine.durations import wait_in_words
from batchrun.errors import (
    BatchRefused,
    ConnectionLost,
    PermanentFault,
    RateLimited,
    Refused,
    RunLost,
    ServerFault,
    ServiceFault,
    Shortage,
    Silence,
    Unavailable,
)
from batchrun.records import Usage

__all__ = [
    "HttpFailure",
    "bad_reply",
    "causes_of",
    "fault_of_error_body",
    "fault_of_exception",
    "fault_of_failed_run",
    "needs_tools",
    "parse_retry_after",
    "scrubbed",
]

HttpFailure = (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError)
"""What a request or the reading of its reply can raise. aiohttp's own errors come through its adapter where
what was read is no HTTP."""

_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_NO_MONEY = re.compile(r"credit balance is too low|insufficient (balance|credits?|funds)", re.IGNORECASE)
_ACCOUNT_CODE = re.compile(
    r"api_?key|account|organi[sz]ation|project|billing|balance|quota|country|region|subscription|scope",
    re.IGNORECASE,
)
"""Codes of a 403 that is about the key, the account or the quota, and so about every row. Its words do not decide: a
message about what one row says may well warn of the account."""
_NO_KEY = re.compile(r"api key (is )?(not |in)valid|invalid api key|incorrect api key", re.IGNORECASE)
_SETTING_CODES = frozenset(
    {
        "unknown_parameter",
        "unsupported_parameter",
        "unsupported_value",
        "invalid_model",
        "model_not_found",
        "upstream_refused",  # behind batchrun's own server: the model's endpoint refuses the server's key
        "DeploymentNotFound",  # Azure's word for a model that is not there
    }
)
_BATCH_PARAMS = frozenset({"model", "instructions", "store", "stream", "stream_options", "background"})
"""Parameters that are the same for every row: a refusal whose `param` is one of them concerns all."""

_CODE_OF_TYPE = {
    "error": "server_error",  # the `type` of the Responses API's error event, not of the error
    "None": "server_error",
    "api_error": "server_error",
    "internal_server_error": "server_error",
    "overloaded_error": "server_error",
    "rate_limit_error": "rate_limit_exceeded",
    "requests": "rate_limit_exceeded",
    "throttling_error": "rate_limit_exceeded",
    "tokens": "rate_limit_exceeded",
    "too_many_requests": "rate_limit_exceeded",
}
"""What an error without a code means, by the `type` that services give it."""


def fault_of_exception(
    exc: Exception, secrets: tuple[str, ...] = (), settings: frozenset[str] = frozenset()
) -> ServiceFault:
    """Translate what a request raised.

    Args:
        secrets: strings that must not appear in the message (keys).
        settings: names of the parameters that the user set: a refusal that names one concerns every row.
    """
    if isinstance(exc, openai.APIStatusError):
        return _fault_of_status(exc, secrets, settings)
    causes = tuple(causes_of(exc))
    ours = next((cause for cause in causes if isinstance(cause, ServiceFault)), None)
    if ours is not None:
        return ours  # of a reply that the SDK read for us: see batchrun.services.reply_size
    short = next((each for each in causes if isinstance(each, OSError) and each.errno in _SHORT), None)
    if short is not None:
        words = f"this machine cannot open another connection ({short.strerror})"
        return Shortage(words, error_type="too_many_connections")
    if _any(causes, aiohttp.ClientConnectionResetError):
        # A kept connection that the server has closed meanwhile: the request was not written to it.
        return Unavailable("the connection was closed before the request was sent", error_type="connection_error")
    if _any(causes, aiohttp.ConnectionTimeoutError):
        return _unconnected("the server could not be reached")
    if _any(causes, aiohttp.ServerDisconnectedError):
        fault = _unconnected("the server closed the connection without an answer")
        fault.sent = True
        return fault
    # The adapter calls every other trouble with a connection a connect timeout: aiohttp's own error decides.
    if _any(causes, httpx2.ConnectTimeout) or not _any(causes, openai.APITimeoutError, httpx2.TimeoutException):
        if _any(causes, openai.APIConnectionError, httpx2.TransportError, aiohttp.ClientError):
            words = " ".join(scrubbed(str(causes[-1]) or type(causes[-1]).__name__, secrets).split())
            if _any(causes, aiohttp.ClientConnectorError):
                return _unconnected(f"the connection failed: {words}")
            return ConnectionLost(f"the connection failed: {words}", error_type="connection_error")
    else:
        return Silence("the server sent nothing within the deadline", error_type="timeout")
    return PermanentFault(scrubbed(str(exc) or type(exc).__name__, secrets), error_type="request_error")


_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL})
"""No descriptor left for this process, or for this machine; no local port left."""


def _unconnected(message: str) -> Unavailable:
    fault = Unavailable(message, error_type="connection_error")
    fault.connected = False
    return fault


def _fault_of_status(exc: openai.APIStatusError, secrets: tuple[str, ...], settings: frozenset[str]) -> ServiceFault:
    status = exc.status_code
    body = _error_object(exc.body)
    code = param = None
    if isinstance(body, Mapping):
        message = str(body.get("message") or body.get("detail") or body)
        code, param = _name(body.get("code")) or _CODE_OF_KIND.get(str(body.get("type"))), _name(body.get("param"))
    elif isinstance(body, str) and body != exc.response.text.strip():
        message = body  # {"error": "in words"}, as llama.cpp and Ollama have it in places
    else:
        message = _not_json(status, scrubbed(exc.response.text, secrets))
    message = scrubbed(message, secrets)
    if _concerns_all(status, param, code, message, settings):
        return BatchRefused(
            f"the service refused a setting: {' '.join(message.split())}",
            error_type=code or f"http_{status}",
            status_code=status,
        )
    return _fault(
        status,
        code=code,
        message=message,
        path=exc.request.url.path,
        retry_after_s=parse_retry_after(exc.response.headers),
        api_error=isinstance(body, Mapping) and "message" in body,
    )


def _error_object(body: object) -> object:
    """The error in a body as the SDK hands it on; Gemini sends a list with one in it."""
    if isinstance(body, list) and body and isinstance(body[0], Mapping):
        return body[0].get("error") or body[0]
    return body


def _name(value: object) -> str | None:
    """A `code` or `param` that is a name. Some servers (vLLM, LiteLLM) repeat the HTTP status there, as a number."""
    return value if isinstance(value, str) and value not in ("", "None") and not value.isdigit() else None


def _concerns_all(status: int, param: str | None, code: str | None, message: str, settings: frozenset[str]) -> bool:
    """Whether a refusal is about the model or a parameter of it, by its `param` or, where it has none, its words.

    A 500 is only where it names a parameter that the user set: the same request would break the server again.
    """
    if status not in (400, 422, 500) or code in _ROW_CODES or _TOO_LONG.search(message):
        return False  # one long row; such messages name the parameter that bounds the answer (vLLM)
    if param is not None:
        name = param.split(".")[0].split("[")[0]
        return name in settings or (status != 500 and name in _BATCH_PARAMS)
    if any(_names(name, message) for name in settings):
        return True
    return status != 500 and _NO_MODEL.search(message) is not None


def _names(parameter: str, message: str) -> bool:
    """Whether a message speaks of a parameter, by quotes, a colon or the kind of thing; `user` is a word too."""
    name = re.escape(parameter)
    return (
        re.search(
            rf"""['"`]{name}['"`.\[]|(?<![\w.]){name}\s*[:=]|\b(?:parameter|argument|field|option)s?\b.{{0,40}}\b{name}\b""",
            message,
            re.IGNORECASE,
        )
        is not None
        or re.match(rf"{name}\b", message) is not None
    )


def _fault(
    status: int, *, code: str | None, message: str, path: str, retry_after_s: float | None, api_error: bool
) -> ServiceFault:
    line = " ".join(message.split())
    concerns_all = _refusal_of_all(status, code, line, path, api_error=api_error)
    if concerns_all is not None:
        return concerns_all
    if 400 <= status <= 500 and (too_much := _too_much(code, line)) is not None:
        return PermanentFault(line, error_type=too_much, status_code=status)
    if code == "idempotency_key_reused":
        # An earlier run of the batch sent this key with other options; what became of it cannot be known.
        return RunLost(line, error_type=code, status_code=status, run_ended=True)
    if status in (429, 498) or code == "rate_limit_exceeded":  # 498: Groq has no capacity left for its flex tier
        return RateLimited(
            line,
            error_type=code or "rate_limit_exceeded",
            status_code=status,
            retry_after_s=wait_in_words(line) if retry_after_s is None else retry_after_s,
        )
    error_type = code or f"http_{status}"
    if status in _AWAY or _LOADING.search(line):
        return Unavailable(line, error_type=error_type, status_code=status, retry_after_s=retry_after_s)
    if status in (408, 409) or status >= 500 or code == "conversation_locked":
        return ServerFault(line, error_type=error_type, status_code=status, retry_after_s=retry_after_s)
    kind = Refused if status in (403, 404) else PermanentFault
    return kind(line, error_type=error_type, status_code=status)


def _too_much(code: str | None, line: str) -> str | None:
    """The error type of a prompt that will never fit; None for everything else.

    It is too long for the model, or has more tokens than the limit of a whole minute, so that no wait makes it fit.
    """
    if code in _TOO_LONG_CODES or (code not in _ROW_CODES and _TOO_LONG.search(line)):
        return "context_length_exceeded"
    asked = _OF_LIMIT.search(line)
    beyond = asked is not None and int(asked[2].replace(",", "")) > int(asked[1].replace(",", ""))
    return "request_too_large" if beyond or _TOO_LARGE.search(line) else None


def _refusal_of_all(status: int, code: str | None, line: str, path: str, *, api_error: bool) -> BatchRefused | None:
    """A refusal about the key, the account, the endpoint or a setting; None where it may be about one row."""
    if status == 401 or (status == 400 and (code == "invalid_api_key" or _NO_KEY.search(line))):
        return BatchRefused(
            f"the service refused the key: {line}", error_type="authentication_error", status_code=status
        )
    if status == 407:
        return BatchRefused(f"the proxy wants a password: {line}", error_type="proxy_refused", status_code=status)
    if code in _QUOTA_CODES or status == 402 or (status < 500 and _NO_MONEY.search(line)):
        return BatchRefused(
            f"the quota is exhausted: {line}", error_type=code or "insufficient_quota", status_code=status
        )
    if code in _SETTING_CODES or (status == 404 and _BATCH_WIDE.search(line)):
        return BatchRefused(
            f"the service refused a setting: {line}", error_type=code or "not_found", status_code=status
        )
    about_account = code is not None and _ACCOUNT_CODE.search(code)
    if status == 403 and about_account:
        return BatchRefused(f"the key may not do this: {line}", error_type="permission_denied", status_code=status)
    if (status == 404 and _no_endpoint(path, line, api_error=api_error)) or (
        status == 405 and _OBJECT_IN_PATH.search(path) is None
    ):
        said = f"; the server says: {line}" if api_error else ""
        return BatchRefused(
            f"no such endpoint on this server: {path} (is --base-url right, and --api what it speaks?){said}",
            error_type="not_found",
            status_code=status,
        )
    return None


def _no_endpoint(path: str, line: str, *, api_error: bool) -> bool:
    """Whether a 404 is about the endpoint rather than an object: nothing in path or message names one, or the reply is
    not the API's."""
    if not api_error or line.lower().rstrip(".") in _NO_SUCH_PATH:
        return True
    return path != "" and _OBJECT_IN_PATH.search(path) is None and _OBJECT.search(line) is None


def fault_of_failed_run(
    code: str | None, message: str, usage: Usage | None = None, secrets: tuple[str, ...] = ()
) -> ServiceFault:
    """A run that failed, with HTTP 200: the model's limits show here and nowhere else."""
    line = " ".join(scrubbed(message, secrets).split())
    wait_s = wait_in_words(line)
    if code in _QUOTA_CODES or ("exceeded your current quota" in line and wait_s is None):
        return BatchRefused(
            f"the quota is exhausted: {line}", error_type="insufficient_quota", run_ended=True, usage=usage
        )
    if code in _SETTING_CODES:
        return BatchRefused(f"the service refused a setting: {line}", error_type=code, run_ended=True, usage=usage)
    too_much = _too_much(code, line)
    if too_much is not None:
        return PermanentFault(line, error_type=too_much, run_ended=True, usage=usage)
    if code == "rate_limit_exceeded":
        return RateLimited(line, error_type=code, retry_after_s=wait_s, run_ended=True, usage=usage)
    if code == "server_error":
        return ServerFault(line, error_type=code, run_ended=True, usage=usage)
    return PermanentFault(line, error_type=code or "run_failed", run_ended=True, usage=usage)


def fault_of_error_body(body: Any, secrets: tuple[str, ...] = ()) -> ServiceFault:
    """An error that arrived with HTTP 200: `{"error": {...}}` or the error object itself, whole or in a stream.

    Where its code is a number (vLLM, LiteLLM, OpenRouter), it is the HTTP status that it would have had.
    """
    body = _error_object(body)
    error = (body.get("error") or body) if isinstance(body, Mapping) else {"message": str(body)}
    if not isinstance(error, Mapping):
        error = {"message": str(error)}
    message = scrubbed(str(error.get("message") or "the service sent an error"), secrets)
    code = _name(error.get("code"))
    status = str(error.get("code"))
    if code is None and status.isdigit() and 400 <= int(status) < 600:
        return _fault(int(status), code=None, message=message, path="", retry_after_s=None, api_error=True)
    kind = str(error.get("type") or "server_error")
    fault = fault_of_failed_run(code or _CODE_OF_TYPE.get(kind, kind), message)
    fault.run_ended = False
    return fault


def bad_reply(missing: str, body: Any, protocol: str, secrets: tuple[str, ...]) -> PermanentFault:
    """A reply that lacks something without which nothing can be done: the server speaks something else."""
    shown = scrubbed(json.dumps(body, ensure_ascii=False), secrets)[:80]
    return PermanentFault(
        f"the server's reply has no {missing}: {shown} (does it speak the {protocol} protocol?)", error_type="bad_reply"
    )


def needs_tools(usage: Usage) -> PermanentFault:
    """The model asks for a function in a way that names no call (`function_call`), so that no output can be given."""
    return PermanentFault(
        "the model asks for a function by `function_call`, which was given up in 2023; `tool_calls` are understood",
        error_type="requires_action",
        run_ended=True,
        usage=usage,
    )


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `retry-after-ms` or `Retry-After` (number or date, RFC 9110 §10.2.3); None where absent or odd."""
    millis = headers.get("retry-after-ms")
    if millis is not None:
        try:
            return _finite(float(millis) / 1_000)
        except ValueError:
            pass
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        return _finite(float(text))
    except ValueError:
        return _seconds_until(text, headers.get("date"))


def _finite(seconds: float) -> float | None:
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _seconds_until(text: str, server_date: str | None) -> float | None:
    """Both dates are the server's, so that a clock set wrong here does no harm."""
    from email.utils import parsedate_to_datetime

    try:
        until = parsedate_to_datetime(text)
        now = parsedate_to_datetime(server_date) if server_date else None
        return None if now is None else max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):  # TypeError: one of the two names no time zone
        return None


_BATCH_WIDE = re.compile(r"\b(model|assistant)\b", re.IGNORECASE)
_NO_MODEL = re.compile(r"\b(invalid model|unknown model|model\b.{0,80}\b(not found|not exist))", re.IGNORECASE)
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "ContextWindowExceededError"})
_ROW_CODES = _TOO_LONG_CODES | {"string_above_max_length", "content_filter", "conversation_locked"}
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|(prompt|input|request) is too long|input length .{0,40}exceed"
    r"|input token count .{0,40}exceed|too many (input )?tokens in (the )?(prompt|input)"
    r"|exceeds? the .{0,20}token limit|exceed context limit|input tokens exceed"
    r"|longer than the maximum model length|max_new_tokens. must be <="
    r"|number of tokens in the prompt cannot exceed",
    re.IGNORECASE,
)
"""Words of OpenAI, Azure ("Input tokens exceed the configured limit"), vLLM ("maximum context length is"), llama.cpp
("available context size"), LiteLLM, Ollama, Anthropic, Gemini, Text Generation Inference and Cohere."""
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
_OF_LIMIT = re.compile(r"\bLimit:? ([\d,]*\d)\b.{0,40}?\bRequested:? ([\d,]*\d)\b")
"""As OpenAI and Groq say it: "Limit 10000, Used 0, Requested 20000"."""
_AWAY = frozenset({502, 503, 504, 521, 522, 523, 529})
"""Statuses of a gateway that reaches no service (521 to 523 are Cloudflare's), and of a service that is overloaded."""
_LOADING = re.compile(
    r"(?<!error )(?<!failed )\bloading (the )?model\b|\bmodel\b.{0,80}\b(is|still|currently) loading\b", re.IGNORECASE
)
_NO_SUCH_PATH = frozenset({"resource not found", "file not found", "not found", "404 page not found"})
_OBJECT_IN_PATH = re.compile(
    r"/(threads|runs|messages|assistants|responses|conversations|files|vector_stores|file_batches|containers)"
    r"/(?!runs$|input_tokens$)[^/]+"
)
_OBJECT = re.compile(r"\b(thread|run|msg|asst|resp|conv|file|vs|vsfb|cntr|item|step)[-_](?=\w*\d)\w+", re.IGNORECASE)
_CODE_OF_KIND = {
    "exceed_context_size_error": "context_length_exceeded",
    "insufficient_quota": "insufficient_quota",
}
"""A code that some servers have as the error's type."""
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def _not_json(status: int, text: str) -> str:
    title = _TITLE.search(text)
    what = title[1] if title else text[:120]
    kind = "HTML" if "<html" in text[:500].lower() or title else "something that is not JSON"
    return f"the server answered {status} with {kind}: {what.strip() or 'an empty body'}"


def causes_of(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it was raised from."""
    while exc is not None:
        yield exc
        exc = exc.__cause__


def _any(errors: tuple[BaseException, ...], *kinds: type[BaseException]) -> bool:
    return any(isinstance(error, kinds) for error in errors)


def scrubbed(text: str, secrets: tuple[str, ...], *, most_chars: int | None = 2_000) -> str:
    """The text without the secrets. Scrub before cutting: half a key is a leak too."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text[:most_chars]
