"""The sandboxes: ordinary code works, and real attempts to escape or to exceed limits fail."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import anyio
import psutil
import pytest

from batchrun.server.sandbox.bubblewrap import BubblewrapSandbox
from batchrun.server.sandbox.code_interpreter import find_sandbox
from batchrun.server.sandbox.monty import MontySandbox
from batchrun.server.sandbox.sandbox import Execution, Sandbox, SandboxLimits

pytestmark = pytest.mark.anyio

SMALL = SandboxLimits(
    cpu_s=2,
    wall_s=30,
    memory_bytes=256 << 20,
    processes=16,
    disk_bytes=8 << 20,
    output_bytes=10_000,
)

OWN_FOLDERS = [
    part for part in Path(sys.prefix).resolve().parts[2:3] if Path(sys.prefix).resolve().is_relative_to("/tmp")
]
"""What is visible in `/tmp`: the way to this interpreter's own folder, if that is there."""


@pytest.fixture(scope="module")
def bubblewrap() -> BubblewrapSandbox:
    found = BubblewrapSandbox.find()
    if found is None:
        pytest.skip("bubblewrap is not installed, or this machine forbids its namespaces")
    return found


@pytest.fixture(scope="module")
def monty() -> MontySandbox:
    if find_spec("pydantic_monty") is None:
        pytest.skip("pydantic-monty (extra `sandbox`) is not installed")
    return MontySandbox()


@pytest.fixture(params=["bubblewrap", "monty"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Return each of the two sandboxes that this machine has."""
    chosen: Sandbox = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
async def secret_server() -> AsyncIterator[int]:
    """Yield a port of the host with a listener. The test fails if anything connects."""
    connected: list[str] = []

    async def greet(stream: anyio.abc.SocketStream) -> None:
        connected.append("somebody")
        await stream.aclose()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, greet)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()
    assert not connected


async def ran(sandbox: Sandbox, code: str, workdir: Path, **files: Path) -> Execution:
    named = {name.replace("_", "."): path for name, path in files.items()}
    return await sandbox.run(code, files=named, workdir=workdir, limits=SMALL)


async def test_the_best_sandbox_is_found() -> None:
    """The sandbox is bubblewrap if it works, otherwise Monty, otherwise None."""
    found = find_sandbox()
    if BubblewrapSandbox.find() is not None:
        assert found is not None
        assert found.name == "bubblewrap"
    elif find_spec("pydantic_monty") is not None:
        assert found is not None
        assert found.name == "monty"
    else:
        assert found is None


@pytest.mark.parametrize(
    ("code", "logs"),
    [
        ("6 * 7", "42\n"),
        ("x = 5\nprint('a', x)\nx + 1", "a 5\n6\n"),
        ("x = 5", ""),
        ("print('done')", "done\n"),
        ("None", ""),
        ("'Grüße'", "'Grüße'\n"),
        ("", ""),
    ],
)
async def test_logs(sandbox: Sandbox, tmp_path: Path, code: str, logs: str) -> None:
    """The logs are the printed output and the value of the last expression."""
    assert await ran(sandbox, code, tmp_path) == Execution(logs, (), (), None)


async def test_files_in_and_out(sandbox: Sandbox, tmp_path: Path) -> None:
    """The code finds attached files by their names, and files that it writes are returned."""
    (tmp_path / "upload").write_text("1,2,3")
    done = await ran(
        sandbox,
        "text = open('/mnt/data/in.csv').read()\n"
        "with open('/mnt/data/out.txt', 'w') as f:\n    f.write(text + '!')\n"
        "with open('/mnt/data/a.png', 'wb') as f:\n    f.write(b'png')\n",
        tmp_path,
        in_csv=tmp_path / "upload",
    )
    assert done.error is None, done.logs
    assert [path.name for path in done.files] == ["out.txt"]
    assert done.files[0].read_text() == "1,2,3!"
    assert [path.name for path in done.images] == ["a.png"]
    assert done.images[0].is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc/passwd", "a\0b", "x" * 300])
async def test_names_of_attached_files(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    """A name that would place an attached file outside the data folder is refused."""
    with pytest.raises(ValueError, match="not a plain file name"):
        await sandbox.run("1", files={name: tmp_path}, workdir=tmp_path, limits=SMALL)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("print('before')\n1 / 0", "ZeroDivisionError"),
        ("x = (", "SyntaxError"),
        ("open('/mnt/data/none.txt')", "none.txt"),
    ],
)
async def test_errors(sandbox: Sandbox, tmp_path: Path, code: str, error: str) -> None:
    """The error of failed code is one line, and its earlier output is kept."""
    done = await ran(sandbox, code, tmp_path)
    assert done.error is not None
    assert error in done.error
    assert "\n" not in done.error
    assert done.logs.startswith("before" if "before" in code else "")


async def test_traceback_shows_the_code(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """The log of a failure shows the failing line, and no frames of the sandbox."""
    done = await ran(bubblewrap, "def f():\n    return missing\n\nf()", tmp_path)
    assert "    return missing" in done.logs
    assert "inside.py" not in done.logs
    assert done.error == "NameError: name 'missing' is not defined"


async def test_libraries(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """Packages installed beside batchrun can be used."""
    done = await bubblewrap.run(
        "import numpy\nint(numpy.arange(5).sum())", files={}, workdir=tmp_path, limits=SandboxLimits()
    )
    assert (done.logs, done.error) == ("10\n", None)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
async def test_open_figures(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """A figure that was drawn but not saved is returned as an image."""
    done = await bubblewrap.run(
        "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()",
        files={},
        workdir=tmp_path,
        limits=SandboxLimits(),
    )
    assert done.error is None, done.logs
    assert [path.name for path in done.images] == ["figure-1.png"]
    assert done.images[0].read_bytes().startswith(b"\x89PNG")


async def test_no_network(bubblewrap: BubblewrapSandbox, tmp_path: Path, secret_server: int) -> None:
    """Neither the ports of the host nor other machines can be reached."""
    done = await ran(
        bubblewrap,
        f"""
import socket
for address in (("127.0.0.1", {secret_server}), ("8.8.8.8", 53)):
    try:
        socket.create_connection(address, timeout=1)
    except OSError:
        print("held")
    else:
        print("reached", address)
""",
        tmp_path,
    )
    assert done.logs == "held\nheld\n"


async def test_no_unix_sockets(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """Abstract Unix sockets of the host cannot be reached either."""
    name = f"\0batchrun-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        done = await ran(
            bubblewrap,
            f"import socket\nsocket.socket(socket.AF_UNIX).connect({name!r})",
            tmp_path,
        )
    assert done.error is not None
    assert "refused" in done.error


async def test_no_files_of_the_host(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """The password file, home folders, this project and other temporary files are invisible.

    Of `/tmp` only the way to this interpreter's own folder is visible, if it is there.
    """
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    places = ["/etc/shadow", "/etc/passwd", str(Path.home() / ".bashrc"), str(secret), __file__, "/sys/kernel"]
    done = await ran(
        bubblewrap,
        f"import os\nprint([p for p in {places!r} if os.path.exists(p)])\nprint(os.listdir('/tmp'))",
        tmp_path,
    )
    assert done.logs == f"[]\n{OWN_FOLDERS}\n"


async def test_no_environment(bubblewrap: BubblewrapSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the server's environment are not passed to the code, which cannot read them from any process either."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    done = await ran(
        bubblewrap,
        "import os, pathlib\nprint(dict(os.environ))\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*/environ'):\n"
        "    try:\n        print(p.read_bytes())\n    except OSError:\n        pass\n",
        tmp_path,
    )
    assert "HOME" in done.logs
    assert "secret" not in done.logs


async def test_no_writing_outside(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """Only the data folder and temporary folders are writable; the system, kernel settings and inputs are not."""
    (tmp_path / "in").write_text("untouched")
    done = await ran(
        bubblewrap,
        """
import os
for path in ("/x", "/usr/x", "/dev/x", "/run/x", "/run/code.py", "/run/inside.py", "/mnt/x", "/mnt/data/in.txt",
             "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", os.__file__):
    try:
        os.close(os.open(path, os.O_WRONLY | (0 if "proc" in path else os.O_CREAT)))
        print("wrote", path)
    except OSError:
        pass
for path in ("/tmp/x", "/mnt/data/x", "/dev/shm/x"):
    open(path, "w").close()
""",
        tmp_path,
        in_txt=tmp_path / "in",
    )
    assert (done.logs, done.error) == ("", None)
    assert (tmp_path / "in").read_text() == "untouched"


async def test_no_new_privileges(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """The code cannot regain capabilities by user namespaces, mounts or set-user-id programs."""
    done = await ran(
        bubblewrap,
        """
import ctypes, os, re
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
print([libc.unshare(CLONE_NEWUSER), libc.unshare(CLONE_NEWNS), libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)])
status = open("/proc/self/status").read()
print(re.findall(r"Cap(?:Eff|Prm|Bnd):\\s*(\\w+)", status), re.findall(r"NoNewPrivs:\\s*(\\d)", status))
""",
        tmp_path,
    )
    assert done.logs == f"[-1, -1, -1]\n{['0' * 16] * 3} ['1']\n".replace("[['", "['")


async def test_the_supervisor_is_out_of_reach(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """The code can neither end, stop, trace nor modify the process that supervises it."""
    done = await ran(
        bubblewrap,
        """
import ctypes, os, signal
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
    os.kill(1, number)
for path in ("/proc/1/mem", "/proc/1/fd/1"):
    try:
        os.open(path, os.O_WRONLY)
        print("opened", path)
    except OSError:
        pass
PTRACE_ATTACH = 16
print(ctypes.CDLL(None).ptrace(PTRACE_ATTACH, 1, None, None))
""",
        tmp_path,
    )
    assert (done.logs, done.error) == ("-1\n", None)


async def test_fork_bomb(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """A fork bomb is stopped, and all its processes end."""
    done = await ran(
        bubblewrap, "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass", tmp_path
    )
    assert done.error is not None
    assert not [p for p in psutil.Process().children(recursive=True) if "inside.py" in " ".join(p.cmdline())]


async def test_memory_bomb(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """One process cannot use more memory than allowed."""
    done = await ran(bubblewrap, "x = bytearray(300 << 20)", tmp_path)
    assert done.error == "MemoryError"


async def test_memory_of_all_together(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """Several processes together cannot use more memory than allowed either."""
    code = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        x = os.urandom(1 << 20) * 100
        time.sleep(60)
time.sleep(60)
"""
    done = await ran(bubblewrap, code, tmp_path)
    assert done.error == f"used more than {SMALL.memory_bytes} bytes of memory"


async def test_endless_loop(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """A busy loop ends at the CPU limit; its earlier output is kept."""
    done = await ran(bubblewrap, "print('start', flush=True)\nwhile True: pass", tmp_path)
    assert (done.logs, done.error) == ("start\n", "used more than 2 s of CPU")


async def test_waiting_for_ever(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """A sleeping program ends at the time limit, even with its output closed and signals blocked."""
    code = """
import os, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
os.close(1)
os.close(2)
time.sleep(1000)
"""
    limits = SandboxLimits(wall_s=1)
    done = await bubblewrap.run(code, files={}, workdir=tmp_path, limits=limits)
    assert done.error == "ran for more than 1 s"


async def test_leftover_processes(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """Processes that outlive the code are killed with it and do not delay the result."""
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\nprint('parent')"
    with anyio.fail_after(SMALL.wall_s):
        done = await ran(bubblewrap, code, tmp_path)
    assert (done.logs, done.error) == ("parent\n", None)


async def test_huge_output(sandbox: Sandbox, tmp_path: Path) -> None:
    """Output beyond the limit ends the program, and only output up to the limit is returned."""
    done = await ran(sandbox, "while True:\n    print('x' * 1000)", tmp_path)
    assert done.error is not None
    assert len(done.logs.encode()) <= SMALL.output_bytes


async def test_full_disk(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """Neither one large file nor many small ones can exceed the disk limit."""
    done = await ran(
        bubblewrap,
        """
written = 0
for folder in ("/mnt/data", "/tmp", "/dev/shm"):
    try:
        for n in range(100):
            with open(f"{folder}/{n}", "wb") as f:
                f.write(bytes(1 << 20))
            written += 1
    except OSError as error:
        pass
print(written)
""",
        tmp_path,
    )
    assert 0 < int(done.logs) <= 24
    assert sum(path.stat().st_size for path in done.files) <= SMALL.disk_bytes


async def test_tricks_with_produced_files(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """Links, devices, pipes and odd names in the data folder reveal nothing of the host and do not block."""
    done = await ran(
        bubblewrap,
        r"""
import os
os.symlink("/etc/passwd", "link.txt")
os.symlink("/", "root")
os.symlink("link.txt", "chain.png")
os.mkfifo("pipe.txt")
os.mkdir("sub")
open("sub/fine.txt", "w").write("fine")
open("back\\slash", "w").write("x")
open("x" * 250, "w").write("x")
open("new\nline", "w").write("x")
open(b"\xff\xfe", "w").write("x")
os.truncate(os.open("sparse.bin", os.O_CREAT | os.O_WRONLY), 8 << 20)
os.truncate(os.open("sparse2.bin", os.O_CREAT | os.O_WRONLY), 8 << 20)
""",
        tmp_path,
    )
    assert done.error is None, done.logs
    assert all(path.is_file() and not path.is_symlink() for path in (*done.files, *done.images))
    (made,) = {path.parents[1] if path.parent.name == "sub" else path.parent for path in done.files}
    assert {str(path.relative_to(made)) for path in done.files} <= {"sub/fine.txt", "sparse.bin", "sparse2.bin"}
    assert sum(path.stat().st_size for path in done.files) <= SMALL.disk_bytes


async def test_cancelled_run(bubblewrap: BubblewrapSandbox, tmp_path: Path) -> None:
    """A cancelled run leaves no process, also if it is cancelled while the sandbox starts."""
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    for moment in range(12):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(bubblewrap.run, "while True: pass", files={}, workdir=tmp_path))
            while not {p.pid for p in psutil.Process().children()} - before:
                await anyio.sleep(0.001)
            await anyio.sleep(0.002 * moment)
            tasks.cancel_scope.cancel()
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
    commands = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    assert [each for each in commands if str(tmp_path) in each] == []


async def test_sandbox_that_cannot_start(tmp_path: Path) -> None:
    """If the sandbox does not start, the result is an error in one line, and the code does not run."""
    marker = tmp_path / "ran"
    done = await ran(BubblewrapSandbox("/bin/false"), f"open({str(marker)!r}, 'w')", tmp_path)
    assert done.error is not None
    assert "gave no result" in done.error
    assert not marker.exists()


@pytest.mark.parametrize(
    "result",
    [
        b"",
        b"nonsense\n",
        b"[]\n",
        b'{"logs": "", "error": null, "files": [["../evil", 1]]}\nx',
        b'{"logs": "", "error": null, "files": [["/tmp/evil", 1]]}\nx',
        b'{"logs": "", "error": null, "files": [["a", 1], ["a", 1]]}\nxx',
        b'{"logs": "", "error": null, "files": [["a", -1]]}\n',
        b'{"logs": "", "error": null, "files": [["a/./b", 1]]}\nx',
        b'{"logs": "", "error": null, "files": [["a", 99999999999]]}\nx',
        b'{"logs": "", "error": null, "files": [["a", 5]]}\nx',
        b'{"logs": 1, "error": null, "files": []}\n',
        b'{"logs": "", "error": 1, "files": []}\n',
        b"x" * 200_000,
    ],
)
async def test_forged_results(tmp_path: Path, result: bytes) -> None:
    """A compromised sandbox cannot make the server write outside the run's folder."""
    (tmp_path / "result").write_bytes(result)
    forger = tmp_path / "forger"
    forger.write_text(f"#!/bin/sh\ncat {tmp_path}/result\n")
    forger.chmod(0o700)
    workdir = tmp_path / "deep" / "work"
    workdir.mkdir(parents=True)
    done = await ran(BubblewrapSandbox(str(forger)), "1", workdir)
    assert done.error is not None
    assert done.error.startswith("the sandbox gave no result")
    everything = {path.name async for path in anyio.Path(tmp_path).iterdir()}
    assert everything == {"result", "forger", "deep"}
    assert not await anyio.Path("/tmp/evil").exists()


async def test_monty_holds(monty: MontySandbox, tmp_path: Path) -> None:
    """In Monty, code has no access to files outside the data folder, to the network or to processes, and loops end."""
    secret = tmp_path / "secret.txt"
    secret.write_text("treasure")
    for code in (
        f"open({str(secret)!r}).read()",
        "open('/etc/passwd').read()",
        "open('/mnt/data/../../etc/passwd').read()",
        "import socket",
        "import subprocess",
        "import ctypes",
        "while True: pass",
        "x = [0]\nwhile True: x = x + x",
    ):
        done = await ran(monty, code, tmp_path)
        assert done.error is not None, code
        assert "treasure" not in done.logs
