"""The tools of a run: those of the batch and those of the row's files, each once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from batchrun.prompts.local_files import LocalFile
from batchrun.records import Attachment
from batchrun.services.files.row_files import RowFiles


class Store:
    """Uploads that only create a vector store."""

    async def vector_store(self, files: Sequence[LocalFile], *, name: str) -> str:
        return "vs_1"


def row_files(*, searched: Sequence[Any] = (), code_interpreter: bool = False) -> RowFiles:
    return RowFiles(
        cast("Any", Store()),
        cast("Any", None),
        folder=Path(),
        searched=searched,
        code_interpreter=code_interpreter,
        batch_id="b",
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("searched", "code_interpreter", "names"),
    [
        ([], False, []),
        ([], True, ["code_interpreter"]),
        (["file"], False, ["file_search"]),
        (["file"], True, ["file_search", "code_interpreter"]),
    ],
)
async def test_tools_of_a_batch(searched: list[str], code_interpreter: bool, names: list[str]) -> None:
    """A run has the tools that the batch asks for, on both protocols, and the store that is searched."""
    files = row_files(searched=searched, code_interpreter=code_interpreter)
    await files.prepare()
    assert [tool["type"] for tool in files.assistants_tools()] == names
    assert [tool["type"] for tool in files.responses_tools()] == names
    assert bool(files.searched_resources()) == bool(searched)


def test_tools_of_attachments_come_once() -> None:
    """A file in the thread brings the tool that reads it, once, whatever the batch asks for."""
    attached = (Attachment("a.md", "file"), Attachment("b.md", "file"))
    alone = row_files().assistants_tools(attached)
    assert len(alone) == 1
    assert row_files().assistants_tools() == []
