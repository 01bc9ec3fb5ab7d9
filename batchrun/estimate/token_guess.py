"""Estimates the tokens of a row's runs from its prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any

from batchrun.engine.pacer import TokenEstimate
from batchrun.job.options import Job
from batchrun.job.templated import without_templates
from batchrun.records import Prompt
from batchrun.token_usage import Usage

__all__ = ["TokenGuess", "o200k_counter"]


def o200k_counter() -> Callable[[str], float] | None:
    """Return a function that counts tokens as OpenAI's models since GPT-4o do; None without the extra `tokens`."""
    try:
        import_module("splintr")
    except ImportError:
        return None
    tokenizer = _o200k()
    return lambda text: len(tokenizer.encode(text))


@cache
def _o200k() -> Any:
    """Return the tokenizer, whose vocabulary takes a while to load."""
    return import_module("splintr").Tokenizer.from_pretrained("o200k_base")


class TokenGuess:
    """Estimates the tokens of runs by the rule that --tpm uses before it knows any usage.

    Attributes:
        completion_tokens: tokens assumed per answer.
        rule: the rule, for people.
    """

    def __init__(self, job: Job, count: Callable[[str], float] | None) -> None:
        """
        Args:
            count: returns the tokens of a text; None estimates them from its length.
        """
        self._estimate = TokenEstimate(job.max_completion_tokens)
        self._count = count
        self.completion_tokens = self._estimate.guess(0)
        self._instructions = self._text(without_templates(job).instructions or "")
        counted = "counted with o200k" if count is not None else "a quarter token per character"
        self.rule = f"{counted}; {self.completion_tokens:,.0f} tokens assumed per answer"

    def _text(self, text: str) -> float:
        if self._count is not None:
            return self._count(text)
        return self._estimate.guess(len(text)) - self.completion_tokens

    def runs(self, prompt: Prompt) -> Iterator[Usage]:
        """Yield the usage of each turn's run.

        Each run reads the instructions and all earlier turns with their answers again. Later turns may depend on
        answers, so they are assumed to be as long as the first.
        """
        own = prompt.own
        read = self._instructions if own is None or own.instructions is None else self._text(own.instructions)
        read += sum(self._text(message["content"]) for message in prompt.first.examples)
        text = self._text(prompt.first.text)
        for _ in range(prompt.later.count if prompt.later is not None else 1):
            read += text
            yield Usage(math.ceil(read), math.ceil(self.completion_tokens))
            read += self.completion_tokens
