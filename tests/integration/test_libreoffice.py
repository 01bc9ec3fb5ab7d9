"""Outputs opened in LibreOffice: the right columns, umlauts, and no answer that runs as a formula.

Debian's package is `libreoffice-calc`. `soffice` converts each output to a flat spreadsheet, which is read back.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import batchrun
from tests.support.rows import write_csv

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(shutil.which("soffice") is None, reason="needs LibreOffice (Debian: libreoffice-calc)"),
]

ANSWERS = {
    "umlauts": "Grüße aus Köln: ß, é, 東京, 😀",
    "delimiters": "a,b;c\td|e",
    "quotes": 'say "hi", then; go',
    "lines": "one\ntwo\n\nfour",
    "carriage": "one\rtwo",
    "blanks": "  both sides  ",
    "formula": "=1+1",
    "link": '=HYPERLINK("http://127.0.0.1/?q="&A1,"click")',
    "command": "=cmd|' /C calc'!A0",
    "hidden": "\t=1+1",
    "behind": "x;=1+1",
    "at": "@SUM(1)",
    "plus": "+1+1",
    "control": "a\x01b\x1bc",
    "digits": "12345678901234567890",
    "zeros": "007",
    "date": "2026-01-02",
    "short date": "1/2/2026",
    "exponent": "1e5",
    "truth": "TRUE",
    "escape": "_x0041_",
    "long": "ä" * 5_000,
}
GUESSED = {"digits", "zeros", "date", "exponent"}
"""Answers that a spreadsheet reads as numbers or dates from CSV; only a workbook says that they are text."""
FORMULAS = {"formula", "link", "command"}

_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as LibreOffice has it: its type, its formula and the shown text."""

    kind: str | None
    formula: str | None
    text: str


def shown(paragraph: ET.Element) -> str:
    """Return the text of a paragraph."""
    text = paragraph.text or ""
    for part in paragraph:
        if part.tag == f"{_TEXT}s":
            text += " " * int(part.get(f"{_TEXT}c", "1"))
        else:
            text += {f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n"}.get(part.tag) or shown(part)
        text += part.tail or ""
    return text


def rows_of(path: Path) -> Iterator[list[Cell]]:
    """Yield the rows of a flat OpenDocument spreadsheet, without the blank end of each."""
    for row in ET.parse(path).iter(f"{_TABLE}table-row"):
        cells = []
        for cell in row:
            text = "\n".join(shown(paragraph) for paragraph in cell.findall(f"{_TEXT}p"))
            found = Cell(cell.get(f"{_OFFICE}value-type"), cell.get(f"{_TABLE}formula"), text)
            cells += [found] * min(100, int(cell.get(f"{_TABLE}number-columns-repeated", "1")))
        while cells and not cells[-1].text:
            cells.pop()
        if cells:
            yield cells


def opened(path: Path) -> dict[str, dict[str, Cell]]:
    """Return id → column → cell of a table that LibreOffice has opened.

    CSV is read as its import dialog proposes: UTF-8, cells separated by comma, semicolon or tab, types detected.
    """
    command = ["soffice", f"-env:UserInstallation=file://{path.parent}/profile", "--headless"]
    if path.suffix != ".xlsx":
        command.append("--infilter=CSV:44/59/9,34,76,1,,0,false,false")
    command += ["--convert-to", "fods", "--outdir", str(path.parent / "opened"), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    header, *rows = rows_of(path.parent / "opened" / f"{path.stem}.fods")
    names = [cell.text for cell in header]
    return {row[0].text: dict(zip(names, row, strict=False)) for row in rows}


def answered(folder: Path, name: str, *options: str) -> Path:
    """Run a batch whose answers are `ANSWERS`, and return its output."""
    rules = "".join(
        f"[[rule]]\npattern = {json.dumps(f'^ask {key}$')}\nreply = {json.dumps(answer, ensure_ascii=False)}\n"
        for key, answer in ANSWERS.items()
    )
    (folder / "s.toml").write_text(rules, encoding="utf-8")
    write_csv(folder / "q.csv", [{"schlüssel": key, "question": f"ask {key}"} for key in ANSWERS])
    done = batchrun(folder, "run", "q.csv", "--script", "s.toml", "-o", name, *options)
    assert done.returncode == 0, done.stderr
    return folder / name


def plain(text: str) -> str:
    """Return what a text looks like in a flat document: line ends are one character, control characters are gone."""
    return text.replace("\r", "\n").replace("\x01", "").replace("\x1b", "")


def test_a_workbook(tmp_path: Path) -> None:
    """In .xlsx every answer is text, exactly as the model wrote it, and counts are numbers."""
    table = opened(answered(tmp_path, "a.xlsx"))
    assert list(table) == list(ANSWERS)
    for key, answer in ANSWERS.items():
        cell = table[key]["response"]
        assert (cell.kind, cell.formula, plain(cell.text)) == ("string", None, plain(answer)), key
        assert (table[key]["status"].text, table[key]["prompt_tokens"].kind) == ("completed", "float")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.csv", ("--bom",)),
        ("a.csv", ("--output-delimiter", ";", "--bom")),
        ("a.csv", ("--output-delimiter", ";", "--safe-csv")),
        ("a.tsv", ("--safe-csv",)),
        ("a.csv", ("--safe-csv",)),
    ],
)
def test_delimited_text(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    """Every answer is in its own cell whatever it contains; with --safe-csv, none of them is a formula."""
    table = opened(answered(tmp_path, name, *options))
    assert list(table) == list(ANSWERS)
    is_safe = "--safe-csv" in options
    for key, answer in ANSWERS.items():
        cell, row = table[key]["response"], table[key]
        assert (row["status"].text, row["attempts"].text) == ("completed", "1"), key
        assert (cell.formula is not None) == (key in FORMULAS and not is_safe), key
        if key not in GUESSED and cell.formula is None:
            assert cell.text.removeprefix("'" if is_safe else "").strip() == plain(answer).strip(), key
