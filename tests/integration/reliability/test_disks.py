"""Disks that are full or read-only, on real small file systems."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.reliability.batches import ENDED, assert_each_row_once, command, write_table
from tests.integration.reliability.processes import Served, batchrun


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system in memory."""

    path: Path

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def fill(self, leave_kib: int) -> None:
        """Fill the disk except for this much space."""
        free = shutil.disk_usage(self.path).free - leave_kib * 1024
        (self.path / "filler").write_bytes(bytes(free))

    def make_space(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """Mount small file systems; skip the test where that is not allowed."""
    with ExitStack() as stack:

        def mounted(size: str) -> Disk:
            path = tmp_path / f"disk-{size}"
            path.mkdir()
            made = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True
            )
            if made.returncode != 0:
                pytest.skip(f"no filesystem can be mounted here: {made.stderr.strip()}")
            stack.callback(subprocess.run, ["umount", "-l", str(path)], check=True)
            return Disk(path)

        if shutil.which("mount") is None or os.geteuid() != 0:
            pytest.skip("mounting a filesystem needs root")
        yield mounted


def test_a_full_disk_under_the_journal(tmp_path: Path, disk: Callable[[str], Disk]) -> None:
    """A disk that fills up while rows run ends the batch with one line; after space is made, the batch resumes with its
    runs."""
    small = disk("24m")
    table = write_table(small.path / "batch", 300)
    with Served(tmp_path / "server") as server:
        small.fill(leave_kib=500)
        with batchrun(tmp_path, *command(table, server.url)) as process:
            assert process.wait() == 2, process.stderr
        assert process.stderr.count("\n") == 1
        assert "the disk is full" in process.stderr
        small.make_space()
        ended = table.count(ENDED)
        assert 0 < ended < table.rows
        with batchrun(tmp_path, *command(table, server.url)) as process:
            assert process.wait() == 0, process.stderr
        assert process.facts()["finished_before"] >= ended
    assert_each_row_once(table, server)


def test_a_full_disk_from_the_start(disk: Callable[[str], Disk]) -> None:
    """Without any space the batch does not begin, and reports so in one line."""
    small = disk("1m")
    table = write_table(small.path / "batch", 3)
    small.fill(leave_kib=0)
    with batchrun(small.path.parent, *command(table, "http://127.0.0.1:9/v1")) as process:
        assert process.wait() == 2
    assert process.stderr.count("\n") == 1
    assert "full" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_full_disk_under_the_output(tmp_path: Path, disk: Callable[[str], Disk]) -> None:
    """If only the output has no space, the old output stays, and the answers are in the journal."""
    small = disk("1m")
    table = write_table(tmp_path / "batch", 40)
    target = small.path / "answers.csv"
    with Served(tmp_path / "server") as server, batchrun(tmp_path, *command(table, server.url)) as process:
        assert process.wait() == 0, process.stderr
    target.write_text("old\n")
    small.fill(leave_kib=0)
    with batchrun(tmp_path, "export", table.output, "-o", target) as process:
        assert process.wait() == 2
    assert "the disk is full" in process.stderr
    assert process.stderr.count("\n") == 1
    assert target.read_text() == "old\n"
    assert sorted(path.name for path in small.path.iterdir()) == ["answers.csv", "filler"]
    small.make_space()
    with batchrun(tmp_path, "export", table.output, "-o", target) as process:
        assert process.wait() == 0, process.stderr
    assert target.read_bytes() == table.output.read_bytes()


def test_a_full_disk_under_the_server(tmp_path: Path, disk: Callable[[str], Disk]) -> None:
    """A server with a full disk reports so to its clients; after space is made and the server is restarted, it
    completes the rows."""
    small = disk("24m")
    table = write_table(tmp_path / "batch", 100)
    with Served(small.path / "server") as server:
        small.fill(leave_kib=600)
        arguments = command(table, server.url, "--max-attempts", "1", "--row-timeout", "3")
        with batchrun(tmp_path, *arguments) as process:
            assert process.wait() == 3, process.stderr
        failed = [row for row in table.answers() if row["status"] == "failed"]
        small.make_space()
        server.kill()
        server.start()
        with batchrun(tmp_path, *arguments, "--retry-failed") as process:
            assert process.wait() == 0, process.stdout

    assert "The server's disk is full." in {row["error"] for row in failed}
    answers = table.answers()
    assert [row["response"] for row in answers] == [f"answer {row}" for row in range(table.rows)]


def test_a_folder_that_cannot_be_written(disk: Callable[[str], Disk]) -> None:
    """On a read-only file system the batch does not begin, and reports so in one line."""
    small = disk("1m")
    table = write_table(small.path / "batch", 3)
    small.mount("ro")
    with batchrun(small.path.parent, *command(table, "http://127.0.0.1:9/v1")) as process:
        assert process.wait() == 2
    assert process.stderr.count("\n") == 1
    assert "cannot be written (Read-only file system)" in process.stderr


def test_a_journal_that_can_only_be_read(tmp_path: Path, disk: Callable[[str], Disk]) -> None:
    """A finished batch on a read-only file system can still be inspected with status and export."""
    small = disk("4m")
    table = write_table(small.path / "batch", 5)
    with Served(tmp_path / "server") as server, batchrun(tmp_path, *command(table, server.url)) as process:
        assert process.wait() == 0, process.stderr
    small.mount("ro")
    for arguments in (("status", table.output), ("export", table.output, "-o", tmp_path / "copy.csv")):
        with batchrun(tmp_path, *arguments) as process:
            assert process.wait() == 0, process.stderr
    assert (tmp_path / "copy.csv").read_bytes() == table.output.read_bytes()
