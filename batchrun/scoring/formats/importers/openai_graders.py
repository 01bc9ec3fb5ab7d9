"""Testing criteria of OpenAI's Evals as scorers, and as the files of graders. Source: the SDK's `types/graders`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from batchrun.records import JsonDict
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.asked import text_of
from batchrun.scoring.formats.importers.openai_templates import column_in, expression_of, is_answer, rewritten
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text

__all__ = ["Criteria", "sampling_options"]

_CHECKS: Final = {"eq": "exact", "ne": "ne", "like": "includes:case=keep", "ilike": "includes"}
_SIMILAR: Final = {
    "fuzzy_match": "fuzzy",
    "bleu": "bleu",
    "rouge_l": "rougeL",
    **{f"rouge_{n}": f"rouge{n}" for n in (1, 2, 3, 4)},
    "cosine": "cosine:model=text-embedding-3-large",
}
"""Metric → scorer. The model of `cosine` is that of OpenAI's grader."""


@dataclass(slots=True)
class Criteria:
    """The testing criteria of an eval.

    Mutable state: `scorers`, `target`, `graders`, `functions`.

    Attributes:
        stem: beginning of the names of files.
        notes: what has no counterpart.
        scorers: as `--scorer` takes them.
        target: column that the scorers compare answers with; None for none yet.
        graders: name of a file → its keys.
        functions: name of a file → its Python source.
    """

    stem: str
    notes: Notes
    scorers: list[str] = field(default_factory=list)
    target: str | None = None
    graders: dict[str, JsonDict] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)

    def add(self, criterion: Fields) -> bool:
        """Take a criterion that has a counterpart; name one that has none. Return whether it has one."""
        kind, named = as_text(criterion.get("type")), as_text(criterion.get("name"))
        added = {
            "string_check": self._string_check,
            "text_similarity": self._text_similarity,
            "label_model": self._model,
            "score_model": self._model,
            "python": self._python,
        }.get(kind)
        if added is None or not added(criterion, self._free_name(named or kind)):
            detail = as_text(criterion.get("operation") or criterion.get("evaluation_metric"))
            self.notes.remark(f"criterion {named!r} has no counterpart: {' '.join(filter(None, [kind, detail]))}", 0)
            return False
        criterion.take("type")
        criterion.take("name")
        return True

    def _free_name(self, name: str) -> str:
        plain = re.sub(r"\W+", "_", name).strip("_") or "criterion"
        names = {scorer.partition("=")[0] for scorer in self.scorers}
        number, free = 1, plain
        while free in names:
            number += 1
            free = f"{plain}_{number}"
        return free

    def _compares(self, criterion: Fields) -> str | None:
        """Take input and reference if they are the answer and a column; return the column."""
        column = column_in(as_text(criterion.get("reference")))
        if not is_answer(as_text(criterion.get("input"))) or column is None or "," in column:
            return None
        self.target = self.target or column
        criterion.take("input")
        criterion.take("reference")
        return column

    def _add(self, name: str, scorer: str, column: str) -> bool:
        """Add a scorer that compares the answer with a column."""
        own = "" if column == self.target else f"{',' if ':' in scorer else ':'}target={column}"
        self.scorers.append(f"{name}={scorer}{own}")
        return True

    def _string_check(self, criterion: Fields, name: str) -> bool:
        operation = as_text(criterion.get("operation"))
        column = self._compares(criterion) if operation in _CHECKS else None
        if column is None:
            return self._function(criterion, name, _COMPARISONS.get(operation))
        return self._add(name, _CHECKS[criterion.take("operation")], column)

    def _function(self, criterion: Fields, name: str, comparison: str | None) -> bool:
        """Write a check that does not compare the answer with a column as a Python function."""
        sides = [expression_of(as_text(criterion.get(key))) for key in ("input", "reference")]
        if comparison is None or None in sides:
            return False
        for key in ("operation", "input", "reference"):
            criterion.take(key)
        file = f"{self.stem}_{name}.py"
        self.functions[file] = _CHECK.format(comparison=comparison, input=sides[0], reference=sides[1])
        self.scorers.append(f"{name}=python:{file}:score_answer")
        return True

    def _text_similarity(self, criterion: Fields, name: str) -> bool:
        metric = as_text(criterion.get("evaluation_metric"))
        column = self._compares(criterion) if metric in _SIMILAR else None
        if column is None:
            return False
        scorer = _SIMILAR[criterion.take("evaluation_metric")]
        threshold = criterion.get("pass_threshold")
        if isinstance(threshold, int | float) and 0 <= threshold <= 1:
            scorer += f"{',' if ':' in scorer else ':'}threshold={criterion.take('pass_threshold')}"
        return self._add(name, scorer, column)

    def _model(self, criterion: Fields, name: str) -> bool:
        messages = criterion.objects("input")
        texts = [text_of(message.get("content")) for message in messages]
        if not messages or None in texts or not isinstance(criterion.get("model"), str):
            return False
        job: JsonDict = {"model": criterion.take("model")}
        by_role: dict[str, list[str]] = {"instructions": [], "prompt": []}
        for message in messages:
            key = "instructions" if message.get("role") in ("system", "developer") else "prompt"
            message.take_if("role", "system", "developer", "user")
            message.take_if("type", "message")
            by_role[key].append(rewritten(text_of(message.take("content")) or "", self.notes))
        by_role["prompt"].append("{{ grade_line }}")
        job["prompt"] = "\n\n".join([*by_role["instructions"], *by_role["prompt"]])
        job |= sampling_options(criterion.object("sampling_params"))
        job["grader"] = self._grades(criterion)
        file = f"{self.stem}.{name}.toml"
        self.graders[file] = job
        self.scorers.append(f"{name}=model-graded:grader={file}")
        return True

    def _grades(self, criterion: Fields) -> JsonDict:
        labels, passing = criterion.texts("labels"), criterion.texts("passing_labels")
        if labels:
            return {"choices": {label: float(label in passing) for label in [*labels, *passing]}}
        scale = criterion.get("range")
        is_scale = isinstance(scale, list) and [type(each) in (int, float) for each in scale] == [True, True]
        return {"scale": criterion.take("range") if is_scale else [0, 1]}

    def _python(self, criterion: Fields, name: str) -> bool:
        source = criterion.text("source")
        if source is None:
            return False
        file = f"{self.stem}_{name}.py"
        self.functions[file] = source.rstrip() + _WRAPPER
        self.scorers.append(f"{name}=python:{file}:score_answer")
        return True


_COMPARISONS: Final = {
    "eq": "given == expected",
    "ne": "given != expected",
    "like": "expected in given",
    "ilike": "expected.lower() in given.lower()",
}
_CHECK: Final = '''def score_answer(answer, target, row):
    """Return whether the check holds."""
    given, expected = str({input}), str({reference})
    return {comparison}
'''

_WRAPPER: Final = '''


def score_answer(answer, target, row):
    """Return the score of an answer, by the grader above as it was."""
    return grade({"output_text": answer}, row)
'''


def sampling_options(params: Fields) -> JsonDict:
    """Take sampling parameters as options of a job."""
    options: JsonDict = {}
    further: JsonDict = {}
    for name, option in (("temperature", "temperature"), ("top_p", "top_p"),
                         ("max_completion_tokens", "max_completion_tokens"),
                         ("max_completions_tokens", "max_completion_tokens")):  # fmt: skip
        if params.get(name) is not None:
            options[option] = params.take(name)
    for name in ("seed", "reasoning_effort"):
        if params.get(name) is not None:
            further[name] = params.take(name)
    return {**options, **({"param": further} if further else {})}
