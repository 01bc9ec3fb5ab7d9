"""A table of several files: the parts that Spark, Ray, DuckDB and others write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from batchrun.errors import InputError
from batchrun.records import Row, Value
from batchrun.tables.columnar import ColumnarSource
from batchrun.tables.files import digest
from batchrun.tables.jsonl import JsonlSource
from batchrun.tables.lines import LinesSource
from batchrun.tables.part_names import folder_of_parts, part_files
from batchrun.tables.text import TextSource
from batchrun.wording import counted

__all__ = ["PartSource", "PartsSource"]

PartSource = TextSource | JsonlSource | LinesSource | ColumnarSource
"""What a part can be."""

_NOTES: Final = 3
"""Notes about parts that are shown in full."""


@dataclass(frozen=True, slots=True)
class PartsSource:
    """The rows of all parts, in the order of the parts' names. All parts have one format.

    Parts have the same columns in the same order; only JSON Lines may lack a key in one part, as in one row.

    Attributes:
        name: the folder or the pattern, as the user gave it, or the URL of which `place` is the copy.
        place: the folder or the pattern on this machine.
        parts: the parts with rows or a header. Empty text files, which Spark writes for empty partitions, are left out.
        columns: the names of the columns.
        about: a line for people with the number of parts.
        notes: lines for people about single parts.
    """

    name: str
    place: str
    parts: tuple[PartSource, ...]
    columns: tuple[str, ...]
    about: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, name: str, place: str, parts: Sequence[PartSource], empty: int) -> PartsSource:
        """Return the source after checking that the parts fit together.

        Args:
            name, place: see the attributes.
            empty: number of files that were left out because they are empty.

        Raises:
            InputError: there is no part with columns, or a part differs from the first one: in format, columns or, in
                Parquet and Arrow files, types.
        """
        if not parts:
            raise InputError(f"{name}: all parts are empty; a table needs a header or keys")
        for part in parts[1:]:
            _check_alike(parts[0], part)
        columns = tuple(dict.fromkeys(column for part in parts for column in part.columns))
        if not columns:
            raise InputError(f"{name}: no part has a column")
        about = f"{name}: {len(parts):,} parts, from {_short(place, parts[0])} to {_short(place, parts[-1])}"
        if len(parts) == 1:
            about = f"{name}: one part, {_short(place, parts[0])}"
        if empty:
            about += f"; {counted(empty, 'empty file')} left out"
        notes = [note for part in parts for note in getattr(part, "notes", ())]
        if len(notes) > _NOTES:
            notes[_NOTES:] = [f"{name}: {len(notes) - _NOTES:,} more parts have such notes"]
        source = cls(name, place, tuple(parts), columns, about, tuple(notes))
        if isinstance(parts[0], ColumnarSource):
            source.schema()
        return source

    @property
    def has_header(self) -> bool:
        """Whether the first line of a part has the names of the columns."""
        return getattr(self.parts[0], "has_header", False)

    def files(self) -> tuple[Path, ...]:
        """Return the files that are the parts now, empty ones too.

        Raises:
            InputError: there are none.
        """
        return part_files(self.place)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all parts, numbered through; each has the name of its part."""
        row_index = 0
        columns = self.columns
        for part in self.parts:
            short, is_whole = _short(self.place, part), part.columns == columns
            for row in part.rows():
                values = row.values if is_whole else {column: row.values.get(column) for column in columns}
                yield Row(row_index, values, row.line, short)
                row_index += 1

    def count(self) -> int:
        """Return the number of rows after reading all of them."""
        return sum(part.count() if isinstance(part, TextSource) else sum(1 for _ in part.rows()) for part in self.parts)

    def cells(self, column: str) -> Iterator[Value]:
        """Yield the cells of a column."""
        for part in self.parts:
            if isinstance(part, TextSource):
                yield from part.cells(column)
            else:
                yield from (row.values.get(column) for row in part.rows())

    def schema(self) -> Any:
        """Return the Arrow schema (`pyarrow.Schema`) of parts that are Parquet or Arrow files.

        A column that has only nulls in one part has the type that it has in the others.

        Raises:
            InputError: a column has different types.
        """
        import pyarrow as pa

        schema: Any = None
        for part in self.parts:
            assert isinstance(part, ColumnarSource)
            own = part.schema()
            try:
                schema = own if schema is None else pa.unify_schemas([schema, own])
            except pa.ArrowException:
                raise InputError(_other_type(part.name, own, self.parts[0].name, schema)) from None
        return schema

    def batches(self) -> Iterator[Any]:
        """Yield the rows of Parquet or Arrow files as Arrow batches (`pyarrow.RecordBatch`) of one schema."""
        schema = self.schema()
        for part in self.parts:
            assert isinstance(part, ColumnarSource)
            for batch in part.batches():
                yield batch if batch.schema.equals(schema) else batch.cast(schema)

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the names, sizes and contents of the files that are the parts now."""
        identity = hashlib.sha256()
        folder = folder_of_parts(self.place)
        for path in self.files():
            identity.update(f"{path.relative_to(folder).as_posix()}\0".encode("utf-8", "surrogateescape"))
            identity.update(digest(path, str(path)).encode())
        return identity.hexdigest()


def _short(place: str, part: PartSource) -> str:
    """Return the name of a part below its folder."""
    return part.path.relative_to(folder_of_parts(place)).as_posix()


def _format(part: PartSource) -> str:
    if isinstance(part, ColumnarSource):
        return "Parquet" if part.kind == "parquet" else "an Arrow file"
    if isinstance(part, TextSource):
        return "TSV" if part.is_tsv else "CSV"
    return "JSON" if isinstance(part, JsonlSource) else "plain lines"


def _check_alike(first: PartSource, part: PartSource) -> None:
    """Raise InputError if a part differs from the first one in format or columns."""
    if _format(first) != _format(part):
        raise InputError(
            f"{part.name}: is {_format(part)}, and {first.name} is {_format(first)}; the parts of a table have one "
            "format: a pattern such as 'in/*.parquet' chooses those of one"
        )
    if isinstance(part, JsonlSource) or first.columns == part.columns:
        return
    lacking = [column for column in first.columns if column not in part.columns]
    further = [column for column in part.columns if column not in first.columns]
    if lacking:
        difference = f"lacks the column {lacking[0]!r} of {first.name}"
        difference += f" and has {further[0]!r}" if further else ""
    elif further:
        difference = f"has a column {further[0]!r}, which {first.name} does not have"
    else:
        difference = f"has the columns of {first.name} in another order"
    raise InputError(f"{part.name}: {difference}; all parts need the same columns")


def _other_type(name: str, own: Any, first: str, schema: Any) -> str:
    """Return the message for a part whose types do not fit those of the parts before it."""
    import pyarrow as pa

    for field in own:
        known = schema.field(field.name).type
        if field.type != known and not pa.types.is_null(field.type) and not pa.types.is_null(known):
            return (
                f"{name}: column {field.name!r} is {field.type}, and {known} in {first}; write all parts with one type"
            )
    return f"{name}: the types of its columns do not fit those of {first}; write all parts with one type"
