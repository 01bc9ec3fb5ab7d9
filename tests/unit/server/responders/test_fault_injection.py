"""Fault plans: reproducible draws, and their faults in a responder's answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.server.responders.base import Conversation, Finish, Message, Part, ResponderError, TextDelta
from batchrun.server.responders.fault_injection import Fault, FaultPlan, FaultyResponder
from batchrun.server.responders.script import ScriptResponder
from batchrun.server.responders.settings_file import SettingsFileError

pytestmark = pytest.mark.anyio


def plan(folder: Path, text: str) -> FaultPlan:
    (folder / "faults.toml").write_text(text)
    return FaultPlan.load(folder / "faults.toml")


def asked(**metadata: str) -> Conversation:
    return Conversation("any", "", (Message("user", "x"),), metadata=metadata)


@pytest.fixture
def answering(tmp_path: Path) -> ScriptResponder:
    (tmp_path / "script.toml").write_text('[default]\nreply = "one two three"\n')
    return ScriptResponder(tmp_path / "script.toml")


def test_rate(tmp_path: Path) -> None:
    """A rate selects about that share of the requests, and the same ones for the same seed."""
    text = 'seed = {}\n[[fault]]\nkind = "http_500"\nrate = 0.25\n'
    first, again, other = (plan(tmp_path, text.format(seed)) for seed in (1, 1, 2))
    hits = [first.draw_http({}, n) is not None for n in range(4000)]
    assert 900 < sum(hits) < 1100
    assert hits == [again.draw_http({}, n) is not None for n in range(4000)]
    assert hits != [other.draw_http({}, n) is not None for n in range(4000)]


def test_rate_goes_by_row_where_it_is_known(tmp_path: Path) -> None:
    """With row and attempt in the metadata the order of the runs does not matter, and a retry has a new draw."""
    drawn = plan(tmp_path, '[[fault]]\nkind = "run_failed"\nrate = 0.5\n')
    rows = [{"row": str(n), "attempt": "1"} for n in range(200)]
    first = [drawn.draw_run(row, n) is not None for n, row in enumerate(rows)]
    assert first == [drawn.draw_run(row, 999 - n) is not None for n, row in enumerate(rows)]
    assert first != [drawn.draw_run({**row, "attempt": "2"}, n) is not None for n, row in enumerate(rows)]


def test_row_without_attempt_draws_by_sequence(tmp_path: Path) -> None:
    """Without an attempt in the metadata each request of a row has a new draw."""
    drawn = plan(tmp_path, '[[fault]]\nkind = "run_failed"\nrate = 0.5\n')
    assert len({drawn.draw_run({"row": "1"}, n) is None for n in range(50)}) == 2


def test_rows_and_attempts(tmp_path: Path) -> None:
    """Named rows get the fault, for the given number of attempts."""
    drawn = plan(
        tmp_path,
        'row_key = "line"\n[[fault]]\nkind = "run_failed"\ncode = "rate_limit_exceeded"\n'
        'rows = ["3"]\nattempts = 2\nmessage = "busy"\n',
    )
    expected = Fault("run_failed", code="rate_limit_exceeded", message="busy")
    assert drawn.draw_run({"line": "3"}, 0) == expected
    assert drawn.draw_run({"line": "3", "attempt": "2"}, 0) == expected
    assert drawn.draw_run({"line": "3", "attempt": "3"}, 0) is None
    assert drawn.draw_run({"line": "4"}, 0) is None
    assert drawn.draw_run({}, 0) is None


def test_first_entry_of_the_right_kind_wins(tmp_path: Path) -> None:
    """Requests and runs each draw from their own kinds, in the order of the file."""
    drawn = plan(
        tmp_path,
        '[[fault]]\nkind = "slow_start"\ndelay_s = 2\nrate = 1\n'
        '[[fault]]\nkind = "http_429"\nretry_after_s = 3\nrate = 1\n'
        '[[fault]]\nkind = "html"\nrate = 1\n',
    )
    assert drawn.draw("http", {}, 0) == Fault("http_429", retry_after_s=3)
    assert drawn.draw("run", {}, 0) == Fault("slow_start", delay_s=2)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.integers(0, 10**9))
@settings(deadline=None)
def test_any_metadata(metadata: dict[str, str], sequence: int) -> None:
    """A fault with rate 1 is drawn for any metadata."""
    path = Path(__file__).with_name("every_request.toml")
    assert FaultPlan.load(path).draw_http(metadata, sequence) == Fault("drop", after_deltas=3)


async def test_run_failed_in_the_middle(tmp_path: Path, answering: ScriptResponder) -> None:
    """run_failed sends `after_deltas` pieces, then fails with the planned code."""
    drawn = plan(tmp_path, '[[fault]]\nkind = "run_failed"\ncode = "rate_limit_exceeded"\nafter_deltas = 2\nrate = 1\n')
    seen: list[Part] = []

    async def listen() -> None:
        async for part in FaultyResponder(answering, drawn).respond(asked()):
            seen.append(part)

    with pytest.raises(ResponderError) as caught:
        await listen()
    assert (caught.value.code, caught.value.status_code) == ("rate_limit_exceeded", 429)
    assert seen == [TextDelta("one"), TextDelta(" two")]


async def test_run_failed_after_a_short_answer(tmp_path: Path, answering: ScriptResponder) -> None:
    """An answer with fewer pieces than `after_deltas` still fails, before it is finished."""
    drawn = plan(tmp_path, '[[fault]]\nkind = "run_failed"\nafter_deltas = 99\nrate = 1\n')
    seen: list[Part] = []

    async def listen() -> None:
        async for part in FaultyResponder(answering, drawn).respond(asked()):
            seen.append(part)

    with pytest.raises(ResponderError):
        await listen()
    assert len(seen) == 3


@pytest.mark.parametrize(("kind", "before"), [('kind = "slow_start"', 0), ('kind = "stall"\nafter_deltas = 2', 2)])
async def test_silence(tmp_path: Path, answering: ScriptResponder, kind: str, before: int) -> None:
    """slow_start is silent before the first piece, stall after `after_deltas`; a waiting client can cancel."""
    drawn = plan(tmp_path, f"[[fault]]\n{kind}\ndelay_s = 3600\nrate = 1\n")
    send, receive = anyio.create_memory_object_stream[Part](10)

    async def answer(parts: AsyncIterator[Part]) -> None:
        async for part in parts:
            await send.send(part)

    with send, receive:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, FaultyResponder(answering, drawn).respond(asked()))
            await anyio.wait_all_tasks_blocked()
            seen = [receive.receive_nowait() for _ in range(receive.statistics().current_buffer_used)]
            tasks.cancel_scope.cancel()
    assert len(seen) == before


async def test_answer_after_the_silence(tmp_path: Path, answering: ScriptResponder) -> None:
    """After a stall or a slow start the answer is complete, and other rows get no fault."""
    drawn = plan(
        tmp_path,
        '[[fault]]\nkind = "stall"\nafter_deltas = 1\ndelay_s = 0.001\nrows = ["1"]\n'
        '[[fault]]\nkind = "slow_start"\ndelay_s = 0.001\nrows = ["2"]\n',
    )
    responder = FaultyResponder(answering, drawn)
    for row in "123":
        parts = [part async for part in responder.respond(asked(row=row))]
        assert parts == [TextDelta("one"), TextDelta(" two"), TextDelta(" three"), Finish("stop")]
    assert (responder.name, responder.models) == ("script", ())
    await responder.aclose()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "key 'fault' is missing"),
        ("fault = []", "key 'fault': .*at least 1"),
        ('[[fault]]\nkind = "http_404"\nrate = 1', "fault 1: key 'kind'"),
        ('[[fault]]\nkind = "drop"', "give either 'rate' .* or 'rows'"),
        ('[[fault]]\nkind = "drop"\nrate = 1\nrows = ["1"]', "give either 'rate' .* or 'rows'"),
        ('[[fault]]\nkind = "drop"\nrate = 1.5', "fault 1: key 'rate'.*less than or equal to 1"),
        ('[[fault]]\nkind = "stall"\nrate = 1', "'delay_s' .* only for the kinds stall and slow_start"),
        ('[[fault]]\nkind = "drop"\nrate = 1\ndelay_s = 1', "'delay_s' .* only for the kinds"),
        ('[[fault]]\nkind = "html"\nrate = 1\nafter_deltas = 1', "'after_deltas' is allowed only for"),
        ('[[fault]]\nkind = "html"\nrate = 1\nretry_after_s = 1', "'retry_after_s' is allowed only for"),
        ('[[fault]]\nkind = "html"\nrate = 1\ncode = "server_error"', "'code' is allowed only for"),
        ('[[fault]]\nkind = "html"\nrows = [1]', "fault 1: key 'rows.0': .*string"),
        ('[[fault]]\nkind = "html"\nrat = 1', "fault 1: key 'rat' is unknown; known keys: kind, rate"),
    ],
)
def test_bad_plan(tmp_path: Path, text: str, message: str) -> None:
    """Every error in a plan is one line with file and key."""
    with pytest.raises(SettingsFileError, match=f"faults.toml: .*{message}") as caught:
        plan(tmp_path, text)
    assert "\n" not in str(caught.value)
