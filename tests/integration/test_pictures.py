"""The pictures of the docs: their scripts run, and the committed pictures are of the kind that the scripts draw now."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import batchrun
from tests.support.browser import CHROMIUM

PICTURES = Path(batchrun.__file__).parents[1] / "docs" / "pictures"
MAX_BYTES = 200_000


def drawn(script: str, path: Path) -> Path:
    """Run a script of docs/pictures; return the picture that it wrote."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    subprocess.run([sys.executable, str(PICTURES / script), "-o", str(path)], env=environment, check=True, timeout=110)
    return path


def lines(picture: Path) -> list[str]:
    """Return the lines of a drawn terminal but the counts of the moment, with # for each number and for the bar."""
    by_height: dict[str, str] = {}
    for text in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text"):
        if height := text.get("y"):
            by_height[height] = by_height.get(height, "") + "".join(text.itertext()).replace("\xa0", " ")
    shown = (line.rstrip() for line in by_height.values() if "in flight" not in line)
    return [re.sub(r"[\d.,:]+( s\b| min\b)?|[━╸╺]+", "#", line) for line in shown]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_the_picture_of_the_display_is_what_a_terminal_shows(tmp_path: Path) -> None:
    """The committed picture shows the lines that a batch at a terminal writes, and asks nobody for a font."""
    committed = PICTURES / "display.svg"
    assert lines(drawn("display.py", tmp_path / "display.svg")) == lines(committed)
    assert any(line.startswith("$ batchrun run") for line in lines(committed))
    assert "url(http" not in committed.read_text(encoding="utf-8")


def test_the_picture_of_the_report_is_drawn_in_a_browser(tmp_path: Path) -> None:
    """The script makes a picture of the size of the committed one, which is small enough for a page."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    sizes = []
    for picture in (drawn("report.py", tmp_path / "report.png"), PICTURES / "report.png"):
        content = picture.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert 20_000 < len(content) < MAX_BYTES
        sizes.append(struct.unpack(">II", content[16:24]))
    assert sizes[0] == sizes[1]
