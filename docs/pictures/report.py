"""Draws `docs/pictures/report.png`, the page of a report: `python docs/pictures/report.py`.

The tutor answers `inputs/questions.csv` offline. Needs Chromium and no network.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

QUESTIONS = Path(__file__).parents[2] / "inputs" / "questions.csv"
WIDTH, HEIGHT = 1200, 664


def make_page(folder: Path) -> Path:
    """Run the batch and write its report."""
    shutil.copy(QUESTIONS, folder / "questions.csv")
    without_key = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    for command in (
        "run questions.csv -o answers.csv --key id --model tutor",
        "report answers.csv -o report.html --key id --target answer --scorer numeric --by topic",
    ):
        line = [sys.executable, "-m", "batchrun", *command.split()]
        subprocess.run(line, cwd=folder, env=without_key, check=True, capture_output=True)
    return folder / "report.html"


def draw(path: Path) -> None:
    """Write the picture of the page's first screen."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        report = make_page(Path(name))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(report.as_uri())
        page.wait_for_selector("svg")
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("report.png"))
    draw(parser.parse_args().output)
