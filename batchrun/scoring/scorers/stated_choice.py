"""The letter that an answer to a multiple-choice question states, found by its neighbours.

Every letter that is a word of its own is judged by the text before and after it, beginning with the last one. Few texts
have more than ten such letters, so that long answers take little time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import regex

from batchrun.scoring.scorers.choice_patterns import choice_patterns
from batchrun.scoring.scorers.choice_words import CONNECTIVES

__all__ = ["StatedChoice", "stated_choice"]

_MAX_LETTERS: Final = 300
_BEFORE_CHARS: Final = 240
_AFTER_CHARS: Final = 160

_SAME: Final = str.maketrans(
    {
        **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full width
        **{code: chr(code - 0x24B6 + 65) for code in range(0x24B6, 0x24D0)},  # Ⓐ
        **{code: chr(code - 0x249C + 97) for code in range(0x249C, 0x24B6)},  # ⒜
        **{code: chr(code - 0x1F110 + 65) for code in range(0x1F110, 0x1F12A)},  # 🄐
        **{code: chr(code - 0x1F130 + 65) for code in range(0x1F130, 0x1F14A)},  # 🄰
        **{code: chr(code - 0x1F170 + 65) for code in range(0x1F170, 0x1F18A)},  # 🅰
        **{code: chr(code - 0x1D400 + 65) for code in range(0x1D400, 0x1D41A)},  # 𝐀
        **{code: chr(code - 0x245F + 48) for code in range(0x2460, 0x2469)},  # ①
        **dict.fromkeys(map(ord, "\u3000\u00a0\u202f"), " "),
        **dict.fromkeys(map(ord, "’‘"), "'"),
        **dict.fromkeys(map(ord, "“”„«»「」『』"), '"'),
        **dict.fromkeys(map(ord, "【〔"), "["),
        **dict.fromkeys(map(ord, "】〕"), "]"),
        **dict.fromkeys(map(ord, "。।۔"), "."),
        ord("、"): ",",
    }
)
"""Characters → the plain ones that mean the same; a text keeps its length."""
_LOOKALIKE: Final = re.compile(r"(?<!\w)[АВСЕНΑΒΕΗ](?!\w)(?!\s+\w)")
"""Cyrillic and Greek capitals that look like Latin ones, unless a word follows: `В` and `С` are Russian words."""
_LATIN: Final = str.maketrans("АВСЕНΑΒΕΗ", "ABCEHABEH")
_NEXT_WORD: Final = re.compile(r"\s+([a-zà-ɏ']+)")


@dataclass(frozen=True, slots=True)
class StatedChoice:
    """What an answer states.

    Attributes:
        letter: in upper case; None if several are stated at once.
        read: the text that says so.
    """

    letter: str | None
    read: str


def stated_choice(answer: str, letters: str) -> StatedChoice | None:
    """Return the letter that an answer states; None if there is none. `ChoiceScorer` has the rule.

    >>> stated_choice("Answer: D. B is a common mistake.", "ABCD")
    StatedChoice(letter='D', read='Answer: D')
    >>> stated_choice("Both A and B", "ABCD") is None
    True
    """
    return _Reading(answer, letters).choice()


class _Reading:
    """One answer, as it is read."""

    def __init__(self, answer: str, letters: str) -> None:
        text = answer
        if not answer.isascii():
            text = answer.translate(_SAME)
            if letters.isascii():
                text = _LOOKALIKE.sub(lambda match: match[0].translate(_LATIN), text)
        self._answer, self._text, self._letters = answer, text, letters
        self._patterns = choice_patterns(letters)

    def choice(self) -> StatedChoice | None:
        matches = [match for match in self._patterns.label.finditer(self._text) if not self._is_word(match)]
        matches = matches[-_MAX_LETTERS:]
        concluded = several = None
        named: set[str] = set()  # letters from here to a statement of several
        for match in reversed(matches):
            start = self._statement(match)
            if start is not None:
                found = self._found(match, start)
                if several is not None:
                    return several if found.letter is None or found.letter in named else found
                if found.letter is not None or self._after("right", match) is None:
                    return found
                several = found  # may be the text of an option: "Answer: D (both A and B are correct)"
            if several is not None:
                named.add(match[0].upper())
            elif concluded is None and (start := self._conclusion(match)) is not None:
                concluded = self._found(match, start)
        if several is not None and (concluded is None or concluded.letter in named):
            return several
        return concluded or self._at_an_end() or self._only(matches)

    def _found(self, match: re.Match[str], start: int) -> StatedChoice:
        """Return the letter, or no letter if others belong to it, with the text from `start`."""
        before, after = self._before("joined", match), self._after("joined", match)
        read = self._answer[min(start, match.start()) : after.end() if after else match.end()].strip()
        return StatedChoice(None if before or after else match[0].upper(), read)

    def _before(self, name: str, match: re.Match[str]) -> regex.Match[str] | None:
        start = match.start()
        return self._patterns.before[name].match(self._text, max(0, start - _BEFORE_CHARS), start)

    def _after(self, name: str, match: re.Match[str]) -> regex.Match[str] | None:
        end = match.end()
        return self._patterns.after[name].match(self._text, end, end + _AFTER_CHARS)

    def _is_word(self, match: re.Match[str]) -> bool:
        """Return whether `A` or `I` is a word: `A red car`, `I think`."""
        if match[0] not in "AI":
            return False
        following = _NEXT_WORD.match(self._text, match.end(), match.end() + 40)
        if following is None or following[1].startswith(("şık", "seçene")):
            return False
        return following[1] not in CONNECTIVES

    def _is_denied(self, match: re.Match[str]) -> bool:
        """Return whether a letter is excluded or asked about."""
        return bool(self._before("denied", match) or self._after("denied", match) or self._after("question", match))

    def _statement(self, match: re.Match[str]) -> int | None:
        """Return where the statement of a letter begins; None if it is not stated."""
        marked = self._before("marked", match)
        if marked is not None:
            return int(marked.start())
        if self._is_denied(match):
            return None
        if self._after("right", match):
            return None if self._before("hedged", match) else match.start()
        if self._before("joined", match):
            return None  # the first of such letters is judged
        stated = self._before("stated", match)
        if stated is None or not self._is_statement(stated["gap"], match):
            names = ["far", "named"]
            if self._after("verb", match) is None:
                names += ["instead", "opposed"]  # not in "the answer is A, but B is tempting"
            else:
                names += ["sole"]
            stated = next(filter(None, (self._before(name, match) for name in names)), None)
        return None if stated is None or self._before("if", match) else int(stated.start())

    def _is_statement(self, gap: str, match: re.Match[str]) -> bool:
        """Return whether the text between a word such as `answer` and a letter makes that a statement."""
        if "\n" in gap:
            return not self._is_listed(match)  # "Choose the answer:\nA) Paris\nB) Rome" states nothing
        return re.search(r"[:=>\"–—-]|\w", gap) is not None or self._after("end", match) is not None

    def _conclusion(self, match: re.Match[str]) -> int | None:
        """Return where a clause begins that ends in a letter after a word such as `thus`; None if it does not."""
        if self._is_denied(match) or self._before("joined", match):
            return None
        if self._after("end", match):
            concluded = self._before("concluded", match)
        else:
            concluded = self._before("chosen", match) if self._after("text", match) else None
        return None if concluded is None else int(concluded.start())

    def _is_listed(self, match: re.Match[str]) -> bool:
        """Return whether the next line begins with the next letter."""
        end = self._text.find("\n", match.end())
        following = self._text[end : end + 200].split("\n") if end >= 0 else []
        lead = next(filter(None, map(self._patterns.lead.match, filter(str.strip, following))), None)
        return lead is not None and self._follows(match[0], lead["letter"])

    def _follows(self, one: str, other: str) -> bool:
        return self._letters.find(other.upper()) == self._letters.find(one.upper()) + 1

    def _at_an_end(self) -> StatedChoice | None:
        """Return the letter that is alone in the last line, or begins the first or the last one."""
        lines = [line for line in self._text.splitlines() if line.strip()]
        if not lines:
            return None
        if alone := self._patterns.alone.match(lines[-1]):
            return StatedChoice(alone["letter"].upper(), lines[-1].strip())
        return self._leading(lines[0], following=lines[1:2]) or self._leading(lines[-1], preceding=lines[-2:-1])

    def _leading(
        self, line: str, *, following: Sequence[str] = (), preceding: Sequence[str] = ()
    ) -> StatedChoice | None:
        """Return the letter that begins a line, unless it is an option in a list."""
        patterns = self._patterns
        lead = patterns.lead.match(line)
        if lead is None:
            return None
        letter, end = lead["letter"], lead.end("letter")
        if patterns.after["denied"].match(line, end) or patterns.after["joined"].match(line, end):
            return None
        after = [each["letter"] for each in map(patterns.lead.match, following) if each]
        before = [each["letter"] for each in map(patterns.lead.match, preceding) if each]
        if any(self._follows(letter, each) for each in after) and not patterns.alone.match(line):
            return None
        if any(self._follows(each, letter) for each in before):
            return None
        return StatedChoice(letter.upper(), lead[0].strip())

    def _only(self, matches: Sequence[re.Match[str]]) -> StatedChoice | None:
        """Return the letter that is mentioned if no other one is."""
        mentions = [match for match in matches if self._is_mention(match)]
        if len({match[0].upper() for match in mentions}) != 1:
            return None
        if any(self._before("joined", match) or self._after("joined", match) for match in mentions):
            return None
        return StatedChoice(mentions[-1][0].upper(), mentions[-1][0])

    def _is_mention(self, match: re.Match[str]) -> bool:
        """Return whether a letter is mentioned as an option, and not denied."""
        if self._is_denied(match):
            return False
        is_bracketed = self._text[: match.start()][-1:] in ("(", "[")
        return is_bracketed or bool(self._before("mention", match) and self._after("pause", match))
