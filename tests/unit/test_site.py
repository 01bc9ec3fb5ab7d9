"""The documentation site, as far as its pages show it: `.ci/run` builds it with warnings as errors."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import batchrun
from batchrun.api.job_options import JobOptions
from batchrun.api.scored_run import ScoringOptions

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


def test_the_reference_shows_the_parameters_of_the_functions() -> None:
    """Its signatures of `run`, `arun` and `outcomes`, where `**options` means all options, have every other one."""
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    options = JobOptions.__annotations__.keys() | ScoringOptions.__annotations__.keys()
    for name in ("run", "arun", "outcomes"):
        signature = inspect.signature(getattr(batchrun, name))
        parameters = [
            each.name if each.default is each.empty else f"{each.name}={each.default!r}"
            for each in signature.parameters.values()
            if each.name not in options
        ]
        shown = re.search(rf"^\.\. autofunction:: {name}\((.*)\)$", page, re.M)
        assert shown is not None
        assert {*shown[1].split(", ")} - {"*"} == {*parameters, "**options"}
