"""OpenAI's Evals: data, output items of runs, runs with their data, and pages of lists, as `/v1/evals` gives them.

Source: the SDK's `types/evals`, and https://platform.openai.com/docs/api-reference/evals. The format of the open-source
repository is in `oaieval`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from batchrun.errors import InputError
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.answers import ANSWER_COLUMNS, answer_cells, failed_cells, own_column
from batchrun.scoring.formats.importers.asked import take_text
from batchrun.scoring.formats.importers.batch_results import usage_cells
from batchrun.scoring.formats.importers.importer import Cells, Importer
from batchrun.scoring.formats.importers.oaieval import is_oaieval_sample, oaieval_row
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text, is_missing

__all__ = ["OpenAIEvals", "data_column"]

_DATA_COLUMNS: Final = frozenset({"response", "model", "messages", "tool_calls", "finish_reason"})
_ITEM_COLUMNS: Final = ANSWER_COLUMNS | {
    *("id", "datasource_item_id", "eval_id", "eval_run_id", "eval_status"),
    *("question", "prompt", "instructions"),  # the prompt is in `messages`
}
_SCORES: Final = ("score_", "passed_")
_EXPECTED: Final = (
    'expected an object of OpenAI\'s Evals: a line of data with "item", an output item with "datasource_item", an '
    'eval, a run, a list of these with "data", or a sample with "input" and "ideal"'
)


def data_column(name: str) -> str:
    """Return the column of an item's field, for data of an eval.

    >>> data_column("question"), data_column("response")
    ('question', 'item_response')
    """
    return own_column(name, "item_", _DATA_COLUMNS)


class OpenAIEvals(Importer):
    """One row for each item of data, and for each output item.

    Mutable state: `_pages`, `_seen`.
    """

    def __init__(self, notes: Notes) -> None:
        super().__init__(notes)
        self._pages: dict[str, _Pages] = {}
        self._seen: set[str] = set()

    def rows(self, fields: Fields, document: Document) -> Iterator[Cells]:
        if isinstance(fields.get("data"), list):
            self._page(fields)
            for member in fields.objects("data"):
                yield from self.rows(member, document)
        elif isinstance(fields.get("datasource_item"), dict):
            yield from self._output_item(fields)
        elif fields.get("object") == "eval.run":
            yield from self._run(fields, document)
        elif fields.get("object") == "eval":
            raise InputError(
                f"{document.where}: an eval has no rows; write a job file: name an output that ends in .toml"
            )
        elif any(isinstance(each, dict) and "class" in each for each in fields.fields.values()):
            raise InputError(
                f"{document.where}: an eval of a registry has no rows; write a job file: name an output that ends in "
                ".toml"
            )
        elif isinstance(fields.get("item"), dict):
            yield self.data_row(fields)
        elif is_oaieval_sample(fields):
            yield oaieval_row(fields, self.notes)
        else:
            raise InputError(f"{document.where}: {_EXPECTED}")

    def last_rows(self) -> Iterator[Cells]:
        for pages in self._pages.values():
            if pages.more and not pages.has_last:
                after = f", after={pages.last_id}" if pages.last_id else ""
                self.notes.remark(f"rows are missing: the last page says has_more: true; fetch the next one{after}", 0)
        yield from ()

    def _page(self, fields: Fields) -> None:
        members = fields.get("data")
        ids = [each.get("id") for each in members if isinstance(each, dict)]
        first = next((each for each in members if isinstance(each, dict)), {})
        group = "/".join(as_text(first.get(key)) for key in ("object", "eval_id", "run_id"))
        fields.take_if("object", "list")
        fields.take_if("first_id", *ids[:1])
        last_id = as_text(fields.get("last_id")) or as_text(ids[-1] if ids else None)
        fields.take_if("last_id", *ids[-1:])
        pages = self._pages.setdefault(group, _Pages())
        if fields.take_if("has_more", True):
            pages.more, pages.last_id = True, last_id
        elif fields.take_if("has_more", False):
            pages.has_last = True

    def _is_new(self, fields: Fields) -> bool:
        key = fields.get("id")
        if not isinstance(key, str):
            return True
        if key in self._seen:
            fields.take_all()
            self.notes.remark("output items that occur twice, with the same id, of which the first is kept")
            return False
        self._seen.add(key)
        return True

    def data_row(self, fields: Fields) -> Cells:
        """Take a line of data."""
        sample = fields.object("sample")
        cells = self._named(fields.object("item").take_all(), _DATA_COLUMNS)
        answer = {
            "response": sample.text("output_text"),
            "model": sample.text("model"),
            "tool_calls": sample.take("output_tools"),
            "finish_reason": sample.text("finish_reason"),
        }
        return {**cells, **{key: value for key, value in answer.items() if not is_missing(value) and value != []}}

    def _run(self, fields: Fields, document: Document) -> Iterator[Cells]:
        source = fields.object("data_source").object("source")
        content = source.objects("content")
        if not content:
            raise InputError(
                f"{document.where}: the run has no data of its own (file_content); write a job file: name an output "
                "that ends in .toml, and give the file of its data as the table"
            )
        source.take_if("type", "file_content")
        fields.take_if("object", "eval.run")
        for line in content:
            yield self.data_row(line)

    def _output_item(self, fields: Fields) -> Iterator[Cells]:
        if not self._is_new(fields):
            return
        fields.take_if("object", "eval.run.output_item")
        cells: Cells = {} if "id" not in fields else {"id": fields.take("id")}
        cells |= self._named(fields.object("datasource_item").take_all(), _ITEM_COLUMNS, _SCORES)
        cells |= _answer(fields.object("sample"))
        for name, column in _OWN.items():
            if name in fields:
                cells[column] = fields.take(name)
        yield cells | _scores(fields.objects("results"))

    def _named(self, item: Cells, reserved: frozenset[str], starts: tuple[str, ...] = ()) -> Cells:
        cells: Cells = {}
        for name, value in item.items():
            column = own_column(name, "item_", reserved, starts)
            if column != name:
                self.notes.remark(f"the item's field {name!r} is the column {column!r}")
            cells[column] = value
        return cells


@dataclass(slots=True)
class _Pages:
    """Pages of one list.

    Attributes:
        more: a page says that another follows.
        has_last: a page says that none follows.
        last_id: the last id of the last page that says that another follows.
    """

    more: bool = False
    has_last: bool = False
    last_id: str = ""


_OWN: Final = {
    "datasource_item_id": "datasource_item_id",
    "eval_id": "eval_id",
    "run_id": "eval_run_id",
    "status": "eval_status",
    "created_at": "created_at",
}
"""Field of an output item → its column."""


def _answer(sample: Fields) -> Cells:
    """Take the answer out of the sample of an output item."""
    texts, calls, refusals = [], [], []
    for message in sample.objects("output"):
        message.take_if("role", "assistant")
        text = take_text(message)
        if text is not None:
            texts.append(text)
        refusals.append(message.text("refusal") or "")
        if isinstance(message.get("tool_calls"), list):
            calls += message.take("tool_calls")
    if not texts:
        texts.append(sample.text("output_text") or "")
    text, refused = "\n\n".join(filter(None, [*texts, *refusals])), any(refusals)
    finish, error = sample.take("finish_reason"), sample.object("error")
    kind, message = error.take("code"), error.take("message")
    if not is_missing(kind) or not is_missing(message):
        cells = failed_cells(kind, message, text=text)
    elif not sample.fields and not text and not calls:
        cells = failed_cells("no_sample", "the output item has no sample")
    else:
        cells = answer_cells(text, finish=finish, refused=refused, has_calls=bool(calls))
    cells["model"] = sample.take("model")
    cells |= usage_cells(sample.object("usage"))
    asked = sample.take("input")
    extras = {"finish_reason": finish, "messages": asked, "tool_calls": calls}
    return cells | {key: value for key, value in extras.items() if value not in (None, "", [])}


def _scores(results: list[Fields]) -> Cells:
    """Take the scores: `score_NAME`, `passed_NAME`, and a judge's `score_NAME_reason`; equal names are numbered."""
    cells: Cells = {}
    for result in results:
        named = result.take("name")
        name = as_text(named)
        number = 1
        while f"score_{name}" in cells:
            number += 1
            name = f"{as_text(named)}_{number}"
        cells[f"score_{name}"] = result.take("score")
        cells[f"passed_{name}"] = result.take("passed")
        reasons = []
        for message in result.object("sample").objects("output"):
            message.take_if("role", "assistant")
            text = take_text(message)
            if text:
                reasons.append(text)
        if reasons:
            cells[f"score_{name}_reason"] = "\n\n".join(reasons)
    return cells
