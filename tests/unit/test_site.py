"""The documentation site, as far as its pages show it: `.ci/run` builds it with warnings as errors."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import batchrun

DOCS = Path(batchrun.__file__).parents[1] / "docs"
PICTURES = DOCS / "pictures"


def test_every_diagram_is_drawn() -> None:
    """Each Mermaid block of the pages has the picture that was drawn from it, and no other diagram is kept."""
    wanted = runpy.run_path(str(PICTURES / "diagrams.py"))["diagrams"]()
    assert len(wanted) >= 2
    assert {path.name for path in PICTURES.glob("diagram-*.svg")} == set(wanted)


def test_every_public_name_is_in_the_reference() -> None:
    """The Python reference has an entry for each name of `batchrun.__all__`."""
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\.\. auto\w+:: (\w+)", page, re.M))
    assert set(batchrun.__all__) - {"__version__"} <= documented
