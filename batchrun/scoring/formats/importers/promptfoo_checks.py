"""promptfoo's assertions as scorers. Source: its `src/csv.ts` and `src/types/index.ts` (BaseAssertionTypesSchema)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.importer import Cells
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text, is_missing

__all__ = ["CHECKS", "Check", "check_cells", "checks_of", "parsed_expectation"]

CHECKS: Final[Mapping[str, str]] = {
    "equals": "exact",
    "contains": "includes:case=keep",
    "icontains": "includes",
    "contains-any": "includes:case=keep",
    "icontains-any": "includes",
    "is-json": "json",
}
"""promptfoo assertion → the scorer with the same meaning, which judges an answer by its row's target."""
_MORE: Final = {
    "not-equals": "ne",
    "starts-with": "starts-with:case=keep",
    "contains-all": "contains-all:case=keep",
    "icontains-all": "contains-all",
}
"""Further assertions that are read, and not written."""
_GRADED: Final = frozenset({"factuality", "g-eval", "llm-rubric", "model-graded-closedqa", "model-graded-factuality"})
"""Assertions that a model judges by a text: the target of `model-graded`."""
_LISTS: Final = frozenset({"contains-any", "icontains-any", "contains-all", "icontains-all"})

_ALIASES: Final = {"javascript": "javascript", "fn": "javascript", "eval": "javascript", "grade": "llm-rubric"}
_KIND: Final = re.compile(
    r"(?P<kind>(?:not-)?[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?::(?:cosine|dot|euclidean)(?=[(:]|$))?)"
    r"(?:\((?P<threshold>\d+(?:\.\d+)?)\))?(?:(?P<colon>:)(?P<value>.*))?",
    re.DOTALL,
)
_BARE: Final = frozenset(
    {
        *("contains-html", "contains-json", "contains-sql", "contains-xml", "guardrails", "is-html", "is-json"),
        *("is-refusal", "is-sql", "is-valid-function-call", "is-valid-openai-function-call", "is-xml"),
        *("is-valid-openai-tools-call", "max-score", "moderation", "pi", "select-best"),
    }
)
"""Assertions that may be written without a value. Another word without a colon is a text."""


@dataclass(frozen=True, slots=True)
class Check:
    """An assertion that has a counterpart.

    Attributes:
        scorer: as `--scorer` takes it.
        target: what the scorer compares the answer with; None for nothing.
    """

    scorer: str
    target: Value


def parsed_expectation(text: str) -> JsonDict:
    """Return the assertion that a cell `__expected` stands for.

    A text that begins with a word and a colon is an assertion of that kind, even if no such kind is known: a new kind
    must not become a text that answers are compared with. `equals:` begins a text that looks so.

    >>> parsed_expectation("similar(0.8):hello")
    {'type': 'similar', 'value': 'hello', 'threshold': 0.8}
    >>> parsed_expectation("Note: a text"), parsed_expectation("https://example.com")["type"]
    ({'type': 'equals', 'value': 'Note: a text'}, 'equals')
    """
    if text.startswith("file://"):
        return {"type": "python" if ".py" in text else "javascript", "value": text}
    match = _KIND.fullmatch(text)
    if match is None:
        return {"type": "equals", "value": text}
    kind, value = match["kind"], match["value"]
    base = kind.removeprefix("not-")
    is_known = base in CHECKS or base in _GRADED or base in _ALIASES or "-" in kind or base in _WORDS
    if match["colon"] is None and base not in _BARE:
        return {"type": "equals", "value": text}
    if not is_known and (not value or value[0].isspace() or value.startswith("//")):
        return {"type": "equals", "value": text}
    assertion: JsonDict = {"type": _ALIASES.get(kind, kind)}
    if value is not None:
        assertion["value"] = [each.strip() for each in value.split(",")] if base in _LISTS else value.strip()
    if match["threshold"] is not None:
        assertion["threshold"] = float(match["threshold"])
    return assertion


_WORDS: Final = frozenset(
    {
        *(
            "bleu",
            "classifier",
            "cost",
            "gleu",
            "guardrails",
            "human",
            "javascript",
            "latency",
            "levenshtein",
            "meteor",
        ),
        *("moderation", "perplexity", "pi", "python", "regex", "ruby", "similar", "trajectory", "webhook"),
    }
)
"""Kinds of one word."""


def checks_of(assertions: list[Fields], notes: Notes, where: str) -> Iterator[Check]:
    """Take the assertions that have a counterpart, also those in a set, and note the others by their kind.

    Args:
        where: beginning of the notes.
    """
    for assertion in assertions:
        if assertion.take_if("type", "assert-set"):
            yield from checks_of(assertion.objects("assert"), notes, where)
            continue
        kind = as_text(assertion.get("type"))
        check = _check(kind, assertion)
        if check is not None:
            yield check
        else:
            assertion.take("type")
            notes.add_value(f"{where}: {kind or 'without a type'}", assertion.take("value"))


def _check(kind: str, assertion: Fields) -> Check | None:
    value = assertion.get("value")
    if isinstance(value, str) and value.startswith("file://"):
        return None  # code, or a text that only promptfoo renders
    scorer: str | None = None
    if kind == "is-json":
        scorer = "json" if is_missing(value) else None
    elif kind in CHECKS or kind in _MORE:
        scorer = CHECKS.get(kind) or _MORE[kind]
    elif kind in _GRADED:
        scorer = "model-graded"
    elif kind == "regex" and isinstance(value, str):
        assertion.take("type")
        return Check(f"regex:{assertion.take('value')}", None)
    if scorer is None or (is_missing(value) and kind != "is-json"):
        return None
    assertion.take("type")
    return Check(scorer, assertion.take("value"))


def check_cells(checks: list[Check]) -> Cells:
    """Return `check` and `target` of the first check of a row, `check_2` and `target_2` of the second, and so on."""
    cells: Cells = {"check": None, "target": None}
    for number, check in enumerate(checks, start=1):
        ending = "" if number == 1 else f"_{number}"
        cells[f"check{ending}"], cells[f"target{ending}"] = check.scorer, check.target
    return cells
