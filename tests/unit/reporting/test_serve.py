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

from batchrun.batch.row_notes import RowNote, RowNotes, answer_hash
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


def post(address: str, body: bytes, **headers: str) -> tuple[int, str]:
    """Send a note as the page does, with other headers if they are given; those of "" are left out."""
    parts = urlsplit(address)
    own = {"Origin": f"http://{parts.netloc}", "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)) as connection:
        sent = {name: value for name, value in {**own, **headers}.items() if value}
        connection.request("POST", f"{parts.path}note", body, sent)
        response = connection.getresponse()
        return response.status, response.read().decode()


def note(**fields: object) -> bytes:
    return json.dumps({"generation": 1, "position": 0, "rating": "right", "comment": "", **fields}).encode()


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


def test_a_note_is_kept_and_shown_again(batch: WrittenBatch) -> None:
    """A rating and a comment are in the file, with the row's key, and in the news of every page until they are known."""

    def visitor(address: str) -> tuple[list[int], list[object]]:
        said = [post(address, note(comment='=1+1, "\u202e')), post(address, note(position=2, rating="wrong"))]
        said.append(post(address, note(position=2, rating="")))
        news = json.loads(get(address, "facts?generation=0&after=0").body)["row_notes"]
        again = get(address, f"facts?generation=0&after=0&notes={news['version']}")
        return [status for status, _ in said], [news["listed"], json.loads(again.body)["row_notes"]]

    statuses, seen = visit(batch.output, visitor)
    assert statuses == [200, 200, 200]
    assert seen == [[[0, "right", '=1+1, "\u202e', False]], None]
    notes = RowNotes.read(batch.plan.paths.notes).listed
    assert notes == [RowNote(0, "0", "right", '=1+1, "\u202e', answer_hash("2"))]


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (note(), {"Origin": ""}, 403, "only from the page"),
        (note(), {"Origin": "null"}, 403, "only from the page"),
        (note(), {"Origin": "http://evil.example"}, 403, "only from the page"),
        (note(), {"Sec-Fetch-Site": "cross-site"}, 403, "only from the page"),
        (note(), {"Content-Type": "text/plain"}, 403, "application/json"),
        (note(), {"Host": "evil.example", "Origin": "http://evil.example"}, 400, "Invalid host"),
        (note(comment="x" * 100_000), {}, 400, "at most 100,000 bytes"),
        (note(comment="x" * 10_001), {}, 400, "at most 10,000 characters"),
        (note(comment="\ud800"), {}, 400, "comment: expected a text"),
        (note(rating="best"), {}, 400, "rating: expected right, wrong"),
        (note(position=True), {}, 400, "expected integers"),
        (note(more=1), {}, 400, "an object with generation, position"),
        (b"[" * 90_000, {}, 400, "expected JSON"),
        (note(generation=2), {}, 409, "an earlier batch"),
        (note(position=3), {}, 409, "an earlier batch"),
    ],
)
def test_a_note_from_elsewhere_is_not_kept(
    batch: WrittenBatch, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    """A page of another site, and a request that the page would not send, write nothing."""
    found, text = visit(batch.output, lambda address: post(address, body, **headers))
    assert (found, reason in text) == (status, True), text
    assert not batch.plan.paths.notes.exists()


def test_a_file_of_notes_that_was_spoiled_is_not_replaced(batch: WrittenBatch) -> None:
    """A note is refused with the line that is wrong, and a page is not started."""
    path = batch.plan.paths.notes

    def visitor(address: str) -> tuple[int, str]:
        path.write_text("row_index,row_key,rating,comment\n0,0,maybe,\n")
        return post(address, note())

    status, reason = visit(batch.output, visitor)
    assert (status, "line 2: rating is 'maybe'" in reason, "maybe" in path.read_text()) == (409, True, True)
    with pytest.raises(InputError, match="line 2: rating is 'maybe'"):
        view_forever(batch.output, 0, noon, pytest.fail)


def test_a_wrong_version_is_a_bad_request(batch: WrittenBatch) -> None:
    """Text for a number is refused with one line."""
    answer = visit(batch.output, lambda address: get(address, "facts?after=many"))
    assert (answer.status, answer.body) == (400, b"generation, after and notes: expected numbers\n")


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
