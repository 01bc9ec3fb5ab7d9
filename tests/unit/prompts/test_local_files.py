"""Local files: patterns, cells, and files that are refused before anything is sent."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import InputError
from batchrun.prompts.attachments import AttachmentError, Attachments, is_url, kind_of
from batchrun.prompts.local_files import MAX_FILE_BYTES, matching_files
from batchrun.records import Attachment


def written(folder: Path, **contents: str) -> Path:
    """Write files by name (double underscores are slashes, single ones dots)."""
    for name, text in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# -- patterns ---------------------------------------------------------------------------------------------------


def test_patterns_find_files_sorted_and_once(tmp_path: Path) -> None:
    """Files are sorted by path, whatever the order of the patterns, and each content is returned once."""
    written(tmp_path, docs__b_md="two", docs__a_md="one", docs__c_md="one", docs__deep__d_txt="three")
    found = matching_files(["docs/**/*.txt", "docs/*.md", "docs/a.md"], tmp_path)
    assert [str(file.path.relative_to(tmp_path)) for file in found] == ["docs/a.md", "docs/b.md", "docs/deep/d.txt"]
    assert (found[0].sha256, found[0].size) == (sha("one"), 3)


def test_a_folder_stands_for_all_below_it(tmp_path: Path) -> None:
    """The name of a folder matches every file in it except hidden ones."""
    written(tmp_path, docs__a_md="one", docs__deep__er__b_md="two", docs___hidden="three")
    (tmp_path / "docs" / ".git").mkdir()
    (tmp_path / "docs" / ".git" / "config").write_text("four")
    assert [file.path.name for file in matching_files(["docs"], tmp_path)] == ["a.md", "b.md"]


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path: Path) -> None:
    """A file called `notes [1].md` is found by its name."""
    (tmp_path / "notes [1].md").write_text("x")
    assert [file.path.name for file in matching_files(["notes [1].md"], tmp_path)] == ["notes [1].md"]


def test_an_absolute_pattern_is_one(tmp_path: Path) -> None:
    """An absolute pattern does not start from the folder."""
    written(tmp_path, a_md="x")
    assert len(matching_files([f"{tmp_path}/*.md"], Path("/"))) == 1


@pytest.mark.parametrize("pattern", ["*.pdf", "missing.md", "docs/*", "empty"])
def test_a_pattern_without_files_is_named(tmp_path: Path, pattern: str) -> None:
    """A pattern without matches stops the batch; the message has the pattern and the folder."""
    written(tmp_path, a_md="x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        matching_files(["*.md", pattern], tmp_path)
    assert str(caught.value) == f"--file-search {pattern}: matches no file in {tmp_path}"


def test_files_that_no_service_takes_are_refused(tmp_path: Path) -> None:
    """Empty files and files that are too large are refused by size, with the pattern that matched them."""
    (tmp_path / "void.md").touch()
    with pytest.raises(InputError, match=r"^--file-search \*\.md: .*void\.md: is empty; services do not accept empty"):
        matching_files(["*.md"], tmp_path)
    sparse(tmp_path / "big.bin", MAX_FILE_BYTES + 1)
    with pytest.raises(InputError, match=r"has 536,870,913 bytes; services accept at most 536,870,912$"):
        matching_files(["big.bin"], tmp_path)


# -- cells ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [None, "", "  \n ", math.nan, [], "[]", [""]])
def test_an_empty_cell_attaches_nothing(tmp_path: Path, cell: Any) -> None:
    """Rows with an empty cell have no attachment."""
    assert Attachments().of_cell(cell, tmp_path) == ()


def test_a_path_is_an_image_or_a_file(tmp_path: Path) -> None:
    """The file extension decides the kind; the content is identified by its hash."""
    written(tmp_path, photo_PNG="png", report_pdf="pdf")
    of_cell = Attachments().of_cell
    assert of_cell("photo.PNG", tmp_path) == (Attachment("photo.PNG", "image", sha("png")),)
    assert of_cell(str(tmp_path / "report.pdf"), Path("/")) == (
        Attachment(str(tmp_path / "report.pdf"), "file", sha("pdf")),
    )
    assert of_cell(Path("report.pdf"), tmp_path) == (Attachment("report.pdf", "file", sha("pdf")),)


@pytest.mark.parametrize(
    "cell",
    ["a.png\nb c.md\n", "a.png\r\n  b c.md", '["a.png", "b c.md"]', ["a.png", "b c.md", "a.png"], ("a.png", "b c.md")],
)
def test_a_cell_with_several(tmp_path: Path, cell: Any) -> None:
    """Several sources, one per line or as a list, are kept in order, each once."""
    (tmp_path / "a.png").write_text("a")
    (tmp_path / "b c.md").write_text("b")
    assert [each.source for each in Attachments().of_cell(cell, tmp_path)] == ["a.png", "b c.md"]


def test_a_path_may_begin_with_a_bracket(tmp_path: Path) -> None:
    """Text that is not a JSON list is a path."""
    (tmp_path / "[draft] a.md").write_text("a")
    assert Attachments().of_cell("[draft] a.md", tmp_path)[0].source == "[draft] a.md"


def test_a_url_is_passed_on(tmp_path: Path) -> None:
    """Services fetch URLs themselves: as an image by default, or by the file extension if there is one."""
    of_cell = Attachments().of_cell
    assert of_cell("https://example.org/photos/7?w=200", tmp_path) == (
        Attachment("https://example.org/photos/7?w=200", "image", None),
    )
    assert of_cell("http://example.org/a.pdf?x=b.png", tmp_path)[0].kind == "file"


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("missing.png", "'missing.png': no such file in "),
        ("a.png;b.png", "write several paths one per line, or as a JSON list"),
        (".", "is a folder; expected a file"),
        ("a.md/b.md", "cannot be read (not a directory)"),
        ("void.md", "is empty; services do not accept empty files"),
        ("big.bin", "has 536,870,913 bytes; services accept at most 536,870,912"),
        ("pipe", "is not a regular file"),
        ("ftp://example.org/a.png", "is not the URL of a file; expected one such as https://…"),
        ("https://", "is not the URL of a file"),
        ("https://exa mple.org/a.png", "is not the URL of a file"),
        ("file:///etc/passwd", "is not the URL of a file"),
        (7, "expected a path or a URL, not int"),
        ({"a": 1}, "expected a path or a URL, not dict"),
        (["a.md", 3.5], "expected a path or a URL, not float"),
        ("a\0.md", "a path cannot contain a NUL character"),
        ("x" * 5000, "cannot be read (file name too long)"),
    ],
)
def test_what_cannot_be_attached_fails_its_row(tmp_path: Path, cell: Any, words: str) -> None:
    """Any unusable cell gives one line that names it."""
    written(tmp_path, a_md="x", void_md="")
    sparse(tmp_path / "big.bin", MAX_FILE_BYTES + 1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AttachmentError) as caught:
        Attachments().of_cell(cell, tmp_path)
    assert words in str(caught.value)
    assert str(caught.value).startswith("attachment ")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """A file without read permission fails its row, and stops a batch that searches it."""
    (written(tmp_path, a_md="x") / "a.md").chmod(0)
    with pytest.raises(AttachmentError, match=r"^attachment 'a\.md': cannot be read \(permission denied\)$"):
        Attachments().of_cell("a.md", tmp_path)
    with pytest.raises(InputError, match=r"a\.md: cannot be read \(permission denied\)$"):
        matching_files(["*"], tmp_path)


def test_a_changed_file_is_another_content(tmp_path: Path) -> None:
    """A file that changes while the batch reads its table is hashed again."""
    attachments = Attachments()
    path = written(tmp_path, a_md="before") / "a.md"
    before = attachments.of_cell("a.md", tmp_path)[0]
    path.write_text("behind")
    os.utime(path, ns=(1, 1))
    assert attachments.of_cell("a.md", tmp_path)[0].sha256 == sha("behind") != before.sha256


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(JSON | JSON.map(json.dumps))
def test_any_cell_attaches_or_fails_its_row(cell: Any) -> None:
    """No cell of a table raises any other error."""
    trouble = "one line"
    found: tuple[Attachment, ...] = ()
    try:
        found = Attachments().of_cell(cell, Path("/nowhere"))
    except AttachmentError as error:
        trouble = str(error)
    assert len(trouble.splitlines()) == 1
    assert all(each.sha256 is None for each in found)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("a.jpg", "image"),
        ("a.JPEG", "image"),
        ("a.webp", "image"),
        ("a.gif", "image"),
        ("a.tiff", "file"),
        ("a.svg", "file"),
        ("a", "file"),
        ("a.md", "file"),
        ("https://example.org/a.xlsx", "file"),
        ("https://example.org/a", "image"),
    ],
)
def test_kinds(source: str, kind: str) -> None:
    """Image types of models are images; everything else is a file."""
    assert kind_of(source) == kind


def test_urls() -> None:
    """Only URLs that a service can fetch count as URLs."""
    assert is_url("https://example.org")
    assert not is_url("https://[")
