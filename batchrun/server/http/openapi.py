"""The OpenAPI document of the server, made from its operations and request models."""

from __future__ import annotations

import re
from functools import cache
from typing import TypedDict

from pydantic.json_schema import models_json_schema

from batchrun.server.http.routes import OPERATIONS
from batchrun.server.protocol.bodies import Body

__all__ = ["OpenApiDocument", "PathItem", "openapi_document"]

_REFERENCE = "#/components/schemas/{model}"

_UPLOADS = {
    "file": {
        "type": "object",
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "purpose": {"type": "string"},
            "expires_after[seconds]": {"type": "integer"},
        },
        "required": ["file", "purpose"],
    },
    "data": {
        "type": "object",
        "properties": {"data": {"type": "string", "format": "binary"}},
        "required": ["data"],
    },
}
"""Part with the file → schema of the form."""


_BETA: Body = {
    "name": "OpenAI-Beta", "in": "header", "required": True, "schema": {"type": "string", "const": "assistants=v2"},
}  # fmt: skip

_ERROR: Body = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
_REFUSED: Body = {
    "description": "The request is refused.",
    "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Error")}}},
}


class PathItem(TypedDict, total=False):
    """One method on one path."""

    operationId: str
    summary: str
    tags: list[str]
    parameters: list[Body]
    requestBody: Body
    responses: Body


class Components(TypedDict):
    """The schemas that operations refer to, by name."""

    schemas: Body


class OpenApiDocument(TypedDict):
    """The parts of an OpenAPI 3.1 document that the server states."""

    openapi: str
    info: dict[str, str]
    paths: dict[str, dict[str, PathItem]]
    components: Components


@cache
def openapi_document() -> OpenApiDocument:
    """Return the paths of all operations, their parameters and the schemas of their bodies."""
    models = [operation.model for operation in OPERATIONS if operation.model is not None]
    # Made together, so that two models with one name in different modules get different names.
    references, definitions = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template=_REFERENCE
    )
    paths: dict[str, dict[str, PathItem]] = {}
    for operation in OPERATIONS:
        # Starlette writes the converter of a parameter into the path: {model:path}.
        path = "/v1" + re.sub(r":\w+}", "}", operation.path)
        name = operation.function.__name__
        item: PathItem = {
            "operationId": name,
            "summary": name.replace("_", " "),
            "tags": [operation.path.split("/")[1]],
            "parameters": [
                *(
                    {"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}
                    for parameter in re.findall(r"{(\w+)}", path)
                ),
                *([_BETA] if operation.beta else []),
            ],
            "responses": {"200": {"description": "As in the OpenAI API."}, "4XX": _REFUSED},
        }
        if operation.model is not None:
            schema = references[operation.model, "validation"]
            item["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        elif operation.upload is not None:
            item["requestBody"] = {"content": {"multipart/form-data": {"schema": _UPLOADS[operation.upload]}}}
        paths.setdefault(path, {})[operation.method.lower()] = item
    return {
        "openapi": "3.1.0",
        "info": {"title": "batchrun serve", "version": "1"},
        "paths": paths,
        "components": {"schemas": definitions["$defs"] | {"Error": _ERROR}},
    }
