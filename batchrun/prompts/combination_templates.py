"""The templates of one combination of settings, and what follows from them for its rows."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.prompts.combinations import Combination
from batchrun.prompts.conversations import is_conversation
from batchrun.prompts.plain_template import PlainTemplate
from batchrun.prompts.row_settings import SettingTemplates
from batchrun.records import JsonObject, Row

__all__ = ["CombinationTemplates"]


@dataclass(frozen=True, slots=True)
class CombinationTemplates:
    """The templates of one combination.

    Attributes:
        combination: the settings.
        names: for each turn, the name of its template and that of its condition, or None.
        settings_digest: hash of the settings and later turns that decide answers, without the text of the first turn.
        columns_used: columns that later turns use. Their text is not known before the first answer.
        varies: whether the sent text may differ between rows.
        cells: columns that any of the templates may use.
        conversation: column of the conversations; None for prompts. If there is a template as well, it makes the
            message of the cells that are texts.
        examples: messages before each question.
        own: the settings that are templates; None if there are none.
        plain: the template, if the text of the first turn is all that differs between rows and the template is plain.
    """

    combination: Combination
    names: tuple[tuple[str, str | None], ...]
    settings_digest: str
    columns_used: tuple[str, ...]
    varies: bool
    cells: tuple[str, ...]
    conversation: str | None
    examples: tuple[JsonObject, ...]
    own: SettingTemplates | None = None
    plain: PlainTemplate | None = None

    def is_conversation(self, row: Row) -> bool:
        """Return whether a row is asked as a conversation."""
        if self.conversation is None:
            return False
        return not self.names or is_conversation(row.values[self.conversation], self.conversation)
