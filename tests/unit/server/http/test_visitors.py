from __future__ import annotations

from typing import Any

import pytest

from batchrun.server import ServerSettings, SettingsError
from batchrun.server.errors import ApiError
from batchrun.server.http.endpoint import check_json
from batchrun.server.http.visitors import Visitors


def _code(headers: list[tuple[bytes, bytes]], **settings: Any) -> str | None:
    refusal = Visitors(ServerSettings(**settings)).refusal(headers)
    return None if refusal is None else refusal.code


@pytest.mark.parametrize(
    "host", [b"127.0.0.1:8000", b"localhost", b"LOCALHOST:1", b"localhost.:1", b"[::1]:8000", b"127.9.9.9"]
)
def test_names_of_loopback_are_accepted(host: bytes) -> None:
    """A server without keys is reachable under every name of the loopback interface."""
    assert _code([(b"host", host)]) is None


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"")],
        [(b"host", b"evil.example:8000")],
        [(b"host", b"localhost.evil.example")],
        [(b"host", b"127.0.0.1.nip.io")],
        [(b"host", b"[::1].evil.example@x")],
        [(b"host", b"192.168.1.4:8000")],
        [(b"host", b"localhost"), (b"host", b"evil.example")],
        [(b"host", b"\xff")],
    ],
)
def test_other_names_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    """A request under another name, as DNS rebinding makes it, is refused."""
    assert _code(headers) == "host_not_allowed"


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"null",
        b"http://localhost:3000",
        b"https://127.0.0.1:8000",
        b"http://127.0.0.1:8000.evil.example",
        b"",
    ],
)
def test_other_pages_are_refused(origin: bytes) -> None:
    """A request of any web page but the server's own is refused."""
    assert _code([(b"host", b"127.0.0.1:8000"), (b"origin", origin)]) == "origin_not_allowed"


def test_own_page_and_exceptions_are_accepted() -> None:
    """The server's own page, the allowed names and the allowed pages may use it."""
    own = [(b"host", b"127.0.0.1:8000"), (b"origin", b"http://127.0.0.1:8000")]
    assert _code(own) is None
    other = [(b"host", b"Host.docker.internal:8000"), (b"origin", b"http://localhost:3000")]
    assert _code(other, allowed_hosts=("host.docker.internal",)) == "origin_not_allowed"
    allowed = {"allowed_hosts": ("host.docker.internal",), "allowed_origins": ("http://localhost:3000",)}
    assert _code(other, **allowed) is None


def test_keys_replace_both_checks() -> None:
    """With keys, neither the name nor the page is checked."""
    headers = [(b"host", b"api.example.org"), (b"origin", b"https://app.example.org")]
    assert _code(headers, api_keys=("sk-1",), host="0.0.0.0") is None


@pytest.mark.parametrize(
    "options",
    [
        {"allowed_hosts": ("http://name",)},
        {"allowed_hosts": ("name:80",)},
        {"allowed_hosts": ("",)},
        {"allowed_origins": ("localhost:3000",)},
        {"allowed_origins": ("http://localhost:3000/",)},
        {"allowed_origins": ("*",)},
    ],
)
def test_unusable_exceptions_are_named(options: dict[str, Any]) -> None:
    """An exception that could never match is refused at the start, with an example of the form."""
    with pytest.raises(SettingsError, match="such as"):
        ServerSettings(**options)


@pytest.mark.parametrize("kind", [b"application/json", b"Application/JSON; charset=utf-8", b"application/json ;x=1"])
def test_json_is_accepted(kind: bytes) -> None:
    """A body that is declared as JSON is accepted, with any parameters."""
    check_json([(b"content-type", kind)])


@pytest.mark.parametrize(
    "kind", [None, b"", b"text/plain", b"application/x-www-form-urlencoded", b"text/plain;application/json"]
)
def test_bodies_of_forms_are_refused(kind: bytes | None) -> None:
    """A type that a web page can send without asking, or none, is a 400 that names it."""
    with pytest.raises(ApiError, match="only accepts 'application/json'"):
        check_json([] if kind is None else [(b"content-type", kind)])
