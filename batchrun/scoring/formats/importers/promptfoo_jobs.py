"""A configuration of promptfoo as a job file, with files for its tests, its graders and checks that no scorer makes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from batchrun.errors import InputError
from batchrun.job.file import job_toml
from batchrun.prompts.template_engine import names_in
from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.documents import Document, documents_of
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.importer import Cells
from batchrun.scoring.formats.importers.job_text import job_text
from batchrun.scoring.formats.importers.promptfoo import Promptfoo, PromptfooCase, variable_column
from batchrun.scoring.formats.importers.promptfoo_checks import TESTS, Check
from batchrun.scoring.formats.importers.promptfoo_config import is_config, tests_of
from batchrun.scoring.formats.importers.promptfoo_graders import grader_options
from batchrun.scoring.formats.importers.promptfoo_prompts import PromptfooPrompt, prompts_of
from batchrun.scoring.formats.importers.promptfoo_providers import Provider, providers_of
from batchrun.scoring.formats.importers.promptfoo_templates import prompt_of, rendered
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import is_missing
from batchrun.tables import ReadOptions
from batchrun.tables.values import json_text

__all__ = ["promptfoo_job_files"]


def promptfoo_job_files(names: Sequence[str], job: Path, notes: Notes) -> dict[Path, str]:
    """Return path and text of a job file for a configuration, and of the files that it refers to.

    Raises:
        InputError: there are several files, the file is not a configuration or has no tests, or a file that it names
            cannot be read.
    """
    documents = [each for name in names for each in documents_of(name, ReadOptions())]
    if len(documents) > 1:
        raise InputError(f"{names[-1]}: a second configuration; convert each to a job file of its own")
    document = documents[0]
    fields = Fields.of(document.content)
    if isinstance(fields.get("config"), dict) and "results" in fields:
        raise InputError(f"{document.where}: these are results; name a table as the output, such as a .csv")
    if not is_config(fields):
        raise InputError(f"{document.where}: expected a configuration of promptfoo with prompts, providers and tests")
    made = _Job(job, notes, fields, document)
    for path, value in fields.left():
        notes.add_value(path, value)
    return made.files()


@dataclass(slots=True)
class _Slot:
    """The place of one check of each row.

    Attributes:
        name: name of the score.
        check: the first check of this kind.
        values: row → what the check compares the answer with; rows without the check are missing.
    """

    name: str
    check: Check
    values: dict[int, Value] = field(default_factory=dict)


class _Job:
    """A job file that is being made. Mutable state: all attributes."""

    def __init__(self, path: Path, notes: Notes, fields: Fields, document: Document) -> None:
        self.stem, self.folder, self.path, self.notes = path.stem, path.parent, path, notes
        self.texts: dict[str, str] = {}
        self.scorers: list[str] = []
        description = fields.take("description")
        self.comments = [] if is_missing(description) else [f"description: {json_text(description)}"]
        prompts = prompts_of(fields, document, notes)
        self.options: JsonDict = {"input": f"{self.stem}.data.jsonl"}
        self._models(providers_of(fields, notes))
        self._evaluation(fields.object("evaluateOptions"))
        importer = Promptfoo(notes)
        cases = [
            case
            for test, source in tests_of(fields, document, notes)
            for case in importer.cases(test, source, for_job=True)
        ]
        if not cases:
            raise InputError(f"{document.where}: has no tests that a job can ask")
        self.rows, checks = self._asked(prompts, cases)
        for slot in self._slots(checks):
            self._score(slot)
        self.texts[f"{self.stem}.data.jsonl"] = "".join(json_text(row) + "\n" for row in self.rows)

    def _models(self, providers: list[Provider]) -> None:
        """Set the models and the options that they share; name the providers that are asked in another way."""
        if not providers:
            self.notes.remark("no provider is taken over: add model = ... to the job, or run it with --model NAME", 0)
            return
        first = providers[0]
        for each in providers:
            differing = [key for key in first.options | each.options if first.options.get(key) != each.options.get(key)]
            if differing:
                what = f"its {', '.join(differing)} differs from that of {first.name!r}: make a second job with it"
                self.notes.remark(f"provider {each.name!r} is not in the job, because {what}", 0)
        models = list(dict.fromkeys(each.model for each in providers if each.options == first.options))
        self.options |= first.options
        if len(models) == 1:
            self.options["model"] = models[0]
        else:
            self.options["matrix"] = {"model": models}

    def _evaluation(self, fields: Fields) -> None:
        repeat, concurrency = fields.get("repeat"), fields.get("maxConcurrency")
        if isinstance(repeat, int) and repeat > 1:
            self.options["epochs"] = fields.take("repeat")
        if isinstance(concurrency, int) and concurrency > 0:
            self.options["concurrency"] = fields.take("maxConcurrency")

    # -- prompts ------------------------------------------------------------------------------------------------

    def _asked(
        self, prompts: list[PromptfooPrompt], cases: list[PromptfooCase]
    ) -> tuple[list[Cells], list[list[Check]]]:
        """Set the prompts, and return the rows and their checks. Conversations are rendered into a column."""
        names = dict.fromkeys(name for case in cases for name in case.variables)
        columns = {name: variable_column(name) for name in names}
        if not prompts:
            self.notes.remark("no prompt is taken over: add prompt = ... to the job", 0)
        if any(each.messages is not None for each in prompts) or (
            len(prompts) > 1 and any(each.instructions for each in prompts)
        ):
            self.options["messages"] = "messages"
            pairs = [(prompt, case) for case in cases for prompt in prompts]
            rows = [case.cells | self._conversation(prompt, case, several=len(prompts) > 1) for prompt, case in pairs]
            return rows, [case.checks for _, case in pairs]
        texts = [prompt_of(each.text, columns, self.notes, f"prompt {each.label!r}") for each in prompts]
        texts = list(dict.fromkeys(texts))
        if len(texts) == 1:
            self.options["prompt"] = texts[0]
        elif texts:
            self.options["matrix"] = {"prompt": texts, **self.options.get("matrix", {})}
        if any(not names_in(text) for text in texts):
            self.options["constant_prompt"] = True
        if prompts and prompts[0].instructions:
            self.options["instructions"] = prompt_of(prompts[0].instructions, columns, self.notes, "the instructions")
        return [case.cells for case in cases], [case.checks for case in cases]

    def _conversation(self, prompt: PromptfooPrompt, case: PromptfooCase, *, several: bool) -> Cells:
        messages = prompt.messages
        if messages is None:
            messages = [{"role": "system", "content": prompt.instructions}] if prompt.instructions else []
            messages = [*messages, {"role": "user", "content": prompt.text}]
        label = {"prompt_label": prompt.label} if several else {}
        return {**label, "messages": rendered(messages, case.variables, self.notes)}

    # -- checks -------------------------------------------------------------------------------------------------

    def _slots(self, checks: list[list[Check]]) -> list[_Slot]:
        """Return the checks of all rows, those of the same name and scorer together."""
        slots: dict[tuple[object, ...], _Slot] = {}
        names: set[str] = set()
        for index, row in enumerate(checks):
            seen: dict[tuple[object, ...], int] = {}
            for check in row:
                scorer = None if check.kind == "regex" else check.scorer
                kind = (check.kind, check.name, scorer, json_text(check.provider))
                seen[kind] = seen.get(kind, 0) + 1
                key = (*kind, seen[kind])
                if key not in slots:
                    slots[key] = _Slot(_free(check.name, names), check)
                slots[key].values[index] = True if check.kind == "is-json" else check.target
        return list(slots.values())

    def _score(self, slot: _Slot) -> None:
        """Add the scorer of a check, the column that it compares with, and the file of its grader or function."""
        check, values = slot.check, list(slot.values.values())
        for_all = len(values) == len(self.rows) and all(each == values[0] for each in values)
        if for_all and check.kind in ("regex", "is-json"):
            self.scorers.append(f"{slot.name}={check.scorer}")
        elif check.kind in TESTS and (check.scorer is None or check.kind in ("regex", "is-json")):
            self._function(slot, self._column(slot))
        else:
            scorer = check.scorer or ""
            if scorer == "model-graded":
                file = f"{self.stem}.{slot.name}.toml"
                grader = grader_options(check.kind, check.provider, self._question(), self.notes)
                self.texts[file] = job_toml(grader)
                scorer = f"model-graded:grader={file}"
            self.scorers.append(f"{slot.name}={scorer}{',' if ':' in scorer else ':'}target={self._column(slot)}")

    def _question(self) -> str | None:
        return self.options.get("messages") or self.options.get("prompt")

    def _column(self, slot: _Slot) -> str:
        """Return the column with the expected answers; write one if no variable is the same."""
        values = [slot.values.get(index) for index in range(len(self.rows))]
        for name in self.rows[0]:
            if "," not in name and all(row.get(name) == value for row, value in zip(self.rows, values, strict=True)):
                return name
        column = _free(f"expected_{slot.name}", {name for row in self.rows for name in row})
        self.rows = [{**row, column: value} for row, value in zip(self.rows, values, strict=True)]
        return column

    def _function(self, slot: _Slot, column: str) -> None:
        file = f"{self.stem}_checks.py"
        name = f"check_{slot.name}"
        made = self.texts.get(file, _MODULE)
        self.texts[file] = made + _FUNCTION.format(
            name=name, kind=slot.check.kind, column=column, test=TESTS[slot.check.kind]
        )
        self.scorers.append(f"{slot.name}=python:{file}:{name}")

    def files(self) -> dict[Path, str]:
        """Return path and text of all files."""
        job = job_text(self.options, self.scorers, None, self.comments)
        return {self.path: job, **{self.folder / name: text for name, text in self.texts.items()}}


def _free(name: str, taken: set[str]) -> str:
    """Return a name for a score or a column that is not taken, and take it."""
    plain = re.sub(r"\W+", "_", name).strip("_") or "check"
    number, free = 1, plain
    while free in taken:
        number += 1
        free = f"{plain}_{number}"
    taken.add(free)
    return free


_MODULE: Final = '''"""Checks of promptfoo that no scorer makes. Each judges the rows that have it."""

import json
import re

from batchrun.scoring import Score


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
'''
_FUNCTION: Final = '''

def {name}(answer, target, row):
    """promptfoo's {kind}."""
    value = row[{column!r}]
    if value is None or value == "":
        return Score(None, "no target")
    return {test}
'''
