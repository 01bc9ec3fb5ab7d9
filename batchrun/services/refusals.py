"""The codes and words with which services refuse a request, and whether such a refusal concerns one row or all.

The lists were collected from the error messages of OpenAI, Azure, Anthropic, Gemini, Groq, Cohere, vLLM, llama.cpp,
LiteLLM, Ollama and Text Generation Inference.
"""

from __future__ import annotations

import re

from batchrun.errors import BatchRefused
from batchrun.token_usage import Usage

__all__ = [
    "QUOTA_CODES",
    "SETTING_CODES",
    "by_one_reply",
    "concerns_every_row",
    "refusal_of_every_row",
    "refused_setting",
    "too_long_error_type",
]

# -- the key, the account and the quota -------------------------------------------------------------------------

QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_NO_MONEY = re.compile(r"credit balance is too low|insufficient (balance|credits?|funds)", re.IGNORECASE)
_ACCOUNT_CODE = re.compile(
    r"api_?key|account|organi[sz]ation|project|billing|balance|quota|country|region|subscription|scope",
    re.IGNORECASE,
)
"""Codes of a 403 that is about the key, the account or the quota, and therefore about every row. The message does not
decide: one that is about the content of a single row may also mention the account."""
_INVALID_KEY = re.compile(r"api key (is )?(not |in)valid|invalid api key|incorrect api key", re.IGNORECASE)

# -- the model and its settings ---------------------------------------------------------------------------------

_MODEL_CODES = frozenset(
    {
        "invalid_model",
        "model_not_found",
        "upstream_refused",  # batchrun's own server: the model's endpoint refuses the server's key
        "DeploymentNotFound",  # Azure: the model does not exist
    }
)
SETTING_CODES = _MODEL_CODES | {"unknown_parameter", "unsupported_parameter", "unsupported_value"}
_BATCH_PARAMS = frozenset({"model", "instructions", "store", "stream", "stream_options", "background"})
"""Parameters that are the same for every row: a refusal whose `param` is one of them concerns every row."""
_MODEL_OR_ASSISTANT = re.compile(r"\b(model|assistant)\b", re.IGNORECASE)
_NO_MODEL = re.compile(r"\b(invalid model|unknown model|model\b.{0,80}\b(not found|not exist))", re.IGNORECASE)

# -- one row: its prompt is too long, or its content is refused -------------------------------------------------

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
"""Messages of OpenAI, Azure ("Input tokens exceed the configured limit"), vLLM ("maximum context length is"), llama.cpp
("available context size"), LiteLLM, Ollama, Anthropic, Gemini, Text Generation Inference and Cohere."""
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
_LIMIT_AND_REQUESTED = re.compile(r"\bLimit:? ([\d,]*\d)\b.{0,40}?\bRequested:? ([\d,]*\d)\b")
"""As OpenAI and Groq write it: "Limit 10000, Used 0, Requested 20000"."""

# -- the endpoint -----------------------------------------------------------------------------------------------

_NO_SUCH_PATH = frozenset({"resource not found", "file not found", "not found", "404 page not found"})
_OBJECT_IN_PATH = re.compile(
    r"/(threads|runs|messages|assistants|responses|conversations|files|batches|vector_stores|file_batches|containers)"
    r"/(?!runs$|input_tokens$)[^/]+"
)
_OBJECT_ID = re.compile(
    r"\b(thread|run|msg|asst|resp|conv|file|batch|vs|vsfb|cntr|item|step)[-_](?=\w*\d)\w+", re.IGNORECASE
)


def concerns_every_row(
    status: int, param: str | None, code: str | None, message: str, settings: frozenset[str]
) -> bool:
    """Return whether a refusal is about the model or one of its parameters.

    The error's `param` decides; without it, the message does. A 500 counts only if it names a parameter that the user
    set: the same request would break the server again.

    Args:
        settings: names of the parameters that the user set.
    """
    if status not in (400, 422, 500) or code in _ROW_CODES or _TOO_LONG.search(message):
        return False  # one long row: vLLM's message for it names the parameter that limits the answer
    if param is not None:
        name = param.split(".")[0].split("[")[0]
        return name in settings or (status != 500 and name in _BATCH_PARAMS)
    if any(_names(name, message) for name in settings):
        return True
    return status != 500 and _NO_MODEL.search(message) is not None


def _names(parameter: str, message: str) -> bool:
    """Return whether a message names a parameter.

    The name must be quoted, be followed by a colon or an equals sign, follow a word such as "parameter", or begin the
    message: names such as `user` are also ordinary words.
    """
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


def too_long_error_type(code: str | None, message: str) -> str | None:
    """Return the error type of a prompt that can never be accepted; None for every other error.

    Such a prompt is longer than the model's context, or has more tokens than the rate limit allows in a whole minute,
    so that waiting does not help.
    """
    if code in _TOO_LONG_CODES or (code not in _ROW_CODES and _TOO_LONG.search(message)):
        return "context_length_exceeded"
    numbers = _LIMIT_AND_REQUESTED.search(message)
    beyond = numbers is not None and int(numbers[2].replace(",", "")) > int(numbers[1].replace(",", ""))
    return "request_too_large" if beyond or _TOO_LARGE.search(message) else None


def refusal_of_every_row(
    status: int, code: str | None, message: str, path: str, *, api_error: bool
) -> BatchRefused | None:
    """Return the fault of a refusal about the key, the account, the endpoint or a setting; None if it may be about one
    row.

    Args:
        path: of the request's URL; "" if unknown.
        api_error: the reply's body is an error object of the API.
    """
    if status == 401 or (status == 400 and (code == "invalid_api_key" or _INVALID_KEY.search(message))):
        return by_one_reply(f"the service refused the key: {message}", "authentication_error", status)
    if status == 407:
        return by_one_reply(f"the proxy requires a password: {message}", "proxy_refused", status)
    if code in QUOTA_CODES or status == 402 or (status < 500 and _NO_MONEY.search(message)):
        return BatchRefused(
            f"the quota is exhausted: {message}", error_type=code or "insufficient_quota", status_code=status
        )
    if code in SETTING_CODES or (status == 404 and _MODEL_OR_ASSISTANT.search(message)):
        return refused_setting(message, code, status)
    about_account = code is not None and _ACCOUNT_CODE.search(code)
    if status == 403 and about_account:
        return by_one_reply(f"the key does not permit this request: {message}", "permission_denied", status)
    if (status == 404 and _is_about_endpoint(path, message, api_error=api_error)) or (
        status == 405 and _OBJECT_IN_PATH.search(path) is None
    ):
        reply = f" (the server's message: {message})" if api_error else ""
        return by_one_reply(
            f"no such endpoint on this server: {path}; check --base-url, and whether the server supports the protocol "
            f"of --api{reply}",
            "not_found",
            status,
        )
    return None


def by_one_reply(message: str, error_type: str, status: int) -> BatchRefused:
    """Return the fault of a single reply with an HTTP error status."""
    fault = BatchRefused(message, error_type=error_type, status_code=status)
    fault.may_be_odd = True
    return fault


def refused_setting(
    message: str, code: str | None, status: int | None, param: str | None = None, usage: Usage | None = None
) -> BatchRefused:
    """Return the fault of a refusal about the model or one of its parameters.

    Args:
        status: HTTP status; None for a run that failed.
        param: the parameter that the refusal names, None if it names none.
        usage: of the run that failed.
    """
    is_run = status is None
    fault = BatchRefused(
        f"the service refused a setting: {message}",
        error_type=code or ("not_found" if status == 404 else f"http_{status}"),
        status_code=status,
        run_ended=is_run,
        usage=usage,
    )
    fault.may_be_odd = not is_run
    is_model = code in _MODEL_CODES or status == 404 or _NO_MODEL.search(message) is not None
    fault.setting = "model" if is_model else (param or "")
    return fault


def _is_about_endpoint(path: str, message: str, *, api_error: bool) -> bool:
    """Return whether a 404 is about the endpoint rather than an object.

    It is if the reply does not come from the API, or if neither the path nor the message names an object.
    """
    if not api_error or message.lower().rstrip(".") in _NO_SUCH_PATH:
        return True
    return path != "" and _OBJECT_IN_PATH.search(path) is None and _OBJECT_ID.search(message) is None
