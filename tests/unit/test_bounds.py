"""The table of all bounds in docs/reference/bounds.md agrees with the constants."""

from __future__ import annotations

import ast
import importlib
import re

import pytest

from tests.support.sources import PACKAGE, parsed

PAGE = PACKAGE.parent / "docs" / "reference" / "bounds.md"
ROW = re.compile(r"\| (?P<what>.+) \| (?P<bound>[\d,.]+)(?: \(.+\))? \| `(?P<place>[\w.]+)` \|")
BOUND = re.compile(r"(MAX|LONGEST|FIRST)_\w+|\w+_(TIMEOUT_S|ATTEMPTS|TRIES|BYTES)")
APART = ("server", "scoring", "report")
"""Parts whose numbers bound no batch."""
NO_BOUNDS = {
    "estimate.dry_run.FIRST_TOKEN_S",
    "engine.slots.FIRST_REST",
    "engine.slots.LONGEST_REST",
    "prompts.rendering_version.FIRST_RENDERING",
}
"""Figures of an estimate, steps of the policy, and a version."""


def table() -> dict[str, float]:
    """Return the name of each constant → the number on the page."""
    section = PAGE.read_text(encoding="utf-8")
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    rows = [ROW.fullmatch(line) for line in lines]
    assert None not in rows, lines[rows.index(None)]
    found = {row["place"]: float(row["bound"].replace(",", "")) for row in rows if row is not None}
    assert len(found) == len(lines)
    return found


@pytest.mark.parametrize(("place", "bound"), table().items())
def test_a_bound_is_the_one_in_the_code(place: str, bound: float) -> None:
    """Each number in the table is the value of its constant."""
    module, _, name = place.rpartition(".")
    assert getattr(importlib.import_module(f"batchrun.{module}"), name) == bound


def test_every_bound_is_in_the_table() -> None:
    """The table has every constant whose name is that of a bound."""
    named = set()
    for path, tree in parsed().items():
        place = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if place.split(".")[0] in APART:
            continue
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and not target.id.startswith("_") and BOUND.fullmatch(target.id):
                named.add(f"{place}.{target.id}")
    assert named - NO_BOUNDS <= table().keys()
