"""The lines of an input file of the Batch API: found, and checked as the hosted service checks them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError
from batchrun.server.protocol.requests.base import parse_json
from batchrun.server.store.request_lines import RequestLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batchrun.server.protocol.bodies import Body

__all__ = ["MAX_INPUT_BYTES", "MAX_LINES", "InputCheck", "duplicate_id", "input_error", "split_lines"]

MAX_LINES = 50_000
MAX_INPUT_BYTES = 200_000_000


def input_error(code: str, message: str, *, line: int | None = None, param: str | None = None) -> Body:
    """Return a member of a failed service batch's `errors.data`."""
    return {"code": code, "message": message, "param": param, "line": line}


def split_lines(pieces: Iterable[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """Yield, for each piece of a file, the lines that it completes: (number from 1, bytes without the line break).

    Lines end at a line feed only. Blank lines are counted, but left out. The last line needs no line break.
    """
    number = 0
    begun: list[bytes] = []
    for piece in pieces:
        first, *others = piece.split(b"\n")
        begun.append(first)
        if not others:
            continue
        complete = [b"".join(begun), *others[:-1]]
        begun = [others[-1]]
        yield [(number + position, line) for position, line in enumerate(complete, 1) if line.strip()]
        number += len(complete)
    rest = b"".join(begun)
    if rest.strip():
        yield [(number + 1, rest)]


@dataclass(slots=True)
class InputCheck:
    """Checks the lines of one input file, one after the other.

    Mutable state: `model`, `count` and `errors`.

    Attributes:
        endpoint: the endpoint of the service batch, which every line must name.
        model: the model of the first line; None before it.
        count: number of lines so far.
        errors: what is wrong, in the form of `errors.data`.
    """

    endpoint: str
    model: str | None = None
    count: int = 0
    errors: list[Body] = field(default_factory=list)

    def read(self, number: int, text: bytes) -> RequestLine | None:
        """Return the request of a line; None if the line is wrong, which is recorded."""
        self.count += 1
        try:
            data = parse_json(text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text)
        except ApiError:
            self.refuse("invalid_json_line", "This line is not parseable as valid JSON.", number)
            return None
        found = self._wrong(data)
        if found is not None:
            self.refuse(*found[:2], number, param=found[2])
            return None
        return RequestLine(number, data["custom_id"], data["body"])

    def refuse(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        """Record an error."""
        self.errors.append(input_error(code, message, line=line, param=param))

    def _wrong(self, data: Body) -> tuple[str, str, str | None] | None:
        """Return (code, message, parameter) of the first error of a line; None if it is right."""
        for name in ("custom_id", "method", "url", "body"):
            if data.get(name) in (None, ""):
                return "missing_required_parameter", f"Missing required parameter: '{name}'.", name
        if not isinstance(data["custom_id"], str):
            return "invalid_type", "Invalid type for 'custom_id': expected a string.", "custom_id"
        if not isinstance(data["body"], dict):
            return "invalid_type", "Invalid type for 'body': expected an object.", "body"
        if data["method"] != "POST":
            return "invalid_method", f"Invalid method: '{data['method']}'. Supported values are: 'POST'.", "method"
        if data["url"] != self.endpoint:
            message = f"The URL '{data['url']}' does not match the endpoint of the batch, '{self.endpoint}'."
            return "mismatched_url", message, "url"
        model = data["body"].get("model")
        if not isinstance(model, str) or not model:
            return "missing_required_parameter", "Missing required parameter: 'body.model'.", "body.model"
        if self.model is None:
            self.model = model
        if model != self.model:
            message = f"The model '{model}' does not match the model of the batch, '{self.model}'."
            return "mismatched_model", message, "body.model"
        return None


def duplicate_id(line: RequestLine) -> Body:
    """Return the error of a line whose custom id an earlier line has."""
    return input_error(
        "duplicate_custom_id",
        f"The custom_id '{line.custom_id}' for this request is a duplicate of another request. The custom_id "
        "parameter must be unique for each request in a batch.",
        line=line.number,
        param="custom_id",
    )
