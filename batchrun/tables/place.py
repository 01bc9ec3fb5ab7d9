"""Tables in object storage or on the web: found and copied through `pyarrow.fs`, whole or not at all.

Arrow is imported inside the functions that use it.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

from batchrun.errors import InputError, OutputError
from batchrun.local_paths import shown_url
from batchrun.tables.web_file import UNKNOWN_SIZE, WebFile
from batchrun.wording import shortened

__all__ = ["Place", "asking", "copy_in", "has_wildcard", "opened", "url_of_copy"]

_RECORD: Final = "_copied.json"
"""What a copy is of. The name is not that of a part."""
_WILDCARDS: Final = "*["
"""`?` begins the query of a URL."""
_CHUNK_BYTES: Final = 1 << 20
GOOGLE_TIMEOUT_S: Final = 20
"""Time for which Arrow repeats a request to Google Cloud Storage. Its own default is 15 minutes."""
_redirecting: Final = Lock()
_NO_CREDENTIALS: Final = "no credentials work; sign in, or set the usual variables"
_PROBLEMS: Final = (
    ("NO_SUCH_BUCKET", "the bucket does not exist"),
    ("NETWORK_CONNECTION", "the service cannot be reached; check the network, and AWS_ENDPOINT_URL if you set it"),
    ("INVALID_ACCESS_KEY_ID", "the service does not know the key in the environment (AWS_ACCESS_KEY_ID)"),
    ("SIGNATURE_DOES_NOT_MATCH", "the secret key in the environment is wrong (AWS_SECRET_ACCESS_KEY)"),
    (
        "OAuth2 access token",
        f"Google Cloud: {_NO_CREDENTIALS}, such as GOOGLE_APPLICATION_CREDENTIALS",
    ),
    (
        "AuthenticationException",
        f"Azure: {_NO_CREDENTIALS}, such as AZURE_CLIENT_ID",
    ),
    ("ACCESS_DENIED", "access is denied; check the credentials in the environment and their permissions"),
)
"""Words of an error of Arrow → what they mean for the user."""


@dataclass(frozen=True, slots=True)
class Place:
    """A remote table as it is now.

    Attributes:
        url: the URL for messages.
        system: the file system (`pyarrow.fs.FileSystem`), or the file of a web server.
        files: path, size in bytes and time (or what else changes with the content) of each file, in the order of the
            names.
        is_file: the URL names one file, not a folder or a pattern.
    """

    url: str
    system: Any
    files: tuple[tuple[str, int, str], ...]
    is_file: bool

    @classmethod
    def find(cls, url: str) -> Place:
        """Return the files of a URL: the file itself, or those of a folder or a pattern, but for hidden ones.

        Raises:
            InputError: there is no such file, bucket or folder, it has no files, or the service refuses.
        """
        from pyarrow import fs

        if url.startswith(("http://", "https://")):
            return cls._of_web(url)
        address, mark, query = url.partition("?")
        folder, _, pattern = address.rpartition("/")
        if not has_wildcard(pattern):
            folder, pattern = address, ""
        shown = shown_url(url)
        if has_wildcard(folder):
            raise InputError(f"{shown}: a wildcard is allowed in the last part of a URL only")
        with asking(shown):
            system, path = opened(folder + mark + query)
            info = system.get_file_info(path)
            if info.type == fs.FileType.NotFound:
                bucket = path.partition("/")[0]
                is_missing = bucket and system.get_file_info(bucket).type == fs.FileType.NotFound
                raise InputError(f"{shown}: {'the bucket does not exist' if is_missing else 'no such file or folder'}")
            if info.type == fs.FileType.File and not pattern:
                return cls(shown, system, (_entry(system, info),), is_file=True)
            found = system.get_file_info(fs.FileSelector(path))
        parts = []
        for each in sorted(found, key=lambda each: str(each.base_name)):
            if each.base_name.startswith(("_", ".")) or not fnmatch.fnmatchcase(each.base_name, pattern or "*"):
                continue
            if each.type != fs.FileType.File:
                if each.base_name.endswith(".journal"):
                    continue  # of a batch on Ray, next to its output
                raise InputError(f"{shown}: {each.base_name} is a folder, and parts are files; give its own URL")
            parts.append(_entry(system, each))
        if not parts:
            raise InputError(f"{shown}: has no files; names that begin with _ or . are passed over")
        return cls(shown, system, tuple(parts), is_file=False)

    @classmethod
    def _of_web(cls, url: str) -> Place:
        shown, file = shown_url(url), WebFile(url)
        if has_wildcard(shown.rpartition("/")[2]):
            raise InputError(f"{shown}: a web server does not list files; give the URL of one file")
        return cls(shown, file, (file.entry(),), is_file=True)

    @property
    def record(self) -> dict[str, Any]:
        """What a copy is of."""
        return {"url": self.url, "is_file": self.is_file, "files": [list(each) for each in self.files]}

    def has_copy(self, folder: Path) -> bool:
        """Return whether `folder` is a copy of the table as it is now; False if a file has no time."""
        return bool(_record(folder) == self.record) and all(time for _, _, time in self.files)

    def copy(self, folder: Path) -> bool:
        """Make `folder` a copy of the table, unless it is one already; return whether it was made.

        Files are written to `FOLDER.new`, which replaces the folder at the end.

        Raises:
            InputError: a file cannot be read whole.
            OutputError: the copy cannot be written.
        """
        if self.has_copy(folder):
            return False
        new = folder.with_name(f"{folder.name}.new")
        with _writing(folder):
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True, mode=0o700)
        for path, size, _ in self.files:
            self._copy_file(path, size, new, folder)
        with _writing(folder):
            _write(new / _RECORD, json.dumps(self.record).encode())
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
        return True

    def _copy_file(self, path: str, size: int, new: Path, folder: Path) -> None:
        copied = 0
        with asking(self.url):
            stream = self.system.open_input_stream(path)
        with stream:
            with _writing(folder):
                file = (new / os.path.basename(path)).open("xb")  # noqa: PTH119 - a path of the store
            with file:
                while True:
                    with asking(self.url):
                        chunk = stream.read(_CHUNK_BYTES)
                    if not chunk:
                        break
                    copied += len(chunk)
                    with _writing(folder):
                        file.write(chunk)
                with _writing(folder):
                    file.flush()
                    os.fsync(file.fileno())
        if size not in (copied, UNKNOWN_SIZE):
            raise InputError(f"{self.url}: {path} changed while it was copied; run the same command again")


def opened(url: str) -> tuple[Any, str]:
    """Return the file system (`pyarrow.fs.FileSystem`) of a URL in object storage, and the path in it.

    Azure's SDK looks for credentials at the first request, which is made here.
    """
    from pyarrow import fs

    if url.startswith("gs://") and "retry_limit_seconds=" not in url:
        url += f"{'&' if '?' in url else '?'}retry_limit_seconds={GOOGLE_TIMEOUT_S}"
    system, path = fs.FileSystem.from_uri(url)
    if system.type_name == "abfs":
        with _programs_silenced():
            system.get_file_info(path)
    return system, path


@contextmanager
def _programs_silenced() -> Iterator[None]:
    """Discard what a program such as `az`, which Azure's SDK starts, writes to this process's standard error."""
    with _redirecting, ExitStack() as stack:
        try:
            kept = os.dup(2)
        except OSError:  # it is closed
            yield
            return
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield


def has_wildcard(name: str) -> bool:
    """Return whether a part of a URL is a pattern."""
    return any(each in name for each in _WILDCARDS)


def copy_in(folder: Path, url: str) -> str:
    """Return the table in a copy that `Place.copy` made: its file, or the folder.

    Raises:
        InputError: the copy is missing.
    """
    record = _record(folder)
    if record is None:
        raise InputError(f"{folder}: the copy of {url} is missing; the batch's own command copies it again")
    return str(folder / os.path.basename(record["files"][0][0]) if record["is_file"] else folder)  # noqa: PTH119


def url_of_copy(path: Path) -> str | None:
    """Return the URL, for messages, of which a folder, or a file in it, is a copy that `Place.copy` made; else None."""
    if (record := _record(path)) is not None:
        return str(record["url"])
    if (record := _record(path.parent)) is None:
        return None
    url = str(record["url"])
    if record["is_file"]:
        return url
    folder, _, last = url.rstrip("/").rpartition("/")
    return f"{folder if has_wildcard(last) else url.rstrip('/')}/{path.name}"


def _entry(system: Any, info: Any) -> tuple[str, int, str]:
    if system.type_name == "py::fsspec+hf":  # whose files have a hash and no time
        return info.path, info.size, str(system.handler.fs.info(info.path).get("blob_id") or "")
    return info.path, info.size, info.mtime.isoformat() if info.mtime is not None else ""


def _record(folder: Path) -> Any:
    """Return what a folder is a copy of; None if it is not a copy."""
    try:
        found = json.loads((folder / _RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"url", "is_file", "files"} <= found.keys() else None


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def asking(url: str, verb: Literal["read", "written"] = "read", advice: str = "") -> Iterator[None]:
    """Turn what Arrow and the service say into one line, an InputError or an OutputError.

    Args:
        verb: what cannot be done.
        advice: text after the reason.
    """
    import pyarrow as pa

    error = InputError if verb == "read" else OutputError
    try:
        yield
    except FileNotFoundError as exc:
        reason = "no such file or folder" if verb == "read" else f"cannot be written ({_meaning(exc)})"
        raise error(f"{url}: {reason}{advice}") from None
    except (OSError, pa.ArrowException) as exc:
        raise error(f"{url}: cannot be {verb} ({_meaning(exc)}){advice}") from None
    except Exception as exc:
        if not url.startswith("hf://") or isinstance(exc, InputError | OutputError):
            raise
        if isinstance(exc, ImportError):
            raise error(f"{url}: needs libraries that are not installed: pip install huggingface_hub fsspec") from None
        raise error(f"{url}: cannot be {verb} ({_meaning(exc)}){advice}") from None  # the library's own errors


def _meaning(exc: Exception) -> str:
    text = str(exc).partition("\n")[0]
    return next((meaning for words, meaning in _PROBLEMS if words in text), shortened(text))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(f"{folder}: the copy of the input cannot be written ({exc.strerror or exc})") from exc
