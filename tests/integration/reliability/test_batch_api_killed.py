"""SIGKILL of a batch through the Batch API at each of its steps. The server's own records show what was paid for."""

from __future__ import annotations

import logging
import os
import re
import signal
from pathlib import Path

import openai
import pytest

from batchrun.server import EmbeddedServer, ServerSettings
from tests.integration.reliability.processes import COMMAND, batchrun
from tests.support.recording import Recording
from tests.support.rows import read_csv, write_csv

ROWS = 40
STEPS = (
    "batchrun.journal: .*new",
    "batch: POST /v1/files: 200",
    "batch: POST /v1/batches: 200",
    "submitted with",
    "batch: GET /v1/batches/[^:]*: 200",
    "/content: 200",
    f"collected {ROWS} answers",
    "row 20: completed",
)
"""Log lines at which the process is killed, one run each, in the order of the steps: the journal is there, the file is
uploaded, the batch is created, its id is in the journal, a poll, the download, the results are in the journal, and the
rows are half written."""


class _Kill(logging.Handler):
    def __init__(self, pattern: str) -> None:
        super().__init__()
        self._pattern = re.compile(pattern)

    def emit(self, record: logging.LogRecord) -> None:
        if self._pattern.search(f"{record.name}: {record.getMessage()}"):
            os.kill(os.getpid(), signal.SIGKILL)


def kill_at(pattern: str) -> None:
    """Kill this process at a line of the log."""
    logger = logging.getLogger("batchrun")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_Kill(pattern))


def _run(folder: Path, url: str, pattern: str = "(?!)") -> int:
    arguments = ["run", "in.csv", "--model", "m", "--batch-api", "--batch-poll", "0.1", "-o", "out.csv"]
    environ = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": url}
    program = f"from {__name__} import kill_at; kill_at({pattern!r}); {COMMAND}"
    with batchrun(folder, *arguments, environ=environ, program=program) as process:
        return process.wait()


@pytest.mark.timeout(300)
def test_a_kill_at_each_step_pays_for_nothing_twice(tmp_path: Path) -> None:
    """One batch is killed at every step in turn; at its end the service has made one batch and one answer for each row,
    and the output has each row once."""
    write_csv(tmp_path / "in.csv", [{"question": f"question {number}"} for number in range(ROWS)])
    responder = Recording(reply=lambda conversation: f"answer to {conversation.messages[-1].text}")
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder) as server:
        codes = [_run(tmp_path, server.url, pattern) for pattern in STEPS]
        assert codes == [-signal.SIGKILL] * len(STEPS)
        assert _run(tmp_path, server.url) == 0
        with openai.OpenAI(base_url=server.url, api_key="sk-test") as client:
            assert len(list(client.batches.list())) == 1
    assert sorted(each.messages[-1].text for each in responder.asked) == sorted(
        f"question {number}" for number in range(ROWS)
    )
    rows = read_csv(tmp_path / "out.csv")
    assert [row["response"] for row in rows] == [f"answer to question {number}" for number in range(ROWS)]
    assert {(row["status"], row["attempts"]) for row in rows} == {("completed", "1")}
