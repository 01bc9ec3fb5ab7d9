"""Conversion of tables from and to the files of other tools."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.file import is_job_file
from batchrun.records import Row, Value
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.importers.importers import IMPORTERS, imported
from batchrun.scoring.formats.importers.openai_jobs import job_files
from batchrun.scoring.formats.importers.promptfoo_jobs import promptfoo_job_files
from batchrun.scoring.formats.joined_results import joined_rows
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.formats.request_lines import write_requests
from batchrun.scoring.formats.writers import WRITERS
from batchrun.scoring.scorers.base import as_text, is_missing
from batchrun.shell_hint import option
from batchrun.tables import ReadOptions, is_parts, open_source
from batchrun.tables.atomic import replacing
from batchrun.tables.compression import Sink, compressed
from batchrun.tables.sink import CsvLines, write_table
from batchrun.tables.table_options import Format, Kind, WriteOptions, check_output_format, format_of
from batchrun.tables.values import KindOf, json_text

__all__ = ["FORMATS", "WRITTEN", "convert"]

Cells: TypeAlias = Mapping[str, Value]


def convert(
    names: Sequence[str], output: Path, conversion: Conversion, environment: Environment | None = None
) -> tuple[int, Notes]:
    """Convert one or several files to one table. The result is written completely or not at all.

    Args:
        environment: decides the service, and with it the endpoint, of batch requests; None for an empty one.

    Returns:
        The number of rows, and notes about everything that was not carried over.

    Raises:
        InputError: a file does not have the given format, or an option is wrong.
        OutputError: the result cannot be written.
    """
    notes = Notes()
    if is_job_file(str(output)):
        return _convert_to_job(names, output, conversion, notes), notes
    form = check_output_format(output, str(output))
    _check(names, output, form, conversion)
    if conversion.to_format == "batch-requests":
        return _convert_to_requests(names, output, form, conversion, environment or Environment(), notes), notes
    # A text table names its columns before its rows, so a first pass finds them, and all faults.
    table = _Table.read(names, conversion, notes)
    if not table.count and conversion.from_format != "table":
        raise InputError(f"{table.name}: has no rows")
    rows: Iterator[Cells] = (row.values for row in table.rows())
    if conversion.to_format != "table":
        write = WRITERS[conversion.to_format]
        rows = (write(row, index, conversion, notes) for index, row in enumerate(rows))
    if form.kind not in ("csv", "tsv", "jsonl"):
        _note_json_text(table, form, notes)
        write_table(output, table, ({} for _ in range(table.count)), _NoColumns())
        return table.count, notes
    with replacing(output) as file, compressed(file, form.compression) as stream:
        if form.kind == "jsonl":
            for line in rows:
                stream.write(_json_line(line))
        else:
            _write_text(stream, "\t" if form.kind == "tsv" else ",", rows, notes)
    return table.count, notes


def _convert_to_requests(
    names: Sequence[str],
    output: Path,
    form: Format,
    conversion: Conversion,
    environment: Environment,
    notes: Notes,
) -> int:
    """Write requests for the Batch API, and return their number."""
    with tempfile.TemporaryDirectory(prefix="batchrun-") as folder:
        name = names[0]
        if conversion.from_format != "table":
            table = _Table.read(names, conversion, notes)
            name = str(Path(folder) / "rows.jsonl")
            with Path(name).open("wb") as rows:
                rows.writelines(_json_line(row.values) for row in table.rows())
            conversion = replace(conversion, no_header=False)
        try:
            with replacing(output) as file, compressed(file, form.compression) as stream:
                return write_requests(name, Path(folder), stream.write, conversion, environment, notes)
        except InputError as exc:
            exc.args = (str(exc).replace(name, names[0]),)
            raise


def _json_line(cells: Cells) -> bytes:
    return json_text(cells).encode("utf-8", "backslashreplace") + b"\n"


def _convert_to_job(names: Sequence[str], output: Path, conversion: Conversion, notes: Notes) -> int:
    """Write a job file and the files that it refers to; return the number of rows of its data."""
    make = _JOBS.get(conversion.from_format)
    if make is None or conversion.to_format != "table":
        raise InputError(f"{output}: only --from {' and --from '.join(_JOBS)} write a job file; name a table")
    files = make(names, output, notes)
    for path, text in files.items():
        with replacing(path) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        if path != output:
            notes.remark(f"also written: {path}", 0)
    return sum(text.count("\n") for path, text in files.items() if path.suffix == ".jsonl")


_JOBS: Final[Mapping[str, Callable[[Sequence[str], Path, Notes], dict[Path, str]]]] = {
    "openai-evals": job_files,
    "promptfoo": promptfoo_job_files,
}
"""Format → function that makes a job file, and the files that it refers to."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Files that have been read once, as a table.

    Attributes:
        names: the files.
        conversion: options of their format.
        kinds: column → types of its cells, in order of first occurrence.
        count: number of rows.
        is_asked: whether each row is asked as a conversation, because some row of another tool is more than a question.
    """

    names: Sequence[str]
    conversion: Conversion
    kinds: Mapping[str, KindOf]
    count: int
    is_asked: bool

    @classmethod
    def read(cls, names: Sequence[str], conversion: Conversion, notes: Notes) -> _Table:
        kinds: dict[str, KindOf] = {}
        count = 0
        for row in _rows(names, conversion, notes):
            count += 1
            for column, value in row.items():
                if column not in kinds:
                    kinds[column] = KindOf(set())
                kinds[column].add(value)
        is_asked = conversion.from_format in _ASKED and {"question", "messages"} <= kinds.keys()
        if conversion.from_format == "inspect" and "instructions" in kinds and not is_asked:
            shown = option("--instructions", "{{ instructions }}")
            notes.remark(f"system messages are the column instructions: to ask again, run the table with {shown}", 0)
        kinds = {column: kind for column, kind in kinds.items() if not (is_asked and column in _SINGLE)}
        return cls(names, conversion, kinds, count, is_asked)

    @property
    def name(self) -> str:
        """Name of the first file, for messages."""
        return self.names[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, in order of first occurrence."""
        return tuple(self.kinds)

    def rows(self) -> Iterator[Row]:
        """Yield the rows again from the first, each with all columns."""
        for index, row in enumerate(_rows(self.names, self.conversion, Notes())):
            if self.is_asked and is_missing(row.get("messages")):
                row["messages"] = [
                    {"role": role, "content": row[column]}
                    for column, role in reversed(_SINGLE.items())
                    if not is_missing(row.get(column))
                ]
            yield Row(index, {column: row.get(column) for column in self.kinds})

    def fingerprint(self) -> str:
        """Return the fingerprint of the first file."""
        return open_source(self.name, ReadOptions()).fingerprint()


_ASKED: Final = ("inspect", "openai-evals")
"""Formats whose rows may have a question or a conversation. A table has one of the two for all rows, because
`run` asks one column."""
_SINGLE: Final = {"question": "user", "instructions": "system"}
"""Column of a prompt of one message or two → role of the message."""


def _check(names: Sequence[str], output: Path, form: Format, conversion: Conversion) -> None:
    is_table = conversion.from_format == "table"
    is_job = is_table and is_job_file(names[0])
    if is_job and conversion.to_format != "batch-requests":
        raise InputError(f"{names[0]}: a job file has no rows to convert, except --to batch-requests")
    for name in names:
        into_table = is_table and conversion.to_format == "table" and not is_parts(name)
        if into_table and form.kind == format_of(Path(name), name).kind:
            raise InputError(f"{output}: input and output have the same format; choose another with --from or --to")
        if output.exists() and Path(name).exists() and output.samefile(name):
            raise InputError(f"{output}: the output is the input file itself; name another file")
    if is_table and len(names) > 1:
        raise InputError(f"{names[1]}: a second input; several files are read with --from FORMAT only")
    kinds = {"table": ("csv", "tsv", "jsonl", "json", "parquet", "feather", "xlsx"), "promptfoo": ("csv",)}.get(
        conversion.to_format, ("jsonl",)
    )
    if form.kind not in kinds:
        raise InputError(
            f"{output}: convert --to {conversion.to_format} writes {' or '.join(f'.{kind}' for kind in kinds)}"
        )
    if conversion.join is not None and (conversion.from_format != "batch-results" or conversion.key is None):
        raise InputError("--join requires --from batch-results, and --key with the id column of the joined table")
    if conversion.to_format == "batch-requests":
        if conversion.model is None and not is_job:
            raise InputError("--to batch-requests: each request names its model; add --model NAME")
        return
    for name in ("model", "api", "instructions", "schema", "param"):
        if getattr(conversion, name):
            raise InputError(f"--{name} is an option of --to batch-requests only")


def _rows(names: Sequence[str], conversion: Conversion, notes: Notes) -> Iterator[dict[str, Value]]:
    options = ReadOptions(no_header=conversion.no_header and conversion.join is None)
    if conversion.join is not None:
        yield from joined_rows(names, conversion, notes)
    elif conversion.from_format == "table":
        for row in open_source(names[0], options).rows():
            yield dict(row.values)
    else:
        yield from imported(conversion.from_format, names, options, notes)


def _note_json_text(table: _Table, form: Format, notes: Notes) -> None:
    if form.kind == "json":
        return
    for column, seen in table.kinds.items():
        if seen.kind == "json":
            sentence = f"{column}: lists, objects or values of several types became JSON text in {_CALLED[form.kind]}"
            notes.remark(sentence, table.count)


_CALLED: Final[Mapping[Kind, str]] = {"parquet": "Parquet", "feather": "Arrow", "xlsx": "Excel"}


class _NoColumns(WriteOptions):
    """Write options that add no columns."""

    __slots__ = ()

    @property
    def keys(self) -> Mapping[str, type]:
        """No keys."""
        return {}


def _write_text(stream: Sink, delimiter: str, rows: Iterator[Cells], notes: Notes) -> None:
    writer = CsvLines(stream).writer(delimiter)
    for index, row in enumerate(rows):
        if not index:
            writer.writerow(row)
        if any(isinstance(value, list | dict) for value in row.values()):
            notes.remark("lists and objects became JSON text in CSV; write .jsonl to keep them")
        writer.writerow([as_text(value) for value in row.values()])


FORMATS: Final = ("table", *IMPORTERS)
WRITTEN: Final = ("table", "batch-requests", *WRITERS)
