"""The table of a grader's requests: one row for each different request and vote."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from batchrun.job.fingerprint import digest, settings_of
from batchrun.job.options import Job
from batchrun.records import JsonDict
from batchrun.scoring.grading.grader import Grader
from batchrun.scoring.grading.rubric import Rubric, RubricError
from batchrun.scoring.scorers.base import NamedScorer, Sample, Score, Scorer, is_blank
from batchrun.scoring.scorers.targets import NO_TARGET, has_target
from batchrun.scoring.table import ScoredTable
from batchrun.tables.atomic import replacing
from batchrun.tables.values import json_text

__all__ = ["request_id", "unaskable", "write_requests"]


def request_id(job: Job, text: str) -> str:
    """Return the id of a request: a digest of its text and of the model and settings that it is sent to."""
    return digest(settings_of(job), text)


BLANK: Final = Score(None, "the answer is blank")


def unaskable(sample: Sample, *, needs_target: bool) -> Score | None:
    """Return the score of a row about which no grader is asked, since its answer or its target is blank; else None."""
    if is_blank(sample.answer):
        return BLANK
    return NO_TARGET if needs_target and not has_target(sample.target) else None


def write_requests(path: Path, table: ScoredTable, grader: Grader, rubric: Rubric) -> int:
    """Write the table of a grader's requests.

    A request of several rows names the first of them, by `row_index` and, if the table has a key column, `row_key`.

    Returns:
        The number of its rows. Without rows, no file is left.
    """
    with ExitStack() as stack:
        file = stack.enter_context(replacing(path, mode=0o600))
        requests = _RequestWriter(file, grader, rubric, table.columns.key)
        replace(table, scorers=[NamedScorer("requests", requests)]).tally()
    if not requests.written:
        path.unlink()
    return len(requests.written) * grader.votes


class _RequestWriter(Scorer):
    """Takes the place of a scorer, to get the same samples, and writes a grader's requests instead of scoring.

    Mutable state: the ids of the requests so far, and the file.
    """

    needs_target = False

    def __init__(self, file: IO[bytes], grader: Grader, rubric: Rubric, key: str | None) -> None:
        self.written: set[str] = set()
        self._file, self._grader, self._rubric, self._key = file, grader, rubric, key

    def score(self, sample: Sample) -> Score:
        if (score := unaskable(sample, needs_target=self._rubric.needs_target)) is not None:
            return score
        try:
            text = self._rubric.render(sample)
        except RubricError as exc:
            return Score(None, str(exc))
        request = request_id(self._grader.job, text)
        if request not in self.written:
            self.written.add(request)
            first_row: JsonDict = {"row_index": sample.row_index}
            if self._key is not None:
                first_row["row_key"] = sample.row[self._key]
            for vote in range(1, self._grader.votes + 1):
                line = json_text({"key": f"{request}-{vote}", "request": request, **first_row, "prompt": text})
                # A lone surrogate has no UTF-8; its backslash escape is also its JSON escape.
                self._file.write(f"{line}\n".encode("utf-8", "backslashreplace"))
        return Score(None, "not graded yet")
