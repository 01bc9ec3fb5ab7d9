"""Citations in answers."""

from __future__ import annotations

import pytest

from batchrun.server.execution.citations import MarkReader

SOURCES = {"0:1": "file-a", "1:0": "file-b"}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
@pytest.mark.parametrize(
    ("text", "expected", "files"),
    [
        ("plain", "plain", []),
        ("a【0:1†n】b【1:0†n】", "ab", [(1, "file-a"), (2, "file-b")]),
        ("【9:9†n】【0:1†n】", "【9:9†n】", [(7, "file-a")]),
        ("open 【0:1†n", "open 【0:1†n", []),
        ("【【0:1†n】】", "【】", [(1, "file-a")]),
        ("【" + "x" * 1000 + "【0:1†n】", "【" + "x" * 1000, [(1001, "file-a")]),
    ],
)
def test_marks_are_taken_out_wherever_the_text_is_cut(
    text: str, expected: str, files: list[tuple[int, str]], size: int
) -> None:
    """Marks of results become positions of files, whatever the pieces; every other text is kept."""
    reader, kept, found = MarkReader(), "", []
    for start in range(0, len(text), size):
        for before, file_id in reader.take(text[start : start + size], SOURCES):
            kept += before
            if file_id is not None:
                found.append((len(kept), file_id))
    assert kept + reader.rest() == expected
    assert found == files
