"""A program that compares mathematical expressions: one JSON object per line in, one per line out.

It is started by `mathematics`, which kills it when it takes too long. The expressions come from a model, so the process
limits its own memory and writes no files, if the system supports such limits.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from functools import cached_property
from typing import Any, Final

from batchrun.scoring.scorers.math_reading import final_part, has_mathematics, is_prose, is_text, normal_text

_MEMORY_BYTES: Final = 2 << 30


def main() -> None:
    """Answer requests until standard input ends. An empty object asks whether the process is ready."""
    from math_verify import parse, verify  # type: ignore[import-untyped]  # it declares no types

    _limit()
    # Caches that are built on first use take their time here, not from the first answer's limit.
    _judged({"answer": r"\boxed{\frac{1}{2}}", "targets": ["0.5"]}, _MathVerify(parse, verify))
    math_verify = _MathVerify(parse, verify)
    for line in sys.stdin:
        request = json.loads(line)
        reply = _judged(request, math_verify) if request else {"ready": True}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


class _MathVerify:
    """The two functions of math-verify, without its own timeouts: these need signals, which Windows lacks."""

    def __init__(self, parse: Any, verify: Any) -> None:
        self._parse, self._verify = parse, verify

    def read(self, text: str) -> list[Any]:
        """Return the expressions of a text with mathematics in it, followed by the text that was read."""
        found: list[Any] = self._parse(text, parsing_timeout=None)
        return found

    def read_whole(self, expression: str) -> list[Any]:
        """Return an expression, followed by its text; only the text if it cannot be parsed."""
        return self.read(f"${expression.strip().strip('$').strip()}$")

    def are_equal(self, target: list[Any], answer: list[Any]) -> bool:
        """Return whether they are mathematically the same."""
        return bool(self._verify(target, answer, timeout_seconds=None))


def _judged(request: dict[str, Any], math_verify: _MathVerify) -> dict[str, Any]:
    """Return the score of an answer: the best one over its targets."""
    answer = _Answer(request["answer"], math_verify)
    judged = [_compared(answer, target, math_verify) for target in request["targets"]]
    return max(judged, key=lambda each: -1 if each["value"] is None else each["value"])


class _Answer:
    """An answer: its final part, and its expressions, which are parsed at most once."""

    def __init__(self, text: str, math_verify: _MathVerify) -> None:
        self.part = final_part(text)
        self._text, self._math_verify = text, math_verify

    @cached_property
    def expressions(self) -> list[Any]:
        """The expressions of the final part, or the last ones of the text."""
        # `**` is a power in Python and two products in LaTeX; several formulas are between dollars each.
        as_written = self.part is not None and ("**" in self.part or self.part.startswith("$"))
        if self.part is not None and not as_written and not is_prose(self.part) and has_mathematics(self.part):
            return self._math_verify.read_whole(self.part)
        return self._math_verify.read(self._text if self.part is None else self.part)

    @property
    def read(self) -> str | None:
        """The text that was read."""
        if self.part is not None:
            return self.part
        return next((each for each in reversed(self.expressions) if isinstance(each, str)), None)


def _compared(answer: _Answer, target: str, math_verify: _MathVerify) -> dict[str, Any]:
    wanted = final_part(target)
    wanted = target if wanted is None else wanted
    if answer.part is not None and normal_text(answer.part) == normal_text(wanted) != "":
        return {"value": 1.0, "explanation": f"{answer.part}: the text of the target", "read": answer.part}
    if is_text(wanted):
        right = answer.part is not None and normal_text(answer.part).casefold() == normal_text(wanted).casefold()
        return {"value": float(right), "explanation": f"{answer.read}; expected {wanted}", "read": answer.read}
    expected = math_verify.read(wanted) if is_prose(wanted) else math_verify.read_whole(wanted)
    if all(isinstance(each, str) for each in expected):
        expected = math_verify.read(wanted)
    if not expected:
        return {"value": None, "explanation": "the target cannot be read as mathematics", "read": None}
    if not answer.expressions:
        return {"value": 0.0, "explanation": f"no expression found; expected {wanted.strip()}", "read": None}
    right = math_verify.are_equal(expected, answer.expressions)
    return {"value": float(right), "explanation": f"{answer.read}; expected {wanted.strip()}", "read": answer.read}


def _limit() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
