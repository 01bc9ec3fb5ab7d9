"""The rehearsal of a batch: a real batch with a server that injects planned faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.fault_injection import FaultPlan, FaultyResponder
from batchrun.server.responders.tutor import TutorResponder
from tests.support.command import batchrun

PLAN = """
seed = 7
[[fault]]
kind = "http_429"
rate = 0.15
retry_after_s = 0.01
[[fault]]
kind = "http_500"
rows = ["3", "17"]
attempts = 1
[[fault]]
kind = "run_failed"
rate = 0.1
code = "rate_limit_exceeded"
"""


@pytest.mark.parametrize("api", ["assistants", "responses"])
def test_a_planned_night_ends_well(tmp_path: Path, api: str) -> None:
    """A repeated request has a new draw, so that no row gets the same fault forever."""
    (tmp_path / "faults.toml").write_text(PLAN, encoding="utf-8")
    (tmp_path / "q.csv").write_text("question\n" + "".join(f"{n}+1\n" for n in range(25)), encoding="utf-8")
    plan = FaultPlan.load(tmp_path / "faults.toml")
    responder = FaultyResponder(TutorResponder(), plan)
    with EmbeddedServer(ServerSettings(), responder, faults=plan) as server:
        arguments = ["--base-url", server.url, "--model", "tutor", "--api", api, "--max-attempts", "12"]
        done = batchrun(tmp_path, "run", "q.csv", *arguments, "--json", OPENAI_API_KEY="sk-test")
    assert done.returncode == 0, done.stdout
    assert '"completed": 25' in done.stdout
    assert '"faults": 0' not in done.stdout
