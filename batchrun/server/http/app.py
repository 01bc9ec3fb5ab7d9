"""The ASGI application: the operations and their documentation, with and without /v1, and in Azure's form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from batchrun.server.errors import ApiError
from batchrun.server.http import azure
from batchrun.server.http.auth import Keyring
from batchrun.server.http.endpoint import OperationEndpoint
from batchrun.server.http.routes import OPERATIONS
from batchrun.server.http.visitors import Visitors

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from batchrun.server.execution.core import Core

__all__ = ["build_app"]


def build_app(core: Core) -> ASGIApp:
    """Return the application of a started server.

    Starlette only finds the route. Operations validate their bodies and write their replies themselves: a 400 in the
    protocol's form, and streams without a task for each.
    """
    settings = core.parts.settings
    keyring = Keyring(settings.api_keys, settings.owner)
    routes = [
        Route(operation.path, OperationEndpoint(core, keyring, operation), methods=[operation.method])
        for operation in OPERATIONS
    ]
    # Last, because routes are matched in order and operations are called far more often.
    routes += [Route("/openapi.json", _openapi), Route("/docs", _docs)]
    app = _Entrance(Starlette(routes=routes, exception_handlers={HTTPException: _http_error}), Visitors(settings))
    if not settings.allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=tuple(map(str.lower, settings.allowed_origins)),
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=("x-request-id", "retry-after", "openai-poll-after-ms"),
    )


async def _openapi(_: Request) -> JSONResponse:
    from batchrun.server.http.openapi import openapi_document

    return JSONResponse(openapi_document())


async def _docs(_: Request) -> HTMLResponse:
    from batchrun.server.http.docs_page import docs_page

    return HTMLResponse(docs_page())


_ELSEWHERE = {
    "completions": "legacy completions have no responder; use /v1/chat/completions or /v1/responses",
    "moderations": "it has no moderation model; send the request to a service that has one",
    **dict.fromkeys(("audio", "realtime"), "it has no model for sound; send the request to a service that has one"),
    **dict.fromkeys(("images", "videos"), "it has no model for pictures; send the request to a service that has one"),
    "fine_tuning": "it trains no models; train at a service and name the model here",
    "evals": "run `batchrun score` over the answers of a batch",
}
"""Path of another part of the API → what to do."""


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Return the error of an unknown path or method in the protocol's form."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.scope.get("full_path", request.url.path)
    if error.status_code == 405:
        refusal = ApiError(405, f"Not allowed to {method} on {path}.", code="method_not_supported")
    elif (hint := _ELSEWHERE.get(request.scope["path"].split("/")[1])) is not None:
        refusal = ApiError(404, f"This server does not offer {path}: {hint}.", code="unsupported_endpoint")
    else:
        refusal = ApiError(error.status_code, f"Invalid URL ({method} {path})", code="unknown_url")
    return JSONResponse(refusal.body(), status_code=error.status_code, headers=error.headers)


class _Entrance:
    """Refuses foreign web pages, and serves every path below /v1 and /openai too, where SDKs expect it."""

    def __init__(self, app: ASGIApp, visitors: Visitors) -> None:
        self._app = app
        self._visitors = visitors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = self._visitors.refusal(scope["headers"])
            if refusal is not None:
                await JSONResponse(refusal.body(), status_code=refusal.status)(scope, receive, send)
                return
            path = scope["path"]
            scope["full_path"] = path
            if path.startswith("/v1/"):
                scope["path"] = path[3:]
            elif path.startswith(azure.PREFIX):
                scope["path"], scope["deployment"] = azure.plain_path(path)
        await self._app(scope, receive, send)
