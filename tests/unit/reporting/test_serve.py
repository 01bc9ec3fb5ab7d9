"""The live page's server, over real sockets of this machine."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import pytest

from batchrun.errors import InputError, OutputError
from batchrun.reporting.serve import view_forever
from tests.support.rows import noon
from tests.unit.reporting.conftest import WrittenBatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.reporting.conftest import StartBatch

PATIENCE_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the server."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(address: str, path: str = "", **headers: str) -> Answer:
    """Send a GET request for a path relative to the page, or for an absolute one."""
    parts = urlsplit(address)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", path if path.startswith("/") else parts.path + path, headers=headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())


def visit(output: Path, visitor: Callable[[str], T], end: signal.Signals = signal.SIGINT) -> T:
    """Serve the page of a batch, call `visitor` with its address in a thread, and end the server by a signal."""
    with ThreadPoolExecutor(1) as pool:
        visits: list[Future[T]] = []

        def visited(address: str) -> T:
            try:
                return visitor(address)
            finally:
                signal.raise_signal(end)

        view_forever(output, 0, noon, lambda address: visits.append(pool.submit(visited, address)))
        return visits[0].result(PATIENCE_S)


@pytest.fixture
def batch(start_batch: StartBatch) -> WrittenBatch:
    batch = start_batch()
    batch.complete(0, "2")
    return batch


def test_the_page_and_its_news(batch: WrittenBatch) -> None:
    """The address shows a page without rows; `facts` next to it has the rows and the figures."""

    def visitor(address: str) -> tuple[Answer, Answer]:
        return get(address), get(address, "facts?generation=0&after=0")

    page, news = visit(batch.output, visitor)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'{"live":true}' in page.body
    data = json.loads(news.body)
    assert data["facts"]["headline"]["by_status"] == {"completed": 1, "pending": 2}
    assert (data["facts"]["table"], data["version"], data["took_ms"] >= 0) == ("a.csv", 3, True)


def test_responses_forbid_everything_else(batch: WrittenBatch) -> None:
    """No response may be framed, cached, sniffed or read by another site."""
    for answer in visit(batch.output, lambda address: [get(address), get(address, "facts")]):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in answer.headers


def test_only_the_address_opens_the_page(batch: WrittenBatch) -> None:
    """Other paths do not exist, and another host name is refused (DNS rebinding)."""

    def visitor(address: str) -> list[int]:
        paths = ("/", "/facts", "/x/", "/x/facts", "facts/more")
        return [*(get(address, path).status for path in paths), get(address, Host="evil.example:80").status]

    assert visit(batch.output, visitor) == [404, 404, 404, 404, 404, 400]


def test_each_run_has_another_address(batch: WrittenBatch) -> None:
    """The token of an earlier address does not open a later page."""
    first, second = (urlsplit(visit(batch.output, lambda address: address)).path for _ in range(2))
    assert first != second
    assert len(first) > 20


def test_a_wrong_version_is_a_bad_request(batch: WrittenBatch) -> None:
    """Text for a number is refused with one line."""
    answer = visit(batch.output, lambda address: get(address, "facts?after=many"))
    assert (answer.status, answer.body) == (400, b"generation and after: expected numbers\n")


def test_a_missing_input_makes_the_news_unavailable(batch: WrittenBatch) -> None:
    """If the input of a fresh batch is gone, the news are refused with the reason; the page stays."""

    def visitor(address: str) -> tuple[Answer, Answer]:
        batch.journal.path.rename(batch.journal.path.with_suffix(".old"))
        with closing(WrittenBatch(batch.output.parent, "question\n7+7\n").journal):
            (batch.output.parent / "q.csv").unlink()
            return get(address, "facts"), get(address)

    news, page = visit(batch.output, visitor)
    assert (news.status, page.status) == (503, 200)
    assert b"q.csv" in news.body


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server(batch: WrittenBatch, end: signal.Signals) -> None:
    """The call returns, raises nothing, and the handlers are those from before."""
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert visit(batch.output, lambda address: get(address).status, end) == 200
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_port_in_use_is_refused(batch: WrittenBatch) -> None:
    """The message names the port and what to do."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}: cannot listen on this port: .*; use another, or 0"):
            view_forever(batch.output, port, noon, pytest.fail)


def test_nothing_to_serve_is_refused(tmp_path: Path) -> None:
    """Without a journal no port is opened."""
    with pytest.raises(OutputError):
        view_forever(tmp_path / "a.csv", 0, noon, pytest.fail)
