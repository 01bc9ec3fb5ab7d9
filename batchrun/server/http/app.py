"""The ASGI application: the operations mounted in FastAPI, with and without /v1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from batchrun.server.errors import ApiError
from batchrun.server.http.auth import Keyring
from batchrun.server.http.endpoint import OperationEndpoint
from batchrun.server.http.routes import OPERATIONS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from batchrun.server.execution.core import Core

__all__ = ["build_app"]


def build_app(core: Core) -> ASGIApp:
    """The application over the parts of a started server.

    Operations are routes of their own and not FastAPI endpoints: bodies are validated and answers written by
    this package (a 400 in the protocol's form, streams without a task for each), and FastAPI's own
    machinery would cost more than the rest of a streamed run. What it serves is stated in its OpenAPI page.
    """
    app = FastAPI(title="batchrun serve", openapi_url="/openapi.json")
    keyring = Keyring(core.parts.settings.api_keys, core.parts.settings.owner)
    for op in OPERATIONS:
        app.router.routes.append(Route(op.path, OperationEndpoint(core, keyring, op), methods=[op.method]))
    app.add_exception_handler(HTTPException, _http_error)
    app.openapi = _openapi  # type: ignore[method-assign]  # FastAPI's documented way to give an own document
    return _WithoutPrefix(app)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Unknown paths and methods in the protocol's form."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.scope.get("full_path", request.url.path)
    if error.status_code == 405:
        refusal = ApiError(405, f"Not allowed to {method} on {path}.", code="method_not_supported")
    else:
        refusal = ApiError(error.status_code, f"Invalid URL ({method} {path})", code="unknown_url")
    return JSONResponse(refusal.body(), status_code=error.status_code, headers=error.headers)


class _WithoutPrefix:
    """Serves every path also below /v1, where SDKs expect it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            scope["full_path"] = path
            if path.startswith("/v1/"):
                scope["path"] = path[3:]
        await self._app(scope, receive, send)


def _openapi() -> dict[str, Any]:
    """The OpenAPI document of the operations: paths, parameters and the schemas of bodies."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for op in OPERATIONS:
        path = "/v1" + op.path.replace(":path}", "}")
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        entry: dict[str, Any] = {
            "operationId": op.function.__name__,
            "summary": op.function.__name__.replace("_", " "),
            "tags": [op.path.split("/")[1]],
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ],
            "responses": {"200": {"description": "As in the OpenAI API."}},
        }
        if op.model is not None:
            schema = op.model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[op.model.__name__] = schema
            reference = {"$ref": f"#/components/schemas/{op.model.__name__}"}
            entry["requestBody"] = {"content": {"application/json": {"schema": reference}}}
        paths.setdefault(path, {})[op.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": "batchrun serve", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }
