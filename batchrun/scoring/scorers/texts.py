"""The scorers that compare texts: whole, in part, or by pattern.

If the target is a list, `exact`, `includes`, `starts-with` and `regex` accept any of its members.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from batchrun.bounded_regex import MATCH_TIMEOUT_S, TooSlow, matches
from batchrun.scoring.scorers.base import Sample, Score, Scorer
from batchrun.scoring.scorers.targets import has_target, targets_of, texts_of, unusable

__all__ = ["ContainsScorer", "ExactScorer", "IncludesScorer", "RegexScorer", "StartsWithScorer", "TextForm"]

_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TextForm:
    """The form in which two texts are compared: canonical Unicode, with single spaces between words.

    Attributes:
        ignore_case: whether upper and lower case are equal.
        ignore_punctuation: whether punctuation and symbols of any script are left out.
        ignore_articles: whether the words a, an and the are left out.
    """

    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_articles: bool = False

    def of(self, text: str) -> str:
        """Return a text in this form.

        >>> TextForm(True, True, True).of("The  cat, a dog!")
        'cat dog'
        """
        text = unicodedata.normalize("NFC", text)
        if self.ignore_case:
            text = text.casefold()
        if self.ignore_punctuation:
            text = "".join(each for each in text if unicodedata.category(each)[0] not in "PS")
        if self.ignore_articles:
            text = _ARTICLES.sub(" ", text)
        return " ".join(text.split())


_PLAIN = TextForm()
_NOTHING_LEFT = Score(None, "nothing is left of the target without what the options ignore")


def _formed(form: TextForm, targets: Sequence[str]) -> dict[str, str]:
    """Return the targets with their forms, without those of which nothing is left, such as `+` without punctuation."""
    return {target: formed for target in targets if (formed := form.of(target))}


@dataclass(frozen=True, slots=True)
class ExactScorer(Scorer):
    """1 if answer and target are the same text, except for white space and Unicode composition.

    Attributes:
        form: what else does not count. With all three of its options, the value is SQuAD's exact match
            (https://rajpurkar.github.io/SQuAD-explorer/) for ASCII punctuation.
        different: whether the value is 1 if the answer differs from the target, and from every member of a list.
    """

    form: TextForm = _PLAIN
    different: bool = False

    def score(self, sample: Sample) -> Score:
        read, answer = _PLAIN.of(sample.answer), self.form.of(sample.answer)
        targets = texts_of(sample.target)
        equal = next((target for target in targets if self.form.of(target) == answer), None)
        if self.different:
            return Score(float(equal is None), "different" if equal is None else f"equal to {equal!r}", read)
        explanation = f"expected {_listed(targets)}" if equal is None else "equal"
        compared = (self.form.of(targets[0]), answer) if len(targets) == 1 else None
        return Score(float(equal is not None), explanation, read, compared)


@dataclass(frozen=True, slots=True)
class IncludesScorer(Scorer):
    """1 if the target occurs in the answer, except for white space and, by default, upper and lower case.

    Attributes:
        form: what does not count.
    """

    form: TextForm = TextForm(ignore_case=True)

    def score(self, sample: Sample) -> Score:
        targets, answer = _formed(self.form, texts_of(sample.target)), self.form.of(sample.answer)
        if not targets:
            return _NOTHING_LEFT
        found = next((target for target, formed in targets.items() if formed in answer), None)
        if found is None:
            return Score(0.0, f"{_listed(targets)} does not occur")
        return Score(1.0, f"{found!r} occurs", found)


@dataclass(frozen=True, slots=True)
class ContainsScorer(Scorer):
    """1 if all members of a target that is a list occur in the answer, or with `every=False` if one of them does.

    Attributes:
        every: whether all must occur.
        form: what does not count.
    """

    every: bool
    form: TextForm = TextForm(ignore_case=True)

    def score(self, sample: Sample) -> Score:
        targets, answer = _formed(self.form, targets_of(sample.target)), self.form.of(sample.answer)
        if not targets:
            return _NOTHING_LEFT
        found = [target for target, formed in targets.items() if formed in answer]
        missing = [target for target in targets if target not in found]
        right = not missing if self.every else bool(found)
        explanation = f"lacks {', '.join(map(repr, missing))}" if missing else "all occur"
        if not self.every:
            explanation = (
                f"{', '.join(map(repr, found))} occurs" if found else f"none of {', '.join(map(repr, targets))}"
            )
        return Score(float(right), explanation, ", ".join(found) or None)


@dataclass(frozen=True, slots=True)
class StartsWithScorer(Scorer):
    """1 if the answer begins with the target, except for white space and, by default, upper and lower case.

    Attributes:
        form: what does not count.
    """

    form: TextForm = TextForm(ignore_case=True)

    def score(self, sample: Sample) -> Score:
        targets, answer = _formed(self.form, texts_of(sample.target)), self.form.of(sample.answer)
        if not targets:
            return _NOTHING_LEFT
        found = next((target for target, formed in targets.items() if answer.startswith(formed)), None)
        if found is None:
            return Score(0.0, f"does not begin with {_listed(targets)}")
        return Score(1.0, f"begins with {found!r}", found)


@dataclass(frozen=True, slots=True)
class RegexScorer(Scorer):
    """1 if the pattern (Python's `re`) matches anywhere in the answer.

    If the pattern has a group and there is a target, the first group of the last match must be the target, except for
    white space.
    """

    needs_target: ClassVar[bool] = False
    pattern: re.Pattern[str]

    def score(self, sample: Sample) -> Score:
        compares = self.pattern.groups and sample.target is not None
        if compares and has_target(sample.target) and (problem := unusable(sample.target)) is not None:
            return problem
        try:
            all_matches = matches(self.pattern.pattern, sample.answer)
        except TooSlow:
            return Score(0.0, f"the pattern takes more than {MATCH_TIMEOUT_S:g} s on this answer")
        if not all_matches:
            return Score(0.0, "the pattern does not match")
        match = all_matches[-1]
        if not compares:
            return Score(1.0, "the pattern matches", match[0])
        read = match[1] or ""
        expected = [_PLAIN.of(target) for target in texts_of(sample.target)]
        right = _PLAIN.of(read) in expected
        compared = (expected[0], _PLAIN.of(read)) if len(expected) == 1 else None
        return Score(float(right), f"{read!r}; expected {' or '.join(map(repr, expected))}", read, compared)


def _listed(targets: Iterable[str]) -> str:
    return " or ".join(map(repr, targets))
