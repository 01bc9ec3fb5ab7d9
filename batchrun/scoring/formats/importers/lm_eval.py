"""lm-evaluation-harness: what `--log_samples` writes. Source: its `evaluator.py`, `evaluation_tracker.py`; 0.4.13."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from batchrun.errors import InputError
from batchrun.records import Value
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.answers import ANSWER_COLUMNS, answer_cells, failed_cells, own_column
from batchrun.scoring.formats.importers.importer import Cells, Importer
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text
from batchrun.tables.values import json_text

__all__ = ["LmEval"]

_COLUMNS: Final = ANSWER_COLUMNS | {
    "id",
    "doc_id",
    "task",
    "prompt",
    "target",
    "responses",
    "continuations",
    "choice",
    "arguments",
    "request",
}
_TASK: Final = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT[\d.-]+\.jsonl")
_DEFAULT_FILTER: Final = "none"
_REPEATED: Final = ("doc", "arguments", "target", "resps")
"""Fields that the lines of a document have in common."""


class LmEval(Importer):
    """One row a document, although the log has a line for each filter of it.

    Mutable state: `_rows`, `_asked`: the rows by file and document, and the hash of what each was made from; `_seen`.
    """

    def __init__(self, notes: Notes) -> None:
        super().__init__(notes)
        self._rows: dict[tuple[str, str], Cells] = {}
        self._seen: set[tuple[str, str, str]] = set()
        self._asked: dict[tuple[str, str], int] = {}

    def rows(self, fields: Fields, document: Document) -> Iterator[Cells]:
        if "doc_id" not in fields or "resps" not in fields:
            raise InputError(
                f'{document.where}: expected a sample of lm-eval (--log_samples), with "doc_id", "doc" and "resps"'
            )
        named = _TASK.fullmatch(document.path.name)
        task = named["task"] if named else ""
        doc_id, filter_name = fields.take("doc_id"), as_text(fields.take("filter")) or _DEFAULT_FILTER
        key = (str(document.path), as_text(doc_id))
        if (*key, filter_name) in self._seen:
            fields.take_all()
            self.notes.remark("lines with a document and a filter that occur before, of which the first is kept")
            return
        self._seen.add((*key, filter_name))
        row, asked = self._rows.setdefault(key, {}), hash(json_text([fields.get(name) for name in _REPEATED]))
        if not row:
            self._asked[key] = asked
            row.update({"id": doc_id} | ({"task": task} if task else {}))
            row.update(self._document(fields))
            row.update(_answer(fields))
        elif self._asked[key] == asked:
            for name in _REPEATED:
                fields.take(name)
        _add_filter(row, filter_name, fields)
        yield from ()

    def last_rows(self) -> Iterator[Cells]:
        yield from self._rows.values()

    def _document(self, fields: Fields) -> Cells:
        doc = fields.take("doc")
        if not isinstance(doc, dict):
            return {"doc": doc}
        cells: Cells = {}
        for name, value in doc.items():
            column = own_column(name, "doc_", _COLUMNS, ("score_", "filtered_"))
            if column != name:
                self.notes.remark(f"the document's field {name!r} is the column {column!r}")
            cells[column] = value
        return cells


def _arguments(fields: Fields) -> list[list[Value]]:
    """Take the arguments of each request: `{"gen_args_0": {"arg_0": …}}`, or a list of lists in earlier versions."""
    arguments = fields.get("arguments")
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    if not isinstance(requests, list) or not all(isinstance(each, dict | list) for each in requests):
        return []
    fields.take("arguments")
    return [list(each.values()) if isinstance(each, dict) else each for each in requests]


def _answer(fields: Fields) -> Cells:
    """Take prompt, target and answers of a document."""
    arguments, requests, answers = fields.get("arguments"), _arguments(fields), fields.take("resps")
    cells: Cells = {"prompt": requests[0][0] if requests and requests[0] else None, "target": fields.take("target")}
    rest = [each[1:] for each in requests]
    likelihoods = _log_likelihoods(answers)
    if likelihoods is not None and len(likelihoods) == len(rest) and all(rest):
        best = max(range(len(rest)), key=likelihoods.__getitem__)
        continuations = [as_text(each[0]) for each in rest]
        cells |= answer_cells(continuations[best].strip())
        cells["choice"] = best
        cells["continuations"] = [
            {"text": text, "log_likelihood": value, "reply": reply}
            for text, value, reply in zip(continuations, likelihoods, answers, strict=True)
        ]
        if any(len(each) != 2 or each[0] != cells["prompt"] for each in requests):
            cells["arguments"] = arguments
        return cells
    texts = [each for each in _flat(answers) if isinstance(each, str)]
    cells |= answer_cells(texts[0]) if texts else failed_cells("no_sample", "the document has no answer in `resps`")
    cells["responses"] = answers
    if len(requests) > 1:
        cells["arguments"] = arguments
    elif any(rest):
        cells["request"] = rest[0]
    return cells


def _log_likelihoods(answers: Value) -> list[float] | None:
    """Return the log-likelihood of each choice; None if the answers are texts or there is one request only."""
    if not isinstance(answers, list) or len(answers) < 2:
        return None
    values = []
    for each in answers:
        pair = each[0] if isinstance(each, list) and each else None
        if not isinstance(pair, list) or len(pair) != 2 or as_text(pair[1]).lower() not in ("true", "false"):
            return None
        try:
            values.append(float(pair[0]))
        except (TypeError, ValueError):
            return None
    return values


def _flat(value: Value) -> Iterator[Value]:
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    else:
        yield value


def _add_filter(row: Cells, filter_name: str, fields: Fields) -> None:
    """Take the metrics of a filter, each with its column, and what the filter made of the answers."""
    ending = "" if filter_name == _DEFAULT_FILTER else f"_{filter_name}"
    listed = fields.get("metrics")
    names = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    if names and names == listed and all(name in fields for name in names):
        fields.take("metrics")
    for name in [each for each in names if each in fields] or [each for each in fields.fields if each in _METRICS]:
        row[f"score_{name}{ending}"] = fields.take(name)
    if "continuations" in row:
        fields.take_if("filtered_resps", [each["reply"][0] for each in row["continuations"]])
    if "filtered_resps" in fields:
        row[f"filtered{ending or '_responses'}"] = fields.take("filtered_resps")


_METRICS: Final = frozenset({"acc", "acc_norm", "exact_match", "f1", "bleu", "perplexity"})
"""Names of metrics that logs before version 0.4.4 do not list."""
