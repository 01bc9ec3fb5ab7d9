"""The work that is left for each row, decided for many rows at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from batchrun.batch import work
from batchrun.batch.cached_answers import CachedAnswers, open_answers
from batchrun.batch.plan import Plan, make_plan
from batchrun.batch.results import prompts_of
from batchrun.batch.row_numbers import RowNumbers
from batchrun.engine import RowTask, SkippedRow
from batchrun.engine.fallback import first_end
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.journal import Journal
from batchrun.journal.histories import KEYS_AT_ONCE
from batchrun.records import REFUSAL, Prompt
from tests.support.rows import NOON, attempt, completed, failed, noon, write_csv

SERVICE: dict[str, Any] = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api": "chat"}
ROWS = 2 * KEYS_AT_ONCE - 7
CALLS_A_ROW = 28
"""Calls that a finished row may cost, from the input file to the engine: 24 when this was written."""


def plan(folder: Path, **options: Any) -> Plan:
    """Return a plan over questions of which every 90th is empty."""
    table = folder / "in.csv"
    if not table.exists():
        write_csv(table, [{"id": f"r{row}", "question": "" if row % 90 == 89 else f"{row} + 1"} for row in range(ROWS)])
    return make_plan(make_job({**SERVICE, **options}), table, Environment("unused"), folder / "out.csv")


def filled(planned: Plan, journal: Journal) -> None:
    """Write a history of every kind, by turns of 12 rows."""
    with journal._db.transaction():
        for row_key, row, prompt in prompts_of(planned.source, planned.prompter):
            if isinstance(prompt, Prompt):
                _write_history(journal, prompt, row.row_index)
            elif row.row_index % 180 == 89:
                journal.finish(replace(failed(), row_key=row_key, error_type="empty_prompt"), "")
    journal.look_back()


def _write_history(journal: Journal, prompt: Prompt, row: int) -> None:
    kind, fingerprint = row % 12, prompt.fingerprint
    if kind == 11:
        return  # new
    journal.begin_attempt(prompt, attempt(key=f"key-{row}"), NOON)
    one: dict[str, Any] = {"row_key": prompt.row_key, "attempts": 1, "completed_at": NOON - timedelta(hours=row % 48)}
    if kind == 10:
        journal.set_ids(prompt.row_key, 1, None, f"run_{row}")  # in flight
    elif kind == 9:
        journal.finish(replace(completed(), **one), "of another prompt")
    elif kind == 8:
        journal.finish(replace(failed(), **one), fingerprint)
    elif kind == 7:  # failed, and asked again when the batch ended
        journal.finish(replace(failed(), **one), fingerprint)
        journal.begin_attempt(prompt, attempt(2, 2, f"key-{row}-2"), NOON)
    elif kind == 6:  # the model refused, and the fallback model was asked when the batch ended
        refused = replace(completed(), **one, status="incomplete", reason=REFUSAL)
        journal.exchanges.fall_back(prompt.row_key, fingerprint, first_end(refused, "m2", "m"))
        journal.begin_attempt(prompt, attempt(2, 1, f"key-{row}-2"), NOON)
    elif kind == 5:
        journal.finish(replace(completed(), **one, status="incomplete", reason=REFUSAL), fingerprint)
    else:
        journal.finish(replace(completed(), **one, response=f"answer {row}"), fingerprint)


def left(planned: Plan, journal: Journal, with_cache: Path | None = None) -> list[Any]:
    """Return the work of all rows, in which every number and every id can be compared."""
    with ExitStack() as stack:
        cache = None if with_cache is None else _cache(planned, journal, stack)
        return [_comparable(each) for each in work.work_of(planned, journal, noon, cache)]


def _cache(planned: Plan, journal: Journal, stack: ExitStack, batch: str = "another") -> CachedAnswers:
    assert planned.cache is not None
    file, problem = open_answers(planned.cache.file)
    assert (file is not None, problem) == (True, None)
    stack.callback(file.close)  # type: ignore[union-attr]
    numbers = RowNumbers(planned, planned.cache.keys)
    stack.callback(numbers.close)
    return CachedAnswers(
        planned.cache, file, journal, numbers.next, batch=batch, stale_before=None, is_same_service=True
    )


def _comparable(each: Any) -> Any:
    return repr(replace(each, prompt=replace(each.prompt, later=None))) if isinstance(each, RowTask) else repr(each)


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Any]:
    """Opens copies of one filled journal: to decide about a row can write to it."""
    source = tmp_path / "source.journal"
    with ExitStack() as stack:
        with Journal(source) as journal:
            filled(plan(tmp_path), journal)
            journal.settle()

        def copy(name: str) -> Journal:
            target = tmp_path / name
            target.write_bytes(source.read_bytes())
            return stack.enter_context(Journal(target))

        yield copy


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retry_failed": True},
        {"max_age": "1d"},
        {"dedupe": True},
        {"fallback_model": "m2"},
        {"fallback_model": "m3", "retry_failed": True},
        {"cache": True},
        {"cache": True, "fallback_model": "m2", "retry_failed": True},
        {"prompt": "{{ question|upper }}"},
    ],
    ids=str,
)
def test_many_rows_at_a_time_are_decided_as_one_alone(
    tmp_path: Path, copies: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Whatever the histories of the rows are, each gets the same work as if it were looked up alone."""
    cache = tmp_path / "answers.cache" if options.pop("cache", False) else None
    if cache is not None:
        options["cache"] = cache
    planned = plan(tmp_path, **options)
    if cache is not None:  # filled with the answers of another batch, whose rows are all that this one has
        with Journal(tmp_path / "other.journal") as other, ExitStack() as stack:
            for _, row, prompt in prompts_of(planned.source, planned.prompter):
                if isinstance(prompt, Prompt) and row.row_index % 5 == 0:
                    other.finish(replace(completed(), row_key=prompt.row_key), prompt.fingerprint)
            other.look_back()
            for _ in work.work_of(planned, other, noon, _cache(planned, other, stack, "the first")):
                pass
    together = left(planned, copies("together.journal"), cache)
    monkeypatch.setattr("batchrun.batch.work.KEYS_AT_ONCE", 1)
    alone = left(planned, copies("alone.journal"), cache)
    assert together == alone
    assert len(together) == ROWS
    kinds = {each.partition("(")[0].partition(":")[0] for each in together}
    assert {"RowTask", "Failed"} <= kinds
    assert ("CachedRow" in kinds) == (cache is not None)


@pytest.mark.parametrize("edited", [0, KEYS_AT_ONCE - 1, KEYS_AT_ONCE, ROWS - 1])
def test_one_changed_prompt_among_finished_rows_is_seen(tmp_path: Path, edited: int) -> None:
    """One edited cell anywhere makes its row, and no other, one to ask."""
    write_csv(tmp_path / "in.csv", [{"question": f"{row} + 1"} for row in range(ROWS)])
    planned = plan(tmp_path)
    with Journal(tmp_path / "j.journal") as journal:
        with journal._db.transaction():
            for row_key, row, prompt in prompts_of(planned.source, planned.prompter):
                assert isinstance(prompt, Prompt)
                fingerprint = prompt.fingerprint if row.row_index != edited else "of the cell before"
                journal.finish(replace(completed(), row_key=row_key), fingerprint)
        journal.look_back()
        found = list(work.work_of(planned, journal, noon))
    asked = [number for number, each in enumerate(found) if isinstance(each, RowTask)]
    assert asked == [edited]
    assert found.count(SkippedRow.FINISHED_BEFORE) == ROWS - 1


def test_a_finished_row_costs_few_calls(tmp_path: Path) -> None:
    """A finished row is skipped without making its prompt, and shares its look-up with others."""
    write_csv(tmp_path / "in.csv", [{"id": f"r{row}", "question": f"{row} + 1"} for row in range(ROWS)])
    planned = plan(tmp_path, key="id")
    statements: list[str] = []
    with Journal(tmp_path / "j.journal") as journal:
        with journal._db.transaction():
            for row_key, _, prompt in prompts_of(planned.source, planned.prompter):
                assert isinstance(prompt, Prompt)
                journal.finish(replace(completed(), row_key=row_key), prompt.fingerprint)
        journal.look_back()
        journal._db._connection.set_trace_callback(statements.append)
        calls = _calls(work.work_of(planned, journal, noon))
    assert calls / ROWS < CALLS_A_ROW
    assert sum("FROM outcomes" in each for each in statements) == -(-ROWS // KEYS_AT_ONCE)


def _calls(rows: Iterator[Any]) -> int:
    """Return the number of calls, of Python's functions and of C's, that yielding all rows takes."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for _ in rows:
            pass
    finally:
        sys.setprofile(before)
    return calls
