"""What a selection leaves out of the totals of a journal.

It is recorded when a run begins, because the status of a batch is read from the journal alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from batchrun.batch.results import UNASKED
from batchrun.batch.selection import Selection
from batchrun.journal import Counts, Journal, ModelFacts
from batchrun.prompts.templates import Prompter, PromptError
from batchrun.records import Cells, JsonDict, Manifest, Row

__all__ = ["LeftOut", "selection_record"]


@dataclass(slots=True)
class LeftOut:
    """Rows that a selection leaves out.

    Mutable state: all counts, while the rows are counted.

    Attributes:
        skipped: rows without an answer to their prompt.
        in_flight: those of them that an earlier run has sent.
        failures: error_type → those of them that failed.
        changed: status → answers to a prompt that the row no longer has.
        models: model → the outcomes of such a prompt; "" for those without a model.
    """

    skipped: int = 0
    in_flight: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    models: dict[str, ModelFacts] = field(default_factory=dict)

    @classmethod
    def recorded(cls, manifest: Manifest) -> LeftOut:
        """Return what the last run of a batch recorded; nothing if it selected no rows."""
        found: Mapping[str, Any] = manifest.get("selection") or {}
        return cls(
            found.get("skipped", 0),
            found.get("in_flight", 0),
            Counter(found.get("failures", {})),
            Counter(found.get("changed", {})),  # journals of the first versions have neither this nor the models
            dict(found.get("models", {})),
        )

    def add_outdated(self, cells: Cells) -> None:
        """Count the tokens and the cost of a prompt that the row no longer has: the output does not show them."""
        is_answer = cells["status"] in ("completed", "incomplete")
        cost_usd = cells["cost_usd"]
        of_model = self.models.setdefault(cells["model"] or "", _nothing())
        of_model["rows"] += 1
        of_model["prompt_tokens"] += cells["prompt_tokens"] or 0
        of_model["completion_tokens"] += cells["completion_tokens"] or 0
        of_model["unpriced"] += cost_usd is None and (is_answer or cells["total_tokens"] is not None)
        if cost_usd is not None:
            of_model["cost_usd"] = (of_model["cost_usd"] or 0.0) + cost_usd

    def less_counts(self, counts: Counts) -> Counts:
        """Return the totals of a journal without these rows, apart from what earlier failures of them cost."""
        outdated = list(self.models.values())
        ended = counts.completed + counts.incomplete + counts.failed
        return replace(
            counts,
            completed=max(0, counts.completed - self.changed["completed"]),
            incomplete=max(0, counts.incomplete - self.changed["incomplete"]),
            in_flight=max(0, counts.in_flight - self.in_flight),
            prompt_tokens=max(0, counts.prompt_tokens - sum(each["prompt_tokens"] for each in outdated)),
            completion_tokens=max(0, counts.completion_tokens - sum(each["completion_tokens"] for each in outdated)),
            cost_usd=_less_cost(counts.cost_usd, outdated, is_all=sum(each["rows"] for each in outdated) >= ended),
            unpriced=max(0, counts.unpriced - sum(each["unpriced"] for each in outdated)),
        )

    def less_failures(self, failures: Mapping[str, int]) -> dict[str, int]:
        """Return error_type → failed rows, without these rows."""
        left = {kind: number - self.failures[kind] for kind, number in failures.items()}
        return {kind: number for kind, number in left.items() if number > 0}

    def less_models(self, models: Mapping[str, ModelFacts]) -> dict[str, ModelFacts]:
        """Return model → its rows, without these rows."""
        left: dict[str, ModelFacts] = {}
        for name, facts in models.items():
            old = self.models.get(name, _nothing())
            if facts["rows"] > old["rows"]:
                left[name] = {
                    "rows": facts["rows"] - old["rows"],
                    "prompt_tokens": facts["prompt_tokens"] - old["prompt_tokens"],
                    "completion_tokens": facts["completion_tokens"] - old["completion_tokens"],
                    "cost_usd": _less_cost(facts["cost_usd"], [old], is_all=False),
                    "unpriced": facts["unpriced"] - old["unpriced"],
                }
        return left


def _nothing() -> ModelFacts:
    return {"rows": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost_usd": None, "unpriced": 0}


def _less_cost(cost_usd: float | None, outdated: list[ModelFacts], *, is_all: bool) -> float | None:
    """Return a cost without that of outdated outcomes; None if these are all."""
    if cost_usd is None or is_all:
        return None
    return max(0.0, cost_usd - sum(each["cost_usd"] or 0.0 for each in outdated))


def selection_record(selection: Selection | None, prompter: Prompter, journal: Journal) -> JsonDict:
    """Return what the manifest records of a selection: its options, and what it leaves out."""
    if selection is None:
        return {"selection": None}
    left_out = LeftOut()
    for row in selection.source.rows():
        if row not in selection:
            _count(left_out, row, prompter, journal)
    counts = {each.name: getattr(left_out, each.name) for each in fields(left_out)}
    return {"selection": {**asdict(selection.options), **counts}}


def _count(left_out: LeftOut, row: Row, prompter: Prompter, journal: Journal) -> None:
    history = journal.history(row_key := prompter.row_key(row))
    if history is None:
        left_out.skipped += 1
        return
    is_outdated = history.status is not None and history.fingerprint != _fingerprint(row, prompter)
    if history.answered and not is_outdated:
        return
    left_out.skipped += 1
    cells = journal.cells(row_key, history.fingerprint or history.last_fingerprint or "")
    if history.answered:
        left_out.changed[str(history.status)] += 1
    else:
        left_out.in_flight += cells["status"] == "in_flight"
        if history.status is not None:
            left_out.failures[cells["error_type"]] += 1
    if is_outdated:
        left_out.add_outdated(cells)


def _fingerprint(row: Row, prompter: Prompter) -> str:
    """Return the fingerprint of a row's prompt, as the journal has it."""
    try:
        return prompter.render(row).fingerprint
    except PromptError:
        return UNASKED
