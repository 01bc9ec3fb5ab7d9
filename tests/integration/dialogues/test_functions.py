"""Functions that the model calls: their outputs, their failures, and batches killed during calls."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tests.integration.dialogues.bench import MODES, READ, Bench, each_mode, each_protocol, opened

TOOLS = '''
"""Functions for a batch."""

import anyio
import time
from pathlib import Path

FOLDER = Path({folder!r})


def double(x: int) -> int:
    """Doubles."""
    return 2 * x


async def later(x: int) -> str:
    """Comes later."""
    await anyio.sleep(0.01)
    return f"later {{x}}"


def broken() -> str:
    """Never works."""
    raise ValueError("no luck")


def slow(x: int) -> str:
    """Takes as long as the file `hold` is there."""
    with (FOLDER / "calls").open("a") as calls:
        calls.write(f"{{x}}\\n")
    while (FOLDER / "hold").exists():
        time.sleep(0.005)
    return f"slow {{x}}"


def changing() -> str:
    """Returns something else each time."""
    return str(time.time_ns())
'''


def with_tools(bench: Bench, mode: str, *more: str) -> tuple[str, ...]:
    """Return the options of a batch with functions."""
    (bench.folder / "tools.py").write_text(TOOLS.format(folder=str(bench.folder)), encoding="utf-8")
    return (*MODES[mode], "--tools", "tools.py", *more)


def calls_of(bench: Bench) -> list[str]:
    """Return the arguments of the calls of `slow`, in order."""
    try:
        return (bench.folder / "calls").read_text().split()
    except FileNotFoundError:
        return []


@each_mode
def test_functions_are_called(bench: Bench, mode: str) -> None:
    """Sync and async functions are called together and in rounds; the outputs keep the order of the calls."""
    bench.ask(
        'call double {"x": 4} & later {"x": 5} then both: <outputs>',
        'call double {"x": 1} then call double {"x": 2} then call later {"x": 3} then last: <outputs>',
        "none: <outputs>",
    )
    summary = bench.resumed(*with_tools(bench, mode))
    rows = bench.rows()
    assert [row["response"] for row in rows] == ["both: 8 and later 5", "last: later 3", "none: "]
    assert [(row["tool_calls"], row["tool_errors"]) for row in rows] == [("2", "0"), ("3", "0"), ("0", "0")]
    assert (summary["tool_calls"], summary["tool_errors"]) == (5, 0)
    tokens = [int(row["prompt_tokens"]) for row in rows]
    assert tokens == [2 * READ, 4 * READ, READ]
    assert bench.responder.asked_twice() == []


@each_protocol
def test_calls_that_go_wrong(bench: Bench, mode: str) -> None:
    """The model gets a message about a failed call and answers; the row and the summary count the failure."""
    bench.ask(
        "call broken then <outputs>",
        'call double {"y": 1} & double {"x": 1} then <outputs>',
        "call double no json then <outputs>",
    )
    summary = bench.resumed(*with_tools(bench, mode))
    broken, wrong, unreadable = bench.rows()
    assert broken["response"] == '{"error": "ValueError: no luck"}'
    assert "x: missing" in wrong["response"]
    assert wrong["response"].endswith(" and 2")
    assert "double was not called" in unreadable["response"]
    counts = [(row["tool_calls"], row["tool_errors"]) for row in bench.rows()]
    assert counts == [("1", "1"), ("2", "1"), ("1", "1")]
    assert (summary["tool_calls"], summary["tool_errors"]) == (4, 3)


def test_an_unknown_function(bench: Bench) -> None:
    """If the model calls an unknown function, the output lists the available ones."""
    bench.ask("call nonsense then <outputs>")
    bench.resumed(*with_tools(bench, "chat"))
    (row,) = bench.rows()
    assert "there is no function 'nonsense'" in row["response"]
    assert (row["tool_calls"], row["tool_errors"]) == ("1", "1")


@each_protocol
def test_a_function_that_takes_too_long(bench: Bench, mode: str) -> None:
    """`--tool-timeout` ends the wait for a function, and the model gets a message."""
    (bench.folder / "hold").touch()
    bench.ask('call slow {"x": 1} then <outputs>')
    bench.resumed(*with_tools(bench, mode, "--tool-timeout", "0.1"))
    (row,) = bench.rows()
    assert "timeout: the function took longer than 0.1 s" in row["response"]
    assert (row["tool_calls"], row["tool_errors"]) == ("1", "1")


@each_protocol
def test_too_many_rounds(bench: Bench, mode: str) -> None:
    """A model that never stops calling functions fails its row; the message has the limit and the option."""
    rounds = [f'call double {{"x": {x}}}' for x in range(4)]
    bench.ask(" then ".join([*rounds[:2], "<outputs>"]), " then ".join([*rounds, "<outputs>"]))
    bench.resumed(*with_tools(bench, mode, "--max-tool-rounds", "2"), exit_code=3)
    good, bad = bench.rows()
    assert (good["status"], good["response"]) == ("completed", "2")
    assert (bad["status"], bad["error_type"]) == ("failed", "too_many_tool_rounds")
    assert bad["error"] == "the model asks for functions more than 2 times (--max-tool-rounds)"
    if mode != "assistants":  # there it is one run, which reports its usage at its end
        assert bad["prompt_tokens"] == str(3 * READ)


@each_mode
def test_killed_while_a_function_is_called(bench: Bench, mode: str) -> None:
    """The function is called again, but the completion that asked for it is not requested again."""
    bench.ask('call double {"x": 1} then call slow {"x": 7} then <outputs>', "quick")
    options = with_tools(bench, mode)
    (bench.folder / "hold").touch()
    bench.killed(lambda: calls_of(bench) == ["7"], *options)
    (bench.folder / "hold").unlink()
    bench.resumed(*options)
    assert [row["response"] for row in bench.rows()] == ["slow 7", "quick"]
    assert calls_of(bench) == ["7", "7"]
    assert bench.responder.asked_twice() == []
    assert len(bench.responder.asked) == 4
    assert bench.rows()[0]["prompt_tokens"] == str(3 * READ)
    assert bench.rows()[0]["tool_calls"] == "2"


@each_mode
def test_killed_while_the_model_calls(bench: Bench, mode: str) -> None:
    """A batch killed while the model decides on a call continues from that decision: nothing is paid for twice."""
    bench.ask('call slow {"x": 7} then <outputs>')
    options = with_tools(bench, mode)
    bench.responder.held = lambda conversation: conversation.messages[-1].role == "user"
    bench.killed(lambda: len(bench.responder.asked) == 1, *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    assert [row["response"] for row in bench.rows()] == ["slow 7"]
    assert calls_of(bench) == ["7"]
    assert len(bench.responder.asked) == 2


@each_mode
@pytest.mark.parametrize("function", ["double", "changing"])
def test_killed_behind_a_function(bench: Bench, mode: str, function: str) -> None:
    """A batch killed while the model reads the outputs continues with its answer, even if the function has changed."""
    bench.ask(f'call {function} {{"x": 2}} then <outputs>' if function == "double" else "call changing then <outputs>")
    options = with_tools(bench, mode)
    bench.responder.held = lambda conversation: conversation.messages[-1].role == "tool"
    bench.killed(lambda: len(bench.responder.asked) == 2, *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    (row,) = bench.rows()
    (output,) = bench.responder.asked[1].messages[-1].tool_outputs
    assert row["response"] == output.output
    assert len(bench.responder.asked) == 2
    assert (row["tool_calls"], row["tool_errors"], row["prompt_tokens"]) == ("1", "0", str(2 * READ))


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Wherever the batch is killed, each completion is paid for once."""
    kill_at_random(tmp_path, rows=20, kills=4, seed=3, mode="responses")


@pytest.mark.nightly
@pytest.mark.timeout(900)
@each_mode
def test_killed_at_many_random_moments(tmp_path: Path, mode: str) -> None:
    """The same test many times, in every mode."""
    kill_at_random(tmp_path, rows=120, kills=30, seed=5, mode=mode)


def kill_at_random(folder: Path, *, rows: int, kills: int, seed: int, mode: str) -> None:
    """Kill a batch repeatedly, each time after a random number of completions."""
    draw = random.Random(seed)
    with opened(folder / "batch") as bench:
        bench.ask(*(f'call double {{"x": {x}}} then call later {{"x": {x}}} then <outputs>' for x in range(rows)))
        options = with_tools(bench, mode, "--concurrency", "6")
        for kill in itertools.count(1):
            asked = len(bench.responder.asked)
            left = 3 * rows - asked
            if kill > kills or left < 2:
                break
            goal = asked + draw.randint(0, 2 * left // (kills + 1))
            bench.killed_after(bench.completions, goal, draw.uniform(0.0, 0.02), *options)
        bench.resumed(*options)
        assert [row["response"] for row in bench.rows()] == [f"later {x}" for x in range(rows)]
        assert bench.responder.asked_twice() == []
        assert len(bench.responder.asked) == 3 * rows
        bench.assert_billed(mode, 3)
        assert {row["tool_calls"] for row in bench.rows()} == {"2"}
