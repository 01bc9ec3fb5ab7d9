"""Separates a model's thought from its answer, if the server left both in one text.

There are two rules, because a mistake costs something else in each place. `split_thought` decides what the answer in a
table is: what it takes away is lost to the reader, so it cuts only what is certainly a thought, and keeps texts about
such tags. `without_reasoning` decides where scorers look for a result: a choice or number that the model considered and
dropped gives a wrong score, so they read nothing before the last end of a thought, wherever it is.
"""

from __future__ import annotations

import re

__all__ = ["split_thought", "without_reasoning"]

_TAGS = ("<think>", "<thinking>", "<thought>")
_OPENING = re.compile(r"\s*<(think|thinking|thought)>")
"""`<think>`: DeepSeek, Qwen, GLM, MiniMax and others, without a parser of the server. `<thinking>`: Amazon Nova.
`<thought>`: Gemini."""
_CLOSING_LINE = re.compile(r"^[ \t]*</(?:think|thinking|thought)>[ \t]*$", re.MULTILINE)
"""An end on a line of its own. Chat templates that write the beginning into the prompt leave only this one."""
_ANY_END = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_GAP = re.compile(r"\s*\n|[ \t]+")
"""Blank lines between a thought and the answer; the indentation of the answer's first line is kept."""


def split_thought(text: str) -> tuple[str, str]:
    r"""Return (answer, thought) of a message; the thought is "" if the message does not begin with one.

    Without an end, the whole text is the thought: the answer was cut off before it began. An end without a beginning
    counts if it has a line to itself.

    Examples:
        >>> split_thought("<think>\n2 and 2\n</think>\n\nIt is 4.")
        ('It is 4.', '2 and 2')
        >>> split_thought("<think>\n2 and")
        ('', '2 and')
        >>> split_thought("2 and 2\n</think>\n\nIt is 4.")
        ('It is 4.', '2 and 2')
        >>> split_thought("The tag <think> opens a thought.")
        ('The tag <think> opens a thought.', '')
    """
    if "<th" not in text and "</th" not in text:
        return text, ""
    thoughts, place, found = [], 0, False
    while opening := _OPENING.match(text, place):
        found = True
        closing = f"</{opening[1]}>"
        end = text.find(closing, opening.end())
        thoughts.append(text[opening.end() : end if end >= 0 else None].strip())
        place = end + len(closing) if end >= 0 else len(text)
    if not found:
        closing_line = _CLOSING_LINE.search(text)
        if closing_line is None or any(tag in text[: closing_line.start()] for tag in _TAGS):
            return text, ""
        thoughts, place = [text[: closing_line.start()].strip()], closing_line.end()
    gap = _GAP.match(text, place)
    return text[gap.end() if gap is not None else place :], "\n\n".join(filter(None, thoughts))


def without_reasoning(answer: str) -> str:
    """Return the text after the last `</think>`, wherever it is; else the whole text. Only for scorers: see above.

    Examples:
        >>> without_reasoning("First 4, no: </think> 5")
        ' 5'
    """
    if "</" not in answer:
        return answer
    end = 0
    for match in _ANY_END.finditer(answer):
        end = match.end()
    return answer[end:]
