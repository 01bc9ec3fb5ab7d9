"""The route to a service: no other host gets a request, and errors that arise on the route name it."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pandas as pd
import pytest

import batchrun
from batchrun.engine import Limits
from batchrun.errors import BatchRefused
from batchrun.services.client import Endpoint
from batchrun.services.wire import Wire
from tests.support.chat import chat_reply
from tests.support.command import Result
from tests.support.command import batchrun as command
from tests.support.rows import read_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, html, json_answer

PASSWORD = "pr0xy-passw0rd"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
NOWHERE = "http://service.test/v1"

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text("question\n2 + 2\n3 + 3\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def proxy() -> Iterator[ScriptedHttp]:
    """A proxy that answers every request as a chat service would."""
    with ScriptedHttp(completion) as started:
        yield started


def completion(request: Request) -> Answer:
    if request.method == "CONNECT":
        return Answer(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "close")
    return json_answer(chat_reply("4"))


def through(proxy: ScriptedHttp, name: str = "HTTP_PROXY") -> dict[str, str]:
    return {name: f"http://user:{PASSWORD}@{place(proxy)}"}


def place(proxy: ScriptedHttp) -> str:
    """Return host and port."""
    return f"127.0.0.1:{proxy.port}"


def run(folder: Path, base_url: str, *options: str, **environment: str) -> Result:
    fixed = ("--api", "chat", "--base-url", base_url, "--model", "m", "--max-attempts", "1")
    return command(folder, "run", "q.csv", "-o", "a.csv", *fixed, *options, OPENAI_API_KEY="sk-12345678", **environment)


# -- the embedded server ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("no_proxy", [None, "", "example.com", "localhost", "*"])
def test_the_embedded_server_is_reached_directly(folder: Path, proxy: ScriptedHttp, no_proxy: str | None) -> None:
    """No byte of an offline batch, or of its `show` or `cleanup`, reaches a proxy, in any spelling."""
    environment = {name: value for each in VARIABLES for name, value in through(proxy, each).items()}
    if no_proxy is not None:
        environment |= {"NO_PROXY": no_proxy, "no_proxy": no_proxy}
    done = command(folder, "run", "q.csv", "-o", "a.csv", **environment)
    assert done.returncode == 0, done.stderr
    shown = command(folder, "show", "a.csv", "0", **environment)
    assert "2 + 2 = 4." in shown.stdout
    assert "run run_" in shown.stdout, shown.stdout
    cleaned = command(folder, "cleanup", "a.csv", **environment)
    assert cleaned.returncode == 0, cleaned.stderr
    assert "3 deleted" in cleaned.stderr
    assert proxy.connections == 0


@pytest.mark.parametrize("options", [["--api", "chat"], ["--api", "responses", "--stream"], ["--script", "s.toml"]])
def test_rehearsals_are_reached_directly(folder: Path, proxy: ScriptedHttp, options: list[str]) -> None:
    """Rehearsals bypass the proxy in each protocol, and with a script."""
    (folder / "s.toml").write_text('[default]\nreply = "4"\n', encoding="utf-8")
    environment = {name: value for each in VARIABLES for name, value in through(proxy, each).items()}
    model = [] if "--script" in options else ["--model", "tutor"]
    done = command(folder, "run", "q.csv", "-o", "a.csv", *model, *options, **environment)
    assert done.returncode == 0, done.stderr
    assert proxy.connections == 0


def test_python_reaches_the_embedded_server_directly(proxy: ScriptedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch from Python bypasses the proxy too."""
    for each in VARIABLES:
        for name, value in through(proxy, each).items():
            monkeypatch.setenv(name, value)
    answered = batchrun.run(pd.DataFrame({"question": ["2 + 2", "3 + 3"]}), prompt="{{ question }}")
    assert list(answered["response"]) == ["2 + 2 = 4.", "3 + 3 = 6."]
    assert proxy.connections == 0


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:9", "nonsense://x", "http://[::1", "http://127.0.0.1:99999"])
def test_offline_no_proxy_is_looked_at(folder: Path, value: str) -> None:
    """Offline, an invalid proxy does not matter, nor do missing certificates."""
    done = command(folder, "run", "q.csv", "-o", "a.csv", ALL_PROXY=value, SSL_CERT_FILE="/nowhere.pem")
    assert done.returncode == 0, done.stderr


# -- a real service behind a proxy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_service_is_reached_through_the_proxy(folder: Path, proxy: ScriptedHttp, name: str) -> None:
    """Requests for a real service go through the proxy that the environment names."""
    done = run(folder, NOWHERE, **through(proxy, name))
    assert done.returncode == 0, done.stderr
    signed = b64encode(f"user:{PASSWORD}".encode()).decode()
    for request in proxy.requests:
        assert (request.headers["host"], request.headers["proxy-authorization"]) == ("service.test", f"Basic {signed}")
        assert request.headers["authorization"] == "Bearer sk-12345678"
    assert len(proxy.requests) == 2


def test_no_proxy_goes_round_it(folder: Path, proxy: ScriptedHttp) -> None:
    """The hosts in NO_PROXY are reached directly."""
    with ScriptedHttp(completion) as service:
        done = run(folder, service.url, NO_PROXY="127.0.0.1", **through(proxy))
        assert done.returncode == 0, done.stderr
        assert len(service.requests) == 2
    assert proxy.connections == 0


HTTPS = "https://service.test/v1"
REFUSALS: dict[str, tuple[str, Answer]] = {
    "http, 407": (NOWHERE, html(status=407)),
    "http, 407 in JSON": (NOWHERE, json_answer({"error": {"message": "Sign in."}}, 407)),
    "https, 407": (HTTPS, html(status=407)),
    "https, 403": (HTTPS, html(status=403)),
}
PAGES: dict[str, Answer] = {
    "502": html("<title>Bad Gateway</title>", 502),
    "503": html("<title>Cannot connect</title>", 503),
    "504": html("<title>Timeout</title>", 504),
    "a page with 200": html(),
    "closed": Answer(b"", "close"),
    "not HTTP": Answer(b"hello\r\n\r\n", "close"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_proxy_that_refuses_stops_the_batch(folder: Path, case: str) -> None:
    """A proxy that requires a login or refuses this host is named by host and port, never by password."""
    base_url, answer = REFUSALS[case]
    with ScriptedHttp(lambda _: answer) as proxy:
        done = run(folder, base_url, **through(proxy), **through(proxy, "HTTPS_PROXY"))
    assert done.returncode == 5, done.stderr
    assert f"the proxy {place(proxy)} " in done.stderr
    assert PASSWORD not in done.stderr


@pytest.mark.parametrize("case", PAGES)
def test_errors_behind_a_proxy_name_it(folder: Path, case: str) -> None:
    """If the reply does not come from the service, the error of the row or the batch names the proxy."""
    first = iter(range(1))

    def script(request: Request) -> Answer:
        return completion(request) if next(first, None) is not None else PAGES[case]

    with ScriptedHttp(script) as proxy:
        done = run(folder, NOWHERE, "--concurrency", "1", "--max-outage", "0.2", **through(proxy))
    told = done.stderr + (folder / "a.csv").read_text()
    assert f"(through the proxy {place(proxy)})" in told
    assert PASSWORD not in told


@pytest.mark.parametrize("answer", [html(status=503), Answer(b"", "close")], ids=["503", "closed"])
def test_a_tunnel_that_is_not_made(folder: Path, answer: Answer) -> None:
    """For https:// too, the error names a proxy that cannot connect or closes the connection."""
    with ScriptedHttp(lambda _: answer) as proxy:
        done = run(folder, HTTPS, "--max-outage", "0.2", **through(proxy, "HTTPS_PROXY"))
    told = done.stderr + (folder / "a.csv").read_text() if (folder / "a.csv").exists() else done.stderr
    assert f"the proxy {place(proxy)}" in told
    assert PASSWORD not in told


@pytest.mark.parametrize("base_url", [NOWHERE, HTTPS])
@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere.invalid:3128"])
def test_a_proxy_that_is_not_there(folder: Path, base_url: str, address: str) -> None:
    """A proxy that refuses connections or has no address is named, and stops the batch as a service would."""
    value = f"http://user:{PASSWORD}@{address}"
    done = run(folder, base_url, "--max-outage", "0.2", HTTP_PROXY=value, HTTPS_PROXY=value)
    assert done.returncode == 5
    assert f"the proxy {address}" in done.stderr
    assert PASSWORD not in done.stderr


@pytest.mark.parametrize(
    "value", [f"socks5://u:{PASSWORD}@127.0.0.1:9", f"odd://u:{PASSWORD}@x", "http://[::1", "http://127.0.0.1:99999"]
)
def test_a_proxy_of_another_kind_is_refused(folder: Path, value: str) -> None:
    """A SOCKS proxy and a value that is not a URL are refused with one line and exit code 2."""
    done = run(folder, NOWHERE, ALL_PROXY=value)
    assert done.returncode == 2, done.stderr
    assert "ALL_PROXY" in done.stderr
    assert PASSWORD not in done.stderr
    assert "Traceback" not in done.stderr


# -- redirects -----------------------------------------------------------------------------------------------------


STATUSES = (301, 302, 303, 307, 308)
SECRETS = ("sk-12345678", "Basic-0123456789", "tier-gold-1")
SIGNED = ("--header", f"X-Team={SECRETS[1]}", "--query", f"tier={SECRETS[2]}", "--organization", "org-1")
WAYS: dict[str, list[str]] = {
    "chat": ["--api", "chat"],
    "chat stream": ["--api", "chat", "--stream"],
    "responses": ["--api", "responses"],
    "responses stream": ["--api", "responses", "--stream"],
    "background": ["--api", "responses", "--background"],
    "conversation": ["--api", "responses", "--conversation"],
    "assistants": ["--api", "assistants", "--instructions", "Be brief."],
}


def redirecting(location: str, status: int) -> ScriptedHttp:
    def script(request: Request) -> Answer:
        asked = request.path.removeprefix("/v1")
        return html("<title>Moved</title>", status=status, location=location.replace("PATH", asked))

    return ScriptedHttp(script)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("way", WAYS)
def test_a_redirect_is_named_and_not_followed(folder: Path, status: int, way: str) -> None:
    """For every protocol and status, the batch stops and names the right --base-url; no other host gets a request."""
    with ScriptedHttp(completion) as other:
        target = other.url.removesuffix("/v1")
        with redirecting(f"{target}/new/v2PATH?sig={SECRETS[0]}", status) as server:
            done = run(folder, server.url, *WAYS[way], *SIGNED)
    assert done.returncode == 5, done.stderr
    assert f"the service redirects to {target}/new/v2; use that as --base-url" in done.stderr
    assert not any(secret in done.stderr for secret in SECRETS)
    assert other.connections == 0


LOCATIONS: dict[str, tuple[str, str]] = {
    "path": ("/v2PATH", "the service redirects to {origin}/v2; use that as --base-url"),
    "with a slash": ("/v2PATH/", "the service redirects to {origin}/v2; use that as --base-url"),
    "network path": ("//other.test/v1PATH", "the service redirects to http://other.test/v1; use that as --base-url"),
    "with a password": (
        "https://u:secret-word@other.test/v1PATH#secret-word",
        "the service redirects to https://other.test/v1; use that as --base-url",
    ),
    "the key in the path": ("/sk-12345678PATH", "the service redirects to {origin}/***; use that as --base-url"),
    "a slash more": ("PATHROOTPATH/", "redirects POST /v1/chat/completions to {origin}/v1/chat/completions/, and"),
    "another page": ("https://login.test/sign-in?next=PATH", "to https://login.test/sign-in, and redirects are not"),
    "another scheme": ("ftp://other.test/v1PATH", "to ftp://other.test/v1/chat/completions, and redirects are not"),
    "no URL": ("http://[::1PATH", "redirects POST /v1/chat/completions to an invalid URL"),
}


@pytest.mark.parametrize("case", LOCATIONS)
def test_what_a_redirect_says(folder: Path, case: str) -> None:
    """A relative location is completed, only a possible base URL is suggested, and secrets of the URL are left out."""
    location, words = LOCATIONS[case]
    with redirecting(location.replace("PATHROOT", "/v1").replace("PATHPATH", "PATH"), 307) as server:
        done = run(folder, server.url)
        origin = server.url.removesuffix("/v1")
    assert done.returncode == 5
    assert words.format(origin=origin) in done.stderr
    assert "secret-word" not in done.stderr


def test_a_redirect_to_nowhere(folder: Path) -> None:
    """A redirect without a location stops the batch too."""
    with ScriptedHttp(lambda _: html(status=302)) as server:
        done = run(folder, server.url)
    assert done.returncode == 5
    assert "redirects POST /v1/chat/completions to an invalid URL" in done.stderr


@pytest.mark.parametrize(
    ("odd", "error_type"),
    [
        (html(status=302, location="https://login.test/sign-in"), "redirected"),
        (html(status=404), "not_found"),
        (html(status=405), "not_found"),
        (json_answer({"error": {"message": "who are you?"}}, 401), "authentication_error"),
        (json_answer({"error": {"message": "The model `m-1` does not exist", "code": "model_not_found"}}, 404),
         "model_not_found"),
    ],
)  # fmt: skip
def test_one_odd_reply_between_answers(folder: Path, odd: Answer, error_type: str) -> None:
    """A single reply of a gateway, or of one of several servers, fails its row: the rows around it are answered."""
    (folder / "q.csv").write_text("question\n" + "".join(f"q{n}\n" for n in range(9)), encoding="utf-8")

    def answer(request: Request) -> Answer:
        if request.method == "GET":
            return json_answer({"data": []})
        return odd if request.body["messages"][-1]["content"] == "q4" else completion(request)

    with ScriptedHttp(answer) as server:
        done = run(folder, server.url, "--concurrency", "1", "--fallback-model", "m-2")
    assert done.returncode == 3, done.stderr
    rows = read_csv(folder / "a.csv")
    assert [row["status"] for row in rows] == [*["completed"] * 4, "failed", *["completed"] * 4]
    assert rows[4]["error_type"] == error_type
    assert server.paths().count("POST /chat/completions") == 9


async def test_deletions_uploads_and_polls_are_not_redirected() -> None:
    """Deletions, uploads and polls do not follow redirects either."""
    with ScriptedHttp(completion) as other, redirecting(f"{other.url}PATH", 307) as server:
        async with aclosing(Wire(Endpoint(server.url, SECRETS[0]), Limits(), silence_timeout_s=5)) as wire:
            with pytest.raises(BatchRefused, match="use that as --base-url"):
                await wire.delete("/files/file-1", {})
            with pytest.raises(BatchRefused, match="use that as --base-url"):
                await wire.post_file("/files", {"purpose": "user_data"}, "a.txt", io.BytesIO(b"secret"), {})
            with pytest.raises(BatchRefused, match="use that as --base-url"):
                await wire.get("/threads/thread_1/runs/run_1", {}, order="asc")
    assert other.connections == 0


@pytest.mark.parametrize("status", STATUSES)
async def test_a_file_that_is_kept_elsewhere_is_fetched_without_signing_in(status: int) -> None:
    """A download follows a redirect, but without the service's key, headers and query parameters."""
    with ScriptedHttp(lambda _: html("the file")) as other:

        def script(request: Request) -> Answer:
            place = f"{other.url}/stored" if request.path.endswith("/moved") else "/v1/moved"
            return html(status=status, location=place)

        with ScriptedHttp(script) as server:
            endpoint = Endpoint(
                server.url, SECRETS[0], organization="org-1", headers={"X-Team": SECRETS[1]}, query={"tier": SECRETS[2]}
            )
            async with (
                aclosing(Wire(endpoint, Limits(), silence_timeout_s=5)) as wire,
                wire.download("/files/file-1/content", {"OpenAI-Beta": "x"}) as chunks,
            ):
                assert b"".join([chunk async for chunk in chunks]) == b"the file"
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {SECRETS[0]}"] * 2
    sent = other.requests[0]
    assert (sent.method, sent.path, sent.query, sent.body) == ("GET", "/v1/stored", {}, None)
    assert sent.headers.keys() <= {"host", "accept", "accept-encoding", "user-agent"}
