"""The rows of a batch while it runs, as its journal tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from batchrun.batch.added_columns import AddedColumns
from batchrun.batch.lock import is_held
from batchrun.batch.paths import paths_for
from batchrun.batch.recorded_input import recorded_source
from batchrun.batch.results import UNASKED, prompts_of
from batchrun.clock import WallClock
from batchrun.journal.live import Changes, FollowedJournal, RecordedAttempt
from batchrun.prompts.templates import PromptError, prompter_of
from batchrun.records import Row
from batchrun.report.columns_json import packed
from batchrun.report.facts import batch_facts
from batchrun.report.live_scores import LiveScores
from batchrun.report.report import Named, batch_of, check_question, columns_of, head
from batchrun.report.rows import ReportRow, RowColumns, pending_cells, row_json
from batchrun.scoring.evaluate import ScoringSpec

__all__ = ["FollowedBatch"]

_ROWS_AT_ONCE: Final = 5_000


@dataclass(slots=True)
class _Known:
    """The rows as of the last look.

    Attributes:
        generation: counts how often the batch turned out to be another.
        rows: in input order.
        fingerprints: of their prompts; `UNASKED` where there is none.
        places: row key → position.
        log: positions of rows that changed, in the order in which they did; its length is the version.
        prefix: what stands before the names of the columns that the batch adds.
        added: those behind the usual ones.
        scores: None where nobody asked for any.
    """

    generation: int = 0
    columns: RowColumns = field(default_factory=lambda: RowColumns(()))
    rows: list[ReportRow] = field(default_factory=list)
    fingerprints: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    log: list[int] = field(default_factory=list)
    prefix: str = ""
    added: AddedColumns = field(default_factory=lambda: AddedColumns({}))
    scores: LiveScores | None = None

    def as_table(self, position: int) -> Row:
        """A row as the output would have it."""
        row = self.rows[position]
        return Row(position, {**row.values, **{self.prefix + name: cell for name, cell in row.cells.items()}})


class FollowedBatch:
    """A batch that may be running, looked at again and again; only what has changed is read.

    Mutable state: the open journal, the rows as of the last look, and the facts made of them.
    """

    def __init__(self, output: Path, clock: WallClock, question: ScoringSpec | None = None) -> None:
        """
        Args:
            output: of the batch, or its journal.
            clock: the wall clock.
            question: how to score the rows; None, or without scorers, for not at all.

        Raises:
            OutputError: there is no journal, or it cannot be read.
            InputError: the input is gone, or cannot be scored like that.
        """
        if question is not None:
            check_question(question)
        self._question = question if question is not None and question.scorers else None
        self._output = output
        self._clock = clock
        self._paths = paths_for(Path(str(output).removesuffix(".journal")))
        self._journal = FollowedJournal(self._paths.journal)
        self._file = self._identity()
        self._known = _Known()
        self._facts: tuple[tuple[int, int, bool], dict[str, Any]] | None = None
        try:
            self.look()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the journal, and give back what scorers own."""
        self._journal.close()
        if self._known.scores is not None:
            self._known.scores.close()

    def look(self) -> None:
        """Take what has changed since the last look.

        Raises:
            OutputError: the journal cannot be read.
            InputError: the input is gone.
        """
        self._follow_file()
        changes = self._journal.changes()
        if changes is None:
            return
        if changes.is_new_batch:
            self._begin()
        self._take(changes)
        if changes.is_new_batch:
            self._known.log = list(range(len(self._known.rows)))

    def news(self, generation: int, after: int) -> dict[str, Any]:
        """What is to be told to one who knows `generation` up to the version `after`.

        Rows come in portions; `more` says that there is another, and the facts come with the last.
        """
        known = self._known
        if generation != known.generation or not 0 <= after <= len(known.log):
            after = 0
        until = min(len(known.log), after + _ROWS_AT_ONCE)
        changed = dict.fromkeys(known.log[after:until])
        return {
            "generation": known.generation,
            "version": until,
            "more": until < len(known.log),
            "columns": known.columns.facts(),
            "facts": self._current_facts() if until == len(known.log) else None,
            "rows": packed([{"i": position, **row_json(known.rows[position], known.columns)} for position in changed]),
        }

    # -- the journal

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._paths.journal.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _follow_file(self) -> None:
        """`--fresh` puts another journal in the place of the one that is open."""
        found = self._identity()
        if found is None or found == self._file:
            return
        journal = FollowedJournal(self._paths.journal)
        self._journal.close()
        self._journal, self._file = journal, found

    def _begin(self) -> None:
        """All rows of the input, none of them asked."""
        manifest = self._journal.read_manifest()
        source, options = recorded_source(manifest, self._paths.spool)
        prompter = prompter_of(manifest, source.columns)
        prefix = options.prefix
        added = AddedColumns(manifest["settings"])
        known = _Known(self._known.generation + 1, prefix=prefix, added=added)
        nothing = {prefix + name: None for name in added.types}
        for position, (row_key, row, prompt) in enumerate(prompts_of(source, prompter)):
            asked = None if isinstance(prompt, PromptError) else prompt.first.text
            known.rows.append(ReportRow(row_key, {**row.values, **nothing}, pending_cells(), asked))
            known.fingerprints.append(UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint)
            known.places[row_key] = position
        listed = (*source.columns, *options.added_columns)
        target = None
        if self._question is not None:
            rows = [known.as_table(position) for position in range(len(known.rows))]
            known.scores = LiveScores(self._question, source.name, listed, rows)
            target = self._question.columns.target
        names = Named(f"{prefix}response", known.scores.scorers if known.scores is not None else ())
        known.columns = columns_of(listed, prefix, names, manifest.get("key"), target)
        if self._known.scores is not None:
            self._known.scores.close()
        self._known = known

    def _take(self, changes: Changes) -> None:
        known = self._known
        ended = {outcome.row_key: outcome for outcome in changes.outcomes}
        answered = []
        for row_key in dict.fromkeys([*ended, *changes.attempts]):
            position = known.places.get(row_key)
            if position is None:
                continue  # a row that the input no longer has
            fingerprint, row = known.fingerprints[position], known.rows[position]
            tries = changes.attempts.get(row_key, ())
            outcome = ended.get(row_key)
            # An answer to another prompt than the row asks now is not its answer.
            if outcome is not None and outcome.fingerprint == fingerprint:
                cells: Mapping[str, Any] = outcome.cells
            else:
                cells = _unfinished([each for each in tries if each.fingerprint == fingerprint])
            values = row.values
            if known.added.types:
                added = known.added.cells(self._journal, row_key, fingerprint, cells)
                values = {**values, **{known.prefix + name: cell for name, cell in added.items()}}
            spoken = changes.runs.get(row_key, ())
            found = replace(row, values=values, cells=cells, tries=tuple(tries), spoken=spoken)
            if found == row:
                continue
            known.rows[position] = found
            known.log.append(position)
            if (found.values, found.cells) != (row.values, row.cells):
                answered.append(position)
        self._score(answered)

    def _score(self, positions: Sequence[int]) -> None:
        """Score rows whose cells have changed."""
        known = self._known
        if known.scores is None or not positions:
            return
        found = known.scores.take([known.as_table(position) for position in positions])
        for position, scores in zip(positions, found, strict=True):
            named = list(zip(known.scores.scorers, scores, strict=True))
            known.rows[position] = replace(
                known.rows[position],
                scores={name: None if score is None else score.value for name, score in named},
                reads={name: None if score is None else score.read for name, score in named},
            )

    def _current_facts(self) -> dict[str, Any]:
        running = is_held(self._paths.lock)
        state = (self._known.generation, len(self._known.log), running)
        if self._facts is None or self._facts[0] != state:
            manifest = self._journal.read_manifest()
            facts = {
                **head(str(self._output), self._clock),
                **batch_facts(self._known.rows, self._journal.cool_downs()),
                "batch": {**batch_of(manifest, self._paths, self._journal.spent_usd()), "running": running},
                "notes": [],
            }
            if self._known.scores is not None:
                facts["scores"] = self._known.scores.facts()
            self._facts = (state, facts)
        return self._facts[1]


def _unfinished(tries: Sequence[RecordedAttempt]) -> dict[str, Any]:
    """The cells of a row that has not ended, as an export has them."""
    cells = pending_cells()
    if tries:
        last = tries[-1]
        cells["status"] = "in_flight" if last.may_be_running else "pending"
        cells["thread_id"], cells["run_id"], cells["attempts"] = last.thread_id, last.run_id, last.number
    return cells
