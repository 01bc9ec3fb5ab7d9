"""Certificates, and ports whose protocol differs from the URL's scheme."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batchrun.engine import Limits
from batchrun.errors import BatchRefused, ServiceFault
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.tutor import TutorResponder
from batchrun.services.client import Endpoint
from batchrun.services.wire import Wire
from tests.support.chat import chat_reply
from tests.support.command import Result
from tests.support.command import batchrun as command
from tests.support.scripted_http import Answer, ScriptedHttp, html, json_answer

CERTIFICATES = Path(__file__).parents[1] / "data" / "tls"
TRUSTED = str(CERTIFICATES / "trusted.pem")
HASHED = str(CERTIFICATES / "hashed")

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_certificates_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text("question\n2 + 2\n3 + 3\n", encoding="utf-8")
    return tmp_path


@contextmanager
def serving(certificate: str) -> Iterator[ScriptedHttp]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / f"{certificate}.pem", CERTIFICATES / "key.pem")
    with ScriptedHttp(lambda _: json_answer(chat_reply("4", usage=None)), tls=context) as server:
        yield server


def run(folder: Path, base_url: str, *options: str, **environment: str) -> Result:
    fixed = ("--api", "chat", "--base-url", base_url, "--model", "m")
    return command(folder, "run", "q.csv", "-o", "a.csv", *fixed, *options, OPENAI_API_KEY="sk-12345678", **environment)


# -- certificates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        {"SSL_CERT_FILE": TRUSTED},
        {"SSL_CERT_DIR": HASHED},
        {"SSL_CERT_DIR": f"{CERTIFICATES}:{HASHED}"},
        {"SSL_CERT_FILE": str(CERTIFICATES / "elsewhere.pem"), "SSL_CERT_DIR": HASHED},
        {"SSL_CERT_FILE": TRUSTED, "SSL_CERT_DIR": ""},
    ],
    ids=["file", "folder", "folders", "both", "one empty"],
)
def test_certificates_of_the_environment_are_trusted(folder: Path, environment: dict[str, str]) -> None:
    """The certificates of SSL_CERT_FILE and SSL_CERT_DIR are trusted, also together."""
    with serving("trusted") as server:
        done = run(folder, server.url, **environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("certificate", "environment", "words"),
    [
        ("trusted", {}, "self-signed certificate"),
        ("trusted", {"SSL_CERT_DIR": str(CERTIFICATES)}, "self-signed certificate"),
        ("expired", {"SSL_CERT_FILE": str(CERTIFICATES / "expired.pem")}, "certificate has expired"),
        ("elsewhere", {"SSL_CERT_FILE": str(CERTIFICATES / "elsewhere.pem")}, "not valid for '127.0.0.1'"),
    ],
)
def test_a_certificate_that_is_not_trusted(
    folder: Path, certificate: str, environment: dict[str, str], words: str
) -> None:
    """An untrusted certificate stops the batch at once, with the reason and the names of the variables."""
    with serving(certificate) as server:
        done = run(folder, server.url, **environment)
        assert server.requests == []
    assert done.returncode == 5, done.stderr
    assert "is not trusted" in done.stderr
    assert words in done.stderr
    for name in environment or ("SSL_CERT_FILE",):
        assert name in done.stderr


async def test_it_is_not_tried_again(folder: Path) -> None:
    """The first handshake decides."""
    with serving("trusted") as server:
        faults = [await fault_of(server.url)]
        assert server.connections == 1
    assert [type(fault) for fault in faults] == [BatchRefused]
    assert faults[0].error_type == "certificate_error"


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("base_url", ["https://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"])
def test_certificates_that_are_not_there(folder: Path, name: str, base_url: str) -> None:
    """A variable that names a missing file or folder is refused with one line, whatever the service is."""
    missing = str(folder / "nowhere.pem")
    done = run(folder, base_url, **{name: missing})
    assert done.returncode == 2, done.stderr
    assert f"{name}: {missing}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["a folder", "no certificates", "one folder of two"])
def test_certificates_of_another_kind(folder: Path, what: str) -> None:
    """A file without certificates is refused too."""
    named = {
        "a folder": {"SSL_CERT_FILE": str(folder)},
        "no certificates": {"SSL_CERT_FILE": str(folder / "q.csv")},
        "one folder of two": {"SSL_CERT_DIR": f"{HASHED}:{folder / 'nowhere'}"},
    }[what]
    done = run(folder, "https://127.0.0.1:9/v1", **named)
    assert done.returncode == 2, done.stderr
    assert next(iter(named)) in done.stderr


# -- the wrong scheme ---------------------------------------------------------------------------------------------


async def fault_of(base_url: str) -> ServiceFault:
    wire = Wire(Endpoint(base_url, "sk-12345678"), Limits(), silence_timeout_s=5)
    try:
        with pytest.raises(ServiceFault) as caught:
            await wire.post("/chat/completions", {"model": "m"}, {})
        return caught.value
    finally:
        await wire.aclose()


def test_https_to_a_plain_server(folder: Path) -> None:
    """https:// to an embedded server, which uses plain HTTP, stops the batch at once."""
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), TutorResponder()) as server:
        done = run(folder, server.url.replace("http://", "https://"))
    assert done.returncode == 5, done.stderr
    assert "if it uses plain HTTP, begin its URL with http://" in done.stderr


@contextmanager
def talking(answer: bytes) -> Iterator[int]:
    """Open a port that sends these bytes, whatever it receives."""

    def answer_one() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_one, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        b"<!DOCTYPE HTML><title>Error response</title>",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"-ERR unknown command\r\n",
    ],
)
async def test_a_port_that_answers_without_tls(answer: bytes) -> None:
    """If the first answer of a port is not TLS, the fault is permanent."""
    with talking(answer) as port:
        fault = await fault_of(f"https://127.0.0.1:{port}/v1")
    assert isinstance(fault, BatchRefused)
    assert str(fault) == f"127.0.0.1:{port} does not answer in TLS; if it uses plain HTTP, begin its URL with http://"


def test_a_port_that_hangs_up_in_the_handshake(folder: Path) -> None:
    """A port that closes the connection is tried a few times, since a service may be restarting."""
    with ScriptedHttp(lambda _: html()) as server:
        done = run(folder, server.url.replace("http://", "https://"), "--max-attempts", "2")
    assert done.returncode == 5, done.stderr
    assert "if it uses plain HTTP, begin its URL with http://" in done.stderr


async def test_http_to_a_tls_port() -> None:
    """The message names the scheme with which the URL should begin."""
    with serving("trusted") as server:
        fault = await fault_of(server.url.replace("https://", "http://"))
    assert "https://" in str(fault)


@pytest.mark.parametrize(
    "answer",
    [
        html("<title>400 The plain HTTP request was sent to HTTPS port</title>", 400),
        Answer(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", "close"),
        html("<p>You're speaking plain HTTP to an SSL-enabled server port.", 400),
        Answer(b"\x15\x03\x01\x00\x02\x02\x46", "close"),
    ],
    ids=["nginx", "go", "apache", "alert"],
)
async def test_servers_that_say_that_they_want_tls(answer: Answer) -> None:
    """A server that answers that it requires TLS stops the batch, because every row would fail."""
    with ScriptedHttp(lambda _: answer) as server:
        fault = await fault_of(server.url)
    assert isinstance(fault, BatchRefused)
    assert "requires TLS; begin its URL with https://" in str(fault)
