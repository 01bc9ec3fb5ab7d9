"""The options of a batch by name."""

from __future__ import annotations

import inspect
import os
from dataclasses import fields
from pathlib import Path

import batchrun
from batchrun.api.job_options import JobOptions
from tests.support.job_options_module import WIDER, job_options_module

ROOT = Path(__file__).parents[3]


def test_job_options_are_generated_from_job() -> None:
    """job_options.py has every field of `Job` with its help; UPDATE_DOCS=1 pytest -k generated_from_job rewrites it."""
    path = ROOT / "batchrun" / "api" / "job_options.py"
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(job_options_module(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == job_options_module()
    assert list(JobOptions.__annotations__) == [field.name for field in fields(batchrun.Job)]
    assert WIDER.keys() <= JobOptions.__annotations__.keys()


def test_signatures_name_every_option() -> None:
    """The signatures of `run`, `arun` and `outcomes`, from which notebooks complete, name every option."""
    for function in (batchrun.run, batchrun.arun, batchrun.outcomes):
        assert JobOptions.__annotations__.keys() <= inspect.signature(function).parameters.keys()
