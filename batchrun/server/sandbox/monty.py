"""A sandbox that needs no support by the operating system: pydantic-monty, an interpreter for a subset of Python."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio.to_thread

from batchrun.server.sandbox.sandbox import (
    DATA_FOLDER,
    Execution,
    SandboxLimits,
    check_names,
    cut_to_bytes,
    split_images,
)

__all__ = ["MontySandbox"]

_MAX_FILES = 100


class MontySandbox:
    """Runs code in Monty, without third-party packages and with a part of the standard library only.

    Raises:
        ImportError: pydantic-monty (the extra `sandbox`) is not installed.
    """

    name = "monty"

    def __init__(self) -> None:
        import pydantic_monty  # noqa: F401 - optional, and imported here to fail early

    async def run(
        self, code: str, *, files: Mapping[str, Path], workdir: Path, limits: SandboxLimits | None = None
    ) -> Execution:
        """Run Python code; see `Sandbox.run`. The smaller of `cpu_s` and `wall_s` limits both times."""
        check_names(files)
        # The asynchronous pool aborts the interpreter at exit; the synchronous pool in a thread does not.
        return await anyio.to_thread.run_sync(_run, code, dict(files), workdir, limits or SandboxLimits())


def _run(code: str, files: dict[str, Path], workdir: Path, limits: SandboxLimits) -> Execution:
    from pydantic_monty import (
        CollectString,
        Monty,
        MontyCrashedError,
        MontyError,
        MontyRuntimeError,
        MontySyntaxError,
        MountDir,
    )

    output_folder = Path(tempfile.mkdtemp(prefix="run-", dir=workdir))
    for name, path in files.items():
        shutil.copyfile(path, output_folder / name)
    printed = CollectString(limits.output_bytes)
    seconds = float(min(limits.cpu_s, limits.wall_s))
    error = None
    value = None
    trace = ""
    with (
        Monty(max_processes=1, request_timeout=limits.wall_s + 5.0) as pool,
        MountDir(
            host_path=output_folder,
            virtual_path=DATA_FOLDER,
            mode="read-write",
            write_bytes_limit=limits.disk_bytes,
        ) as mount,
        pool.checkout(
            limits={
                "max_feed_duration_secs": seconds,
                "max_memory": limits.memory_bytes,
                "max_total_sleep_secs": seconds,
            }
        ) as session,
    ):
        try:
            value = session.feed_run(code, print_callback=printed, mount=mount)
        except (MontyRuntimeError, MontySyntaxError) as exc:
            error = _line(exc.display("type-msg"))
            trace = exc.display() + "\n"
        except MontyCrashedError as exc:
            error = f"ended: {_line(str(exc))}"
        except MontyError as exc:
            error = _line(str(exc))
    shown = trace if value is None else f"{value!r}\n"
    logs = cut_to_bytes(printed.output + shown, limits.output_bytes)
    images, others = split_images(list(_new_files(output_folder, files)))
    return Execution(logs, images, others, error)


def _line(text: str) -> str:
    return " ".join(text.split())[:500]


def _new_files(output_folder: Path, attached: Mapping[str, Path]) -> Iterator[Path]:
    """Yield regular files that were not attached, without following links. All other entries are removed."""
    found = 0
    for folder, _, names in os.walk(output_folder, followlinks=False):
        for name in sorted(names):
            path = Path(folder, name)
            regular = stat.S_ISREG(path.lstat().st_mode)
            if regular and not (path.parent == output_folder and name in attached) and found < _MAX_FILES:
                found += 1
                yield path
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
