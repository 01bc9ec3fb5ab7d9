"""Grader: a model that grades, given by its name or by a job file with a table [grader]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from batchrun.errors import InputError
from batchrun.job.file import read_job_file
from batchrun.job.option_values import read_text_option, suggestion
from batchrun.job.options import Job
from batchrun.job.validation import make_job
from batchrun.records import JsonObject
from batchrun.scoring.grading.ready_rubrics import CHOICES, DEFAULT_RUBRIC, PARTIAL, READY_RUBRICS
from batchrun.scoring.grading.verdicts import Reader

__all__ = ["Grader", "load_grader"]


_REFUSED_OPTIONS: Final = {
    **dict.fromkeys(
        ("input", "output", "output_prefix", "key", "encoding", "delimiter", "safe_csv", "thread_column", "attach"),
        "a grader grades the table that is scored",
    ),
    **dict.fromkeys(("messages", "examples"), "a grader is asked by its rubric: put everything into it"),
    "turns": "a grader is asked once per answer: put everything into the rubric",
    "matrix": "a grader is one model with one rubric: use several graders",
    "epochs": "use votes in the table [grader]",
    "dedupe": "identical requests are always sent once, or once per vote",
    "batch_api": "graders are asked by ordinary requests",
    "ping": "only a batch can notify a monitor, not its graders",
}
"""Options of a batch that a grader cannot have → reason."""


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
"""Options for the service of a model and its limits; a grader given by a model's name alone shares the batch's."""


@dataclass(frozen=True, slots=True)
class Grader:
    """A model that grades by a rubric.

    Attributes:
        name: name in files and messages.
        where: the file or option that describes it, for messages.
        job: options of its batch.
        rubric: template of its prompt.
        ready: name of the rubric in `READY_RUBRICS`; None for one of the user's.
        reader: how its verdicts are read.
        votes: number of requests for each answer.
        question: column of the question, or a template for it; None for the usual columns.
    """

    name: str
    where: str
    job: Job
    rubric: str = DEFAULT_RUBRIC
    ready: str | None = "correctness"
    reader: Reader = field(default_factory=Reader)
    votes: int = 1
    question: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it was given by a file, and not by a model's name."""
        return not self.where.startswith("--")

    @classmethod
    def of_model(cls, model: str, service: JsonObject, where: str, rubric: str = "correctness") -> Grader:
        """Return a grader with a rubric of `READY_RUBRICS`.

        Args:
            service: options of a batch; those for its service and limits are used.
            rubric: name of the rubric.

        Raises:
            InputError: an option is wrong.
        """
        job = make_job({**{name: service[name] for name in _SERVICE if name in service}, "model": model})
        return cls(_file_name(model), where, replace(job, retry_failed=True)).with_rubric(rubric)

    def with_rubric(self, name: str) -> Grader:
        """Return a grader of a model with another rubric of `READY_RUBRICS`, whose name is in its own."""
        ready = READY_RUBRICS[name]
        own = _file_name(self.job.model or "")
        return replace(
            self,
            name=own if name == "correctness" else f"{own}-{name}",
            rubric=ready.text,
            ready=name,
            reader=replace(self.reader, choices=ready.choices),
        )


def load_grader(path: Path, environ: Mapping[str, str]) -> Grader:
    """Return the grader of a job file, which has the keys of a batch and a table `[grader]`; `prompt` is the rubric.

    Raises:
        InputError: the file cannot be read, or a key or value in it is wrong.
    """
    file = read_job_file(path, environ, ("grader",))
    options, tables = file.options, file.tables
    given = {**options, "input": file.input}
    for key, reason in _REFUSED_OPTIONS.items():
        if given.get(key):
            raise InputError(f"{path}: {key}: {reason}; remove the line")
    job = make_job({"retry_failed": True, **options})
    own = _GraderTable(str(path), tables.get("grader", {}))
    rubric = read_text_option(job.prompt, "prompt")
    ready = own.ready(has_prompt=rubric is not None)
    reader = own.reader(ready)
    return Grader(
        name=_file_name(own.text("name") or path.stem),
        where=str(path),
        job=replace(job, prompt=None),
        rubric=READY_RUBRICS[ready].text if ready is not None else rubric or "",
        ready=ready,
        reader=reader,
        votes=own.votes(),
        question=own.text("question"),
    )


def _file_name(name: str) -> str:
    """Return a name that can be part of a file name."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "grader"


@dataclass(frozen=True, slots=True)
class _GraderTable:
    """The table `[grader]` of a job file."""

    where: str
    table: Any

    KEYS: ClassVar = ("name", "rubric", "choices", "partial", "scale", "pattern", "votes", "question")

    def __post_init__(self) -> None:
        if not isinstance(self.table, dict):
            raise InputError(f"{self.where}: grader: expected a table [grader], got {self.table!r}")
        for key in self.table:
            if key not in self.KEYS:
                raise InputError(f"{self.where}: grader: unknown key {key!r}{suggestion(key, self.KEYS)}")
        if sum(key in self.table for key in ("choices", "partial", "scale")) > 1:
            raise InputError(f"{self.where}: grader: choices, partial and scale exclude each other; use one of them")

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

    def ready(self, *, has_prompt: bool) -> str | None:
        """Return the name of the ready rubric; None if the file has its own prompt."""
        name = self.text("rubric")
        if name is None:
            return None if has_prompt else "correctness"
        if name not in READY_RUBRICS:
            raise self._wrong("rubric", f"one of {', '.join(READY_RUBRICS)}")
        if has_prompt:
            raise InputError(f"{self.where}: grader: rubric and prompt exclude each other; use one of them")
        return name

    def reader(self, ready: str | None) -> Reader:
        """Return how verdicts are read.

        Args:
            ready: name of the ready rubric, which explains its own grades only; None for one of the user's.
        """
        partial = self.table.get("partial", False)
        if not isinstance(partial, bool):
            raise self._wrong("partial", "true or false")
        pattern = self.text("pattern")
        try:
            compiled = None if pattern is None else re.compile(pattern)
        except re.error as exc:
            raise InputError(f"{self.where}: grader: pattern: is not a regular expression: {exc}") from None
        if compiled is not None and compiled.groups != 1:
            raise self._wrong("pattern", "a pattern with one group, which holds the grade")
        if partial and ready not in (None, "correctness"):
            raise InputError(f"{self.where}: grader: partial: the rubric {ready} has its own grades; remove the line")
        explained = PARTIAL if partial else CHOICES if ready is None else READY_RUBRICS[ready].choices
        reader = Reader(self._choices(explained), self._scale(), compiled)
        known = (set(CHOICES), set(PARTIAL)) if ready == "correctness" else (set(explained),)
        if ready is not None and (reader.scale is not None or set(reader.choices) not in known):
            raise InputError(
                f"{self.where}: grader: the rubric {ready} explains the grades {', '.join(explained)} only; use these, "
                "or add prompt = ... with a rubric that explains others"
            )
        return reader

    def _choices(self, default: Mapping[str, float]) -> Mapping[str, float]:
        choices = self.table.get("choices", default)
        expected = "grades with values from 0 to 1, such as { C = 1.0, I = 0.0 }"
        if not isinstance(choices, Mapping) or not choices:
            raise self._wrong("choices", expected)
        if not all(_is_number(value) and 0 <= value <= 1 for value in choices.values()):
            raise self._wrong("choices", expected)
        if len({name.casefold() for name in choices}) < len(choices):
            raise self._wrong("choices", "grades that differ by more than upper and lower case")
        return {name: float(value) for name, value in choices.items()}

    def _scale(self) -> tuple[float, float] | None:
        scale = self.table.get("scale")
        if scale is None:
            return None
        if not (isinstance(scale, list) and len(scale) == 2 and all(map(_is_number, scale)) and scale[0] < scale[1]):
            raise self._wrong("scale", "the lowest and the highest grade, such as [1, 10]")
        return float(scale[0]), float(scale[1])

    def _wrong(self, key: str, expected: str) -> InputError:
        return InputError(f"{self.where}: grader: {key}: expected {expected}, got {self.table[key]!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
