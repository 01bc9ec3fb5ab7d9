"""A sandbox of Linux namespaces, made by bubblewrap, around this machine's CPython.

docs/explanation/sandbox.md describes what it protects and what it does not.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

import anyio
import anyio.to_thread

from batchrun.server.sandbox import inside
from batchrun.server.sandbox.sandbox import DATA_FOLDER, Execution, SandboxLimits, check_names, split_images

__all__ = ["BubblewrapSandbox"]

_PROGRAM_FOLDERS = "/usr/bin:/bin:/usr/local/bin"
_SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime")
_SHARED_FOLDERS = frozenset({"/", "/home", "/root", "/tmp", "/dev/shm", DATA_FOLDER})
_GRACE_S = 10
_PROBE_S = 20
_MAX_FILES = 100
_MAX_NAME = 200
_PIECE_BYTES = 1 << 20


class _Broken(Exception):
    """The output of the sandbox is not a valid result."""


class BubblewrapSandbox:
    """Runs code in separate namespaces: no network, a read-only system, files in memory.

    Args:
        bwrap: path of the program, version 0.8 or newer.
    """

    name = "bubblewrap"

    def __init__(self, bwrap: str) -> None:
        self._bwrap = bwrap

    @classmethod
    def find(cls) -> BubblewrapSandbox | None:
        """Return the sandbox if bubblewrap is installed and works here; otherwise None.

        It runs a small program, because kernels and containers may forbid the namespaces that bubblewrap needs.
        """
        bwrap = shutil.which("bwrap", path=_PROGRAM_FOLDERS)
        if bwrap is None or not sys.platform.startswith("linux"):
            return None
        sandbox = cls(bwrap)
        with tempfile.TemporaryDirectory() as folder:
            code = Path(folder, "code.py")
            code.write_text("6 * 7")
            try:
                probe = subprocess.run(
                    sandbox._command(code, {}, SandboxLimits()),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_PROBE_S,
                    check=False,
                )
                works = _header(probe.stdout.partition(b"\n")[0]) == ("42\n", None, [])
            except (OSError, ValueError, subprocess.TimeoutExpired, _Broken):
                return None
        return sandbox if works else None

    async def run(
        self, code: str, *, files: Mapping[str, Path], workdir: Path, limits: SandboxLimits | None = None
    ) -> Execution:
        """Run Python code; see `Sandbox.run`."""
        limits = limits or SandboxLimits()
        check_names(files)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=workdir))
        script = folder / "code.py"
        script.write_text(code, encoding="utf-8", errors="replace")
        output_folder = folder / "files"
        output_folder.mkdir()
        with tempfile.TemporaryFile() as errors:
            # If it were cancelled in between, asyncio would lose a process that it has started already.
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    self._command(script, files, limits),
                    stdin=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
            try:
                with anyio.move_on_after(limits.wall_s + _GRACE_S):
                    return await _result(process, output_folder, limits)
                return Execution("", (), (), f"ran for more than {limits.wall_s} s")
            except _Broken as exc:
                # A program that tampers with its supervisor also ends here.
                return Execution("", (), (), f"the sandbox gave no result ({_last_line(errors) or exc})")
            finally:
                if process.returncode is None:
                    # While the sandbox starts, its inner process does not notice yet that the outer one is gone.
                    with suppress(ProcessLookupError):  # it has just ended
                        os.killpg(process.pid, signal.SIGKILL)
                with anyio.CancelScope(shield=True):
                    await process.aclose()

    def _command(self, code: Path, files: Mapping[str, Path], limits: SandboxLimits) -> list[str]:
        size = str(limits.disk_bytes)
        terms = json.dumps(dataclasses.asdict(limits) | {"data": DATA_FOLDER})
        return [
            self._bwrap,
            *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
            *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
            *("--new-session", "--die-with-parent", "--as-pid-1", "--clearenv"),
            *(part for pair in _environment().items() for part in ("--setenv", *pair)),
            *_system(),
            *("--proc", "/proc", "--dev", "/dev"),
            *("--size", size, "--tmpfs", "/dev/shm"),
            *("--size", size, "--tmpfs", "/tmp"),
            *("--size", size, "--tmpfs", DATA_FOLDER),
            *_interpreter(),
            *("--ro-bind", str(code.resolve()), "/run/code.py"),
            *("--ro-bind", str(Path(inside.__file__).resolve()), "/run/inside.py"),
            *(
                part
                for name, path in files.items()
                for part in ("--ro-bind", str(path.resolve()), f"{DATA_FOLDER}/{name}")
            ),
            # A server that runs as root could write kernel settings through /proc. Only the three file systems
            # above, whose sizes are bounded, are writable.
            *("--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"),
            *("--chdir", DATA_FOLDER),
            *(sys.executable, "-I", "-S", "-B", "/run/inside.py", "supervise", terms),
        ]


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp",
        # Without these, numerical libraries would start a thread for each core of the machine.
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
    }


def _system() -> Iterator[str]:
    """Yield the arguments that mount the programs and libraries of the system, read-only."""
    yield from ("--ro-bind", "/usr", "/usr")
    for folder in map(Path, _SYSTEM_LINKS):
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.is_dir():
            yield from ("--ro-bind", str(folder), str(folder))
    for path in _SYSTEM_FILES:
        yield from ("--ro-bind-try", path, path)


def _interpreter() -> Iterator[str]:
    """Yield the arguments that mount the folders of this Python, read-only.

    They follow those of the empty folders, because a virtual environment may be below `/tmp`.
    """
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        folder = Path(prefix).resolve()
        # An environment that is such a folder itself would expose everything in it.
        exposes = str(folder) in _SHARED_FOLDERS or str(folder.parent) == "/home"
        if not exposes and not folder.is_relative_to("/usr"):
            yield from ("--ro-bind", str(folder), prefix)


async def _result(process: anyio.abc.Process, output_folder: Path, limits: SandboxLimits) -> Execution:
    """Read the result. The output is not trusted: sizes are bounded, and file names are checked."""
    assert process.stdout is not None
    stream = process.stdout
    data = b""
    # JSON needs at most six bytes for each byte of the log.
    bound = 6 * limits.output_bytes + (1 << 16)
    while b"\n" not in data:
        if len(data) > bound:
            raise _Broken("the header has no end")
        data += await _piece(stream)
    line, _, data = data.partition(b"\n")
    logs, error, files = _header(line)
    if sum(size for _, size in files) > limits.disk_bytes or len(files) > _MAX_FILES:
        raise _Broken("too many files")
    paths: list[Path] = []
    for name, size in files:
        path = output_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            while size:
                data = data or await _piece(stream)
                await anyio.to_thread.run_sync(target.write, data[:size])
                size, data = size - len(data[:size]), data[size:]
        paths.append(path)
    images, others = split_images(paths)
    return Execution(logs, images, others, error)


async def _piece(stream: anyio.abc.ByteReceiveStream) -> bytes:
    try:
        return await stream.receive(_PIECE_BYTES)
    except anyio.EndOfStream:
        raise _Broken("the output ended early") from None


def _header(line: bytes) -> tuple[str, str | None, list[tuple[str, int]]]:
    try:
        header: Any = json.loads(line)
        logs, error, files = header["logs"], header["error"], header["files"]
        listed = [(str(name), int(size)) for name, size in files]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise _Broken("the header is invalid") from exc
    if not isinstance(logs, str) or not isinstance(error, str | None):
        raise _Broken("the logs are missing")
    if len({name for name, _ in listed}) != len(listed) or not all(map(_is_safe, listed)):
        raise _Broken("a file name or size is invalid")
    return logs.encode("utf-8", "replace").decode(), error, listed


def _is_safe(file: tuple[str, int]) -> bool:
    name, size = file
    path = PurePosixPath(name)
    return (
        size >= 0
        and 0 < len(name) <= _MAX_NAME
        and name.isprintable()
        and "\\" not in name
        and str(path) == name
        and not path.is_absolute()
        and not {"..", "."} & set(path.parts)
    )


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
