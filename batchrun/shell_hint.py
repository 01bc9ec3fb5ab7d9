"""Commands and options in messages, quoted so that they do the same when they are pasted into a shell.

Every message that shows a command with a name of the user's (a file, a column, a model) makes it with these functions.
The quotes are those of POSIX shells. Where double quotes are enough, the result works in PowerShell and cmd too.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from batchrun.wording import visible_line

__all__ = ["command", "option", "quoted"]

_EXPANDED = frozenset('"$`\\!')
"""Characters with a meaning inside double quotes."""


def quoted(text: str) -> str:
    r"""Return one word of a shell: the text itself if no shell changes it, else the text in quotes.

    A line break, a tab, or another character that a message shows as an escape is written as an octal number for
    `printf`, so that the message stays on one line and the pasted word is the text. A line break at the end is lost.

    >>> print(quoted("answers.csv"), quoted("my answers.csv"), quoted("it's.csv"), quoted("$HOME's"))
    answers.csv 'my answers.csv' "it's.csv" '$HOME'"'"'s'
    >>> print(quoted("two\nlines"))
    "$(printf 'two\012lines')"
    """
    if visible_line(text) != text or "\t" in text:
        return f'"$(printf {shlex.quote(_format(text))})"'
    if "'" in text and not _EXPANDED & set(text):
        return f'"{text}"'
    return shlex.quote(text)


def option(flag: str, value: str) -> str:
    """Return an option with its value.

    >>> print(option("--key", "row id"))
    --key 'row id'
    """
    return f"{flag} {quoted(value)}"


def command(*words: str | Path) -> str:
    """Return a command of batchrun. A path that begins with a dash gets `./` before it, since it is not an option.

    >>> print(command("export", Path("-my answers.csv")))
    batchrun export './-my answers.csv'
    """
    texts = (f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words)
    return " ".join(("batchrun", *map(quoted, texts)))


def _format(text: str) -> str:
    """Return the text as a format of `printf`, with every unusual byte as an octal number."""
    return "".join(
        each
        if visible_line(each) == each and each not in "\t\\%"
        else "".join(f"\\{byte:03o}" for byte in _bytes(each))
        for each in text
    )


def _bytes(character: str) -> bytes:
    return character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")
