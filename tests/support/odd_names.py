"""Names of files and columns that a shell would change if they were not quoted."""

from __future__ import annotations

import pytest

__all__ = ["ODD_NAMES", "each_odd_name", "some_odd_names"]

ODD_NAMES = {
    "plain": "answers",
    "blanks": " my  answers ",
    "quote": "it's",
    "double quote": 'say "yes"',
    "both quotes": """it's "yes" """,
    "variable": "$HOME and ${PATH}",
    "backticks": "`id` $(id)",
    "exclamation": "what! it's!!",
    "backslash": "a\\b\\n \\",
    "line break": "two\nlines",
    "tab and carriage return": "a\tb\rc",
    "escape sequence": "\x1b[31mred",
    "percent": "100 % %s %%d",
    "digits": "2024",
    "dash": "-rf",
    "option": "--help",
    "glob": "*.? [a-z] ~",
    "operators": "a & b | c; d > e < f # g (h) {i}",
    "braces": "}} {{ x }} {% if %} {# c",
    "not ASCII": "naïve 日本 😀",
    "bidirectional": "a\u202eb",
}


OFTEN = {"blanks", "both quotes", "backticks", "line break", "dash", "braces", "not ASCII"}
"""The names for tests of whole commands, one of each danger; the nightly run has all."""


def some_odd_names(*without: str) -> pytest.MarkDecorator:
    """Run a test once for every name, as its parameter `name`: those of `OFTEN` always, the others in the nightly run.

    The quoting itself is tested with every name in tests/unit/test_shell_hint.py.
    """
    marked = [
        pytest.param(name, id=kind, marks=[] if kind in OFTEN else [pytest.mark.nightly])
        for kind, name in ODD_NAMES.items()
        if kind not in without
    ]
    return pytest.mark.parametrize("name", marked)


def each_odd_name(*without: str) -> pytest.MarkDecorator:
    """Run a test once for every name, as its parameter `name`."""
    kept = {kind: name for kind, name in ODD_NAMES.items() if kind not in without}
    return pytest.mark.parametrize("name", kept.values(), ids=kept.keys())
