"""SIGKILL of the batch and of the server at any moment. The server's own records show which runs were made."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.reliability.batches import (
    ENDED,
    UNNAMED,
    assert_each_row_once,
    command,
    kill_and_resume,
    killed_when,
    write_table,
)
from tests.integration.reliability.network import Proxy
from tests.integration.reliability.processes import Served, batchrun


def test_a_batch_killed_five_times_makes_each_run_once(tmp_path: Path) -> None:
    """Killed while it starts, works and writes, a batch resumes until the output has each row once, with one run per
    row."""
    table = write_table(tmp_path / "batch", 400)
    with Served(tmp_path / "server") as server:
        kills = Counter(
            kill_and_resume(table, command(table, server.url), seed=1123, starting=1, under_way=3, writing=1)
        )
    assert kills == {"starting": 1, "under_way": 3, "writing": 1}
    assert_each_row_once(table, server)


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_batch_killed_fifty_times_makes_each_run_once(tmp_path: Path, seed: int) -> None:
    """The same for 2,000 rows and 50 kills."""
    table = write_table(tmp_path / "batch", 2_000)
    with Served(tmp_path / "server") as server:
        kills = kill_and_resume(table, command(table, server.url), seed=seed, starting=10, under_way=34, writing=6)
        assert Counter(kills).total() == 50
    assert_each_row_once(table, server)


def test_a_killed_server_takes_its_runs_up_again(tmp_path: Path) -> None:
    """A server that was killed twice under a batch resumes from its file: each row has its answer, and one run."""
    table = write_table(tmp_path / "batch", 150)
    with (
        Served(tmp_path / "server", delta_delay_s=0.05) as server,
        batchrun(table.folder, *command(table, server.url)) as process,
    ):
        for rows in (30, 90):
            while process.running and table.count(ENDED) < rows:
                time.sleep(0.005)
            server.kill()
            server.start()
        assert process.wait() == 0, process.stderr
    assert_each_row_once(table, server)


@pytest.mark.parametrize(
    ("api", "options", "kind"),
    [
        ("responses", (), "response"),
        ("responses", ("--background",), "response"),
        ("responses", ("--stream",), "response"),
        ("chat", (), "completion"),
    ],
)
def test_every_protocol_survives_a_kill(tmp_path: Path, api: str, options: tuple[str, ...], kind: str) -> None:
    """In every protocol, a server that supports Idempotency-Key makes one answer per row of a killed batch."""
    table = write_table(tmp_path / "batch", 80)
    with Served(tmp_path / "server", delta_delay_s=0.05) as server:
        arguments = command(table, server.url, *options, api=api)
        with batchrun(table.folder, *arguments) as process:
            assert killed_when(process, lambda: table.count(ENDED) >= 20), process.stderr
        with batchrun(table.folder, *arguments) as process:
            assert process.wait() == 0, process.stderr
    assert [row["response"] for row in table.answers()] == [f"answer {row}" for row in range(table.rows)]
    assert len(server.records().of(kind)) == table.rows


@pytest.mark.parametrize(("api", "kind"), [("assistants", "run"), ("responses", "response")])
def test_without_idempotency_keys_only_unnamed_requests_are_made_again(tmp_path: Path, api: str, kind: str) -> None:
    """If keys are ignored, a killed batch sends again at most the requests without an id, and its summary counts them."""
    table = write_table(tmp_path / "batch", 120)
    with (
        Served(tmp_path / "server", delay_s=0.2, delta_delay_s=0.02) as server,
        Proxy(server.url, without=frozenset({"idempotency-key"})) as proxy,
    ):
        arguments = command(table, proxy.url, api=api)
        with batchrun(table.folder, *arguments) as process:
            assert killed_when(process, lambda: table.count(ENDED) >= 30), process.stderr
        in_flight_unnamed = table.count(UNNAMED)
        with batchrun(table.folder, *arguments) as process:
            assert process.wait() == 0, process.stderr
            summary = process.facts()
    answers, made = table.answers(), server.records().of(kind)
    assert [row["response"] for row in answers] == [f"answer {row}" for row in range(table.rows)]
    assert len({row["run_id"] for row in answers}) == table.rows
    assert summary["created_again"] == in_flight_unnamed
    assert 0 <= len(made) - table.rows <= in_flight_unnamed
