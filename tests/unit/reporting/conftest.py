"""Fixtures of the report's tests: the journal of a batch, written row by row without a service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.plan import Plan, make_plan
from batchrun.batch.results import prompts_of
from batchrun.errors import ServiceFault
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.journal import Journal
from batchrun.prompts.templates import PromptError
from batchrun.records import Prompt
from tests.support.rows import NOON, attempt, completed

QUESTIONS = "question,truth\n1+1,2\n2+2,5\n3+3,6\n"


class WrittenBatch:
    """A batch whose journal a test writes.

    Attributes:
        output: path of the output, which is not written.
    """

    def __init__(self, folder: Path, table: str, **options: Any) -> None:
        (folder / "q.csv").write_text(table, encoding="utf-8")
        self.output = folder / "a.csv"
        job = make_job({"model": "tutor", **options})
        self.plan: Plan = make_plan(job, folder / "q.csv", Environment(), self.output)
        self.journal = Journal(self.plan.paths.journal)
        self.journal.write_manifest({"batch_id": "b1", "created_at": NOON.isoformat(), **self.plan.manifest()})

    def prompt(self, row: int) -> Prompt:
        """Return the prompt of a row."""
        prompt = list(prompts_of(self.plan.source, self.plan.prompter))[row][2]
        assert not isinstance(prompt, PromptError)
        return prompt

    def begin(self, row: int, number: int = 1, fault: ServiceFault | None = None) -> None:
        """Record an attempt at a row, and the fault that ended it."""
        prompt = self.prompt(row)
        self.journal.begin_attempt(prompt, attempt(number), NOON)
        if fault is not None:
            self.journal.record_fault(prompt.row_key, number, fault)

    def complete(self, row: int, response: str, **fields: Any) -> None:
        """Record the answer to a row."""
        self.journal.finish(completed(row, response, **fields), self.prompt(row).fingerprint)

    def resume(self) -> None:
        """Open the journal again, as another run does, so that rows can be answered again."""
        self.journal.close()
        self.journal = Journal(self.plan.paths.journal)


StartBatch = Callable[..., WrittenBatch]


@pytest.fixture
def start_batch(tmp_path: Path) -> Iterator[StartBatch]:
    """Return a function that starts a batch of three rows, or of another table, in `tmp_path`."""
    with ExitStack() as stack:

        def start(table: str = QUESTIONS, **options: Any) -> WrittenBatch:
            batch = WrittenBatch(tmp_path, table, **options)
            stack.callback(lambda: batch.journal.close())
            return batch

        yield start
