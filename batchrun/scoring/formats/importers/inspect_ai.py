"""inspect_ai: samples of datasets and of logs. Source: its `Sample`, `EvalLog` and `EvalSample`, version 0.3.285."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

from batchrun.errors import InputError
from batchrun.records import Value
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.answers import ANSWER_COLUMNS, answer_cells, failed_cells, own_column
from batchrun.scoring.formats.importers.asked import conversation_cells, take_text, text_of
from batchrun.scoring.formats.importers.importer import Cells, Importer
from batchrun.scoring.formats.importers.inspect_messages import sent_messages
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text

__all__ = ["InspectAI"]

_COLUMNS: Final = ANSWER_COLUMNS | {
    *("id", "epoch", "task", "question", "instructions", "input", "target", "choices", "description"),
}
_PROMPT: Final = ("question", "instructions", "messages")
_SCORES: Final = ("score_",)
_ENVIRONMENT: Final = frozenset({"sandbox", "files", "setup", "checkpoint"})
"""Fields of a sample that describe the environment of its solver, for which there is no place here."""


class InspectAI(Importer):
    """One row a sample of a dataset; one row a sample and epoch of a log.

    Mutable state: `_task`, `_model`: those of the log that is read.
    """

    def __init__(self, notes: Notes) -> None:
        super().__init__(notes)
        self._task: Value = None
        self._model: Value = None

    def rows(self, fields: Fields, document: Document) -> Iterator[Cells]:
        if isinstance(fields.get("eval"), dict) and "input" not in fields:
            self._header(fields, document)
            for sample in fields.objects("samples"):
                yield self._logged(sample)
        elif "input" not in fields:
            raise InputError(f'{document.where}: expected a log of inspect_ai, or a sample with "input"')
        elif isinstance(fields.get("output"), dict):
            yield self._logged(fields)
        else:
            yield self._sample(fields)

    def _header(self, fields: Fields, document: Document) -> None:
        self._task, self._model = fields.get("eval").get("task"), fields.get("eval").get("model")
        fields.take_if("version", 2)
        if "status" not in fields:
            self.notes.remark(f"{document.where}: the log is of a run that has not ended; samples may be missing", 0)
        elif not fields.take_if("status", "success"):
            status = as_text(fields.take("status"))
            self.notes.remark(f"{document.where}: the log has the status {status!r}; samples may be missing", 0)

    def _sample(self, fields: Fields) -> Cells:
        cells = self._asked(fields)
        for name in [name for name, value in fields.fields.items() if name not in _ENVIRONMENT and value != {}]:
            cells[own_column(name, "metadata_", _COLUMNS, _SCORES)] = fields.take(name)
        return cells

    def _asked(self, fields: Fields) -> Cells:
        """Take what a sample asks and expects."""
        cells: Cells = {} if fields.get("id") is None else {"id": fields.take("id")}
        fields.fields["input"] = sent_messages(fields.get("input"), self.notes)
        cells |= conversation_cells(fields, "input")
        target = "target" if fields.get("target") is not None else "ideal"
        for name, column in ((target, "target"), ("choices", "choices"), ("description", "description")):
            if fields.get(name) not in (None, ""):
                cells[column] = fields.take(name)
        for name, value in fields.object("metadata").take_all().items():
            column = own_column(name, "metadata_", _COLUMNS, _SCORES)
            if column != name:
                self.notes.remark(f"the field {name!r} of metadata is the column {column!r}")
            cells[column] = value
        return cells

    def _logged(self, fields: Fields) -> Cells:
        _resolve_attachments(fields)
        cells: Cells = {"id": fields.take("id"), "epoch": fields.take("epoch")}
        if self._task is not None:
            cells["task"] = self._task
        cells |= self._asked(fields)
        answer = _answer(fields)
        asked = self._asked_instead(answer.pop("messages", None), cells)
        if asked:
            cells = {name: value for name, value in cells.items() if name not in _PROMPT} | asked
        cells |= answer
        cells["model"] = cells.get("model") or self._model
        cells["duration_s"], cells["completed_at"] = fields.take("total_time"), fields.take("completed_at")
        scores = fields.object("scores")
        for name in list(scores.fields):
            cells |= _score(name, scores.object(name), cells.get("response"))
        return cells

    def _asked_instead(self, messages: Value, cells: Cells) -> Cells:
        """Return the prompt if it is not the input, which is then the column `input`; nothing if it is.

        Args:
            messages: the messages before the answer.
            cells: with the question, the instructions and the messages of the input.
        """
        given = {name: cells[name] for name in _PROMPT if name in cells}
        asked = conversation_cells(Fields.of({"messages": sent_messages(messages, self.notes)}), "messages")
        if asked == given or not asked:
            return {}
        if given.keys() <= asked.keys() and all(asked[name] == value for name, value in given.items()):
            return asked
        whole = given.get("messages") or given.get("question")
        if "messages" not in given and "instructions" in given:
            whole = [{"role": "system", "content": given["instructions"]}, {"role": "user", "content": whole}]
        return {"input": whole, **asked}


def _resolve_attachments(fields: Fields) -> None:
    """Replace `attachment://HASH` by the long text that it stands for, and remove the attachments that were used."""
    attachments = fields.get("attachments")
    if not isinstance(attachments, dict) or not attachments:
        return
    used: set[str] = set()

    def resolved(value: Value) -> Value:
        if isinstance(value, str) and value.startswith(_ATTACHMENT):
            key = value.removeprefix(_ATTACHMENT)
            if key in attachments:
                used.add(key)
            return attachments.get(key, value)
        if isinstance(value, list):
            return [resolved(each) for each in value]
        return {key: resolved(each) for key, each in value.items()} if isinstance(value, dict) else value

    for name in fields.fields.keys() - {"attachments", "events", "events_data", "timelines"}:
        fields.fields[name] = resolved(fields.fields[name])
    for key in used:
        del attachments[key]


_ATTACHMENT: Final = "attachment://"


def _answer(fields: Fields) -> Cells:
    """Take the answer and its status out of a sample of a log."""
    output, error, limit = fields.object("output"), fields.object("error"), fields.object("limit")
    choices = output.objects("choices")
    message = choices[0].object("message") if choices else Fields({}, fields.opened)
    asked = fields.get("messages")
    if isinstance(asked, list):
        asked = fields.take("messages")
        if asked and message.fields and asked[-1] == message.fields:
            asked = asked[:-1]
    text = text_of(message.get("content"))
    if text is None:
        text = output.text("completion") or take_text(message) or ""
    else:
        message.take("content")
        output.take_if("completion", text)
    calls = message.take("tool_calls")
    message.take_if("role", "assistant")
    finish = choices[0].take("stop_reason") if choices else None
    if error.fields:
        kind = _EXCEPTION.match(as_text(error.get("message")))
        cells = failed_cells(kind[1] if kind else "error", error.take("message"), text=text)
    elif not choices and not text and not limit.fields:
        cells = failed_cells("no_sample", "the sample has no output")
    else:
        cells = answer_cells(text, finish=finish, has_calls=bool(calls))
        if limit.fields:
            cells["status"], cells["error_type"] = "incomplete", f"{as_text(limit.take('type'))}_limit"
            cells["error"] = limit.text("reason") or f"limit of {as_text(limit.take('limit'))}"
    cells["model"] = output.take("model")
    cells |= _usage(fields, output)
    extras = {"finish_reason": finish, "messages": asked, "tool_calls": calls}
    return cells | {key: value for key, value in extras.items() if value not in (None, "", [])}


_EXCEPTION: Final = re.compile(r"([A-Za-z_]\w*)\(")

_USAGE: Final = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "total_tokens": "total_tokens",
    "cached_tokens": "input_tokens_cache_read",
    "reasoning_tokens": "reasoning_tokens",
}


def _usage(fields: Fields, output: Fields) -> Cells:
    """Take the tokens of all calls of the sample if they are of one model, else those of the last call."""
    by_model = fields.get("model_usage")
    last = output.object("usage")
    usage = last
    if isinstance(by_model, dict) and len(by_model) == 1:
        (model,) = by_model
        if isinstance(by_model[model], dict):
            usage = fields.object("model_usage").object(model)
            if usage.fields == last.fields:
                last.take_all()
    return {column: usage.take(name) for column, name in _USAGE.items()}


_GRADES: Final = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""inspect_ai's CORRECT, PARTIAL, INCORRECT and NOANSWER → value. Source: its `value_to_float`."""


def _score(name: str, score: Fields, response: Value) -> Cells:
    """Take a score: a column for its value, or one for each key of a value that is a dict."""
    cells: Cells = {}
    value = score.take("value")
    values = {f"_{key}": each for key, each in value.items()} if isinstance(value, dict) else {"": value}
    for ending, each in values.items():
        cells[f"score_{name}{ending}"] = _graded(each)
    if response is not None:
        score.take_if("answer", response)
    for field, ending in (("explanation", "reason"), ("answer", "answer"), ("reason", "why"), ("metadata", "metadata")):
        if score.get(field) not in (None, "", {}):
            cells[f"score_{name}_{ending}"] = score.take(field)
    return cells


def _graded(value: Value) -> Value:
    """Return a score as a number if it is a grade, and as None if it is NaN, which marks a missing score."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return _GRADES.get(value, value) if isinstance(value, str) else value
