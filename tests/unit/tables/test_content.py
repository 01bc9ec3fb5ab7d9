"""A file is what its first bytes say: compression, formats under another name, and files that are not tables."""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS
from batchrun.tables import ReadOptions, Source, WriteOptions, open_source, write_table
from batchrun.tables.source import notes_of

Open = Callable[..., Source]
CSV = b"id,q\n1,What?\n"
CELLS = [["1", "What?"]]


def archive(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return content.getvalue()


def zipped(data: bytes) -> bytes:
    return archive({"q.csv": data})


def zstd(data: bytes) -> bytes:
    compressed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return compressed


def table_bytes(kind: str) -> bytes:
    made = pa.table({"id": ["1"], "q": ["What?"]})
    content = io.BytesIO()
    if kind == "parquet":
        pyarrow.parquet.write_table(made, content)
    elif kind == "stream":
        with pa.ipc.new_stream(content, made.schema) as stream:
            stream.write_table(made)
    else:
        pyarrow.feather.write_feather(made, content)
    return content.getvalue()


def case_id(value: object) -> str:
    """The id of a case: compressed bytes differ from run to run."""
    return value if isinstance(value, str) else type(value).__name__


def rows(source: Source) -> list[list[Any]]:
    return [list(row.values.values()) for row in source.rows()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv.gz", gzip.compress(CSV)),
        ("q.csv.zst", zstd(CSV)),
        ("q.csv.zst", zstd(CSV[:5]) + zstd(CSV[5:])),
        ("q.csv.xz", lzma.compress(CSV)),
        ("q.csv.zip", archive({"q.csv": CSV})),
        ("q.zip", archive({"folder/q.csv": CSV, "__MACOSX/folder/._q.csv": b"x"})),
        ("q.tsv.zst", zstd(CSV.replace(b",", b"\t"))),
        ("q.jsonl.xz", lzma.compress(b'{"id": "1", "q": "What?"}\n')),
        ("q.feather", table_bytes("feather")),
        ("q.arrow", table_bytes("feather")),
        ("q.arrow", table_bytes("stream")),
        ("q.CSV.GZ", gzip.compress(CSV)),
    ],
    ids=case_id,
)
def test_formats(table: Open, name: str, content: bytes) -> None:
    """Compressed text, archives of one file and Arrow files are read like plain CSV, and need no note."""
    source = table(content, name)
    assert rows(source) == CELLS
    assert notes_of(source) == ()
    assert len(source.fingerprint()) == 64


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("q.csv", gzip.compress(CSV), "compressed with gzip"),
        ("q.csv.gz", CSV, "not compressed"),
        ("q.csv.gz", zstd(CSV), "compressed with zstd"),
        ("q.csv", table_bytes("parquet"), "a Parquet file"),
        ("q.xlsx", table_bytes("parquet"), "a Parquet file"),
        ("q.parquet", table_bytes("feather"), "an Arrow file"),
        ("q.dat", table_bytes("feather"), "an Arrow file"),
        ("q.dat", table_bytes("stream"), "an Arrow file"),
    ],
    ids=case_id,
)
def test_a_wrong_name(table: Open, name: str, content: bytes, expected: str) -> None:
    """A file under a wrong name is read as what it is, and a line says so."""
    source = table(content, name)
    assert rows(source) == CELLS
    (note,) = notes_of(source)
    assert f"{name}: is {expected}" in note


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504


@pytest.mark.parametrize("name", ["q.csv", "q.xlsx", "q.parquet", "q.unknown"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (OLE + "Workbook".encode("utf-16-le"), r"Excel 97\); save it as \.xlsx"),
        (OLE + "EncryptedPackage".encode("utf-16-le"), "with a password"),
        (archive({"mimetype": b"application/vnd.oasis.opendocument.spreadsheet"}), "OpenDocument"),
        (archive({"[Content_Types].xml": b"", "word/document.xml": b""}), "not a workbook"),
        (archive({"a.csv": CSV, "b.csv": CSV}), r"2 files \(a\.csv, b\.csv\)"),
        (archive({"folder/": b""}), "no file"),
        (b"PK\x05\x06" + b"\0" * 18, "empty zip"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<!DOCTYPE html><table><tr><td>1", "HTML"),
        (b"\xef\xbb\xbf \n<html><body>", "HTML"),
        (b'<?xml version="1.0"?><Workbook/>', "XML"),
        (gzip.compress(b"%PDF-1.7"), "PDF"),
        (gzip.compress(table_bytes("parquet")), "a Parquet file in compressed form"),
        (gzip.compress(gzip.compress(CSV)), "contains another compressed file"),
        (b"SQLite format 3\0", "SQLite"),
        (b"BZh91AY", "bzip2"),
    ],
    ids=case_id,
)
def test_files_that_are_not_tables(table: Open, name: str, content: bytes, expected: str) -> None:
    """Other formats are refused by their real name, whatever the name of the file is."""
    with pytest.raises(InputError, match=expected) as caught:
        table(content, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [8, 20])
def test_a_stream_that_is_cut_off(table: Open, cut: int) -> None:
    """A stream of Arrow without its end is refused, since the rows before the cut may not be all."""
    with pytest.raises(InputError, match="is not an Arrow file or is damaged"):
        rows(table(table_bytes("stream")[:-cut], "q.arrow"))


@pytest.mark.parametrize("name", ["q.parquet", "q.feather", "q.xlsx"])
def test_text_under_the_name_of_a_binary_format(table: Open, name: str) -> None:
    """Text is not read as Parquet, Arrow or Excel; --format reads it."""
    with pytest.raises(InputError, match="text or damaged"):
        table(CSV, name)
    assert rows(table(CSV, name, format="csv")) == CELLS


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstd,
    "xz": lzma.compress,
    "zip": zipped,
}


@pytest.mark.parametrize("damage", [slice(0, -9), slice(0, 20)])
@pytest.mark.parametrize("ending", ["gz", "zst", "xz", "zip"])
def test_damaged_files(table: Open, ending: str, damage: slice) -> None:
    """A file that is cut off is refused in one line."""
    data = CSV + b"".join(b"%d,text of row %d\n" % (i, i * 7919) for i in range(5_000))
    compress = COMPRESS[ending]
    with pytest.raises(InputError, match=rf"q\.csv\.{ending}: (is a damaged|cannot be read)") as caught:
        list(table(compress(data)[damage], f"q.csv.{ending}").rows())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b'[{"a": 1, "b": {"c": [2]}},\n {"a": 3}]', b'{"a": 1,\n "b": {"c": [2]}}\n{"a": 3}\n']
)
@pytest.mark.parametrize("name", ["q.json", "q.jsonl", "q.ndjson"])
def test_json_documents(table: Open, tmp_path: Path, name: str, content: bytes) -> None:
    """An array and objects over several lines are read by their content, and written with the text they had."""
    source = table(content, name)
    assert rows(source) == [[1, {"c": [2]}], [3, None]]
    assert next(source.rows()).line == 1
    for ending in ("jsonl", "json"):
        cells = ({**dict.fromkeys(OUTPUT_COLUMNS), "response": "x"} for _ in range(2))
        assert write_table(tmp_path / f"out.{ending}", source, cells, WriteOptions()) == 2
        written = open_source(tmp_path / f"out.{ending}", ReadOptions())
        assert [each[:3] for each in rows(written)] == [[1, {"c": [2]}, "x"], [3, None, "x"]]
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 2


def test_lines(table: Open) -> None:
    """A .txt file has a prompt on each line; blank lines are skipped, and spaces are kept."""
    source = table(b"What is 1+1?\r\n\r\n  two \n", "q.txt")
    assert source.columns == ("prompt",)
    assert [(row.line, row.values["prompt"]) for row in source.rows()] == [(1, "What is 1+1?"), (3, "  two ")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv", b"a,b\n"),
        ("q.csv", b"a,b\n\n\n"),
        ("q.json", b"[]"),
        ("q.txt", b"\n"),
        ("q.feather", None),
        ("q.parquet", None),
    ],
    ids=case_id,
)
def test_tables_without_rows(table: Open, tmp_path: Path, name: str, content: bytes | None) -> None:
    """A table without rows is read, and written with its header."""
    if content is None:
        made = pa.table({"a": pa.array([], pa.string())})
        write = pyarrow.parquet.write_table if name == "q.parquet" else pyarrow.feather.write_feather
        write(made, tmp_path / name)
        source = open_source(tmp_path / name, ReadOptions())
    else:
        source = table(content, name)
    assert rows(source) == []
    assert write_table(tmp_path / "out.csv", source, iter(()), WriteOptions()) == 0
    assert (tmp_path / "out.csv").read_text().startswith(",".join([*source.columns, "response,"]))
    assert (tmp_path / "out.csv").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", "今天天气怎么样？"),
        ("big5", "今天天氣怎麼樣？"),
        ("cp932", "東京の天気はどうですか"),
        ("cp1251", "Столица России"),
        ("cp1252", "Größe"),
        ("cp1250", "zażółć gęślą jaźń"),
        ("koi8_r", "Привет"),
        ("utf-16-le", "Größe"),
        ("utf-16-be", "Größe"),
    ],
)
def test_encodings_are_suggested(table: Open, encoding: str, text: str) -> None:
    """Text that is not UTF-8 is refused with the encodings that fit and the line in each; the right one is first."""
    content = f"id,q\n1,plain\n2,{text}\n".encode(encoding)
    with pytest.raises(InputError) as caught:
        list(table(content).rows())
    assert f"--encoding {encoding} reads '2,{text}'" in str(caught.value)
    assert str(caught.value).index("--encoding") == str(caught.value).index(f"--encoding {encoding}")


@pytest.mark.parametrize(
    ("encoding", "text"), [("euc_jp", "こんにちは元気ですか"), ("cp850", "Größe"), ("mac_roman", "Schöne Größe")]
)
def test_encodings_among_others(table: Open, encoding: str, text: str) -> None:
    """An encoding that is rarer than one that also fits is suggested after it."""
    with pytest.raises(InputError, match=f"--encoding {encoding} reads '{text}'"):
        table(f"q\n{text}\n".encode(encoding))


@pytest.mark.parametrize("name", ["q.csv", "q.tsv", "q.csv.gz"])
@pytest.mark.parametrize(
    "content", [b'[{"q": "What?"}]', b'\xef\xbb\xbf\n{ "q": "What?"}\n', b'[\n  {\n"q" : "What?"}\n]']
)
def test_json_under_the_name_of_a_csv(tmp_path: Path, name: str, content: bytes) -> None:
    """JSON is read as such whatever the name says, and a line says so; an option decides otherwise."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    source = open_source(path, ReadOptions())
    assert (source.columns, rows(source)) == (("q",), [["What?"]])
    assert notes_of(source) == (f"{path}: is JSON, whatever its name says, and is read as such",)
    if b"\n" not in content:
        assert open_source(path, ReadOptions(format="csv")).columns != ("q",)


def test_a_file_that_is_cut_off(table: Open) -> None:
    """UTF-8 up to an incomplete last character is called cut off, and no encoding is suggested."""
    with pytest.raises(InputError, match=r"line 2, byte 10 \(0xe9\): .*cut off") as caught:
        list(table(b"id,q\n1,xyz\xe9\x80").rows())
    assert "--encoding" not in str(caught.value)
