"""The journal of a batch in the store of its output: from there the batch continues if the leader's disk is lost.

It is in the folder `answers.csv.journal`, of an output that is a folder in `_journal`. Each run of a leader has a
generation, a folder such as `000002-5f0c9a1e`, with a whole copy of the batch's journal in `00000000`; then
`00000001`, `00000002`, … have copies of the journals of shards, as `batchrun.scale.journal_copies` makes them, in the
order in which they were gathered, and announcements of `batchrun.journal.spending` between them. An object is put
whole or not at all, and none is ever changed.

The entry `stored` of the batch's journal says which generation, and which of its objects, that journal contains.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from batchrun.errors import JournalMismatch, OutputError
from batchrun.journal import Journal
from batchrun.journal.database import has_shards
from batchrun.journal.shard_rows import delete_journal, forget_gathered, gather, whole_copy
from batchrun.scale.journal_copies import write_copy
from batchrun.tables.place import asking, opened
from batchrun.tables.target import OutputPlace, put_object
from batchrun.wording import rows_text

__all__ = ["STORED", "StoredJournal", "refuse_without_ray", "take_up", "write_copies"]

STORED: Final = "stored"
"""The entry of the batch's manifest: `generation`, the one that the journal belongs to; `number`, of its last object
that the journal contains; `first`, the number of the batch's first generation; and, while a run begins, `next`."""
_GENERATION: Final = re.compile(r"[0-9]{6}-[0-9a-f]{8}")
_OBJECT: Final = re.compile(r"[0-9]{8}")
_LENGTH_SIZE: Final = 8
_ANNOUNCEMENT: Final = b"{"
"""How an announcement begins. A copy, which is compressed, never begins so."""
_READ_AT_ONCE: Final = 16
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredJournal:
    """The folder in the store. Its methods wait for the store: call them from a thread.

    Attributes:
        system: a `pyarrow.fs.FileSystem`.
        path: of the folder in it.
        shown: the URL of the folder, for messages.
    """

    system: Any
    path: str
    shown: str

    @classmethod
    def of(cls, target: OutputPlace) -> Self:
        """Return that of an output. Nothing is read or written.

        Raises:
            OutputError: the URL cannot be used.
        """
        ending = "/_journal" if target.is_folder else ".journal"
        with asking(target.shown, "written"):
            system, path = opened(target.address)
        return cls(system, path.rstrip("/") + ending, target.shown.rstrip("/") + ending)

    def generations(self) -> list[str]:
        """Return the names of the generations, oldest first.

        Raises:
            OutputError: the store cannot be asked.
        """
        return self._names("", _GENERATION)

    def newest(self) -> tuple[str, list[int]] | None:
        """Return the youngest generation that is a journal, and the numbers of its objects; None if there is none.

        The youngest one with objects is whole: a generation is deleted when the next one is there. One without objects
        was never put.

        Raises:
            OutputError: the store cannot be asked, or an object is missing.
        """
        generations = self.generations()
        damaged = None
        for generation in reversed(generations):
            numbers = [int(name) for name in self._names(f"/{generation}", _OBJECT)]
            if numbers and numbers == list(range(len(numbers))):
                return generation, numbers
            if numbers:
                damaged = generation
                break
        if self.generations() != generations:
            return self.newest()  # another leader begins at this moment
        if damaged is not None:
            raise OutputError(
                f"{self.shown}/{damaged}: objects of this journal are missing; restore them, or start over with --fresh"
            )
        return None

    def put(self, generation: str, number: int, file: Path) -> None:
        """Put a file as an object, whole or not at all.

        Raises:
            OutputError: it cannot be put.
        """
        with asking(self.shown, "written"):
            put_object(self.system, self._object(generation, number), file)

    def put_whole(self, generation: str, journal: Path, folder: Path) -> None:
        """Put the whole journal of the batch: its generation begins.

        Args:
            folder: for temporary files.

        Raises:
            OutputError: it cannot be read, copied or put.
        """
        copy, packed = folder / "whole", folder / "whole.gz"
        try:
            whole_copy(journal, copy)
            with copy.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
            self.put(generation, 0, packed)
        except OSError as exc:
            raise OutputError(f"{copy}: the copy of the journal cannot be written ({exc.strerror or exc})") from exc
        finally:
            for path in (copy, packed):
                path.unlink(missing_ok=True)

    def delete(self, generation: str) -> None:
        """Delete a generation.

        Raises:
            OutputError: it cannot be deleted.
        """
        with asking(self.shown, "written"):
            self.system.delete_dir(f"{self.path}/{generation}")

    def restore(self, generation: str, numbers: Sequence[int], path: Path) -> int:
        """Make the journal of the batch from a generation; return the number of rows that have ended.

        Raises:
            InputError, OutputError: an object cannot be read or is damaged, or the journal cannot be written. No file
                is left at `path`.
        """
        new, packed = path.with_name(f"{path.name}.restored"), path.with_name(f"{path.name}.restored.gz")
        delete_journal(new)
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(generation, 0, packed)
            with gzip.open(packed) as source, new.open("xb") as target:
                new.chmod(0o600)
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
            with Journal(new) as main:
                if (stored := main.read_manifest().get(STORED)) is None:
                    raise OutputError(f"{self.shown}/{generation}: is not a journal that a batch on Ray has put there")
                if len(numbers) == 1 and "generation" in stored:  # the leader ended before it had announced anything
                    main.spending.begin_run(self.ceiling_usd(stored["generation"], stored["number"]))
                main.write_manifest({STORED: {**stored, "number": 0, "generation": generation}})
                self.gather(main, numbers[1:])
                forget_gathered(main)  # of shards that are not continued
                ended = main.counts().ended
                if not main.settle():
                    raise OutputError(f"{new}: another process reads this journal; end it")
            new.rename(path)
        except (OSError, EOFError, zlib.error) as exc:
            raise OutputError(f"{new}: the journal at {self.shown} cannot be restored ({exc})") from exc
        finally:
            packed.unlink(missing_ok=True)
        return ended

    def gather(self, main: Journal, numbers: Sequence[int]) -> None:
        """Copy what objects of the generation of a journal contain into that journal.

        Raises:
            InputError, OutputError: an object cannot be read or is damaged, or the journal cannot be written.
        """
        stored = main.read_manifest()[STORED]
        path = main.path.with_name(f"{main.path.name}.gathered")
        try:
            for number, packed in self._contents(stored["generation"], numbers):
                for content in _contents_of(packed):
                    if content.startswith(_ANNOUNCEMENT):
                        main.spending.announce(content.decode())
                        continue
                    write_copy(content, path)
                    Journal(path).close()  # an earlier version of batchrun may have made it
                    gather(main, path, whole=True)
                main.write_manifest({STORED: {**stored, "number": number}})
        except (OSError, EOFError, ValueError, zlib.error) as exc:
            raise OutputError(f"{self.shown}/{stored['generation']}: cannot be used ({exc})") from exc
        finally:
            delete_journal(path)

    def ceiling_usd(self, generation: str, after: int) -> float:
        """Return the highest ceiling that is announced in the objects of a generation after one of them; 0 if none is.

        Raises:
            InputError, OutputError: an object cannot be read or is damaged.
        """
        numbers = [int(name) for name in self._names(f"/{generation}", _OBJECT) if int(name) > after]
        highest_usd = 0.0
        try:
            for _, packed in self._contents(generation, numbers):
                for content in _contents_of(packed):
                    if content.startswith(_ANNOUNCEMENT):
                        highest_usd = max(highest_usd, json.loads(content).get("ceiling_usd", 0.0))
        except (EOFError, ValueError) as exc:
            raise OutputError(f"{self.shown}/{generation}: cannot be used ({exc})") from exc
        return highest_usd

    def _contents(self, generation: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield the objects in order; some are read at once, since a store needs long for one."""

        def read(number: int) -> bytes:
            with asking(self.shown), self._stream(generation, number) as file:
                return bytes(file.read())

        with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
            for begin in range(0, len(numbers), _READ_AT_ONCE):
                chunk = numbers[begin : begin + _READ_AT_ONCE]
                yield from zip(chunk, threads.map(read, chunk), strict=True)

    def _fetch(self, generation: str, number: int, file: Path) -> None:
        with file.open("wb") as target, asking(self.shown), self._stream(generation, number) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                target.write(chunk)

    def _stream(self, generation: str, number: int) -> Any:
        return self.system.open_input_stream(self._object(generation, number), compression=None)

    def _object(self, generation: str, number: int) -> str:
        return f"{self.path}/{generation}/{number:08}"

    def _names(self, folder: str, form: re.Pattern[str]) -> list[str]:
        from pyarrow import fs

        with asking(self.shown, "written"):
            found = self.system.get_file_info(fs.FileSelector(self.path + folder, allow_not_found=True))
        return sorted(each.base_name for each in found if form.fullmatch(each.base_name))


def take_up(store: StoredJournal, path: Path, notify: Callable[[str], None]) -> None:
    """Bring the journal at `path` up to date with the one in the store, if a leader on another disk left one there.

    The caller has the lock of the batch, and has not gathered what workers have left.

    Args:
        notify: shows a line if the batch continues with what the store has.

    Raises:
        JournalMismatch: the batch was continued elsewhere.
        InputError, OutputError: the store or the journal cannot be used.
    """
    newest = store.newest()
    if newest is None:
        return
    generation, numbers = newest
    if not path.exists() or not path.stat().st_size:
        _refuse_parts(store, path)
        ended = store.restore(generation, numbers, path)
        notify(
            f"continues with the journal at {store.shown}: {rows_text(ended)} {'has' if ended == 1 else 'have'} ended"
        )
        return
    with Journal(path) as main:
        stored = main.read_manifest().get(STORED) or {}
        if generation not in (stored.get("generation"), stored.get("next")):
            names = f"{path.name} and {path.name}.d" if has_shards(path) else path.name
            raise JournalMismatch(
                f"{path}: this batch was continued elsewhere, with the journal at {store.shown}, or --fresh ended "
                f"before its first row; move {names} away, and the same command continues with that one; or start "
                "over with --fresh"
            )
        left = numbers[stored["number"] + 1 :] if generation == stored.get("generation") else []
        if left:
            before = main.counts().ended
            store.gather(main, left)
            notify(f"took {rows_text(main.counts().ended - before)} that ended from the journal at {store.shown}")


def _refuse_parts(store: StoredJournal, path: Path) -> None:
    """Refuse to restore a journal beside what a lost one has left: SQLite would take the log of another file for its
    own, and the answers of shards would replace later ones.

    Raises:
        OutputError: something is there.
    """
    log = path.with_name(f"{path.name}-wal")
    parts = [log.name] if log.exists() and log.stat().st_size else []
    if has_shards(path):
        parts.append(f"{path.name}.d")
    if parts:
        raise OutputError(
            f"{path}: is gone, but not {' and '.join(parts)}; put the journal back, or move the rest away too, and the "
            f"same command continues with the journal at {store.shown}"
        )


def refuse_without_ray(target: OutputPlace) -> None:
    """Refuse a batch that would not keep the journal up to date that a batch on Ray has put beside the output.

    Raises:
        JournalMismatch: there is one.
        OutputError: the store cannot be asked.
    """
    store = StoredJournal.of(target)
    if store.generations():
        raise JournalMismatch(
            f"{store.shown}: a batch on Ray has put its journal there; continue it with --ray (`--ray local` needs "
            "this machine only), name another output (--output), or delete that folder"
        )


def write_copies(contents: Iterable[bytes], file: Path) -> None:
    """Write copies of journals of shards, and announcements, for an object.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with file.open("wb") as target:
            for content in contents:
                target.write(len(content).to_bytes(_LENGTH_SIZE, "big") + content)
    except OSError as exc:
        raise OutputError(f"{file}: cannot write a copy of journals ({exc.strerror or exc})") from exc


def _contents_of(packed: bytes) -> Iterator[bytes]:
    """Yield the copies and announcements in an object of `write_copies`."""
    begin = 0
    while begin < len(packed):
        end = begin + _LENGTH_SIZE + int.from_bytes(packed[begin : begin + _LENGTH_SIZE], "big")
        if end > len(packed):
            raise EOFError("an object is cut off")
        yield packed[begin + _LENGTH_SIZE : end]
        begin = end
