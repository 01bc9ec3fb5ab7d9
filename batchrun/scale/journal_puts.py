"""How a leader puts the journal of its batch into the store of the output: see `batchrun.scale.stored_journal`."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from batchrun.errors import OutputError, OutputHeld
from batchrun.journal import Journal
from batchrun.scale.journal_copies import MAX_COPY_AGE_S
from batchrun.scale.stored_journal import STORED, StoredJournal, write_copies

__all__ = ["JournalPuts"]

GROUP_S = 2.0
"""Seconds for which copies are collected before they are put together, so that a long batch has fewer objects."""
RETRY_S = 15.0
"""Seconds between two attempts to put an object."""
WHOLE_AFTER = 2_000
"""Objects after which the whole journal is put again: a long batch has no more of them to restore."""
LOOK_S: Final = 10.0
"""Seconds between two looks whether another leader has begun the batch."""


class JournalPuts:
    """Puts the copies that a leader gathers, in their order.

    Mutable state: `_generation`, of this leader, and `_first`, the number of the batch's first one, both set by
    `begin`; `_fresh`, until then; `_number`, of the last object; `_waiting`, copies and announcements that are in no
    object, with what is set when they are put; `_new`, set when there is one, and `_urgent`, when it cannot
    wait; `_announces`, whether there was an announcement.
    """

    def __init__(
        self,
        store: StoredJournal,
        journal: Journal,
        folder: Path,
        notify: Callable[[str], None],
        *,
        fresh: bool = False,
    ) -> None:
        """
        Args:
            journal: of the batch. A copy is gathered into it before it is put.
            folder: for temporary files.
            notify: shows a line when the store refuses, and when it is back.
            fresh: the batch starts over, whatever the store has.
        """
        self._store, self._journal, self._folder, self._notify = store, journal, folder, notify
        self._fresh = fresh
        self._generation = ""
        self._first = self._number = 0
        self._waiting: list[tuple[bytes, anyio.Event]] = []
        self._new, self._urgent = anyio.Event(), anyio.Event()
        self._announces = False

    async def begin(self) -> None:
        """Put a whole copy of the journal, and delete the generations of the batch that it continues.

        Raises:
            OutputHeld: another leader has begun since this one took up the journal there: to connect to Ray takes long.
            OutputError: the store refuses.
        """
        earlier = await to_thread.run_sync(self._store.generations)
        newest = None if self._fresh else await to_thread.run_sync(self._store.newest)
        stored = self._journal.read_manifest().get(STORED, {})
        if newest is not None and newest[0] not in (stored.get("generation"), stored.get("next")):
            raise OutputHeld(f"{self._store.shown}: this batch was begun elsewhere meanwhile; it continues there")
        number = _number_of(earlier[-1]) + 1 if earlier else 1
        self._generation = f"{number:06}-{secrets.token_hex(4)}"
        before = {"first": number, **stored}
        # If this process dies after the copy is put, the next one has to know that it is its own.
        self._journal.write_manifest({STORED: {**before, "next": self._generation}})
        await to_thread.run_sync(self._journal.checkpoint)  # also after a power cut
        await to_thread.run_sync(self._store.put_whole, self._generation, self._journal.path, self._folder)
        if reason := await self.begun_elsewhere():  # both have put a copy; from now on each one sees that of the other
            raise OutputHeld(reason)
        await self._count_others({stored.get("generation"): stored.get("number", 0)}, earlier)
        self._first, self._number, self._fresh = before["first"], 0, False
        self._note()
        try:
            for generation in earlier:
                if _number_of(generation) >= self._first:  # the others are of batches that --fresh has ended
                    await to_thread.run_sync(self._store.delete, generation)
        except OutputError as exc:
            self._notify(f"{exc}; earlier copies of the journal stay there, and only the last one is used")

    async def _count_others(self, continued: dict[str | None, int], earlier: list[str]) -> None:
        """Count what another leader of the batch may spend that has not noticed yet that it was continued here. It
        announces no more: it would see the generation of this one.

        Args:
            continued: the generation that the journal belongs to → the last of its objects that the journal contains.
            earlier: the generations before this one began.
        """
        ceilings_usd = [
            await to_thread.run_sync(self._store.ceiling_usd, generation, continued.get(generation, 0))
            for generation in await to_thread.run_sync(self._store.generations)
            if generation != self._generation and (generation in continued or generation not in earlier)
        ]
        if ceiling_usd := max(ceilings_usd, default=0.0):
            self._journal.spending.begin_run(ceiling_usd)
            if notice := self._journal.spending.unaccounted_notice():
                self._notify(notice)

    def _note(self) -> None:
        stored = {"first": self._first, "generation": self._generation, "number": self._number}
        self._journal.write_manifest({STORED: stored})

    async def put(self, content: bytes, *, at_once: bool = False) -> None:
        """Return when a copy, which is gathered, or an announcement is in the store.

        Args:
            at_once: no other copies are waited for.
        """
        is_put = anyio.Event()
        self._waiting.append((content, is_put))
        self._new.set()
        if at_once:
            self._urgent.set()
        await is_put.wait()

    async def announce(self, announcement: str) -> None:
        """Return when an announcement is in the store, and no other leader can have begun without it. If one has begun,
        wait until this is cancelled."""
        self._announces = True
        await self.put(announcement.encode(), at_once=True)
        await self._until_taken(self._look)

    async def _look(self) -> None:
        if await self._is_continued():
            await anyio.sleep_forever()

    async def keep(self) -> None:
        """Put what comes. Runs until it is cancelled.

        Raises:
            OutputHeld: as `begin`.
            OutputError: a file of this machine cannot be written.
        """
        while True:
            await self._new.wait()
            with anyio.move_on_after(GROUP_S):
                await self._urgent.wait()
            if self._number >= WHOLE_AFTER:
                await self._until_taken(self.begin)  # that has also what waits, and how far that is gathered
            self._new, self._urgent = anyio.Event(), anyio.Event()
            group, self._waiting = self._waiting, []
            self._number += 1
            self._note()  # before the object is there: no later run may gather it a second time
            file = self._folder / "copies"
            try:
                write_copies((content for content, _ in group), file)
                await self._until_taken(
                    partial(
                        to_thread.run_sync,
                        self._store.put,
                        self._generation,
                        self._number,
                        file,
                        abandon_on_cancel=True,
                    )
                )
            finally:
                file.unlink(missing_ok=True)
            for _, is_put in group:
                is_put.set()

    async def _until_taken(self, put: Callable[[], Awaitable[object]]) -> None:
        is_refused = False
        while True:
            try:
                await put()
            except OutputError as exc:
                if not is_refused:
                    or_money = ", or the money of --budget that was announced there is used" if self._announces else ""
                    self._notify(
                        f"{exc}; no rows are sent once the last copy there is {MAX_COPY_AGE_S:.0f} s old{or_money}"
                    )
                is_refused = True
                await anyio.sleep(RETRY_S)
            else:
                break
        if is_refused:
            self._notify(f"{self._store.shown}: can be written again")

    async def watch(self, stop: Callable[[str], None]) -> None:
        """Call `stop` with the reason if another leader begins the batch. Runs until it is cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            reason = await self.begun_elsewhere()
            if reason is not None:
                stop(reason)
                return

    async def begun_elsewhere(self) -> str | None:
        """Return that another leader has begun the batch since, in words; None if there is no sign of it."""
        with suppress(OutputError):  # putting the next object reports it
            if await self._is_continued():
                return f"{self._store.shown}: this batch was begun elsewhere since; it continues there, and stops here"
        return None

    async def _is_continued(self) -> bool:
        """Return whether another leader has begun since.

        Raises:
            OutputError: the store cannot be asked.
        """
        generations = await to_thread.run_sync(self._store.generations, abandon_on_cancel=True)
        return bool(generations) and generations[-1] > self._generation


def _number_of(generation: str) -> int:
    return int(generation.partition("-")[0])
