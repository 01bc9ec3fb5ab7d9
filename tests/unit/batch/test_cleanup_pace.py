"""Deletions within the limits, in virtual time: --rpm applies, and a deletion holds no slot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.batch.cleanup import Cleanup, objects_to_delete
from batchrun.engine import Engine, Limits, RetryPolicy, RowTask
from batchrun.job.validation import make_job
from batchrun.journal import Created, Journal, open_journal, place_of
from tests.support.rows import NOON, attempt, completed, none_strange, noon, prompt
from tests.support.scripted_service import Move, ScriptedService

pytestmark = pytest.mark.virtual_time


@pytest.mark.anyio
async def test_deletions_obey_the_request_limit(tmp_path: Path) -> None:
    """In no minute are there more deletions than `--rpm` allows."""
    sent_s: list[float] = []

    async def delete(_: Created) -> bool:
        sent_s.append(anyio.current_time())
        return True

    manifest = {"settings": {"api": "assistants"}, "base_url": "http://service.test/v1", "input_fingerprint": "i"}
    with open_journal(tmp_path / "j", {**manifest, "rows": 150}, count_strange=none_strange, clock=noon) as journal:
        for row in range(150):
            journal.begin_attempt(prompt(row), attempt(), NOON)
            journal.set_ids(str(row), 1, f"thread_{row}", f"run_{row}")
            journal.finish(completed(row), "fp")
        journal.created.gather(manifest)
        summary = objects_to_delete(journal, place_of(manifest))
        await Cleanup(journal, summary, make_job({"rpm": 60}), clock=noon).run(delete)
        assert objects_to_delete(journal, place_of(manifest)).to_delete == 0
    assert summary.done == len(sent_s) == 150
    assert max(sum(start <= at < start + 60 for at in sent_s) for start in sent_s) <= 60


@pytest.mark.anyio
async def test_a_deletion_holds_no_slot(tmp_path: Path) -> None:
    """With one slot the next row starts while the previous row's thread is being deleted; the batch waits for both."""
    forgotten: list[tuple[str, float]] = []
    manifest: dict[str, Any] = {"settings": {}, "base_url": None, "input_fingerprint": "i", "rows": 2}
    service = ScriptedService(otherwise=Move(after_s=1.0))
    with open_journal(tmp_path / "j", manifest, count_strange=none_strange, clock=noon) as journal:

        async def forget(row_key: str) -> int:
            # The answer is safe before anything is deleted.
            assert _ended(journal, row_key)
            await anyio.sleep(100)
            forgotten.append((row_key, round(anyio.current_time())))
            return 1

        engine = Engine(
            service=service,
            journal=journal,
            limits=Limits(concurrency=1),
            policy=RetryPolicy(),
            batch_id="b",
            clock=noon,
            forget=forget,
        )
        await engine.run([RowTask(prompt(0)), RowTask(prompt(1))])
    assert [round(asked.at_s) for asked in service.of("answer")] == [0, 1]
    assert forgotten == [("0", 101), ("1", 102)]
    assert engine.statistics().not_deleted == 2


def _ended(journal: Journal, row_key: str) -> bool:
    return journal.outcome(row_key) is not None
