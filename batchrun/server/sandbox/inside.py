"""The program that runs inside the bubblewrap sandbox. It uses the standard library only and is started as a file.

`supervise` is process 1 of the sandbox. It starts the code in a child process, enforces the limits, and then writes
one result to its standard output: a line of JSON and the bytes of the produced files. `run` is the child process.
Outside, no part of the output is trusted: see bubblewrap.py.
"""

from __future__ import annotations

import ast
import ctypes
import json
import linecache
import os
import resource
import selectors
import signal
import stat
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TypedDict

_CODE = "/run/code.py"
_SHOWN_AS = "<code>"
_TICK_S = 0.05
_MAX_FILES = 100
_MAX_ENTRIES = 10_000
_MAX_NAME = 200
_PR_SET_DUMPABLE = 4


class Limits(TypedDict):
    """The limits of the execution, as `SandboxLimits`, and the data folder."""

    cpu_s: int
    wall_s: int
    memory_bytes: int
    processes: int
    disk_bytes: int
    output_bytes: int
    data: str


def supervise(limits: Limits) -> None:
    """Run the code within its limits and write the result."""
    # Process 1 ignores signals from inside its own namespace. Since it is not dumpable, it cannot be traced either.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    logs, error = _supervised(limits)
    files = _produced(limits)
    header = {"logs": logs.decode("utf-8", "replace"), "error": error, "files": [f[:2] for f in files]}
    out = sys.stdout.buffer
    out.write(json.dumps(header).encode() + b"\n")
    for _, size, path in files:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source:
            left = size
            while left and (piece := source.read(min(left, 1 << 20))):
                out.write(piece)
                left -= len(piece)
    out.flush()


def _supervised(limits: Limits) -> tuple[bytes, str | None]:
    child = subprocess.Popen(
        [sys.executable, "-I", "-B", "-u", __file__, "run"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: _limit(limits),
    )
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    logs, status, verdict = bytearray(), None, None
    deadline = time.monotonic() + limits["wall_s"]
    next_look = 0.0
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while status is None and verdict is None:
            if selector.select(_TICK_S):
                piece = child.stdout.read(1 << 16)
                if piece:
                    logs += piece
                else:
                    time.sleep(_TICK_S / 10)  # the code closed its output and continues
            if len(logs) > limits["output_bytes"]:
                verdict = f"printed more than {limits['output_bytes']} bytes"
            now = time.monotonic()
            if now > deadline:
                verdict = f"ran for more than {limits['wall_s']} s"
            elif now > next_look:
                verdict, next_look = verdict or _overuse(limits), now + _TICK_S
            status = _reaped(child.pid)
    _kill_all()
    child.returncode = 0  # `_reaped` waited for it already
    logs += child.stdout.read() or b""
    error = verdict or _failure(status or 0, bytes(logs), limits)
    return bytes(logs[: limits["output_bytes"]]), error


def _limit(limits: Limits) -> None:
    memory = limits["memory_bytes"]
    for limit, value in (
        (resource.RLIMIT_DATA, memory),
        # Address space includes reserved memory, of which numerical libraries take a lot.
        (resource.RLIMIT_AS, 4 * memory),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_FSIZE, limits["disk_bytes"]),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_s"], limits["cpu_s"] + 1))
    os.nice(5)


def _overuse(limits: Limits) -> str | None:
    """Return which limit all processes together exceed, or None. Their memory adds up, and root may be exempt."""
    processes = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and p.name != "1"]
    if len(processes) > limits["processes"]:
        return f"started more than {limits['processes']} processes"
    # Resident memory counts shared pages several times, so the exact but slow figure decides.
    memory_limit = limits["memory_bytes"]
    if _memory(processes, "statm") > memory_limit and _memory(processes, "smaps_rollup") > memory_limit:
        return f"used more than {memory_limit} bytes of memory"
    return None


def _memory(processes: list[int], source: str) -> int:
    total = 0
    for process in processes:
        try:
            text = Path(f"/proc/{process}/{source}").read_text()
        except OSError:
            continue  # the process has ended
        if source == "statm":
            total += int(text.split()[1]) * resource.getpagesize()
        else:
            total += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def _reaped(child: int) -> int | None:
    """Return the child's wait status if it has ended, otherwise None. Other orphans are reaped too."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if process == 0:
            return None
        if process == child:
            return status


def _kill_all() -> None:
    """Kill every process but this one, and wait until all have ended."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def _failure(status: int, logs: bytes, limits: Limits) -> str | None:
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    if code == -signal.SIGXCPU or code == -signal.SIGKILL:
        return f"used more than {limits['cpu_s']} s of CPU" if code == -signal.SIGXCPU else "was killed"
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    lines = logs.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:500] if code == 1 and lines else f"ended with exit code {code}"


def _produced(limits: Limits) -> list[tuple[str, int, str]]:
    """Return name, size and path of the regular files in the data folder. Links are left out."""
    top = limits["data"]
    device = Path(top).stat().st_dev  # attached files are separate mounts, and so have another device
    found: list[tuple[str, int, str]] = []
    folders, entries, left = [top], 0, limits["disk_bytes"]
    while folders and entries < _MAX_ENTRIES and len(found) < _MAX_FILES:
        for entry in sorted(os.scandir(folders.pop()), key=lambda e: e.name):
            entries += 1
            status = entry.stat(follow_symlinks=False)
            name = os.path.relpath(entry.path, top)
            fits = len(name) <= _MAX_NAME and name.isprintable() and "\\" not in name
            if status.st_dev != device or not fits or entry.name == "__pycache__":
                continue
            if stat.S_ISDIR(status.st_mode):
                folders.append(entry.path)
            elif stat.S_ISREG(status.st_mode) and status.st_size <= left and len(found) < _MAX_FILES:
                found.append((name, status.st_size, entry.path))
                left -= status.st_size
    return found


def run() -> int:
    """Run the code like a cell of a notebook: the value of the last expression is printed."""
    source = Path(_CODE).read_text()
    linecache.cache[_SHOWN_AS] = (len(source), None, source.splitlines(True), _SHOWN_AS)
    sys.path.insert(0, str(Path.cwd()))
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        tree = ast.parse(source, _SHOWN_AS)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, _SHOWN_AS, "exec"), scope)  # noqa: S102 - this is the sandbox's purpose
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), _SHOWN_AS, "eval"), scope)  # noqa: S307 - likewise
            if value is not None:
                print(repr(value))  # noqa: T201 - the printed output is the log
        _save_figures()
    except SyntaxError as exc:
        traceback.print_exception(exc.with_traceback(None))
        return 1
    except Exception as exc:  # noqa: BLE001 - any exception of the code is part of its result
        own = exc.__traceback__
        traceback.print_exception(exc.with_traceback(own.tb_next if own else None))
        return 1
    return 0


def _save_figures() -> None:
    """Save open figures, which a notebook would show, unless the code saved an image itself."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or any(path.suffix.lower() == ".png" for path in Path().iterdir()):
        return
    for number in pyplot.get_fignums():
        pyplot.figure(number).savefig(f"figure-{number}.png")


if __name__ == "__main__":
    if sys.argv[1] == "supervise":
        supervise(json.loads(sys.argv[2]))
    else:
        sys.exit(run())
