"""Results of promptfoo as rows: those of JSON, YAML and JSONL, and those of CSV with its repeated columns.

Source: `EvaluateResult` in its `src/types/index.ts`; `buildCsvHeaders` in its `src/util/eval/evalTableUtils.ts`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.answers import answer_cells, failed_cells
from batchrun.scoring.formats.importers.importer import Cells
from batchrun.scoring.scorers.base import as_text, is_missing

__all__ = ["CsvResult", "csv_results", "is_csv_of_results", "is_result", "result_row"]

_NO_ERROR: Final = (0, 1)
"""`ResultFailureReason`: none, and a failed assertion, which is a score of 0."""
_ERROR: Final = 2
"""`ResultFailureReason`: the provider failed."""


def is_result(fields: Fields) -> bool:
    """Return whether these are the fields of one result."""
    return isinstance(fields.get("testCase"), dict) and ("success" in fields or "response" in fields)


def result_row(fields: Fields, case: Fields, assertions: list[JsonDict]) -> Cells:
    """Take a result: the answer, what it cost, and what each assertion says about it.

    Args:
        case: the test of the result.
        assertions: copies of the test's assertions, in their order.
    """
    cells: Cells = {"test": fields.take("testIdx"), "prompt_index": fields.take("promptIdx")}
    if "id" in fields:
        cells["result_id"] = fields.take("id")
    prompt, provider = fields.object("prompt"), fields.object("provider")
    if "promptId" in fields:
        cells["prompt_id"] = fields.take("promptId")
        prompt.take_if("id", cells["prompt_id"])
    cells["prompt"], cells["prompt_label"] = prompt.take("raw"), prompt.take("label")
    cells["provider"] = provider.take("id") if provider.fields else fields.text("provider")
    provider.take_if("label", "", None, cells["provider"])
    if "description" in case:
        cells["description"] = case.take("description")
    for name, value in case.object("metadata").take_all().items():
        cells[f"metadata_{name}"] = value
    cells |= _answer(fields)
    return cells | _graded(fields, assertions)


def _answer(fields: Fields) -> Cells:
    response = fields.object("response")
    output = response.take("output")
    calls = output if _are_calls(output) else None
    finish = response.take("finishReason")
    text = "" if calls is not None else as_text(output)
    fields.take_if("failureReason", *_NO_ERROR)
    if fields.take_if("failureReason", _ERROR) or not is_missing(response.get("error")):
        message = fields.text("error") or response.text("error")
        response.take_if("error", message)
        cells = failed_cells("provider_error", message, text=text)
    else:
        cells = answer_cells(text, finish=finish, has_calls=calls is not None)
    if calls is not None:
        cells["tool_calls"] = calls
    if not is_missing(finish):
        cells["finish_reason"] = finish
    latency = fields.get("latencyMs")
    if isinstance(latency, int | float) and not isinstance(latency, bool):
        cells["duration_s"] = fields.take("latencyMs") / 1000
    cells["cost_usd"] = fields.take("cost")
    response.take_if("cost", cells["cost_usd"])
    usage, own = fields.object("tokenUsage"), response.object("tokenUsage")
    for column, name in (("prompt_tokens", "prompt"), ("completion_tokens", "completion"), ("total_tokens", "total"),
                         ("cached_tokens", "cached")):  # fmt: skip
        count = usage.take(name)
        cells[column] = own.take(name) if count is None else count
        own.take_if(name, cells[column])
    return cells


def _are_calls(output: Value) -> bool:
    return (
        isinstance(output, list)
        and bool(output)
        and all(
            isinstance(each, dict) and ("function" in each or each.get("type") == "function_call") for each in output
        )
    )


def _graded(fields: Fields, assertions: list[JsonDict]) -> Cells:
    """Take the score of a result, its named scores, and the result of each assertion."""
    cells: Cells = {"score_promptfoo": fields.take("score"), "passed_promptfoo": fields.take("success")}
    grading = fields.object("gradingResult")
    grading.take_if("score", cells["score_promptfoo"])
    grading.take_if("pass", cells["passed_promptfoo"])
    reason = grading.take("reason")
    if not is_missing(reason):
        cells["score_promptfoo_reason"] = reason
    fields.take_if("error", reason)
    if not is_missing(grading.get("comment")):
        cells["comment"] = grading.take("comment")
    named = fields.object("namedScores").take_all()
    grading.take_if("namedScores", named)
    for name, value in named.items():
        cells[_free(f"score_{name}", cells)] = value
    for number, component in enumerate(grading.objects("componentResults")):
        assertion = component.object("assertion")
        column = _free(f"score_{as_text(assertion.get('metric') or assertion.get('type')) or 'assertion'}", cells)
        name = column.removeprefix("score_")
        same = number < len(assertions) and assertion.fields == assertions[number]
        if same:
            component.take("assertion")
        cells[column], cells[f"passed_{name}"] = component.take("score"), component.take("pass")
        if not is_missing(component.get("reason")):
            cells[f"score_{name}_reason"] = component.take("reason")
    return cells


def _free(column: str, cells: Cells) -> str:
    number, name = 1, column
    while name in cells:
        number += 1
        name = f"{column}_{number}"
    return name


# -- CSV --------------------------------------------------------------------------------------------------------

_HEAD: Final = re.compile(r"\[(?P<provider>[^\]]+)\] (?P<label>.*)", re.DOTALL)
_NUMBERED: Final = re.compile(r" \(\d+\)$")


@dataclass(frozen=True, slots=True)
class CsvResult:
    """One answer of a CSV of results, whose rows have those of several prompts and providers.

    Attributes:
        variables: the test's variables.
        cells: the other cells.
    """

    variables: Cells
    cells: Cells


def is_csv_of_results(fields: Fields) -> bool:
    """Return whether a row has the columns that follow an answer in promptfoo's CSV of results."""
    return {"Status", "Score"} <= fields.fields.keys() and any(map(_HEAD.fullmatch, fields.fields))


def csv_results(fields: Fields) -> Iterator[CsvResult]:
    """Take the answers of a row. The documents' reader numbers repeated columns: `Status`, `Status (2)`."""
    columns = list(fields.fields)
    starts = [
        position
        for position, column in enumerate(columns[:-1])
        if _plain(columns[position + 1]) == "Status" and _plain(column) not in _FOLLOWING
    ]
    variables = {column: fields.take(column) for column in columns[: starts[0]]} if starts else {}
    rest: Cells = {}
    if "Description" in variables:
        rest["description"] = variables.pop("Description")
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else len(columns)
        yield CsvResult(variables, rest | _csv_cells(fields, columns[start:end], index))


_FOLLOWING: Final = frozenset({"Status", "Score", "Named Scores", "Grader Reason", "Comment"})


def _plain(column: str) -> str:
    return _NUMBERED.sub("", column)


def _csv_cells(fields: Fields, columns: list[str], index: int) -> Cells:
    head = _HEAD.fullmatch(_plain(columns[0]))
    text, status = as_text(fields.take(columns[0])), fields.get(columns[1])
    cells: Cells = {"provider": head["provider"] if head else None, "prompt_index": index}
    cells["prompt_label"] = head["label"] if head else columns[0]
    following: dict[str, Any] = {_plain(column): column for column in columns[1:]}
    cells |= failed_cells("provider_error", text) if status == "ERROR" else answer_cells(text)
    if status in ("PASS", "FAIL", "ERROR"):
        fields.take(columns[1])
        cells["passed_promptfoo"] = status == "PASS"
    for name, column in (("Score", "score_promptfoo"), ("Grader Reason", "score_promptfoo_reason"),
                         ("Comment", "comment"), ("Named Scores", "named_scores")):  # fmt: skip
        if name in following:
            cells[column] = fields.take(following[name])
    for name, column in following.items():
        if name.startswith("Metric: "):
            cells[_free(f"score_{name.removeprefix('Metric: ')}", cells)] = fields.take(column)
    return cells
