"""The page /docs: the OpenAPI document as HTML. It loads nothing from other servers, so it works offline."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from typing import TYPE_CHECKING

from batchrun.server.http.openapi import openapi_document
from batchrun.server.protocol.bodies import Body

if TYPE_CHECKING:
    from batchrun.server.http.openapi import PathItem

__all__ = ["docs_page"]

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>batchrun serve</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
code, pre {{ font: .9rem/1.4 ui-monospace, monospace; }}
pre {{ overflow-x: auto; padding: .5rem; border: 1px solid #8884; }}
td {{ padding: .1rem 1rem .1rem 0; }}
</style>
</head>
<body>
<h1>batchrun serve</h1>
<p>Requests and replies are those of the OpenAI API. The same as data: <a href="/openapi.json">/openapi.json</a>.</p>
{operations}
<h2>Bodies</h2>
{schemas}
</body>
</html>
"""


@cache
def docs_page() -> str:
    """Return the page: every operation with its body, and the JSON schema of each body."""
    document = openapi_document()
    rows: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, item in methods.items():
            rows.setdefault(item["tags"][0], []).append(_row(method, path, item))
    operations = (f"<h2>{escape(tag)}</h2>\n<table>\n{''.join(group)}</table>" for tag, group in rows.items())
    schemas = (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre></details>"
        for name, schema in document["components"]["schemas"].items()
    )
    return _PAGE.format(operations="\n".join(operations), schemas="\n".join(schemas))


def _row(method: str, path: str, item: PathItem) -> str:
    body = _body(item.get("requestBody", {}))
    return (
        f"<tr><td><code>{method.upper()}</code></td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(item['summary'])}</td><td>{body}</td></tr>\n"
    )


def _body(request_body: Body) -> str:
    for content_type, content in request_body.get("content", {}).items():
        reference = content["schema"].get("$ref", "")
        name = reference.rpartition("/")[2]
        return f'<a href="#{escape(name)}">{escape(name)}</a>' if name else escape(content_type)
    return ""
