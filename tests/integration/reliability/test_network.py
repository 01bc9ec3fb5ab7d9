"""All faults of a network at the same time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.reliability.batches import Table, assert_each_row_once, command, write_table
from tests.integration.reliability.network import Fault, Proxy, planned
from tests.integration.reliability.processes import Served, batchrun

RATES: dict[Fault, float] = {
    "reset": 0.10,
    "429": 0.10,
    "500": 0.05,
    "lost_reply": 0.05,
    "stall": 0.05,
    "html": 0.02,
}
FAILED_RUNS = """
[[fault]]
kind = "run_failed"
code = "rate_limit_exceeded"
rate = 0.05
after_deltas = 1
"""


def ask(table: Table, proxy: Proxy, *options: str) -> tuple[float, dict[str, object]]:
    """Return the seconds that a batch took, and its summary. More than a third of the attempts fail, so five attempts
    per row would be too few."""
    started_s = time.monotonic()
    with batchrun(table.folder, *command(table, proxy.url, "--max-attempts", "12", *options)) as process:
        assert process.wait(600) == 0, process.stdout
    return time.monotonic() - started_s, process.facts()


def test_a_bad_network_loses_nothing_and_makes_nothing_twice(tmp_path: Path) -> None:
    """With resets in the middle of streams, 429, 5xx before and after the work, stalls, failed runs and HTML at the
    same time, every row completes, and only failed runs are made again."""
    table = write_table(tmp_path / "batch", 50)
    with (
        Served(tmp_path / "server", faults=FAILED_RUNS) as server,
        Proxy(server.url, planned(24, RATES, tries=2), retry_after_s=0.05) as proxy,
    ):
        ask(table, proxy, "--silence-timeout", "0.5", "--concurrency", "25")
    assert proxy.faults.keys() == RATES.keys()
    records = assert_each_row_once(table, server, spare_runs=True)
    failed = [run for run in records.of("run").values() if run["status"] == "failed"]
    assert failed
    assert {run["last_error"]["code"] for run in failed} == {"rate_limit_exceeded"}


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_a_bad_network_takes_at_most_twice_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the same faults, 1,000 rows of a few seconds each at a given concurrency take at most twice as long."""
    rows, taken = 1_000, {}
    for name, faults, plan in (("good", None, {}), ("bad", FAILED_RUNS, RATES)):
        table = write_table(tmp_path / name, rows)
        with (
            Served(tmp_path / f"server-{name}", delay_s=1.0, delta_delay_s=0.5, faults=faults) as server,
            Proxy(server.url, planned(7, plan, tries=2), retry_after_s=0.2) as proxy,
        ):
            taken[name], facts = ask(table, proxy, "--silence-timeout", "3", "--concurrency", "40")
        assert_each_row_once(table, server, spare_runs=True)
        with capsys.disabled():
            print(f"\n{name}: {taken[name]:.1f} s, {facts['requests']} requests, {facts['faults']} faults")
    assert taken["bad"] <= 2 * taken["good"]
