"""Jinja's filters that the template engine, MiniJinja, lacks or calls otherwise; and hints for the rest of Jinja."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import minijinja

__all__ = ["TEMPLATE_ERRORS", "add_filters", "explained"]

TEMPLATE_ERRORS = (minijinja.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a template can raise: errors of the engine, and those of the methods of lists and objects."""

_PARAMETERS = {
    "truncate": ("length", "killwords", "end", "leeway"),
    "wordwrap": ("width", "break_long_words", "wrapstring", "break_on_hyphens"),
}
"""Filters of the engine that take their parameters by keyword only; in Jinja, `truncate(20)` is usual."""

_NATIVE = minijinja.Environment()


def add_filters(environment: minijinja.Environment) -> None:
    """Add `truncate` and `wordwrap` with positional parameters, and `wordcount` and `center`, as Jinja has them.

    Nothing that could be rendered without them is rendered differently with them.
    """
    for name in _PARAMETERS:
        environment.add_filter(name, _positional(name))
    environment.add_filter("wordcount", _wordcount)
    environment.add_filter("center", _center)


def _positional(name: str) -> Callable[..., Any]:
    """Return a filter of the engine that also takes its parameters by position."""

    def call(value: Any, *args: Any, **options: Any) -> Any:
        given = dict(zip(_PARAMETERS[name], args, strict=False))
        if len(args) > len(given):
            raise ValueError(f"{name}: expected at most {len(given)} parameters, got {len(args)}")
        if twice := given.keys() & options.keys():
            raise ValueError(f"{name}: {min(twice)} is given twice")
        named = {**given, **options}
        arguments = ", ".join(f"{option}={option}" for option in named)
        try:
            return _NATIVE.eval_expr(f"value | {name}({arguments})", value=value, **named)
        except minijinja.TemplateError as exc:
            raise ValueError(f"{name}: {_bare(exc)}") from None

    return call


def _wordcount(value: Any) -> int:
    """Count the words of a text."""
    return len(re.findall(r"\w+", _text(value, "wordcount")))


def _center(value: Any, width: int = 80) -> str:
    """Center a text between blanks."""
    return _text(value, "center").center(width)


def _text(value: Any, name: str) -> str:
    if value is None:  # also an undefined value, which must not look like an empty text
        raise ValueError(f"{name}: undefined value")
    return str(value)


# -- errors -----------------------------------------------------------------------------------------------------

_PLACE = re.compile(r" \(in [^()]*:\d+\)$")

_ALTERNATIVES: Mapping[str, str] = {
    "filter forceescape": "write escape",
    "filter random": "a prompt must be the same each time it is rendered; use a column",
    "filter urlize": "links stay plain text in a prompt",
    "filter xmlattr": """write {% for name, value in object | items %} {{ name }}="{{ value | e }}"{% endfor %}""",
    "function lipsum": "write the text itself",
    "method casefold": "write the filter lower",
    "method center": "write the filter center",
    "method index": "write find",
    "method ljust": """write "%-10s" | format(text)""",
    "method removeprefix": "write text[3:] if text.startswith(...)",
    "method removesuffix": "write text[:-3] if text.endswith(...)",
    "method rjust": """write "%10s" | format(text)""",
    "method zfill": """write "%05d" | format(number)""",
    "test callable": "no value of a row is callable",
}
"""Parts of Jinja that the engine does not have → what to write instead."""

_UNKNOWN = re.compile(r"unknown (filter|function|test|method): (?:.* has no method named |filter |test )?(\w+)")


def explained(error: Exception) -> str:
    """Return the message of one of `TEMPLATE_ERRORS` without its place in the template, and with the alternative to a
    part of Jinja that the engine does not have."""
    message = _bare(error)
    found = _UNKNOWN.search(message)
    if found is not None:
        alternative = _ALTERNATIVES.get(f"{found[1]} {found[2]}")
        return f"{message}; {alternative}" if alternative is not None else message
    if "tried to use % operator on unsupported types string" in message:
        return f"""{message}; write "%s" | format(value) instead of "%s" % value"""
    if "invalid float literal" in message:
        return f"{message}; write int(0) or float(0.0) for texts that may not be numbers"
    return message


def _bare(error: Exception) -> str:
    if isinstance(error, minijinja.TemplateError):
        return _PLACE.sub("", str(error.message))
    return str(error) or type(error).__name__
