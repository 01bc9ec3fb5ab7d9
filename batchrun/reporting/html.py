"""The page as HTML: one self-contained document that loads nothing from elsewhere.

The shown texts were written by models and other outsiders. The document holds them as JSON inside a script element that
is not executed, with the characters escaped that could end it; the page's own script inserts them as text. The
Content-Security-Policy allows only that script and that style sheet, by their hashes: no other script, no network, no
`eval`, no markup made from strings (Trusted Types).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from batchrun.reporting.page_facts import PageData

__all__ = ["SCRIPTS", "Policy", "embedded_json", "live_page", "report_page"]

SCRIPTS: Final = (
    "format", "diff", "rows", "columns", "export", "link", "print", "table", "statistics", "figures", "charts",
    "sections", "breakdowns", "comparisons", "answers", "notes", "detail", "live", "main",
)  # fmt: skip
"""Files of the page's script, in the order in which they are concatenated."""

_PLOT_STYLE: Final = "sha256-zrfVyvY1E/5V+DXZunsRZW8XTqTsuIZzp8dBDThhSn8="
"""Hash of the style element that Observable Plot adds to each chart with the class name `chart`."""

_COMPRESSION: Final = 4
"""Gzip level, from 1 to 9. A higher level takes twice the time and saves a tenth of the size."""

_ESCAPED: Final = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def embedded_json(value: Any) -> str:
    """Return JSON for a script element: without `<`, `>`, `&`, U+2028, U+2029 and lone surrogates."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _deflated(value: Any) -> str:
    """Return JSON, compressed, in base64: a third of the size, and as fast to read."""
    return base64.b64encode(gzip.compress(embedded_json(value).encode(), _COMPRESSION, mtime=0)).decode()


@dataclass(frozen=True, slots=True)
class Policy:
    """The Content-Security-Policy of a page.

    Attributes:
        live: whether the page may send requests to its own server.
    """

    live: bool = False

    def __str__(self) -> str:
        rules = [
            "default-src 'none'",
            f"script-src {_hashes(_vendor(), _script())}",
            f"style-src {_hashes(_style())} '{_PLOT_STYLE}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
        if self.live:
            rules.append("connect-src 'self'")
        return "; ".join(rules)


def report_page(data: PageData) -> bytes:
    """Return a self-contained page."""
    first, *others = data["portions"]
    head = {name: value for name, value in data.items() if name != "portions"}
    portions = [f'<script type="text/plain" class="portion">{_deflated(each)}</script>' for each in others]
    return _document(str(data["facts"]["table"]), embedded_json({**head, "rows": first}), Policy(), portions)


def live_page(name: str) -> bytes:
    """Return a page that requests its rows from `facts`, next to its own address."""
    return _document(name, embedded_json({"live": True}), Policy(live=True))


def _document(name: str, data: str, policy: Policy, portions: Sequence[str] = ()) -> bytes:
    parts = {
        "policy": html.escape(str(policy)),
        "title": html.escape(f"{name} · batchrun"),
        "style": _style(),
        "data": data,
        "vendor": _vendor(),
        "script": _script(),
        "portions": "".join(f"\n{each}" for each in portions),
    }
    # A single pass, so that placeholders inside a part are not replaced.
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))
    return text.encode("utf-8", "replace")


def _hashes(*texts: str) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


@cache
def _style() -> str:
    return _asset("page.css")


@cache
def _vendor() -> str:
    return _asset("vendor/vendor.js").strip()


@cache
def _script() -> str:
    body = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{body}\n}})();'


def _asset(name: str) -> str:
    # Browsers read every line end of a document as \n, so the hash is computed with \n.
    return files("batchrun.reporting").joinpath("assets", name).read_text(encoding="utf-8").replace("\r\n", "\n")
