"""The output table: its content, and the state of the file after a failure."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import signal
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import BatchrunError, InputError, OutputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.tables import ReadOptions, Source, WriteOptions, check_output, expand, open_source, write_table
from batchrun.tables.sink import disarmed

Open = Callable[..., Source]
Outcomes = Callable[..., Iterator[dict[str, Any]]]
NAMES = ["out.csv", "out.tsv", "out.jsonl", "out.csv.gz", "out.parquet"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_csv_bytes(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """CSV is UTF-8 without byte order mark, lines end in LF, only cells that need quotes have them, None is empty."""
    source = table('a,b\n007,"x,y"\nNA,\n')
    cells = outcomes("é\r", 'say "hi"\n', prompt_tokens=3, cost_usd=0.5, parts={"k": ["é", None]}, ok=True)
    count = write_table(tmp_path / "out.csv", source, cells, WriteOptions(extra_columns={"parts": dict, "ok": bool}))
    assert count == 2
    tail = ',,,,,,,3,,,,,0.5,,,,"{""k"":[""é"",null]}",true\n'
    assert (tmp_path / "out.csv").read_bytes().decode() == (
        "a,b," + ",".join(OUTPUT_COLUMNS) + ",parts,ok\n"
        '007,"x,y","é\r"' + tail + 'NA,,"say ""hi""\n"' + tail
    )  # fmt: skip


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_csv_keeps_the_dialect_of_a_csv_input(
    tmp_path: Path, table: Open, outcomes: Outcomes, bom: str, line_end: str, delimiter: str
) -> None:
    """Delimiter, byte order mark, line ends and columns without a name are those of the input, unless options differ."""
    source = table(bom + line_end.join([f"a{delimiter}{delimiter}b", f"1{delimiter}2{delimiter}3", ""]))
    assert source.columns == ("a", "column_2", "b")
    write_table(tmp_path / "out.csv", source, outcomes("x"), WriteOptions())
    header, row, _ = (tmp_path / "out.csv").read_bytes().decode().split(line_end)
    assert header.startswith(bom + delimiter.join(["a", "", "b", "response", "status"]))
    assert row.startswith(delimiter.join(["1", "2", "3", "x"]))
    write_table(tmp_path / "out.csv", source, outcomes("x"), WriteOptions(delimiter="tab", bom=True))
    assert (tmp_path / "out.csv").read_bytes().decode().startswith("\ufeffa\t\tb\tresponse\t")
    write_table(tmp_path / "out.jsonl", source, outcomes("x"), WriteOptions())
    assert (tmp_path / "out.jsonl").read_text().startswith('{"a":"1","column_2":"2","b":"3","response":"x"')


@pytest.mark.parametrize("name", ["in.tsv", "in.tsv.gz", "in.tsv.xz"])
def test_a_tsv_gives_a_csv_with_commas(tmp_path: Path, table: Open, outcomes: Outcomes, name: str) -> None:
    """The tab of a TSV is not the delimiter of a CSV output, however the TSV is compressed."""
    content = b"a\tb\n1\t2\n"
    packed = {".tsv": content, ".gz": gzip.compress(content), ".xz": lzma.compress(content)}
    source = table(packed[Path(name).suffix], name)
    write_table(tmp_path / "out.csv", source, outcomes("x"), WriteOptions())
    assert (tmp_path / "out.csv").read_text().startswith("a,b,response,")


def test_tsv_and_gzip(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """The delimiter of TSV is the tab, and a gzipped table has the same bytes every time it is written."""
    source = table("a,b\n1,x y\n")
    write_table(tmp_path / "out.tsv", source, outcomes("t\tt"), WriteOptions())
    assert (tmp_path / "out.tsv").read_text().splitlines()[1].startswith('1\tx y\t"t\tt"\t')
    written = []
    for name in ("one.csv.gz", "two.csv.gz"):
        write_table(tmp_path / name, source, outcomes("r"), WriteOptions())
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert gzip.decompress(written[0]).decode().splitlines()[1].startswith("1,x y,r,")


def test_jsonl_keeps_the_text(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """A JSON row keeps its text: numbers keep every digit, no missing key is added, and the order is kept."""
    content = '{"n": 0.10, "big": 1e400}\n{ "long": 0.12345678901234567890 , "u": "\\ud800é" }\n{}\n'
    source = table(content, "in.jsonl")
    options = WriteOptions(prefix="o_", extra_columns={"s": float})
    write_table(tmp_path / "out.jsonl", source, outcomes("x", None, "\udc00", s=float("nan")), options)
    text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0].startswith('{"n": 0.10, "big": 1e400,"o_response":"x",')
    assert lines[1].startswith('{ "long": 0.12345678901234567890 , "u": "\\ud800é","o_response":null,')
    assert lines[2].startswith('{"o_response":"\\udc00",')
    for line in lines:
        assert list(json.loads(line))[-len(OUTPUT_COLUMNS) - 1 :] == ["o_" + key for key in (*OUTPUT_COLUMNS, "s")]
        assert json.loads(line)["o_s"] is None


def test_jsonl_keeps_the_text_of_repeated_rows(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """Each repetition of a row has the text of the row, followed by the columns of its combination."""
    source = expand(table('{"n": 0.10, "u": 1}\n{}\n', "in.jsonl"), [{"epoch": 1}, {"epoch": 2}])
    write_table(tmp_path / "out.jsonl", source, outcomes("a", "b", "c", "d"), WriteOptions())
    starts = ['{"n": 0.10, "u": 1,"epoch":1', '{"n": 0.10, "u": 1,"epoch":2', '{"epoch":1', '{"epoch":2']
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [line.partition(',"response"')[0] for line in lines] == starts
    assert [json.loads(line)["response"] for line in lines] == ["a", "b", "c", "d"]


def test_jsonl_from_csv(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """Text cells become JSON strings, numbers of the outcome stay numbers, and nothing is escaped unnecessarily."""
    write_table(tmp_path / "out.jsonl", table("a\n007\n"), outcomes("é\u2028", attempts=1), WriteOptions())
    (line,) = (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert line.startswith('{"a":"007","response":"é\u2028","status":null,')
    assert json.loads(line)["attempts"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_hostile_answers(tmp_path: Path, table: Open, outcomes: Outcomes, name: str) -> None:
    """Lone surrogates and NUL in an answer break no format, and the table can be read again."""
    write_table(tmp_path / name, table("a\n1\n"), outcomes("x\ud800\0y\r\n\u2028"), WriteOptions())
    (row,) = open_source(tmp_path / name, ReadOptions()).rows()
    expected = {
        "out.jsonl": "x\ud800\0y\r\n\u2028",
        "out.parquet": "x\\ud800\0y\r\n\u2028",
    }
    assert row.values["response"] == expected.get(name, "x\\ud800\\x00y\r\n\u2028")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+x", "'+x"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\nx", "'\nx"),
        ("＝1", "'＝1"),
        ("＋1", "'＋1"),
        ("－1", "'－1"),
        ("＠x", "'＠x"),
        ("-5+cmd|' /C calc'!A0", "'-5+cmd|' /C calc'!A0"),
        ("-", "'-"),
        ("+1.2.3", "'+1.2.3"),
        ("-5\n", "'-5\n"),
        ("-٣", "'-٣"),
        ("-5", "-5"),
        ("+3.2", "+3.2"),
        ("-.5e-3", "-.5e-3"),
        ("5=5", "5=5"),
        (" =1", " =1"),
        ("", ""),
        ("'=1", "'=1"),
    ],
)
def test_disarmed(text: str, expected: str) -> None:
    """Text that a spreadsheet might run gets an apostrophe; plain numbers and all other text are unchanged."""
    assert disarmed(text) == expected


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_cells_with_any_delimiter_are_quoted(tmp_path: Path, table: Open, outcomes: Outcomes, delimiter: str) -> None:
    """A program that splits at other delimiters than the file's, as LibreOffice does, still finds each answer whole."""
    source = table("id\n1\n2\n3\n")
    answers = ("a;=1+1", "b,c", "d\te")
    write_table(tmp_path / "out.csv", source, outcomes(*answers), WriteOptions(delimiter=delimiter))
    text = (tmp_path / "out.csv").read_text()
    assert all(f'"{answer}"' in text for answer in answers)


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl"])
def test_safe_csv(tmp_path: Path, table: Open, outcomes: Outcomes, name: str) -> None:
    """The option disarms text of input and answers in CSV and TSV; header, numbers and JSON are unchanged."""
    source = table("=head,b\n=1,-5\n")
    write_table(tmp_path / name, source, outcomes("@x", cost_usd=-0.5), WriteOptions(safe_csv=True))
    (row,) = open_source(tmp_path / name, ReadOptions()).rows()
    found = [str(row.values[key]) for key in ("=head", "b", "response", "cost_usd")]
    assert found == (["=1", "-5", "@x", "-0.5"] if name == "out.jsonl" else ["'=1", "-5", "'@x", "-0.5"])


@pytest.mark.parametrize(
    ("name", "words"),
    [("out.xlsx", "never a formula"), ("out.jsonl", "no spreadsheet"), ("out.parquet", "no spreadsheet")],
)
def test_safe_csv_is_refused_elsewhere(tmp_path: Path, table: Open, name: str, words: str) -> None:
    """The option is never ignored: an output of another format refuses it, with the reason."""
    with pytest.raises(InputError, match=f"{name}: --safe-csv is for .csv and .tsv only; leave it out: .*{words}"):
        check_output(tmp_path / name, table("a\n"), WriteOptions(safe_csv=True))


def test_the_options_that_a_format_has() -> None:
    """A table that is exported in another format leaves out the options of CSV."""
    options = WriteOptions(prefix="o_", safe_csv=True, delimiter=";", bom=True, parts=".csv")
    assert options.of_file(Path("a.csv")) == WriteOptions(prefix="o_", safe_csv=True, delimiter=";", bom=True)
    assert options.of_file(Path("a.tsv")) == WriteOptions(prefix="o_", safe_csv=True, bom=True)
    assert options.of_file(Path("a.xlsx")) == WriteOptions(prefix="o_")


def test_unsafe_without_the_option(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """Without the option every cell is written unchanged."""
    write_table(tmp_path / "out.csv", table("a\n=1\n"), outcomes("@x"), WriteOptions())
    (row,) = open_source(tmp_path / "out.csv", ReadOptions()).rows()
    assert (row.values["a"], row.values["response"]) == ("=1", "@x")


@pytest.mark.parametrize(
    ("header", "options", "clash"),
    [
        ("q,status,model", WriteOptions(), "'status', 'model'"),
        ("q,o_status", WriteOptions(prefix="o_"), "'o_status'"),
        ("q,score", WriteOptions(extra_columns={"score": float}), "'score'"),
        ("q", WriteOptions(extra_columns={"status": str}), "'status'"),
    ],
)
def test_clashing_names(table: Open, tmp_path: Path, header: str, options: WriteOptions, clash: str) -> None:
    """Columns that would occur twice are named, with the option that adds a prefix."""
    source = table(f"{header}\n{','.join('x' for _ in header.split(','))}\n")
    with pytest.raises(InputError, match=rf"in\.csv: the columns? {clash} .*--output-prefix"):
        check_output(tmp_path / "out.csv", source, options)


@pytest.mark.parametrize("name", NAMES)
def test_check_leaves_nothing(tmp_path: Path, table: Open, name: str) -> None:
    """The check of a good output creates the folder and leaves no file in it."""
    check_output(tmp_path / "new" / "folder" / name, table("status\nx\n"), WriteOptions(prefix="o_"))
    assert names(tmp_path / "new" / "folder") == []


def test_check_of_the_input_itself(tmp_path: Path, table: Open) -> None:
    """An output that is the input, even through a link, is refused."""
    source = table("a\n1\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "in.csv")
    for name in ("in.csv", "link.csv"):
        with pytest.raises(InputError, match="the output is the input file"):
            check_output(tmp_path / name, source, WriteOptions())


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        ("out.doc", InputError, "unknown file extension"),
        ("out.parquet.gz", InputError, "unknown file extension"),
        ("out.txt", InputError, r"only reads \.txt"),
        ("out.csv.zip", InputError, r"only reads \.csv\.zip"),
        ("folder.csv", OutputError, "is a folder; expected an output file"),
        ("device.csv", OutputError, "not a regular file"),
        ("in.csv/out.csv", OutputError, "cannot be written"),
        ("loop.csv", OutputError, "cannot be written"),
        ("y" * 300 + ".csv", OutputError, "cannot be written"),
        ("x" * 250 + "/" + "y" * 300 + ".csv", OutputError, "cannot be written"),
    ],
)
def test_impossible_outputs(
    tmp_path: Path, table: Open, outcomes: Outcomes, name: str, error: type[BatchrunError], expected: str
) -> None:
    """The check and the writer both refuse paths that cannot be written; devices are not replaced."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "device.csv").symlink_to("/dev/null")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    source = table("a\n1\n")
    for attempt in (
        lambda: check_output(tmp_path / name, source, WriteOptions()),
        lambda: write_table(tmp_path / name, source, outcomes("x"), WriteOptions()),
    ):
        with pytest.raises(error, match=expected) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_mode_is_kept(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """A private output stays private, and a new one gets the mode of any new file."""
    private, new, reference = tmp_path / "private.csv", tmp_path / "new.csv", tmp_path / "reference"
    private.write_text("old")
    private.chmod(0o640)
    reference.write_text("")
    for path in (private, new):
        write_table(path, table("a\n1\n"), outcomes("x"), WriteOptions())
    assert stat.S_IMODE(private.stat().st_mode) == 0o640
    assert new.stat().st_mode == reference.stat().st_mode


def test_links_are_followed(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """A symbolic link as output stays a link, and its target is replaced."""
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "target.csv"
    target.write_text("old")
    (tmp_path / "link.csv").symlink_to(target)
    write_table(tmp_path / "link.csv", table("a\n1\n"), outcomes("x"), WriteOptions())
    assert (tmp_path / "link.csv").is_symlink()
    assert target.read_text().splitlines()[1].startswith("1,x,")
    assert names(tmp_path / "real") == ["target.csv"]


def full_disk() -> Iterator[dict[str, Any]]:
    yield {**dict.fromkeys(OUTPUT_COLUMNS), "response": "x"}
    with open("/dev/full", "wb", buffering=0) as device:
        device.write(b"x")


@pytest.mark.parametrize("name", NAMES)
def test_full_disk(tmp_path: Path, table: Open, name: str) -> None:
    """A full disk gives one line with the place of the answers, and the old output is kept."""
    (tmp_path / name).write_text("old")
    with pytest.raises(OutputError, match=r"disk is full.*safe in the journal") as caught:
        write_table(tmp_path / name, table("a\n1\n2\n"), full_disk(), WriteOptions())
    assert "\n" not in str(caught.value)
    assert (tmp_path / name).read_text() == "old"
    assert names(tmp_path) == sorted(["in.csv", name])


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_may_not_grow(tmp_path: Path, table: Open, name: str) -> None:
    """If the system limits the size of files, the process ends with one clear line and keeps the old output."""
    code = (
        "import resource, sys; from pathlib import Path; from batchrun.tables import *\n"
        "from batchrun.errors import OutputError; from batchrun.records import OUTPUT_COLUMNS\n"
        "import random; draw = random.Random(1)\n"
        "cells = ({**dict.fromkeys(OUTPUT_COLUMNS), 'response': draw.randbytes(500).hex()} for _ in range(3000))\n"
        "source = open_source(sys.argv[1], ReadOptions())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "try: write_table(Path(sys.argv[2]), source, cells, WriteOptions())\n"
        "except OutputError as error: print(error)\n"
    )
    (tmp_path / name).write_text("old")
    table("a\n" + "1\n" * 3000)
    command = [sys.executable, "-X", "dev", "-c", code, str(tmp_path / "in.csv"), str(tmp_path / name)]
    done = subprocess.run(command, text=True, capture_output=True, check=True)
    assert "cannot be written (File too large); the answers are safe in the journal" in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert (tmp_path / name).read_text() == "old"
    assert names(tmp_path) == sorted(["in.csv", name])


def interrupted() -> Iterator[dict[str, Any]]:
    yield {**dict.fromkeys(OUTPUT_COLUMNS), "response": "x"}
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", NAMES)
def test_interrupted(tmp_path: Path, table: Open, name: str) -> None:
    """An interrupt during writing keeps the old output, leaves no other file and is raised again."""
    (tmp_path / name).write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_table(tmp_path / name, table("a\n1\n2\n"), interrupted(), WriteOptions())
    assert (tmp_path / name).read_text() == "old"
    assert names(tmp_path) == sorted(["in.csv", name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("given", [1, 3])
def test_numbers_must_match(tmp_path: Path, table: Open, outcomes: Outcomes, name: str, given: int) -> None:
    """One outcome too few or too many is a bug, and no output is written."""
    with pytest.raises(ValueError, match=r"zip|outcomes"):
        write_table(tmp_path / name, table("a\n1\n2\n"), outcomes(*"x" * given), WriteOptions())
    assert names(tmp_path) == ["in.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_keys_must_match(tmp_path: Path, table: Open, name: str) -> None:
    """An outcome without one of the columns is a bug, and no output is written."""
    with pytest.raises(KeyError):
        write_table(tmp_path / name, table("a\n1\n"), iter([{"response": "x"}]), WriteOptions())
    assert names(tmp_path) == ["in.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_killed(tmp_path: Path, table: Open, name: str) -> None:
    """A process that is killed while it writes leaves the old output unchanged."""
    code = (
        "import sys; from pathlib import Path; from batchrun.tables import *\n"
        "from batchrun.records import OUTPUT_COLUMNS\n"
        "def cells():\n"
        "    for number in range(3000):\n"
        "        if number == 2999: print('nearly', flush=True); sys.stdin.read()\n"
        "        yield {**dict.fromkeys(OUTPUT_COLUMNS), 'response': 'x' * 500}\n"
        "write_table(Path(sys.argv[2]), open_source(sys.argv[1], ReadOptions()), cells(), WriteOptions())\n"
    )
    (tmp_path / name).write_text("old")
    table("a\n" + "1\n" * 3000)
    command = [sys.executable, "-c", code, str(tmp_path / "in.csv"), str(tmp_path / name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "nearly\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / name).read_text() == "old"


def test_a_bad_row_leaves_the_output(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """An input that has become unreadable is an error of the input, and the old output is kept."""
    source = table("a,b\n1,2\n")
    table("a,b\n1,2\n3\n")
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(InputError, match="line 3"):
        write_table(tmp_path / "out.csv", source, outcomes("x", "y"), WriteOptions())
    assert (tmp_path / "out.csv").read_text() == "old"


def test_folder_without_permission(table: Open, tmp_path: Path) -> None:
    """A folder without write permission is found before the batch costs anything."""
    code = (
        "import os, sys; from pathlib import Path; from batchrun.tables import *\n"
        "from batchrun.errors import OutputError\n"
        "source = open_source(sys.argv[1], ReadOptions())\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"  # root may write anywhere
        "try: check_output(Path(sys.argv[2], 'out.csv'), source, WriteOptions())\n"
        "except OutputError as error: print(error)\n"
    )
    table("a\n1\n")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        command = [sys.executable, "-c", code, str(tmp_path / "in.csv"), folder]
        done = subprocess.run(command, text=True, capture_output=True, check=True)
    assert done.stdout == f"{folder}/out.csv: cannot be written (Permission denied)\n"


def test_carriage_returns_are_quoted(tmp_path: Path, table: Open, outcomes: Outcomes) -> None:
    """The lenient csv reader reads the cells that were written, including carriage returns."""
    write_table(tmp_path / "out.csv", table('a\n"x\ry"\n'), outcomes("p\r\rq"), WriteOptions())
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        _, row = csv.reader(file)
    assert row[:2] == ["x\ry", "p\r\rq"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("csv", "out.csv"),
        ("jsonl", "out.jsonl"),
        pytest.param("csv", "out.jsonl", marks=pytest.mark.nightly),
        pytest.param("csv", "out.csv.gz", marks=pytest.mark.nightly),
        pytest.param("jsonl", "out.csv", marks=pytest.mark.nightly),
        pytest.param("jsonl", "out.csv.gz", marks=pytest.mark.nightly),
    ],
)
def test_memory_does_not_grow(tmp_path: Path, table: Open, outcomes: Outcomes, name: str, kind: str) -> None:
    """A table of many times the memory that is allowed is read and written row by row."""
    text = "x" * 2000
    content = f"a,b\n{f'1,{text}{chr(10)}' * 8000}" if kind == "csv" else f'{{"a": "{text}"}}\n' * 8000
    source = table(content, f"in.{kind}")
    cells = ({**dict.fromkeys(OUTPUT_COLUMNS), "response": text} for _ in range(8000))
    tracemalloc.start()
    try:
        write_table(tmp_path / name, source, cells, WriteOptions())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(content) / 4
