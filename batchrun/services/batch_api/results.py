"""Result lines: what the service says about one request. Pure.

A line is judged by its status code and its body, not by the file that it is in or by its `error` alone.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from batchrun.errors import ServiceFault, TransientFault
from batchrun.journal.service_batches import StoredResult, line_of
from batchrun.records import JsonObject
from batchrun.services.reply_fields import loaded, mapping, name
from batchrun.services.translation import bad_reply, fault_of_error_body, fault_of_result

__all__ = ["ANSWER", "Result", "answer_or_fault", "failed_line", "not_run", "read_result", "stored"]

_CODES_NOT_RUN = {
    "batch_expired": "batch_expired",
    "batch_cancelled": "batch_cancelled",
    "batch_canceled": "batch_cancelled",
    "request_cancelled": "batch_cancelled",
}
"""Code of a line's error → our error type."""
_RAN_IN_PART = 1
ANSWER = 2
"""The rank of a result that is an answer."""


class Result(NamedTuple):
    """The parts of a result line that count.

    Attributes:
        status: HTTP status of the reply; None if the line has none.
        body: body of the reply.
        error: the line's own error.
    """

    status: int | None
    body: object
    error: object


def read_result(line: JsonObject) -> Result:
    """Return the parts of a result line. Some services write the status as text, or the body as JSON text."""
    response = line.get("response")
    status = mapping(response).get("status_code")
    body = mapping(response).get("body")
    if isinstance(body, str):
        try:
            body = loaded(body.encode())
        except ValueError:
            pass
    return Result(_status(status), body, line.get("error"))


def _status(found: object) -> int | None:
    if isinstance(found, str) and found.strip().isdecimal():
        return int(found)
    if isinstance(found, float) and found.is_integer():
        return int(found)
    return found if type(found) is int else None


def _is_whole(result: Result) -> bool:
    """Return whether the body is a reply, as `Wire` checks it: an object that is not only an error."""
    body = result.body
    return isinstance(body, dict) and bool(body) and not (body.get("error") and "id" not in body)


def _has_succeeded(result: Result) -> bool:
    if result.status is None:
        return _is_whole(result)
    return 200 <= result.status < 300 and (bool(result.body) or not result.error)


def stored(raw: bytes) -> StoredResult | None:
    """Return a result line for the journal; None if it names no request line of batchrun.

    Raises:
        ValueError: the line is not a JSON object.
    """
    line = loaded(raw)
    if not isinstance(line, dict):
        raise ValueError("not an object")
    custom_id = line.get("custom_id")
    number = line_of(custom_id)
    if number is None:
        return None
    result = read_result(line)
    rank = 0
    if _has_succeeded(result) and _is_whole(result):
        body = mapping(result.body)
        is_answer = (body.get("choices") or isinstance(body.get("output"), list)) and body.get("status") != "failed"
        rank = ANSWER if is_answer else _RAN_IN_PART
    return StoredResult(number, str(custom_id), rank, raw)


def answer_or_fault(
    raw: bytes, endpoint: str, secrets: tuple[str, ...], settings: frozenset[str]
) -> JsonObject | ServiceFault:
    """Return the body of a reply, or the fault that an ordinary request with this reply would have.

    Args:
        raw: a result line.
        endpoint: path of the request.
        secrets: strings that must not appear in any message.
        settings: names of the parameters that the user set.
    """
    line = loaded(raw)
    result = read_result(line)
    if _has_succeeded(result):
        if _is_whole(result):
            return mapping(result.body)
        if isinstance(result.body, dict) and result.body:
            return _ended(fault_of_error_body(result.body, secrets))
        return _ended(bad_reply("body that is an object", result.body, "Batch API", secrets))
    code = name(mapping(result.error).get("code"))
    if result.status is None or not result.body:
        if code in _CODES_NOT_RUN:
            return not_run(_CODES_NOT_RUN[code], str(mapping(result.error).get("message") or ""))
        if result.status is None:
            return _ended(fault_of_error_body({"error": result.error or line.get("response")}, secrets))
    return fault_of_result(result.status, result.body or {"error": result.error}, endpoint, secrets, settings)


def _ended(fault: ServiceFault) -> ServiceFault:
    fault.run_ended = True
    return fault


def not_run(error_type: str, reason: str) -> TransientFault:
    """Return the fault of a request that the service did not run.

    Args:
        error_type: one of `NEVER_TRIED`.
        reason: the service's words; "" for none.
    """
    return TransientFault(
        " ".join(reason.split()) or "the service batch ended before it ran this request",
        error_type=error_type,
        run_ended=True,
    )


def failed_line(
    custom_id: str, code: str | None, message: str, param: str | None = None, *, status: int = 400
) -> bytes:
    """Return a result line for a request that the service refused before it ran any."""
    error = {"code": code, "message": message, "param": param, "type": "invalid_request_error"}
    response = {"status_code": status, "body": {"error": error}}
    return json.dumps({"custom_id": custom_id, "response": response}).encode()
