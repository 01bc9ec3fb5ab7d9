"""docs/explanation/reliability.md names existing tests, and every test of this folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def names_of_tests(folder: Path) -> set[str]:
    return {
        node.name
        for path in folder.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


@pytest.fixture
def named() -> set[str]:
    text = (ROOT / "docs" / "explanation" / "reliability.md").read_text(encoding="utf-8")
    return set(re.findall(r"`(test_\w+)`", text))


def test_every_promise_has_its_test(named: set[str]) -> None:
    """Each test that the page names exists."""
    assert named - names_of_tests(ROOT / "tests") == set()


def test_every_test_is_a_promise(named: set[str]) -> None:
    """The page lists each test of this folder, except for those of the page itself."""
    own = names_of_tests(Path(__file__).parent) - set(re.findall(r"def (test_\w+)", Path(__file__).read_text()))
    assert own - named == set()
