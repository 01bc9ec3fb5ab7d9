"""Rows, prompts and outcomes for tests."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchrun.journal import Journal
from batchrun.prompts.templates import Prompter, prompter_for
from batchrun.records import OUTPUT_COLUMNS, Attempt, Completed, Exchange, Failed, Outcome, Prompt, Turn
from batchrun.token_usage import Usage

__all__ = [
    "NOON",
    "attempt",
    "completed",
    "exchange",
    "failed",
    "none_strange",
    "noon",
    "numbered_answers",
    "outcome_cells",
    "prompt",
    "prompter",
    "read_csv",
    "write_csv",
]

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def none_strange(journal: Journal) -> int:
    """Return 0: no row has another prompt than in the journal."""
    return 0


def noon() -> datetime:
    """Return the same time always."""
    return NOON


def prompt(row: int = 0, text: str = "What is 2 + 2?", fingerprint: str | None = None) -> Prompt:
    return Prompt(str(row), row, Turn(text), fingerprint if fingerprint is not None else f"fp-{text}")


def exchange(row: int = 0, text: str = "What is 2 + 2?", **fields: Any) -> Exchange:
    return Exchange(str(row), Turn(text), **fields)


def prompter(templates: Sequence[str], columns: Sequence[str], key: str | None = None, **settings: Any) -> Prompter:
    turns = {"prompt": templates[0]} if len(templates) == 1 else {"turns": [{"prompt": each} for each in templates]}
    return prompter_for({**turns, **settings}, columns, key)


def attempt(number: int = 1, generation: int = 1, key: str = "key-1", **ids: Any) -> Attempt:
    return Attempt(number, generation, key, **ids)


def completed(row: int = 0, response: str = "4", **fields: Any) -> Completed:
    return Completed(
        **{
            "row_key": str(row),
            "response": response,
            "thread_id": "thread_1",
            "run_id": "run_1",
            "model": "m",
            "usage": Usage(3, 1, 4, 0, 0, {"prompt_tokens": 3}),
            "attempts": 1,
            "duration_s": 0.5,
            "completed_at": NOON,
            **fields,
        }
    )


def failed(row: int = 0, **fields: Any) -> Failed:
    return Failed(
        **{
            "row_key": str(row),
            "error_type": "server_error",
            "error": "it broke",
            "attempts": 5,
            "duration_s": 2.5,
            "completed_at": NOON,
            **fields,
        }
    )


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file as mappings from column to cell."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write rows of the same columns; return `path`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def numbered_answers(count: int) -> Iterator[dict[str, Any]]:
    """Yield the cells of `answer 0`, `answer 1` and so on; all other cells are empty."""
    for number in range(count):
        yield {**dict.fromkeys(OUTPUT_COLUMNS), "response": f"answer {number}"}


def outcome_cells(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as cells of the output table: exactly the keys of `OUTPUT_COLUMNS`, in order."""
    usage = outcome.usage
    return {
        "response": outcome.response,
        "status": outcome.status,
        "error_type": outcome.reason if isinstance(outcome, Completed) else outcome.error_type,
        "error": None if isinstance(outcome, Completed) else outcome.error,
        "thread_id": outcome.thread_id,
        "run_id": outcome.run_id,
        "model": outcome.model,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_usd": outcome.cost_usd,
        "attempts": outcome.attempts,
        "duration_s": outcome.duration_s,
        "completed_at": outcome.completed_at.isoformat(timespec="milliseconds"),
    }
