"""PromptError: the prompt of a row, or a setting of its own, cannot be made."""

from __future__ import annotations

import json
import re

__all__ = ["PromptError", "check_unicode"]

_SURROGATE = re.compile("[\ud800-\udfff]")


class PromptError(Exception):
    """The prompt of a row cannot be rendered. The row fails and the batch continues.

    Attributes:
        error_type: `empty_prompt`, `empty_model`, `empty_instructions`, `template_error`, `error_cell`, `bad_text`,
            `bad_attachment`, `bad_messages` or `not_messages`.
        option: the option whose template fails.
    """

    def __init__(self, error_type: str, message: str, *, option: str = "prompt") -> None:
        super().__init__(message)
        self.error_type = error_type
        self.option = option


def check_unicode(value: object, what: str = "the prompt") -> None:
    """Refuse a value, of the types that JSON has, with a text that UTF-8 cannot encode.

    Args:
        what: what the value is part of, for the message.

    Raises:
        PromptError: a text contains half of a surrogate pair.
    """
    if _SURROGATE.search(json.dumps(value, ensure_ascii=False, default=str)):
        raise PromptError("bad_text", f"{what} contains half of a surrogate pair, which UTF-8 cannot encode")
