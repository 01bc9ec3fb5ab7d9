"""--batch-api through LiteLLM's proxy, in front of the embedded server's Batch API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from batchrun.batch.cancel import cancel_batch
from batchrun.batch.cleanup import clean_up
from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary, summary_lines
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.script import ScriptResponder
from tests.integration.compat.litellm import INSTALLED, KEY, free_port, running
from tests.integration.reliability.network import Fault, Proxy, Request
from tests.support.rows import read_csv, write_csv

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.compat,
    pytest.mark.skipif(not INSTALLED, reason="run tests/integration/compat/install.sh first"),
    pytest.mark.timeout(300),
]

TABLE = [{"question": f"question {number}"} for number in range(5)]
ENVIRONMENT = Environment(api_key=KEY)


@dataclass(frozen=True, slots=True)
class Service:
    """LiteLLM's proxy, and the port on which it expects the server behind it."""

    url: str
    port: int

    @contextmanager
    def answering(self, folder: Path, faults: str = "") -> Iterator[openai.OpenAI]:
        """Run the server behind it, whose Batch API has these planned faults; yield a client of that server."""
        path = folder / "script.toml"
        path.write_text(f'[default]\nreply = "An answer."\n{faults}', encoding="utf-8")
        with (
            EmbeddedServer(ServerSettings(port=self.port, shutdown_grace_s=0.05), ScriptResponder(path)) as server,
            openai.OpenAI(base_url=server.url, api_key="sk-any") as client,
        ):
            yield client


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    port = free_port()
    with running(tmp_path_factory.mktemp("litellm"), f"http://127.0.0.1:{port}/v1") as url:
        yield Service(url, port)


async def run(folder: Path, url: str, **options: Any) -> Summary:
    table = write_csv(folder / "in.csv", TABLE)
    job = make_job({"base_url": url, "model": "m", "batch_api": True, "batch_poll": 0.2, "api": "chat", **options})
    return await run_batch(make_plan(job, table, ENVIRONMENT, folder / "out.csv"), ENVIRONMENT)


def answers(folder: Path) -> list[str]:
    """Return the answer of each row, or its error type."""
    return [row["response"] or row["error_type"] for row in read_csv(folder / "out.csv")]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_answers_come_through(tmp_path: Path, litellm: Service, api: str) -> None:
    """Every row is answered through one batch at the service; cleanup deletes its files there."""
    with litellm.answering(tmp_path) as behind:
        summary = await run(tmp_path, litellm.url, api=api)
        assert (summary.exit_code, answers(tmp_path)) == (0, ["An answer."] * 5)
        assert len({row["run_id"] for row in read_csv(tmp_path / "out.csv")}) == 5
        assert len(list(behind.batches.list())) == 1
        cleaned = await clean_up(tmp_path / "out.csv", make_job({"max_attempts": 1}), ENVIRONMENT)
        assert cleaned.deleted["file"] == 2
        assert [file for file in behind.files.list() if file.purpose.startswith("batch")] == []


def fault(kind: str, **keys: object) -> str:
    """Return an entry of the script."""
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for name, value in keys.items()
    ]
    return "\n".join(["[[batch_api]]", f"kind = {kind!r}", *lines, ""])


GOOD = ["An answer."] * 5


@pytest.mark.parametrize(
    ("faults", "exit_code", "expected", "said"),
    [
        (fault("expire", lines=[1, 2], batches=[1]), 0, GOOD, "1 batch expired; 2 rows were asked again"),
        (fault("line_error", lines=[2], status=429, code="rate_limit_exceeded", batches=[1]), 0, GOOD, "1 row was asked"),
        (fault("line_error", lines=[2], status=400, code="invalid_prompt"), 3, [*GOOD[:1], "invalid_prompt", *GOOD[2:]], ""),
        (fault("fail", code="invalid_json_line", lines=[1], batches=[1]), 3, ["invalid_json_line", *GOOD[1:]], "1 batch failed"),
        (fault("fail", code="model_not_found", message="no such model"), 5, None, "no such model"),
        (fault("missing_files", retrievals=2), 0, GOOD, ""),
        (fault("wrong_counts"), 0, GOOD, ""),
        (fault("odd_files", shuffled=True, foreign=True, repeated=True, bytes=True), 0, GOOD, ""),
        (fault("request", request="upload", status=413), 0, GOOD, ""),
        (fault("request", request="create", status=401, times=99), 5, None, "refused the key"),
        (fault("request", request="create", status=400, times=99, message="not today"), 5, None, "not today"),
        (fault("request", request="retrieve", status=404, times=2), 0, GOOD, ""),
        (fault("request", request="content", html=True, status=502, times=4), 0, GOOD, ""),
    ],
)  # fmt: skip
async def test_faults_come_through(
    tmp_path: Path, litellm: Service, faults: str, exit_code: int, expected: Sequence[str] | None, said: str
) -> None:
    """What goes wrong behind the proxy has the same consequences as without it."""
    with litellm.answering(tmp_path, faults):
        summary = await run(tmp_path, litellm.url)
    assert summary.exit_code == exit_code
    assert said in "\n".join(summary_lines(summary))
    if expected is not None:
        assert answers(tmp_path) == expected


async def test_cancel(tmp_path: Path, litellm: Service) -> None:
    """A batch can be left at the service, cancelled with what it has done, and its rest asked by the next run."""
    held = fault("hold", status="in_progress", retrievals=100_000, lines=[1], batches=[1])
    with litellm.answering(tmp_path, held) as behind:
        assert (await run(tmp_path, litellm.url, no_wait=True)).exit_code == 8
        facts = await cancel_batch(tmp_path / "out.csv", make_job({"batch_poll": 0.2}), ENVIRONMENT)
        assert (facts["cancelled"], facts["answers"], facts["pending"]) == (1, 4, 1)
        assert (await run(tmp_path, litellm.url)).exit_code == 0
        assert [each.request_counts.total for each in behind.batches.list() if each.request_counts] == [1, 5]


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
async def test_a_lost_reply_makes_no_second_batch(tmp_path: Path, litellm: Service, path: str) -> None:
    """If the reply to an upload or a creation is lost, the proxy's lists show that it was done."""
    lost: list[Request] = []

    def decide(request: Request) -> Fault | None:
        if request.method != "POST" or request.path != path or lost:
            return None
        lost.append(request)
        return "lost_reply"

    with litellm.answering(tmp_path) as behind, Proxy(litellm.url, decide) as proxy:
        assert (await run(tmp_path, proxy.url)).exit_code == 0
        assert len(lost) == 1
        assert len(list(behind.batches.list())) == 1
