"""The scorer for multiple choice: whether the letter that an answer states is the target's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from batchrun.records import Value
from batchrun.scoring.scorers.base import Sample, Score, Scorer, as_text
from batchrun.scoring.scorers.stated_choice import stated_choice
from batchrun.scoring.scorers.targets import members_of
from batchrun.thoughts import without_reasoning

__all__ = ["LETTERS", "ChoiceScorer"]

LETTERS: Final = "ABCDEFGHIJ"
_TARGET = re.compile(r"\s*[*_(\[]{0,4}(?P<letter>\w)(?:[*_)\].:]{0,4}\s*\Z|[)\].:])")


@dataclass(frozen=True, slots=True)
class ChoiceScorer(Scorer):
    r"""1 if the answer states the target's letter.

    The letter is searched in this order. Of several in the same place the last one counts, and a letter that is denied
    (`B is wrong`, `not B`) never does:

    1. a statement: `Answer: B`, `the correct answer is (B)`, `\boxed{B}`, `<answer>B</answer>`, `{"answer": "B"}`,
       `#### B`, `B is correct`, and the same in the languages of `choice_words`;
    2. a letter that ends its clause after a word such as `thus`, `I choose`, `it must be`;
    3. a letter alone in the last line, then at the beginning (`B`, `B. Paris`, `B because …`), then at the beginning of
       the last line; lists of the options do not count;
    4. the only letter that is mentioned.

    A statement of several letters (`both A and B`, `A or B`, `none of A, B, C`) is not a choice. The text before
    `</think>` is not read. The target must be a letter, bare or as `(B)`, `B.` or `B) text`; otherwise the row cannot
    be judged.

    Attributes:
        letters: the letters that may be chosen, in upper case; other letters are ignored.
        index: the number of the first option if targets are numbers (0 or 1); None if they are letters.
    """

    letters: str = LETTERS
    index: int | None = None

    def score(self, sample: Sample) -> Score:
        wanted = [target for target in map(self._target, members_of(sample.target)) if target is not None]
        if not wanted:
            return Score(None, self._problem(sample.target))
        expected = " or ".join(dict.fromkeys(wanted))
        found = stated_choice(without_reasoning(sample.answer), self.letters)
        compared = (expected, None if found is None else found.letter) if expected in wanted else None
        if found is None:
            return Score(0.0, f"no choice; expected {expected}", compared=compared)
        if found.letter is None:
            return Score(0.0, f"more than one choice; expected {expected}", found.read, compared)
        return Score(float(found.letter in wanted), f"{found.letter}; expected {expected}", found.read, compared)

    def _target(self, value: Value) -> str | None:
        text = as_text(value).strip()
        if self.index is not None:
            place = int(text) - self.index if text.isdecimal() else -1
            return self.letters[place] if 0 <= place < len(self.letters) else None
        match = _TARGET.match(text)
        letter = match["letter"].upper() if match else ""
        return letter if letter and letter in self.letters else None

    def _problem(self, target: Value) -> str:
        if self.index is not None:
            last = self.index + len(self.letters) - 1
            return f"the target is not a whole number from {self.index} to {last}"
        hint = "; targets that are positions need choice:index=0 or index=1" if as_text(target).isdecimal() else ""
        return f"the target is not a letter of {self.letters}{hint}"
