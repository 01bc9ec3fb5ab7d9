"""A small Batch API on a loopback socket, with the habits of services other than OpenAI."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

__all__ = ["ForeignBatchApi", "Planned", "completion", "error_line", "response", "result_line"]

Line: TypeAlias = Mapping[str, Any]


def completion(text: str) -> dict[str, Any]:
    """Return the body of a chat completion."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return {"id": f"chatcmpl-{text}", "object": "chat.completion", "model": "m-1", "choices": choices, "usage": usage}


def response(text: str) -> dict[str, Any]:
    """Return the body of a response."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    item = {"type": "message", "role": "assistant", "status": "completed", "content": content}
    return {"id": f"resp_{text}", "object": "response", "status": "completed", "model": "m-1", "output": [item],
            "usage": usage, "error": None}  # fmt: skip


def result_line(custom_id: str, body: Any, status: Any = 200, error: Any = None) -> dict[str, Any]:
    """Return a result line."""
    return {"id": "batch_req_1", "custom_id": custom_id, "error": error,
            "response": {"status_code": status, "request_id": "r", "body": body}}  # fmt: skip


def error_line(custom_id: str, code: str, message: str = "no luck") -> dict[str, Any]:
    """Return the result line of a request that was not run."""
    return {"id": "batch_req_1", "custom_id": custom_id, "response": None, "error": {"code": code, "message": message}}


def answered(line: Line) -> list[dict[str, Any]]:
    """Return the one result line of a request, which has an answer that names the request."""
    make = response if line["url"].endswith("/responses") else completion
    return [result_line(line["custom_id"], make(f"to {line['custom_id']}"))]


@dataclass(frozen=True, slots=True)
class Planned:
    """A reply that replaces the service's own.

    Attributes:
        status: HTTP status; 0 closes the connection without a reply.
        body: JSON, or bytes as they are.
        acts: the request is carried out nevertheless.
        cut: bytes that the reply lacks at its end, although it announced them.
    """

    status: int = 0
    body: Any = None
    acts: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0


@dataclass
class ForeignBatchApi:
    """A Batch API; use it as a context manager.

    Mutable state: everything. Habits may be changed while it runs.

    Attributes:
        answer: from a request line to its result lines.
        statuses: what each poll of a batch finds, in order; the last one stays.
        planned: `METHOD /path`, with ids as `*`, → replies that come before the service's own.
        no_file: the id of a file that a batch does not have.
        keeps_metadata: batches have the metadata that they were created with.
        counts: `request_counts` of ended batches; None for the right ones.
        errors: `errors` of failed batches.
        file_statuses: what each look at a file finds, in order.
        written: from the lines of an output file to its bytes.
        max_bytes: of a file; larger ones get 413.
        page: members in a page of a list.
        prefix: of all paths.
        seen: `METHOD /path` of all requests, with ids as `*`.
    """

    answer: Callable[[Line], list[dict[str, Any]]] = answered
    statuses: tuple[str, ...] = ("validating", "completed")
    planned: dict[str, list[Planned]] = field(default_factory=dict)
    no_file: str | None = None
    keeps_metadata: bool = False
    counts: Mapping[str, Any] | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    file_statuses: tuple[str, ...] = ("processed",)
    written: Callable[[list[bytes]], bytes] = lambda lines: b"".join(line + b"\n" for line in lines)
    max_bytes: int = 10**9
    page: int = 2
    prefix: str = "/v1"
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    _polls: Counter[str] = field(default_factory=Counter)
    _server: ThreadingHTTPServer = field(init=False)
    _thread: threading.Thread = field(init=False)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}{self.prefix}"

    def __enter__(self) -> ForeignBatchApi:
        service = self

        class Handler(_Handler):
            api = service

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- what tests look at -------------------------------------------------------------------------

    def count(self, route: str) -> int:
        """Return how often a route was requested."""
        return self.seen.count(route)

    def lines_of(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the request lines of a batch."""
        content = self.contents[self.batches[batch_id]["input_file_id"]]
        return [json.loads(line) for line in content.splitlines()]

    # -- what it does -------------------------------------------------------------------------------

    def upload(self, name: str, content: bytes, purpose: str = "batch") -> dict[str, Any]:
        file_id = f"file-{len(self.files) + 1}"
        self.contents[file_id] = content
        self.files[file_id] = {"id": file_id, "object": "file", "bytes": len(content), "filename": name,
                               "purpose": purpose, "status": self.file_statuses[0]}  # fmt: skip
        return self.files[file_id]

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        batch_id = f"batch_{len(self.batches) + 1}"
        self.batches[batch_id] = {
            "id": batch_id, "object": "batch", "status": self.statuses[0], "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"], "output_file_id": self.no_file, "error_file_id": self.no_file,
            "created_at": 0, "request_counts": None,
            "metadata": body.get("metadata") if self.keeps_metadata else None,
        }  # fmt: skip
        return self.batches[batch_id]

    def poll(self, batch_id: str) -> dict[str, Any]:
        batch = self.batches[batch_id]
        if batch["status"] == "cancelling":
            self._end(batch, "cancelled")
        elif batch["status"] not in ("completed", "failed", "expired", "cancelled"):
            self._polls[batch_id] += 1
            status = self.statuses[min(self._polls[batch_id], len(self.statuses) - 1)]
            batch["status"] = status
            if status in ("completed", "failed", "expired", "cancelled"):
                self._end(batch, status)
        return batch

    def _end(self, batch: dict[str, Any], status: str) -> None:
        batch["status"] = status
        if status == "failed":
            batch["errors"] = {"object": "list", "data": self.errors}
            return
        out: list[bytes] = []
        errors: list[bytes] = []
        lines = self.lines_of(batch["id"])
        for line in lines:
            self.asked[line["custom_id"]] += 1
            for found in self.answer(line):
                (out if found.get("response") else errors).append(json.dumps(found).encode())
        for name, written in (("output_file_id", out), ("error_file_id", errors)):
            if written:
                batch[name] = self.upload(f"{name}.jsonl", self.written(written), "batch_output")["id"]
        counts = {"total": len(lines), "completed": len(out), "failed": len(errors)}
        batch["request_counts"] = counts if self.counts is None else self.counts

    def cancel(self, batch_id: str) -> dict[str, Any]:
        self.batches[batch_id]["status"] = "cancelling"
        return self.batches[batch_id]


class _Handler(BaseHTTPRequestHandler):
    api: ForeignBatchApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the second packet of a reply would wait 40 ms for an acknowledgement

    def log_message(self, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_DELETE = do_GET

    def _handle(self) -> None:
        url = urlsplit(self.path)
        body = self._body()
        path = url.path.removeprefix(self.api.prefix)
        parts = path.strip("/").split("/")
        route = f"{self.command} /{'/'.join('*' if number == 1 else part for number, part in enumerate(parts))}"
        self.api.seen.append(route)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        planned = self.api.planned.get(route)
        if planned:
            reply = planned.pop(0)
            content = None
            if reply.acts:
                content = self._carried_out(route, parts, query, body)[1]
            if reply.status == 0:
                self.close_connection = True
                return
            self._send(reply.status, content if reply.body is None else reply.body, reply.headers, reply.cut)
            return
        if not url.path.startswith(self.api.prefix):
            self._send(404, {"error": {"message": "Resource not found"}})
            return
        self._send(*self._carried_out(route, parts, query, body))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _carried_out(self, route: str, parts: list[str], query: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        api = self.api
        missing = 404, {"error": {"message": f"No such object: {parts[-1]}", "code": None}}
        match route:
            case "POST /files":
                name, content = _file_in(body)
                if len(content) > api.max_bytes:
                    return 413, {"error": {"message": "file too large", "code": None}}
                return 200, api.upload(name, content)
            case "POST /batches":
                return 200, api.create(json.loads(body))
            case "GET /files":
                return 200, self._page(list(api.files.values()), query)
            case "GET /batches":
                return 200, self._page(list(reversed(api.batches.values())), query)
            case "GET /files/*":
                if parts[1] not in api.files:
                    return missing
                api._polls[parts[1]] += 1
                api.files[parts[1]]["status"] = api.file_statuses[min(api._polls[parts[1]], len(api.file_statuses) - 1)]
                return 200, api.files[parts[1]]
            case "GET /files/*/content":
                return (200, api.contents[parts[1]]) if parts[1] in api.contents else missing
            case "DELETE /files/*":
                api.deleted.append(parts[1])
                return 200, {"id": parts[1], "deleted": True}
            case "GET /batches/*":
                return (200, api.poll(parts[1])) if parts[1] in api.batches else missing
            case "POST /batches/*/cancel":
                return 200, api.cancel(parts[1])
        return missing

    def _page(self, members: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        ids = [each["id"] for each in members]
        start = ids.index(query["after"]) + 1 if "after" in query else 0
        some = members[start : start + self.api.page]
        return {"object": "list", "data": some, "has_more": start + self.api.page < len(members)}

    def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None, cut: int = 0) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - cut])
        if cut:
            self.close_connection = True


def _file_in(form: bytes) -> tuple[str, bytes]:
    """Return (name, content) of the file in a form."""
    boundary = form.split(b"\r\n", 1)[0]
    part = next(each for each in form.split(boundary) if b"filename=" in each)
    head, _, content = part.partition(b"\r\n\r\n")
    name = re.search(rb'filename="([^"]*)"', head)
    assert name is not None
    return name[1].decode(), content.removesuffix(b"\r\n")
