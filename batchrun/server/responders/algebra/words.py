"""The words that may surround a written problem, and those that ask about an earlier answer.

The lists contain only words that do not change the question. They leave out number words and operations (`half`,
`double`, `sum`, `root`), units, times of day, comparisons, and all words of stories.
"""

from __future__ import annotations

__all__ = ["EXPAND_WORDS", "FOLLOW_UP", "FOLLOW_UP_CUES", "FRAMING", "MAY_FOLLOW", "ROOT_WORDS"]

_FRAMING_TEXT = """
a able all an and answer answers answered as assistant been brief briefly but by calculate can check
could compute concise correct dear determine do does doing easy equal equals equation evaluate exact
exactly exercise explain expression find following for get give given gives good had have having hello
help hey hi homework how i i'd i'll i'm i've if in is it it's just kindly know let let's like look math
maths mathematics may me much must my name need now number numerical of on only out please plz
possible problem question quick quickly real really reply respond result results return right s say
sentence short show simple simply so solution solutions solve solved solving step steps struggling stuck
tell thank thanks that the then there these this to trying tutor unknown us using value values variable
want wants was we what what's whats which will with word work working would write you your roots zero
zeros zeroes true false simplify expand correctly
"""

_MAY_FOLLOW_TEXT = """
and as by correctly equal equals exactly for give gives is me now please plz right so step thank thanks then
using with
"""

_FOLLOW_UP_TEXT = """
a again and are bit by can check clarify come could correct describe detail details did do does don't
elaborate even exactly explain explanation for from further get give go got hello hi how i i'm in is it
just kindly me mean more my now ok okay on please result right see show simpler so solution solve solved
solving sorry step steps still sure terms that the this through thanks thank to understand verify walk
was way what why with work worked would you your answer
"""

_FOLLOW_UP_CUES_TEXT = """
again check clarify describe detail details elaborate explain explanation how further show step steps
sure understand verify walk why
"""

FRAMING = frozenset(_FRAMING_TEXT.split())
"""Words that may surround a problem: "please solve … for me"."""

MAY_FOLLOW = frozenset(_MAY_FOLLOW_TEXT.split())
"""Framing words that may directly follow a calculation; another word may be what the numbers count: "3-4 steps"."""

ROOT_WORDS = frozenset({"roots", "zero", "zeros", "zeroes"})
"""Framing words that turn an expression into the equation "… = 0"."""

EXPAND_WORDS = frozenset({"simplify", "expand"})
"""Framing words that ask to multiply out."""

FOLLOW_UP = frozenset(_FOLLOW_UP_TEXT.split())
"""Words of a message that asks about an earlier answer and names no other subject."""

FOLLOW_UP_CUES = frozenset(_FOLLOW_UP_CUES_TEXT.split())
"""Such a message contains at least one of these."""
