"""Tables from and to the files of other tools."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS, Value
from batchrun.scoring.importing import READERS, Notes
from batchrun.scoring.score import as_text, is_missing
from batchrun.tables import ReadOptions, Source, open_source
from batchrun.tables.atomic import replacing
from batchrun.tables.options import format_of
from batchrun.tables.values import json_text

__all__ = ["FORMATS", "WRITERS", "Conversion", "convert"]

Cells: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is to become of a file.

    Attributes:
        given: its format: `table`, or one of `READERS`.
        wanted: the format of the result: `table`, or one of `WRITERS`.
        prompt: column of what is asked; None finds `question` or `prompt`.
        target: column of what is wanted; None finds `target` or `answer`.
        key: column of ids; None finds `custom_id` or `id`, and counts the rows if there is neither.
        model: for batch-requests.
        join: a table whose rows get the answers of batch results, matched by `key`.
    """

    given: str = "table"
    wanted: str = "table"
    prompt: str | None = None
    target: str | None = None
    key: str | None = None
    model: str | None = None
    join: str | None = None


def convert(name: str, output: Path, conversion: Conversion) -> tuple[int, Notes]:
    """Convert a file. The result is written whole or not at all.

    Returns:
        The number of rows, and what was not carried over.

    Raises:
        InputError: the file is none of its format, or an option does not fit.
        OutputError: the result cannot be written.
    """
    _check(name, output, conversion)
    source = open_source(name, ReadOptions())
    form = format_of(output, str(output))
    if form.kind == "parquet" or (conversion.wanted != "table" and form.kind != "jsonl"):
        wanted = ".csv, .tsv or .jsonl" if conversion.wanted == "table" else ".jsonl"
        raise InputError(f"{output}: convert --to {conversion.wanted} writes {wanted}")
    # A table of text names its columns before its rows: the first pass finds them, and all faults.
    columns: dict[str, None] = {}
    for row in _rows(source, conversion, Notes()):
        columns.update(dict.fromkeys(row))
    notes = Notes()
    count = 0
    with replacing(output) as file, _stream(file, gzipped=form.gzipped) as stream:
        rows = _rows(source, conversion, notes)
        if conversion.wanted == "table" and form.kind != "jsonl":
            count = _write_text(stream, "\t" if form.kind == "tsv" else ",", list(columns), rows, notes)
        else:
            write = WRITERS[conversion.wanted] if conversion.wanted != "table" else None
            for row in rows:
                found = {name: row.get(name) for name in columns}
                line = json_text(found if write is None else write(found, count, conversion, notes))
                stream.write(line.encode("utf-8", "backslashreplace") + b"\n")
                count += 1
    return count, notes


def _check(name: str, output: Path, conversion: Conversion) -> None:
    if conversion.given == conversion.wanted == "table":
        raise InputError("convert: say --from or --to with another format than table")
    if output.exists() and Path(name).exists() and output.samefile(name):
        raise InputError(f"{output}: the output is the input itself; name another file")
    if conversion.join is not None and (conversion.given != "batch-results" or conversion.key is None):
        raise InputError("--join goes with --from batch-results, and --key COLUMN of the table that is joined")
    if conversion.wanted == "batch-requests" and conversion.model is None:
        raise InputError("--to batch-requests: each request names its model: say --model NAME")


def _rows(source: Source, conversion: Conversion, notes: Notes) -> Iterator[dict[str, Value]]:
    if conversion.join is not None:
        yield from _joined(source, conversion, notes)
        return
    read = READERS.get(conversion.given)
    for row in source.rows():
        where = f"{source.name}, line {row.line}" if row.line is not None else f"{source.name}, row {row.row_index}"
        yield dict(row.values) if read is None else read(row.values, where, notes)


def _joined(source: Source, conversion: Conversion, notes: Notes) -> Iterator[dict[str, Value]]:
    """The rows of the joined table with the answers of batch results."""
    assert conversion.join is not None
    assert conversion.key is not None
    table = open_source(conversion.join, ReadOptions())
    if conversion.key not in table.columns:
        raise InputError(f"--key {conversion.key}: {table.name} has no such column")
    twice = [column for column in table.columns if column in OUTPUT_COLUMNS]
    if twice:
        raise InputError(f"{table.name}: the column {twice[0]!r} is also one of the results; rename it")
    answers: dict[str, dict[str, Value]] = {}
    for found in _rows(source, Conversion(conversion.given), notes):
        answers[as_text(found.pop("custom_id"))] = found
    unanswered = {"response": None, "status": "pending"}
    for row in table.rows():
        yield {**row.values, **answers.pop(as_text(row.values[conversion.key]), unanswered)}
    for _ in answers:
        notes.add(f"results whose custom_id is not in {table.name}")


def _stream(file: IO[bytes], *, gzipped: bool) -> Any:
    return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) if gzipped else nullcontext(file)


def _write_text(
    stream: IO[bytes], delimiter: str, columns: list[str], rows: Iterator[dict[str, Value]], notes: Notes
) -> int:
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        if any(isinstance(value, list | dict) for value in row.values()):
            notes.add("lists and objects, which are JSON text in CSV: write .jsonl to keep them")
        writer.writerow([as_text(row.get(column)) for column in columns])
        count += 1
    text.detach()
    return count


# -- out ----------------------------------------------------------------------------------------------------


def _column(row: Cells, said: str | None, option: str, usual: tuple[str, ...]) -> str | None:
    if said is not None:
        if said not in row:
            raise InputError(f"--{option} {said}: the table has no such column")
        return said
    return next((name for name in usual if name in row), None)


def _prompt(row: Cells, conversion: Conversion) -> str:
    column = _column(row, conversion.prompt, "prompt", ("question", "prompt"))
    if column is None:
        raise InputError("the table has no column 'question' or 'prompt': say --prompt COLUMN")
    return column


def _id(row: Cells, index: int, conversion: Conversion) -> tuple[str | None, str]:
    """(column of ids, the row's id)."""
    column = _column(row, conversion.key, "key", ("custom_id", "id"))
    return column, f"row-{index}" if column is None else as_text(row[column])


def _own(row: Cells) -> dict[str, Value]:
    return {name: value for name, value in row.items() if name not in OUTPUT_COLUMNS}


def _to_evals(row: Cells, _index: int, _conversion: Conversion, notes: Notes) -> dict[str, Any]:
    outcome = {name: value for name, value in row.items() if name in OUTPUT_COLUMNS}
    notes.add_rest(outcome, ("response", "model"))
    found: dict[str, Any] = {"item": _own(row)}
    if not is_missing(row.get("response")):
        found["sample"] = {"output_text": row["response"]}
        if not is_missing(row.get("model")):
            found["sample"]["model"] = row["model"]
    return found


def _to_batch_request(row: Cells, index: int, conversion: Conversion, notes: Notes) -> dict[str, Any]:
    prompt = _prompt(row, conversion)
    column, custom_id = _id(row, index, conversion)
    notes.add_rest(row, (prompt, "instructions", *([column] if column else [])))
    messages = [{"role": "user", "content": as_text(row[prompt])}]
    if not is_missing(row.get("instructions")):
        messages.insert(0, {"role": "system", "content": as_text(row["instructions"])})
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": conversion.model, "messages": messages},
    }


def _to_batch_result(row: Cells, index: int, conversion: Conversion, notes: Notes) -> dict[str, Any]:
    column, custom_id = _id(row, index, conversion)
    known = ("response", "status", "error_type", "error", "run_id", "model", *_USAGE, *([column] if column else []))
    notes.add_rest(row, known)
    found = {"id": f"batch_req_{index}", "custom_id": custom_id, "response": None, "error": None}
    status = row.get("status") or "completed"
    if status not in ("completed", "incomplete"):
        error = {"code": as_text(row.get("error_type")) or status, "message": as_text(row.get("error")) or status}
        return {**found, "error": error}
    finish = "stop" if status == "completed" else "length"
    message = {"role": "assistant", "content": as_text(row.get("response"))}
    body: dict[str, Any] = {
        "id": as_text(row.get("run_id")) or custom_id,
        "object": "chat.completion",
        "model": row.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if not is_missing(row.get("total_tokens")):
        body["usage"] = {name: _count(row.get(name)) for name in _USAGE}
    return {**found, "response": {"status_code": 200, "request_id": body["id"], "body": body}}


_USAGE: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def _count(cell: Value) -> int | None:
    return None if is_missing(cell) else int(float(cell))


def _to_inspect(row: Cells, index: int, conversion: Conversion, notes: Notes) -> dict[str, Any]:
    prompt = _prompt(row, conversion)
    target = _column(row, conversion.target, "target", ("target", "answer"))
    column, row_id = _id(row, index, conversion)
    outcome = {name: value for name, value in row.items() if name in OUTPUT_COLUMNS}
    notes.add_rest(outcome, ())
    asked: Value = as_text(row[prompt])
    if not is_missing(row.get("instructions")):
        instructions = {"role": "system", "content": as_text(row["instructions"])}
        asked = [instructions, {"role": "user", "content": asked}]
    found: dict[str, Any] = {"id": row_id, "input": asked}
    if target is not None:
        found["target"] = row[target] if isinstance(row[target], list) else as_text(row[target])
    if isinstance(row.get("choices"), list):
        found["choices"] = row["choices"]
    placed = {prompt, target, column, "instructions"} | ({"choices"} & found.keys())
    metadata = {name: value for name, value in _own(row).items() if name not in placed}
    return {**found, "metadata": metadata} if metadata else found


WRITERS: Final[Mapping[str, Callable[[Cells, int, Conversion, Notes], dict[str, Any]]]] = {
    "openai-evals": _to_evals,
    "batch-requests": _to_batch_request,
    "batch-results": _to_batch_result,
    "inspect": _to_inspect,
}
"""Format → what makes a line of a row."""

FORMATS: Final = ("table", *READERS)
