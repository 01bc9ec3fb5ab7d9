"""Evals and runs of OpenAI as a job file, with files for its graders and data. Source: the SDK's `types/evals`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batchrun.errors import InputError
from batchrun.job.file import job_toml
from batchrun.records import JsonDict
from batchrun.scoring.formats.documents import documents_of
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.asked import text_of
from batchrun.scoring.formats.importers.job_text import job_text
from batchrun.scoring.formats.importers.oaieval_jobs import is_registry, oaieval_job_files
from batchrun.scoring.formats.importers.openai_evals import OpenAIEvals
from batchrun.scoring.formats.importers.openai_graders import Criteria, sampling_options
from batchrun.scoring.formats.importers.openai_templates import PROMPT_NAMES, column_in, rendered_messages, rewritten
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text
from batchrun.tables import ReadOptions
from batchrun.tables.values import json_text

__all__ = ["job_files"]

_API: Final = {"completions": "chat", "responses": "responses"}


def job_files(names: Sequence[str], job: Path, notes: Notes) -> dict[Path, str]:
    """Return path and text of a job file for an eval and its run, and of the files that it refers to.

    Args:
        names: files with the eval, or its runs, or both; one object each, several, or pages of lists. Or files of the
            open-source repository's registry.
        job: path of the job file; the others are next to it.

    Raises:
        InputError: a file cannot be read, has neither an eval nor a run, or has several evals.
    """
    documents = [each for name in names for each in documents_of(name, ReadOptions())]
    if is_registry(documents):
        return oaieval_job_files(documents, job, notes)
    roots = [Fields.of(each.content) for each in documents]
    objects = [each for root in roots for each in _objects(root)]
    evals = [each for each in objects if each.get("object") == "eval"]
    runs = [each for each in objects if each.get("object") == "eval.run"]
    if not evals and not runs:
        raise InputError(f"{names[0]}: has neither an eval nor a run; write its items to a table, such as a .csv")
    if len(evals) > 1:
        listed = ", ".join(as_text(each.get("id") or each.get("name")) for each in evals)
        raise InputError(f"{names[0]}: has {len(evals)} evals ({listed}); write each to a file of its own")
    made = _Job(job, notes)
    for each in evals:
        made.add_eval(each)
    if runs:
        made.add_runs(runs)
    for root in roots:
        for path, value in root.left():
            notes.add_value(path.removeprefix("data[]."), value)
    return made.files()


def _objects(root: Fields) -> Iterator[Fields]:
    if isinstance(root.get("data"), list):
        root.take_if("object", "list")
        members = root.objects("data")
        ids = [each.get("id") for each in members]
        root.take_if("first_id", *ids[:1])
        root.take_if("last_id", *ids[-1:])
        root.take_if("has_more", False)
        yield from members
    else:
        yield root


@dataclass(slots=True)
class _Job:
    """A job file that is being made.

    Mutable state: all attributes.
    """

    path: Path
    notes: Notes
    options: JsonDict
    comments: list[str]
    criteria: Criteria
    data: str

    def __init__(self, path: Path, notes: Notes) -> None:
        self.path, self.notes = path, notes
        self.options, self.comments, self.data = {}, [], ""
        self.criteria = Criteria(path.stem, notes)

    def add_eval(self, each: Fields) -> None:
        """Take an eval: its criteria become scorers, what describes it becomes a comment."""
        each.take_if("object", "eval")
        for name in ("id", "name", "created_at", "metadata", "data_source_config"):
            if each.get(name) not in (None, "", {}):
                self.comments.append(f"{name} of the eval: {json_text(each.take(name))}")
        for criterion in each.objects("testing_criteria"):
            if not self.criteria.add(criterion):
                self.comments.append(f"criterion without a counterpart: {json_text(criterion.take_all())}")

    def add_runs(self, runs: list[Fields]) -> None:
        """Take the first run, and the models of those that differ from it by their model only."""
        first, *others = runs
        same = [run for run in others if _asked(run) == _asked(first)]
        models = [first.object("data_source").text("model"), *(_model(run) for run in same)]
        names = list(dict.fromkeys(filter(None, models)))
        for run in same:
            run.take("data_source")
        for run in (first, *same):
            run.take_if("object", "eval.run")
            run.take_if("model", *names)
            for name in ("id", "name", "eval_id", "created_at", "metadata"):
                if run.get(name) not in (None, "", {}):
                    self.comments.append(f"{name} of the run: {json_text(run.take(name))}")
        if len(names) > 1:
            self.options["matrix"] = {"model": names}
        elif names:
            self.options["model"] = names[0]
        self._source(first.object("data_source"))

    def _source(self, source: Fields) -> None:
        kind = as_text(source.get("type"))
        if kind in _API:
            self.options["api"] = _API[source.take("type")]
        else:
            source.take_if("type", "jsonl")
        conversation = self._asked(source)
        params = source.object("sampling_params")
        self.options |= sampling_options(params)
        if isinstance(params.get("response_format"), dict):
            self.options["response_format"] = params.take("response_format")
        self._content(source.object("source"), conversation)

    def _asked(self, source: Fields) -> list[JsonDict]:
        """Take the messages; return those that are more than instructions and one message of the user."""
        messages = source.object("input_messages")
        column = column_in("{{ " + as_text(messages.get("item_reference")) + " }}")
        if column is not None:
            self.options["messages"] = column
            messages.take("item_reference")
            messages.take_if("type", "item_reference")
        parts = messages.objects("template")
        roles = [as_text(each.get("role")) for each in parts]
        users = [index for index, role in enumerate(roles) if role == "user"]
        if not parts or len(parts) < len(messages.get("template")):
            return []
        is_short = len(users) == 1 and users[0] == len(parts) - 1 and not set(roles) - {"system", "developer", "user"}
        if not is_short or any(text_of(each.get("content")) is None for each in parts):
            self.options["messages"] = "messages"
            if not source.object("source").objects("content"):
                self.notes.remark("input_messages: these are more than instructions and one message of the user; write "
                                  "them into the column 'messages' of the table", 0)  # fmt: skip
                return []
            messages.take_if("type", "template")
            return [_message(each) for each in messages.take("template")]
        messages.take_if("type", "template")
        texts: dict[bool, list[str]] = {True: [], False: []}
        for part, role in zip(parts, roles, strict=True):
            part.take("role")
            part.take_if("type", "message")
            texts[role == "user"].append(
                rewritten(text_of(part.take("content")) or "", self.notes, reserved=PROMPT_NAMES)
            )
        self.options["prompt"] = texts[True][0]
        if texts[False]:
            self.options["instructions"] = "\n\n".join(texts[False])
        return []

    def _content(self, source: Fields, conversation: list[JsonDict]) -> None:
        lines = source.objects("content")
        if not lines:
            if source.get("type") == "file_id":
                self.comments.append(f"The data of the run is the file {source.take('id')}: download it, convert it to "
                                     "a table, and name that with input = ...")  # fmt: skip
                source.take("type")
            return
        source.take_if("type", "file_content")
        importer = OpenAIEvals(self.notes)
        rows = [importer.data_row(line) for line in lines]
        if conversation:
            rows = [{**row, "messages": rendered_messages(conversation, row, self.notes)} for row in rows]
        self.data = "".join(json_text(row) + "\n" for row in rows)
        self.options = {"input": f"{self.path.stem}.data.jsonl", **self.options}

    def files(self) -> dict[Path, str]:
        """Return path and text of all files."""
        criteria, folder = self.criteria, self.path.parent
        made = {self.path: job_text(self.options, criteria.scorers, criteria.target, self.comments)}
        if self.data:
            made[folder / f"{self.path.stem}.data.jsonl"] = self.data
        made |= {folder / name: job_toml(grader) for name, grader in criteria.graders.items()}
        return made | {folder / name: source for name, source in criteria.functions.items()}


def _message(part: JsonDict) -> JsonDict:
    """Return a message of a template as Chat Completions write it: its content is a text or a list of parts."""
    content = part.get("content")
    text = text_of(content)
    parts = [content] if isinstance(content, dict) else content
    rest = {key: value for key, value in part.items() if (key, value) != ("type", "message")}
    return {**rest, "content": parts if text is None else text}


def _asked(run: Fields) -> str:
    """Return everything about the data source of a run but its model, as text."""
    source = run.get("data_source")
    return json.dumps({**source, "model": None} if isinstance(source, dict) else source, sort_keys=True, default=str)


def _model(run: Fields) -> str | None:
    source = run.get("data_source")
    return source.get("model") if isinstance(source, dict) else None
