"""A batch's use of a cache (--cache): rows that other batches have had answered, and answers for later batches."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from batchrun.cache import AnswerFile, AnswerKey, KnownAnswer, RowKeys, Uncacheable, reason_of
from batchrun.engine import CachedRow, RowTask, RowWork, SkippedRow
from batchrun.journal import Journal
from batchrun.journal.row_records import storable
from batchrun.prompts.templates import PromptError
from batchrun.records import Completed, LaterTurns, Outcome, Prompt, Reply, RunEnd
from batchrun.token_usage import Usage
from batchrun.wording import visible_line

__all__ = ["CACHED_FROM", "CacheReader", "CacheReport", "CachedAnswers", "PlannedCache", "is_continued", "open_answers"]

log = logging.getLogger("batchrun.cache")

CACHED_FROM = "cached_from"
"""The column, and the extra of an outcome, that names the batch which paid for an answer."""

NumberOf: TypeAlias = Callable[[Prompt, bytes], int]
"""(prompt, hash of what it sends) → the row is the n-th of the table that asks the same."""

_NOT_KEPT = {
    "files": "files that the model created",
    "tool_calls": "function calls",
}
"""Extras of an answer that belongs to its batch → what it is, for people."""


@dataclass(frozen=True, slots=True)
class PlannedCache:
    """The cache that a batch will use.

    Attributes:
        keys: makes the keys of its rows.
        fits: whether an answer has the form that the batch asks for. A model of pydantic may have rules that its schema
            does not show.
        fallback_model: asked about rows to which their own model gives no answer; None for no other.
    """

    file: Path
    keys: RowKeys
    fits: Callable[[str], bool]
    fallback_model: str | None


@dataclass(slots=True)
class CacheReport:
    """What a batch could not do with its cache.

    Mutable state: all fields; the batch fills them.

    Attributes:
        passed_over: reason → rows that were neither looked up nor stored.
        not_stored: answers that could not be stored.
        problem: the first reason for that, or for which answers could not be looked up; None if there was none.
    """

    file: Path
    passed_over: Counter[str] = field(default_factory=Counter)
    not_stored: int = 0
    problem: str | None = None


class CacheReader:
    """Looks rows up in a cache, in the order of the batch.

    Mutable state: `report`; `_file`, None once it cannot be read.
    """

    def __init__(
        self, planned: PlannedCache, file: AnswerFile | None, number_of: NumberOf, stale_before: datetime | None
    ) -> None:
        """
        Args:
            stale_before: answers before this moment are too old (--max-age); None accepts all.
        """
        self._file = file
        self._keys = planned.keys
        self._fits = planned.fits
        self._fallback_model = planned.fallback_model
        self._stale_before = stale_before
        self._number_of = number_of
        self.report = CacheReport(planned.file)

    def key_of(self, prompt: Prompt) -> AnswerKey | None:
        """Return the key of the next row; None if it cannot be in a cache."""
        try:
            digest = self._keys.digest_of(prompt)
        except Uncacheable as exc:
            self.report.passed_over[str(exc)] += 1
            return None
        return AnswerKey(digest, self._number_of(prompt, digest))

    def find(self, key: AnswerKey) -> KnownAnswer | None:
        """Return the answer of another batch, None if there is none that is young enough.

        If the row's own model gave none, an answer of the fallback model is one.
        """
        found = self._find_under(key)
        if found is None and self._fallback_model is not None:
            found = self._find_under(key.of_fallback(self._fallback_model))
        return found

    def _find_under(self, key: AnswerKey) -> KnownAnswer | None:
        if self._file is None:
            return None
        try:
            found = self._file.find(key)
            is_valid = found is not None and self._is_valid(found)
        except (sqlite3.Error, ValueError, TypeError) as exc:
            self._problem(f"cannot be read ({reason_of(exc)})")
            self._file = None
            return None
        return found if is_valid else None

    def _is_valid(self, found: KnownAnswer) -> bool:
        """Return whether an answer is young enough and has the form that the batch asks for."""
        is_stale = self._stale_before is not None and found.completed_at < self._stale_before
        return not is_stale and self._fits(found.response)

    def _problem(self, problem: str) -> None:
        log.warning("%s: %s", visible_line(str(self.report.file)), problem)
        if self.report.problem is None:
            self.report.problem = problem


class CachedAnswers(CacheReader):
    """Takes answers from a cache and stores those of the batch. A fault of the cache never ends the batch.

    Mutable state: `_pending`, key and prompt of the rows in flight whose answers are to be stored.
    """

    def __init__(
        self,
        planned: PlannedCache,
        file: AnswerFile | None,
        journal: Journal,
        number_of: NumberOf,
        *,
        batch: str,
        stale_before: datetime | None,
        is_same_service: bool,
        problem: str | None = None,
    ) -> None:
        """
        Args:
            batch: names this batch in the cache.
            is_same_service: whatever the journal has was sent to the same service as this run's rows, so that it can
                be stored too.
            problem: why the file can only be read, or not even that.
        """
        super().__init__(planned, file, number_of, stale_before)
        self._journal = journal
        self._batch = batch
        self._is_same_service = is_same_service
        self._pending: dict[str, tuple[AnswerKey, Prompt]] = {}
        self.report.problem = problem

    def looked_up(self, work: RowTask | SkippedRow, prompt: Prompt) -> RowWork:
        """Return the work that is left for a row: `work`, or its answer from another batch."""
        key = self.key_of(prompt)
        if key is None:
            return work
        if not isinstance(work, RowTask):
            if self._is_same_service:
                self._keep_finished(key, prompt)
            return work
        continues = is_continued(work)
        found = None if continues else self.find(key)
        if found is not None and self._is_anothers(found, prompt):
            found = None
        if found is not None:
            try:
                return _cached_row(found, prompt, work)
            except (ValueError, TypeError, AttributeError, PromptError) as exc:
                self._problem(f"an answer in it cannot be read ({exc})")
        if self._is_same_service or not continues:
            self._pending[prompt.row_key] = key, prompt
        return work

    def _is_anothers(self, found: KnownAnswer, prompt: Prompt) -> bool:
        """Return whether an answer is that of another row of this batch, whose number was different then."""
        return found.batch == self._batch and not self._journal.cached.had_answer(prompt.row_key, found.completed_at)

    def ended(self, outcome: Outcome) -> None:
        """Store the answer of a row that was sent, if it is complete."""
        key, prompt = self._pending.pop(outcome.row_key, (None, None))
        if key is None or prompt is None:
            return
        if prompt.first.attachments and not self._is_unchanged(key, prompt):
            self.report.passed_over["attachment that changed"] += 1
        else:
            self._keep(self._key_of_answer(key, prompt, outcome), prompt, outcome)

    def checkpoint(self) -> None:
        """Move the file's log into it: see `AnswerFile.checkpoint`. Call it from a thread."""
        file = self._file
        try:
            if file is not None:
                file.checkpoint()
        except sqlite3.Error as exc:
            log.warning("%s: cannot be checkpointed (%s)", visible_line(str(self.report.file)), exc)

    @property
    def log_bytes(self) -> int:
        """The size of the file's write-ahead log."""
        return 0 if self._file is None else self._file.log_bytes

    def reuse_log(self) -> None:
        """Use the space of a large log again: see `AnswerFile.reuse_log`. Call it after `checkpoint`."""
        try:
            if self._file is not None:
                self._file.reuse_log()
        except sqlite3.Error as exc:
            log.warning("%s: its log cannot be used again (%s)", visible_line(str(self.report.file)), exc)

    def _is_unchanged(self, key: AnswerKey, prompt: Prompt) -> bool:
        """Return whether the attached files are still those with which the row was looked up."""
        try:
            return self._keys.digest_of(prompt) == key.digest
        except Uncacheable:
            return False

    def _keep_finished(self, key: AnswerKey, prompt: Prompt) -> None:
        """Store an answer of an earlier run, for example if the batch was killed before it could."""
        if self._file is None or self._file.unwritable is not None or self._find_under(key) is not None:
            return
        recorded = self._journal.outcome(prompt.row_key)
        if recorded is None or not recorded[0].attempts or CACHED_FROM in (recorded[0].extras or {}):
            return  # nothing was paid for it in this batch
        key = self._key_of_answer(key, prompt, recorded[0])
        if self._find_under(key) is None:
            self._keep(key, prompt, recorded[0])

    def _key_of_answer(self, key: AnswerKey, prompt: Prompt, outcome: Outcome) -> AnswerKey:
        """Return the key under which an outcome of a row is stored: with the model that gave it, if it fell back."""
        if "fallback_from" not in (outcome.extras or {}):
            return key
        first = self._journal.exchanges.first_end(prompt.row_key, prompt.fingerprint)
        return key if first is None else key.of_fallback(first.asked)

    def _keep(self, key: AnswerKey, prompt: Prompt, outcome: Outcome) -> None:
        file = self._file
        if not isinstance(outcome, Completed) or outcome.status != "completed" or outcome.reason is not None:
            return
        belongs = next((words for name, words in _NOT_KEPT.items() if (outcome.extras or {}).get(name)), None)
        if belongs is not None:
            self.report.passed_over[belongs] += 1
            return
        if file is None or file.unwritable is not None:
            self.report.not_stored += 1
            return
        try:
            file.keep(key, self._known(prompt, outcome))
        except (sqlite3.Error, OverflowError) as exc:
            self.report.not_stored += 1
            if "locked" in str(exc):
                file.stop_waiting()
            self._problem(f"cannot be written ({reason_of(exc)})")

    def _known(self, prompt: Prompt, outcome: Completed) -> KnownAnswer:
        """Return an answer as the cache has it."""
        turns = None
        if prompt.later is not None:
            turns = json.dumps(self._journal.exchanges.answers(prompt.row_key, prompt.fingerprint, outcome.attempts))
        return KnownAnswer(
            completed_at=outcome.completed_at,
            batch=self._batch,
            model=outcome.model,
            response=storable(outcome.response) or "",
            thread_id=outcome.thread_id,
            run_id=outcome.run_id,
            turns=turns,
            extras=json.dumps(outcome.extras) if outcome.extras else None,
        )


def open_answers(path: Path) -> tuple[AnswerFile | None, str | None]:
    """Open a cache for a batch; return it, and what cannot be done with it. None for a file that cannot be read.

    Raises:
        InputError: the file is not a cache, has a later version, or cannot be created.
    """
    try:
        file = AnswerFile(path)
    except sqlite3.OperationalError as exc:
        return None, f"cannot be opened ({reason_of(exc)}); no answer is taken from it, and none is stored"
    if file.unwritable is None:
        return file, None
    return file, f"cannot be written ({file.unwritable}); answers are taken from it, and none is stored"


def is_continued(task: RowTask) -> bool:
    """Return whether an earlier run of the batch has begun the row: what it paid for is not replaced."""
    last = task.last
    return (
        bool(task.ends)
        or task.first_end is not None
        or (last is not None and last.run_id is not None and not last.run_ended)
    )


def _cached_row(found: KnownAnswer, prompt: Prompt, task: RowTask) -> CachedRow:
    extras = json.loads(found.extras) if found.extras else {}
    outcome = Completed(
        row_key=prompt.row_key,
        response=found.response,
        thread_id=found.thread_id,
        run_id=found.run_id,
        model=found.model,
        usage=Usage(0, 0, 0, 0, 0),
        # Attempts that failed before stay counted: a later one would mean that the row is in flight.
        attempts=task.last.number if task.last is not None else 0,
        duration_s=0.0,
        completed_at=found.completed_at,
        cost_usd=0.0,
        extras={**extras, CACHED_FROM: found.batch},
    )
    ends = tuple(_ends(prompt, prompt.later, found)) if prompt.later is not None else ()
    return CachedRow(outcome, prompt.fingerprint, ends)


def _ends(prompt: Prompt, later: LaterTurns, found: KnownAnswer) -> Iterator[RunEnd]:
    """Yield the turns of a row as runs that have ended, without usage."""
    answers: dict[int, str] = {int(turn): text for turn, text in json.loads(found.turns or "{}").items()}
    for number, (turn, response) in enumerate(sorted(answers.items()), start=1):
        before = [answers.get(each, "") for each in range(1, turn)]
        asked = prompt.first if turn == 1 else later.turn(turn, before)
        reply = Reply("completed", response, model=found.model)
        yield RunEnd(number, turn, 0, asked.text if asked is not None else "", reply, found.thread_id, None)
