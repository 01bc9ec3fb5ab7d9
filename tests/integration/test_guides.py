"""Pages of the docs that are followed from top to bottom: their files, commands and programs, and what these print.

`UPDATE_DOCS=1` (with `-n 0`) writes the printed lines and the tables into the pages. A page that uses a real model is followed with
a server that answers from the script of the page's name in `tests/integration/guides/`.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.script import ScriptResponder
from tests.support.page_reader import PageReader, own_file

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "guides"
FOLLOWED = re.compile(r"<!-- (?:run|python)")
ELSEWHERE = ("guides/recipes.md", "guides/model-graded.md", "explanation/sandbox.md")
"""Pages that have tests of their own."""
PAGES = sorted(
    name
    for page in (ROOT / "docs").rglob("*.md")
    if (name := page.relative_to(ROOT / "docs").as_posix()) not in ELSEWHERE
    and FOLLOWED.search(page.read_text(encoding="utf-8"))
)


@pytest.fixture
def with_a_key(page: str) -> Iterator[dict[str, str]]:
    """The variables of a reader with a key, for a service that answers from the page's script."""
    script = SCRIPTS / Path(page).with_suffix(".toml").name
    if not script.exists():
        yield {}
        return
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), ScriptResponder(script)) as server:
        yield {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": server.url}


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """The level of the logger, which a page sets, as it was before."""
    logger = logging.getLogger("batchrun")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_shows_what_happens(page: str, tmp_path: Path, with_a_key: dict[str, str]) -> None:
    """The page's commands and programs work in its order, and give the lines and the tables that it shows."""
    shutil.copytree(ROOT / "inputs", tmp_path / "inputs")
    path = ROOT / "docs" / page
    text = path.read_text(encoding="utf-8")
    found = PageReader(tmp_path, own_file(tmp_path), **with_a_key).read(text)
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(found, encoding="utf-8")
    else:
        assert found == text
