"""JSON schemas and pydantic models for tests of structured answers."""

from __future__ import annotations

import datetime
import decimal
from enum import IntEnum
from typing import Any, Literal

from pydantic import AnyUrl, BaseModel, Field, field_validator

from batchrun.structured import Structure


def shape(required: bool = True, **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these properties."""
    return {"type": "object", "properties": properties, "required": list(properties) if required else []}


def structure(**properties: Any) -> Structure:
    """Return the structure of an object with these properties, all required."""
    return Structure.of_schema(shape(**properties))


REVIEW = structure(
    score={"type": "integer", "minimum": 1, "maximum": 5},
    why={"type": ["string", "null"]},
    tags={"type": "array", "items": {"type": "string"}},
)
ANSWER = '{"score": 4, "why": "clear", "tags": ["a", "ü"]}'
"""An answer that matches `REVIEW`."""
CELLS = {"score": 4, "why": "clear", "tags": '["a", "ü"]'}
"""The cells of `ANSWER`."""


class Size(IntEnum):
    small = 1
    large = 2


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Order(BaseModel):
    """An order."""

    note: str | None = Field(None, description="what the customer says")
    count: int = 1
    day: datetime.date
    price: decimal.Decimal
    size: Size
    link: AnyUrl
    pet: Cat | Dog = Field(discriminator="kind")
    second: Size = Field(description="another one")

    @field_validator("count")
    @classmethod
    def _even(cls, count: int) -> int:
        if count % 2:
            raise ValueError("must be even")
        return count


ORDER: dict[str, Any] = {
    "note": None, "count": 2, "day": "2026-02-03", "price": 1.5, "size": 2, "link": "https://a.example/",
    "pet": {"kind": "cat", "lives": 9}, "second": 1,
}  # fmt: skip


class Tree(BaseModel):
    """A recursive model that strict mode can express."""

    name: str
    child: Tree | None = Field(None, description="below")


class Chain(BaseModel):
    """A recursive model whose references the SDK cannot resolve."""

    name: str
    next: list[Chain] = Field(description="what follows")
    same: Chain = Field(description="the SDK replaces such a reference by what it names, without end")
