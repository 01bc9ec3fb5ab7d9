"""The way to a service: proxy, certificates, redirects, and the errors that are made there and not by the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.errors import InputError

if TYPE_CHECKING:
    pass
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai

from batchrun.errors import BatchRefused, ConnectionLost, ServiceFault, Unavailable
from batchrun.services.redaction import scrubbed
from batchrun.services.translation import causes_of
from batchrun.wording import shortened

__all__ = ["Route", "check_base_url", "trusted_certificates"]

CLOSED_HANDSHAKES = 3
"""A port that ends so many TLS handshakes without a word, and has answered nothing yet, speaks no TLS. One that is
closed later passes, as every broken connection."""

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's names for bytes that are not TLS, such as `HTTP/1.1 400`."""

_WANTS_TLS = re.compile(r"HTTP request (was sent )?to (an )?HTTPS|plain HTTP to an SSL-enabled", re.IGNORECASE)
"""What nginx, Go and Apache answer to HTTP on a port for TLS."""

_TLS_RECORD = "\\x15\\x03"
"""How aiohttp shows the start of a TLS alert where HTTP was expected."""

_PLAIN_HEADERS = ("host", "accept", "accept-encoding", "user-agent")


def trusted_certificates(named: Mapping[str, str]) -> ssl.SSLContext:
    """The certificates that SSL_CERT_FILE and SSL_CERT_DIR name, both where both are set; else the system's.

    Args:
        named: the values of these variables.

    Raises:
        InputError: one of them names nothing that is there, or no certificates.
    """
    file, folders = named.get("SSL_CERT_FILE"), named.get("SSL_CERT_DIR")
    if file is None and folders is None:
        return httpx2.create_ssl_context(trust_env=False)
    if file and not Path(file).is_file():
        raise InputError(f"SSL_CERT_FILE: {file} is not a file; give a PEM file of certificates, or unset the variable")
    for folder in (folders or "").split(os.pathsep):
        if folder and not Path(folder).is_dir():
            raise InputError(
                f"SSL_CERT_DIR: {folder} is not a folder; give one that `openssl rehash` has prepared, or unset the "
                "variable"
            )
    try:
        return ssl.create_default_context(cafile=file, capath=folders)
    except OSError as exc:
        reason = exc.strerror if not isinstance(exc, ssl.SSLError) and exc.strerror else "it holds no PEM certificate"
        raise InputError(f"SSL_CERT_FILE: {file} cannot be used: {reason}") from exc


class Route:
    """How requests reach a service.

    All state: `_answered`, whether anything has come back from there; `_closed`, TLS handshakes that were ended without
    a word before that.
    """

    def __init__(self, base_url: str, proxy: httpx2.Proxy | None, certificates: Mapping[str, str]) -> None:
        """
        Args:
            base_url: without the paths that the SDK adds.
            proxy: as the environment names it for this URL; None for a direct connection.
            certificates: as for `trusted_certificates`.

        Raises:
            InputError: the proxy is of a kind that the HTTP client cannot speak to.
        """
        self._base_url = httpx2.URL(base_url)
        self._certificates = certificates
        self._proxy = None if proxy is None else (proxy.url.host, _port(proxy.url))
        if proxy is not None and (proxy.url.scheme not in ("http", "https") or _port(proxy.url) > 65_535):
            raise InputError(
                f"the proxy {proxy.url.scheme}://{self._proxy_name} of the environment (HTTP_PROXY, HTTPS_PROXY or "
                "ALL_PROXY) cannot be used: one such as http://HOST:PORT is expected; NO_PROXY names hosts that are "
                "reached without it"
            )
        if proxy is not None and proxy.auth is not None:
            # aiohttp makes `Proxy-Authorization` of it. Its own class for that is deprecated, and warns.
            signed = b64encode(":".join(proxy.auth).encode()).decode()
            proxy.headers["Authorization"], proxy.auth = f"Basic {signed}", None
        self._answered = False
        self._closed = 0

    @property
    def _proxy_name(self) -> str:
        """Host and port, never user and password."""
        return "" if self._proxy is None else "{}:{}".format(*self._proxy)

    # -- on the way ---------------------------------------------------------------------------------------

    def answered(self) -> None:
        """A reply came: the service speaks what the URL says."""
        self._answered = True

    def leads_away(self, request: httpx2.Request) -> bool:
        """Whether a request follows a redirect to another place. It is sent there without what signs in at the
        service, and without the user's headers."""
        if request.url.origin == self._base_url.origin:
            return False
        request.headers = httpx2.Headers(
            {name: request.headers[name] for name in _PLAIN_HEADERS if name in request.headers}
        )
        return True

    # -- what goes wrong there ----------------------------------------------------------------------------

    def fault(self, exc: Exception, secrets: tuple[str, ...]) -> ServiceFault | None:
        """The fault that the way is to blame for; None where it is the service's."""
        if isinstance(exc, openai.APIStatusError):
            return self._fault_of_status(exc, secrets)
        for cause in causes_of(exc):
            if isinstance(cause, aiohttp.ClientHttpProxyError):
                return self._refused_by_proxy(cause.status, cause.message)
            if isinstance(cause, aiohttp.ClientConnectorCertificateError):
                return self._untrusted(cause)
            if isinstance(cause, aiohttp.ClientConnectorError) and self._no_tls(cause):
                return BatchRefused(f"{self._whom(cause)} gave no TLS answer: is it http://?", error_type="tls_error")
            if isinstance(cause, aiohttp.ClientResponseError) and _TLS_RECORD in cause.message:
                return self._wants_tls()
        return None

    def explained(self, fault: ServiceFault, exc: Exception | None = None) -> ServiceFault:
        """The same fault; its message names what else may be to blame: the proxy, or the URL's scheme."""
        more = ""
        if self._proxy is not None:
            if not (isinstance(exc, openai.APIStatusError) and isinstance(exc.body, Mapping)):
                more = f"through the proxy {self._proxy_name}"
        elif self._answered or fault.error_type != "connection_error":
            pass
        elif isinstance(fault, ConnectionLost) and self._base_url.scheme == "http":
            more = "if the server wants TLS, its URL begins with https://"
        elif exc is not None and _timed_out(exc) and self._base_url.scheme == "https":
            more = "no connection, or no TLS answer: is it http://?"
        if more:
            fault.args = (f"{fault} ({more})",)
        return fault

    def _fault_of_status(self, exc: openai.APIStatusError, secrets: tuple[str, ...]) -> ServiceFault | None:
        status = exc.status_code
        if 300 <= status < 400 and status != 304:
            return BatchRefused(
                scrubbed(self._redirect(exc.response), secrets), error_type="redirected", status_code=status
            )
        if status == 407:
            return self._refused_by_proxy(status, "Proxy Authentication Required")
        if status == 400 and self._base_url.scheme == "http" and _WANTS_TLS.search(exc.response.text):
            return self._wants_tls()
        return None

    def _redirect(self, response: httpx2.Response) -> str:
        request = response.request
        path = request.url.raw_path.decode("ascii").partition("?")[0]
        asked = path.removeprefix(self._base_url.raw_path.decode("ascii").rstrip("/"))
        try:
            url = request.url.join(response.headers["location"])
            target = str(url.copy_with(username=None, password=None, query=None, fragment=None))
        except (KeyError, httpx2.InvalidURL):
            return f"the service redirects {request.method} {path} to no URL, and redirects are not followed"
        base = target.rstrip("/").removesuffix(asked.rstrip("/"))
        if url.scheme in ("http", "https") and base != target.rstrip("/") and not self._is_base(base):
            return f"the service redirects to {base}: use it as --base-url"
        return (
            f"the service redirects {request.method} {path} to {target}, and redirects are not followed: "
            "is --base-url right?"
        )

    def _is_base(self, url: str) -> bool:
        return url.rstrip("/") == str(self._base_url).rstrip("/")

    def _refused_by_proxy(self, status: int, reason: str) -> ServiceFault:
        """The proxy answered in place of the service, or refused to connect to it."""
        who = f"the proxy {self._proxy_name}" if self._proxy is not None else "a proxy on the way"
        if status == 407:
            return BatchRefused(
                f"{who} wants a user and a password (407 {reason}); they go into the proxy's URL, as in "
                "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
                error_type="proxy_error",
                status_code=status,
            )
        message = f"{who} refused to connect to {self._base_url.host}: {status} {reason}"
        if status == 429 or status >= 500:
            fault = Unavailable(message, error_type="proxy_error")  # no reply of the service, so none of its statuses
            fault.connected = False
            return fault
        return BatchRefused(message, error_type="proxy_error", status_code=status)

    def _untrusted(self, cause: aiohttp.ClientConnectorCertificateError) -> BatchRefused:
        error = cause.certificate_error
        why = " ".join(str(getattr(error, "verify_message", None) or error).split()).rstrip(".")
        named = [f"{name}={value}" for name, value in self._certificates.items()]
        trusted = f"those of {' and '.join(named)} are" if named else "the system's are; SSL_CERT_FILE names others"
        return BatchRefused(
            f"the certificate of {self._whom(cause)} is not trusted: {why} ({trusted})", error_type="certificate_error"
        )

    def _no_tls(self, cause: aiohttp.ClientConnectorError) -> bool:
        """Whether a handshake failed for want of TLS on the other side."""
        error = cause.os_error
        if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
            return True
        if self._base_url.scheme == "https" and isinstance(error, ConnectionResetError | ssl.SSLEOFError):
            self._closed += 1
            return not self._answered and self._closed >= CLOSED_HANDSHAKES
        return False

    def _wants_tls(self) -> BatchRefused:
        return BatchRefused(f"{self._base_url.netloc.decode()} speaks TLS: is it https://?", error_type="tls_error")

    def _whom(self, cause: aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError) -> str:
        if (cause.host, cause.port) == self._proxy:
            return f"the proxy {self._proxy_name}"
        return f"{cause.host}:{cause.port}"


def _port(url: httpx2.URL) -> int:
    return url.port or {"http": 80, "https": 443}.get(url.scheme, 1080)


def _timed_out(exc: Exception) -> bool:
    return any(isinstance(cause, aiohttp.ConnectionTimeoutError) for cause in causes_of(exc))


def check_base_url(base_url: str) -> None:
    """
    Raises:
        InputError: no request could be sent there; or it holds what may be secret, which the journal and messages show.
    """
    _, at, _ = base_url.partition("@")
    bare = "" if at else f", got {base_url.partition('?')[0]!r}"
    if not base_url.startswith(("http://", "https://")):
        raise InputError(f"--base-url: a URL that begins with http:// or https:// is needed{bare}")
    if at:
        raise InputError(
            "--base-url: holds a user or password (before its @), and would be stored; send them as a header: "
            "header.Authorization in a job file, where ${NAME} takes it from the environment"
        )
    if "?" in base_url or "#" in base_url:
        raise InputError(f"--base-url: a URL without ? and # is needed; --query sends more with every request{bare}")
    try:
        parts = urlsplit(base_url)
        # The SDK's own reader of URLs takes no port that is empty.
        usable = bool(parts.hostname) and parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:  # a bracket without an address, or a port that is not a number up to 65535
        usable = False
    if not usable or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise InputError(f"--base-url: a URL such as http://127.0.0.1:8000/v1 is needed, got {shortened(base_url)}")
