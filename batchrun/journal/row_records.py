"""Conversion between the records of the journal's main tables and SQLite's values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from batchrun.records import Attempt, Completed, Failed, JsonObject, Outcome
from batchrun.token_usage import MODEL_OF_RUN, Usage

__all__ = [
    "INSERT_FIRST_OUTCOME",
    "INSERT_OUTCOME",
    "OUTCOME_COLUMNS",
    "attempt_of",
    "outcome_of",
    "outcome_values",
    "raw_without",
    "stamp",
    "storable",
    "usage_text",
]

OUTCOME_COLUMNS = (
    "row_key, fingerprint, status, response, error_type, error, thread_id, run_id, model, prompt_tokens, "
    "completion_tokens, total_tokens, cached_tokens, reasoning_tokens, raw_usage, cost_usd, attempts, "
    "duration_s, completed_at, extras"
)
INSERT_FIRST_OUTCOME = f"INSERT INTO outcomes ({OUTCOME_COLUMNS}, own_ids) VALUES ({', '.join('?' * 21)})"
INSERT_OUTCOME = f"{INSERT_FIRST_OUTCOME} ON CONFLICT (row_key) DO NOTHING"
"""Writes nothing if the row has an outcome."""


def stamp(moment: datetime) -> str:
    """Return the moment in ISO 8601, to the millisecond."""
    return moment.isoformat(timespec="milliseconds")


def attempt_of(row: tuple[Any, ...]) -> Attempt:
    """Return the attempt with these values, in the order of the SELECT in `Histories`."""
    number, generation, key, thread_id, run_id, run_ended, unseen = row
    return Attempt(number, generation, key, thread_id, run_id, bool(run_ended), bool(unseen))


def outcome_values(outcome: Outcome, fingerprint: str, *, own_ids: bool) -> tuple[Any, ...]:
    """Return the values of an outcome for `INSERT_OUTCOME`.

    Args:
        own_ids: the ids of its last attempt are written with the outcome only.
    """
    usage = outcome.usage
    if isinstance(outcome, Completed):
        error_type, error = outcome.reason, None
    else:
        error_type, error = outcome.error_type, outcome.error
    return (
        outcome.row_key,
        fingerprint,
        outcome.status,
        storable(outcome.response),
        error_type,
        storable(error),
        outcome.thread_id,
        outcome.run_id,
        outcome.model,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        json.dumps(usage.raw) if usage.raw is not None else None,
        outcome.cost_usd,
        outcome.attempts,
        outcome.duration_s,
        stamp(outcome.completed_at),
        json.dumps(outcome.extras) if outcome.extras else None,
        1 if own_ids else None,
    )


def storable(text: str | None) -> str | None:
    """Return the text with `?` for lone surrogates, which a service can send as JSON escapes and SQLite refuses."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8") if _has_surrogate(text) else text


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def outcome_of(row: tuple[Any, ...]) -> Outcome:
    """Return the outcome with these values, in the order of `OUTCOME_COLUMNS`."""
    (row_key, _, status, response, error_type, error, thread_id, run_id, model) = row[:9]
    prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens, raw = row[9:15]
    usage = Usage(
        prompt_tokens,
        completion_tokens,
        total_tokens,
        cached_tokens,
        reasoning_tokens,
        json.loads(raw) if raw else None,
    )
    cost_usd, attempts, duration_s, completed_at, extras = row[15:]
    moment = datetime.fromisoformat(completed_at)
    if status in ("completed", "incomplete"):
        return Completed(
            row_key=row_key,
            response=response or "",
            thread_id=thread_id,
            run_id=run_id,
            model=model,
            usage=usage,
            attempts=attempts,
            duration_s=duration_s,
            completed_at=moment,
            cost_usd=cost_usd,
            status=status,
            reason=error_type,
            extras=json.loads(extras) if extras else None,
        )
    return Failed(
        row_key=row_key,
        error_type=error_type or "unknown",
        error=error or "",
        attempts=attempts,
        duration_s=duration_s,
        completed_at=moment,
        thread_id=thread_id,
        run_id=run_id,
        model=model,
        usage=usage,
        cost_usd=cost_usd,
        response=response,
        status=status,
        extras=json.loads(extras) if extras else None,
    )


def usage_text(usage: Usage | None) -> str | None:
    """Return usage as JSON, a list of the fields of `Usage`; None for none.

    >>> usage_text(Usage(6, 3, 9, raw={"prompt_tokens": 6}))
    '[6, 3, 9, null, null, {"prompt_tokens": 6}]'
    """
    if usage is None:
        return None
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return json.dumps([*counts, usage.cached_tokens, usage.reasoning_tokens, usage.raw])


def _raw_runs(raw: JsonObject | None) -> Iterator[JsonObject]:
    """Yield the usage objects that `token_usage.sum_usage` combined."""
    if raw is not None and isinstance(raw.get("runs"), list):
        for run in raw["runs"]:
            yield from _raw_runs(run if isinstance(run, dict) else None)
    elif raw is not None:
        yield raw


def _unnamed(run: JsonObject) -> JsonObject:
    return {name: value for name, value in run.items() if name != MODEL_OF_RUN}


def raw_without(raw: str | None, carried: Usage) -> str | None:
    """Remove `carried`'s usage objects from those of an outcome; return None if nothing remains.

    Args:
        raw: JSON of the outcome's usage objects, None if it has none.
    """
    gone, left = [_unnamed(run) for run in _raw_runs(carried.raw)], []
    for run in _raw_runs(json.loads(raw) if raw else None):
        if (unnamed := _unnamed(run)) in gone:
            gone.remove(unnamed)
        else:
            left.append(run)
    return json.dumps(left[0] if len(left) == 1 else {"runs": left}) if left else None
