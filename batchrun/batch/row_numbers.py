"""Numbers the rows of a batch that ask the same, so that each has an answer of its own in a cache."""

from __future__ import annotations

from batchrun.batch.plan import Plan
from batchrun.batch.results import prompts_of
from batchrun.cache import Occurrences, RowKeys, Uncacheable
from batchrun.prompts.templates import PromptError
from batchrun.records import Prompt

__all__ = ["RowNumbers"]


class RowNumbers:
    """The numbers of a batch's rows: the n-th row of the table that asks the same has the number n.

    Mutable state: `_asked`, how often each prompt was asked so far.
    """

    def __init__(self, plan: Plan, keys: RowKeys) -> None:
        """Read the whole table once if this run asks only some of its rows: the others count too."""
        self._is_shared = plan.job.dedupe
        self._asked = Occurrences()
        self._known: dict[str, int] | None = None
        if not self._is_shared and (plan.selection is not None or plan.whole is not None):
            self._known = self._numbers_of_table(plan, keys)

    def _numbers_of_table(self, plan: Plan, keys: RowKeys) -> dict[str, int]:
        """Return row_key → number of the rows whose number is not 1."""
        found = {}
        for row_key, _, prompt in prompts_of(plan.whole or plan.source, plan.prompter):
            if isinstance(prompt, PromptError):
                continue
            try:
                number = self._asked.count(keys.digest_of(prompt))
            except Uncacheable:
                continue
            if number > 1:
                found[row_key] = number
        return found

    def next(self, prompt: Prompt, digest: bytes) -> int:
        """Return the number of a row. Called once for each row, in the order of the table."""
        if self._is_shared:
            return 1  # only one of these rows is sent, and all get its answer
        if self._known is not None:
            return self._known.get(prompt.row_key, 1)
        return self._asked.count(digest)

    def close(self) -> None:
        """Forget the numbers."""
        self._asked.close()
