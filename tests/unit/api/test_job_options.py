"""The options of a batch by name."""

from __future__ import annotations

import inspect
from dataclasses import fields

import batchrun
from batchrun.api.job_options import JobOptions
from batchrun.api.signatures import PlainOptions
from tests.support.job_options_module import WIDER


def test_every_option_of_a_job_has_its_type() -> None:
    """`JobOptions` has the fields of `Job`, in order; tests/unit/test_cli.py compares the text of its file."""
    assert list(JobOptions.__annotations__) == [field.name for field in fields(batchrun.Job)]
    assert WIDER.keys() <= JobOptions.__annotations__.keys()


def test_signatures_name_every_option() -> None:
    """The signatures of `run`, `arun` and `outcomes`, from which notebooks complete, name every option."""
    for function in (batchrun.run, batchrun.arun, batchrun.outcomes):
        assert JobOptions.__annotations__.keys() <= inspect.signature(function).parameters.keys()


def test_the_overloads_take_what_the_functions_take() -> None:
    """The keyword arguments that type checkers see in the overloads are those of `run` and `arun`."""
    for function in (batchrun.run, batchrun.arun):
        assert PlainOptions.__annotations__.keys() == inspect.signature(function).parameters.keys() - {"data", "job"}


def test_the_docstring_of_job_explains_every_option() -> None:
    """`batchrun.Job?` in a notebook shows the help of every option under its name."""
    text = " ".join((batchrun.Job.__doc__ or "").split())
    for field in fields(batchrun.Job):
        assert f"- {field.name}: {' '.join(field.metadata['option'].help.removesuffix('.').split())}." in text
