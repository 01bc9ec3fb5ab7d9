"""Draws `docs/pictures/display.svg`, the terminal of a running batch: `python docs/pictures/display.py`.

The batch is real and runs at a pseudo-terminal. A server on this machine answers in place of a model. The picture shows
the display when more than half of the rows are done, and then the summary. Needs no network and no browser.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.script import ScriptResponder

COLUMNS = 96
ROWS = 600
SHARE_SHOWN = 60
"""Percentage of the rows that are done in the picture, at least."""

JOB = """
input = "reviews.csv"
output = "answers.csv"
prompt = "Is this review positive or negative? {{ review }}"
model = "house-model"
base_url = "URL"
api = "chat"
concurrency = 64
prices.house-model = { input = 0.25, output = 2.0 }
"""
ANSWERS = """
[[rule]]
pattern = "for 7 days"
fault = { code = "invalid_prompt", message = "the prompt was flagged" }

[default]
reply = "Positive: the writer would buy it again."
usage = { prompt_tokens = 60, completion_tokens = 110 }
delay_s = 0.4
"""
HIDE_CURSOR = "\x1b[?25l"
"""What rich writes before the first display."""
ERASE = re.compile(r"\r(?:\x1b\[2K|\x1b\[1A\x1b\[2K)+")
"""What rich writes to remove a display, before the next one and at the end."""


def recorded(command: list[str], folder: Path) -> str:
    """Return all that a command writes to a terminal."""
    ours, theirs = os.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": "24", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(command, cwd=folder, env=os.environ | size, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        written = b""
        while piece := _read(ours):
            written += piece
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux reports that the last process has closed the terminal
        return b""


def parts_shown(written: str) -> tuple[str, str, str]:
    """Return the lines before the display, the display once `SHARE_SHOWN` is reached, and the lines after it."""
    before, _, display = written.partition(HIDE_CURSOR)
    *drawn, after = ERASE.split(display)
    for frame in drawn:
        share = re.search(r"(\d+)%", frame)
        if share is not None and int(share[1]) >= SHARE_SHOWN:
            return before, frame, after
    raise SystemExit(f"the display never showed {SHARE_SHOWN} %:\n{written!r}")


def draw(path: Path) -> None:
    """Run the batch and write the picture of its terminal."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = "".join(f"{n},It works. I have had it for {n} days.\n" for n in range(ROWS))
        (folder / "reviews.csv").write_text(f"id,review\n{rows}", encoding="utf-8")
        (folder / "answers.toml").write_text(ANSWERS, encoding="utf-8")
        with EmbeddedServer(ServerSettings(), ScriptResponder(folder / "answers.toml")) as server:
            (folder / "reviews.toml").write_text(JOB.replace("URL", server.url), encoding="utf-8")
            written = recorded([sys.executable, "-m", "batchrun", "run", "reviews.toml"], folder)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print("[bold]$ batchrun run reviews.toml[/bold]", highlight=False)
    for part in parts_shown(written):
        # The decoder drops what the terminal has written over.
        lines = [line for line in AnsiDecoder().decode(part) if line.plain.strip()]
        for line in [Text(), *lines] if lines else []:
            console.print(line, soft_wrap=True)
    drawing = console.export_svg(title="batchrun", theme=MONOKAI, unique_id="display")
    # The picture asks no server for a font.
    path.write_text(re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("display.svg"))
    draw(parser.parse_args().output)
