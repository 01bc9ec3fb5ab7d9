"""A batch whose workers are on a Ray cluster: the table of one process, each row answered once, whatever is lost."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from batchrun.scale.journal_copies import COPY_S
from tests.integration.reliability.batches import ENDED, Table, command, write_table
from tests.integration.reliability.network import Proxy
from tests.integration.reliability.processes import Batchrun, Served, batchrun, wait_until
from tests.support.ray_cluster import HeadAndNodes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

LATEST_S = 200.0
CONCURRENCY = 16


def wait_for_rows(table: Table, process: Batchrun, rows: int) -> None:
    """Wait until the leader knows that so many rows have ended."""
    wait_until(process, lambda: table.count(ENDED) >= rows)


def assert_each_row_is_answered_once(table: Table, server: Served) -> None:
    """The output has every answer, and the service made one answer for each row: repeated requests had the same keys."""
    assert [row["response"] for row in table.answers()] == [f"answer {row}" for row in range(table.rows)]
    assert len(server.records().of("completion")) == table.rows
    assert not table.journal.with_name(table.journal.name + ".d").exists()


def is_replaced(process: Batchrun, times: int) -> bool:
    """Return whether the leader has noticed so many losses."""
    return process.stderr.count("another one continues with its rows") == times


def arguments(table: Table, server: Served | Proxy, address: str) -> list[str | Path]:
    options = ("--workers", "2", "--concurrency", str(CONCURRENCY), "--ray", address)
    return command(table, server.url, *options, api="chat")


def test_the_workers_of_a_cluster_answer_a_table(tmp_path: Path, ray_nodes: HeadAndNodes) -> None:
    """All rows are answered, by two workers; standard output has the summary and nothing of Ray."""
    table = write_table(tmp_path / "batch", 450)
    with Served(tmp_path / "server", delay_s=0.0, delta_delay_s=0.0) as server:
        with batchrun(table.folder, *arguments(table, server, ray_nodes.address)) as process:
            assert process.wait(LATEST_S) == 0, process.stderr
        assert process.stdout.count("\n") == 1
        assert process.facts()["completed"] == 450
    assert_each_row_is_answered_once(table, server)


def test_a_killed_worker_whose_node_lives_sends_only_rows_in_flight_again(
    tmp_path: Path, ray_nodes: HeadAndNodes
) -> None:
    """The replacement of a worker starts on its node, and continues with the journal that is there: also with what was
    in no copy yet. The folder of the lost worker is deleted."""
    table = write_table(tmp_path / "batch", 2_000)
    with Served(tmp_path / "server", delay_s=0.1, delta_delay_s=0.0) as server, Proxy(server.url) as proxy:
        with batchrun(table.folder, *arguments(table, proxy, ray_nodes.address)) as process:
            for number in (1, 2):
                wait_for_rows(table, process, number * 300)
                # Far more rows have ended than the leader knows: most of them are of one worker or the other.
                wait_until(process, lambda: len(proxy.requests) - table.count(ENDED) > 100)
                killed = max(ray_nodes.workers(), key=lambda worker: len(worker.open_files()))
                folders = {Path(file.path).parent for file in killed.open_files() if file.path.endswith(".journal")}
                assert folders
                killed.kill()
                wait_until(process, partial(is_replaced, process, number))
            assert process.wait(LATEST_S) == 0, process.stderr
        asked = Counter(request.body for request in proxy.requests)
        assert len(asked) == 2_000
        assert len(proxy.requests) <= 2_000 + 2 * CONCURRENCY
        assert not any(folder.exists() for folder in folders)
        assert process.facts()["completed"] == 2_000
    assert_each_row_is_answered_once(table, server)


def test_a_lost_node_costs_no_answer(tmp_path: Path, ray_nodes: HeadAndNodes) -> None:
    """A node that is killed in the middle: its rows since the last copy are asked again, under the same keys, which are
    those that the limit allows in that time, and the rows in flight."""
    table = write_table(tmp_path / "batch", 600)
    rpm = 1_800
    with Served(tmp_path / "server", delay_s=0.1, delta_delay_s=0.0) as server, Proxy(server.url) as proxy:
        with batchrun(table.folder, *arguments(table, proxy, ray_nodes.address), "--rpm", str(rpm)) as process:
            wait_for_rows(table, process, 100)
            ray_nodes.lose_node()
            ray_nodes.add_node()
            assert process.wait(LATEST_S) == 0, process.stderr
        assert "another one continues with its rows" in process.stderr
        facts = process.facts()
        assert facts["completed"] == 600
        again = len(proxy.requests) - 600
        assert 0 <= again <= rpm / 60 * COPY_S + CONCURRENCY
        # Only requests that were in flight in the last copy are known to be repeated.
        assert facts["created_again"] <= CONCURRENCY
    assert_each_row_is_answered_once(table, server)


def test_a_lost_leader_costs_no_answer(tmp_path: Path, ray_nodes: HeadAndNodes) -> None:
    """The driver is killed in the middle: the same command continues, also without Ray, and asks no finished row again."""
    table = write_table(tmp_path / "batch", 2_000)
    with Served(tmp_path / "server", delay_s=0.1, delta_delay_s=0.0) as server:
        with batchrun(table.folder, *arguments(table, server, ray_nodes.address)) as process:
            wait_for_rows(table, process, 100)
            assert process.kill()
        known = table.count(ENDED)
        with batchrun(table.folder, *command(table, server.url, "--concurrency", "16", api="chat")) as process:
            assert process.wait(LATEST_S) == 0, process.stderr
        assert process.facts()["finished_before"] >= known
    assert_each_row_is_answered_once(table, server)
