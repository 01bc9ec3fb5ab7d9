"""Links between the pages of the docs, the README and the contributor kit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import batchrun
from tests.support.markdown import CODE_BLOCK

ROOT = Path(batchrun.__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "inputs").glob("*.md"),
    ]
)
LINK = re.compile(r"\]\((?!https?://)([^)\s]*)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = HEADING.findall(CODE_BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Return the links of a page whose file or heading does not exist."""
    broken = []
    for target in LINK.findall(CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page: Path) -> None:
    """Every link to a file or a heading of this repository leads there."""
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """A missing file and a missing heading are found; headings match their anchors on GitHub."""
    (tmp_path / "other.md").write_text("# A `code` heading, with: marks\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "## Here\n[a](#here) [b](#there) [c](other.md#a-code-heading-with-marks) [d](other.md#x) [e](gone.md)\n",
        encoding="utf-8",
    )
    assert broken_links(page) == ["#there", "other.md#x", "gone.md"]


def test_every_page_is_in_an_index() -> None:
    """The README links to docs/index.md, and every page is listed there or in an index that is."""
    assert "(docs/index.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    indexes = sorted((ROOT / "docs").rglob("index.md"))
    listed = {(page.parent / name).resolve() for page in indexes for name in LINK.findall(page.read_text("utf-8"))}
    assert {page for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in listed} == {
        ROOT / "docs" / "index.md"
    }
