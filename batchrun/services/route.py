"""The route to a service: proxy, certificates, redirects, and the errors that arise there and not at the service."""

from __future__ import annotations

import os
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai

from batchrun.errors import BatchRefused, ConnectionLost, InputError, ServiceFault, Unavailable
from batchrun.services.redaction import scrubbed
from batchrun.services.refusals import by_one_reply
from batchrun.services.translation import causes_of
from batchrun.wording import shortened

__all__ = ["Route", "check_base_url", "no_certificates", "trusted_certificates"]

CLOSED_HANDSHAKES = 3
"""If a port closes so many TLS handshakes and has never answered, it does not use TLS. A handshake that is closed later
is retried like every broken connection."""

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's reasons for a peer that does not send TLS but, for example, `HTTP/1.1 400`."""

_WANTS_TLS = re.compile(r"HTTP request (was sent )?to (an )?HTTPS|plain HTTP to an SSL-enabled", re.IGNORECASE)
"""The answers of nginx, Go and Apache to plain HTTP on a TLS port."""

_TLS_RECORD = "\\x15\\x03"
"""The start of a TLS alert in aiohttp's message, if HTTP was expected."""

_PLAIN_HEADERS = ("host", "accept", "accept-encoding", "user-agent")
"""Headers without secrets, which a redirected request keeps."""


def trusted_certificates(named: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context that trusts the certificates of SSL_CERT_FILE and SSL_CERT_DIR; if neither is set, the system's.

    A process reads them once, because that takes longer than to start a batch; a file that has changed is read again.

    Args:
        named: the values of these variables, if they are set.

    Raises:
        InputError: a variable names a file or folder that does not exist, or a file without certificates.
    """
    file, folders = named.get("SSL_CERT_FILE"), named.get("SSL_CERT_DIR")
    if file is None and folders is None:
        return _systems_context()
    if file and not Path(file).is_file():
        raise InputError(
            f"SSL_CERT_FILE: {file} is not a file; expected a PEM file of certificates; correct or unset the variable"
        )
    for folder in (folders or "").split(os.pathsep):
        if folder and not Path(folder).is_dir():
            raise InputError(
                f"SSL_CERT_DIR: {folder} is not a folder; set it to one prepared by `openssl rehash`, or unset "
                "the variable"
            )
    try:
        return _context(file, folders, _state_of(file))
    except OSError as exc:
        reason = (
            exc.strerror if not isinstance(exc, ssl.SSLError) and exc.strerror else "the file holds no PEM certificate"
        )
        raise InputError(f"SSL_CERT_FILE: {file} cannot be used: {reason}") from exc


def no_certificates() -> ssl.SSLContext:
    """Return a context that trusts nobody, for a server that is reached without TLS. Reading certificates takes longer
    than to start a batch."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def _systems_context() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)


@lru_cache(maxsize=4)
def _context(file: str | None, folders: str | None, state: tuple[int, ...]) -> ssl.SSLContext:  # noqa: ARG001 - a key
    return ssl.create_default_context(cafile=file, capath=folders)


def _state_of(file: str | None) -> tuple[int, ...]:
    """Return numbers that differ if a file was replaced or written."""
    if not file:
        return ()
    found = Path(file).stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Route:
    """The route of requests to a service.

    Mutable state: `_answered`, whether the service has ever answered; `_closed_handshakes`, the number of TLS
    handshakes that were closed before that.
    """

    def __init__(self, base_url: str, proxy: httpx2.Proxy | None, certificates: Mapping[str, str]) -> None:
        """
        Args:
            base_url: the service's URL, without the paths that the SDK adds.
            proxy: the proxy that the environment names for this URL; None for a direct connection.
            certificates: as for `trusted_certificates`.

        Raises:
            InputError: the HTTP client does not support this kind of proxy.
        """
        self._base_url = httpx2.URL(base_url)
        self._certificates = certificates
        self._proxy = None if proxy is None else (proxy.url.host, _port(proxy.url))
        if proxy is not None and (proxy.url.scheme not in ("http", "https") or _port(proxy.url) > 65_535):
            raise InputError(
                f"the proxy {proxy.url.scheme}://{self._proxy_name} of the environment (HTTP_PROXY, HTTPS_PROXY or "
                "ALL_PROXY) cannot be used: expected one such as http://HOST:PORT; list hosts that need no proxy in "
                "NO_PROXY"
            )
        if proxy is not None and proxy.auth is not None:
            # aiohttp turns this header into `Proxy-Authorization`. Its own class for that is deprecated, and warns.
            credentials = b64encode(":".join(proxy.auth).encode()).decode()
            proxy.headers["Authorization"], proxy.auth = f"Basic {credentials}", None
        self._answered = False
        self._closed_handshakes = 0

    @property
    def _proxy_name(self) -> str:
        """Host and port of the proxy, without user and password; "" for a direct connection."""
        return "" if self._proxy is None else "{}:{}".format(*self._proxy)

    # -- requests and replies ---------------------------------------------------------------------------------------

    def answered(self) -> None:
        """Record a reply: the scheme of the URL is right."""
        self._answered = True

    def leads_away(self, request: httpx2.Request) -> bool:
        """Return whether a request follows a redirect to another server. If so, remove its credentials and the user's
        headers, which that server must not get."""
        if request.url.origin == self._base_url.origin:
            return False
        request.headers = httpx2.Headers(
            {name: request.headers[name] for name in _PLAIN_HEADERS if name in request.headers}
        )
        return True

    # -- errors ----------------------------------------------------------------------------

    def fault(self, exc: Exception, secrets: tuple[str, ...]) -> ServiceFault | None:
        """Return the fault of an error that arose on the route; None if it comes from the service."""
        if isinstance(exc, openai.APIStatusError):
            return self._fault_of_status(exc, secrets)
        for cause in causes_of(exc):
            if isinstance(cause, aiohttp.ClientHttpProxyError):
                return self._refused_by_proxy(cause.status, cause.message)
            if isinstance(cause, aiohttp.ClientConnectorCertificateError):
                return self._untrusted(cause)
            if isinstance(cause, aiohttp.ClientConnectorError) and self._no_tls(cause):
                return BatchRefused(
                    f"{self._peer(cause)} does not answer in TLS; if it uses plain HTTP, begin its URL with http://",
                    error_type="tls_error",
                )
            if isinstance(cause, aiohttp.ClientResponseError) and _TLS_RECORD in cause.message:
                return self._wants_tls()
        return None

    def explained(self, fault: ServiceFault, exc: Exception | None = None) -> ServiceFault:
        """Return the same fault with other possible causes in its message: the proxy, or the URL's scheme."""
        hint = ""
        if self._proxy is not None:
            if not (isinstance(exc, openai.APIStatusError) and isinstance(exc.body, Mapping)):
                hint = f"through the proxy {self._proxy_name}"
        elif self._answered or fault.error_type != "connection_error":
            pass
        elif isinstance(fault, ConnectionLost) and self._base_url.scheme == "http":
            hint = "if the server requires TLS, begin its URL with https://"
        elif exc is not None and _timed_out(exc) and self._base_url.scheme == "https":
            hint = "no connection, or no answer in TLS; if the server uses plain HTTP, begin its URL with http://"
        if hint:
            fault.args = (f"{fault} ({hint})",)
        return fault

    def _fault_of_status(self, exc: openai.APIStatusError, secrets: tuple[str, ...]) -> ServiceFault | None:
        status = exc.status_code
        if 300 <= status < 400 and status != 304:
            return by_one_reply(scrubbed(self._redirect(exc.response), secrets), "redirected", status)
        if status == 407:
            return self._refused_by_proxy(status, "Proxy Authentication Required")
        if status == 400 and self._base_url.scheme == "http" and _WANTS_TLS.search(exc.response.text):
            return self._wants_tls()
        return None

    def _redirect(self, response: httpx2.Response) -> str:
        """Return the message for a redirect, with the new base URL if only that has changed."""
        request = response.request
        path = request.url.raw_path.decode("ascii").partition("?")[0]
        below_base = path.removeprefix(self._base_url.raw_path.decode("ascii").rstrip("/"))
        try:
            url = request.url.join(response.headers["location"])
            target = str(url.copy_with(username=None, password=None, query=None, fragment=None))
        except (KeyError, httpx2.InvalidURL):
            return f"the service redirects {request.method} {path} to an invalid URL, and redirects are not followed"
        base = target.rstrip("/").removesuffix(below_base.rstrip("/"))
        if url.scheme in ("http", "https") and base != target.rstrip("/") and not self._is_base(base):
            return f"the service redirects to {base}; use that as --base-url"
        return (
            f"the service redirects {request.method} {path} to {target}, and redirects are not followed; check "
            "--base-url"
        )

    def _is_base(self, url: str) -> bool:
        return url.rstrip("/") == str(self._base_url).rstrip("/")

    def _refused_by_proxy(self, status: int, reason: str) -> ServiceFault:
        """Return the fault of a proxy that answered instead of the service, or refused to connect to it."""
        proxy = f"the proxy {self._proxy_name}" if self._proxy is not None else "a proxy on the route"
        if status == 407:
            return by_one_reply(
                f"{proxy} requires a user and a password (407 {reason}); put them into the proxy's URL: "
                "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
                "proxy_error",
                status,
            )
        message = f"{proxy} refused to connect to {self._base_url.host}: {status} {reason}"
        if status == 429 or status >= 500:
            fault = Unavailable(
                message, error_type="proxy_error"
            )  # without a status, because the service sent no reply
            fault.connected = False
            return fault
        return by_one_reply(message, "proxy_error", status)

    def _untrusted(self, cause: aiohttp.ClientConnectorCertificateError) -> BatchRefused:
        error = cause.certificate_error
        why = " ".join(str(getattr(error, "verify_message", None) or error).split()).rstrip(".")
        named = [f"{name}={value}" for name, value in self._certificates.items()]
        trusted = f"those of {' and '.join(named)}" if named else "the system's; set SSL_CERT_FILE to use others"
        return BatchRefused(
            f"the certificate of {self._peer(cause)} is not trusted: {why} (trusted certificates: {trusted})",
            error_type="certificate_error",
        )

    def _no_tls(self, cause: aiohttp.ClientConnectorError) -> bool:
        """Return whether a handshake failed because the other side does not use TLS."""
        error = cause.os_error
        if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
            return True
        if self._base_url.scheme == "https" and isinstance(error, ConnectionResetError | ssl.SSLEOFError):
            self._closed_handshakes += 1
            return not self._answered and self._closed_handshakes >= CLOSED_HANDSHAKES
        return False

    def _wants_tls(self) -> BatchRefused:
        return BatchRefused(
            f"{self._base_url.netloc.decode()} requires TLS; begin its URL with https://", error_type="tls_error"
        )

    def _peer(self, cause: aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError) -> str:
        if (cause.host, cause.port) == self._proxy:
            return f"the proxy {self._proxy_name}"
        return f"{cause.host}:{cause.port}"


def _port(url: httpx2.URL) -> int:
    return url.port or {"http": 80, "https": 443}.get(url.scheme, 1080)


def _timed_out(exc: Exception) -> bool:
    return any(isinstance(cause, aiohttp.ConnectionTimeoutError) for cause in causes_of(exc))


def check_base_url(base_url: str) -> None:
    """Check the value of --base-url.

    Raises:
        InputError: no request can be sent to this URL; or it may hold a secret, which the journal and messages would
            show.
    """
    _, at, _ = base_url.partition("@")
    bare = "" if at else f", got {base_url.partition('?')[0]!r}"
    if not base_url.startswith(("http://", "https://")):
        raise InputError(f"--base-url: expected a URL that begins with http:// or https://{bare}")
    if at:
        raise InputError(
            "--base-url: the URL holds a user or password (before its @), and would be stored; send them as a header: "
            "header.Authorization in a job file, where ${NAME} takes the value from the environment"
        )
    if "?" in base_url or "#" in base_url:
        raise InputError(
            f"--base-url: expected a URL without ? and #; use --query for parameters of every request{bare}"
        )
    try:
        parts = urlsplit(base_url)
        # The SDK refuses a colon without a port.
        usable = bool(parts.hostname) and parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:  # a bracket without an address, or a port that is not a number up to 65535
        usable = False
    if not usable or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise InputError(f"--base-url: expected a URL such as http://127.0.0.1:8000/v1, got {shortened(base_url)}")
