"""From options as they were given to a Job: types, bounds, and what goes together."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from batchrun.errors import InputError
from batchrun.job.job_option import JobOption
from batchrun.job.option_values import nearest, seconds_of
from batchrun.job.options import Job, job_options
from batchrun.local_paths import check_local
from batchrun.wording import shortened

__all__ = ["make_job"]


_MOST_COMBINATIONS = 10_000
"""In which one row is asked: all of them are made before the first request."""


def make_job(options: Mapping[str, Any]) -> Job:
    """Validate options (text from flags, or plain Python values) into a Job.

    Raises:
        InputError: names the option, what was expected and what came.
    """
    from pydantic import TypeAdapter, ValidationError

    given = _sorted_out(options)
    for name, (option, _) in job_options().items():
        if option.pairs is not None and isinstance(given.get(name), (list, tuple)):
            given[name] = dict(_pair(name, text, option.pairs) for text in given[name])
        if option.flagless and isinstance(given.get(name), str):
            given[name] = _json(name, given[name])
        if option.path:
            _check_paths(name, given.get(name))
    try:
        job = TypeAdapter(Job).validate_python(given)
    except ValidationError as exc:
        problems = [_problem(error["loc"], error["type"], error["msg"], error["input"]) for error in exc.errors()]
        raise InputError("; ".join(dict.fromkeys(problems))) from None
    except (TypeError, RecursionError):
        raise InputError("the options cannot be read: a name is not text, or a value is nested too deeply") from None
    for name, (option, _) in job_options().items():
        _check_bounds(name, option, getattr(job, name))
        _check_texts(name, option, getattr(job, name))
    if job.max_age is not None:
        seconds_of(job.max_age, "max-age")
    _check_size(job)
    _check_parameters(job)
    _check_prices(job.prices)
    _check_turns(job)
    return replace(job, matrix=_checked_matrix(job)) if job.matrix else job


def _check_paths(name: str, given: Any) -> None:
    for path in given if isinstance(given, (list, tuple)) else (given,):
        if isinstance(path, (str, os.PathLike)):
            check_local(path, f"--{name.replace('_', '-')}")


def _sorted_out(options: Mapping[str, Any]) -> dict[str, Any]:
    """Several prompts are turns, several models an axis of the matrix."""
    given = dict(options)
    prompts, models = given.get("prompt"), given.get("model")
    if isinstance(prompts, (list, tuple)):
        del given["prompt"]
        if len(prompts) == 1:
            given["prompt"] = prompts[0]
        elif given.setdefault("turns", turns := [{"prompt": text} for text in prompts]) is not turns:
            raise InputError("turns: are given, and --prompt several times: say one of them")
    if isinstance(models, (list, tuple)):
        del given["model"]
        if len(models) == 1:
            given["model"] = models[0]
        else:
            matrix = given.get("matrix") or {}
            if not isinstance(matrix, Mapping):
                raise InputError(f"matrix: a table of options with lists of values is needed, got {shortened(matrix)}")
            given["matrix"] = {**matrix, "model": list(models)}
    return given


_OPTION_OF_PARAMETER = {
    "model": "--model",
    "messages": "--prompt",
    "input": "--prompt",
    "assistant_id": "--assistant",
    "stream": "--stream",
    "background": "--background",
    "conversation": "--thread-column",
    "previous_response_id": "--thread-column",
    "n": "--epochs",
}
"""Parameters that decide what is asked, of whom, how often and how its reply is read, and the options for them."""


def _check_parameters(job: Job) -> None:
    """See that no parameter sends something else than the batch says that it asks."""
    for name in job.param:
        if option := _OPTION_OF_PARAMETER.get(name):
            raise InputError(f"param: {name} cannot be given as a parameter of the model; say {option}")


def _check_turns(job: Job) -> None:
    if job.turns is None:
        return
    if job.prompt is not None:
        raise InputError("turns: are given, and a prompt beside them: the first of the turns is the prompt")
    if not job.turns:
        raise InputError("turns: are empty")
    for number, turn in enumerate(job.turns, start=1):
        unknown = turn.keys() - {"prompt", "when"}
        if unknown or "prompt" not in turn:
            wrong = f"unknown key {min(unknown)!r}" if unknown else "has no prompt"
            misplaced = "; in TOML, options stand above the first [[turns]]" if unknown & job_options().keys() else ""
            raise InputError(f"turns: turn {number} {wrong}; a turn has `prompt` and perhaps `when`{misplaced}")
    if "when" in job.turns[0]:
        raise InputError("turns: the first turn has a condition; leave the row out of the table instead")


def _checked_matrix(job: Job) -> dict[str, list[Any]]:
    """The axes with their values as the options would have them."""
    options = job_options()
    checked = {}
    for name, values in job.matrix.items():
        known = {each for each, (option, _) in options.items() if option.decides_answer} - {"matrix", "epochs"}
        if name not in known:
            raise InputError(f"matrix: {name!r} is not an option that decides answers{nearest(name, known)}")
        if name in _SAME_FOR_ALL:
            raise InputError(f"matrix: {name} is the same for all rows of a batch; compare the outputs of two batches")
        default = options[name][1]
        if getattr(job, name) != ({} if default is None and options[name][0].pairs else default):
            raise InputError(f"matrix: {name} is given, and beside the matrix too: say one of them")
        if not values:
            raise InputError(f"matrix: {name} has no values")
        if name == "prompt" and job.turns is not None:
            raise InputError("matrix: prompt is given, and several turns beside the matrix: say one of them")
        if name in ("prompt", "model") and not all(isinstance(value, str) for value in values):
            raise InputError(f"matrix: {name}: every value is one text, got {shortened(values)}")
        checked[name] = [getattr(make_job({name: value}), name) for value in values]
        if name == "param" and any("service_tier" in value for value in checked[name]):
            raise InputError("matrix: param: service_tier decides prices, and is the same for all rows of a batch")
        # Values that look the same would be told apart neither in the output nor in the journal.
        shown = [str(value) for value in checked[name]]
        if any(
            value in checked[name][:place] or shown[place] in shown[:place] for place, value in enumerate(checked[name])
        ):
            raise InputError(f"matrix: {name} has a value twice; --epochs repeats a row")
    return checked


_SAME_FOR_ALL = ("api", "turns", "thread_column", "code_interpreter", "functions")
"""Options that decide answers and are no axes."""


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{name}: is text that is not valid JSON: {exc}") from None


def _pair(name: str, text: object, kind: Literal["text", "json"]) -> tuple[str, Any]:
    key, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals or not key.strip():
        # A header or query may be a key, and `Authorization: Bearer …` is easily typed for `Authorization=Bearer …`.
        option = job_options()[name][0]
        got = "" if option.secret else f", got {shortened(text)}"
        metavar = option.metavar
        raise InputError(f"--{name.replace('_', '-')}: {metavar} is needed{got}")
    if kind == "json":
        try:
            return key.strip(), json.loads(value)
        except ValueError:
            return key.strip(), value
        except RecursionError:
            raise InputError(f"--{name.replace('_', '-')}: {key.strip()}: is nested too deeply") from None
    return key.strip(), value


def _check_bounds(name: str, option: JobOption, value: Any) -> None:
    if not isinstance(value, (int, float)):
        return
    for limit, words, holds in (
        (option.at_least, "at least", option.at_least is None or value >= option.at_least),
        (option.above, "above", option.above is None or value > option.above),
        (option.at_most, "at most", option.at_most is None or value <= option.at_most),
    ):
        # NaN holds nothing; infinity is no number that can be waited for or sent.
        if limit is not None and (not holds or value in (math.inf, -math.inf)):
            raise InputError(f"--{name.replace('_', '-')}: must be {words} {limit:,g}, got {shortened(value)}")


def _check_texts(name: str, option: JobOption, value: Any) -> None:
    """Text that no request, file or journal could hold is refused where it comes in."""
    flag = f"--{name.replace('_', '-')}"
    for text in _texts_in(value):
        if (surrogate := _SURROGATE.search(text)) is not None:
            got = "" if option.secret else f", got \\u{ord(surrogate[0]):04x}"
            raise InputError(f"{flag}: is not text in Unicode (half of a surrogate pair){got}")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _texts_in(value: Any) -> Iterator[str]:
    """All texts in a value, names of tables included; without recursion, since a value may be nested deeply."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            left += value


def _check_size(job: Job) -> None:
    """Refuse before it is built what would be a batch of absurd size."""
    combinations = math.prod([len(values) for values in job.matrix.values()], start=job.epochs)
    if combinations > _MOST_COMBINATIONS:
        raise InputError(
            f"matrix and epochs: every row would be asked in {combinations:,} combinations; "
            f"at most {_MOST_COMBINATIONS:,} are possible"
        )


def _check_prices(prices: Mapping[str, Mapping[str, float]]) -> None:
    for model, rates in prices.items():
        for name, price in rates.items():
            if not 0 <= price < math.inf:
                raise InputError(
                    f"prices: {model!r}: {name}: US dollars for a million tokens are needed, 0 or more, got {price!r}"
                )


def _problem(location: tuple[int | str, ...], kind: str, message: str, value: object) -> str:
    name = str(location[0]) if location else "job"
    if kind == "unexpected_keyword_argument":
        return f"unknown option {name!r}{nearest(name, job_options())}"
    known = job_options().get(name)
    shown = name if known is not None and known[0].flagless else f"--{name.replace('_', '-')}"
    if known is not None and known[0].secret:
        place = "".join(f"[{part!r}]" for part in location[1:2] if isinstance(part, int))
        return f"{shown}{place}: {message[0].lower()}{message[1:]} (what came is not shown: it may be secret)"
    return f"{shown}: {message[0].lower()}{message[1:]}, got {shortened(value)}"
