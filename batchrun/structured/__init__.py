"""Answers in a shape that the user gives: a JSON schema or a pydantic model, whose properties become typed columns.

`structure.py` is the whole of it; `loading.py` reads the option, `strict.py` holds the rules of the services' strict
mode, `kinds.py` says what a column holds, `finding.py` finds the JSON in an answer's text, `mismatch.py` says in words
what is wrong with it.
"""

from batchrun.structured.mismatch import SchemaMismatch
from batchrun.structured.structure import Structure

__all__ = ["SchemaMismatch", "Structure"]
