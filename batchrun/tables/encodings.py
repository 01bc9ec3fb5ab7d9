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


def suggestions(sample: bytes, head: bytes = b"") -> list[Suggestion]:
    """Return the encodings in which `sample` can be decoded and looks like text, the most plausible first.

    The encodings are the usual ones that are not UTF-8. In each, a character that is not ASCII is plausible if texts in
    that encoding's languages mostly consist of such. Of encodings that read the same, only the first is named. UTF-16
    without a byte order mark is recognised by its NUL bytes.

    Args:
        sample: complete lines of the file.
        head: the beginning of the file, with an even number of bytes.
    """
    if (wide := _utf_16(sample, head)) is not None:
        return [wide]
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
    different: dict[str, Suggestion] = {}
    for _, _, suggestion in sorted(found):
        different.setdefault(suggestion.line, suggestion)
    return list(different.values())[:_SUGGESTED]


def _utf_16(sample: bytes, head: bytes) -> Suggestion | None:
    """Return UTF-16 of the byte order in which every other byte of the head is mostly NUL; None if neither is."""
    for encoding, high in (("utf-16-be", 0), ("utf-16-le", 1)):
        if head[high::2].count(0) > len(head) / 4 > head[1 - high :: 2].count(0):
            # In the little-endian order, the second byte of the line end before the sample is its first.
            aligned = sample.removeprefix(b"\0") if high else sample
            lines = aligned[: len(aligned) // 2 * 2].decode(encoding, "replace").splitlines()
            return Suggestion(encoding, next((line for line in lines if not line.isascii()), ""))
    return None


def _share_of_words(text: str, encoding: str) -> float:
    """Return the share of the words that are not ASCII whose letters may occur together in the encoding's languages.

    In European languages accented letters are few among the others. A Cyrillic word has no Latin letters, and no
    capital after a small letter. In the other encodings a character often is a word.
    """
    odd = _ODD_WORDS.get(encoding)
    if odd is None:
        return 1.0
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    return 1.0 - sum(map(odd, words)) / len(words) if words else 1.0


def _is_crowded(word: str) -> bool:
    accented = sum(not character.isascii() for character in word)
    return accented > 2 and accented > len(word) / 2


def _is_full(word: str) -> bool:
    """Return whether most letters are accented: in Central European languages more are than in Western ones."""
    return len(word) > 2 and sum(not character.isascii() for character in word) > len(word) * 0.75


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


def _is_one_of(letters: str) -> Callable[[str], bool]:
    """Return a test for the letters of some languages: other bytes of these encodings are letters and signs too."""
    return lambda character: character.lower() in letters


_ENCODINGS: Final[Mapping[str, Callable[[str], bool]]] = {
    "gb18030": _is_common_chinese((0xB0, 0xD7), "gb18030"),
    "big5": _is_common_chinese((0xA4, 0xC6), "big5"),
    "cp932": _is_japanese,
    "euc_jp": _is_japanese,
    "euc_kr": _is_korean,
    "cp1251": _is_cyrillic,
    "koi8_r": _is_cyrillic,
    "cp1252": _is_western,
    "cp1250": _is_one_of("ąćęłńóśźżáčďéěíňřšťúůýžôľĺŕőűöüäßăâîșşţ„”“–…"),
    "cp850": _is_one_of("äöüßéèêëàâçñáíóúîïôûùæøåì«»"),
    "mac_roman": _is_one_of("äöüßéèêëàâçñáíóúîïôûùæøåœ«»“”‘’„–—…•€"),
}
_ODD_WORDS: Final[Mapping[str, Callable[[str], bool]]] = {
    **dict.fromkeys(("cp1251", "koi8_r"), _is_mixed),
    **dict.fromkeys(("cp1252", "cp850", "mac_roman"), _is_crowded),
    "cp1250": _is_full,
}
