"""Scorers by their names: `numeric`, `numeric:rel=0.01`, `year=regex:(\\d{4})`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, cast

from batchrun.errors import InputError
from batchrun.job.option_values import suggestion
from batchrun.scoring.grading.ready_rubrics import READY_RUBRICS
from batchrun.scoring.scorers.base import NamedScorer, Scorer
from batchrun.scoring.scorers.choice import LETTERS, ChoiceScorer
from batchrun.scoring.scorers.cosine import CosineScorer
from batchrun.scoring.scorers.json_fields import JsonScorer
from batchrun.scoring.scorers.mathematics import MathScorer
from batchrun.scoring.scorers.model_graded import ModelGradedScorer
from batchrun.scoring.scorers.numeric import NumericScorer, Pick
from batchrun.scoring.scorers.overlap import BleuScorer, F1Scorer, FuzzyScorer, RougeLScorer, RougeNScorer
from batchrun.scoring.scorers.python import ColumnScorer, FunctionScorer
from batchrun.scoring.scorers.texts import (
    ContainsScorer,
    ExactScorer,
    IncludesScorer,
    RegexScorer,
    StartsWithScorer,
    TextForm,
)

__all__ = ["SCORERS", "make_scorers"]


def make_scorers(specs: Sequence[str | NamedScorer]) -> list[NamedScorer]:
    """Make the scorers of `--scorer`, each written `[NAME=]KIND[:OPTIONS]`; a scorer that is made already stays.

    Raises:
        InputError: a kind or an option is unknown, a value is wrong, or two scorers have the same name.
    """
    if not specs:
        raise InputError(f"no scorer is given: add --scorer with one of {', '.join(SCORERS)}")
    chosen: list[NamedScorer] = []
    for spec in specs:
        if isinstance(spec, NamedScorer):
            if any(spec.name == other.name for other in chosen):
                raise InputError(f"--scorer: there are two scorers named {spec.name!r}; give one another name")
            chosen.append(spec)
            continue
        named = _NAMED.fullmatch(spec)
        assert named is not None  # the pattern takes any text
        kind, options = named["kind"], named["options"] or ""
        if kind not in SCORERS:
            near = suggestion(kind, SCORERS)
            raise InputError(f"--scorer {spec}: unknown scorer {kind!r}; known: {', '.join(SCORERS)}{near}")
        name = named["name"] or _default_name(kind, options)
        if any(name == other.name for other in chosen):
            raise InputError(f"--scorer {spec}: there are two scorers named {name!r}; name one, as in other={spec}")
        options, target = (options, None) if kind in _NO_OWN_TARGET else _own_target(spec, options)
        chosen.append(NamedScorer(name, SCORERS[kind](options), target))
    return chosen


_NO_OWN_TARGET: Final = ("regex", "python", "column")
"""Kinds whose options are a pattern, or the name of something that finds its own target."""


def _own_target(spec: str, options: str) -> tuple[str, str | None]:
    """Return (the options without `target=COLUMN`, that column; None if there is none)."""
    parts = options.split(",") if options else []
    named = [part.removeprefix("target=") for part in parts if part.startswith("target=")]
    if len(named) > 1 or "" in named:
        raise InputError(f"--scorer {spec}: target=: expected the name of one column")
    return ",".join(part for part in parts if not part.startswith("target=")), named[0] if named else None


_NAMED: Final = re.compile(r"(?:(?P<name>\w+)=)?(?P<kind>[^:]*)(?::(?P<options>.*))?", re.DOTALL)


def _default_name(kind: str, options: str) -> str:
    if kind == "python":
        return options.rpartition(":")[2]
    return options.removeprefix("score_") if kind == "column" else kind


def _pairs(kind: str, options: str, known: Sequence[str]) -> dict[str, str]:
    """Return `a=1,b=2` as a dict."""
    pairs: dict[str, str] = {}
    for part in filter(None, options.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            listed = f"known: {', '.join(f'{name}=' for name in known)}" if known else "this scorer has no options"
            raise InputError(f"--scorer {kind}:{options}: unknown option {part!r}; {listed}")
        pairs[key] = value
    return pairs


def _number(kind: str, pairs: Mapping[str, str], key: str) -> Decimal | None:
    if key not in pairs:
        return None
    try:
        value = Decimal(pairs[key])
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and value >= 0 and value.adjusted() < 100):
        raise InputError(f"--scorer {kind}: {key}={pairs[key]}: expected a number, at least 0")
    return value


def _numeric(options: str) -> Scorer:
    pairs = _pairs("numeric", options, ("abs", "rel", "decimal", "pick"))
    mark = {"point": ".", "comma": ","}.get(pairs.get("decimal", "point"))
    if mark is None:
        raise InputError(f"--scorer numeric: decimal={pairs['decimal']}: expected point or comma")
    pick = pairs.get("pick", "final")
    if pick not in ("final", "last", "any"):
        raise InputError(f"--scorer numeric: pick={pick}: expected final, last or any")
    return NumericScorer(
        Fraction(_number("numeric", pairs, "abs") or 0),
        Fraction(_number("numeric", pairs, "rel") or 0),
        cast("Literal['.', ',']", mark),
        cast("Pick", pick),
    )


def _choice(options: str) -> Scorer:
    pairs = _pairs("choice", options, ("letters", "index"))
    letters, index = pairs.get("letters", LETTERS).upper(), pairs.get("index")
    if not letters.isalnum() or len(set(letters)) < len(letters):
        raise InputError(f"--scorer choice: letters={letters}: expected different letters or digits, such as ABCD")
    if index not in (None, "0", "1"):
        raise InputError(f"--scorer choice: index={index}: expected 0 or 1, the number of the first option")
    return ChoiceScorer(letters, None if index is None else int(index))


def _regex(options: str) -> Scorer:
    if not options:
        raise InputError(r"--scorer regex: expected a pattern, as in regex:(\d{4})")
    try:
        return RegexScorer(re.compile(options))
    except re.error as exc:
        raise InputError(f"--scorer regex:{options}: is not a regular expression: {exc}") from exc


def _form(kind: str, options: str, *, ignore_case: bool) -> TextForm:
    pairs = _pairs(kind, options, ("case", "punctuation", "articles"))
    for name, value in pairs.items():
        if value not in ("ignore", "keep"):
            raise InputError(f"--scorer {kind}: {name}={value}: expected ignore or keep")
    case = pairs.get("case", "ignore" if ignore_case else "keep")
    return TextForm(case == "ignore", pairs.get("punctuation") == "ignore", pairs.get("articles") == "ignore")


def _json(options: str) -> Scorer:
    pairs = _pairs("json", options, ("schema", "fields", "in"))
    place = pairs.get("in", "answer")
    if place not in ("answer", "text"):
        raise InputError(f"--scorer json: in={place}: expected answer (all of it) or text (one object in it)")
    schema = Path(pairs["schema"]) if "schema" in pairs else None
    return JsonScorer(schema, tuple(filter(None, pairs.get("fields", "").split("+"))), place == "text")


def _share(kind: str, pairs: Mapping[str, str], key: str) -> float | None:
    share = _number(kind, pairs, key)
    if share is not None and share > 1:
        raise InputError(f"--scorer {kind}: {key}={share}: expected a number from 0 to 1")
    return None if share is None else float(share)


def _overlap(kind: str, make: Callable[..., Scorer], **settings: int) -> Callable[[str], Scorer]:
    """Return the function that makes a scorer with a threshold."""
    return lambda options: make(threshold=_share(kind, _pairs(kind, options, ("threshold",)), "threshold"), **settings)


def _fuzzy(options: str) -> Scorer:
    pairs = _pairs("fuzzy", options, ("threshold", "edits"))
    edits = pairs.get("edits")
    if edits is not None and not (edits.isascii() and edits.isdecimal() and len(edits) < 10):
        raise InputError(f"--scorer fuzzy: edits={edits}: expected a whole number of characters, at least 0")
    if edits is not None and "threshold" in pairs:
        raise InputError("--scorer fuzzy: edits and threshold exclude each other; use one of them")
    return FuzzyScorer(threshold=_share("fuzzy", pairs, "threshold"), edits=None if edits is None else int(edits))


def _math(options: str) -> Scorer:
    limit_s = _number("math", _pairs("math", options, ("limit",)), "limit")
    if limit_s == 0:
        raise InputError("--scorer math: limit=0: expected a number of seconds above 0")
    return MathScorer() if limit_s is None else MathScorer(limit_s=float(limit_s))


def _cosine(options: str) -> Scorer:
    pairs = _pairs("cosine", options, ("model", "url", "threshold"))
    if not pairs.get("model"):
        raise InputError("--scorer cosine: expected an embedding model, as in cosine:model=text-embedding-3-small")
    url = pairs.get("url")
    if url is not None and not url.startswith(("http://", "https://")):
        raise InputError(f"--scorer cosine: url={url}: expected the base URL of a server, such as http://HOST:PORT/v1")
    return CosineScorer(pairs["model"], url, _share("cosine", pairs, "threshold"))


def _column(options: str) -> Scorer:
    if not options:
        raise InputError("--scorer column: expected the name of a column, as in column:score_graded")
    return ColumnScorer(options)


def _model_graded(options: str) -> Scorer:
    pairs = _pairs("model-graded", options, ("grader", "rubric"))
    rubric = pairs.get("rubric")
    if rubric is not None and rubric not in READY_RUBRICS:
        raise InputError(f"--scorer model-graded: rubric={rubric}: expected one of {', '.join(READY_RUBRICS)}")
    return ModelGradedScorer([Path(name) for name in pairs.get("grader", "").split("+") if name], rubric)


SCORERS: Final[Mapping[str, Callable[[str], Scorer]]] = {
    "exact": lambda options: ExactScorer(_form("exact", options, ignore_case=False)),
    "ne": lambda options: ExactScorer(_form("ne", options, ignore_case=False), different=True),
    "includes": lambda options: IncludesScorer(_form("includes", options, ignore_case=True)),
    "starts-with": lambda options: StartsWithScorer(_form("starts-with", options, ignore_case=True)),
    "contains-all": lambda options: ContainsScorer(True, _form("contains-all", options, ignore_case=True)),
    "contains-any": lambda options: ContainsScorer(False, _form("contains-any", options, ignore_case=True)),
    "regex": _regex,
    "numeric": _numeric,
    "choice": _choice,
    "json": _json,
    "fuzzy": _fuzzy,
    "f1": _overlap("f1", F1Scorer),
    "rougeL": _overlap("rougeL", RougeLScorer),
    **{f"rouge{n}": _overlap(f"rouge{n}", RougeNScorer, n=n) for n in (1, 2, 3, 4)},
    "bleu": _overlap("bleu", BleuScorer),
    "math": _math,
    "cosine": _cosine,
    "python": FunctionScorer.load,
    "column": _column,
    "model-graded": _model_graded,
}
"""Kind → function that makes the scorer from the options after the colon."""
