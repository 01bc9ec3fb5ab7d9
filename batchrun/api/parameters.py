"""Messages in the words of Python: each names an option by its flag, which a caller knows as a parameter.

Every message is written once, for the command line. A reference to an option is its flag, with a value if the message
proposes one: `give --model NAME` becomes `give model=NAME`, `(--max-outage)` becomes `(max_outage)`, and `--fresh
starts over` becomes `fresh=True starts over`. Text in quotes comes from outside and stays as it is.
"""

from __future__ import annotations

import re
import shlex
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import get_args

from batchrun.errors import BatchrunError
from batchrun.job.options import EMBEDDED_MODEL, Api, job_options
from batchrun.scoring.score_options import score_options

__all__ = ["CallersWords", "in_python"]

_REFERENCE = re.compile(
    r"""(?<![\w-])--(?P<flag>[a-z]+(?:-[a-z]+)*)(?![\w-])  # an option
        (?:[ ](?P<value>"(?:[^"\\]|\\.)*"|'[^']*'          # a value in the quotes of a shell
          |https?://[^\s,;()]+
          |\w+=\S+\w                                       # KEY=VALUE
          |\d[\d,.]*\d|\d
          |[A-Z][A-Z_]*(?:\.[a-z]+)?(?![\w-])              # a placeholder
          |[a-z][a-z0-9_-]*(?:(?=:\s)|(?![\w:]))))?        # a word: a value if the option has this choice
      | (?<![^\s(\[{:,=])(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?!\w)
      | (?P<again>\bthe[ ]same[ ]command\b)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of the Python functions.

    Attributes:
        is_switch: it is True or False, and its flag has no value.
        is_mapping: its flag takes KEY=VALUE.
        choices: words that are values of it.
    """

    name: str
    is_switch: bool
    is_mapping: bool = False
    choices: tuple[str, ...] = ()


@cache
def _parameters() -> Mapping[str, _Parameter]:
    """Return every parameter by its flag."""
    choices = {"api": get_args(Api), "model": (EMBEDDED_MODEL,), "scorer": ("numeric", "model-graded")}
    found = {
        name.replace("_", "-"): _Parameter(name, default is False, option.pairs is not None, choices.get(name, ()))
        for name, (option, default) in job_options().items()
    }
    for use in ("score", "compare", "report", "run"):
        for name, (scoring, default) in score_options(use).items():
            words = (*scoring.choices, *choices.get(name, ()))
            found.setdefault(name.replace("_", "-"), _Parameter(name, default is False, choices=words))
    found |= {name: _Parameter(name, is_switch=False) for name in ("baseline", "compare", "judge", "pilot", "split")}
    found["score"] = _Parameter("score", is_switch=False, choices=choices["scorer"])
    found["dry-run"] = _Parameter("dry_run", is_switch=True)
    return found


def in_python(text: str) -> str:
    """Return a message of the command line in the words of Python:

    >>> in_python("give --model NAME or set BATCHRUN_MODEL")
    'give model=NAME or set BATCHRUN_MODEL'
    """
    return _REFERENCE.sub(_in_python, text)


class CallersWords:
    """Raises the errors of its block in the words of Python, without the frames that are not the caller's code.

    A cause is kept if it happened in the user's own file, such as a schema that cannot be imported. Of any other cause
    the message contains what it says.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, BatchrunError):
            if error.args and isinstance(error.args[0], str):
                error.args = (in_python(error.args[0]), *error.args[1:])
            notes: list[str] = getattr(error, "__notes__", [])
            notes[:] = map(in_python, notes)
            cause = error.__cause__
            raise error.with_traceback(None) from (cause if cause is not None and _is_users(cause) else None)


_NOT_USERS = (str(Path(__file__).parents[1]), sys.prefix, sys.base_prefix, "<")
"""Where the files of batchrun, of libraries and of Python are; `<` begins the name of code without a file."""


def _is_users(cause: BaseException) -> bool:
    """Return whether an exception passed through a file of the user."""
    frames = traceback.walk_tb(cause.__traceback__)
    return any(not frame.f_code.co_filename.startswith(_NOT_USERS) for frame, _ in frames)


def _in_python(found: re.Match[str]) -> str:
    if found["quoted"] is not None:
        return found[0]
    if found["again"] is not None:
        return "the same call"
    parameter = _parameters().get(found["flag"])
    if parameter is None:
        return found[0]  # a flag of another command, or of another program
    value = found["value"]
    rest = "" if value is None else f" {value}"
    if parameter.is_switch:
        follows = found.string[found.end("flag") :]
        return f"{parameter.name}{'' if follows.startswith(':') else '=True'}{rest}"
    written = None if value is None else _value(value, parameter)
    return f"{parameter.name}{rest}" if written is None else f"{parameter.name}={written}"


def _value(value: str, parameter: _Parameter) -> str | None:
    """Return a value as Python writes it; None if the word after an option is not a value of it."""
    if value[0] in "'\"":
        return repr("".join(shlex.split(value)))
    if parameter.is_mapping and "=" in value:
        key, _, rest = value.partition("=")
        return repr({key: rest})
    if value.startswith("http") or value in parameter.choices:
        return repr(value)
    if value[0].isupper() or value[0].isdigit():
        return value
    # An encoding such as cp1252 or utf-16-le cannot be a word of the sentence.
    return repr(value) if any(map(str.isdigit, value)) else None
