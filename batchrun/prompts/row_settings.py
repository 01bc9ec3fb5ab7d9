"""Settings that are templates: instructions, a model and parameters of each row's own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import minijinja

from batchrun.errors import InputError
from batchrun.job.parameter_types import PARAMETER_TYPES, ParameterType, typed
from batchrun.job.templated import is_template, template_settings, texts_by_place
from batchrun.prompts.combinations import Combination
from batchrun.prompts.prompt_error import PromptError
from batchrun.prompts.template_filters import TEMPLATE_ERRORS, explained
from batchrun.prompts.template_names import add_template
from batchrun.records import JsonDict, RowSettings, Settings
from batchrun.wording import shortened

__all__ = ["SettingTemplates", "setting_templates"]

_RAW = "; for literal braces write {% raw %}…{% endraw %} around them"


def setting_templates(
    environment: minijinja.Environment, combination: Combination, columns: Sequence[str], faults: list[str]
) -> SettingTemplates | None:
    """Return the templates among the settings of a combination; None if it has none, as most have.

    Args:
        faults: gets a text for each template whose syntax is wrong, or in which a name is not a column.
    """
    names = template_settings(combination.settings)
    return SettingTemplates(environment, combination, columns, names, faults) if names else None


class SettingTemplates:
    """The templates among the settings of one combination.

    Attributes:
        settings: names of the settings that are templates or contain one.
        names: names that the templates use.
        texts: the templates.
    """

    def __init__(
        self,
        environment: minijinja.Environment,
        combination: Combination,
        columns: Sequence[str],
        settings: Sequence[str],
        faults: list[str],
    ) -> None:
        """
        Args:
            faults: see `setting_templates`.
        """
        self._environment = environment
        self._prefix = f"{combination.variant}: "
        self._values = {name: combination.settings[name] for name in settings}
        self._expressions: dict[str, str] = {}
        self.settings = tuple(settings)
        self.texts = tuple(text for _, text in texts_by_place(self._values))
        used: set[str] = set()
        for place, text in texts_by_place(self._values):
            if is_template(text):
                option, name = f"--{_shown(place)}", self._prefix + _shown(place)
                try:
                    used |= add_template(environment, name, text, columns, where=option, hint=_RAW)
                except InputError as exc:
                    faults.append(str(exc))
                    continue
                if place[0] == "param" and (expression := _whole_expression(environment, text)) is not None:
                    self._expressions[name] = expression
        self.names = frozenset(used)

    def render(self, context: Settings) -> RowSettings:
        """Return the settings of one row.

        Args:
            context: name → value, of the names that templates can use.

        Raises:
            PromptError: a template fails on this row, or its model or its instructions are empty.
        """
        return RowSettings(
            model=self._text("model", context),
            instructions=self._text("instructions", context),
            param=self._rendered(("param",), self._values["param"], context) if "param" in self._values else None,
        )

    def _text(self, name: str, context: Settings) -> str | None:
        """Return the rendered model or instructions; None if that setting is not a template."""
        if name not in self._values:
            return None
        text = self._template(name, context)
        if text.strip():
            return text.strip() if name == "model" else text
        if name == "model":
            raise PromptError("empty_model", "the rendered model of this row is empty", option=name)
        raise PromptError("empty_instructions", "the rendered instructions of this row are empty", option=name)

    def _rendered(self, place: tuple[str | int, ...], value: Any, context: Settings) -> Any:
        """Return a parameter with its templates rendered.

        One that is a single expression keeps the expression's type. Text becomes a number or a truth value where the
        parameter is one, because the cells of a CSV are texts.
        """
        if isinstance(value, dict):
            return {key: self._rendered((*place, key), each, context) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._rendered((*place, number), each, context) for number, each in enumerate(value)]
        if not is_template(value):
            return value
        name = _shown(place)
        found: Any = self._template(name, context)  # an expression alone would take undefined names for null
        expression = self._expressions.get(self._prefix + name)
        if expression is not None:
            evaluated = self._environment.eval_expr(expression, **context)
            found = found if isinstance(evaluated, str) else _json_value(evaluated, name)
        kind = PARAMETER_TYPES.get(str(place[1])) if len(place) == 2 else None
        return found if kind is None else _typed(found, kind, name, value)

    def _template(self, name: str, context: Settings) -> str:
        try:
            return self._environment.render_template(self._prefix + name, **context)
        except TEMPLATE_ERRORS as exc:
            text = f"--{name}: the template fails on this row: {explained(exc)}"
            raise PromptError("template_error", text, option=name) from None


def _typed(found: Any, kind: ParameterType, name: str, template: str) -> Any:
    try:
        return typed(found, kind)
    except ValueError as exc:
        default = ""
        if found == "" and (whole := template.strip()).startswith("{{"):
            example = "true" if kind == "boolean" else "1"
            default = f"; for rows without one write {whole.removesuffix('}}').rstrip()} or {example} }}}}"
        text = f"--{name}: {exc}, got {shortened(found)}{default}"
        raise PromptError("template_error", text, option=name) from None


def _shown(place: Sequence[str | int]) -> str:
    """Return the place of a text as in `param key.0.name`."""
    return " ".join(filter(None, (str(place[0]), ".".join(map(str, place[1:])))))


def _whole_expression(environment: minijinja.Environment, template: str) -> str | None:
    """Return the expression of a template that consists of it alone, such as `seed | int`; None for other templates."""
    text = template.strip()
    if not (text.startswith("{{") and text.endswith("}}")):
        return None
    expression = text[2:-2].strip().removeprefix("-").removesuffix("-")
    try:
        environment.undeclared_variables_in_str(f"{{% set whole = ({expression}) %}}")
    except minijinja.TemplateError:
        return None  # such as `{{ a }} and {{ b }}`
    return expression


def _json_value(found: Any, name: str) -> Any:
    """Return a value that JSON has, in types of Python's own."""
    if isinstance(found, float) and not math.isfinite(found):
        raise PromptError("template_error", f"--{name}: is {found} on this row, which JSON cannot express", option=name)
    plain: JsonDict = json.loads(json.dumps({"value": found}, default=str))
    return plain["value"]
