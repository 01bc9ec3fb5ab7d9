"""Fixtures of the tests of the Batch API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.foreign_batch_api import ForeignBatchApi


@pytest.fixture
def service() -> Iterator[ForeignBatchApi]:
    """Return a running service with a Batch API."""
    with ForeignBatchApi() as running:
        yield running
