"""Pings: what a monitor receives, and that it never affects a batch."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable

import pytest

from batchrun.batch.ping import MAX_BODY_BYTES, FinalStatus, Pinger, apinged, ping_url, pinged
from batchrun.errors import BatchRefused, InputError
from tests.support.scripted_http import Answer, ScriptedHttp

SECRET = "1c9b8d3a-4e5f-4a6b-8c7d-9e0f1a2b3c4d"


def reply(text: str = "OK", status: int = 200) -> Answer:
    return Answer(f"HTTP/1.1 {status} X\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())


OK = reply()


def watch(start: Answer | Iterable[Answer] = OK, end: Answer | Iterable[Answer] = OK) -> ScriptedHttp:
    """Return a monitor that answers pings of the start and of both ends."""
    return ScriptedHttp.answering(
        {
            f"GET /{SECRET}/start": start,
            **{f"{method} /{SECRET}{suffix}": end for method in ("GET", "POST") for suffix in ("", "/fail")},
        }
    )


def url_of(server: ScriptedHttp) -> str:
    return f"{server.url}/{SECRET}"


def told(server: ScriptedHttp) -> list[str]:
    return [path.replace(SECRET, "check") for path in server.paths()]


def run_one(server: ScriptedHttp, verdict: FinalStatus) -> list[str]:
    """Run a batch of no length with this status; return the warnings."""
    warnings: list[str] = []
    pinger = Pinger(url_of(server), warnings.append, pause_s=0, timeout_s=0.3)
    pinger.start()
    pinger.end(verdict)
    return warnings


@pytest.mark.parametrize(
    ("url", "moment", "expected"),
    [
        ("https://hc-ping.com/abc", "start", "https://hc-ping.com/abc/start"),
        ("https://hc-ping.com/abc", "end", "https://hc-ping.com/abc"),
        ("https://hc-ping.com/abc", "fail", "https://hc-ping.com/abc/fail"),
        ("https://hc-ping.com/key/slug?create=1", "start", "https://hc-ping.com/key/slug/start?create=1"),
        ("https://hc-ping.com/key/slug?create=1", "end", "https://hc-ping.com/key/slug?create=1"),
        ("https://hc-ping.com/key/slug?create=1&rid=x", "fail", "https://hc-ping.com/key/slug/fail?create=1&rid=x"),
        ("https://watch.example/ping/abc/", "start", "https://watch.example/ping/abc/start"),
        ("https://watch.example/ping/abc/", "end", "https://watch.example/ping/abc/"),
        ("https://watch.example/abc#part", "fail", "https://watch.example/abc/fail"),
        ("https://me:word@watch.example:8443/abc", "start", "https://me:word@watch.example:8443/abc/start"),
    ],
)
def test_the_suffix_is_added_to_the_path(url: str, moment: str, expected: str) -> None:
    """A query stays after the suffix, and a success calls the URL unchanged."""
    assert ping_url(url, moment) == expected  # type: ignore[arg-type] # parametrized literals are plain text to mypy


def test_success_is_reported_after_the_start() -> None:
    """The start is a GET, the success a POST of the URL itself with the summary as its body."""
    with watch() as server:
        assert run_one(server, FinalStatus(0, "25 rows · 25 completed")) == []
    assert told(server) == ["GET /check/start", "POST /check"]
    assert server.requests[1].body == "25 rows · 25 completed"


@pytest.mark.parametrize("exit_code", [1, 2, 3, 4, 5, 6, 7, 143])
def test_every_other_exit_code_is_a_failure(exit_code: int) -> None:
    """Only 0 is a success: a batch with failed rows must not look green."""
    with watch() as server:
        run_one(server, FinalStatus(exit_code, "3 failed"))
    assert told(server)[-1] == "POST /check/fail"
    assert server.requests[-1].body == "3 failed"


def test_a_verdict_that_nobody_gave_is_a_failure() -> None:
    """A batch that ends without a status is a failure."""
    with watch() as server, pinged(url_of(server), pytest.fail):
        pass
    assert told(server)[-1] == "POST /check/fail"


def test_an_expected_error_is_reported_with_its_message() -> None:
    """The monitor receives the reason of a refused batch, and the error is raised."""
    with watch() as server, pytest.raises(BatchRefused), pinged(url_of(server), pytest.fail):
        raise BatchRefused("the service refused the key", error_type="authentication_error")
    assert server.requests[-1].body == "the service refused the key"
    assert told(server)[-1] == "POST /check/fail"


def test_a_bug_is_reported_by_name_only() -> None:
    """The text of an unforeseen exception may contain cells of the table, so only its type is sent."""
    with watch() as server, pytest.raises(KeyError), pinged(url_of(server), pytest.fail):
        raise KeyError("a patient's name")
    assert server.requests[-1].body == "internal error: KeyError"


@pytest.mark.parametrize("leaving", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interruption_is_a_failure(leaving: BaseException) -> None:
    """Ctrl-C and signals that end the process are reported, and still end it."""
    with watch() as server, pytest.raises(type(leaving)), pinged(url_of(server), pytest.fail):
        raise leaving
    assert told(server)[-1] == "POST /check/fail"


def test_the_second_signal_is_reported_once() -> None:
    """An end that was reported on quitting is not reported again."""
    with watch() as server, pinged(url_of(server), pytest.fail) as (_, leaving):
        leaving(143)
    assert told(server) == ["GET /check/start", "POST /check/fail"]
    assert server.requests[-1].body == "interrupted twice"


def test_without_a_url_nothing_happens() -> None:
    """Without the option there is no request and no warning."""
    with pinged(None, pytest.fail) as (verdict, leaving):
        verdict.exit_code = 0
        leaving(143)


def test_a_second_attempt_can_succeed() -> None:
    """A single fault of the monitor leads to no warning."""
    with watch(start=[reply("", 502), reply()], end=[reply("", 503), reply()]) as server:
        assert run_one(server, FinalStatus(0, "")) == []
    assert told(server) == ["GET /check/start"] * 2 + ["POST /check"] * 2


def test_two_failed_tries_are_one_warning() -> None:
    """Each ping has two attempts, and their failure is one line."""
    with watch(end=reply("gone", 500)) as server:
        warnings = run_one(server, FinalStatus(0, ""))
    assert warnings == ["--ping: the monitor did not accept the success ping: it answered with status 500"]
    assert told(server)[1:] == ["POST /check"] * 2


@pytest.mark.parametrize("text", ["OK (not found)", "OK (rate limited)"])
def test_a_false_ok_is_noticed(text: str) -> None:
    """healthchecks.io answers 200 even to an unknown check and to a ping that it ignored."""
    with watch(end=reply(text)) as server:
        assert run_one(server, FinalStatus(0, "")) == [
            f"--ping: the monitor did not accept the success ping: it answered {text!r}"
        ]


@pytest.mark.parametrize("status", [405, 501])
def test_a_monitor_without_post_gets_a_get(status: int) -> None:
    """A monitor that accepts GET only loses the line, not the ping."""
    routes = {f"GET /{SECRET}/start": reply(), f"POST /{SECRET}": reply("", status), f"GET /{SECRET}": reply()}
    with ScriptedHttp.answering(routes) as server:
        assert run_one(server, FinalStatus(0, "line")) == []
    assert told(server)[1:] == ["POST /check", "GET /check"]


def test_a_silent_watch_keeps_nobody() -> None:
    """A monitor that accepts the connection and sends nothing is given up."""
    silent = Answer(b"", "silence")
    with watch(end=silent) as server:
        assert run_one(server, FinalStatus(0, "")) == [
            "--ping: the monitor did not accept the success ping: no reply in time"
        ]


def test_nobody_there_is_a_warning_without_the_url() -> None:
    """The URL is a secret: a reader of the log must not be able to report success."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    warnings: list[str] = []
    pinger = Pinger(f"http://127.0.0.1:{port}/{SECRET}?create={SECRET}", warnings.append, pause_s=0, timeout_s=0.3)
    pinger.start()
    pinger.end(FinalStatus(3, ""))
    assert [text.partition(" ping:")[0] for text in warnings] == [
        "--ping: the monitor did not accept the start",
        "--ping: the monitor did not accept the failure",
    ]
    assert SECRET not in str(warnings)


def test_the_url_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """A program that logs everything from its libraries does not log the URL."""
    caplog.set_level(logging.DEBUG)
    with watch() as server:
        run_one(server, FinalStatus(0, ""))
    assert SECRET not in caplog.text


def test_the_body_is_cut_between_characters() -> None:
    """At most ten kilobytes are sent, and they are valid UTF-8."""
    with watch() as server:
        run_one(server, FinalStatus(3, "x" + "é" * MAX_BODY_BYTES))
    body = server.requests[-1].body
    assert body == "x" + "é" * ((MAX_BODY_BYTES - 1) // 2)


@pytest.mark.parametrize(
    "url", ["", "hc-ping.com/abc", "ftp://hc-ping.com/abc", "https:///abc", "https://h:99999/abc", "https://h/a b"]
)
def test_an_invalid_url_is_refused_and_not_shown(url: str) -> None:
    """One line states what is expected, without the value."""
    with pytest.raises(InputError, match=r"^--ping: expected a URL that begins with https:// or http://$"):
        Pinger(url, pytest.fail)


@pytest.mark.anyio
async def test_the_async_form_reports_the_same() -> None:
    """Code in an event loop reports success and an error as the command line does."""
    with watch() as server:
        async with apinged(url_of(server), pytest.fail) as verdict:
            verdict.exit_code, verdict.line = 0, "fine"
        with pytest.raises(InputError):
            async with apinged(url_of(server), pytest.fail):
                raise InputError("no such file")
    assert told(server) == ["GET /check/start", "POST /check", "GET /check/start", "POST /check/fail"]
    assert [request.body for request in server.requests if request.method == "POST"] == ["fine", "no such file"]


def test_a_redirect_is_not_followed() -> None:
    """A redirect would lose the line and show the secret to another server: it is a failed ping with the remedy."""
    with ScriptedHttp.answering({}) as other:
        moved = Answer(f"HTTP/1.1 302 X\r\nlocation: {url_of(other)}\r\ncontent-length: 0\r\n\r\n".encode())
        with watch(end=moved) as server:
            warnings = run_one(server, FinalStatus(0, "25 rows"))
        assert other.requests == []
    assert len(warnings) == 1
    assert "it redirects (status 302), and redirects are not followed; give the URL that it redirects to" in warnings[0]
    assert SECRET not in warnings[0]
