"""The scorers that measure how much two texts have in common: a value from 0 to 1, or 0 and 1 with a threshold.

If the target is a list, the answer may match any member: the best value counts.
"""

from __future__ import annotations

import re
import string
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchrun.scoring.scorers.base import Sample, Score, Scorer
from batchrun.scoring.scorers.extra import needs_eval
from batchrun.scoring.scorers.targets import targets_of, texts_of
from batchrun.scoring.scorers.texts import TextForm

__all__ = ["BleuScorer", "F1Scorer", "FuzzyScorer", "RougeLScorer", "RougeNScorer", "squad_tokens"]

_NO_CASE = TextForm(ignore_case=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapScorer(Scorer):
    """A measure of two texts.

    Attributes:
        threshold: value from which the score is 1, and below which it is 0; None gives the value itself.
    """

    threshold: float | None = None

    @abstractmethod
    def _measure(self, answer: str, target: str) -> float:
        """Return the value for one target, from 0 to 1."""

    @abstractmethod
    def _described(self, value: float) -> str:
        """Return the value with the name of the measure."""

    def score(self, sample: Sample) -> Score:
        targets = texts_of(sample.target)
        value, target = max(((self._measure(sample.answer, each), each) for each in targets), key=lambda it: it[0])
        return self._scored(value, f"{self._described(value)} with {target!r}", sample.answer)

    def _scored(self, value: float, explanation: str, read: str) -> Score:
        if self.threshold is None:
            return Score(value, explanation, read)
        # A rounding error must not decide: 0.6 of three words is 0.6000000000000001 or 0.5999999999999999.
        reached = value >= self.threshold - 1e-9
        return Score(float(reached), f"{explanation}; threshold {self.threshold:g}", read)


@dataclass(frozen=True, slots=True, kw_only=True)
class FuzzyScorer(OverlapScorer):
    """The similarity of the texts: rapidfuzz's `fuzz.ratio`, 1 for texts that differ in case and white space only.

    The ratio is 1 − (insertions + deletions) / (sum of both lengths).

    Attributes:
        edits: if given, the value is 1 if at most so many characters have to be inserted, deleted or replaced to make
            the target of the answer (Levenshtein's distance of the texts as they are), otherwise 0.
    """

    edits: int | None = None
    _ratio: Callable[[str, str], float] = field(init=False, repr=False, compare=False)
    _distance: Callable[[str, str], int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with needs_eval("fuzzy"):
            from rapidfuzz import fuzz
            from rapidfuzz.distance import Levenshtein
        object.__setattr__(self, "_ratio", fuzz.ratio)
        object.__setattr__(self, "_distance", Levenshtein.distance)

    def score(self, sample: Sample) -> Score:
        if self.edits is None:
            return OverlapScorer.score(self, sample)
        distances = [(self._distance(sample.answer, each), each) for each in texts_of(sample.target)]
        edits, target = min(distances, key=lambda it: it[0])
        explanation = f"edit distance {edits} to {target!r}; at most {self.edits}"
        return Score(float(edits <= self.edits), explanation, sample.answer)

    def _measure(self, answer: str, target: str) -> float:
        return self._ratio(_NO_CASE.of(answer), _NO_CASE.of(target)) / 100

    def _described(self, value: float) -> str:
        return f"similarity {value:.3f}"


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_tokens(text: str) -> list[str]:
    """Return the words by SQuAD's `normalize_answer`: lower case, no ASCII punctuation, no articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class F1Scorer(OverlapScorer):
    """F1 of the words that answer and target share, as SQuAD computes it.

    Source: `compute_f1` of the evaluation script, version 2.0, https://rajpurkar.github.io/SQuAD-explorer/.
    If neither of the two has a word left, the value is 1; if only one has none, it is 0.
    """

    def score(self, sample: Sample) -> Score:
        found = OverlapScorer.score(self, sample)
        return Score(found.value, found.explanation, " ".join(squad_tokens(sample.answer)))

    def _measure(self, answer: str, target: str) -> float:
        return _f1(squad_tokens(answer), squad_tokens(target), 1.0)

    def _described(self, value: float) -> str:
        return f"F1 {value:.3f}"


def _f1(in_answer: Sequence[object], in_target: Sequence[object], of_nothing: float) -> float:
    """Return the F1 of shared items.

    Args:
        of_nothing: the value if neither has an item.
    """
    if not in_answer or not in_target:
        return of_nothing if not in_answer and not in_target else 0.0
    shared = (Counter(in_answer) & Counter(in_target)).total()
    return 2 * shared / (len(in_answer) + len(in_target))


_WORD = re.compile(r"\w+")


def _rouge_words(text: str) -> list[str]:
    """Return the words of ROUGE: runs of letters and digits of any script, in lower case, not stemmed."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class RougeNScorer(OverlapScorer):
    """ROUGE-N: F1 of the sequences of n words that answer and target share (Lin 2004, https://aclanthology.org/W04-1013/).

    For English text the value equals `rouge1`, `rouge2` and so on of the package rouge-score without its stemmer. That
    package needs nltk and absl for these ten lines, so it is not used.

    Attributes:
        n: number of words in a sequence.
    """

    n: int

    def _measure(self, answer: str, target: str) -> float:
        return _f1(self._sequences(answer), self._sequences(target), 0.0)

    def _sequences(self, text: str) -> list[tuple[str, ...]]:
        words = _rouge_words(text)
        return list(zip(*(words[start:] for start in range(self.n)), strict=False))

    def _described(self, value: float) -> str:
        return f"ROUGE-{self.n} {value:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RougeLScorer(OverlapScorer):
    """ROUGE-L: F1 of the longest common subsequence of words (Lin 2004, https://aclanthology.org/W04-1013/).

    Words are runs of letters and digits of any script, in lower case, not stemmed. For English text the value equals
    `rougeL` of the package rouge-score without its stemmer.
    """

    _common: Callable[[list[str], list[str]], int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with needs_eval("rougeL"):
            from rapidfuzz.distance import LCSseq
        object.__setattr__(self, "_common", LCSseq.similarity)

    def _measure(self, answer: str, target: str) -> float:
        in_answer, in_target = _rouge_words(answer), _rouge_words(target)
        if not in_answer or not in_target:
            return 0.0
        return 2 * self._common(in_answer, in_target) / (len(in_answer) + len(in_target))

    def _described(self, value: float) -> str:
        return f"ROUGE-L {value:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BleuScorer(OverlapScorer):
    """Sentence BLEU by sacrebleu over 100, with its defaults (13a tokens, exponential smoothing, effective order).

    Several targets are several references. The mean over sentences is not the corpus BLEU of papers.
    """

    _bleu: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with needs_eval("bleu"):
            from sacrebleu.metrics.bleu import BLEU
        object.__setattr__(self, "_bleu", BLEU(effective_order=True))

    def score(self, sample: Sample) -> Score:
        value = self._against(sample.answer, targets_of(sample.target))
        return self._scored(value, self._described(value), sample.answer)

    def _measure(self, answer: str, target: str) -> float:
        return self._against(answer, [target])

    def _against(self, answer: str, targets: Sequence[str]) -> float:
        # The score of a perfect match is 100.00000000000004.
        return min(1.0, float(self._bleu.sentence_score(answer, targets).score) / 100)

    def _described(self, value: float) -> str:
        return f"BLEU {100 * value:.1f}"
