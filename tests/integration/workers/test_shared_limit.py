"""Worker processes that share a rate limit, before a service that enforces it."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.scale.rate_governor import BURST_SHARE
from batchrun.scale.spare_units import SPARE_SHARE
from tests.support.command import Result, batchrun
from tests.support.scripted_http import ScriptedHttp
from tests.support.strict_rate import StrictRate


def ran(folder: Path, service: StrictRate, rows: int, rpm: int) -> Result:
    """Run a table with two workers."""
    (folder / "rows.csv").write_text("prompt\n" + "".join(f"row {n}\n" for n in range(rows)), encoding="utf-8")
    with ScriptedHttp(service) as server:
        options = ("--base-url", server.url, "--model", "m", "--api", "chat", "--workers", "2", "--rpm", str(rpm))
        return batchrun(folder, "run", "rows.csv", "-o", "out.csv", "--json", *options)


def test_two_workers_together_keep_to_one_limit(tmp_path: Path) -> None:
    """Two workers take the time that one would take: no part of the limit is used twice."""
    service = StrictRate(6_000)
    result = ran(tmp_path, service, rows=300, rpm=6_000)
    assert (result.returncode, result.facts()["completed"]) == (0, 300), result.stderr
    bursts = 2 + (BURST_SHARE + SPARE_SHARE) * 6_000
    took_s = service.accepted_at_s[-1] - service.accepted_at_s[0]
    assert took_s >= (300 - bursts) / 100


@pytest.mark.nightly
def test_a_steady_minute_is_used(tmp_path: Path) -> None:
    """In a steady minute, two workers use 97 % of what the service allows, and it refuses nothing."""
    service = StrictRate(1_200)
    result = ran(tmp_path, service, rows=1_600, rpm=1_200)
    assert (result.returncode, result.facts()["completed"]) == (0, 1_600), result.stderr
    assert service.refused == 0
    assert service.used(10, 70) >= 0.97 * 1_200
