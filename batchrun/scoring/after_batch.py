"""The options of scoring right after a batch, from flags or parameters and from the job file's table `[score]`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from batchrun.job.file import is_job_file, read_job_file
from batchrun.job.options import Job
from batchrun.records import JsonObject
from batchrun.scoring.score_options import ScoreOptions, make_score_options, score_problems

__all__ = ["job_file_scoring", "options_after_batch", "with_batch_columns"]


def job_file_scoring(table: str) -> JsonObject | None:
    """Return the table `[score]` of a job file; None for another file, or without such a table.

    Raises:
        InputError: the job file cannot be read, or something in it is wrong: see `read_job_file`.
    """
    if not is_job_file(table):
        return None
    return read_job_file(Path(table), None, {"score": score_problems}).tables.get("score")


def options_after_batch(table: str, given: JsonObject) -> ScoreOptions | None:
    """Return how the output of a batch is scored: by `given` over the job file's `[score]`; None if neither asks for
    scores.

    Args:
        table: path of the table or the job file.
        given: options by their names, without those that are left out.

    Raises:
        InputError: an option is wrong.
    """
    in_file = job_file_scoring(table)
    if in_file is None:
        return make_score_options(given, "--score") if given else None
    return make_score_options({**in_file, **given}, f"{table}: score")


def with_batch_columns(options: ScoreOptions, job: Job) -> ScoreOptions:
    """Return the options with the batch's own answer, key and question, where they name none."""
    # With several prompts or turns there is no single question: then the columns decide.
    return replace(
        options,
        answer=options.answer or f"{job.output_prefix}response",
        key=job.key,
        question=options.question or job.prompt or job.messages,
    )
