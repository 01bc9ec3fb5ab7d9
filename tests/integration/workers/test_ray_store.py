"""A batch on Ray whose output is in object storage, and whose leader is lost with its disk: an S3 server on this machine."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from tests.integration.reliability.batches import ENDED, Table, write_table
from tests.integration.reliability.network import Proxy
from tests.integration.reliability.processes import Served, batchrun, wait_until
from tests.support.object_store import ObjectStore
from tests.support.ray_cluster import HeadAndNodes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

LATEST_S = 200.0
ROWS = 2_000
CONCURRENCY = 16


def objects(bucket: Any, folder: str) -> list[str]:
    """Return the paths of all objects in a folder of a bucket."""
    found = bucket.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return sorted(each.path for each in found if each.is_file)


def gone(nodes: HeadAndNodes) -> None:
    """Wait until the workers of a leader that was killed have ended: for some seconds they continue to send rows."""
    until = time.monotonic() + LATEST_S
    while nodes.workers():
        assert time.monotonic() < until
        time.sleep(0.05)


def new_machine(tmp_path: Path, name: str) -> Table:
    """Return the table on a machine that has nothing else; its output is the default of a URL."""
    table = write_table(tmp_path / name, ROWS)
    return replace(table, output=table.folder / "outputs" / "answers.csv")


def arguments(table: Table, url: str, output: str, address: str) -> list[str | Path]:
    return [
        *("run", table.input, "-o", output, "--base-url", url, "--api", "chat", "--model", "script", "--json"),
        *("--workers", "2", "--concurrency", str(CONCURRENCY), "--ray", address),
    ]


def test_a_leader_that_is_lost_with_its_disk(
    tmp_path: Path, ray_nodes: HeadAndNodes, server: ObjectStore, bucket: Any
) -> None:
    """The same command on a new machine asks only the rows since the last copy again, under the same keys; on a third
    one, when the batch is finished, none. Without Ray, such a batch is not begun again by mistake."""
    output = f"s3://{bucket.base_path.rstrip('/')}/answers.csv"
    place = "answers.csv.journal"
    with Served(tmp_path / "server", delay_s=0.1, delta_delay_s=0.0) as service, Proxy(service.url) as proxy:

        def command(table: Table) -> list[str | Path]:
            return arguments(table, proxy.url, output, ray_nodes.address)

        first = new_machine(tmp_path, "first")
        with batchrun(first.folder, *command(first), environ=server.environ) as process:
            wait_until(process, lambda: len(objects(bucket, place)) >= 3)
            assert ray_nodes.workers()
            assert process.kill()
        gone(ray_nodes)
        ended, asked = first.count(ENDED), len(proxy.requests)
        shutil.rmtree(first.folder)
        assert 0 < ended <= asked < ROWS

        second = new_machine(tmp_path, "second")
        plain = command(second)[:-4]
        with batchrun(second.folder, *plain, environ=server.environ) as process:
            assert process.wait() == 2
        assert "a batch on Ray has put its journal there; continue it with --ray" in process.stderr
        with batchrun(second.folder, *command(second), environ=server.environ) as process:
            assert process.wait(LATEST_S) == 0, process.stderr
        facts = process.facts()
        assert f"continues with the journal at {output}.journal: " in process.stderr
        assert facts["completed"] == ROWS
        assert 0 < facts["finished_before"] <= ended
        # What the store had is not asked again, and everything else is asked once.
        assert len(proxy.requests) - asked == ROWS - facts["finished_before"]
        assert facts["created_again"] <= asked - facts["finished_before"]
        asked = len(proxy.requests)
        assert {each.split("/")[1][:6] for each in objects(bucket, place)} == {"000002"}

        third = new_machine(tmp_path, "third")
        with batchrun(third.folder, *command(third), environ=server.environ) as process:
            assert process.wait(LATEST_S) == 0, process.stderr
        assert process.facts()["finished_before"] == ROWS
        assert len(proxy.requests) == asked
    assert [row["response"] for row in third.answers()] == [f"answer {row}" for row in range(ROWS)]
    assert len(service.records().of("completion")) == ROWS


def test_a_batch_that_is_begun_elsewhere_ends_here(
    tmp_path: Path, ray_nodes: HeadAndNodes, server: ObjectStore, bucket: Any
) -> None:
    """Of two leaders the younger one continues, and only it puts the output; the older journal is not continued."""
    output = f"s3://{bucket.base_path.rstrip('/')}/answers.csv"
    older, younger = new_machine(tmp_path, "older"), new_machine(tmp_path, "younger")
    with Served(tmp_path / "server", delay_s=0.1, delta_delay_s=0.0) as service:

        def command(table: Table) -> list[str | Path]:
            return arguments(table, service.url, output, ray_nodes.address)

        def generations() -> set[str]:
            return {each.split("/")[1][:6] for each in objects(bucket, "answers.csv.journal")}

        with batchrun(older.folder, *command(older), environ=server.environ) as first:
            wait_until(first, lambda: len(objects(bucket, "answers.csv.journal")) >= 2)
            with batchrun(younger.folder, *command(younger), environ=server.environ) as second:
                wait_until(second, lambda: "000002" in generations())
                assert first.running
                assert first.wait(LATEST_S) == 6, first.stderr
                assert f"{output}.journal: this batch was begun elsewhere since; it continues there" in first.stderr
                assert not older.output.exists()
                assert second.wait(LATEST_S) == 0, second.stderr
        with batchrun(older.folder, *command(older), environ=server.environ) as first:
            assert first.wait(LATEST_S) == 2
        assert "answers.csv.journal: this batch was continued elsewhere" in first.stderr
    assert [row["response"] for row in younger.answers()] == [f"answer {row}" for row in range(ROWS)]
    assert len(service.records().of("completion")) == ROWS
