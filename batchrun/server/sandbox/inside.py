"""What runs inside the bubblewrap sandbox. Standard library only; started as a file, never imported.

`supervise` is process 1 of the sandbox: it starts the code in a child, holds it to its limits, and then writes
one result to its standard output: a line of JSON and the bytes of the files that the code made. `run` is that
child. Nothing of what comes out is trusted outside: see bubblewrap.py.
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
from typing import Any

_CODE = "/run/code.py"
_SHOWN_AS = "<code>"
_TICK_S = 0.05
_MAX_FILES = 100
_MAX_ENTRIES = 10_000
_MAX_NAME = 200
_PR_SET_DUMPABLE = 4


def supervise(terms: dict[str, Any]) -> None:
    """Run the code under its terms and write the result."""
    # Process 1 ignores signals from inside its own namespace; not being dumpable it can't be traced either.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    logs, error = _supervised(terms)
    files = _produced(terms)
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


def _supervised(terms: dict[str, Any]) -> tuple[bytes, str | None]:
    child = subprocess.Popen(
        [sys.executable, "-I", "-B", "-u", __file__, "run"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: _limit(terms),
    )
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    logs, status, verdict = bytearray(), None, None
    deadline = time.monotonic() + terms["wall_s"]
    next_look = 0.0
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while status is None and verdict is None:
            if selector.select(_TICK_S):
                piece = child.stdout.read(1 << 16)
                if piece:
                    logs += piece
                else:
                    time.sleep(_TICK_S / 10)  # it closed its output and runs on
            if len(logs) > terms["output_bytes"]:
                verdict = f"printed more than {terms['output_bytes']} bytes"
            now = time.monotonic()
            if now > deadline:
                verdict = f"ran for more than {terms['wall_s']} s"
            elif now > next_look:
                verdict, next_look = verdict or _overuse(terms), now + _TICK_S
            status = _reaped(child.pid)
    _kill_all()
    child.returncode = 0  # waited for above, by number
    logs += child.stdout.read() or b""
    error = verdict or _failure(status or 0, bytes(logs), terms)
    return bytes(logs[: terms["output_bytes"]]), error


def _limit(terms: dict[str, Any]) -> None:
    memory = terms["memory_bytes"]
    for limit, value in (
        (resource.RLIMIT_DATA, memory),
        # Address space counts what is only reserved, as numerical libraries do freely.
        (resource.RLIMIT_AS, 4 * memory),
        (resource.RLIMIT_NPROC, terms["processes"]),
        (resource.RLIMIT_FSIZE, terms["disk_bytes"]),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (terms["cpu_s"], terms["cpu_s"] + 1))
    os.nice(5)


def _overuse(terms: dict[str, Any]) -> str | None:
    """Whether all processes together pass a limit: for the sum of memory, and for hosts where root is exempt."""
    processes = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and p.name != "1"]
    if len(processes) > terms["processes"]:
        return f"started more than {terms['processes']} processes"
    # Resident pages count shared ones several times, so the exact and slow figure decides.
    most = terms["memory_bytes"]
    if _memory(processes, "statm") > most and _memory(processes, "smaps_rollup") > most:
        return f"used more than {most} bytes of memory"
    return None


def _memory(processes: list[int], source: str) -> int:
    total = 0
    for process in processes:
        try:
            text = Path(f"/proc/{process}/{source}").read_text()
        except OSError:
            continue  # it ended meanwhile
        if source == "statm":
            total += int(text.split()[1]) * resource.getpagesize()
        else:
            total += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def _reaped(child: int) -> int | None:
    """The child's wait status once it has ended; other orphans are reaped on the way."""
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
    """End every process but this one, and wait until all are gone."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def _failure(status: int, logs: bytes, terms: dict[str, Any]) -> str | None:
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    if code == -signal.SIGXCPU or code == -signal.SIGKILL:
        return f"used more than {terms['cpu_s']} s of CPU" if code == -signal.SIGXCPU else "was killed"
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    lines = logs.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:500] if code == 1 and lines else f"ended with exit code {code}"


def _produced(terms: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Name, size and path of the regular files in the data folder; links are not followed, but left out."""
    top = terms["data"]
    device = Path(top).stat().st_dev  # the attached files are mounts of their own
    found: list[tuple[str, int, str]] = []
    folders, entries, left = [top], 0, terms["disk_bytes"]
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
    """Run the code as a notebook runs a cell: the value of a last expression is shown."""
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
                print(repr(value))  # noqa: T201 - the log is what is printed
        _save_figures()
    except SyntaxError as exc:
        traceback.print_exception(exc.with_traceback(None))
        return 1
    except Exception as exc:  # noqa: BLE001 - whatever the code raises is its result
        own = exc.__traceback__
        traceback.print_exception(exc.with_traceback(own.tb_next if own else None))
        return 1
    return 0


def _save_figures() -> None:
    """Save figures left open, as a notebook would show them, unless the code saved a picture itself."""
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
