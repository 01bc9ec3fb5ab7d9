"""The scorers that compare texts: whole, in part, by pattern, or by overlap.

If the target is a list, the answer may match any member: the best value counts.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from batchrun.bounded_regex import MATCH_TIMEOUT_S, TooSlow, matches
from batchrun.scoring.scorers.base import Sample, Score, Scorer
from batchrun.scoring.scorers.extra import needs_eval
from batchrun.scoring.scorers.targets import targets_of

__all__ = ["BleuScorer", "ExactScorer", "F1Scorer", "FuzzyScorer", "IncludesScorer", "RegexScorer", "RougeScorer"]


def _normal(text: str, *, ignore_case: bool) -> str:
    """Return the text in canonical Unicode, with single spaces between words and none at the ends."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.casefold() if ignore_case else text


def _best(sample: Sample, measure: Callable[[str, str], float]) -> tuple[float, str]:
    """Return the best value over the targets, and its target."""
    return max(((measure(sample.answer, target), target) for target in targets_of(sample.target)), key=lambda it: it[0])


@dataclass(frozen=True, slots=True)
class ExactScorer(Scorer):
    """1 if answer and target are the same text, except for white space and Unicode composition.

    Attributes:
        ignore_case: whether upper and lower case are equal.
    """

    ignore_case: bool = False

    def score(self, sample: Sample) -> Score:
        read = _normal(sample.answer, ignore_case=False)
        value, target = _best(sample, self._is_equal)
        return Score(value, "equal" if value else f"expected {target!r}", read)

    def _is_equal(self, answer: str, target: str) -> float:
        return float(_normal(answer, ignore_case=self.ignore_case) == _normal(target, ignore_case=self.ignore_case))


@dataclass(frozen=True, slots=True)
class IncludesScorer(Scorer):
    """1 if the target occurs in the answer, except for white space and, by default, upper and lower case.

    Attributes:
        ignore_case: whether upper and lower case are equal.
    """

    ignore_case: bool = True

    def score(self, sample: Sample) -> Score:
        value, target = _best(sample, self._is_included)
        return Score(value, f"{target!r} {'occurs' if value else 'does not occur'}", target if value else None)

    def _is_included(self, answer: str, target: str) -> float:
        return float(_normal(target, ignore_case=self.ignore_case) in _normal(answer, ignore_case=self.ignore_case))


@dataclass(frozen=True, slots=True)
class RegexScorer(Scorer):
    """1 if the pattern (Python's `re`) matches anywhere in the answer.

    If the pattern has a group and there is a target, the first group of the last match must be the target, except for
    white space.
    """

    needs_target: ClassVar[bool] = False
    pattern: re.Pattern[str]

    def score(self, sample: Sample) -> Score:
        try:
            all_matches = matches(self.pattern.pattern, sample.answer)
        except TooSlow:
            return Score(0.0, f"the pattern takes more than {MATCH_TIMEOUT_S:g} s on this answer")
        if not all_matches:
            return Score(0.0, "the pattern does not match")
        match = all_matches[-1]
        if not self.pattern.groups or sample.target is None:
            return Score(1.0, "the pattern matches", match[0])
        read = match[1] or ""
        expected = [_normal(target, ignore_case=False) for target in targets_of(sample.target)]
        right = _normal(read, ignore_case=False) in expected
        return Score(float(right), f"{read!r}; expected {' or '.join(map(repr, expected))}", read)


@dataclass(frozen=True, slots=True)
class FuzzyScorer(Scorer):
    """The similarity of the texts: rapidfuzz's `fuzz.ratio`, 1 for texts that differ in case and white space only.

    The ratio is 1 − (insertions + deletions) / (sum of both lengths).

    Attributes:
        threshold: ratio from which the value is 1, and below which it is 0; None gives the ratio itself.
    """

    threshold: float | None = None
    _ratio: Callable[[str, str], float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with needs_eval("fuzzy"):
            from rapidfuzz import fuzz
        object.__setattr__(self, "_ratio", fuzz.ratio)

    def score(self, sample: Sample) -> Score:
        value, target = _best(sample, self._measure)
        explanation = f"similarity {value:.3f} to {target!r}"
        return Score(value if self.threshold is None else float(value >= self.threshold), explanation, sample.answer)

    def _measure(self, answer: str, target: str) -> float:
        return self._ratio(_normal(answer, ignore_case=True), _normal(target, ignore_case=True)) / 100


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_tokens(text: str) -> list[str]:
    """Return the words by SQuAD's `normalize_answer`: lower case, no ASCII punctuation, no articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


@dataclass(frozen=True, slots=True)
class F1Scorer(Scorer):
    """F1 of the words that answer and target share, as SQuAD computes it.

    Source: `compute_f1` of the evaluation script, version 2.0, https://rajpurkar.github.io/SQuAD-explorer/.
    If neither of the two has a word left, the value is 1; if only one has none, it is 0.
    """

    def score(self, sample: Sample) -> Score:
        value, target = _best(sample, self._f1)
        return Score(value, f"F1 {value:.3f} with {target!r}", " ".join(squad_tokens(sample.answer)))

    @staticmethod
    def _f1(answer: str, target: str) -> float:
        in_answer, in_target = squad_tokens(answer), squad_tokens(target)
        if not in_answer or not in_target:
            return float(in_answer == in_target)
        shared = (Counter(in_answer) & Counter(in_target)).total()
        return 2 * shared / (len(in_answer) + len(in_target))


_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class RougeScorer(Scorer):
    """ROUGE-L: F1 of the longest common subsequence of words (Lin 2004, https://aclanthology.org/W04-1013/).

    Words are runs of letters and digits of any script, in lower case, not stemmed. For English text the value equals
    `rougeL` of the package rouge-score without its stemmer.
    """

    _common: Callable[[list[str], list[str]], int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with needs_eval("rougeL"):
            from rapidfuzz.distance import LCSseq
        object.__setattr__(self, "_common", LCSseq.similarity)

    def score(self, sample: Sample) -> Score:
        value, target = _best(sample, self._rouge)
        return Score(value, f"ROUGE-L {value:.3f} with {target!r}", sample.answer)

    def _rouge(self, answer: str, target: str) -> float:
        in_answer, in_target = _WORD.findall(answer.lower()), _WORD.findall(target.lower())
        if not in_answer or not in_target:
            return 0.0
        return 2 * self._common(in_answer, in_target) / (len(in_answer) + len(in_target))


@dataclass(frozen=True, slots=True)
class BleuScorer(Scorer):
    """Sentence BLEU by sacrebleu over 100, with its defaults (13a tokens, exponential smoothing, effective order).

    Several targets are several references. The mean over sentences is not the corpus BLEU of papers.
    """

    _bleu: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with needs_eval("bleu"):
            from sacrebleu.metrics.bleu import BLEU
        object.__setattr__(self, "_bleu", BLEU(effective_order=True))

    def score(self, sample: Sample) -> Score:
        # The score of a perfect match is 100.00000000000004.
        value = min(1.0, self._bleu.sentence_score(sample.answer, targets_of(sample.target)).score / 100)
        return Score(value, f"BLEU {100 * value:.1f}", sample.answer)
