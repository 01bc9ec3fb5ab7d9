"""The arguments of hosted tools' calls: JSON text of a model, whole or still arriving."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchrun.server.protocol.bodies import Body

__all__ = ["CodeText", "code_of", "queries_of"]

_BEGINNING = re.compile(r'\s*\{\s*"code"\s*:\s*"')
_WHOLE_CHARACTERS = re.compile(
    r"""(?: [^"\\]
      | \\ (?: ["\\/bfnrt]
             | u [dD][89abAB][0-9a-fA-F]{2} \\u [dD][c-fC-F][0-9a-fA-F]{2}
             | u (?! [dD][89abAB] ) [0-9a-fA-F]{4} ) )*""",
    re.VERBOSE,
)
"""The beginning of a JSON string that ends neither in half an escape nor in half a surrogate pair."""


def _arguments(text: str) -> Body:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def queries_of(arguments: str) -> list[str]:
    """Return the queries of a call of file_search."""
    data = _arguments(arguments)
    queries = data.get("queries")
    if isinstance(queries, list):
        return [str(query) for query in queries]
    return [str(data.get("query", ""))]


def code_of(arguments: str) -> str:
    """Return the code of a call of code_interpreter. Some models send it bare, without JSON around it."""
    data = _arguments(arguments)
    return str(data["code"]) if "code" in data else arguments


class CodeText:
    """The code of one call, `{"code": "…"}`, read piece by piece.

    Mutable state: the text that is not decoded yet, whether the code has begun and ended, and the code so far.
    """

    def __init__(self) -> None:
        self._waiting = ""
        self._has_begun = False
        self._has_ended = False
        self._code: list[str] = []

    def take(self, piece: str) -> str:
        """Return the code in a further piece of the arguments. Bare code gives nothing before its end."""
        if self._has_ended:
            return ""
        self._waiting += piece
        if not self._has_begun:
            beginning = _BEGINNING.match(self._waiting)
            if beginning is None:
                return ""
            self._has_begun, self._waiting = True, self._waiting[beginning.end() :]
        found = _WHOLE_CHARACTERS.match(self._waiting)
        assert found is not None  # it matches "" too
        self._waiting = self._waiting[found.end() :]
        self._has_ended = self._waiting.startswith('"')
        text = str(json.loads(f'"{found[0]}"', strict=False))
        self._code.append(text)
        return text

    def rest(self, code: str) -> str:
        """Return what is missing of the whole code; "" if the pieces so far are not its beginning."""
        sent = "".join(self._code)
        return code[len(sent) :] if code.startswith(sent) else ""
