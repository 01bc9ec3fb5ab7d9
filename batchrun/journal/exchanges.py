"""The runs that ended, of rows that need more than one: a batch that goes on neither asks nor pays for them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from batchrun.journal.part import JournalPart
from batchrun.journal.row_records import storable
from batchrun.records import CallKey, Reply, RunEnd, ToolCall, ToolOutput, Usage

__all__ = ["Exchanges"]

_COLUMNS = (
    "number, turn, attempt, asked, status, response, reason, thread_id, run_id, model, prompt_tokens, "
    "completion_tokens, total_tokens, cached_tokens, reasoning_tokens, raw_usage, extras, calls, said"
)


class Exchanges(JournalPart):
    """The tables `exchanges` and `outputs`."""

    def add(self, row_key: str, fingerprint: str, end: RunEnd) -> None:
        """A run ended."""
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

    def of_row(self, row_key: str, fingerprint: str) -> list[RunEnd]:
        """The runs that ended of the prompt with this fingerprint, oldest first."""
        rows = self._read(
            f"SELECT {_COLUMNS} FROM exchanges WHERE row_key = ? AND fingerprint = ? ORDER BY number",
            (row_key, fingerprint),
        )
        return [_end(row) for row in rows]

    def answers(self, row_key: str, fingerprint: str, attempts: int) -> dict[int, str]:
        """Turn → its answer, the last one where it was corrected.

        Args:
            attempts: tries that count; later ones belong to an outcome that is still to come.
        """
        return dict(
            self._read(
                "SELECT turn, response FROM exchanges WHERE row_key = ? AND fingerprint = ? AND attempt <= ? "
                "AND calls IS NULL ORDER BY number",
                (row_key, fingerprint, attempts),
            )
        )

    def add_output(self, row_key: str, fingerprint: str, turn: int, key: CallKey, output: ToolOutput) -> None:
        """A function returned."""
        self._write(
            "INSERT OR REPLACE INTO outputs (row_key, fingerprint, turn, run, position, call_id, output, failed) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (row_key, fingerprint, turn, key.run, key.position, key.call_id, storable(output.text), output.failed),
        )

    def outputs_of_row(self, row_key: str, fingerprint: str, before: int | None = None) -> dict[CallKey, ToolOutput]:
        """What functions returned for the prompt with this fingerprint.

        Args:
            before: the turn before which this is asked for; None for all turns.
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

    def set_aside(self, row_key: str, fingerprint: str, turn: int, attempt: int) -> None:
        """The turns from this one on are asked anew, by this try. What came of them is kept aside."""
        for table in ("exchanges", "outputs"):
            self._write(
                f"UPDATE {table} SET fingerprint = ? WHERE row_key = ? AND fingerprint = ? AND turn >= ?",
                (f"{fingerprint}/{attempt}", row_key, fingerprint, turn),
            )


def _json(value: Mapping[str, Any] | list[Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _end(row: tuple[Any, ...]) -> RunEnd:
    number, turn, attempt, asked, status, response, reason, thread_id, run_id, model = row[:10]
    read, written, total, cached, reasoning, raw, extras, calls, said = row[10:]
    reply = Reply(
        status,
        response,
        Usage(read, written, total, cached, reasoning, json.loads(raw) if raw else None),
        model,
        reason,
        calls=tuple(ToolCall(*call) for call in json.loads(calls or "[]")),
        extras=json.loads(extras) if extras else None,
    )
    return RunEnd(number, turn, attempt, asked, reply, thread_id, run_id, tuple(json.loads(said or "[]")))
