"""Conversion of tables from and to the files of other tools."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from batchrun.errors import InputError
from batchrun.records import OUTPUT_COLUMNS, Row, Value
from batchrun.scoring.formats.readers import CHECKS, READERS, Notes
from batchrun.scoring.scorers.base import as_text, is_missing, targets_of
from batchrun.tables import ReadOptions, Source, open_source
from batchrun.tables.atomic import replacing
from batchrun.tables.sink import CsvLines
from batchrun.tables.table_options import Format, WriteOptions, format_of
from batchrun.tables.values import KindOf, json_text

__all__ = ["FORMATS", "WRITERS", "Conversion", "convert"]

Cells: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Conversion:
    """The options of a conversion.

    Attributes:
        given: format of the file: `table`, or one of `READERS`.
        wanted: format of the result: `table`, or one of `WRITERS`.
        prompt: column with the prompt; None selects `question` or `prompt`.
        target: column with the expected answer; None selects `target` or `answer`.
        key: column with row ids; None selects `custom_id` or `id`, and numbers the rows if there is neither.
        model: model of batch requests.
        join: table whose rows get the answers of batch results, matched by `key`.
    """

    given: str = "table"
    wanted: str = "table"
    prompt: str | None = None
    target: str | None = None
    key: str | None = None
    model: str | None = None
    join: str | None = None


def convert(name: str, output: Path, conversion: Conversion) -> tuple[int, Notes]:
    """Convert a file. The result is written completely or not at all.

    Returns:
        The number of rows, and notes about everything that was not carried over.

    Raises:
        InputError: the file does not have the given format, or an option is wrong.
        OutputError: the result cannot be written.
    """
    source = open_source(name, ReadOptions())
    form = format_of(output, str(output))
    _check(name, output, form, conversion)
    # A text table names its columns before its rows, so a first pass finds them, and all faults.
    notes = Notes()
    found = _Table.read(source, conversion, notes)
    rows: Iterator[Cells] = (row.values for row in found.rows())
    if conversion.wanted != "table":
        write = WRITERS[conversion.wanted]
        rows = (write(row, index, conversion, notes) for index, row in enumerate(rows))
    with replacing(output) as file, _stream(file, gzipped=form.gzipped) as stream:
        if form.kind == "parquet":
            _write_parquet(stream, found, notes)
        elif form.kind == "jsonl":
            for line in rows:
                stream.write(json_text(line).encode("utf-8", "backslashreplace") + b"\n")
        else:
            _write_text(stream, "\t" if form.kind == "tsv" else ",", rows, notes)
    return found.count, notes


@dataclass(frozen=True, slots=True)
class _Table:
    """A file that has been read once, as a table.

    Attributes:
        source: the file.
        conversion: options of its format.
        kinds: column → types of its cells, in order of first occurrence.
        count: number of rows.
    """

    source: Source
    conversion: Conversion
    kinds: Mapping[str, KindOf]
    count: int

    @classmethod
    def read(cls, source: Source, conversion: Conversion, notes: Notes) -> _Table:
        kinds: dict[str, KindOf] = {}
        count = 0
        for row in _rows(source, conversion, notes):
            count += 1
            for column, value in row.items():
                if column not in kinds:
                    kinds[column] = KindOf(set())
                kinds[column].add(value)
        return cls(source, conversion, kinds, count)

    @property
    def name(self) -> str:
        """Name of the file, for messages."""
        return self.source.name

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, in order of first occurrence."""
        return tuple(self.kinds)

    def rows(self) -> Iterator[Row]:
        """Yield the rows again from the first, each with all columns."""
        for index, row in enumerate(_rows(self.source, self.conversion, Notes())):
            yield Row(index, {column: row.get(column) for column in self.kinds})

    def fingerprint(self) -> str:
        """Return the fingerprint of the file."""
        return self.source.fingerprint()


def _check(name: str, output: Path, form: Format, conversion: Conversion) -> None:
    if conversion.given == conversion.wanted == "table" and form.kind == format_of(Path(name), name).kind:
        raise InputError(f"{output}: input and output have the same format; choose another with --from or --to")
    kinds = {"table": ("csv", "tsv", "jsonl", "parquet"), "promptfoo": ("csv",)}.get(conversion.wanted, ("jsonl",))
    if form.kind not in kinds:
        raise InputError(
            f"{output}: convert --to {conversion.wanted} writes {' or '.join(f'.{kind}' for kind in kinds)}"
        )
    if output.exists() and Path(name).exists() and output.samefile(name):
        raise InputError(f"{output}: the output is the input file itself; name another file")
    if conversion.join is not None and (conversion.given != "batch-results" or conversion.key is None):
        raise InputError("--join requires --from batch-results, and --key with the id column of the joined table")
    if conversion.wanted == "batch-requests" and conversion.model is None:
        raise InputError("--to batch-requests: each request names its model; add --model NAME")


def _rows(source: Source, conversion: Conversion, notes: Notes) -> Iterator[dict[str, Value]]:
    if conversion.join is not None:
        yield from _joined(source, conversion, notes)
        return
    read = READERS.get(conversion.given)
    for row in source.rows():
        where = f"{source.name}, line {row.line}" if row.line is not None else f"{source.name}, row {row.row_index}"
        yield dict(row.values) if read is None else read(row.values, where, notes)


def _joined(source: Source, conversion: Conversion, notes: Notes) -> Iterator[dict[str, Value]]:
    """Yield the rows of the joined table with the answers of batch results."""
    assert conversion.join is not None
    assert conversion.key is not None
    table = open_source(conversion.join, ReadOptions())
    if conversion.key not in table.columns:
        raise InputError(f"--key {conversion.key}: {table.name} has no such column")
    twice = [column for column in table.columns if column in OUTPUT_COLUMNS]
    if twice:
        raise InputError(f"{table.name}: the results have a column {twice[0]!r} too; rename the table's column")
    answers: dict[str, dict[str, Value]] = {}
    for result in _rows(source, Conversion(conversion.given), notes):
        answers[as_text(result.pop("custom_id"))] = result
    unanswered = {"response": None, "status": "pending"}
    for row in table.rows():
        yield {**row.values, **answers.pop(as_text(row.values[conversion.key]), unanswered)}
    for _ in answers:
        notes.add(f"results whose custom_id is not in {table.name}")


def _stream(file: IO[bytes], *, gzipped: bool) -> Any:
    return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) if gzipped else nullcontext(file)


def _write_parquet(stream: IO[bytes], table: _Table, notes: Notes) -> None:
    from batchrun.tables.arrow import write_parquet

    for column, seen in table.kinds.items():
        if seen.kind == "json":
            notes.rows[f"{column}: lists, objects or values of several types, which become JSON text in Parquet"] = (
                table.count
            )
    write_parquet(stream, table, ({} for _ in range(table.count)), _NoColumns())


class _NoColumns(WriteOptions):
    """Write options that add no columns."""

    __slots__ = ()

    @property
    def keys(self) -> Mapping[str, type]:
        """No keys."""
        return {}


def _write_text(stream: IO[bytes], delimiter: str, rows: Iterator[Cells], notes: Notes) -> None:
    writer = csv.writer(CsvLines(stream), delimiter=delimiter, lineterminator="\r\n")
    for index, row in enumerate(rows):
        if not index:
            writer.writerow(row)
        if any(isinstance(value, list | dict) for value in row.values()):
            notes.add("lists and objects, which become JSON text in CSV; write .jsonl to keep them")
        writer.writerow([as_text(value) for value in row.values()])


# -- writers ----------------------------------------------------------------------------------------------------


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


def _to_evals(row: Cells, _index: int, _conversion: Conversion, notes: Notes) -> dict[str, Any]:
    outcome = {name: value for name, value in row.items() if name in OUTPUT_COLUMNS}
    notes.add_rest(outcome, ("response", "model"))
    found: dict[str, Any] = {"item": _own_cells(row)}
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
    metadata = {name: value for name, value in _own_cells(row).items() if name not in placed}
    return {**found, "metadata": metadata} if metadata else found


def _to_promptfoo(row: Cells, _index: int, conversion: Conversion, notes: Notes) -> dict[str, Any]:
    target = _column(row, conversion.target, "target", ("target", "answer"))
    outcome = {name: value for name, value in row.items() if name in OUTPUT_COLUMNS}
    notes.add_rest(outcome, ("response",))
    own = {name: value for name, value in _own_cells(row).items() if name not in (target, "check")}
    notes.add_rest({name: value for name, value in own.items() if name.startswith("__")}, ())
    found = {name: value for name, value in own.items() if not name.startswith("__")}
    expected = _expected(row.get("check"), None if target is None else row[target], notes)
    for column, given in (("__description", "description"), ("__providerOutput", "response")):
        if given in row:
            found[column] = row[given]
    found["__expected"] = expected
    if any(_RENDERED.search(as_text(value)) for value in found.values()):
        notes.add("cells with {{, {% or file://, which promptfoo reads as templates and files")
    return found


_RENDERED: Final = re.compile(r"\{[{%#]|file://")


def _expected(check: Value, target: Value, notes: Notes) -> str | None:
    """Return the `__expected` cell that `readers` reads as this scorer and target; None if there is none."""
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


WRITERS: Final[Mapping[str, Callable[[Cells, int, Conversion, Notes], dict[str, Any]]]] = {
    "openai-evals": _to_evals,
    "batch-requests": _to_batch_request,
    "batch-results": _to_batch_result,
    "inspect": _to_inspect,
    "promptfoo": _to_promptfoo,
}
"""Format → function that makes a line from a row. All rows have the same columns."""

FORMATS: Final = ("table", *READERS)
