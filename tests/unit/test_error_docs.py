"""docs/reference/errors.md: the error tree, and a line for each name that the code gives an error."""

from __future__ import annotations

import ast
import re

from batchrun import errors
from batchrun.records import EMPTY_ANSWER, REFUSAL
from batchrun.services.finish_reason import CUT
from tests.support.sources import PACKAGE, parsed

PAGE = (PACKAGE.parent / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")


def names_given() -> set[str]:
    """Return the names that the package passes as `error_type`, or as the first argument of an error of a row."""
    found = {CUT, EMPTY_ANSWER, REFUSAL}
    for path, tree in parsed().items():
        if path.is_relative_to(PACKAGE / "server"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                values = [keyword.value for keyword in node.keywords if keyword.arg == "error_type"]
                match node.func:
                    case ast.Name("PromptError") | ast.Attribute(ast.Name("self"), "_failed"):
                        values += node.args[:1]
                constants = (
                    each.value for value in values for each in ast.walk(value) if isinstance(each, ast.Constant)
                )
                found |= {each for each in constants if isinstance(each, str)}
    return found


def test_the_tree_is_the_one_in_the_code() -> None:
    """The page shows the tree that begins `batchrun/errors.py`."""
    tree = re.search(r"BatchrunError\n.*?(?=\n\n)", errors.__doc__ or "", re.S)
    assert tree is not None
    assert f"```text\n{tree[0]}\n```\n" in PAGE


def test_every_name_is_explained() -> None:
    """Each `error_type` of batchrun's own is in a table of the page."""
    names = names_given()
    assert len(names) > 30
    assert {name for name in names if not re.search(rf"^\|.*`{name}[`\d]", PAGE, re.M)} == set()
