"""The tokens of a row's runs, estimated from its prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib import import_module

from batchrun.engine.pacer import TokenEstimate
from batchrun.job.options import Job
from batchrun.records import Prompt, Usage

__all__ = ["TokenGuess", "o200k_counter"]


def o200k_counter() -> Callable[[str], float] | None:
    """Counts the tokens of a text as OpenAI's models since GPT-4o do; None without the extra `tokens`."""
    try:
        splintr = import_module("splintr")
    except ImportError:
        return None
    tokenizer = splintr.Tokenizer.from_pretrained("o200k_base")
    return lambda text: len(tokenizer.encode(text))


class TokenGuess:
    """Tokens of a row's runs, from its prompt. Every turn reads instructions, earlier turns and their answers again."""

    def __init__(self, job: Job, count: Callable[[str], float] | None) -> None:
        self._rule = TokenEstimate(job.max_completion_tokens)
        self._count = count
        self.completion_tokens = self._rule.guess(0)
        self._instructions = self._text(job.instructions or "")
        counted = "counted as o200k" if count is not None else "a quarter token per character"
        self.line = f"{counted}; {self.completion_tokens:,.0f} tokens assumed for an answer"

    def _text(self, text: str) -> float:
        if self._count is not None:
            return self._count(text)
        return self._rule.guess(len(text)) - self.completion_tokens

    def runs(self, prompt: Prompt) -> Iterator[Usage]:
        """The usage of each turn's run; later turns, not known yet, are taken to be as long as the first."""
        read = self._instructions
        text = self._text(prompt.first.text)
        for _ in range(prompt.later.count if prompt.later is not None else 1):
            read += text
            yield Usage(math.ceil(read), math.ceil(self.completion_tokens))
            read += self.completion_tokens
