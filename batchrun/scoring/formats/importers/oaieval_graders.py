"""Model-graded specs of the open-source evals repository as the keys of graders' files."""

from __future__ import annotations

import re
from typing import Final

from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.notes import Notes

__all__ = ["grader_of"]

_NAMES: Final = {"input": "question", "completion": "response", "ideal": "target"}
"""Name in a spec → in a rubric. Other names are fields of the sample, which have columns of the same name."""
_PLACE: Final = re.compile(r"\{\{|\}\}|\{(?P<name>\w+)\}|[{}]")


def grader_of(name: str, spec: Fields, notes: Notes) -> JsonDict | None:
    """Return the keys of the grader of a spec; None, with a remark, if its grades have no values.

    Args:
        name: name of the spec.
        spec: its fields; what is not taken is noted.
    """
    prompt, strings = spec.text("prompt"), spec.get("choice_strings")
    choices = list(strings) if isinstance(strings, str | list) and not str(strings).startswith("from_n") else []
    scores = _scores(choices, spec.get("choice_scores"))
    if prompt is None or scores is None:
        why = "has no choice_scores" if "choice_scores" not in spec else "has grades that cannot be read"
        notes.remark(f"model-graded spec {name!r} {why}, so the job has no scorer: add choice_scores from 0 to 1", 0)
        return None
    spec.take("choice_strings")
    spec.take("choice_scores")
    for path, value in spec.left():
        notes.add_value(f"modelgraded_spec {name}: {path}", value)
    lowest, highest = min(scores.values()), max(scores.values())
    if lowest < 0 or highest > 1:
        notes.remark(f"model-graded spec {name!r}: the scores from {lowest:g} to {highest:g} become 0 to 1", 0)
        scores = {key: (value - lowest) / (highest - lowest) for key, value in scores.items()}
    text = _PLACE.sub(_placeholder, prompt).rstrip()
    return {"prompt": f"{text}\n\n{{{{ grade_line }}}}\n", "grader": {"choices": scores}}


def _scores(choices: list[Value], scores: Value) -> dict[str, float] | None:
    """Return the value of each grade; None if one has none."""
    names = [str(each) for each in choices]
    try:
        if scores == "from_strings":
            return {name: float(name) for name in names} or None
        if isinstance(scores, dict) and names and set(names) <= set(scores):
            return {name: float(scores[name]) for name in names}
    except (TypeError, ValueError):
        pass
    return None


def _placeholder(found: re.Match[str]) -> str:
    if found["name"] is not None:
        return f"{{{{ {_NAMES.get(found['name'], found['name'])} }}}}"
    return f'{{{{ "{found[0][0]}" }}}}'
