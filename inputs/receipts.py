"""The form of a receipt, for receipts.toml."""

from datetime import date

from pydantic import BaseModel, model_validator


class Item(BaseModel):
    """One line of a receipt."""

    name: str
    cents: int


class Receipt(BaseModel):
    """What was bought, where and when."""

    shop: str
    day: date
    items: list[Item]
    total_cents: int

    @model_validator(mode="after")
    def _adds_up(self) -> "Receipt":
        found = sum(item.cents for item in self.items)
        if found != self.total_cents:
            raise ValueError(f"the items of {self.shop} come to {found} cents, and total_cents is {self.total_cents}")
        return self
