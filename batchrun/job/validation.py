"""Validation of options into a `Job`: types, bounds and combinations."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from batchrun.errors import InputError
from batchrun.job.batch_api_rules import check_batch_api
from batchrun.job.job_option import JobOption
from batchrun.job.option_values import seconds_of, suggestion
from batchrun.job.options import Job, job_options
from batchrun.job.parameter_types import PARAMETER_TYPES
from batchrun.job.python_values import read_python_values
from batchrun.job.templated import has_template, is_template
from batchrun.job.worker_rules import check_workers
from batchrun.local_paths import check_local, check_table
from batchrun.records import JsonDict, Settings
from batchrun.wording import shortened

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["make_job"]


_MAX_COMBINATIONS = 10_000
"""Maximum combinations per row. All of them are created before the first request."""


def make_job(options: Settings) -> Job:
    """Return a Job of the given options, which are text from flags or plain Python values.

    Raises:
        InputError: names the option, the expected value and the given one.
    """
    from pydantic import ValidationError

    values = _with_turns_and_matrix(options)
    read_python_values(values)
    for name, (option, _) in job_options().items():
        if option.pairs is not None and isinstance(values.get(name), (list, tuple)):
            values[name] = dict(_pair(name, text, option.pairs) for text in values[name])
        if option.flagless and isinstance(values.get(name), str):
            values[name] = _json(name, values[name])
        if option.path:
            _check_paths(name, values.get(name))
    try:
        job = _validator().validate_python(values)
    except ValidationError as exc:
        problems = [_problem(error["loc"], error["type"], error["msg"], error["input"]) for error in exc.errors()]
        raise InputError("; ".join(dict.fromkeys(problems))) from None
    except (TypeError, RecursionError):
        raise InputError("the options cannot be read: a name is not text or a value is nested too deeply") from None
    for name, (option, _) in job_options().items():
        _check_bounds(name, option, getattr(job, name))
        _check_texts(name, option, getattr(job, name))
    if job.max_age is not None:
        seconds_of(job.max_age, "max-age")
    _check_size(job)
    _check_parameters(job)
    _check_prices(job.prices)
    _check_fallback_model(job)
    _check_messages(job)
    _check_turns(job)
    check_batch_api(job)
    check_workers(job)
    return replace(job, matrix=_checked_matrix(job)) if job.matrix else job


@cache
def _validator() -> TypeAdapter[Job]:
    from pydantic import TypeAdapter

    return TypeAdapter(Job)


def _check_paths(name: str, value: Any) -> None:
    for path in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(path, (str, os.PathLike)):
            if name == "output":
                check_table(path, "--output", is_output=True)
            else:
                check_local(path, f"--{name.replace('_', '-')}")


def _with_turns_and_matrix(options: Settings) -> JsonDict:
    """Turn several prompts into turns, and several models into an axis of the matrix."""
    values = dict(options)
    prompts, models = values.get("prompt"), values.get("model")
    for name, given in (("prompt", prompts), ("model", models)):
        if isinstance(given, (list, tuple)) and not given:
            raise InputError(f"--{name}: the list is empty; give at least one {name}, or leave the option out")
    if isinstance(prompts, (list, tuple)):
        del values["prompt"]
        if len(prompts) == 1:
            values["prompt"] = prompts[0]
        elif values.setdefault("turns", turns := [{"prompt": text} for text in prompts]) is not turns:
            raise InputError("turns: cannot be combined with several --prompt; give one of them")
    if isinstance(models, (list, tuple)):
        del values["model"]
        if len(models) == 1:
            values["model"] = models[0]
        else:
            matrix = values.get("matrix") or {}
            if not isinstance(matrix, Mapping):
                raise InputError(f"matrix: expected a table of options with lists of values, got {shortened(matrix)}")
            values["matrix"] = {**matrix, "model": list(models)}
    return values


_OPTION_OF_PARAMETER = {
    "model": "--model",
    "messages": "--messages",
    "input": "--prompt",
    "thread": "--prompt",
    "additional_messages": "--prompt",
    "instructions": "--instructions",
    "assistant_id": "--assistant",
    "stream": "--stream",
    "background": "--background",
    "conversation": "--thread-column",
    "previous_response_id": "--thread-column",
    "n": "--epochs",
}
"""Model parameters that batchrun sets itself, with the option that controls each of them. Of `n`, 1 is allowed: a row
has one answer."""


def _check_parameters(job: Job) -> None:
    """Raise InputError if `param` sets a parameter that belongs to another option, or a price to each row."""
    if has_template(job.param.get("service_tier")):
        raise InputError("param: service_tier affects prices and must be the same for all rows, not a template")
    for name, value in job.param.items():
        is_one = name == "n" and (value is None or (value == 1 and not isinstance(value, bool)))
        if (option := _OPTION_OF_PARAMETER.get(name)) and not is_one:
            raise InputError(f"param: {name} cannot be set as a model parameter; use {option}")
        kind = PARAMETER_TYPES.get(name)
        if kind is not None and isinstance(value, str) and not is_template(value):
            wanted = "true or false" if kind == "boolean" else "a number"
            raise InputError(f"param: {name}: expected {wanted} without quotes, got {shortened(value)}")
    for option_name, value in (*((f"param: {name}", value) for name, value in job.param.items()), *_flagless(job)):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise InputError(f"{option_name}: cannot be sent as JSON: {exc}") from None


def _flagless(job: Job) -> tuple[tuple[str, object], ...]:
    return ("response_format", job.response_format), ("functions", job.functions)


def _check_messages(job: Job) -> None:
    """Raise InputError if both a conversation and a prompt are given: the conversation is all that a row sends."""
    if job.messages is not None and (job.prompt is not None or job.turns is not None or "prompt" in job.matrix):
        other = "turns" if job.turns is not None else "a prompt"
        raise InputError(f"--messages: cannot be combined with {other}; a conversation is all that its row asks")


def _check_turns(job: Job) -> None:
    if job.turns is None:
        return
    if job.prompt is not None:
        raise InputError("turns: cannot be combined with a prompt; the first turn is the prompt")
    if not job.turns:
        raise InputError("turns: the list is empty; give at least one turn with a `prompt`")
    for number, turn in enumerate(job.turns, start=1):
        unknown = turn.keys() - {"prompt", "when"}
        if unknown or "prompt" not in turn:
            problem = f"has the unknown key {min(unknown)!r}" if unknown else "has no `prompt`"
            misplaced = "; in TOML, options come before the first [[turns]]" if unknown & job_options().keys() else ""
            raise InputError(f"turns: turn {number} {problem}; expected `prompt` and optionally `when`{misplaced}")
    if "when" in job.turns[0]:
        raise InputError("turns: the first turn cannot have a condition `when`; leave the row out of the table instead")


def _checked_matrix(job: Job) -> dict[str, list[Any]]:
    """Return the axes with their values, each validated as the value of its option."""
    checked = {}
    for name, values in job.matrix.items():
        _check_axis(name, values, job)
        checked[name] = [getattr(make_job({name: value}), name) for value in values]
        if name == "param" and any("service_tier" in value for value in checked[name]):
            raise InputError("matrix: param: service_tier affects prices and must be the same for all rows")
        if _has_repetition(checked[name]):
            raise InputError(f"matrix: {name} has the same value twice; use --epochs to repeat rows")
    return checked


def _check_axis(name: str, values: list[Any], job: Job) -> None:
    """Raise InputError if an option cannot be an axis of the matrix, or its values are not a list for it."""
    options = job_options()
    known = {each for each, (option, _) in options.items() if option.decides_answer} - {"matrix", "epochs"}
    if name not in known:
        raise InputError(
            f"matrix: {name!r} is not an option that affects answers{suggestion(name, known)} "
            f"(options: {', '.join(sorted(known - set(_SAME_FOR_ALL)))})"
        )
    if name in _SAME_FOR_ALL:
        raise InputError(f"matrix: {name} must be the same for all rows; compare two batches instead")
    option, default = options[name]
    if getattr(job, name) != ({} if default is None and option.pairs else default):
        raise InputError(f"matrix: {name} is also given outside the matrix; remove one of them")
    if not values:
        raise InputError(f"matrix: {name} has no values; give a list of at least one")
    if name == "prompt" and job.turns is not None:
        raise InputError("matrix: prompt cannot be combined with several turns; remove one of them")
    if name in ("prompt", "model") and not all(isinstance(value, str) for value in values):
        raise InputError(f"matrix: {name}: every value must be one text, got {shortened(values)}")


def _has_repetition(values: list[Any]) -> bool:
    """Return whether two values are equal or have the same text: output and journal could not distinguish them."""
    texts = [str(value) for value in values]
    return any(value in values[:index] or texts[index] in texts[:index] for index, value in enumerate(values))


_SAME_FOR_ALL = ("api", "turns", "messages", "thread_column", "code_interpreter", "functions")
"""Options that affect answers but cannot be axes of a matrix."""


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{name}: the text is not valid JSON: {exc}") from None


def _pair(name: str, text: object, kind: Literal["text", "json"]) -> tuple[str, Any]:
    key, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals or not key.strip():
        # The value of a header or query may be a key, and users type `Authorization: Bearer …` instead of
        # `Authorization=Bearer …`. Secret values are therefore not repeated.
        option = job_options()[name][0]
        got = "" if option.secret else f", got {shortened(text)}"
        raise InputError(f"--{name.replace('_', '-')}: expected {option.metavar}{got}")
    if kind == "json":
        try:
            return key.strip(), json.loads(value)
        except ValueError:
            return key.strip(), value
        except RecursionError:
            raise InputError(f"--{name.replace('_', '-')}: {key.strip()}: the value is nested too deeply") from None
    return key.strip(), value


def _check_bounds(name: str, option: JobOption, value: Any) -> None:
    if not isinstance(value, (int, float)):
        return
    for limit, words, holds in (
        (option.at_least, "at least", option.at_least is None or value >= option.at_least),
        (option.above, "above", option.above is None or value > option.above),
        (option.at_most, "at most", option.at_most is None or value <= option.at_most),
    ):
        # Every comparison with NaN is false. Infinity can be neither waited for nor sent.
        if limit is not None and (not holds or value in (math.inf, -math.inf)):
            raise InputError(f"--{name.replace('_', '-')}: must be {words} {limit:,g}, got {shortened(value)}")


def _check_texts(name: str, option: JobOption, value: Any) -> None:
    """Raise InputError for text that cannot be encoded in a request, a file or the journal."""
    flag = f"--{name.replace('_', '-')}"
    for text in _texts_in(value):
        if (surrogate := _SURROGATE.search(text)) is not None:
            got = "" if option.secret else f", got \\u{ord(surrogate[0]):04x}"
            raise InputError(f"{flag}: the text contains half of a surrogate pair, which is not valid Unicode{got}")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _texts_in(value: Any) -> Iterator[str]:
    """Yield all texts in a value, keys included. No recursion is used, because a value may be nested deeply."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            pending += value


def _check_size(job: Job) -> None:
    """Raise InputError if the rows would be run in too many combinations."""
    combinations = math.prod([len(values) for values in job.matrix.values()], start=job.epochs)
    if combinations > _MAX_COMBINATIONS:
        raise InputError(
            f"matrix and epochs: every row would be run in {combinations:,} combinations; "
            f"the maximum is {_MAX_COMBINATIONS:,}"
        )


def _check_fallback_model(job: Job) -> None:
    fallback = job.fallback_model
    if fallback is None:
        return
    if not fallback.strip() or is_template(fallback):
        raise InputError(f"--fallback-model: expected the name of one model, not a template, got {shortened(fallback)}")
    if fallback == job.model:
        raise InputError(f"--fallback-model: {shortened(fallback)} is the model itself; give another one")


def _check_prices(prices: Mapping[str, Mapping[str, float]]) -> None:
    for model, rates in prices.items():
        for name, price in rates.items():
            if not 0 <= price < math.inf:
                raise InputError(
                    f"prices: {model!r}: {name}: expected US dollars per million tokens, 0 or more, got {price!r}"
                )


def _problem(location: tuple[int | str, ...], kind: str, message: str, value: object) -> str:
    """Return the message about one error that pydantic found."""
    name = str(location[0]) if location else "job"
    if kind == "unexpected_keyword_argument":
        return f"unknown option {name!r}{suggestion(name, job_options())}"
    message = message.partition(", unable to parse")[0]
    known = job_options().get(name)
    shown = name if known is not None and known[0].flagless else f"--{name.replace('_', '-')}"
    if known is not None and known[0].secret:
        place = "".join(f"[{part!r}]" for part in location[1:2] if isinstance(part, int))
        return f"{shown}{place}: {message[0].lower()}{message[1:]} (the value is not shown, because it may be secret)"
    place = "".join(f"[{part!r}]" for part in location[1:] if part != "[key]")
    return f"{shown}{place}: {message[0].lower()}{message[1:]}, got {shortened(value)}"
