"""Answers in the shape of the user's JSON schema or pydantic model, whose properties become typed columns.

`structure` is the entry point. `schema_file` reads the value of `--schema`, `strict_mode` has the rules of the
services' strict mode, `column_kinds` derives the types of the columns, `json_in_text` finds the JSON in an answer,
`patterns` limits the time of regular expressions, and `mismatch` describes the errors of an answer.
"""

from batchrun.structured.mismatch import SchemaMismatch
from batchrun.structured.structure import Structure

__all__ = ["SchemaMismatch", "Structure"]
