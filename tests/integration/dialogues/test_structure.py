"""Structured answers: typed columns, corrections on the same thread, and batches killed between them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.dialogues.bench import CORRECTION, MODES, READ, WRITTEN, Bench, each_mode, each_protocol, opened

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},  # the service is not held to that, the answer is
        "count": {"type": "integer"},
        "ok": {"type": "boolean"},
        "share": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "count", "ok", "share", "tags"],
    "additionalProperties": False,
}
GOOD = {"name": "Ada", "count": 3, "ok": True, "share": 0.5, "tags": ["a", "b"]}
WRONG, STILL, NEVER, LATE = (json.dumps({**GOOD, "name": "", "count": number}) for number in range(4))


def with_schema(bench: Bench, mode: str, *more: str) -> tuple[str, ...]:
    (bench.folder / "form.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    return (*MODES[mode], "--schema", "form.json", *more)


@each_protocol
def test_fields_become_columns(bench: Bench, mode: str) -> None:
    """Each field of a valid answer has its own column, with its own type in Parquet."""
    bench.ask(json.dumps(GOOD), json.dumps({**GOOD, "share": None, "tags": []}))
    options = with_schema(bench, mode)
    bench.resumed(*options)
    first, second = bench.rows()
    assert [first[name] for name in GOOD] == ["Ada", "3", "true", "0.5", '["a", "b"]']
    assert [second[name] for name in GOOD] == ["Ada", "3", "true", "", "[]"]
    assert all(each.response_format is not None for each in bench.responder.asked)
    bench.resumed(*options, "-o", "typed.parquet")
    table = pq.read_table(bench.folder / "typed.parquet")
    types = {name: table.schema.field(name).type for name in GOOD}
    assert (types["name"], types["count"], types["ok"], types["share"]) == (
        pa.string(),
        pa.int64(),
        pa.bool_(),
        pa.float64(),
    )
    assert table.column("share").to_pylist() == [0.5, None]


@each_mode
def test_a_wrong_answer_is_corrected(bench: Bench, mode: str) -> None:
    """The model gets the errors on the same thread; both runs are paid for, and the first text is kept."""
    bench.ask(f"{WRONG} || {json.dumps(GOOD)}")
    bench.resumed(*with_schema(bench, mode))
    (row,) = bench.rows()
    assert (row["status"], row["count"], row["response"]) == ("completed", "3", json.dumps(GOOD))
    assert (row["prompt_tokens"], row["completion_tokens"]) == (str(2 * READ), str(2 * WRITTEN))
    _, second = bench.responder.asked
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1].text == WRONG
    assert second.messages[2].text.startswith(CORRECTION)
    assert "name" in second.messages[2].text
    assert bench.journal("SELECT response FROM exchanges ORDER BY number") == [(WRONG,), (json.dumps(GOOD),)]


@each_protocol
def test_a_hopeless_answer_fails_its_row(bench: Bench, mode: str) -> None:
    """A row fails after `--schema-retries` corrections; the journal keeps all texts, and the row the last."""
    bench.ask(f"{WRONG} || {STILL} || {NEVER} || {LATE}", json.dumps(GOOD))
    bench.resumed(*with_schema(bench, mode), exit_code=3)
    bad, good = bench.rows()
    assert (bad["status"], bad["error_type"], bad["response"]) == ("failed", "schema_mismatch", NEVER)
    assert bad["error"].startswith("the answer does not have the requested form: ")
    assert bad["prompt_tokens"] == str(3 * READ)
    assert [bad[name] for name in GOOD] == [""] * len(GOOD)
    assert good["status"] == "completed"
    said = bench.journal("SELECT response FROM exchanges WHERE row_key = '0' ORDER BY number")
    assert said == [(WRONG,), (STILL,), (NEVER,)]
    bench.resumed(*with_schema(bench, mode), exit_code=3)
    assert len(bench.responder.asked) == 4


@each_mode
def test_killed_between_corrections(bench: Bench, mode: str) -> None:
    """A batch killed during a correction continues with it, and counts the earlier ones."""
    bench.ask(f"{WRONG} || {STILL} || {json.dumps(GOOD)}", f"{WRONG} || {STILL} || {NEVER} || {LATE}")
    options = with_schema(bench, mode)
    bench.responder.held = lambda conversation: len(conversation.messages) == 5
    bench.killed(lambda: len(bench.responder.asked) == 6, *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options, exit_code=3)
    assert [row["status"] for row in bench.rows()] == ["completed", "failed"]
    assert [row["prompt_tokens"] for row in bench.rows()] == [str(3 * READ)] * 2
    assert len(bench.responder.asked) == 6


@each_protocol
def test_functions_turns_and_a_form_together(bench: Bench, mode: str) -> None:
    """Only the last turn's answer is structured; functions may be called before it, and before a correction."""
    (bench.folder / "tools.py").write_text('def look(x: int) -> int:\n    """Looks."""\n    return x\n')
    good = json.dumps({**GOOD, "count": 7})
    bench.ask(f'call look {{"x": 7}} then {WRONG} || call look {{"x": 8}} then {good}')
    turns = ("--prompt", "free text", "--prompt", "{{ question }}", "--tools", "tools.py")
    options = with_schema(bench, mode, *turns)
    bench.responder.held = lambda conversation: (
        conversation.messages[-1].role == "tool" and len(conversation.messages) > 8
    )
    bench.killed(lambda: len(bench.responder.asked) == 5, *options)
    bench.responder.held = lambda _: False
    bench.resumed(*options)
    (row,) = bench.rows()
    assert (row["response_1"], row["response_2"], row["count"]) == ("free text", good, "7")
    assert (row["tool_calls"], row["prompt_tokens"]) == ("2", str(5 * READ))
    assert [each.response_format is not None for each in bench.responder.asked] == [False, True, True, True, True]


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Wherever the batch is killed, each completion is paid for once."""
    kill_at_random(tmp_path, rows=16, kills=4, seed=13, mode="chat")


@pytest.mark.nightly
@pytest.mark.timeout(900)
@each_mode
def test_killed_at_many_random_moments(tmp_path: Path, mode: str) -> None:
    """The same test many times, in every mode."""
    kill_at_random(tmp_path, rows=100, kills=30, seed=17, mode=mode)


def kill_at_random(folder: Path, *, rows: int, kills: int, seed: int, mode: str) -> None:
    """Kill a batch repeatedly, each time after a random number of completions."""
    draw = random.Random(seed)
    with opened(folder / "batch") as bench:
        bench.ask(*(f"{WRONG} || {STILL} || {json.dumps({**GOOD, 'count': row})}" for row in range(rows)))
        options = with_schema(bench, mode, "--concurrency", "6")
        for kill in range(kills):
            asked = len(bench.responder.asked)
            goal = min(3 * rows - 1, asked + draw.randint(0, 2 * (3 * rows - asked) // (kills + 1 - kill)))
            bench.killed_after(bench.completions, goal, draw.uniform(0.0, 0.02), *options)
        bench.resumed(*options)
        assert [row["count"] for row in bench.rows()] == [str(row) for row in range(rows)]
        assert len(bench.responder.asked) == 3 * rows
        bench.assert_billed(mode, 3)
