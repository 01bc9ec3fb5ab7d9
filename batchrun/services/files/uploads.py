"""Files at the service: each distinct content is uploaded once, however many rows name it and however often the
batch is resumed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import anyio
import anyio.to_thread

from batchrun.errors import BatchRefused, PermanentFault, ServiceFault, Silence, TransientFault, unwrapped
from batchrun.job.fingerprint import digest
from batchrun.journal import Created, Journal
from batchrun.prompts.local_files import AttachmentError, LocalFile
from batchrun.records import Attachment
from batchrun.services.polling import pages, poll
from batchrun.services.reply_fields import count, mapping, name, objects
from batchrun.services.wire import BETA, Wire

__all__ = ["Uploads", "attachment_fault", "opened"]

BATCH_SIZE = 500
"""Files that a vector store takes in one request."""
SEARCHED = "assistants"
"""The purpose of files that are searched."""
STORE = "vector_store"
"""Stands for the purpose where the journal names a vector store, under the hash of what is in it."""
AT_ONCE = 8
"""Uploads for the vector store that go at once."""
UPLOAD_TRIES = 5
"""Of one file for the vector store, in a row: among a thousand some meet a fault that passes."""
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 30.0
"""Between two tries."""
STUCK_S = 900.0
"""Without progress in taking files in: it has come to a standstill."""
EXPIRY = {"anchor": "last_active_at", "days": 7}
"""A vector store that nobody uses any more costs no more after this; a batch that needs it again makes another."""

BAD_ATTACHMENT = AttachmentError.error_type


def attachment_fault(message: str) -> PermanentFault:
    """A file that cannot go with its row."""
    return PermanentFault(message, error_type=BAD_ATTACHMENT)


@dataclass(slots=True)
class _Content:
    """What is known of one content for one purpose.

    Attributes:
        lock: held by the task that uploads it.
        file_id: once the service is known to have it.
        tries: uploads that the service did not take, and `fault`, how the last one ended.
    """

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    file_id: str | None = None
    tries: int = 0
    fault: ServiceFault | None = None


class Uploads:
    """Uploads of one batch. Safe to use from many tasks at once.

    All state: a `_Content` for each content and purpose that was asked for, and the names of the files. What outlives
    the process is in the journal.
    """

    def __init__(self, wire: Wire, journal: Journal, place: str, folder: Path) -> None:
        """
        Args:
            place: where the service is, as `batchrun.journal.place_of` names it.
            folder: where relative paths of attachments begin.
        """
        self._wire = wire
        self._journal = journal
        self._place = place
        self._folder = folder
        self._batch_id = str(journal.read_manifest().get("batch_id", ""))
        self._contents: dict[tuple[str, str], _Content] = {}
        self._names: dict[str, str] = {}

    @property
    def names(self) -> Mapping[str, str]:
        """File id → name, for what was uploaded or found again by this process."""
        return self._names

    async def file_id(self, file: LocalFile | Attachment, purpose: str) -> str:
        """The id under which the service has a file's content, uploading it where it has not.

        Tasks that ask while it is being uploaded share the upload, and its fault. A content that the service refused is
        not sent again.

        Args:
            purpose: as the service names it: `assistants`, `vision`, `user_data`.

        Raises:
            ServiceFault: the service does not take it, or not now; or the file is not what it was.
        """
        path, sha256 = self._located(file)
        purpose_key = _purpose_key(purpose, path)
        content = self._contents.setdefault((purpose_key, sha256), _Content())
        tries = content.tries
        async with content.lock:
            if content.file_id is None:
                if content.fault is not None and (content.tries > tries or _is_final(content.fault)):
                    raise _again(content.fault)
                try:
                    content.file_id = await self._obtain(path, sha256, purpose, purpose_key)
                except ServiceFault as fault:
                    # What is wrong with this file need not be with another of the same content.
                    if fault.error_type != BAD_ATTACHMENT:
                        content.tries, content.fault = content.tries + 1, fault
                    raise
                self._names[content.file_id] = path.name
        return content.file_id

    def forget(self, file_id: str) -> None:
        """The service says that it does not know this file: it will be uploaded again when it is next asked for."""
        for content in self._contents.values():
            if content.file_id == file_id:
                content.file_id = None

    def _located(self, file: LocalFile | Attachment) -> tuple[Path, str]:
        if isinstance(file, LocalFile):
            return file.path, file.sha256
        assert file.sha256 is not None
        return self._folder / file.source, file.sha256

    async def _obtain(self, path: Path, sha256: str, purpose: str, purpose_key: str) -> str:
        known = self._journal.uploads.find(self._place, purpose_key, sha256)
        if known is not None and await self._find(f"/files/{quote(known, safe='')}", {}) is not None:
            return known
        name = _safe_name(path.name)
        # Another name, or a file in place of one that is gone, must not be answered with the earlier reply.
        key = f"{self._batch_id}-file-{digest(purpose, sha256, name, known)}"
        with await anyio.to_thread.run_sync(opened, path, sha256) as file:
            before = _state(file)
            made = await self._wire.post_file("/files", {"purpose": purpose}, name, file, {"Idempotency-Key": key})
            file_id = _id_of(made)
            self._journal.created.add(Created("file", file_id, None), self._place)
            if _state(file) != before:
                raise attachment_fault(f"{path}: changed while it was uploaded; run the batch again")
        self._journal.uploads.keep(self._place, purpose_key, sha256, file_id)
        return file_id

    async def _find(self, path: str, headers: Mapping[str, str]) -> Mapping[str, Any] | None:
        """An object, None where the service does not know it (any more)."""
        try:
            found, _ = await self._wire.get(path, headers)
        except PermanentFault as fault:
            if fault.status_code == 404 and not isinstance(fault, BatchRefused):
                return None
            raise
        return found

    # -- the vector store -----------------------------------------------------------------------------

    async def vector_store(self, files: Sequence[LocalFile], *, name: str) -> str:
        """The id of a vector store with these files in it, ready to be searched.

        One that was made for the same contents before is used again while the service has it; where that was
        interrupted, it is gone on with.

        Raises:
            BatchRefused: the service could not take a file in; names it, and the service's reason.
            ServiceFault: as any other request.
        """
        contents = digest(*sorted((file.sha256, file.path.suffix.lower()) for file in files))
        known = self._journal.uploads.find(self._place, STORE, contents)
        store = None if known is None else await self._find(f"/vector_stores/{quote(known, safe='')}", BETA)
        if known is not None and store is not None and _is_ready(store, len(files)):
            self._name_from_journal(files)
            return known
        ids = await self._upload_all(files)
        inside: Mapping[str, str] = {}
        if known is not None and store is not None and store.get("status") != "expired":
            inside = await self._files_inside(known)
        if known is None or not inside or not set(inside.values()) <= {"completed", "in_progress"}:
            known, inside = await self._make_store(name, contents, known), {}
        await self._fill(known, [file_id for file_id in ids if file_id not in inside])
        return known

    def _name_from_journal(self, files: Sequence[LocalFile]) -> None:
        for file in files:
            file_id = self._journal.uploads.find(self._place, _purpose_key(SEARCHED, file.path), file.sha256)
            if file_id is not None:
                self._names[file_id] = file.path.name

    async def _upload_all(self, files: Sequence[LocalFile]) -> list[str]:
        """The files' ids, in the files' order."""
        ids: dict[LocalFile, str] = {}
        turn = anyio.Semaphore(AT_ONCE)

        async def upload(file: LocalFile) -> None:
            async with turn:
                ids[file] = await self._uploaded(file)

        with unwrapped():
            async with anyio.create_task_group() as tasks:
                for file in files:
                    tasks.start_soon(upload, file)
        return [ids[file] for file in files]

    async def _uploaded(self, file: LocalFile) -> str:
        """The file's id; a fault that may pass has it sent again, without holding up the other files."""
        tries = 0
        while True:
            try:
                return await self.file_id(file, SEARCHED)
            except TransientFault as fault:
                tries += 1
                if tries == UPLOAD_TRIES:
                    raise
                wait_s = min(MAX_WAIT_S, max(fault.retry_after_s or 0.0, FIRST_WAIT_S * 2 ** (tries - 1)))
            await anyio.sleep(wait_s)

    async def _make_store(self, name: str, contents: str, before: str | None) -> str:
        made = await self._wire.post(
            "/vector_stores",
            {"name": name, "expires_after": EXPIRY, "metadata": {"batch": self._batch_id}},
            {**BETA, "Idempotency-Key": f"{self._batch_id}-store-{digest(contents, before)}"},
        )
        store_id = _id_of(made)
        self._journal.created.add(Created("vector_store", store_id, None), self._place)
        self._journal.uploads.keep(self._place, STORE, contents, store_id)
        return store_id

    async def _files_inside(self, store_id: str) -> dict[str, str]:
        """File id → status, of all files in the store."""
        listed = pages(self._wire, f"/vector_stores/{quote(store_id, safe='')}/files", BETA)
        return {str(each.get("id")): str(each.get("status")) async for each in listed}

    async def _fill(self, store_id: str, ids: Sequence[str]) -> None:
        """Put files into the store, and wait until all that is in it can be searched."""
        store = f"/vector_stores/{quote(store_id, safe='')}"
        for start in range(0, len(ids), BATCH_SIZE):
            some = ids[start : start + BATCH_SIZE]
            key = f"{self._batch_id}-store-{digest(store_id, some)}"
            batch = await self._wire.post(f"{store}/file_batches", {"file_ids": some}, {**BETA, "Idempotency-Key": key})
            path = f"{store}/file_batches/{quote(_id_of(batch), safe='')}"
            await poll(self._wire, path, BETA, _Intake(lambda found: found.get("status") != "in_progress"))
        inside = await poll(self._wire, store, BETA, _Intake(lambda found: not _counts(found).get("in_progress")))
        if number := _counts(inside).get("failed", 0) + _counts(inside).get("cancelled", 0):
            raise await self._not_taken_in(store, number)

    async def _not_taken_in(self, store: str, number: int) -> BatchRefused:
        page, _ = await self._wire.get(f"{store}/files", BETA, filter="failed", limit=1)
        failed: Mapping[str, Any] = next(iter(objects(page.get("data"))), {})
        file = self._names.get(str(failed.get("id")), "a file")
        reason = name(mapping(failed.get("last_error")).get("message")) or "it does not say why"
        more = f" (and {number - 1:,} more)" if number > 1 else ""
        return BatchRefused(
            f"--file-search: the service could not take in {file}{more}: {' '.join(reason.split())}",
            error_type="file_search_failed",
        )


@dataclass(slots=True)
class _Intake:
    """Whether files are taken in, as the service tells with every poll.

    Attributes:
        ended: whether they are.
        counts: of files by status, as told last, and `since_s`, when they changed.
    """

    ended: Callable[[Any], bool]
    counts: Mapping[str, int] = field(default_factory=dict)
    since_s: float = field(default_factory=anyio.current_time)

    def __call__(self, found: Any) -> bool:
        """
        Raises:
            Silence: nothing has changed for too long.
        """
        if self.ended(found):
            return True
        if _counts(found) != self.counts:
            self.counts, self.since_s = _counts(found), anyio.current_time()
        elif anyio.current_time() - self.since_s > STUCK_S:
            left = self.counts.get("in_progress", 0)
            raise Silence(
                f"--file-search: the service has taken in no file for {STUCK_S / 60:g} minutes, and has {left:,} left",
                error_type="timeout",
            )
        return False


def _is_ready(store: Mapping[str, Any], files: int) -> bool:
    return store.get("status") == "completed" and _counts(store).get("completed") == files


def _counts(found: Mapping[str, Any]) -> Mapping[str, int]:
    return {state: number for state, each in mapping(found.get("file_counts")).items() if (number := count(each))}


def _purpose_key(purpose: str, path: Path) -> str:
    """Services tell a file's format by its name: the same content under another ending is another file to them."""
    return f"{purpose} {path.suffix.lower()}".rstrip()


def _id_of(made: Mapping[str, Any]) -> str:
    file_id = name(made.get("id"))
    if file_id is None:
        raise PermanentFault("the server's reply has no 'id': does it take files?", error_type="bad_reply")
    return file_id


def _is_final(fault: ServiceFault) -> bool:
    """Whether the content itself is the trouble; what concerns all (a key, a quota) may be mended meanwhile."""
    return isinstance(fault, PermanentFault) and not isinstance(fault, BatchRefused)


def _again(fault: ServiceFault) -> ServiceFault:
    """The same fault for another row: the engine writes on the one that it gets."""
    copy = type(fault)(
        str(fault), error_type=fault.error_type, status_code=fault.status_code, retry_after_s=fault.retry_after_s
    )
    copy.__cause__ = fault
    return copy


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _safe_name(name: str) -> str:
    """The name as every server reads it in a form: no quotes, control characters or halves of undecodable ones."""
    return _CONTROL.sub("_", name.encode("utf-8", "replace").decode()).replace('"', "'")


# -- the file itself --------------------------------------------------------------------------------------------


def opened(path: Path, sha256: str) -> BinaryIO:
    """An attached file at its start, which still has the content that it had when the batch was planned.

    Raises:
        PermanentFault: it has not, or cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise attachment_fault(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from None
    with _closed_on_error(file):
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise attachment_fault(f"{path}: was changed since the batch read it; run the batch again")
        file.seek(0)
    return file


@contextmanager
def _closed_on_error(file: BinaryIO) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.close()
        raise


def _state(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_mtime_ns, status.st_size
