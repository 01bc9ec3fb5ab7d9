"""The documentation site, as far as its pages show it: `.ci/run` builds it with warnings as errors."""

from __future__ import annotations

import runpy
from pathlib import Path

import batchrun

PICTURES = Path(batchrun.__file__).parents[1] / "docs" / "pictures"


def test_every_diagram_is_drawn() -> None:
    """Each Mermaid block of the pages has the picture that was drawn from it, and no other diagram is kept."""
    wanted = runpy.run_path(str(PICTURES / "diagrams.py"))["diagrams"]()
    assert len(wanted) >= 2
    assert {path.name for path in PICTURES.glob("diagram-*.svg")} == set(wanted)
