"""`batchrun.ray.Ask` in pipelines of Ray Data, each in a process of its own that starts a Ray on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

START = """
import json, pandas as pd, ray
ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
import batchrun, batchrun.ray
pool = ray.data.ActorPoolStrategy(size=2)
def table(rows):
    frame = pd.DataFrame({"number": range(rows), "q": [f"What is {n} + {n}?" for n in range(rows)]})
    return ray.data.from_pandas(frame).repartition(4)
def ask(ds, batch_format="pandas", **options):
    made = ds.map_batches(batchrun.ray.Ask, fn_constructor_kwargs=options, compute=pool, batch_format=batch_format)
    return made.to_pandas().sort_values("number")
"""


def result_of(code: str) -> Any:
    """Run a pipeline; return the JSON that it prints last."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "100"}
    done = subprocess.run(
        [sys.executable, "-c", START + code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_each_row_has_its_answer() -> None:
    """Batches of pandas and of Arrow, on two workers: the columns of the input and the answer; a row without a prompt
    is a failed row and not the end of the pipeline."""
    found = result_of("""
def spoiled(frame):
    frame["q"] = frame["q"].astype(object)
    frame.loc[frame["number"] == 3, "q"] = None
    return frame
rows = table(12).map_batches(spoiled, batch_format="pandas")
answers = [ask(rows, kind, model="tutor", prompt="{{ q }}") for kind in ("pandas", "pyarrow")]
print(json.dumps([[frame[name].tolist() for name in ("number", "response", "status")] for frame in answers], default=str))
""")
    for numbers, responses, statuses in found:
        assert numbers == list(range(12))
        assert statuses == ["failed" if number == 3 else "completed" for number in numbers]
        assert [responses[number] for number in (0, 11)] == ["0 + 0 = 0.", "11 + 11 = 22."]


def test_a_batch_on_the_cluster_of_the_program() -> None:
    """`batchrun.ray.run` uses the connection that the program has, and keeps it."""
    found = result_of("""
answers = batchrun.ray.run([{"q": f"{n} + {n}"} for n in range(150)], model="tutor", ray="local", workers=2)
print(json.dumps([answers["response"].tolist(), ray.is_initialized()]))
""")
    assert found == [[f"{n} + {n} = {2 * n}." for n in range(150)], True]


def test_workers_share_a_budget() -> None:
    """Two workers spend at most the budget together; rows for which nothing is left are rows with that reason."""
    frame = result_of("""
prices = {"tutor": {"input": 1000, "output": 1000}}
frame = ask(table(200), model="tutor", prompt="{{ q }}", budget=1.0, prices=prices, max_completion_tokens=20)
print(json.dumps({name: frame[name].astype(object).where(frame[name].notna(), None).tolist()
    for name in ("status", "cost_usd", "error_type", "error")}))
""")
    spent_usd = sum(cost for cost in frame["cost_usd"] if cost is not None)
    assert 0.5 < spent_usd <= 1.0
    pending = [n for n, status in enumerate(frame["status"]) if status == "pending"]
    assert 0 < len(pending) < 200
    assert {frame["error_type"][n] for n in pending} == {"batch_stopped"}
    assert all("budget" in frame["error"][n] for n in pending)


def test_what_cannot_be_used_is_refused_in_a_line() -> None:
    """An option without an effect, limits that differ under one name, and batches that are dicts of arrays."""
    messages = result_of("""
def refusal(act):
    try:
        act()
    except batchrun.InputError as exc:
        return str(exc)
first = batchrun.ray.Ask(model="tutor", prompt="{{ q }}", rpm=600)
print(json.dumps([
    refusal(lambda: batchrun.ray.Ask(model="tutor", output="answers.csv")),
    refusal(lambda: batchrun.ray.Ask(model="tutor", dedupe=True)),
    refusal(lambda: batchrun.ray.Ask(model="tutor", rpm=700)),
    refusal(lambda: first({"q": ["1 + 1"]})),
]))
""")
    assert messages[0] == "output: cannot be used with batchrun.ray.Ask: the answers are columns of the batch"
    assert "dedupe" in messages[1]
    assert messages[2].startswith("governor: 'batchrun' has other limits")
    assert messages[3] == "map_batches: give batch_format='pandas' or batch_format='pyarrow', which batchrun takes"
