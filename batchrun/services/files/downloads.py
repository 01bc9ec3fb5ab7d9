"""Downloads the files of runs into a folder next to the output: one folder per row, and no file is overwritten."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote

import anyio
import anyio.to_thread

from batchrun.errors import OutputError, PermanentFault, ServiceFault
from batchrun.journal import Created, Journal
from batchrun.prompts.local_files import sha256_of
from batchrun.services.files.produced import Produced, distinct
from batchrun.services.reply_fields import name
from batchrun.services.wire import Wire
from batchrun.tables.atomic import replacing

__all__ = ["Downloads", "Fetched", "file_name", "folder_name"]

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 10.0
PATIENCE_S = 30.0
"""For one file, over all attempts."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The downloaded and the missing files of a run.

    Attributes:
        paths: below the folder of the output, with slashes, such as `answers.csv.files/7/plot.png`.
        missing: one line with the id of each file that could not be downloaded: the service may still have it.
    """

    paths: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Downloads:
    """Downloads the files of runs. Safe to use from many tasks at once. Its only state are the files."""

    def __init__(
        self, wire: Wire, journal: Journal, place: str, folder: Path, *, patience_s: float = PATIENCE_S
    ) -> None:
        """
        Args:
            place: the service's address, as `batchrun.journal.place_of` returns it.
            folder: the parent of the rows' folders, such as `outputs/answers.csv.files`; created with the first file.
            patience_s: seconds of waiting for one file, over all attempts, before it counts as missing.
        """
        self._wire = wire
        self._journal = journal
        self._place = place
        self._folder = folder
        self._patience_s = patience_s

    async def fetch(self, produced: Sequence[Produced], row_key: str) -> Fetched:
        """Download a row's files into the row's folder.

        No file is overwritten: an existing file with the same content is kept, and a name that is taken gets a number.
        A file that cannot be downloaded does not fail the row: it is listed as missing.

        Raises:
            OutputError: a file cannot be written.
        """
        paths: list[str] = []
        missing: list[str] = []
        for each in distinct(produced):
            if each.content is None and each.container_id is None:
                self._journal.created.add(Created("file", each.file_id, row_key), self._place)
            try:
                path = await self._fetch(each, self._folder / folder_name(row_key))
            except ServiceFault as fault:
                missing.append(f"{each.name or 'a file'} ({each.file_id}): {fault}")
            except OSError as exc:
                raise OutputError(f"{self._folder}: cannot be written ({exc.strerror or exc})") from exc
            else:
                paths.append(path.relative_to(self._folder.parent).as_posix())
        return Fetched(tuple(dict.fromkeys(paths)), tuple(missing))

    async def _fetch(self, produced: Produced, folder: Path) -> Path:
        waited_s, wait_s = 0.0, FIRST_WAIT_S
        while True:
            try:
                name = produced.name or await self._name_of(produced)
                with await anyio.to_thread.run_sync(_scratch, self._folder.parent) as scratch:
                    await self._read(produced, scratch)
                    return await anyio.to_thread.run_sync(_placed, scratch, folder, name)
            except ServiceFault as fault:
                pause_s = max(wait_s, fault.retry_after_s or 0.0)
                if isinstance(fault, PermanentFault) or waited_s + pause_s > self._patience_s:
                    raise
            await anyio.sleep(pause_s)
            waited_s, wait_s = waited_s + pause_s, min(MAX_WAIT_S, wait_s * 2)

    async def _name_of(self, produced: Produced) -> str | None:
        if produced.content is not None:
            return produced.file_id
        found, _ = await self._wire.get(_path_of(produced), {})
        return PurePosixPath(name(found.get("filename")) or name(found.get("path")) or produced.file_id).name

    async def _read(self, produced: Produced, scratch: IO[bytes]) -> None:
        if produced.content is not None:
            scratch.write(produced.content)
            return
        async with self._wire.download(f"{_path_of(produced)}/content", {}) as chunks:
            async for chunk in chunks:
                scratch.write(chunk)


def _path_of(produced: Produced) -> str:
    file_id = quote(produced.file_id, safe="")
    if produced.container_id is None:
        return f"/files/{file_id}"
    return f"/containers/{quote(produced.container_id, safe='')}/files/{file_id}"


def _scratch(folder: Path) -> tempfile.SpooledTemporaryFile[bytes]:
    """Return a temporary file on the same disk as the download folder; a small one stays in memory."""
    return tempfile.SpooledTemporaryFile(max_size=1 << 20, dir=str(folder))


def _placed(content: IO[bytes], folder: Path, name: str | None) -> Path:
    """Write the content under its name, with a number if another content has that name; return the path."""
    content.seek(0)
    head = content.read(16)
    content.seek(0)
    sha256 = hashlib.sha256()
    while piece := content.read(1 << 20):
        sha256.update(piece)
    wanted = Path(file_name(name or ""))
    suffix = wanted.suffix or _suffix(head)
    for number in itertools.count(1):
        path = folder / f"{wanted.stem}{'' if number == 1 else f'~{number}'}{suffix}"
        if not os.path.lexists(path):
            break
        if path.is_file() and sha256_of(path) == sha256.hexdigest():
            return path
    content.seek(0)
    with replacing(path) as file:
        shutil.copyfileobj(content, file)
    return path


_MAGIC_BYTES: Mapping[bytes, str] = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"%PDF-": ".pdf"}
"""First bytes of the files for which services give no suffix → the suffix."""


def _suffix(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in _MAGIC_BYTES.items() if head.startswith(magic)), "")


# -- names that a model or a table chose ------------------------------------------------------------------------

_MAX_STEM, _MAX_SUFFIX = 150, 30
"""Bytes; with a number between them they fit into the 255 bytes that file systems allow."""
_FORBIDDEN = frozenset('/\\:*?"<>|')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
_PLAIN_KEY = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,59}(?<!\.)")


def file_name(name: str) -> str:
    """Return a safe file name for every system: without a path, not hidden, and without characters that disguise it."""
    name = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join("_" if each in _FORBIDDEN or unicodedata.category(each)[0] == "C" else each for each in name)
    stem, dot, suffix = shown.strip(" .").rpartition(".")
    if not stem:
        stem, dot, suffix = suffix, "", ""
    whole = f"{_cut(stem, _MAX_STEM)}{dot}{_cut(suffix, _MAX_SUFFIX)}".strip(" .") or "file"
    return f"_{whole}" if _RESERVED.match(whole) else whole


def folder_name(row_key: str) -> str:
    """Return the name of a row's folder. It is unique, even in a file system that ignores case."""
    if _PLAIN_KEY.fullmatch(row_key) and not _RESERVED.match(row_key):
        return row_key
    digest = hashlib.blake2b(row_key.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    # A plain key has no tilde, so the two forms cannot collide.
    return f"{file_name(row_key)[:40].strip(' .')}~{digest}"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
