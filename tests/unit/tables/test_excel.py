"""Excel workbooks: what is read from the sheets that people have, and what is written."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from openpyxl.workbook.workbook import Workbook

from batchrun.errors import InputError, OutputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.tables import ReadOptions, Source, WriteOptions, header_refusal, open_source, write_table
from batchrun.tables.source import notes_of
from batchrun.tables.values import ErrorCell


@pytest.fixture
def book(tmp_path: Path) -> Callable[..., Source]:
    """Return a function that fills and saves a workbook, and opens it as a table."""

    def save_and_open(fill: Callable[[Workbook], None], **options: Any) -> Source:
        made = openpyxl.Workbook()
        fill(made)
        made.save(tmp_path / "q.xlsx")
        return open_source(tmp_path / "q.xlsx", ReadOptions(**options))

    return save_and_open


def rows(source: Source) -> list[list[Any]]:
    return [list(row.values.values()) for row in source.rows()]


def sheet_of(*lines: list[Any]) -> Callable[[Workbook], None]:
    def fill(made: Workbook) -> None:
        sheet = made.active
        assert sheet is not None
        for line in lines:
            sheet.append(line)

    return fill


def test_values(book: Callable[..., Source]) -> None:
    """Whole numbers have no fraction, dates are ISO text, escapes of Excel are characters, and empty cells are None."""
    source = book(
        sheet_of(
            ["id", "q", "when", "day", "ok", "share", "time", "none"],
            [
                1.0,
                "a_x000D_\nb _x0041_",
                dt.datetime(2026, 1, 2, 3, 4),
                dt.date(2026, 1, 2),
                True,
                0.5,
                dt.time(3, 4),
                None,
            ],
            [2**40, "x", None, None, False, 2.0, None, ""],
        )
    )
    assert rows(source) == [
        [1, "a\nb A", "2026-01-02T03:04:00", "2026-01-02", True, 0.5, "03:04:00", None],
        [2**40, "x", None, None, False, 2, None, None],
    ]
    assert [type(cell) for cell in rows(source)[0]] == [int, str, str, str, bool, float, str, type(None)]


def test_dates_of_1904(book: Callable[..., Source]) -> None:
    """A workbook with the date system of 1904 has the same dates."""

    def fill(made: Workbook) -> None:
        made.epoch = CALENDAR_MAC_1904
        sheet_of(["day"], [dt.date(2026, 1, 2)])(made)

    assert rows(book(fill)) == [["2026-01-02"]]


def test_blank_rows_and_formatted_cells_are_nothing(book: Callable[..., Source]) -> None:
    """Rows and columns that are only formatted do not count, and a row keeps its number."""

    def fill(made: Workbook) -> None:
        sheet_of([], ["id", "q"], [], [1, "one"], [2, "two"])(made)
        assert made.active is not None
        for coordinate in ("A400", "K2", "K400"):
            made.active[coordinate].number_format = "0.00"

    source = book(fill)
    assert source.columns == ("id", "q")
    assert [(row.line, list(row.values.values())) for row in source.rows()] == [(4, [1, "one"]), (5, [2, "two"])]


def test_the_sheet_is_named(book: Callable[..., Source]) -> None:
    """The first visible sheet with cells is read. A line names it, the others, hidden rows and merged cells."""

    def fill(made: Workbook) -> None:
        made.create_sheet("Hidden")["A1"] = "no"
        made["Hidden"].sheet_state = "hidden"
        data = made.create_sheet("Data")
        for line in (["q", "a"], ["one", 1], ["two", 2]):
            data.append(line)
        data.row_dimensions[3].hidden = True
        data.merge_cells("A4:B4")
        data["A4"] = "merged"
        made.create_sheet("Later")["A1"] = "q"

    source = book(fill)
    assert rows(source) == [["one", 1], ["two", 2], ["merged", None]]
    sheet, hidden, merged = notes_of(source)
    assert "'Data'" in sheet
    assert "'Hidden' (hidden), 'Later'" in sheet
    assert "1 hidden row is read" in hidden
    assert "A4:B4" in merged
    assert rows(book(fill, sheet="Later")) == []
    with pytest.raises(
        InputError, match="there is no sheet 'later'; the sheets are 'Sheet', 'Hidden', 'Data', 'Later'"
    ):
        book(fill, sheet="later")


def test_nothing_is_said_about_an_ordinary_workbook(book: Callable[..., Source]) -> None:
    """A workbook of one sheet needs no note."""
    assert notes_of(book(sheet_of(["q"], ["one"]))) == ()


def test_titles_above_the_header(book: Callable[..., Source]) -> None:
    """Rows of one cell above a full header are not part of the table, and a line names them; --skip-rows decides else."""
    lines = (["Report"], [None], ["of today"], ["id", "question", "note"], [1, "a", "b"])
    source = book(sheet_of(*lines))
    assert (source.columns, rows(source)) == (("id", "question", "note"), [[1, "a", "b"]])
    assert notes_of(source)[0].endswith("the rows above the header are not part of the table: 'Report', 'of today'")
    assert book(sheet_of(*lines), skip_rows=0).columns == ("Report", "column_2", "column_3")
    assert book(sheet_of(["id", None, None], [1, "a", "b"], [2, "c", "d"])).columns == ("id", "column_2", "column_3")
    assert book(sheet_of(["question", None], ["a", "b"])).columns == ("question", "column_2")


def test_a_list_without_a_header(book: Callable[..., Source]) -> None:
    """A sheet of prompts without a header does not lose its first prompt: it is refused with the way out."""
    prompts = sheet_of([None], ["What is 2+2?"], ["What is 3+3?"])
    refusal = header_refusal(book(prompts))
    assert "'What is 2+2?', would be the name of the column; if it is a prompt, add --no-header" in refusal
    assert "add --skip-rows 2;" in refusal
    assert header_refusal(book(prompts, no_header=True)) == header_refusal(book(sheet_of(["text"], ["a"]))) == ""


def test_a_formula_without_a_value(book: Callable[..., Source]) -> None:
    """A formula that no program has calculated is refused with its cell."""
    with pytest.raises(
        InputError, match=r"sheet 'Sheet', cell B2: the formula has no stored value; open .* save it once"
    ):
        book(sheet_of(["q", "n"], ["one", "=1+1"]))


def patched(path: Path, old: str, new: str, *, name: str = "sheet1", prefix: str = "") -> None:
    """Replace a text in the XML of the sheet, whose file gets a name and whose elements get a prefix."""
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each).decode() for each in archive.namelist()}
    sheet = members["xl/worksheets/sheet1.xml"]
    assert old in sheet
    sheet = sheet.replace(old, new)
    if prefix:
        sheet = re.sub(r"<(/?)(?=\w)", rf"<\1{prefix}:", sheet).replace("xmlns=", f"xmlns:{prefix}=")
    members["xl/worksheets/sheet1.xml"] = sheet
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in members.items():
            archive.writestr(each.replace("sheet1", name), text if text is sheet else text.replace("sheet1", name))


@pytest.mark.parametrize("how", [{}, {"name": "Tab1"}, {"prefix": "x"}], ids=["usual", "other name", "prefix"])
def test_formulas_of_other_programs(book: Callable[..., Source], tmp_path: Path, how: dict[str, str]) -> None:
    """Whatever the sheet's file and its elements are called, a formula without a value is refused, and a stored empty
    text, as Excel has it for `=IF(A2="","",A2)`, is an empty cell."""
    path = tmp_path / "q.xlsx"
    for stored, is_known in (('<c r="B2"><f>1+1</f><v/></c>', False), ('<c r="B2" t="str"><f>""</f><v></v></c>', True)):
        book(sheet_of(["q", "n"], ["one", 77]))
        patched(path, '<c r="B2" t="n"><v>77</v></c>', stored, **how)
        if is_known:
            assert rows(open_source(path, ReadOptions())) == [["one", None]]
        else:
            with pytest.raises(InputError, match="cell B2: the formula has no stored value"):
                open_source(path, ReadOptions())


def test_error_cells_stay_as_text(book: Callable[..., Source], tmp_path: Path) -> None:
    """`#N/A` is the text that people see, marked as an error, and is written as text."""

    def fill(made: Workbook) -> None:
        sheet_of(["q"], ["#N/A"], ["#N/A"])(made)
        assert made.active is not None
        made.active["A2"].data_type = "e"
        made.active["A3"].data_type = "s"

    source = book(fill)
    assert rows(source) == [["#N/A"], ["#N/A"]]
    assert [isinstance(cell, ErrorCell) for (cell,) in rows(source)] == [True, False]
    for ending in ("csv", "jsonl", "parquet"):
        write_table(tmp_path / f"out.{ending}", source, cells("x", "y"), WriteOptions())
        assert [line[:2] for line in rows(open_source(tmp_path / f"out.{ending}", ReadOptions()))] == [
            ["#N/A", "x"],
            ["#N/A", "y"],
        ]


def test_an_empty_workbook(book: Callable[..., Source]) -> None:
    """A workbook without cells is refused."""
    with pytest.raises(InputError, match="no visible sheet has cells"):
        book(lambda _: None)


def test_columns_without_a_name(book: Callable[..., Source]) -> None:
    """A column with cells and without a name gets one, with a note."""
    source = book(sheet_of([None, "q"], [7, "one"]))
    assert source.columns == ("column_1", "q")
    assert "column 1 has no name" in notes_of(source)[0]


@pytest.mark.parametrize("damage", [slice(0, 3_000), slice(0, -30)])
def test_a_damaged_workbook(book: Callable[..., Source], tmp_path: Path, damage: slice) -> None:
    """A workbook that is cut off is refused in one line."""
    book(sheet_of(["q"], *([f"row {i}"] for i in range(500))))
    path = tmp_path / "q.xlsx"
    path.write_bytes(path.read_bytes()[damage])
    with pytest.raises(InputError, match=r"q\.xlsx: is a damaged") as caught:
        open_source(path, ReadOptions())
    assert "\n" not in str(caught.value)


def cells(*responses: str | None) -> Any:
    return ({**dict.fromkeys(OUTPUT_COLUMNS), "response": each, "prompt_tokens": 7} for each in responses)


TEXTS = ["=SUM(A1)", "ä 天", "a\nb", "a\r\nb", "\a\x1f\ufffe", "_x0041_", "+1", "#N/A", "", "a\rb"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Text is never a formula or an error, control characters and Excel's escapes come back, numbers stay numbers."""
    (tmp_path / "q.csv").write_text("q\n" + "x\n" * len(TEXTS))
    source = open_source(tmp_path / "q.csv", ReadOptions())
    assert write_table(tmp_path / "out.xlsx", source, cells(*TEXTS), WriteOptions()) == len(TEXTS)
    written = open_source(tmp_path / "out.xlsx", ReadOptions())
    assert written.columns == ("q", *OUTPUT_COLUMNS)
    responses = [row.values["response"] for row in written.rows()]
    assert responses == [text.replace("\r\n", "\n") or None for text in TEXTS]
    assert not any(isinstance(each, ErrorCell) for each in responses)
    assert {row.values["prompt_tokens"] for row in written.rows()} == {7}
    raw = openpyxl.load_workbook(tmp_path / "out.xlsx").active
    assert raw is not None
    assert {cell.data_type for row in raw.iter_rows() for cell in row} <= {"s", "n", "inlineStr"}


def test_what_excel_cannot_hold(tmp_path: Path) -> None:
    """An answer longer than a cell is refused with its row and column and another format; the old file is kept."""
    (tmp_path / "q.csv").write_text("q\nx\ny\n")
    source = open_source(tmp_path / "q.csv", ReadOptions())
    write_table(tmp_path / "out.xlsx", source, cells("a", "b"), WriteOptions())
    before = (tmp_path / "out.xlsx").read_bytes()
    with pytest.raises(
        OutputError, match=r"row 3, column 'response': 32,768 characters, .*\.csv, \.jsonl or \.parquet"
    ):
        write_table(tmp_path / "out.xlsx", source, cells("a", "b" * 32_768), WriteOptions())
    with pytest.raises(OutputError, match="32,770 characters"):  # Excel counts units of UTF-16
        write_table(tmp_path / "out.xlsx", source, cells("a", "\U0001f600" * 16_385), WriteOptions())
    assert (tmp_path / "out.xlsx").read_bytes() == before


def test_without_openpyxl(tmp_path: Path) -> None:
    """Without the extra, reading and writing Excel are refused with the command that installs it."""
    openpyxl.Workbook().save(tmp_path / "q.xlsx")
    (tmp_path / "q.csv").write_text("q\nx\n")
    code = (
        "import sys; sys.modules['openpyxl'] = None\n"
        "from pathlib import Path; from batchrun.errors import InputError\n"
        "from batchrun.tables import *\n"
        "for work in (lambda: open_source('q.xlsx', ReadOptions()),\n"
        "             lambda: check_output(Path('out.xlsx'), open_source('q.csv', ReadOptions()), WriteOptions())):\n"
        "    try: work()\n"
        "    except InputError as exc: print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == [
        f"{name}: Excel needs openpyxl; pip install 'batchrun-llm[excel]'" for name in ("q.xlsx", "out.xlsx")
    ]
