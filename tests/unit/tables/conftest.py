"""Fixtures for tables on a real disk and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.records import OUTPUT_COLUMNS
from batchrun.tables import ReadOptions, Source, open_source


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Source]:
    """Return a function that writes text or bytes to a file and opens it as a table."""

    def write_and_open(content: str | bytes, name: str = "in.csv", **options: Any) -> Source:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return open_source(path, ReadOptions(**options))

    return write_and_open


@pytest.fixture
def outcomes() -> Callable[..., Iterator[dict[str, Any]]]:
    """Return a function that yields one mapping per response, with further cells by name."""

    def cells(*responses: str | None, **others: Any) -> Iterator[dict[str, Any]]:
        for response in responses:
            yield {**dict.fromkeys(OUTPUT_COLUMNS), "response": response, **others}

    return cells
