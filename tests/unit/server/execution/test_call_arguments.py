"""The arguments of hosted calls, whole and in pieces."""

from __future__ import annotations

import json

import pytest

from batchrun.server.execution.call_arguments import CodeText, code_of, queries_of


@pytest.mark.parametrize(
    "code",
    ["", "6 * 7", "print(\"a\\n\")\n\tx = '\\\\'", "s = 'é 😀'", "\ud83d alone", "{" * 50 + '"code": "no"'],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_pieces_join_to_the_code(code: str, size: int, is_ascii: bool) -> None:
    """Wherever the arguments are cut, escapes and surrogate pairs included, the pieces join to the code."""
    arguments = json.dumps({"code": code, "more": 1}, ensure_ascii=is_ascii)
    text = CodeText()
    pieces = [text.take(arguments[start : start + size]) for start in range(0, len(arguments), size)]
    assert "".join(pieces) + text.rest(code_of(arguments)) == code


def test_code_is_known_while_it_arrives() -> None:
    """A piece of the arguments gives the code in it at once."""
    text = CodeText()
    assert [text.take(piece) for piece in ('{"co', 'de": "im', "port ", "re\\", 'n"', "}")] == [
        "", "im", "port ", "re", "\n", "",
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", ["print(1)", '{"x": 1}', "[1]", '{"code": "broken', '{"code": "\\x"}'])
def test_code_without_valid_json_is_taken_as_it_is(arguments: str) -> None:
    """Code that is not in valid JSON is the call's whole text, and never both."""
    text = CodeText()
    sent = text.take(arguments)
    assert code_of(arguments) == arguments
    assert text.rest(arguments) == ("" if sent else arguments)


@pytest.mark.parametrize(
    ("arguments", "queries"),
    [('{"query": "a b"}', ["a b"]), ('{"queries": ["a", "b"]}', ["a", "b"]), ("{}", [""]), ("none", [""])],
)
def test_queries(arguments: str, queries: list[str]) -> None:
    """A search has one query or several."""
    assert queries_of(arguments) == queries
