"""What a sandbox is: the terms on which code runs, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["DATA_FOLDER", "Execution", "Sandbox", "SandboxLimits", "check_names", "cut_to_bytes", "split_images"]

DATA_FOLDER = "/mnt/data"
"""Where code finds the attached files and leaves its own: the path that the hosted tool uses."""

_IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one execution may use; code that wants more is ended and says so in `Execution.error`.

    Attributes:
        cpu_s: seconds of CPU for one process.
        wall_s: seconds from start to end.
        memory_bytes: memory of one process, and of all together.
        processes: processes at once.
        disk_bytes: files of one run, and temporary files, each.
        output_bytes: what is printed.
    """

    cpu_s: int = 30
    wall_s: int = 60
    memory_bytes: int = 1 << 30
    processes: int = 64
    disk_bytes: int = 256 << 20
    output_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Execution:
    """What code did.

    Attributes:
        logs: what it printed, errors included, and the value of its last expression.
        images: pictures that it made, by name.
        files: all other files that it made, by name.
        error: one line on how it failed, None where it did not.
    """

    logs: str
    images: tuple[Path, ...]
    files: tuple[Path, ...]
    error: str | None


class Sandbox(Protocol):
    """Runs code that nobody has read, so that it can harm nothing."""

    name: str

    async def run(
        self, code: str, *, files: Mapping[str, Path], workdir: Path, limits: SandboxLimits = ...
    ) -> Execution:
        """Run Python code in a fresh process.

        Args:
            files: by the name under which the code sees them in `DATA_FOLDER`, read-only.
            workdir: an existing folder; files that the code made are put into a new folder in it.

        Raises:
            ValueError: the name of a file is no plain file name.
        """
        ...


def check_names(files: Mapping[str, Path]) -> None:
    """Refuse names of attached files that would lie elsewhere than in the data folder.

    Raises:
        ValueError: names the name.
    """
    for name in files:
        if not name or name in (".", "..") or "/" in name or "\0" in name or len(name.encode()) > 255:
            raise ValueError(f"{name!r} is no plain file name; give a name without folders")


def cut_to_bytes(text: str, limit: int) -> str:
    """The longest start of the text that has at most `limit` bytes of UTF-8."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def split_images(made: list[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Pictures and other files, each by name."""
    images = tuple(sorted(path for path in made if path.suffix.lower() in _IMAGE_ENDINGS))
    return images, tuple(sorted(set(made) - set(images)))
