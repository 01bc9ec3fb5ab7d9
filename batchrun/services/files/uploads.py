"""Uploads files to the service. Each distinct content is uploaded once, for all rows and across resumes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import anyio
import anyio.to_thread

from batchrun.errors import BatchRefused, PermanentFault, ServiceFault, Silence, TransientFault, unwrapped
from batchrun.job.fingerprint import digest
from batchrun.journal import Created, Journal
from batchrun.prompts.attachments import AttachmentError
from batchrun.prompts.local_files import LocalFile
from batchrun.records import Attachment, JsonObject
from batchrun.services.polling import pages, poll
from batchrun.services.reply_fields import count, mapping, name, objects
from batchrun.services.wire import BETA, Wire

__all__ = ["Uploads", "attachment_fault", "opened"]

BATCH_SIZE = 500
"""Files per request to a vector store."""
SEARCHED = "assistants"
"""The purpose of files to search."""
STORE = "vector_store"
"""Replaces the purpose in the journal's entry of a vector store, whose hash covers all its files."""
AT_ONCE = 8
"""Concurrent uploads for the vector store."""
UPLOAD_ATTEMPTS = 5
"""Attempts per file for the vector store: among a thousand uploads, some meet a transient error."""
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 30.0
"""Between two attempts."""
STUCK_S = 900.0
"""Without progress: the service has stopped indexing files."""
EXPIRY = {"anchor": "last_active_at", "days": 7}
"""After this time without use, a vector store is deleted and costs nothing; a batch that needs it creates another."""

BAD_ATTACHMENT = AttachmentError.error_type


def attachment_fault(message: str) -> PermanentFault:
    """Return the fault of a file that cannot be sent with its row."""
    return PermanentFault(message, error_type=BAD_ATTACHMENT)


@dataclass(slots=True)
class _Content:
    """The upload state of one content for one purpose.

    Mutable state: all of it.

    Attributes:
        lock: held by the task that uploads the content.
        file_id: None until the service is known to have the content.
        failures: number of failed uploads.
        fault: of the last failed upload; None if none failed.
    """

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    file_id: str | None = None
    failures: int = 0
    fault: ServiceFault | None = None


class Uploads:
    """Uploads of one batch. Safe to use from many tasks at once.

    Mutable state: a `_Content` for each requested content and purpose, and the names of the files. The journal keeps
    the ids across processes.
    """

    def __init__(self, wire: Wire, journal: Journal, place: str, folder: Path) -> None:
        """
        Args:
            place: the service's address, as `batchrun.journal.place_of` returns it.
            folder: relative paths of attachments are relative to this folder.
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
        """File id → name, for the files that this process uploaded or found again."""
        return self._names

    async def file_id(self, file: LocalFile | Attachment, purpose: str) -> str:
        """Return the id of a file's content at the service; upload the content if the service does not have it.

        Tasks that ask during an upload share it, and its fault. A content that the service refused is not sent again.

        Args:
            purpose: the service's name of the purpose: `assistants`, `vision` or `user_data`.

        Raises:
            ServiceFault: the service refused the file, or cannot take it now; or the file has changed.
        """
        path, sha256 = self._located(file)
        purpose_key = _purpose_key(purpose, path)
        content = self._contents.setdefault((purpose_key, sha256), _Content())
        failures = content.failures
        async with content.lock:
            if content.file_id is None:
                if content.fault is not None and (content.failures > failures or _is_final(content.fault)):
                    raise _copied(content.fault)
                try:
                    content.file_id = await self._obtain(path, sha256, purpose, purpose_key)
                except ServiceFault as fault:
                    # Another file with the same content may still be readable and unchanged.
                    if fault.error_type != BAD_ATTACHMENT:
                        content.failures, content.fault = content.failures + 1, fault
                    raise
                self._names[content.file_id] = path.name
        return content.file_id

    def forget(self, file_id: str) -> None:
        """Upload this file again at the next request for it: the service has reported that it does not know it."""
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
        # The key covers the name, and the file that was deleted: with the same key, the service would repeat its reply.
        key = f"{self._batch_id}-file-{digest(purpose, sha256, name, known)}"
        with await anyio.to_thread.run_sync(opened, path, sha256) as file:
            before = _state(file)
            created = await self._wire.post_file("/files", {"purpose": purpose}, name, file, {"Idempotency-Key": key})
            file_id = _id_of(created)
            self._journal.created.add(Created("file", file_id, None), self._place)
            if _state(file) != before:
                raise attachment_fault(f"{path}: the file changed during its upload; run the batch again")
        self._journal.uploads.keep(self._place, purpose_key, sha256, file_id)
        return file_id

    async def _find(self, path: str, headers: Mapping[str, str]) -> JsonObject | None:
        """Return an object; None if the service does not have it."""
        try:
            found, _ = await self._wire.get(path, headers)
        except PermanentFault as fault:
            if fault.status_code == 404 and not isinstance(fault, BatchRefused):
                return None
            raise
        return found

    # -- the vector store -----------------------------------------------------------------------------

    async def vector_store(self, files: Sequence[LocalFile], *, name: str) -> str:
        """Return the id of a vector store that holds these files and is ready to be searched.

        A store that was created earlier for the same contents is used again, and completed if that was interrupted.

        Raises:
            BatchRefused: the service could not index a file; the message gives its name and the service's reason.
            ServiceFault: a request failed.
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
            inside = await self._indexed_files(known)
        if known is None or not inside or not set(inside.values()) <= {"completed", "in_progress"}:
            known, inside = await self._create_store(name, contents, known), {}
        await self._fill(known, [file_id for file_id in ids if file_id not in inside])
        return known

    def _name_from_journal(self, files: Sequence[LocalFile]) -> None:
        for file in files:
            file_id = self._journal.uploads.find(self._place, _purpose_key(SEARCHED, file.path), file.sha256)
            if file_id is not None:
                self._names[file_id] = file.path.name

    async def _upload_all(self, files: Sequence[LocalFile]) -> list[str]:
        """Upload the files concurrently; return their ids in the order of the files."""
        ids: dict[LocalFile, str] = {}
        slots = anyio.Semaphore(AT_ONCE)

        async def upload(file: LocalFile) -> None:
            async with slots:
                ids[file] = await self._upload_with_retries(file)

        with unwrapped():
            async with anyio.create_task_group() as tasks:
                for file in files:
                    tasks.start_soon(upload, file)
        return [ids[file] for file in files]

    async def _upload_with_retries(self, file: LocalFile) -> str:
        """Return the file's id; retry after transient errors, during which the other files continue."""
        attempts = 0
        while True:
            try:
                return await self.file_id(file, SEARCHED)
            except TransientFault as fault:
                attempts += 1
                if attempts == UPLOAD_ATTEMPTS:
                    raise
                wait_s = min(MAX_WAIT_S, max(fault.retry_after_s or 0.0, FIRST_WAIT_S * 2 ** (attempts - 1)))
            await anyio.sleep(wait_s)

    async def _create_store(self, name: str, contents: str, deleted: str | None) -> str:
        created = await self._wire.post(
            "/vector_stores",
            {"name": name, "expires_after": EXPIRY, "metadata": {"batch": self._batch_id}},
            {**BETA, "Idempotency-Key": f"{self._batch_id}-store-{digest(contents, deleted)}"},
        )
        store_id = _id_of(created)
        self._journal.created.add(Created("vector_store", store_id, None), self._place)
        self._journal.uploads.keep(self._place, STORE, contents, store_id)
        return store_id

    async def _indexed_files(self, store_id: str) -> dict[str, str]:
        """Return file id → status of all files in the store."""
        listed = pages(self._wire, f"/vector_stores/{quote(store_id, safe='')}/files", BETA)
        return {str(each.get("id")): str(each.get("status")) async for each in listed}

    async def _fill(self, store_id: str, ids: Sequence[str]) -> None:
        """Add files to the store, and wait until all its files can be searched."""
        store = f"/vector_stores/{quote(store_id, safe='')}"
        for start in range(0, len(ids), BATCH_SIZE):
            some = ids[start : start + BATCH_SIZE]
            key = f"{self._batch_id}-store-{digest(store_id, some)}"
            batch = await self._wire.post(f"{store}/file_batches", {"file_ids": some}, {**BETA, "Idempotency-Key": key})
            path = f"{store}/file_batches/{quote(_id_of(batch), safe='')}"
            await poll(self._wire, path, BETA, _IndexingWatch(lambda found: found.get("status") != "in_progress"))
        inside = await poll(
            self._wire, store, BETA, _IndexingWatch(lambda found: not _counts(found).get("in_progress"))
        )
        if number := _counts(inside).get("failed", 0) + _counts(inside).get("cancelled", 0):
            raise await self._indexing_fault(store, number)

    async def _indexing_fault(self, store: str, number: int) -> BatchRefused:
        page, _ = await self._wire.get(f"{store}/files", BETA, filter="failed", limit=1)
        failed: JsonObject = next(iter(objects(page.get("data"))), {})
        file = self._names.get(str(failed.get("id")), "a file")
        reason = name(mapping(failed.get("last_error")).get("message")) or "the service gives no reason"
        more = f" (and {number - 1:,} more)" if number > 1 else ""
        return BatchRefused(
            f"--file-search: the service could not index {file}{more}: {' '.join(reason.split())}",
            error_type="file_search_failed",
        )


@dataclass(slots=True)
class _IndexingWatch:
    """Called with every poll of a vector store or file batch; returns whether its indexing has ended.

    Mutable state: `counts` and `since_s`.

    Attributes:
        has_ended: decides by the polled object.
        counts: number of files by status in the last poll.
        since_s: time of the event loop at which the counts last changed.
    """

    has_ended: Callable[[JsonObject], bool]
    counts: Mapping[str, int] = field(default_factory=dict)
    since_s: float = field(default_factory=anyio.current_time)

    def __call__(self, found: JsonObject) -> bool:
        """Return whether the indexing has ended.

        Raises:
            Silence: the counts have not changed for too long.
        """
        if self.has_ended(found):
            return True
        if _counts(found) != self.counts:
            self.counts, self.since_s = _counts(found), anyio.current_time()
        elif anyio.current_time() - self.since_s > STUCK_S:
            left = self.counts.get("in_progress", 0)
            raise Silence(
                f"--file-search: the service has indexed no file for {STUCK_S / 60:g} minutes; files left: {left:,}",
                error_type="timeout",
            )
        return False


def _is_ready(store: JsonObject, files: int) -> bool:
    return store.get("status") == "completed" and _counts(store).get("completed") == files


def _counts(found: JsonObject) -> Mapping[str, int]:
    return {state: number for state, each in mapping(found.get("file_counts")).items() if (number := count(each))}


def _purpose_key(purpose: str, path: Path) -> str:
    """Return the journal's key. It includes the suffix, because services derive the format from it."""
    return f"{purpose} {path.suffix.lower()}".rstrip()


def _id_of(created: JsonObject) -> str:
    file_id = name(created.get("id"))
    if file_id is None:
        raise PermanentFault(
            "the server's reply to an upload has no 'id'; check that the server supports files", error_type="bad_reply"
        )
    return file_id


def _is_final(fault: ServiceFault) -> bool:
    """Return whether the content itself is at fault. A fault of the key or quota may be corrected in the meantime."""
    return isinstance(fault, PermanentFault) and not isinstance(fault, BatchRefused)


def _copied(fault: ServiceFault) -> ServiceFault:
    """Return a copy of a fault for another row, because the engine changes the fault that it gets."""
    copy = type(fault)(
        str(fault), error_type=fault.error_type, status_code=fault.status_code, retry_after_s=fault.retry_after_s
    )
    copy.__cause__ = fault
    return copy


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _safe_name(name: str) -> str:
    """Return a name that every server can read in a form: without quotes, control characters and half characters."""
    return _CONTROL.sub("_", name.encode("utf-8", "replace").decode()).replace('"', "'")


# -- the file itself --------------------------------------------------------------------------------------------


def opened(path: Path, sha256: str) -> BinaryIO:
    """Open an attached file, which must still have the content that it had when the batch was planned.

    Raises:
        PermanentFault: the file has changed, or cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as exc:
        raise attachment_fault(f"{path}: cannot be read ({(exc.strerror or str(exc)).lower()})") from None
    with _closed_on_error(file):
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise attachment_fault(f"{path}: the file has changed since the batch read it; run the batch again")
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
