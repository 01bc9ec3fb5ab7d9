"""The models that the rows of a batch ask: those of its settings, or of a column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.journal import ModelFacts
from batchrun.prompts.templates import Prompter, PromptError
from batchrun.tables import Source
from batchrun.wording import cost_text, rows_text

__all__ = ["fallback_lines", "listed_models", "model_lines", "models_of_rows"]

_MAX_MODELS = 1_000
"""Maximum models of a batch: a column with more values has something else in it, such as the prompt."""
_SHOWN = 5
_LISTED = 10


def models_of_rows(source: Source, prompter: Prompter, variants: Sequence[Job]) -> tuple[str | None, ...]:
    """Return the models that rows ask, each once; None for that of an assistant; nothing for a table without rows.

    The table is read for them only if the model is a template: prices and a budget need all of them before the start.

    Args:
        variants: the job of each combination.

    Raises:
        InputError: no row gives a model, or too many different ones occur.
    """
    if not prompter.has_row_models:
        return tuple(dict.fromkeys(variant.model for variant in variants))
    models: dict[str | None, None] = {}
    row = None
    for row in source.rows():
        try:
            models[prompter.render(row).model] = None
        except PromptError:
            continue  # the row fails when its turn comes
        if len(models) > _MAX_MODELS:
            raise InputError(
                f"--model: the rows name more than {_MAX_MODELS:,} different models, such as "
                f"{listed_models(list(models)[:2])}; give a template with the column that names the model"
            )
    if row is not None and not models:
        raise InputError("--model: no row gives a model: the template is empty or fails in every row")
    return tuple(models)


def listed_models(models: Sequence[str | None]) -> str:
    """Return the first names, and how many more there are.

    >>> listed_models(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    names = list(dict.fromkeys(model for model in models if model))
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def model_lines(models: Mapping[str, ModelFacts], *, embedded: bool) -> Iterator[str]:
    """Yield a line for each model, if several have answered rows; of more than ten, the rest is one line."""
    if len(models) < 2:
        return
    for name, facts in list(models.items())[:_LISTED]:
        cost = cost_text(facts["cost_usd"], unpriced=0 if embedded else facts["unpriced"], embedded=embedded)
        tokens = f"{facts['prompt_tokens']:,} tokens in, {facts['completion_tokens']:,} out"
        yield f"  {name}: {' · '.join(filter(None, (rows_text(facts['rows']), tokens, cost)))}"
    if len(models) > _LISTED:
        rest = sum(facts["rows"] for facts in list(models.values())[_LISTED:])
        yield f"  {len(models) - _LISTED:,} more models: {rows_text(rest)}"


def fallback_lines(reasons: Mapping[str, int]) -> Iterator[str]:
    """Yield a line about the rows that the fallback model was asked, if there are any.

    Args:
        reasons: how the first model had ended → rows.
    """
    if reasons:
        kinds = ", ".join(f"{number:,} × {kind}" for kind, number in reasons.items())
        yield f"the fallback model was asked about {rows_text(sum(reasons.values()))}: {kinds}"
