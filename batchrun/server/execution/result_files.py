"""The result files of service batches, with the oddities that a script plans."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, cast

import anyio.lowlevel

from batchrun.server.errors import ApiError
from batchrun.server.execution.stored_files import add_file
from batchrun.server.protocol.service_batches import add_usage, error_line, no_usage, reply_line
from batchrun.server.replies.encoding import dumps
from batchrun.server.responders.batch_faults import Line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import BinaryIO

    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.responders.batch_faults import LineError, OddFiles
    from batchrun.server.store.request_lines import RequestLine

__all__ = ["fault_line", "planned_result", "store_results", "temporary_file", "write_results"]

_SPOOL_BYTES = 1 << 20


def fault_line(line: RequestLine) -> Line:
    """Return a request line as planned faults see it."""
    return Line(line.number, line.custom_id, lambda: dumps(line.body))


def planned_result(custom_id: str, fault: LineError) -> tuple[str, bool]:
    """Return the result line of a planned error, and whether it belongs to the output file."""
    is_output = fault.file == "output" or (fault.file is None and fault.status == 200)
    if fault.status is None:
        return error_line(custom_id, fault.code or "", fault.message), is_output
    if fault.status == 0:
        return reply_line(custom_id, 0, '""'), is_output
    kind = "server_error" if fault.status >= 500 else "invalid_request_error"
    error = ApiError(fault.status, fault.message, type=kind, code=fault.code)
    return reply_line(custom_id, fault.status, dumps(error.body())), is_output


def temporary_file() -> BinaryIO:
    """Return a file that is in memory while it is small."""
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(_SPOOL_BYTES))


async def write_results(results: Iterable[tuple[RequestLine, str]], file: BinaryIO, odd: Sequence[OddFiles]) -> Body:
    """Write result lines, and return the usage of their answers together."""
    usage = no_usage()
    line_end = b"\n"
    if any(each.bytes for each in odd):
        file.write(b"\xef\xbb\xbf")
        line_end = b"\r\n\r\n"
    if any(each.foreign for each in odd):
        file.write(reply_line("foreign-1", 200, "{}").encode() + line_end)
    for line, result in results:
        _add_usage(usage, result)
        for text in _occurrences(line, result, odd):
            file.write(text.encode("utf-8", "replace") + line_end)
        await anyio.lowlevel.checkpoint()
    return usage


def _occurrences(line: RequestLine, result: str, odd: Sequence[OddFiles]) -> list[str]:
    """Return the result lines that a file has for a request line."""
    selected = [each for each in odd if (each.lost or each.repeated) and each.selects(fault_line(line))]
    if any(each.lost for each in selected):
        return []
    if selected:
        return [error_line(line.custom_id, "server_error", "A planned fault."), result, result]
    return [result]


def _add_usage(usage: Body, result: str) -> None:
    response = json.loads(result)["response"]
    body = response["body"] if response is not None else None
    if isinstance(body, dict) and body.get("usage"):
        add_usage(usage, body["usage"])


def store_results(parts: Parts, owner: str, file: BinaryIO, name: str, life_s: int | None) -> str | None:
    """Store a result file and return its id; None if it would be empty.

    Args:
        life_s: seconds after which it expires; None for never.
    """
    size = file.tell()
    if not size:
        return None
    file.seek(0)
    expires_at = None if life_s is None else parts.now() + life_s
    return add_file(parts, owner, name, "batch_output", file, size, expires_at)["id"]
