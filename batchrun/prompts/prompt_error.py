"""PromptError: the prompt of a row, or a setting of its own, cannot be made."""

from __future__ import annotations

__all__ = ["PromptError"]


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
