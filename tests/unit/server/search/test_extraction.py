"""Text extraction: real bytes of each format, and hostile files."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.server.search import extraction
from batchrun.server.search.extraction import ExtractionError, extract_text

needs_pypdf = pytest.mark.skipif(find_spec("pypdf") is None, reason="pypdf (extra `files`) is not installed")

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def docx(document: str, **parts: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", document)
        for name, content in parts.items():
            archive.writestr(f"word/{name}.xml", content)
    return buffer.getvalue()


def pdf(*lines: str) -> bytes:
    """Return a PDF of one page, written by hand according to ISO 32000-1, with its cross-reference table."""
    shown = "".join(f"({line}) Tj 0 -20 Td " for line in lines)
    stream = f"BT /F1 12 Tf 72 720 Td {shown}ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return data + b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        table,
        len(data),
    )


@pytest.mark.parametrize(
    ("filename", "data", "expected"),
    [
        ("a.txt", "Grüße\r\nzwei".encode(), "Grüße\nzwei"),
        ("a.md", b"# Title\n\ntext", "# Title\n\ntext"),
        ("a", "\ufeffbom".encode(), "bom"),
        ("a.txt", "sechzehn".encode("utf-16"), "sechzehn"),
        ("a.txt", "zweiunddreißig".encode("utf-32"), "zweiunddreißig"),
        ("a.py", b"print(1)", "print(1)"),
        ("a.csv", b'name,age\n"Ann, B",5\nCid,\n', "name: Ann, B; age: 5\nname: Cid"),
        ("a.csv", "name;alter\nJörg;5;extra\n".encode(), "name: Jörg; alter: 5; column 3: extra"),
        ("a.tsv", b"x\ty\n1\t2\n", "x: 1; y: 2"),
        ("a.csv", b"only,header\n", "only,header"),
        ("a.json", '{"a": [1, "ü"]}'.encode(), '{\n "a": [\n  1,\n  "ü"\n ]\n}'),
        (
            "A.HTML",
            b"<html><head><title>T</title><style>p{}</style></head><body><h1>Head</h1>"
            b"<p>one <b>two</b>\n three &amp; four</p><script>bad()</script><table><tr><td>a<td>b</tr></table>",
            "T\nHead\none two three & four\na\tb",
        ),
        ("a.htm", b"<head><meta charset=latin-1><body>Gr\xfc\xdfe", "Grüße"),
        ("a.html", b"just text", "just text"),
        ("a.html", b"1 < 2 <!-- no --> &lt;3 <?x?><br/>next<svg><text>no</text></SVG>end<a href=", "1 < 2 <3\nnextend"),
        (
            "a.docx",
            docx(
                f"<w:document {W}><w:body><w:p><w:r><w:t>one</w:t><w:tab/><w:t> two</w:t></w:r></w:p>"
                f"<w:p><w:del><w:delText>gone</w:delText></w:del><w:t>three</w:t></w:p></w:body></w:document>",
                footnotes=f"<w:footnotes {W}><w:p><w:t>note</w:t></w:p></w:footnotes>",
            ),
            "one\t two\nthree\nnote",
        ),
        ("a.json", b'"a \\ud800"', '"a ?"'),
        pytest.param("a.pdf", pdf("Hello world", "line two"), "Hello world\nline two", marks=needs_pypdf),
    ],
)
def test_text_of_each_format(filename: str, data: bytes, expected: str) -> None:
    """The text of each format has no markup, and its structure becomes lines."""
    assert extract_text(filename, data) == expected


BILLION_LAUGHS = (
    f'<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><w:document {W}><w:p><w:t>&b;</w:t></w:p></w:document>'
)


@pytest.mark.parametrize(
    ("filename", "data", "message"),
    [
        ("a.txt", b"", "contains no text"),
        ("a.txt", b" \n\t", "contains no text"),
        ("a.txt", b"ab\xffc", "byte 2 is not UTF-8 text; save it as UTF-8"),
        ("a.bin", b"ab\0c", "is not text, and its format is unknown"),
        ("a.json", b"{", "is not valid JSON"),
        ("a.json", b"[" * 100_000, "is not valid JSON"),
        ("a.csv", b'a\n"' + b"x" * 200_000, "line . is not valid CSV"),
        ("a.docx", b"PK nonsense", "damaged or protected Word document"),
        ("a.docx", docx(f"<w:document {W}><w:p>"), "damaged or protected Word document"),
        ("a.docx", docx(BILLION_LAUGHS), "contains a document type declaration"),
        ("a.html", b"<meta charset=klingon>\xff", "unknown encoding 'klingon'"),
        ("a.html", b"<meta charset=idna>\xff", "unknown encoding 'idna'"),
        ("a.html", b"<meta charset=undefined>\xff", "unknown encoding 'undefined'"),
        ("a.html", b"<meta charset=unicode_escape>\xff", "unknown encoding 'unicode_escape'"),
        ("a.html", b"<meta charset=hex>\xff", "unknown encoding 'hex'"),
        pytest.param("a.pdf", b"%PDF-1.4 nonsense", "is a damaged PDF", marks=needs_pypdf),
        pytest.param("a.pdf", pdf(), "contains no text; scanned pages", marks=needs_pypdf),
    ],
)
def test_unusable_files(filename: str, data: bytes, message: str) -> None:
    """A file without usable text is refused in one line with its name and the reason."""
    with pytest.raises(ExtractionError, match=f"^{filename}: .*{message}") as caught:
        extract_text(filename, data)
    assert "\n" not in str(caught.value)


def test_an_archive_that_is_not_a_document() -> None:
    """Another kind of archive with the name of a Word document is refused."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("hello.txt", "hi")
    with pytest.raises(ExtractionError, match="is not a Word document"):
        extract_text("a.docx", buffer.getvalue())


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["<", "<!--", "<!", "<a ", "</", "&", "<script>", '<a b="', "<svg></head>", "<b> ", "<td> "]
)
def test_hostile_markup_is_bounded(piece: str) -> None:
    """The time for markup that never ends is proportional to its length (here milliseconds)."""
    try:
        extract_text("a.html", piece.encode() * 100_000 + b"x")
    except ExtractionError:
        pass


@pytest.mark.timeout(20)
def test_a_wide_header_is_read_once() -> None:
    """The time for a CSV depends on its cells, not on its rows times the columns of its header."""
    assert len(extract_text("a.csv", b"," * 100_000 + b"\n" + b"x\n" * 100_000)) == 399_999


def test_zip_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small archive that unpacks to a large size is refused early, whether the size is text or markup."""
    text = docx(f"<w:document {W}><w:p><w:t>{'A' * 21_000_000}</w:t></w:p></w:document>")
    assert len(text) < 100_000
    with pytest.raises(ExtractionError, match="more than 20,000,000 bytes"):
        extract_text("a.docx", text)
    # The real limit is 200 MB, which takes seconds to pack.
    monkeypatch.setattr(extraction, "MAX_XML_BYTES", 1_000_000)
    markup = docx(f"<w:document {W}>{' ' * 2_000_000}</w:document>")
    with pytest.raises(ExtractionError, match="unpacks to more than"):
        extract_text("a.docx", markup)


def test_too_much_text() -> None:
    """More text than the protocol allows is refused."""
    with pytest.raises(ExtractionError, match="more than 20,000,000 bytes"):
        extract_text("a.txt", b"a" * (extraction.MAX_TEXT_BYTES + 1))


def test_missing_library_is_named() -> None:
    """Without pypdf a PDF is refused; the error names the extra to install."""
    program = (
        "import sys; sys.modules['pypdf'] = None\n"
        "from batchrun.server.search.extraction import extract_text\n"
        "try: extract_text('a.pdf', b'%PDF')\n"
        "except ValueError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'batchrun-llm[files]'" in run.stdout


@given(
    st.sampled_from(["a.html", "a.csv", "a.json", "a.docx", "a.txt"]),
    st.binary(max_size=300) | st.text(alphabet='<>/"=a;,\n&{}[]:!-', max_size=300).map(str.encode),
)
@settings(deadline=None)
def test_any_bytes(filename: str, data: bytes) -> None:
    """Any bytes give a text or an ExtractionError."""
    try:
        assert extract_text(filename, data)
    except ExtractionError:
        pass
