"""Workers with the other options of a batch: each means the same as in one process, or is refused in words."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import batchrun
from batchrun.errors import InputError
from tests.support.chat import chat_reply
from tests.support.command import Result
from tests.support.command import batchrun as command
from tests.support.rows import read_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

ROWS = 240


class Service:
    """Answers `row 17` with `answer 17`, and counts how often each row was asked.

    Mutable state: `asked`; `broken`, rows that it refuses; `status`, of every reply if it is not 200.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.status = 200
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        name = request.body["messages"][-1]["content"]
        with self._lock:
            self.asked[name] += 1
        if self.status != 200 or name in self.broken:
            status = 400 if self.status == 200 else self.status
            return json_answer({"error": {"message": "Planned.", "type": "planned"}}, status)
        return json_answer(chat_reply(name.replace("row", "answer")))


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with ScriptedHttp(service) as server:
        yield server.url


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("question,kind\n" + "".join(f"row {n},{'odd' if n % 2 else 'even'}\n" for n in range(ROWS)))
    return path


def ran(table: Path, url: str, *options: str, output: str = "answers.csv", workers: int = 2) -> Result:
    """Run the table with workers; a process of its own for each takes most of a test's time."""
    arguments = ("run", table.name, "-o", output, "--base-url", url, "--model", "m", "--api", "chat", "--json")
    return command(table.parent, *arguments, "--prompt", "{{ question }}", "--workers", str(workers), *options)


def answers(table: Path, output: str = "answers.csv") -> list[dict[str, str]]:
    return read_csv(table.with_name(output))


def test_rows_that_failed_are_asked_again(service: Service, url: str, table: Path) -> None:
    """--retry-failed asks the rows that failed, and only these; --where selects rows first."""
    service.broken = {f"row {n}" for n in range(0, ROWS, 40)}
    first = ran(table, url, "--where", "kind == 'even'")
    assert (first.returncode, first.facts()["failed"], first.facts()["skipped"]) == (3, 6, ROWS // 2)
    service.broken.clear()
    again = ran(table, url, "--retry-failed", workers=1)
    facts = again.facts()
    assert (again.returncode, facts["completed"], facts["this_run"]["asked"]) == (0, ROWS, ROWS // 2 + 6)
    assert facts["finished_before"] == ROWS // 2 - 6
    assert [row["response"] for row in answers(table)] == [f"answer {n}" for n in range(ROWS)]
    assert Counter(service.asked.values()) == {1: ROWS - 6, 2: 6}


def test_combinations_have_their_own_rows(service: Service, url: str, table: Path) -> None:
    """--epochs asks each row several times, also across shards, and each has its own answer."""
    assert ran(table, url, "--epochs", "2").returncode == 0
    assert Counter(service.asked.values()) == {2: ROWS}
    assert [row["question"] for row in answers(table)] == [f"row {n // 2}" for n in range(2 * ROWS)]


def test_a_cache_answers_and_learns(service: Service, url: str, table: Path) -> None:
    """Answers of a batch with workers are in the cache, from which another one takes them."""
    half = table.with_name("half.csv")
    half.write_text("question,kind\n" + "".join(f"row {n},x\n" for n in range(0, ROWS, 2)))
    assert ran(half, url, "--cache", "answers.cache", output="half-answers.csv", workers=1).returncode == 0
    facts = ran(table, url, "--cache", "answers.cache").facts()
    assert (facts["completed"], facts["from_cache"], facts["this_run"]["asked"]) == (ROWS, ROWS // 2, ROWS // 2)
    facts = ran(table, url, "--cache", "answers.cache", output="third.csv", workers=1).facts()
    assert (facts["completed"], facts["from_cache"]) == (ROWS, ROWS)
    assert Counter(service.asked.values()) == {1: ROWS}
    assert [row["response"] for row in answers(table, "third.csv")] == [f"answer {n}" for n in range(ROWS)]


def test_a_service_that_refuses_stops_all_workers(service: Service, url: str, table: Path) -> None:
    """A wrong key stops the batch once, with one reason; the same command continues."""
    service.status = 401
    refused = ran(table, url)
    assert refused.returncode == 5
    assert "Planned." in refused.facts()["stop"]
    assert refused.facts()["completed"] == 0
    service.status = 200
    assert ran(table, url, workers=1).returncode == 0
    assert not table.with_name("answers.csv.journal.d").exists()


def test_a_limit_that_is_too_low_for_the_workers_is_named(service: Service, url: str, table: Path) -> None:
    """With less than ten requests a minute for each worker, one line says how many of them send at the same time."""
    service.status = 401  # the first reply ends the batch
    line = "--rpm 19 is too low for 2 workers: at most 1 can send at a time; another one begins"
    assert ran(table, url, "--rpm", "19").stderr.count(line) == 1


def test_python_gets_each_outcome(service: Service, url: str, table: Path) -> None:
    """`on_outcome` is called once for each row, and a frame keeps its index."""
    seen: Counter[str] = Counter()
    frame = pd.read_csv(table).set_index("kind", drop=False)

    def note(outcome: Any) -> None:
        seen[outcome.row_key] += 1

    found = batchrun.run(
        frame, prompt="{{ question }}", model="m", api="chat", base_url=url, workers=2, on_outcome=note, api_key="k"
    )
    assert found["response"].tolist() == [f"answer {n}" for n in range(ROWS)]
    assert found.index.tolist() == frame.index.tolist()
    assert len(seen) == ROWS
    assert set(seen.values()) == {1}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--dedupe",), "--dedupe"),
        (("--batch-api",), "--batch-api"),
        (("--thread-column", "kind"), "--thread-column"),
        (("--attach", "kind"), "--attach"),
        (("--file-search", "rows.csv"), "--file-search"),
        (("--code-interpreter",), "--code-interpreter"),
    ],
)
def test_options_that_need_one_process(url: str, table: Path, options: tuple[str, ...], named: str) -> None:
    """They are refused with the reason, and nothing is sent."""
    refused = ran(table, url, *options)
    assert refused.returncode == 2
    assert f"--workers: cannot be combined with {named}: " in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_ray_that_is_not_installed(url: str, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "batchrun.scale.ray_links", raising=False)
    missing = ran(table, url, "--ray", "auto")
    assert missing.returncode == 2
    assert "--ray: needs Ray: pip install 'batchrun-llm[ray]', on every machine of the cluster" in missing.stderr


@pytest.mark.parametrize("also", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("auto", "other machines cannot reach the embedded server"),
        ("ray://127.0.0.1:10001", "is the address of a Ray client"),
    ],
)
def test_ray_that_cannot_work_is_refused_at_once(
    table: Path, address: str, expected: str, also: tuple[str, ...]
) -> None:
    """One line, before anything is written, and in a dry run too."""
    refused = command(table.parent, "run", table.name, "-o", "o.csv", "--model", "tutor", "--ray", address, *also)
    assert refused.returncode == 2
    assert expected in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not list(table.parent.glob("o.csv*"))


def test_what_only_this_process_has(url: str, table: Path) -> None:
    """A function of this process cannot be called by another one."""

    def double(number: int) -> int:
        """Return twice the number."""
        return 2 * number

    async def key() -> str:
        return "k"

    for given in ({"tools": [double], "api_key": "k"}, {"api_key": key}):
        with pytest.raises(InputError, match="exists in this process only"):
            batchrun.run(table, prompt="{{ question }}", model="m", base_url=url, workers=2, **given)


def test_a_lost_journal_is_seen_by_the_journals_of_workers_only(tmp_path: Path) -> None:
    """A file at the place of the workers' folder, or a folder without their journals, does not mean that a journal is
    lost; workers say that they need a folder."""
    (tmp_path / "q.csv").write_text("question\n1 + 1\n2 + 1\n")
    shards = tmp_path / "a.csv.journal.d"
    shards.touch()
    assert "a.csv: no batch has written this output" in command(tmp_path, "status", "a.csv").stderr
    refused = command(tmp_path, "run", "q.csv", "-o", "a.csv", "--workers", "2")
    assert refused.returncode == 2
    assert "a.csv.journal.d: the workers of this batch cannot use it (it is a file, not a folder)" in refused.stderr
    alone = command(tmp_path, "run", "q.csv", "-o", "a.csv", "--limit", "1")
    assert (alone.returncode, shards.is_file()) == (0, True)
    shards.unlink()
    shards.mkdir()
    (tmp_path / "a.csv.journal").unlink()
    (tmp_path / "a.csv").unlink()
    assert command(tmp_path, "run", "q.csv", "-o", "a.csv", "--workers", "2", "--json").facts()["completed"] == 2
