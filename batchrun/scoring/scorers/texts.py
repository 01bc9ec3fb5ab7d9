"""The scorers that compare text: whole, in part, by pattern, by overlap.

Of a target that is a list, the answer may match any: the best value counts.
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
from batchrun.scoring.scorers.base import Sample, Score, Scorer, targets_of
from batchrun.scoring.scorers.extra import needs_eval

__all__ = ["BleuScorer", "ExactScorer", "F1Scorer", "FuzzyScorer", "IncludesScorer", "RegexScorer", "RougeScorer"]


def _normal(text: str, *, ignore_case: bool) -> str:
    """Canonical Unicode, each run of white space one space, none at the ends."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.casefold() if ignore_case else text


def _best(sample: Sample, measure: Callable[[str, str], float]) -> tuple[float, str]:
    """The best value over the targets, and which target gave it."""
    return max(((measure(sample.answer, target), target) for target in targets_of(sample.target)), key=lambda it: it[0])


@dataclass(frozen=True, slots=True)
class ExactScorer(Scorer):
    """1 if answer and target are the same text, up to white space and Unicode composition.

    Attributes:
        ignore_case: capitals do not count.
    """

    ignore_case: bool = False

    def score(self, sample: Sample) -> Score:
        read = _normal(sample.answer, ignore_case=False)
        value, target = _best(sample, self._same)
        return Score(value, "the same" if value else f"{target!r} expected", read)

    def _same(self, answer: str, target: str) -> float:
        return float(_normal(answer, ignore_case=self.ignore_case) == _normal(target, ignore_case=self.ignore_case))


@dataclass(frozen=True, slots=True)
class IncludesScorer(Scorer):
    """1 if the target occurs in the answer, up to white space and (unless told otherwise) capitals.

    Attributes:
        ignore_case: capitals do not count.
    """

    ignore_case: bool = True

    def score(self, sample: Sample) -> Score:
        value, target = _best(sample, self._inside)
        return Score(value, f"{target!r} {'occurs' if value else 'does not occur'}", target if value else None)

    def _inside(self, answer: str, target: str) -> float:
        return float(_normal(target, ignore_case=self.ignore_case) in _normal(answer, ignore_case=self.ignore_case))


@dataclass(frozen=True, slots=True)
class RegexScorer(Scorer):
    """1 if the pattern (Python's `re`, anywhere in the answer) is found.

    If the pattern has a group and there is a target, the last match's first group has to be the target, up to
    white space.
    """

    needs_target: ClassVar[bool] = False
    pattern: re.Pattern[str]

    def score(self, sample: Sample) -> Score:
        try:
            found = matches(self.pattern.pattern, sample.answer)
        except TooSlow:
            return Score(0.0, f"the pattern takes more than {MATCH_TIMEOUT_S:g} s on this answer")
        if not found:
            return Score(0.0, "the pattern is not found")
        match = found[-1]
        if not self.pattern.groups or sample.target is None:
            return Score(1.0, "the pattern is found", match[0])
        read = match[1] or ""
        wanted = [_normal(target, ignore_case=False) for target in targets_of(sample.target)]
        right = _normal(read, ignore_case=False) in wanted
        return Score(float(right), f"{read!r}; {' or '.join(map(repr, wanted))} expected", read)


@dataclass(frozen=True, slots=True)
class FuzzyScorer(Scorer):
    """How alike the texts are: rapidfuzz's `fuzz.ratio`, 1 for the same text, capitals and white space apart.

    The ratio is 1 − (insertions + deletions) / (both lengths together).

    Attributes:
        threshold: from there on the value is 1, below it 0; None gives the ratio itself.
    """

    threshold: float | None = None
    _ratio: Callable[[str, str], float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with needs_eval("fuzzy"):
            from rapidfuzz import fuzz
        object.__setattr__(self, "_ratio", fuzz.ratio)

    def score(self, sample: Sample) -> Score:
        value, target = _best(sample, self._measure)
        explanation = f"{value:.3f} alike to {target!r}"
        return Score(value if self.threshold is None else float(value >= self.threshold), explanation, sample.answer)

    def _measure(self, answer: str, target: str) -> float:
        return self._ratio(_normal(answer, ignore_case=True), _normal(target, ignore_case=True)) / 100


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_tokens(text: str) -> list[str]:
    """Words after SQuAD's `normalize_answer`: lower case, no ASCII punctuation, no articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


@dataclass(frozen=True, slots=True)
class F1Scorer(Scorer):
    """F1 of the words that answer and target share, as SQuAD counts it.

    Source: `compute_f1` of the evaluation script, version 2.0, https://rajpurkar.github.io/SQuAD-explorer/.
    If one of the two has no word left, the value is 1 if the other has none either.
    """

    def score(self, sample: Sample) -> Score:
        value, target = _best(sample, self._f1)
        return Score(value, f"F1 {value:.3f} with {target!r}", " ".join(squad_tokens(sample.answer)))

    @staticmethod
    def _f1(answer: str, target: str) -> float:
        found, wanted = squad_tokens(answer), squad_tokens(target)
        if not found or not wanted:
            return float(found == wanted)
        shared = (Counter(found) & Counter(wanted)).total()
        return 2 * shared / (len(found) + len(wanted))


_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class RougeScorer(Scorer):
    """ROUGE-L: F1 of the longest common subsequence of words (Lin 2004, https://aclanthology.org/W04-1013/).

    Words are runs of letters and digits of any script, in lower case, not stemmed. For English text that is
    what the package rouge-score computes as `rougeL` without its stemmer.
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
        found, wanted = _WORD.findall(answer.lower()), _WORD.findall(target.lower())
        return 2 * self._common(found, wanted) / (len(found) + len(wanted)) if found and wanted else 0.0


@dataclass(frozen=True, slots=True)
class BleuScorer(Scorer):
    """Sentence BLEU by sacrebleu, over 100: its defaults (13a tokens, exponential smoothing, effective order).

    Several targets are its several references. The mean of sentences is not the corpus BLEU of papers.
    """

    _bleu: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with needs_eval("bleu"):
            from sacrebleu.metrics.bleu import BLEU
        object.__setattr__(self, "_bleu", BLEU(effective_order=True))

    def score(self, sample: Sample) -> Score:
        # A perfect match comes to 100.00000000000004.
        value = min(1.0, self._bleu.sentence_score(sample.answer, targets_of(sample.target)).score / 100)
        return Score(value, f"BLEU {100 * value:.1f}", sample.answer)
