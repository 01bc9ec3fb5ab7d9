"""Plain values: cells, and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["Cells", "JsonDict", "JsonObject", "Manifest", "Settings", "Value"]

Value: TypeAlias = Any
"""A cell as plain Python: str from text tables; also int, float, bool, None, list, dict from JSONL and Parquet."""

Cells: TypeAlias = Mapping[str, Value]
"""Column name → cell: those of an input row, of an outcome, or of a row of the output."""

Manifest: TypeAlias = Mapping[str, Any]
"""The JSON object in a journal that describes its batch: input, settings, template, service."""

JsonObject: TypeAlias = Mapping[str, Any]
"""A JSON object whose fields are unchecked: a JSON schema, or the reply of a service before it is validated."""

JsonDict: TypeAlias = dict[str, Any]
"""A JSON object that is being built."""

Settings: TypeAlias = Mapping[str, Any]
"""Name of an option → its value as given, not validated yet."""
