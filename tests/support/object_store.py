"""A real S3 server on this machine, whose requests a test can refuse or hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from pyarrow import fs
from werkzeug.serving import make_server

__all__ = ["ObjectStore", "bucket_of", "serving"]

_DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'


@dataclass(slots=True)
class ObjectStore:
    """The server of S3.

    Mutable state: `refused`, `held` and the events.

    Attributes:
        refused, held: patterns of requests such as `PUT /bucket/name?partNumber=2`; None for no request.
        reached: a held request has come.
        released: held requests go on.
    """

    url: str = ""
    refused: str | None = None
    held: str | None = None
    reached: Event = field(default_factory=Event)
    released: Event = field(default_factory=Event)
    _app: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        if self.held is not None and re.search(self.held, request):
            self.reached.set()
            self.released.wait()
        if self.refused is not None and re.search(self.refused, request):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [_DENIED]
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    @property
    def environ(self) -> dict[str, str]:
        """The usual variables of the environment."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.url,
        }


class _Handler(MotoRequestHandler):
    disable_nagle_algorithm = True  # the second packet of a reply would wait 40 ms for an acknowledgement


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """Run a server in a thread of this process."""
    store = ObjectStore()
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=_Handler)
    store.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def bucket_of(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, node: str) -> Any:
    """Return a new bucket of a test as a file system, with the usual variables of the environment."""
    for name, value in store.environ.items():
        monkeypatch.setenv(name, value)
    system = fs.S3FileSystem(allow_bucket_creation=True, endpoint_override=store.url)
    bucket = f"bkt-{abs(hash(node))}"
    system.create_dir(bucket)
    return fs.SubTreeFileSystem(bucket, system)
