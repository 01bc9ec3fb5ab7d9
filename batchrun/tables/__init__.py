"""Stages 1 and 7: tables in and out.

CSV, TSV, JSON Lines (all of them also gzipped), Parquet, standard input and pandas frames come in as rows; the
same formats go out with the outcomes behind the input's columns. Every cell stays what the user wrote.

CSV is read and written by the stdlib's csv module, for physical line numbers and faithful text (see `dialect`);
Parquet by Arrow. Arrow and pandas are imported in the functions that use them, so that importing this package
costs next to nothing, and `pyarrow.dataset`, which brings pandas along, is never imported.
"""

from batchrun.tables.expanded import expand
from batchrun.tables.frame import to_frame
from batchrun.tables.input_watch import InputWatch
from batchrun.tables.open import holds_answers, open_source, validate
from batchrun.tables.sink import check_output, write_table
from batchrun.tables.source import Source
from batchrun.tables.table_options import ReadOptions, WriteOptions, format_of

__all__ = [
    "InputWatch",
    "ReadOptions",
    "Source",
    "WriteOptions",
    "check_output",
    "expand",
    "format_of",
    "holds_answers",
    "open_source",
    "to_frame",
    "validate",
    "write_table",
]
