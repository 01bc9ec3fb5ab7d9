"""Opening a table: its format, its file, standard input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchrun.errors import InputError, OutputError
from batchrun.tables import ReadOptions, Source, open_source, validate

Open = Callable[..., Source]


@pytest.mark.parametrize("name", ["x", "x.md", "x.gz"])
def test_unknown_endings(table: Open, name: str) -> None:
    """An unknown file extension is refused with the list of known ones."""
    with pytest.raises(InputError, match=r"(unknown|no) file extension; expected \.csv, \.tsv, \.jsonl"):
        table("a\n1\n", name)


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is named as the user wrote it."""
    with pytest.raises(InputError, match=r"nowhere\.csv: no such file"):
        open_source(tmp_path / "nowhere.csv", ReadOptions())


@pytest.mark.parametrize("name", ["folder.csv", "folder.parquet"])
def test_folder(tmp_path: Path, name: str) -> None:
    """The message for an empty folder states that it is one, whatever its name is."""
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="the folder has no files"):
        open_source(tmp_path / name, ReadOptions())


def test_pipe(tmp_path: Path) -> None:
    """A named pipe, which can be read only once, is refused at once."""
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match="not a regular file"):
        open_source(tmp_path / "pipe.csv", ReadOptions())


def test_name_too_long(tmp_path: Path) -> None:
    """A path that the system refuses gives one line too."""
    with pytest.raises(InputError, match="too long"):
        open_source(tmp_path / ("x" * 300 + ".csv"), ReadOptions())


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"),
    [
        ("x.tsv", b"a\tb\n1\t2\n", ReadOptions(delimiter=";"), "the delimiter of TSV is the tab"),
        ("x.jsonl", b'{"a":1}\n', ReadOptions(delimiter=";"), "--delimiter is for .csv only"),
        ("x.parquet", b"PAR1", ReadOptions(encoding="cp1252"), "--encoding is for text formats only"),
    ],
)
def test_options_without_meaning(
    tmp_path: Path, name: str, content: bytes, options: ReadOptions, expected: str
) -> None:
    """An option that does not apply to the format is refused, not ignored."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=expected):
        open_source(tmp_path / name, options)


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input is copied byte for byte, can be read again, and other users cannot read the copy."""
    content = "q;n\r\nfråga;1\r\n".encode("cp1252")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    spool = tmp_path / "new" / "spool"
    source = open_source("-", ReadOptions(encoding="cp1252"), spool=spool)
    assert source.name == "standard input"
    assert [dict(row.values) for row in source.rows()] == [{"q": "fråga", "n": "1"}]
    assert validate(source) == 1
    assert spool.read_bytes() == content
    assert spool.stat().st_mode & 0o077 == 0
    assert [path.name for path in spool.parent.iterdir()] == ["spool"]


def test_standard_input_of_a_process(tmp_path: Path) -> None:
    """Input that another process pipes in arrives completely."""
    code = (
        "import sys; from pathlib import Path; from batchrun.tables import *;"
        "print(validate(open_source('-', ReadOptions(), spool=Path(sys.argv[1]))))"
    )
    text = "id,q\n" + "".join(f"{i},what?\n" for i in range(20_000))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "spool")], input=text, text=True, capture_output=True, check=True
    )
    assert done.stdout == "20000\n"


@pytest.mark.parametrize("stream", [io.TextIOWrapper(io.BytesIO(b"")), None])
def test_no_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: io.TextIOWrapper | None) -> None:
    """The message for empty or closed standard input names it."""
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(InputError, match=r"standard input: is (empty|closed)"):
        open_source("-", ReadOptions(), spool=tmp_path / "spool")


def test_spool_is_needed() -> None:
    """Standard input without a spool is a bug of the caller."""
    with pytest.raises(ValueError, match="spool"):
        open_source("-", ReadOptions())


def test_spool_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool that cannot be written is an error of the output, in one line."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n1\n")))
    with pytest.raises(OutputError, match="cannot be written"):
        open_source("-", ReadOptions(), spool=tmp_path / "file" / "spool")


def test_fingerprint_of_a_file(table: Open, tmp_path: Path) -> None:
    """The same file has the same fingerprint in every folder; other content or another name changes it."""
    source = table("a\n1\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "in.csv").write_text("a\n1\n")
    moved = open_source(tmp_path / "sub" / "in.csv", ReadOptions())
    before = source.fingerprint()
    assert moved.fingerprint() == before
    assert table("a\n1\n", "other.csv").fingerprint() != before
    assert table("a\n2\n").fingerprint() != before


def test_cheap_import() -> None:
    """Importing the package imports neither pandas nor Arrow."""
    code = "import sys, batchrun.tables; print({'pandas', 'pyarrow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout == "set()\n"
