"""Who grades: a model's name, or a job file with a table [grader]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from batchrun.errors import InputError
from batchrun.job.file import read_job_file
from batchrun.job.option_values import nearest, read_text_option
from batchrun.job.options import Job
from batchrun.job.validation import make_job
from batchrun.scoring.grading.rubric import DEFAULT_RUBRIC
from batchrun.scoring.grading.verdicts import CHOICES, PARTIAL, Reader

if TYPE_CHECKING:
    pass

__all__ = ["Grader", "load_grader"]


_NOT_A_GRADERS: Final = {
    **dict.fromkeys(
        ("input", "output", "output_prefix", "key", "encoding", "delimiter", "safe_csv", "thread_column", "attach"),
        "a grader has none, it grades the table that is scored",
    ),
    "turns": "a grader is asked once: let the rubric say it all",
    "matrix": "a grader is one model with one rubric: name several graders",
    "epochs": "say votes in the table [grader]",
    "dedupe": "the same is never asked twice, unless by votes",
    "ping": "no watch is told of a grader; that of the batch can be",
}
"""Options of a batch that a grader cannot have, and why."""


_SERVICE: Final = (
    "api",
    "base_url",
    "header",
    "query",
    "organization",
    "project",
    "azure",
    "api_version",
    "prices",
    "concurrency",
    "rpm",
    "tpm",
)
"""Options that say where a model is, and what it takes: a grader that is only a model's name shares them."""


@dataclass(frozen=True, slots=True)
class Grader:
    """One that grades.

    Attributes:
        name: in the names of its files, and in messages.
        where: where it was described, for messages.
        job: how it is asked.
        rubric: the template of what it is asked.
        reader: how its verdicts are read.
        votes: how often it is asked about each answer.
        question: column of the question, or a template for it; None for the usual columns.
    """

    name: str
    where: str
    job: Job
    rubric: str = DEFAULT_RUBRIC
    reader: Reader = field(default_factory=Reader)
    votes: int = 1
    question: str | None = None

    @classmethod
    def of_model(cls, model: str, service: Mapping[str, Any], where: str) -> Grader:
        """A model with the default rubric.

        Args:
            service: options of a batch, of which those are taken that say where the model is.

        Raises:
            InputError: an option does not fit.
        """
        job = make_job({**{name: service[name] for name in _SERVICE if name in service}, "model": model})
        return cls(_file_name(model), where, replace(job, retry_failed=True))


def load_grader(path: Path, environ: Mapping[str, str]) -> Grader:
    """The grader of a job file: the keys of a batch, of which `prompt` is the rubric, and a table `[grader]`.

    Raises:
        InputError: the file cannot be read, or something in it does not fit.
    """
    name, options, tables = read_job_file(path, environ, ("grader",))
    given = {**options, "input": name}
    for key, reason in _NOT_A_GRADERS.items():
        if given.get(key):
            raise InputError(f"{path}: {key}: {reason}; remove the line")
    job = make_job({"retry_failed": True, **options})
    own = _GraderTable(str(path), tables.get("grader", {}))
    rubric = read_text_option(job.prompt, "prompt")
    reader = own.reader()
    if rubric is None and (reader.scale is not None or dict(reader.choices) not in (CHOICES, PARTIAL)):
        raise InputError(f"{path}: grader: grades of its own need a rubric that says what they mean: add prompt = ...")
    return Grader(
        name=_file_name(own.text("name") or path.stem),
        where=str(path),
        job=replace(job, prompt=None),
        rubric=DEFAULT_RUBRIC if rubric is None else rubric,
        reader=reader,
        votes=own.votes(),
        question=own.text("question"),
    )


def _file_name(name: str) -> str:
    """A name as a part of file names."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "grader"


@dataclass(frozen=True, slots=True)
class _GraderTable:
    """The table `[grader]` of a job file."""

    where: str
    table: Any

    KEYS: ClassVar = ("name", "choices", "partial", "scale", "pattern", "votes", "question")

    def __post_init__(self) -> None:
        if not isinstance(self.table, dict):
            raise InputError(f"{self.where}: grader: a table [grader] is expected, got {self.table!r}")
        for key in self.table:
            if key not in self.KEYS:
                raise InputError(f"{self.where}: grader: unknown key {key!r}{nearest(key, self.KEYS)}")
        if sum(key in self.table for key in ("choices", "partial", "scale")) > 1:
            raise InputError(f"{self.where}: grader: choices, partial and scale are three ways; say one of them")

    def text(self, key: str) -> str | None:
        value = self.table.get(key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise self._wrong(key, "text")
        return value

    def votes(self) -> int:
        value = self.table.get("votes", 1)
        if type(value) is not int or not 1 <= value <= 100:
            raise self._wrong("votes", "a whole number from 1 to 100")
        return value

    def reader(self) -> Reader:
        partial = self.table.get("partial", False)
        if not isinstance(partial, bool):
            raise self._wrong("partial", "true or false")
        pattern = self.text("pattern")
        try:
            compiled = None if pattern is None else re.compile(pattern)
        except re.error as exc:
            raise InputError(f"{self.where}: grader: pattern: no regular expression of Python's ({exc})") from None
        if compiled is not None and compiled.groups != 1:
            raise self._wrong("pattern", "one group, which holds the grade,")
        return Reader(self._choices(PARTIAL if partial else CHOICES), self._scale(), compiled)

    def _choices(self, default: Mapping[str, float]) -> Mapping[str, float]:
        choices = self.table.get("choices", default)
        expected = "grades with values from 0 to 1, such as { C = 1.0, I = 0.0 },"
        if not isinstance(choices, Mapping) or not choices:
            raise self._wrong("choices", expected)
        if not all(_is_number(value) and 0 <= value <= 1 for value in choices.values()):
            raise self._wrong("choices", expected)
        if len({name.casefold() for name in choices}) < len(choices):
            raise self._wrong("choices", "grades that differ by more than capitals")
        return {name: float(value) for name, value in choices.items()}

    def _scale(self) -> tuple[float, float] | None:
        scale = self.table.get("scale")
        if scale is None:
            return None
        if not (isinstance(scale, list) and len(scale) == 2 and all(map(_is_number, scale)) and scale[0] < scale[1]):
            raise self._wrong("scale", "lowest and highest grade, such as [1, 10],")
        return float(scale[0]), float(scale[1])

    def _wrong(self, key: str, expected: str) -> InputError:
        return InputError(f"{self.where}: grader: {key}: {expected} is expected, got {self.table[key]!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
