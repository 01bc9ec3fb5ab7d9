"""A batch on Ray with a budget: what the service bills is at most the budget, whatever is lost.

The service bills each request that reaches it, also one that repeats another under the same idempotency key.
"""

from __future__ import annotations

import re
import shutil
import signal
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batchrun.journal import Journal
from tests.integration.reliability.processes import Batchrun, batchrun, wait_until
from tests.support.chat import chat_reply
from tests.support.object_store import ObjectStore
from tests.support.ray_cluster import HeadAndNodes
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

LATEST_S = 200.0
ROWS = 6_000
BUDGET_USD = 2_000.0
MOST_USD = 1.20
"""What a row may cost: a prompt of at most 20 tokens, and a completion of at most 100, at a cent each."""
UNKNOWN = 300
"""Rows that the leader does not know of when something is lost."""


class Service:
    """Answers `row 17` with a usage that depends on the row.

    Mutable state: `asked`, how often each row was.
    """

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        row = int(request.body["messages"][-1]["content"].removeprefix("row "))
        with self._lock:
            self.asked[row] += 1
        time.sleep(0.1)
        return json_answer(chat_reply(f"answer {row}", usage=self.usage(row)))

    @staticmethod
    def usage(row: int) -> dict[str, int]:
        completion = row * 37 % 100
        return {"prompt_tokens": 3, "completion_tokens": completion, "total_tokens": 3 + completion}

    def billed_usd(self) -> float:
        with self._lock:
            return sum(self.usage(row)["total_tokens"] * times for row, times in self.asked.items()) / 100

    def requests(self) -> int:
        with self._lock:
            return self.asked.total()


def machine(folder: Path, url: str, output: str) -> list[str | Path]:
    """Write the table and the job into a folder, which a lost machine has no more; return the command without Ray."""
    folder.mkdir()
    (folder / "rows.csv").write_text("question\n" + "".join(f"row {row}\n" for row in range(ROWS)))
    lines = f'input = "rows.csv"\noutput = "{output}"\nbase_url = "{url}"\nmodel = "m"\napi = "chat"\n'
    (folder / "job.toml").write_text(lines + '[prices."m"]\ninput = 10000.0\noutput = 10000.0\n')
    return ["run", "job.toml", "--max-completion-tokens", "100", "--concurrency", "16", "--json"]


def on_ray(nodes: HeadAndNodes, budget_usd: float = BUDGET_USD) -> list[str]:
    return ["--workers", "2", "--ray", nodes.address, "--budget", str(budget_usd)]


def has_unknown_rows(folder: Path, service: Service) -> bool:
    """Return whether the leader knows of some rows, and far more have ended since."""
    path = next(folder.rglob("answers.csv.journal"), None)
    if path is None or not service.requests():
        return False
    with Journal(path, read_only=True) as journal:
        ended = journal.counts().ended
    return ended > 0 and service.requests() - ended > UNKNOWN


def announced(folder: Path) -> bool:
    """Return whether the journal has an announcement."""
    with Journal(folder / "answers.csv.journal", read_only=True) as journal:
        return "announced" in journal.read_manifest()


def gone(nodes: HeadAndNodes) -> None:
    """Wait until the workers of a leader that was killed have ended: for some seconds they continue to send rows."""
    until = time.monotonic() + LATEST_S
    while nodes.workers():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_replaced(process: Batchrun, times: int) -> bool:
    """Return whether the leader has noticed so many losses."""
    return process.stderr.count("another one continues with its rows") == times


def unaccounted_usd(process: Batchrun) -> float:
    """Return the money that the last line about it names; 0 without one."""
    found = re.findall(r"--budget: \$([\d.,]+) counts as spent besides the cost of the answers", process.stderr)
    return float(found[-1].replace(",", "")) if found else 0.0


def assert_used_to_its_end(process: Batchrun, lost_usd: float) -> None:
    """The batch stopped for the budget, and the figures of the message add up: no other row can be paid."""
    assert process.wait(LATEST_S) == 4, process.stderr
    facts = process.facts()
    found = re.fullmatch(
        r"the budget of \$(\S+) is reached: \$(\S+) is spent, (?:up to \$(\S+) more for .*, )?and the next row may cost "
        r"\$(\S+); rerun .*",
        facts["stop"],
    )
    assert found is not None, facts["stop"]
    budget_usd, spent_usd, unseen_usd, next_usd = (float((each or "0").replace(",", "")) for each in found.groups())
    assert budget_usd == BUDGET_USD
    assert spent_usd + unseen_usd + next_usd > BUDGET_USD - 1e-3
    assert spent_usd + unseen_usd >= facts["cost_usd"] + lost_usd - 1e-3
    assert next_usd <= MOST_USD


@pytest.mark.parametrize("then", ["on Ray", "without Ray", "on another machine"])
def test_a_lost_leader_does_not_exceed_the_budget(
    tmp_path: Path, ray_nodes: HeadAndNodes, server: ObjectStore, bucket: Any, then: str
) -> None:
    """What its workers spent after the last copies of their journals counts for the next run, which says how much that
    may be; with or without Ray, and on a machine that has only what is in the store."""
    service = Service()
    output = f"s3://{bucket.base_path.rstrip('/')}/answers.csv" if then == "on another machine" else "answers.csv"
    with ScriptedHttp(service) as http:
        command = machine(tmp_path / "first", http.url, output)
        with batchrun(tmp_path / "first", *command, *on_ray(ray_nodes), environ=server.environ) as process:
            wait_until(process, lambda: has_unknown_rows(tmp_path / "first", service))
            assert process.kill()
        gone(ray_nodes)
        billed_usd = service.billed_usd()
        folder = tmp_path / "first"
        if then == "on another machine":
            shutil.rmtree(folder)
            folder = tmp_path / "second"
            machine(folder, http.url, output)
        how = ["--budget", str(BUDGET_USD)] if then == "without Ray" else on_ray(ray_nodes)
        with batchrun(folder, *command, *how, environ=server.environ) as process:
            assert process.wait(LATEST_S) == 4, process.stderr
        lost_usd = unaccounted_usd(process)
        assert service.billed_usd() <= BUDGET_USD
        assert service.billed_usd() > billed_usd
        assert lost_usd > UNKNOWN / 10
        assert_used_to_its_end(process, lost_usd)
        # Nothing is announced any more: a run that ends well adds nothing to it.
        with batchrun(folder, *command, *how, environ=server.environ) as process:
            assert_used_to_its_end(process, lost_usd)
        assert unaccounted_usd(process) == lost_usd
        assert service.billed_usd() <= BUDGET_USD


def test_workers_killed_on_a_node_that_lives_keep_the_budget(tmp_path: Path, ray_nodes: HeadAndNodes) -> None:
    """Their journals are there: only their requests without an answer count with their reservations. Before that, a run
    that is stopped with Ctrl-C leaves nothing announced."""
    service, folder = Service(), tmp_path / "batch"
    with ScriptedHttp(service) as http:
        command = machine(folder, http.url, "answers.csv")
        with batchrun(folder, *command, *on_ray(ray_nodes)) as process:
            wait_until(process, lambda: has_unknown_rows(folder, service))
            assert announced(folder)
            process.signal(signal.SIGINT)
            assert process.wait(LATEST_S) == 130, process.stderr
        assert not announced(folder)
        with batchrun(folder, *command, *on_ray(ray_nodes)) as process:
            for number in (1, 2):
                wait_until(process, lambda: has_unknown_rows(folder, service))
                max(ray_nodes.workers(), key=lambda worker: len(worker.open_files())).kill()
                wait_until(process, partial(is_replaced, process, number))
            assert_used_to_its_end(process, 0.0)
        assert unaccounted_usd(process) == 0.0
        assert service.billed_usd() <= BUDGET_USD
        assert not announced(folder)


def test_two_leaders_do_not_exceed_the_budget(
    tmp_path: Path, ray_nodes: HeadAndNodes, server: ObjectStore, bucket: Any
) -> None:
    """The batch is begun on another machine while it runs: that leader counts what the first one may still spend, and
    the first one lends no more than that."""
    service = Service()
    output = f"s3://{bucket.base_path.rstrip('/')}/answers.csv"
    with ScriptedHttp(service) as http:
        command = machine(tmp_path / "older", http.url, output)
        machine(tmp_path / "younger", http.url, output)
        options = [*command, *on_ray(ray_nodes)]
        with batchrun(tmp_path / "older", *options, environ=server.environ) as older:
            wait_until(older, lambda: has_unknown_rows(tmp_path / "older", service))
            with batchrun(tmp_path / "younger", *options, environ=server.environ) as younger:
                assert older.wait(LATEST_S) == 6, older.stderr
                assert younger.wait(LATEST_S) == 4, younger.stderr
        assert service.billed_usd() <= BUDGET_USD
        lost_usd = unaccounted_usd(younger)
        assert lost_usd > UNKNOWN / 10
        assert_used_to_its_end(younger, lost_usd)


def test_a_lost_node_does_not_exceed_the_budget(tmp_path: Path, ray_nodes: HeadAndNodes) -> None:
    """All that its worker was lent counts as spent; a line says so, also when the batch continues."""
    service, folder = Service(), tmp_path / "batch"
    with ScriptedHttp(service) as http:
        command = machine(folder, http.url, "answers.csv")
        with batchrun(folder, *command, *on_ray(ray_nodes)) as process:
            wait_until(process, lambda: has_unknown_rows(folder, service))
            ray_nodes.lose_node()
            ray_nodes.add_node()
            assert process.wait(LATEST_S) == 4, process.stderr
        lost_usd = unaccounted_usd(process)
        assert service.billed_usd() <= BUDGET_USD
        assert lost_usd > 0
        assert_used_to_its_end(process, lost_usd)
        with batchrun(folder, *command, *on_ray(ray_nodes)) as process:
            assert_used_to_its_end(process, lost_usd)
        assert unaccounted_usd(process) == lost_usd
        assert service.billed_usd() <= BUDGET_USD
