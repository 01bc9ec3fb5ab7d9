"""The package that people install: its name, and all that is installed with it."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import batchrun

PACKAGE = Path(batchrun.__file__).parent
ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAX_PACKAGES = 48
"""Packages that `pip install batchrun-llm` may bring to Linux with Python 3.11, batchrun itself not counted."""
APART = {"ray"}
"""Extras that `all` leaves out: Ray is larger than all the rest together, and has to have the version of its cluster."""
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


def closure(requirements: list[str], extra: str = "") -> set[str]:
    """Return the names of all distributions that the requirements bring, from the metadata of those installed here."""
    found: set[str] = set()
    visited: set[tuple[str, str]] = set()
    todo = [(Requirement(text), extra) for text in requirements]
    while todo:
        requirement, of_extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        found.add(name)
        for each in {"", *requirement.extras} - {extra for known, extra in visited if known == name}:
            visited.add((name, each))
            todo += [(Requirement(text), each) for text in requires(name) or []]
    return found


def test_the_install_stays_small() -> None:
    """The core install brings at most 48 packages, and none that only an extra or a developer needs."""
    found = closure(PROJECT["dependencies"])
    assert len(found) <= MAX_PACKAGES, sorted(found)
    assert {"openai", "pandas", "aiohttp", "numpy"} <= found
    assert not {"scipy", "pytest", "sphinx", "pypdf", "sacrebleu", "httpx-sse"} & found


def test_a_missing_package_is_not_counted_as_none() -> None:
    """A requirement that is not installed here fails the count, rather than shortening it."""
    with pytest.raises(PackageNotFoundError):
        closure(["a-package-that-nobody-has"])
    assert closure(["a-package-that-nobody-has; python_version < '3'"]) == set()


def test_every_extra_is_an_extra_of_all() -> None:
    """`batchrun-llm[all]` brings what each extra for users brings, except those apart; developers get all of it."""
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert Requirement(everything).extras == set(extras) - {"all", "dev", "docs", *APART}
    (ours,) = [each for each in map(Requirement, extras["dev"]) if each.name == PROJECT["name"]]
    assert ours.extras == {"all", "docs"}


def test_the_page_lists_the_extras() -> None:
    """docs/reference/installation.md has a line for each extra that is for users."""
    page = (ROOT / "docs" / "reference" / "installation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == set(PROJECT["optional-dependencies"]) - {"dev", "docs"}


def test_every_dependency_has_a_lower_bound() -> None:
    """An older release than those that were tried is not installed."""
    listed = [*PROJECT["dependencies"], *(each for some in PROJECT["optional-dependencies"].values() for each in some)]
    unbounded = [each for each in listed if ">=" not in each and not each.startswith(PROJECT["name"])]
    assert unbounded == []


def test_the_source_distribution_has_what_tests_read() -> None:
    """Every file and folder of the checkout is in the source distribution, but outputs, virtual environments and what
    .gitignore names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    always = {"pyproject.toml", ".gitignore", "PKG-INFO"}
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()]
    own = [path for path in ROOT.iterdir() if not (path / "pyvenv.cfg").exists()]
    there = {path.name for path in own if not any(path.match(pattern) for pattern in [*ignored, ".git"])}
    assert there - always - {"outputs"} == included
