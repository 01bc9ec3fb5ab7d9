"""Evals of the open-source repository's registry as job files, with their data and graders.

Source: https://github.com/openai/evals, `docs/build-eval.md`, `docs/eval-templates.md`, `evals/elsuite`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from batchrun.errors import InputError
from batchrun.job.file import job_toml
from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.documents import Document, documents_of
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.asked import text_of
from batchrun.scoring.formats.importers.importer import Cells
from batchrun.scoring.formats.importers.job_text import job_text
from batchrun.scoring.formats.importers.oaieval import oaieval_row
from batchrun.scoring.formats.importers.oaieval_graders import grader_of
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text
from batchrun.tables import ReadOptions
from batchrun.tables.values import json_text

__all__ = ["is_registry", "oaieval_job_files"]

_GRADED: Final = "ModelBasedClassify"
_SCORERS: Final = {
    "Match": "starts-with:case=keep",
    "Includes": "includes:case=keep",
    "Translate": "bleu",
    "FuzzyMatch": "fuzzy_match",
    "JsonMatch": "json_match",
    "JsonValidator": "json_validator",
}
"""Class of an eval → scorer, or a function of `_FUNCTIONS`."""


def is_registry(documents: Sequence[Document]) -> bool:
    """Return whether documents are files of a registry, whose keys are the names of evals."""
    return any(
        isinstance(entry, dict) and ("class" in entry or "choice_strings" in entry)
        for document in documents
        for entry in document.content.values()
    )


def oaieval_job_files(documents: Sequence[Document], job: Path, notes: Notes) -> dict[Path, str]:
    """Return path and text of a job file for an eval of a registry, and of the files that it refers to.

    Args:
        documents: the eval's file, and those of its model-graded specs if they are not in the registry's folders.
        job: path of the job file. If there are several evals, its name selects one.

    Raises:
        InputError: there is no eval or several, or a file that it names cannot be read.
    """
    entries = {name: (entry, document) for document in documents for name, entry in document.content.items()}
    evals = {name for name, (entry, _) in entries.items() if isinstance(entry, dict) and "class" in entry}
    aliases = {name: entry for name, (entry, _) in entries.items() if isinstance(entry, dict) and "id" in entry}
    where = documents[0].where
    if not evals:
        raise InputError(f"{where}: has no eval with a class; name the file of registry/evals too")
    named = as_text(aliases[job.stem].get("id")) if job.stem in aliases else job.stem
    chosen = named if named in evals else next(iter(evals)) if len(evals) == 1 else None
    if chosen is None:
        names = [*aliases, *evals] if aliases else evals
        raise InputError(f"{where}: has {len(evals)} evals; name the job file after one: {', '.join(sorted(names))}")
    entry, document = entries[chosen]
    made = _Job(chosen, document, job, notes)
    for name, alias in aliases.items():
        if alias.get("id") == chosen:
            made.comments += [f"{key} of {name}: {json_text(value)}" for key, value in alias.items()]
    specs = {name: each for name, (each, _) in entries.items() if isinstance(each, dict) and "choice_strings" in each}
    return made.files(Fields.of(dict(entry)), specs)


class _Job:
    """A job file that is being made. Mutable state: all attributes."""

    def __init__(self, name: str, document: Document, job: Path, notes: Notes) -> None:
        self.document, self.path, self.notes = document, job, notes
        self.comments = [f"eval: {json_text(name)}"]
        self.options: JsonDict = {"input": f"{job.stem}.data.jsonl", "api": "chat"}
        self.texts: dict[str, str] = {}

    def files(self, entry: Fields, specs: Mapping[str, JsonDict]) -> dict[Path, str]:
        """Return path and text of all files."""
        name = as_text(entry.take("class")).rpartition(":")[2]
        args = entry.object("args")
        rows = self._rows(args)
        scorers = self._scorers(name, args, specs)
        if args.get("max_tokens") is not None:
            self.options["max_completion_tokens"] = args.take("max_tokens")
        for path, value in entry.left():
            self.notes.add_value(path, value)
        self.notes.remark("an eval names no model: add model = ... to the job, or run it with --model NAME", 0)
        self.texts[f"{self.path.stem}.data.jsonl"] = "".join(json_text(row) + "\n" for row in rows)
        job = job_text(self.options, scorers, "target" if scorers else None, self.comments)
        return {self.path: job, **{self.path.parent / file: text for file, text in self.texts.items()}}

    # -- data ---------------------------------------------------------------------------------------------------

    def _rows(self, args: Fields) -> list[Cells]:
        """Take the samples, with the examples before each last message."""
        name = args.text("samples_jsonl")
        if name is None:
            raise InputError(f"{self.document.where}: the eval has no samples_jsonl; only evals with a file of samples "
                             "become a job")  # fmt: skip
        samples = list(self._lines(name))
        examples = self._examples(args)
        is_chat = bool(examples) or any(not isinstance(each.get("input"), str) for each in samples)
        rows = []
        for sample in samples:
            fields = Fields.of(sample)
            asked = sample.get("input")
            row = oaieval_row(fields, self.notes)
            if is_chat:
                messages = _messages(asked)
                row = {name: value for name, value in row.items() if name not in ("messages", "instructions")}
                row["messages"] = [*messages[:-1], *examples, *messages[-1:]]
                row["question"] = "\n".join(f"{each.get('role')}: {text_of(each.get('content'))}" for each in messages)
            rows.append(row)
        self.options |= {"messages": "messages"} if is_chat else {"prompt": "{{ question }}"}
        return rows

    def _examples(self, args: Fields) -> list[JsonDict]:
        name, count = args.text("few_shot_jsonl"), args.take("num_few_shot")
        if name is None or not isinstance(count, int) or count < 1:
            return []
        lines = list(self._lines(name))[:count]
        return [message for line in lines for message in _messages(line.get("sample"))]

    def _lines(self, name: str) -> Iterator[JsonDict]:
        """Yield the objects of a file that is named relative to the registry's data."""
        folder = self.document.path.parent
        places = [folder / name, folder.parent / "data" / name, folder / "data" / name]
        found = next((each for each in places if each.is_file()), None)
        if found is None:
            raise InputError(f"{self.document.where}: {name}: no such file next to the eval, or in {places[1].parent}")
        for each in documents_of(str(found), ReadOptions()):
            yield each.content

    # -- scorers ------------------------------------------------------------------------------------------------

    def _scorers(self, name: str, args: Fields, specs: Mapping[str, JsonDict]) -> list[str]:
        if name == _GRADED:
            return self._graded(args, specs)
        scorer = _SCORERS.get(name)
        if scorer is None:
            known = ", ".join(sorted((*_SCORERS, _GRADED)))
            self.notes.remark(f"the class {name} has no counterpart, so the job has no scorer (known: {known})", 0)
            return []
        if name == "Includes" and args.take_if("ignore_case", True):
            scorer = "includes"
        if scorer in _FUNCTIONS:
            file = f"{self.path.stem}_scorer.py"
            self.texts[file] = _FUNCTIONS[scorer]
            return [f"{scorer}=python:{file}:{scorer}"]
        return [scorer]

    def _graded(self, args: Fields, specs: Mapping[str, JsonDict]) -> list[str]:
        name = as_text(args.take("modelgraded_spec"))
        spec = specs.get(name) or self._spec(name)
        args.take_if("eval_type", "cot_classify", "classify", "classify_cot")
        grader = grader_of(name, Fields.of(dict(spec)), self.notes)
        if grader is None:
            return []
        file = f"{self.path.stem}.{_plain(name)}.toml"
        self.texts[file] = job_toml(grader)
        self.notes.remark(f"the grader has no model: add model = ... to {file}", 0)
        return [f"{_plain(name)}=model-graded:grader={file}"]

    def _spec(self, name: str) -> JsonDict:
        path = self.document.path.parent.parent / "modelgraded" / f"{name}.yaml"
        if not path.is_file():
            raise InputError(
                f"{self.document.where}: the model-graded spec {name!r} is not in {path}; name its file too"
            )
        content: Value = next(documents_of(str(path), ReadOptions())).content.get(name)
        if not isinstance(content, dict):
            raise InputError(f"{path}: has no spec {name!r}")
        return content


def _messages(value: Value) -> list[JsonDict]:
    """Return the messages of a sample's input, which may be a text."""
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return list(value)
    return [{"role": "user", "content": value if isinstance(value, str) else json.dumps(value)}]


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "graded"


_FUNCTIONS: Final = {
    "fuzzy_match": '''"""The eval's FuzzyMatch: one text contains the other, without case, punctuation and articles."""

import re
import string


def normal(text):
    text = "".join(each for each in text.lower() if each not in string.punctuation)
    return " ".join(re.sub(r"\\b(a|an|the)\\b", " ", text).split())


def fuzzy_match(answer, target):
    def matches(one, other):
        return one == other if not (one and other) else one in other or other in one

    targets = target if isinstance(target, list) else [target]
    return any(matches(normal(answer), normal(str(each))) for each in targets)
''',
    "json_match": '''"""The eval's JsonMatch: the answer is JSON with the value of an ideal answer."""

import json


def value_of(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def json_match(answer, target):
    targets = target if isinstance(target, list) else [target]
    found = value_of(answer)
    return found is not None and any(found == value_of(str(each)) for each in targets)
''',
    "json_validator": '''"""The eval's JsonValidator: the answer is JSON."""

import json


def json_validator(answer, target):
    try:
        json.loads(answer)
    except ValueError:
        return False
    return True
''',
}
"""Function that a class needs → the Python file with it."""
