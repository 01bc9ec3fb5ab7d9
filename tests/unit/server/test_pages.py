from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.server.errors import ApiError, StoreError
from batchrun.server.store import Database, Objects, Page
from batchrun.server.store.kinds import ITEM, THREAD


@contextmanager
def stored(count: int) -> Iterator[Objects]:
    database = Database(None)
    try:
        objects = Objects(database.connection)
        for number in range(count):
            objects.add(ITEM, "owner", {"id": f"msg_{number}", "created_at": 7}, parent="thread_1")
            objects.add(ITEM, "other", {"id": f"msg_other_{number}"}, parent="thread_1")
            objects.add(ITEM, "owner", {"id": f"msg_elsewhere_{number}"}, parent="thread_2")
        yield objects
    finally:
        database.close()


def read(objects: Objects, page: Page) -> tuple[list[str], bool]:
    listed = json.loads(objects.page(ITEM, "owner", page, parent="thread_1"))
    ids = [body["id"] for body in listed["data"]]
    assert listed["object"] == "list"
    assert listed["first_id"] == (ids[0] if ids else None)
    assert listed["last_id"] == (ids[-1] if ids else None)
    return ids, listed["has_more"]


@settings(deadline=None)
@given(count=st.integers(0, 12), limit=st.integers(1, 5), ascending=st.booleans())
def test_pages_forward_are_the_whole(count: int, limit: int, ascending: bool) -> None:
    """Following `after` from page to page gives every object once, in order, even with equal `created_at`."""
    with stored(count) as objects:
        whole = [f"msg_{number}" for number in range(count)]
        collected: list[str] = []
        after, more = None, True
        while more:
            ids, more = read(objects, Page(limit, "asc" if ascending else "desc", after=after))
            collected += ids
            after = ids[-1] if ids else None
        assert collected == (whole if ascending else whole[::-1])


@settings(deadline=None)
@given(count=st.integers(1, 12), limit=st.integers(1, 5), ascending=st.booleans())
def test_pages_backward_are_the_whole(count: int, limit: int, ascending: bool) -> None:
    """Following `before` from the last object gives every other object once, each page in the list's order."""
    with stored(count) as objects:
        whole = [f"msg_{number}" for number in range(count)]
        if not ascending:
            whole.reverse()
        collected: list[str] = []
        before, more = whole[-1], True
        while more:
            ids, more = read(objects, Page(limit, "asc" if ascending else "desc", before=before))
            collected = ids + collected
            before = ids[0] if ids else before
        assert collected == whole[:-1]


@settings(deadline=None)
@given(count=st.integers(2, 12), data=st.data(), ascending=st.booleans())
def test_between_two_cursors(count: int, data: st.DataObject, ascending: bool) -> None:
    """`after` and `before` together give the objects between them."""
    with stored(count) as objects:
        whole = [f"msg_{number}" for number in range(count)]
        if not ascending:
            whole.reverse()
        low, high = sorted(data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2)))
        ids, _ = read(objects, Page(100, "asc" if ascending else "desc", after=whole[low], before=whole[high]))
        assert ids == whole[low + 1 : high]


def test_a_cursor_of_another_list_is_refused() -> None:
    """A cursor that is not in this list is a 404, not an empty page."""
    with stored(2) as objects, pytest.raises(ApiError, match="No item found with id 'msg_elsewhere_0'"):
        objects.page(ITEM, "owner", Page(after="msg_elsewhere_0"), parent="thread_1")


def test_a_failed_transaction_leaves_nothing() -> None:
    """The writes of a failed transaction are undone."""
    database = Database(None)
    objects = Objects(database.connection)

    def add_twice() -> None:
        with database.transaction():
            objects.add(THREAD, "owner", {"id": "thread_1"})
            objects.add(THREAD, "owner", {"id": "thread_1"})

    with pytest.raises(sqlite3.IntegrityError):
        add_twice()
    assert objects.find(THREAD, "owner", "thread_1") is None
    database.close()


def test_a_full_disk_is_one_failed_transaction() -> None:
    """If the file cannot grow, the whole transaction fails, and the database remains usable."""
    database = Database(None)
    objects = Objects(database.connection)
    with database.transaction():
        objects.add(THREAD, "owner", {"id": "thread_1"})
    pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
    database.connection.execute(f"PRAGMA max_page_count = {pages}")

    def add_too_much() -> None:
        with database.transaction():
            objects.add(THREAD, "owner", {"id": "thread_2"})
            objects.add(THREAD, "owner", {"id": "thread_3", "metadata": "x" * 1_000_000})

    with pytest.raises(StoreError, match="the disk is full"):
        add_too_much()
    assert objects.find(THREAD, "owner", "thread_2") is None
    with database.transaction():
        objects.save({"id": "thread_1", "a": "b"})
    database.close()
