"""The package that people install: its name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import batchrun

PACKAGE = Path(batchrun.__file__).parent
ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PLACES = ["batchrun", "docs", "tests", ".github", ".ci"]
"""The folders whose files may name the package that people install."""
OTHER_NAME = re.compile(
    r"""
    \bbatchrun\[[a-z]                                   # an extra: batchrun[eval]
    | \b(?:pip|pipx|uv|uvx|tool)\ (?:[\w-]+\ )*install\ (?:-\S+\ )*["']?batchrun(?![\w-])
    | \b(?:pipx\ run|uvx|--with|--from)\ ["']?batchrun(?![\w-])
    | \bpackage_name=["']batchrun["'] | \b(?:version|distribution|requires|metadata)\(["']batchrun["']\)
    """,
    re.VERBOSE,
)
"""Forms in which `batchrun` would be the name of a distribution: on PyPI that is somebody else's package."""


def test_nothing_names_the_package_of_somebody_else() -> None:
    """Docs, messages and workflows install batchrun-llm, not `batchrun`."""
    files = [*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / ".pre-commit-config.yaml"]
    for place in PLACES:
        files += [path for path in (ROOT / place).rglob("*") if path.is_file() and path.suffix not in {".pyc", ".db"}]
    found = [
        f"{path.relative_to(ROOT)}: {match[0]!r}"
        for path in files
        if path != Path(__file__).resolve()
        for match in OTHER_NAME.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []
    assert PROJECT["name"] == "batchrun-llm"


def test_the_search_for_the_other_name_finds_it() -> None:
    """Each form is found; the folder of a checkout, the command and the right name are not."""
    wrong = [
        "pip install batchrun",
        "pip install -q --upgrade 'batchrun'",
        "pip install 'batchrun[eval]'",
        "uv pip install batchrun",
        "uv tool install batchrun",
        "uvx batchrun run",
        "version('batchrun')",
    ]
    right = [
        "pip install ./batchrun",
        "pip install batchrun-llm",
        "pip install . && batchrun run",
        "uvx --from batchrun-llm batchrun run",
        "import batchrun",
    ]
    assert [OTHER_NAME.search(text) is not None for text in wrong + right] == [True] * len(wrong) + [False] * len(right)
