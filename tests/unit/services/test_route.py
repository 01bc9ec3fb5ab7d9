"""The route to a service: errors that show a wrong scheme, and certificates."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import ClientConnectorError
from aiohttp.client_reqrep import ConnectionKey

from batchrun.errors import BatchRefused, InputError, ServiceFault, Unavailable
from batchrun.services.route import CLOSED_HANDSHAKES, Route, trusted_certificates


def closed_handshake() -> ClientConnectorError:
    """The error of a TLS handshake that the other side has closed."""
    key = ConnectionKey("x", 443, True, True, None, None, None)
    return ClientConnectorError(key, ConnectionResetError("reset"))


def test_handshakes_that_are_closed_again_and_again() -> None:
    """A server that closes every TLS handshake uses plain HTTP: the third one stops the batch."""
    route = Route("https://x/v1", None, {})
    found = [route.fault(closed_handshake(), ()) for _ in range(CLOSED_HANDSHAKES)]
    assert found[:-1] == [None] * (CLOSED_HANDSHAKES - 1)
    assert isinstance(found[-1], BatchRefused)


def test_a_handshake_that_is_closed_after_an_answer() -> None:
    """Once the service has answered, its scheme is right."""
    route = Route("https://x/v1", None, {})
    route.answered()
    assert [route.fault(closed_handshake(), ()) for _ in range(5)] == [None] * 5


def test_plain_connections_make_no_handshake() -> None:
    """A connection that is reset on plain HTTP shows nothing about TLS."""
    route = Route("http://x/v1", None, {})
    assert [route.fault(closed_handshake(), ()) for _ in range(5)] == [None] * 5


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (407, BatchRefused, "requires a user and a password (407 No)"),
        (403, BatchRefused, "refused to connect to x: 403 No"),
        (428, BatchRefused, "refused to connect to x: 428 No"),
        (429, Unavailable, "refused to connect to x: 429 No"),
        (499, BatchRefused, "refused to connect to x: 499 No"),
        (500, Unavailable, "refused to connect to x: 500 No"),
    ],
)
def test_refusals_of_a_proxy(status: int, kind: type[ServiceFault], words: str) -> None:
    """A proxy that is overloaded may connect later; any other refusal stops the batch, and a 407 states the remedy."""
    refusal = aiohttp.ClientHttpProxyError(cast("Any", None), (), status=status, message="No")
    fault = Route("https://x/v1", None, {}).fault(refusal, ())
    assert type(fault) is kind
    assert words in str(fault)


def test_certificates_are_read_once(tmp_path: Path) -> None:
    """Batches of one process share the certificates; a file that was replaced is read again."""
    trusted = Path(__file__).parents[2] / "data" / "tls" / "trusted.pem"
    file = tmp_path / "some.pem"
    shutil.copy(trusted, file)
    named = {"SSL_CERT_FILE": str(file)}
    first = trusted_certificates(named)
    assert trusted_certificates(named) is first
    assert trusted_certificates({}) is trusted_certificates({})
    file.write_text("not a certificate")
    with pytest.raises(InputError, match="the file holds no PEM certificate"):
        trusted_certificates(named)
    shutil.copy(trusted, file)
    assert trusted_certificates(named) is not first
