"""Conversion of values to plain Python."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from batchrun.tables.values import json_text, kind_of, plain

UTC = dt.UTC


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(2**62), 2**62),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([[1, 2]]), [[1, 2]]),
        ((1, {"k": {2}}), [1, {"k": [2]}]),
        ({1: b"a\xff"}, {"1": "a\\xff"}),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (pd.Timestamp("2026-01-02 03:04:05.000000001"), "2026-01-02T03:04:05.000000001"),
        (Decimal("1.10"), "1.10"),
        ([pd.NA, pd.NaT], [None, None]),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, 1),
    ],
)
def test_plain(value: Any, expected: Any) -> None:
    """Every value of a frame or Parquet file becomes an equivalent builtin value."""
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], "text"),
        ([None], "text"),
        ([1, None, -(2**63) + 1], "int"),
        ([2**63], "json"),
        ([1, 0.5], "float"),
        ([2**53 + 1, 0.5], "json"),
        ([True, None], "bool"),
        ([True, 1], "json"),
        (["1", 1], "json"),
        ([[1]], "json"),
        ([{}, None], "json"),
    ],
)
def test_kinds(values: list[Any], kind: str) -> None:
    """A column gets the narrowest type without loss, otherwise JSON text."""
    assert kind_of(values) == kind


def test_json_without_nan() -> None:
    """NaN and infinities, which JSON does not have, become null at any depth."""
    assert json_text({"a": [float("nan"), 1.5], "b": float("-inf"), "ü": "é"}) == '{"a":[null,1.5],"b":null,"ü":"é"}'
