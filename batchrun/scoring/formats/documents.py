"""The documents of files that importers read: each JSON object, YAML document, row of a table or sample of a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from batchrun.local_paths import check_local
from batchrun.records import JsonDict
from batchrun.scoring.formats.log_members import log_members
from batchrun.scoring.formats.yaml_files import yaml_objects
from batchrun.tables import ReadOptions, open_source
from batchrun.tables.column_names import check_columns
from batchrun.tables.compression import COMPRESSIONS
from batchrun.tables.content import content_of
from batchrun.tables.dialect import find_delimiter, records
from batchrun.tables.files import TextFile, check_readable
from batchrun.tables.jsonl import json_objects

__all__ = ["Document", "documents_of"]


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document.

    Attributes:
        where: file and line, for messages.
        path: the file, from which relative paths in the document are read.
        content: the parsed object, which an importer takes apart.
    """

    where: str
    path: Path
    content: JsonDict


def documents_of(name: str, options: ReadOptions, *, repeats_columns: bool = False) -> Iterator[Document]:
    """Yield the documents of a file. `NaN` is accepted in JSON, because Python programs write it.

    Args:
        repeats_columns: whether columns of a CSV may have the same name; they are numbered then.

    Raises:
        InputError: the file cannot be read, or is not what its extension says.
    """
    check_local(name, "the file")
    path = Path(name)
    check_readable(path, name)
    if path.suffix.lower() == ".eval":
        for member, content in log_members(path, name):
            yield Document(f"{name}, {member}", path, content)
    elif path.suffix.lower() in (".yaml", ".yml"):
        for content in yaml_objects(path, name):
            yield Document(name, path, content)
    elif _is_json(path, name):
        file = TextFile.find(path, name, encoding=options.encoding, compression=content_of(path, name).compression)
        for line, content in json_objects(file):
            yield Document(f"{name}, line {line}", path, content)
    elif repeats_columns and (numbered := _numbered(path, name, options)) is not None:
        yield from numbered
    else:
        for row in open_source(name, options).rows():
            yield Document(f"{name}, {row.where}", path, dict(row.values))


def _is_json(path: Path, name: str) -> bool:
    stem = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return stem.suffix.lower() in (".json", ".jsonl", ".ndjson") and content_of(path, name).content == "text"


def _numbered(path: Path, name: str, options: ReadOptions) -> Iterator[Document] | None:
    """Return the rows of a CSV with columns of the same name, which get numbers; None if no name is repeated."""
    if path.suffix.lower() not in (".csv", ".tsv") or content_of(path, name).content != "text" or options.no_header:
        return None
    file = TextFile.find(path, name, encoding=options.encoding, compression=content_of(path, name).compression)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else find_delimiter(file, 0)
    first = next(chain.from_iterable(records(file, delimiter, None, 0)), None)
    if first is None or len(set(first[1])) == len(first[1]):
        return None
    return _rows_of(file, delimiter, first[1])


def _rows_of(file: TextFile, delimiter: str, header: Sequence[str]) -> Iterator[Document]:
    seen: Counter[str] = Counter()
    columns = []
    for column in header:
        seen[column] += 1
        columns.append(column if seen[column] == 1 else f"{column} ({seen[column]})")
    check_columns(columns, f"{file.name}, line 1")
    for line, cells in islice(chain.from_iterable(records(file, delimiter, len(columns), 0)), 1, None):
        yield Document(f"{file.name}, line {line}", file.path, dict(zip(columns, cells, strict=True)))
