"""Tables on the web and at Hugging Face, read by `run` from a server on this machine."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from batchrun.errors import InputError
from batchrun.tables.place import Place
from tests.support.command import batchrun as command

ROWS = b"question\n1 + 1\n"


@dataclass(slots=True)
class Web:
    """A web server. Mutable state: `pages`, path → status, headers and content; `asked`, the requests."""

    url: str = ""
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server on this machine."""
    site = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            status, headers, content = site.pages.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Transfer-Encoding" in headers:
                content = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
            elif "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the second packet of a reply would wait 40 ms for an acknowledgement

        def log_message(self, *_: object) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_of_a_web_server(web: Web, tmp_path: Path) -> None:
    """The file is copied once, and copied again when its ETag differs; redirects are followed, a query is not shown."""
    web.pages["/q.csv?token=secret"] = (302, {"Location": "/deep/file.csv"}, b"")
    web.pages["/deep/file.csv"] = (200, {"ETag": '"1"'}, ROWS)
    url = f"{web.url}/q.csv?token=secret"
    dry = command(tmp_path, "run", url, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    first = command(tmp_path, "run", url)
    assert first.returncode == 0, first.stderr
    assert f"{web.url}/q.csv: copied to outputs/q.csv.input (1 file, {len(ROWS)} bytes)" in first.stderr
    assert "secret" not in first.stderr + dry.stdout
    assert (tmp_path / "outputs" / "q.csv.input" / "q.csv").read_bytes() == ROWS
    asked = len(web.asked)
    assert "unchanged since it was copied" in command(tmp_path, "run", url).stderr
    assert len(web.asked) == asked + 2
    web.pages["/deep/file.csv"] = (200, {"ETag": '"2"'}, ROWS.replace(b"1 + 1", b"2 + 1"))
    changed = command(tmp_path, "run", url)
    assert changed.returncode == 2
    assert "the input changed" in changed.stderr
    status = json.loads(command(tmp_path, "status", "outputs/q.csv", "--json").stdout)
    assert status["input"] == f"{web.url}/q.csv"


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Transfer-Encoding": "chunked", "ETag": "x"}, ROWS),
        ({"Content-Encoding": "gzip", "Last-Modified": "now"}, gzip.compress(ROWS, mtime=0)),
        ({}, ROWS),
    ],
    ids=["chunked", "compressed", "without a time"],
)
def test_replies_that_say_little(web: Web, tmp_path: Path, headers: dict[str, str], content: bytes) -> None:
    """A size that is not known is not checked, and a file without a time is copied each time."""
    web.pages["/a%20b.csv"] = (200, headers, content)
    place = Place.find(f"{web.url}/a%20b.csv")
    assert place.copy(tmp_path / "copy")
    assert (tmp_path / "copy" / "a b.csv").read_bytes() == ROWS
    assert Place.find(f"{web.url}/a%20b.csv").copy(tmp_path / "copy") == (not headers)


def test_what_cannot_be_read_is_one_line(web: Web, tmp_path: Path) -> None:
    """A missing page, a refusal, a page that is cut off and a pattern are named; so is a server that is not there."""
    web.pages["/denied.csv"] = (403, {}, b"")
    web.pages["/page"] = (200, {"Content-Type": "text/html"}, b"<html><title>Sign in</title></html>")
    web.pages["/cut.csv"] = (200, {"Content-Length": "100", "Connection": "close", "ETag": "x"}, ROWS)
    for url, message in {
        f"{web.url}/none.csv?k=secret": "none.csv: cannot be read (the server answers 404 Not Found)",
        f"{web.url}/denied.csv": "denied.csv: cannot be read (the server answers 403 Forbidden)",
        f"{web.url}/cut.csv": "cut.csv: cannot be read (the request fails: ",
        f"{web.url}/*.csv": "*.csv: a web server does not list files; give the URL of one file",
        "http://127.0.0.1:9/q.csv": "q.csv: cannot be read (the request fails: ",
        "https://user:key@host/q.csv": "contains a user or a key",
        f"{web.url}/page": "page",
    }.items():
        done = command(tmp_path, "run", url, "-o", "o.csv")
        assert done.returncode == 2, url
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stderr
        assert not (tmp_path / "o.csv.input" / "cut.csv").exists()


@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is not None, reason="huggingface_hub is installed")
def test_hugging_face_without_its_library(tmp_path: Path) -> None:
    """The line says what to install."""
    with pytest.raises(InputError, match=r"hf://datasets/a/b/q\.csv: .* pip install huggingface_hub fsspec"):
        Place.find("hf://datasets/a/b/q.csv")
    assert command(tmp_path, "run", "hf://datasets/a/b/q.csv").returncode == 2
