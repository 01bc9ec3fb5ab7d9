"""ChoicePatterns: the patterns for the text before and after a letter that may be a choice.

Patterns that end at the letter are matched backwards (`(?r)`), from the letter to the left, and therefore never search.
All repetitions are bounded, so a pattern takes little time on any text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import regex

from batchrun.scoring.scorers.choice_words import (
    BE,
    BEFORE_RIGHT,
    BEST,
    CHOOSE,
    COPULAS,
    HEDGES,
    INSTEAD,
    JOINING,
    LIMITS,
    NEGATIONS,
    NOUNS,
    OPTION,
    RIGHT,
    RIGHT_UNSPACED,
    SEVERAL,
    VERBS,
    WRONG,
    any_of,
)

__all__ = ["ChoicePatterns", "choice_patterns"]

_LETTER: Final = "A-Za-zÀ-ɏͰ-ϿЀ-ӿ"
_EDGE: Final = rf"(?!(?<=[{_LETTER}])[{_LETTER}])"
_OPEN: Final = r"(?:[ \t*_`$\"'\[\](){}<>~|\\/]|\\(?:boxed|fbox|text\w*|math\w+)\{)"
_CLOSE: Final = r"[*_`$\"'\])}>~|\\]"
_COLON: Final = r"(?:[:=–—→-]|\.\.\.|…)"
_SENTENCE: Final = r"[^\n.!?]"


def _word(words: tuple[str, ...]) -> str:
    return rf"{_EDGE}{any_of(words)}{_EDGE}"


def _left(pattern: str) -> regex.Pattern[str]:
    return regex.compile(f"(?ri){pattern}")


def _right(pattern: str) -> regex.Pattern[str]:
    return regex.compile(f"(?i){_CLOSE}{{0,8}}{pattern}")


class ChoicePatterns:
    """The patterns for some letters.

    Attributes:
        label: a letter that is a word of its own; a lower-case one only before a mark.
        before, after: patterns by name, which end at a letter, or begin behind it.
        alone: a line with nothing but a letter.
        lead: a line that begins with a letter and a mark, as options do.
    """

    def __init__(self, letters: str) -> None:
        label = self._label(letters)
        self.label = re.compile(label)
        # Text of one sentence without another letter and without a negation.
        free = rf"(?:(?!{label})(?!{_word(NEGATIONS)}){_SENTENCE})"
        option = rf"{_word(OPTION)}\s*"
        join = rf"(?:\s*(?:{_word(JOINING)})\s*){{1,2}}(?:{option})?"
        self.before = self._before(label, free, option, join)
        self.after = self._after(label, free, join)
        any_letter = f"[{re.escape(letters)}]"
        ending = r"[\s*_`$\"'\])}>~|\\.,:;!?]*"
        self.alone = re.compile(rf"\s*{_OPEN}{{0,8}}(?:option\s+)?(?P<letter>{any_letter}){ending}\Z", re.IGNORECASE)
        mark = rf"{_CLOSE}{{0,8}}\s*(?:[.):,;]|[-–—→]\s)|{_CLOSE}{{1,8}}"
        because = r"\s+(?:because|since|as|due|for|weil|porque|car)\b"
        self.lead = re.compile(
            rf"\s*(?:[-*•>#]+\s+)?(?:{_OPEN}|option\s|choice\s|选项|選項){{0,8}}(?P<letter>{label})(?:{mark}|{because}|\s*\Z)",
            re.IGNORECASE,
        )

    @staticmethod
    def _label(letters: str) -> str:
        lower = "".join(each for each in letters.lower() if each not in letters)
        small = rf"|[{lower}](?={_CLOSE}{{0,8}}(?:[.):,;!]|\s*\n|\s*\Z|\s*</|\s+because\b))" if lower else ""
        edge = rf"{_LETTER}0-9" if letters.isascii() else r"\w"
        # Not a part of a name (B-side, J. K., C++) or of a genitive (A's), but Turkish A'dır.
        other = r"'[a-z]{1,2}\b(?<!'d[ıi])|[-+#&@^%][\w+]|\.[A-Z0-9]\b"
        return rf"(?<![{edge}])(?<![A-Za-z0-9][-.])(?<![0-9],)(?:[{re.escape(letters)}]{small})(?![{edge}]|{other})"

    @staticmethod
    def _before(label: str, free: str, option: str, join: str) -> dict[str, regex.Pattern[str]]:
        noun, copula = _word(NOUNS), _word(COPULAS)
        gap = rf"(?:{_OPEN}|{_COLON}|,|\n|{copula}|{_word(SEVERAL)})"
        conditional = rf"{_EDGE}(?:would|were|might){_EDGE}"
        return {
            "marked": _left(
                r"(?:\\(?:boxed|fbox)\{|\#{4,}[ ]|<(?:answer|final(?:[ _-]?answer)?|choice|option)>\s*)"
                rf"{_OPEN}{{0,6}}"
            ),
            "stated": _left(rf"{noun}(?P<gap>{gap}{{0,24}})"),
            "far": _left(rf"{noun}{free}{{0,100}}?(?:{copula}|:){gap}{{0,16}}"),
            "named": _left(rf"{noun}{free}{{0,120}}?(?:{copula}|:){free}{{0,120}}?(?:{option}|[(\[]){_OPEN}{{0,4}}"),
            "instead": _left(rf"{noun}{_SENTENCE}{{0,80}}?{_word(INSTEAD)}{gap}{{0,8}}"),
            "opposed": _left(
                rf"{_word(NEGATIONS)}\s*(?:{option})?{_OPEN}{{0,4}}{label}{_CLOSE}{{0,4}},?\s*{_word(INSTEAD)}\s*"
                rf"(?:{option})?{_OPEN}{{0,4}}"
            ),
            "sole": _left(rf"(?:\A|[\n.!?;:,]\s*|{_word(VERBS)}[\s,]{{1,3}}){_EDGE}only\s+(?:{option})?{_OPEN}{{0,4}}"),
            "chosen": _left(
                rf"{_EDGE}I(?:['’](?:d|ll|m))?\s+(?:would\s+|will\s+)?{_word(CHOOSE)}(?:{_OPEN}|{option}){{0,8}}"
            ),
            "concluded": _left(rf"{_word(VERBS)}(?:{_OPEN}|:|,|{copula}){{0,12}}"),
            "denied": _left(
                rf"{_word(NEGATIONS)}(?:{_OPEN}|{_word((*BE, 'be', 'the', 'la', 'el', 'die'))}|{option}){{0,8}}"
            ),
            "joined": _left(rf"{label}{_CLOSE}{{0,6}}{join}{_OPEN}{{0,6}}"),
            "mention": _left(rf"(?:\A|\n|[.!?:;,]\s|[(\[*_`$\"'{{]|{option}){_OPEN}{{0,6}}"),
            "hedged": _left(rf"{_word(HEDGES)}{_SENTENCE}{{0,80}}"),
            "if": _left(
                rf"{_EDGE}(?:if|suppose|had|unless){_EDGE}{_SENTENCE}{{0,120}}{conditional}{_SENTENCE}{{0,80}}"
            ),
        }

    @staticmethod
    def _after(label: str, free: str, join: str) -> dict[str, regex.Pattern[str]]:
        # A letter with a verb of its own begins another statement: "The answer is B, A is wrong".
        verb = rf"{_CLOSE}{{0,8}}\s+(?:is|are|was|does|can|would|fails?|has|states|says)\b"
        adverb = r"(?:(?:clearly|also|therefore|just|simply|both|all)\s+)?"
        wrong = _word(tuple(word for word in WRONG if word not in ("not", "never", "out")))
        return {
            "joined": _right(rf"{join}{_OPEN}{{0,6}}{label}(?!{verb})"),
            "right": _right(
                rf"(?:{free}{{0,60}}?{_word(BE)}\s*(?:{_OPEN}|{_word(BEFORE_RIGHT)}\s*){{0,6}}{_word(RIGHT)}(?!{_word(LIMITS)})"
                rf"|\s*{any_of(RIGHT_UNSPACED)}|\s+best\s+{any_of(BEST)}\b"
                r"|,?\s+it\s+is\s*(?:[.!]|\n|\Z)|\s+(?:is|are|does)\s*(?:[.!]|\n|\Z))"
            ),
            "verb": _right(
                r"\s+(?:is|are|was|were|has|does|can|could|would|might|may|seems?|looks?|appears?|fits|works)\b"
            ),
            "denied": _right(rf"\s*(?:{_word(BE)}\s*{adverb}{_word(WRONG)}|{wrong})"),
            "end": _right(
                r"\s*(?:here|instead|then|now|as well)?\s*(?:[.!;,]|['’]?[dt][ıiuü]r\b|da\b|\n|\Z|है|şık\w*|seçene\w*"
                r"|(?:because|since|as|weil|porque|car)\b)"
            ),
            "text": _right(r"\s*(?:[:)\]–—]|-\s)"),
            "pause": _right(r"\s*(?:[.!,:;?]|\n|\Z)"),
            "question": _right(r"\s*\?"),
        }


@lru_cache(maxsize=16)
def choice_patterns(letters: str) -> ChoicePatterns:
    """Return the patterns for some letters."""
    return ChoicePatterns(letters)
