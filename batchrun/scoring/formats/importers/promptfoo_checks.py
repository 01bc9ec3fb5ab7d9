"""promptfoo's assertions as scorers. Source: its `src/csv.ts` and `src/types/index.ts` (BaseAssertionTypesSchema)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.importer import Cells
from batchrun.scoring.formats.importers.promptfoo_templates import rendered
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text, is_missing

__all__ = ["CHECKS", "TESTS", "Check", "check_cells", "checks_of", "parsed_expectation"]

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


_SIMILAR: Final = {
    "bleu": ("bleu:threshold={}", 0.5),
    "levenshtein": ("fuzzy:edits={}", 5),
    "rouge-n": ("rouge1:threshold={}", 0.75),
    "similar": ("cosine:model={},threshold={}", 0.75),
    "similar:cosine": ("cosine:model={},threshold={}", 0.75),
}
"""Assertion → the scorer with the same measure, and promptfoo's threshold. Its `rouge-n` counts single words."""
_EMBEDDINGS: Final = re.compile(r"openai:embeddings?:(?P<model>.+)")
_DEFAULT_EMBEDDINGS: Final = "text-embedding-3-large"
TESTS: Final[Mapping[str, str]] = {
    "equals": "is_json(answer) and json.loads(answer) == (json.loads(value) if isinstance(value, str) else value)",
    "is-json": "is_json(answer)",
    "not-contains": "str(value) not in answer",
    "not-icontains": "str(value).lower() not in answer.lower()",
    "not-regex": "re.search(str(value), answer) is None",
    "not-starts-with": "not answer.startswith(str(value))",
    "regex": "re.search(str(value), answer) is not None",
}
"""Assertion that no scorer makes for single rows → the Python expression that makes it, over `answer` and `value`.
`equals` is that of an object or a list."""


@dataclass(frozen=True, slots=True)
class Check:
    """An assertion that has a counterpart.

    Attributes:
        kind: promptfoo's name for it.
        name: name of its score: the assertion's metric, else its kind.
        scorer: as `--scorer` takes it; None if only a function can make it.
        target: what the scorer compares the answer with; None for nothing.
        provider: what grades, as promptfoo writes it; None for its default.
    """

    kind: str
    name: str
    scorer: str | None
    target: Value
    provider: Value = None

    def rendered(self, variables: Mapping[str, Value], notes: Notes) -> Check:
        """Return the check for a test with these variables, which its texts may name."""
        target = rendered(self.target, variables, notes)
        scorer = self.scorer
        if self.kind in _LISTS and isinstance(target, str):
            target = [each.strip().strip('"') for each in target.split(",")]
        if self.kind == "regex":
            scorer = f"regex:{as_text(target)}"
        return replace(self, scorer=scorer, target=target)


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


def checks_of(assertions: list[Fields], notes: Notes, where: str, *, for_job: bool = False) -> Iterator[Check]:
    """Take the assertions that have a counterpart, also those in a set, and note the others by their kind.

    Args:
        where: beginning of the notes.
        for_job: whether a job is made, which can have functions, names of scores and files of graders.
    """
    for assertion in assertions:
        if assertion.take_if("type", "assert-set"):
            yield from checks_of(assertion.objects("assert"), notes, where, for_job=for_job)
            continue
        kind = as_text(assertion.get("type"))
        check = _check(kind, assertion, for_job=for_job)
        if check is not None:
            yield check
        else:
            assertion.take("type")
            notes.add_value(f"{where}: {kind or 'without a type'}", assertion.take("value"))


def _check(kind: str, assertion: Fields, *, for_job: bool) -> Check | None:
    value = assertion.get("value")
    if isinstance(value, str) and value.startswith("file://"):
        return None  # code, or a text that only promptfoo renders
    if is_missing(value) != (kind == "is-json"):
        return None
    scorer = _scorer(kind, value, assertion)
    if scorer is None and not (for_job and kind in TESTS):
        return None
    assertion.take("type")
    name = (assertion.text("metric") if for_job else None) or kind
    provider = assertion.take("provider") if for_job and kind in _GRADED else None
    return Check(kind, name, scorer, assertion.take("value"), provider)


def _scorer(kind: str, value: Value, assertion: Fields) -> str | None:
    """Return the scorer with the meaning of an assertion; take its threshold."""
    if kind == "equals" and isinstance(value, dict | list):
        return None  # compared as JSON; for `exact`, a list is several expected answers
    if kind in _GRADED:
        return "model-graded"
    if kind == "regex":
        return f"regex:{value}" if isinstance(value, str) else None
    if kind not in _SIMILAR:
        return CHECKS.get(kind) or _MORE.get(kind)
    form, usual = _SIMILAR[kind]
    threshold = assertion.get("threshold")
    limit = float("inf") if kind == "levenshtein" else 1
    if threshold is not None and not (isinstance(threshold, int | float) and 0 <= threshold <= limit):
        return None
    shown = f"{usual if threshold is None else threshold:g}"
    if not form.startswith("cosine"):
        assertion.take("threshold")
        return form.format(shown)
    named = _EMBEDDINGS.fullmatch(as_text(assertion.get("provider")))
    if named is None and not is_missing(assertion.get("provider")):
        return None
    assertion.take("provider")
    assertion.take("threshold")
    return form.format(named["model"] if named else _DEFAULT_EMBEDDINGS, shown)


def check_cells(checks: list[Check]) -> Cells:
    """Return `check` and `target` of the first check of a row, `check_2` and `target_2` of the second, and so on."""
    cells: Cells = {"check": None, "target": None}
    for number, check in enumerate(checks, start=1):
        ending = "" if number == 1 else f"_{number}"
        cells[f"check{ending}"] = check.scorer
        cells[f"target{ending}"] = None if check.kind == "regex" else check.target
    return cells
