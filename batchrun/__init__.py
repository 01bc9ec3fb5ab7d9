"""Turns a table of prompts into a table of answers: one thread and one run per row.

- `run(table, prompt="{{ question }}", model="NAME")` returns the table with its answers. `arun` and `outcomes` are for
  async code. `Job` explains the options.
- `score` judges answers, `compare` pairs the answers of two models or prompts, `report` makes a page of them.
- `run` with `model="tutor"`, or with neither a model nor a key, answers offline.

The path of a row through the package:

1. `tables.source` reads the input in chunks and yields a `Row`.
2. `prompts` renders the row into a `Prompt` (its turns, its fingerprint).
3. `journal` knows whether that prompt is finished, in flight (its run is followed again) or new.
4. `engine.limits` admits it: a slot, tokens per minute, requests per minute; first come, first served.
5. A service in `services` creates the thread and the run, records their ids as soon as it receives them, follows
   the run to its end and returns a reply.
6. `journal` commits the outcome.
7. `tables.sink` joins the input and the journal, in input order, and replaces the output file atomically.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchrun.version import __version__

if TYPE_CHECKING:
    from batchrun.api.estimates import DryRunEstimate, PilotEstimate
    from batchrun.api.evaluation import compare, score
    from batchrun.api.job_options import JobOptions
    from batchrun.api.judged import JudgedComparison
    from batchrun.api.reports import ReportPage, report
    from batchrun.api.run import arun, outcomes, run
    from batchrun.api.scores import ScoreComparison, Scores
    from batchrun.api.scoring_estimate import ScoringEstimate
    from batchrun.errors import (
        BatchRefused,
        BatchrunError,
        GradingStopped,
        InputError,
        JournalMismatch,
        OutputError,
        OutputHeld,
    )
    from batchrun.job.options import Job
    from batchrun.records import Completed, Failed, Outcome
    from batchrun.token_usage import Usage

__all__ = [
    "BatchRefused",
    "BatchrunError",
    "Completed",
    "DryRunEstimate",
    "Failed",
    "GradingStopped",
    "InputError",
    "Job",
    "JobOptions",
    "JournalMismatch",
    "JudgedComparison",
    "Outcome",
    "OutputError",
    "OutputHeld",
    "PilotEstimate",
    "ReportPage",
    "ScoreComparison",
    "Scores",
    "ScoringEstimate",
    "Usage",
    "__version__",
    "arun",
    "compare",
    "outcomes",
    "report",
    "run",
    "score",
]

_HOMES = {
    **dict.fromkeys(("arun", "outcomes", "run"), "api.run"),
    **dict.fromkeys(("DryRunEstimate", "PilotEstimate"), "api.estimates"),
    **dict.fromkeys(("compare", "score"), "api.evaluation"),
    **dict.fromkeys(("ReportPage", "report"), "api.reports"),
    **dict.fromkeys(("ScoreComparison", "Scores"), "api.scores"),
    "JobOptions": "api.job_options",
    "JudgedComparison": "api.judged",
    "ScoringEstimate": "api.scoring_estimate",
    **dict.fromkeys(
        (
            "BatchRefused",
            "BatchrunError",
            "GradingStopped",
            "InputError",
            "JournalMismatch",
            "OutputError",
            "OutputHeld",
        ),
        "errors",
    ),
    "Job": "job.options",
    **dict.fromkeys(("Completed", "Failed", "Outcome"), "records"),
    "Usage": "token_usage",
}
"""Public name → the module that defines it."""


# A library does not print: `logging.getLogger("batchrun")` says nothing until the program gives it a handler.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import a public name on its first use: `run` and its variants import the SDK, which takes time."""
    if name in _HOMES:
        return getattr(import_module(f"batchrun.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names only, from which editors and notebooks complete."""
    return list(__all__)
