"""The finished runs of rows that need more than one, so that a resumed batch does not pay for them again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from batchrun.journal.part import JournalPart
from batchrun.journal.row_records import storable
from batchrun.records import CallKey, JsonObject, Reply, RunEnd, ToolCall, ToolOutput
from batchrun.token_usage import Usage

__all__ = ["FALLBACK", "Exchanges"]

_COLUMNS = (
    "number, turn, attempt, asked, status, response, reason, thread_id, run_id, model, prompt_tokens, "
    "completion_tokens, total_tokens, cached_tokens, reasoning_tokens, raw_usage, extras, calls, said"
)

FALLBACK = "/fallback"
"""Marks the fingerprint of the end of the runs with the first model."""


class Exchanges(JournalPart):
    """The tables `exchanges` and `outputs`."""

    def add(self, row_key: str, fingerprint: str, end: RunEnd) -> None:
        """Record a run that ended."""
        reply, usage = end.reply, end.reply.usage
        calls = [[call.call_id, call.name, call.arguments] for call in reply.calls]
        self._write(
            f"INSERT OR REPLACE INTO exchanges (row_key, fingerprint, {_COLUMNS}) VALUES ({', '.join('?' * 21)})",
            (
                row_key,
                fingerprint,
                end.number,
                end.turn,
                end.attempt,
                storable(end.asked),
                reply.status,
                storable(reply.response),
                reply.reason,
                end.thread_id,
                end.run_id,
                reply.model,
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.total_tokens,
                usage.cached_tokens,
                usage.reasoning_tokens,
                _json(usage.raw),
                _json(reply.extras),
                _json(calls or None),
                _json(list(end.history) or None),
            ),
        )

    def replace(self, row_key: str, fingerprint: str, ends: Sequence[RunEnd], mark: str) -> None:
        """Record the runs of a row, and set those that the journal has aside.

        Args:
            mark: distinguishes runs that are set aside from those that were before.
        """
        self._write(
            "UPDATE exchanges SET fingerprint = ? WHERE row_key = ? AND fingerprint = ?",
            (f"{fingerprint}/{mark}", row_key, fingerprint),
        )
        for end in ends:
            self.add(row_key, fingerprint, end)

    def of_row(self, row_key: str, fingerprint: str) -> list[RunEnd]:
        """Return the finished runs of the prompt with this fingerprint, oldest first."""
        rows = self._read(
            f"SELECT {_COLUMNS} FROM exchanges WHERE row_key = ? AND fingerprint = ? ORDER BY number",
            (row_key, fingerprint),
        )
        return [_end(row) for row in rows]

    def answers(self, row_key: str, fingerprint: str, attempts: int) -> dict[int, str]:
        """Return turn → its answer; the last one if it was corrected.

        Args:
            attempts: number of attempts that count; later ones belong to a later outcome.
        """
        return dict(
            self._read(
                "SELECT turn, response FROM exchanges WHERE row_key = ? AND fingerprint = ? AND attempt <= ? "
                "AND calls IS NULL ORDER BY number",
                (row_key, fingerprint, attempts),
            )
        )

    def add_output(self, row_key: str, fingerprint: str, turn: int, key: CallKey, output: ToolOutput) -> None:
        """Record the output of a function."""
        self._write(
            "INSERT OR REPLACE INTO outputs (row_key, fingerprint, turn, run, position, call_id, output, failed) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (row_key, fingerprint, turn, key.run, key.position, key.call_id, storable(output.text), output.failed),
        )

    def outputs_of_row(self, row_key: str, fingerprint: str, before: int | None = None) -> dict[CallKey, ToolOutput]:
        """Return the outputs of functions for the prompt with this fingerprint.

        Args:
            before: only turns before this one; None for all turns.
        """
        rows = self._read(
            "SELECT run, position, call_id, output, failed FROM outputs WHERE row_key = ? AND fingerprint = ? "
            "AND turn < coalesce(?, turn + 1)",
            (row_key, fingerprint, before),
        )
        return {
            CallKey(run, position, call_id): ToolOutput(call_id, output, bool(failed))
            for run, position, call_id, output, failed in rows
        }

    def fall_back(self, row_key: str, fingerprint: str, first: RunEnd) -> None:
        """Keep the end of all runs with the first model, and set its runs and outputs aside: the fallback model begins
        with the first turn."""
        self.set_aside(row_key, fingerprint, 1, first.attempt + 1)
        self.set_first_end(row_key, fingerprint, first)

    def set_first_end(self, row_key: str, fingerprint: str, first: RunEnd) -> None:
        """Keep the end of all runs with the first model; `asked` is the model to ask next."""
        self.add(row_key, fingerprint + FALLBACK, first)

    def first_end(self, row_key: str, fingerprint: str) -> RunEnd | None:
        """Return the end of the runs with the first model; None unless the fallback model is or was asked."""
        ends = self.of_row(row_key, fingerprint + FALLBACK)
        return ends[0] if ends else None

    def begin_with_first_model(self, row_key: str, fingerprint: str, attempt: int) -> None:
        """Forget that the fallback model was asked, because `attempt` begins with the first model."""
        self._write(
            "UPDATE exchanges SET fingerprint = ? WHERE row_key = ? AND fingerprint = ?",
            (f"{fingerprint}{FALLBACK}/{attempt}", row_key, fingerprint + FALLBACK),
        )

    def has_fallbacks(self) -> bool:
        """Return whether the fallback model was asked for any row."""
        return bool(
            self._read("SELECT EXISTS (SELECT 1 FROM exchanges WHERE fingerprint LIKE ?)", (f"%{FALLBACK}",))[0][0]
        )

    def set_aside(self, row_key: str, fingerprint: str, turn: int, attempt: int) -> None:
        """Set the runs and outputs of the turns from `turn` on aside, because `attempt` runs these turns again."""
        for table in ("exchanges", "outputs"):
            self._write(
                f"UPDATE {table} SET fingerprint = ? WHERE row_key = ? AND fingerprint = ? AND turn >= ?",
                (f"{fingerprint}/{attempt}", row_key, fingerprint, turn),
            )


def _json(value: JsonObject | list[Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _end(row: tuple[Any, ...]) -> RunEnd:
    number, turn, attempt, asked, status, response, reason, thread_id, run_id, model = row[:10]
    read, written, total, cached, reasoning, raw, extras, calls, history = row[10:]
    reply = Reply(
        status,
        response,
        Usage(read, written, total, cached, reasoning, json.loads(raw) if raw else None),
        model,
        reason,
        calls=tuple(ToolCall(*call) for call in json.loads(calls or "[]")),
        extras=json.loads(extras) if extras else None,
    )
    return RunEnd(number, turn, attempt, asked, reply, thread_id, run_id, tuple(json.loads(history or "[]")))
