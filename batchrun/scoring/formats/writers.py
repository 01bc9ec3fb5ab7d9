"""Writers of other tools' files. A value that has no place there is noted, never dropped silently."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from batchrun.errors import InputError
from batchrun.prompts.conversations import ConversationError, is_conversation, messages_in
from batchrun.records import OUTPUT_COLUMNS, JsonDict, JsonObject, Value
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.importers.promptfoo_checks import CHECKS
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text, is_missing
from batchrun.scoring.scorers.targets import targets_of

__all__ = ["WRITERS"]

Cells: TypeAlias = Mapping[str, Value]


def _column(row: Cells, named: str | None, option: str, usual: tuple[str, ...]) -> str | None:
    if named is not None:
        if named not in row:
            raise InputError(f"--{option} {named}: the table has no such column")
        return named
    return next((name for name in usual if name in row), None)


def _prompt(row: Cells, conversion: Conversion) -> str:
    column = _column(row, conversion.prompt, "prompt", ("question", "prompt"))
    if column is None:
        raise InputError("the table has no column 'question' or 'prompt'; name it with --prompt COLUMN")
    return column


def _id(row: Cells, index: int, conversion: Conversion) -> tuple[str | None, str]:
    """Return (column with row ids, the row's id)."""
    column = _column(row, conversion.key, "key", ("custom_id", "id"))
    return column, f"row-{index}" if column is None else as_text(row[column])


def _own_cells(row: Cells) -> dict[str, Value]:
    return {name: value for name, value in row.items() if name not in OUTPUT_COLUMNS}


def _to_evals(row: Cells, _index: int, _conversion: Conversion, notes: Notes) -> JsonDict:
    outcome = {name: value for name, value in row.items() if name in OUTPUT_COLUMNS}
    notes.add_rest(outcome, ("response", "model"))
    line: JsonDict = {"item": _own_cells(row)}
    if not is_missing(row.get("response")):
        line["sample"] = {"output_text": row["response"]}
        if not is_missing(row.get("model")):
            line["sample"]["model"] = row["model"]
    return line


def _messages(cell: Value, column: str, custom_id: str) -> list[JsonObject]:
    """Return the messages of a request: those of a conversation, or one of the user with the text of the cell."""
    if not is_conversation(cell, column):
        return [{"role": "user", "content": as_text(cell)}]
    try:
        return list(messages_in(cell, "chat"))
    except ConversationError as exc:
        raise InputError(f"row {custom_id!r}: column {column!r}: {exc}") from None


def _to_batch_result(row: Cells, index: int, conversion: Conversion, notes: Notes) -> JsonDict:
    column, custom_id = _id(row, index, conversion)
    known = (
        "response",
        "status",
        "error_type",
        "error",
        "run_id",
        "model",
        "finish_reason",
        "status_code",
        "request_id",
        "batch_request_id",
        *_USAGE,
        *([column] if column else []),
    )
    notes.add_rest(row, known)
    line_id = as_text(row.get("batch_request_id")) or f"batch_req_{index}"
    line: JsonDict = {"id": line_id, "custom_id": custom_id, "response": None, "error": None}
    request_id = as_text(row.get("request_id")) or as_text(row.get("run_id"))
    status = row.get("status") or "completed"
    if status not in ("completed", "incomplete"):
        error = {"code": as_text(row.get("error_type")) or status, "message": as_text(row.get("error")) or status}
        code = row.get("status_code")
        if code is None or is_missing(code):
            return {**line, "error": error}
        return {**line, "response": {"status_code": int(code), "request_id": request_id, "body": {"error": error}}}
    finish = as_text(row.get("finish_reason")) or ("stop" if status == "completed" else "length")
    message = {"role": "assistant", "content": as_text(row.get("response"))}
    body: JsonDict = {
        "id": as_text(row.get("run_id")) or custom_id,
        "object": "chat.completion",
        "model": row.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if not is_missing(row.get("total_tokens")):
        body["usage"] = {name: _count(row.get(name)) for name in _USAGE}
    return {**line, "response": {"status_code": 200, "request_id": request_id or body["id"], "body": body}}


_USAGE: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def _count(cell: Value) -> int | None:
    return None if is_missing(cell) else int(float(cell))


def _to_inspect(row: Cells, index: int, conversion: Conversion, notes: Notes) -> JsonDict:
    prompt = _column(row, conversion.prompt, "prompt", ("question", "prompt", "messages")) or _prompt(row, conversion)
    target = _column(row, conversion.target, "target", ("target", "answer"))
    column, row_id = _id(row, index, conversion)
    outcome = {name: value for name, value in row.items() if name in OUTPUT_COLUMNS}
    notes.add_rest(outcome, ())
    messages = _messages(row[prompt], prompt, row_id)
    prompt_input: Value = messages if is_conversation(row[prompt], prompt) else as_text(row[prompt])
    if not is_missing(row.get("instructions")):
        prompt_input = [{"role": "system", "content": as_text(row["instructions"])}, *messages]
    line: JsonDict = {"id": row_id, "input": prompt_input}
    if target is not None:
        line["target"] = row[target] if isinstance(row[target], list) else as_text(row[target])
    if isinstance(row.get("choices"), list):
        line["choices"] = row["choices"]
    used = {prompt, target, column, "instructions"} | ({"choices"} & line.keys())
    metadata = {name: value for name, value in _own_cells(row).items() if name not in used}
    return {**line, "metadata": metadata} if metadata else line


def _to_promptfoo(row: Cells, _index: int, conversion: Conversion, notes: Notes) -> JsonDict:
    target = _column(row, conversion.target, "target", ("target", "answer"))
    outcome = {name: value for name, value in row.items() if name in OUTPUT_COLUMNS}
    notes.add_rest(outcome, ("response",))
    further = [f"_{number}" for number in range(2, 100) if f"check_{number}" in row]
    used = {target, "check", "description", *(f"{name}{each}" for name in ("check", "target") for each in further)}
    own = {name: value for name, value in _own_cells(row).items() if name not in used}
    notes.add_rest({name: value for name, value in own.items() if name.startswith("__")}, ())
    cells = {name: value for name, value in own.items() if not name.startswith("__")}
    expected = _expected(row.get("check"), None if target is None else row[target], notes)
    for column, source in (("__description", "description"), ("__providerOutput", "response")):
        if source in row:
            cells[column] = row[source]
    cells["__expected"] = expected
    for ending in further:
        name = f"__expected{ending.removeprefix('_')}"
        cells[name] = (
            None
            if is_missing(row[f"check{ending}"])
            else _expected(row[f"check{ending}"], row.get(f"target{ending}"), notes)
        )
    if any(_RENDERED.search(as_text(value)) for value in cells.values()):
        notes.add("cells with {{, {% or file://, which promptfoo reads as templates and files")
    return cells


_RENDERED: Final = re.compile(r"\{[{%#]|file://")


def _expected(check: Value, target: Value, notes: Notes) -> str | None:
    """Return the `__expected` cell that `promptfoo` reads as this scorer and target; None if there is none."""
    scorer = "exact" if is_missing(check) else as_text(check)
    kinds = [kind for kind, known in CHECKS.items() if known == scorer]
    if not kinds:
        notes.add(f"check: {scorer}")
        return None
    several = isinstance(target, list)
    if scorer == "json":
        if is_missing(target):
            return kinds[0]
        notes.add("target: targets of the check json")
        return None
    if not several:
        return None if is_missing(target) else f"{kinds[0]}:{as_text(target)}"
    texts = targets_of(target)
    anys = [kind for kind in kinds if kind.endswith("-any")]
    if not anys or any("," in text or text != text.strip() for text in texts):
        notes.add("target: lists for the check exact, or with a comma in a member")
        return None
    return f"{anys[0]}:{', '.join(texts)}" if texts else None


WRITERS: Final[Mapping[str, Callable[[Cells, int, Conversion, Notes], JsonDict]]] = {
    "openai-evals": _to_evals,
    "batch-results": _to_batch_result,
    "inspect": _to_inspect,
    "promptfoo": _to_promptfoo,
}
"""Format → function that makes a line from a row. All rows have the same columns. `batch-requests` is written by
`request_lines.py`."""
