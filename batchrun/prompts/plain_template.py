"""PlainTemplate: a template of text and names of columns alone, whose text is known without the template engine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from batchrun.records import Cells

__all__ = ["PlainTemplate"]

_NAME: Final = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
_ENGINES_OWN: Final = frozenset({"true", "True", "false", "False", "none", "None", "not", "loop", "self", "debug"})
"""Names that the template engine does not take from the row."""


@dataclass(frozen=True, slots=True)
class PlainTemplate:
    """A template such as `Translate {{ text }} into {{ language }}.`

    Attributes:
        before: the text before the first column.
        columns: each column with the text after it.
    """

    before: str
    columns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, template: str, columns: Sequence[str]) -> PlainTemplate | None:
        """Return the template; None if only the engine knows its text.

        Args:
            columns: columns of the table.

        >>> PlainTemplate.of("What is {{ question }}?", ["question"])
        PlainTemplate(before='What is ', columns=(('question', '?'),))
        >>> PlainTemplate.of("{{ question|upper }}", ["question"])
        """
        texts = _NAME.split(template)
        names = texts[1::2]
        # The engine takes one line end away at the end.
        is_plain = not any("{" in text for text in texts[::2]) and not template.endswith(("\n", "\r"))
        if not is_plain or not {*names} <= {*columns} - _ENGINES_OWN:
            return None
        return cls(texts[0], tuple(zip(names, texts[2::2], strict=True)))

    def text(self, cells: Cells) -> str | None:
        """Return the rendered text; None if a cell is not a text, or the result is blank, has U+FFFD or cannot be
        encoded: the prompter then looks for half of a surrogate pair."""
        text = self.before
        for column, after in self.columns:
            cell = cells[column]
            if type(cell) is not str:
                return None
            text += cell + after
        if not text.isascii():
            if "\ufffd" in text:
                return None
            try:
                text.encode()
            except UnicodeEncodeError:
                return None
        return text if text and not text.isspace() else None
