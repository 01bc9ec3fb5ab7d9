"""Which settings of a batch are templates, so that their values differ from row to row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from batchrun.job.options import Job
from batchrun.records import Settings

__all__ = ["has_template", "is_template", "template_settings", "texts_by_place", "without_templates"]


def is_template(text: object) -> bool:
    """Return whether a text is a template: whether it has a placeholder, a statement or a comment of one.

    >>> is_template("Answer as {{ persona }}."), is_template("Answer with JSON such as {'a': {}}.")
    (True, False)
    """
    return isinstance(text, str) and ("{{" in text or "{%" in text or "{#" in text)


def template_settings(settings: Settings) -> tuple[str, ...]:
    """Return the names of the settings that are templates, or contain one: instructions, model and param.

    >>> template_settings({"model": "gpt-4o", "instructions": "Be {{ tone }}.", "param": {"seed": "{{ n | int }}"}})
    ('instructions', 'param')
    """
    found = [name for name in ("instructions", "model") if is_template(settings.get(name))]
    return (*found, "param") if has_template(settings.get("param")) else tuple(found)


def has_template(value: Any) -> bool:
    """Return whether a text in nested lists and objects is a template."""
    return any(is_template(text) for _, text in texts_by_place(value))


def without_templates(job: Job) -> Job:
    """Return the job with the settings that all of its rows share: what a template sets is left out.

    >>> from batchrun.job.options import Job
    >>> without_templates(Job(model="{{ model }}", instructions="Be brief.", param={"seed": 7, "user": "{{ id }}"}))
    Job(instructions='Be brief.', param={'seed': 7})
    """
    return replace(
        job,
        model=None if is_template(job.model) else job.model,
        instructions=None if is_template(job.instructions) else job.instructions,
        param={name: value for name, value in job.param.items() if not has_template(value)},
    )


def texts_by_place(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield each text in nested lists and objects with its place, the keys and positions that lead to it.

    >>> list(texts_by_place({"a": ["x", 1, {"b": "y"}]}))
    [(('a', 0), 'x'), (('a', 2, 'b'), 'y')]
    """
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from texts_by_place(each, (*place, key))
    elif isinstance(value, list | tuple):
        for position, each in enumerate(value):
            yield from texts_by_place(each, (*place, position))
