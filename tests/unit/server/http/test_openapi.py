"""The OpenAPI document and its page describe every operation."""

from __future__ import annotations

import json
import re

from batchrun.server.http.docs_page import docs_page
from batchrun.server.http.openapi import openapi_document
from batchrun.server.http.routes import OPERATIONS


def test_every_operation_is_in_the_document() -> None:
    """Each method and path has an entry, and each entry has a name of its own."""
    paths = openapi_document()["paths"]
    items = [item for methods in paths.values() for item in methods.values()]
    assert len(items) == len(OPERATIONS) == len({item["operationId"] for item in items})
    assert "/v1/models/{model}" in paths


def test_a_body_is_the_model_that_validates_it() -> None:
    """The schema of a body states the limits of the request model; a file upload is a form."""
    document = openapi_document()
    body = document["paths"]["/v1/threads/runs"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/CreateThreadAndRun"}
    run = document["components"]["schemas"]["CreateThreadAndRun"]
    assert run["required"] == ["assistant_id"]
    assert run["additionalProperties"] is True
    assert document["components"]["schemas"]["CreateAssistant"]["additionalProperties"] is False
    upload = document["paths"]["/v1/files"]["post"]["requestBody"]
    assert upload["content"]["multipart/form-data"]["schema"]["required"] == ["file", "purpose"]


def test_errors_and_the_beta_header_are_in_the_document() -> None:
    """Every operation has the error body; those of the Assistants API require the header of its version."""
    paths = openapi_document()["paths"]
    assert all("4XX" in item["responses"] for methods in paths.values() for item in methods.values())
    headers = [each for each in paths["/v1/threads"]["post"]["parameters"] if each["in"] == "header"]
    assert [(each["name"], each["schema"]["const"]) for each in headers] == [("OpenAI-Beta", "assistants=v2")]
    assert not [each for each in paths["/v1/responses"]["post"]["parameters"] if each["in"] == "header"]


def test_every_reference_has_its_schema() -> None:
    """No `$ref` points outside the document."""
    document = openapi_document()
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= document["components"]["schemas"].keys()


def test_the_page_shows_all_operations_and_loads_nothing() -> None:
    """/docs names every path and schema, and needs no other server."""
    page = docs_page()
    document = openapi_document()
    assert all(f"<code>{path}</code>" in page for path in document["paths"])
    assert all(f'id="{name}"' in page for name in document["components"]["schemas"])
    assert not re.search(r"<script|<link|src=|https?://", page)
