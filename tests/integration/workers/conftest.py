"""A Ray cluster, and a bucket at a server of S3, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.object_store import ObjectStore, bucket_of, serving
from tests.support.ray_cluster import HeadAndNodes, cluster


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[HeadAndNodes]:
    """A cluster of two nodes, each with one CPU."""
    with cluster(nodes=2) as found:
        yield found


@pytest.fixture
def server() -> Iterator[ObjectStore]:
    """A server of S3."""
    with serving() as server:
        yield server


@pytest.fixture
def bucket(server: ObjectStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A bucket of this test as a file system."""
    return bucket_of(server, monkeypatch, request.node.nodeid)
