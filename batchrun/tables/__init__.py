"""Stages 1 and 7: reading the input table and writing the output table.

Rows are read from CSV, TSV, JSON, JSON Lines and plain lines (also compressed), Excel, Parquet, Arrow files, folders
and patterns of such files, standard input, pandas frames and Arrow tables. An output has the columns of the outcomes
after those of the input. Every cell stays as the user wrote it.

CSV is read and written with the csv module of the standard library, because it gives physical line numbers and the
exact text (see `dialect`). Parquet is read and written with Arrow. Arrow and pandas are imported in the functions that
use them, so that this package is cheap to import. `pyarrow.dataset`, which imports pandas, is never imported.
"""

from batchrun.tables.expanded import expand
from batchrun.tables.frame import to_frame
from batchrun.tables.header import header_hint, header_refusal, longest_text_column
from batchrun.tables.input_watch import InputWatch
from batchrun.tables.open import cells_of, has_answers, open_source, validate
from batchrun.tables.part_names import default_name, exists, folder_of_parts, is_parts, path_beside
from batchrun.tables.sink import check_output, write_table
from batchrun.tables.source import PartOfSource, Source, notes_of
from batchrun.tables.table_options import ReadOptions, WriteOptions, format_of

__all__ = [
    "InputWatch",
    "PartOfSource",
    "ReadOptions",
    "Source",
    "WriteOptions",
    "cells_of",
    "check_output",
    "default_name",
    "exists",
    "expand",
    "folder_of_parts",
    "format_of",
    "has_answers",
    "header_hint",
    "header_refusal",
    "is_parts",
    "longest_text_column",
    "notes_of",
    "open_source",
    "path_beside",
    "to_frame",
    "validate",
    "write_table",
]
