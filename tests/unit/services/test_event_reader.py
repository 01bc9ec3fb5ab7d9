"""Server-sent events from bytes, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.services.wire import EventReader


def read(*chunks: bytes, kept: tuple[str, ...] = ()) -> list[tuple[str, bytes]]:
    reader = EventReader(kept)
    return [event for chunk in chunks for event in reader.feed(chunk)]


names = st.sampled_from(["thread.run.created", "thread.message.delta", "error", "x"])
# No line ends inside: a frame's lines are joined by the test.
texts = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=12)
frames = st.lists(st.tuples(names, st.lists(texts, min_size=1, max_size=3)), max_size=6)


@given(frames, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 400), max_size=12), st.data())
def test_any_split_gives_the_same_events(
    events: list[tuple[str, list[str]]], newline: str, cuts: list[int], data: st.DataObject
) -> None:
    """The events are the same wherever the bytes are cut, and whatever ends their lines."""
    lines: list[str] = []
    for name, texts in events:
        lines += [data.draw(st.sampled_from([": ping", "retry: 3", "id: 7"])), f"event: {name}"]
        lines += [f"data: {text}" for text in texts] + [""]
    # One more comment: a CR that ends the bytes may be half of a CRLF, so what it ends comes with the next byte.
    raw = (newline.join(lines) + newline + ": end").encode()
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    chunks = [raw[start:end] for start, end in pairwise(edges)]
    wanted = [(name, "\n".join(texts).encode()) for name, texts in events]
    assert read(*chunks) == wanted


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_garbage_does_not_crash(chunks: list[bytes]) -> None:
    """Any bytes give events or nothing, and the same as in one piece."""
    assert read(*chunks) == read(b"".join(chunks))


def test_byte_by_byte_equals_whole() -> None:
    """Single bytes give the same events as one piece, even with CRLF split in the middle."""
    raw = b"event: a\r\ndata: 1\r\n\r\n: ping\r\n\r\nevent: b\r\ndata: 2\r\ndata: 3\r\n\r\n"
    assert read(*(raw[n : n + 1] for n in range(len(raw)))) == read(raw) == [("a", b"1"), ("b", b"2\n3")]


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: x\n\n", [("message", b"x")]),
        (b"data:x\n\n", [("message", b"x")]),
        (b"data:  x\n\n", [("message", b" x")]),
        (b"data\n\n", [("message", b"")]),
        (b"event: a\n\n", []),
        (b": only a comment\n\n", []),
        (b"\n\n\n\ndata: x\n\n\n", [("message", b"x")]),
        (b"data: x\nevent: late\n\n", [("late", b"x")]),
        (b"data: a: b\n\n", [("message", b"a: b")]),
        (b"data: never ended", []),
        (b"event: \xff\ndata: x\n\n", [("�", b"x")]),
    ],
)
def test_the_standards_corners(raw: bytes, events: list[tuple[str, bytes]]) -> None:
    """Optional spaces, comments, events without data and incomplete events are read as the standard requires."""
    assert read(raw) == events


@pytest.mark.parametrize("kept", [(), ("a",)])
def test_a_byte_order_mark_hides_no_event(kept: tuple[str, ...]) -> None:
    """A byte order mark before the first event is passed over, wherever it is cut; a later one is a character."""
    raw = b"\xef\xbb\xbfevent: a\ndata: 1\n\nevent: a\ndata: \xef\xbb\xbf2\n\n"
    wanted = [("a", b"1"), ("a", b"\xef\xbb\xbf2")]
    assert read(*(raw[n : n + 1] for n in range(len(raw))), kept=kept) == read(raw, kept=kept) == wanted


def test_only_kept_events_are_decoded_however_they_are_written() -> None:
    """Events are dropped by name, even if the name is not on the first line."""
    raw = b"event: no\ndata: 1\n\nevent: yes\ndata: 2\n\nid: 1\nevent: yes\ndata: 3\n\nevent:yes\ndata: 4\n\n"
    assert [data for name, data in read(raw, kept=("yes",)) if name == "yes"] == [b"2", b"3", b"4"]
    assert ("no", b"1") not in read(raw, kept=("yes",))


def test_a_name_is_not_a_prefix() -> None:
    """Keeping `thread.run.created` does not keep `thread.run.created.late`."""
    assert read(b"event: thread.run.created.late\ndata: 1\n\n", kept=("thread.run.created",)) == []


def test_an_event_in_small_pieces_is_read_in_one_go() -> None:
    """The time per piece does not grow with the event: a piece is appended to the earlier ones."""

    reader = EventReader()
    kept = reader._rest
    piece, pieces = b"x" * 100, 20_000
    for chunk in [b"data: ", *[piece] * pieces]:
        assert list(reader.feed(chunk)) == []
        assert reader._rest is kept
    assert list(reader.feed(b"\n\n")) == [("message", piece * pieces)]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_returned_with_its_last_byte(newline: bytes) -> None:
    """A blank line, cut anywhere, ends its event without waiting for more bytes."""
    raw = b"data: 1" + newline * 2
    assert read(*(raw[n : n + 1] for n in range(len(raw)))) == read(raw) == [("message", b"1")]
