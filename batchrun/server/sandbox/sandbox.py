"""The interface of sandboxes: their limits and the result of an execution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["DATA_FOLDER", "Execution", "Sandbox", "SandboxLimits", "check_names", "cut_to_bytes", "split_images"]

DATA_FOLDER = "/mnt/data"
"""The folder for attached and produced files; the hosted tool uses the same path."""

_IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The limits of one execution. Code that exceeds one is stopped, and `Execution.error` names the limit.

    Attributes:
        cpu_s: CPU time of one process, in seconds.
        wall_s: time from start to end, in seconds.
        memory_bytes: memory of one process, and of all together.
        processes: number of concurrent processes.
        disk_bytes: size of the files of one run, and of its temporary files, each.
        output_bytes: size of the printed output.
    """

    cpu_s: int = 30
    wall_s: int = 60
    memory_bytes: int = 1 << 30
    processes: int = 64
    disk_bytes: int = 256 << 20
    output_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Execution:
    """The result of an execution.

    Attributes:
        logs: the printed output, including errors, and the value of the last expression.
        images: produced images, sorted by name.
        files: all other produced files, sorted by name.
        error: the failure in one line; None for success.
    """

    logs: str
    images: tuple[Path, ...]
    files: tuple[Path, ...]
    error: str | None


class Sandbox(Protocol):
    """Runs untrusted code, so that it cannot do harm."""

    name: str

    async def run(
        self, code: str, *, files: Mapping[str, Path], workdir: Path, limits: SandboxLimits = ...
    ) -> Execution:
        """Run Python code in a new process.

        Args:
            files: name in `DATA_FOLDER` → attached file, which is read-only for the code.
            workdir: an existing folder; produced files are stored in a new folder inside it.

        Raises:
            ValueError: the name of a file is not a plain file name.
        """
        ...


def check_names(files: Mapping[str, Path]) -> None:
    """Check that the attached files have names inside the data folder.

    Raises:
        ValueError: a name is not a plain file name.
    """
    for name in files:
        if not name or name in (".", "..") or "/" in name or "\0" in name or len(name.encode()) > 255:
            raise ValueError(f"{name!r} is not a plain file name; give a name without folders")


def cut_to_bytes(text: str, limit: int) -> str:
    """Return the longest prefix of the text with at most `limit` bytes of UTF-8."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def split_images(paths: list[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return images and other files, each sorted by name."""
    images = tuple(sorted(path for path in paths if path.suffix.lower() in _IMAGE_ENDINGS))
    return images, tuple(sorted(set(paths) - set(images)))
