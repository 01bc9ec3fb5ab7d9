"""The encoding that a text may have, judged by its bytes: suggestions for an error message, never a silent choice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["Suggestion", "suggestions"]

_SUGGESTED: Final = 3
_PLAUSIBLE: Final = 0.6
"""Minimum share of plausible characters among those that are not ASCII."""
_WORD: Final = re.compile(r"[^\W\d_]+")


class Suggestion(NamedTuple):
    """An encoding that fits, and a line as it would be read."""

    encoding: str
    line: str


def suggestions(sample: bytes) -> list[Suggestion]:
    """Return the encodings in which `sample` can be decoded and looks like text, the most plausible first.

    The encodings are the usual ones that are not UTF-8: GB18030, Big5, Shift-JIS, EUC-KR, cp1251 and cp1252. In each, a
    character that is not ASCII is plausible if it is one that texts in that encoding's languages mostly consist of.

    Args:
        sample: complete lines of the file.
    """
    found = []
    for order, (encoding, is_plausible) in enumerate(_ENCODINGS.items()):
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        other = [character for character in text if not character.isascii()]
        score = sum(map(is_plausible, other)) / len(other) * _share_of_words(text, encoding) if other else 0.0
        if score >= _PLAUSIBLE:
            line = next(line for line in text.splitlines() if not line.isascii())
            found.append((-round(score, 2), order, Suggestion(encoding, line)))
    return [suggestion for _, _, suggestion in sorted(found)[:_SUGGESTED]]


def _share_of_words(text: str, encoding: str) -> float:
    """Return the share of the words that are not ASCII whose letters may occur together in the encoding's languages.

    In Western languages accented letters are single letters inside words. A Cyrillic word has no Latin letters, and no
    capital after a small letter. In the other encodings a character often is a word.
    """
    odd = {"cp1252": _is_crowded, "cp1251": _is_mixed}.get(encoding)
    if odd is None:
        return 1.0
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    return 1.0 - sum(map(odd, words)) / len(words) if words else 1.0


def _is_crowded(word: str) -> bool:
    accented = sum(not character.isascii() for character in word)
    return accented > 2 and accented > len(word) / 2


def _is_mixed(word: str) -> bool:
    has_late_capital = any(small.islower() and large.isupper() for small, large in pairwise(word))
    return has_late_capital or any(character.isascii() for character in word)


def _is_common_chinese(lead_range: tuple[int, int], encoding: str) -> Callable[[str], bool]:
    """Return a test for the characters that an encoding has first, since it lists the frequent ones before the rare."""

    def is_common(character: str) -> bool:
        encoded = character.encode(encoding)
        return _is_cjk_mark(character) or (len(encoded) == 2 and lead_range[0] <= encoded[0] <= lead_range[1])

    return is_common


def _is_cjk_mark(character: str) -> bool:
    return "\u3000" <= character <= "\u303f" or "\uff00" <= character <= "\uff60" or character in "“”‘’—…·"


def _is_japanese(character: str) -> bool:
    name = unicodedata.name(character, "")
    # Half-width katakana are single bytes, which other encodings are full of.
    return (
        _is_cjk_mark(character)
        or name.startswith(("HIRAGANA", "KATAKANA"))
        or (name.startswith("CJK") and character.encode("cp932")[0] <= 0x97)
    )


def _is_korean(character: str) -> bool:
    return _is_cjk_mark(character) or "\uac00" <= character <= "\ud7a3"


def _is_cyrillic(character: str) -> bool:
    return "а" <= character <= "я" or character in "ёіїєґў№«»—–“”„…" or ("А" <= character <= "Я")


def _is_western(character: str) -> bool:
    return character.isalpha() or character in "‘’“”„«»–—…•€£§°©®´¿¡·²³½¼×"


_ENCODINGS: Final[Mapping[str, Callable[[str], bool]]] = {
    "gb18030": _is_common_chinese((0xB0, 0xD7), "gb18030"),
    "big5": _is_common_chinese((0xA4, 0xC6), "big5"),
    "cp932": _is_japanese,
    "euc_kr": _is_korean,
    "cp1251": _is_cyrillic,
    "cp1252": _is_western,
}
