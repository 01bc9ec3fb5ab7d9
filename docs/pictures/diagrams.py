"""Draws the Mermaid blocks of the pages as `docs/pictures/diagram-*.svg`: `python docs/pictures/diagrams.py`.

Needs npm, which fetches Mermaid, and Chromium. The site shows these pictures, so that nobody needs either to read it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parents[1]
MERMAID = "mermaid@11.12"
BLOCK = re.compile(r"^```mermaid\n(.*?)\n```$", re.M | re.S)
DRAW = """async (code) => {
    mermaid.initialize({ startOnLoad: false, theme: 'neutral', fontFamily: 'sans-serif', deterministicIds: true,
                         flowchart: { htmlLabels: false, rankSpacing: 26, nodeSpacing: 30, padding: 10 } });
    const { svg } = await mermaid.render('diagram', code);
    const drawn = new DOMParser().parseFromString(svg, 'text/html').querySelector('svg');
    drawn.setAttribute('width', Math.ceil(drawn.viewBox.baseVal.width));
    drawn.removeAttribute('style');
    return new XMLSerializer().serializeToString(drawn);
}"""


def diagrams() -> dict[str, str]:
    """Return the picture's file name → the code, for every Mermaid block of the pages."""
    texts = [page.read_text(encoding="utf-8") for page in sorted(DOCS.rglob("*.md"))]
    codes = [code for text in texts for code in BLOCK.findall(text)]
    return {f"diagram-{hashlib.sha256(code.encode()).hexdigest()[:12]}.svg": code for code in codes}


def draw(folder: Path) -> None:
    """Write every diagram into the folder, and remove its other diagrams."""
    wanted = diagrams()
    for path in folder.glob("diagram-*.svg"):
        if path.name not in wanted:
            path.unlink()
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        subprocess.run(["npm", "pack", "--silent", MERMAID], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        [archive] = Path(scratch).glob("*.tgz")
        shutil.unpack_archive(archive, scratch, filter="data")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(path=str(Path(scratch, "package/dist/mermaid.min.js")))
        for name, code in wanted.items():
            (folder / name).write_text(page.evaluate(DRAW, code) + "\n", encoding="utf-8")
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--folder", type=Path, default=Path(__file__).parent)
    draw(parser.parse_args().folder)
