"""Plain rows of a pass: rows that need one request and nothing else are asked, and their answers taken, by the hundred.

They have no task, lease or dialogue of their own, and their writes share statements. Whatever is not plain about a row,
such as a fault or an answer that is cut off, is left to `RowRun`, which meets it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeAlias

import anyio
import anyio.lowlevel

from batchrun.engine.attempts import first_attempt
from batchrun.engine.dialogue import Dialogue
from batchrun.engine.ended_rows import EndedRow, EndedRows
from batchrun.engine.pass_limits import ROWS_AT_ONCE
from batchrun.engine.row_context import RowContext, RowTask, RowWork, completed_row
from batchrun.errors import Deferred
from batchrun.records import Attempt, Exchange

__all__ = ["PassWork", "PlainRows"]

_Ids: TypeAlias = tuple[str | None, str | None]


class _Unfinished(Exception):
    """The run has not ended: it has to be waited for."""


class PlainRows:
    """The plain rows of the passes of one batch.

    Its service defers every request, and waits for nothing when it does so or when it has the reply.
    """

    def __init__(self, context: RowContext, ended: EndedRows) -> None:
        self._context = context
        self._ended = ended
        settings = context.dialogue_settings
        self._has_any = not settings.recorded and settings.check is None and settings.fallback_model is None

    async def left(self, items: Sequence[RowWork], *, asks: bool = True) -> list[RowWork]:
        """Ask the plain rows among the items, or take their answers; return the other items, in order.

        Args:
            asks: False: only take answers.
        """
        if not self._has_any:
            return [*items]
        tasks = [each for each in items if isinstance(each, RowTask) and _is_plain(each) and (asks or each.is_deferred)]
        if not tasks:
            return [*items]
        journal = self._context.journal
        repeated = journal.deferred_rows.ended([task.prompt.row_key for task in tasks if task.is_deferred])
        done = set()
        with journal.service_batches.looked_up(task.last.run_id for task in tasks if task.last is not None):
            for task in tasks:
                row_key = task.prompt.row_key
                if row_key not in repeated and await (self._take(task) if task.is_deferred else self._ask(task)):
                    done.add(row_key)
        return [item for item in items if not (isinstance(item, RowTask) and item.prompt.row_key in done)]

    async def _ask(self, task: RowTask) -> bool:
        """Record the request of a row; return False if something is in its way."""
        prompt, context = task.prompt, self._context
        attempt = first_attempt(context.batch_id, prompt.row_key)
        ids: list[_Ids] = []

        def on_ids(thread_id: str | None, run_id: str | None, *, with_reply: bool = False) -> None:  # noqa: ARG001
            ids.append((thread_id, run_id))

        try:
            await context.service.answer(_exchange(task), attempt, on_ids)
        except Deferred:
            thread_id, run_id = ids[-1]
        except Exception:  # noqa: BLE001 - `RowRun` meets it again, and deals with it
            return False
        else:
            raise AssertionError("a service that defers requests has answered one")
        begun = Attempt(attempt.number, attempt.generation, attempt.key, thread_id, run_id)
        context.journal.begin_attempt(prompt, begun, context.clock())
        context.tally.deferred += 1
        return True

    async def _take(self, task: RowTask) -> bool:
        """Record the answer of a row; return False if its reply is anything else."""
        attempt, context = task.last, self._context
        assert attempt is not None
        ids: list[_Ids] = []

        def on_ids(thread_id: str | None, run_id: str | None, *, with_reply: bool = False) -> None:
            if not with_reply:
                raise _Unfinished
            ids.append((thread_id, run_id))

        try:
            reply = await context.service.follow(_exchange(task), attempt, on_ids)
        except Deferred:
            context.tally.continue_deferred()
            context.tally.deferred += 1
            return True
        except Exception:  # noqa: BLE001 - `RowRun` meets it again, and deals with it
            return False
        if reply.status != "completed" or reply.calls or not ids:
            return False
        outcome = completed_row(
            context,
            task.prompt,
            reply,
            reply.usage,
            attempts=attempt.number,
            elapsed_s=task.waited_s,
            ids=ids[-1],
            extras=reply.extras,
        )
        context.tally.continue_deferred()
        context.journal.finish(outcome, task.prompt.fingerprint, with_ids=True, is_first=True)
        self._ended.add(EndedRow(outcome, "service"))
        return True


def _is_plain(task: RowTask) -> bool:
    prompt = task.prompt
    return (
        (task.last is None or task.is_deferred)
        and prompt.later is None
        and prompt.thread_id is None
        and not prompt.first.attachments
        and not task.ends
        and not task.spent
        and task.first_end is None
        and task.redo_from_turn is None
    )


def _exchange(task: RowTask) -> Exchange:
    exchange = Dialogue(task.prompt).next()
    assert exchange is not None
    return exchange


class PassWork:
    """The work of one pass, shared by several tasks: what is not plain, in order.

    Mutable state: `_left`, items that were read and not taken.
    """

    def __init__(
        self, work: Iterator[RowWork], plain: PlainRows | None, *, asks: Callable[[], bool], stopped: anyio.Event
    ) -> None:
        """
        Args:
            plain: asks the plain rows and takes their answers; None if there are none.
            asks: returns whether rows may be asked.
            stopped: set when the pass ends, whatever is left.
        """
        self._work = work
        self._plain = plain
        self._asks = asks
        self._stopped = stopped
        self._left: deque[RowWork] = deque()

    async def next(self) -> RowWork | None:
        """Return the next item; None if there is none, or after a stop."""
        while not self._stopped.is_set():
            if self._left:
                return self._left.popleft()
            items = list(islice(self._work, ROWS_AT_ONCE))
            if not items:
                break
            self._left.extend(items if self._plain is None else await self._plain.left(items, asks=self._asks()))
            await anyio.lowlevel.checkpoint()  # rows that never wait must not block the event loop
        return None
