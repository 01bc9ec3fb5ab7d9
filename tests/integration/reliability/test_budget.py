"""One budget: what a service bills never exceeds it, also if processes are killed, and what a stop says."""

from __future__ import annotations

import re
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from batchrun.journal import Journal
from tests.integration.reliability.processes import Batchrun, batchrun, waited, workers_of
from tests.support.chat import chat_reply
from tests.support.rows import read_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

ROWS = 400
CENT_A_TOKEN = '[prices."m"]\ninput = 10000.0\noutput = 10000.0\n'
MOST_USD = 1.20
"""A row's prompt of at most 20 tokens, and its completion of at most 100."""

IN_FLIGHT = 8
"""Rows of a worker. If it is killed, nobody knows whether the service has answered them, and they are asked again."""
UNKNOWN = r"(, up to \$\S+ more for requests whose answer was not seen or has no usage)?"


def cost_usd(row: int) -> float:
    return (3 + row * 37 % 100) / 100


class Service:
    """Answers `row 17` with a usage that depends on the row, and counts how often each row was asked.

    Mutable state: `asked`; `may_go`, not set while answers are held back from the `held_from`-th request on.
    """

    def __init__(self, held_from: int | None, *, has_usage: bool = True) -> None:
        self.has_usage = has_usage
        self.asked: Counter[int] = Counter()
        self.held_from = held_from
        self.may_go = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        row = int(request.body["messages"][-1]["content"].removeprefix("row "))
        with self._lock:
            self.asked[row] += 1
            is_held = self.held_from is not None and self.asked.total() >= self.held_from
        if is_held:
            self.may_go.wait(60)
        completion = row * 37 % 100
        usage = {"prompt_tokens": 3, "completion_tokens": completion, "total_tokens": 3 + completion}
        return json_answer(chat_reply(f"answer {row}", usage=usage if self.has_usage else None))


def has_asked(service: Service, number: int) -> bool:
    return service.asked.total() >= number


def billed_usd(service: Service) -> float:
    """What the service has answered, each answer counted."""
    return sum(times * cost_usd(row) for row, times in service.asked.items())


def start_run(folder: Path, url: str, budget_usd: float, workers: int = 2) -> tuple[str, ...]:
    """Write the table and the job; return the command."""
    (folder / "rows.csv").write_text("question\n" + "".join(f"row {row}\n" for row in range(ROWS)))
    lines = f'input = "rows.csv"\noutput = "answers.csv"\nbase_url = "{url}"\nmodel = "m"\napi = "chat"\n'
    (folder / "job.toml").write_text(lines + CENT_A_TOKEN)
    options = ("--max-completion-tokens", "100", "--workers", str(workers), "--concurrency", str(2 * IN_FLIGHT))
    return ("run", "job.toml", "--budget", str(budget_usd), *options, "--json")


def assert_stopped_for_budget(process: Batchrun, budget_usd: float, unknown_usd: float = 0.0) -> None:
    """The exit code is 4; the message has the batch's figures, which are those of the journal; little is left.

    Args:
        unknown_usd: what may have been spent besides, at most.
    """
    assert process.wait() == 4, process.stderr
    facts = process.facts()
    spent_usd = facts["cost_usd"]
    found = re.fullmatch(
        rf"the budget of \$(\S+) is reached: \$(\S+) is spent{UNKNOWN}, and the next row may cost \$(\S+); rerun .*",
        facts["stop"],
    )
    assert found is not None, facts["stop"]
    assert float(found[1]) == budget_usd
    assert float(found[2]) == pytest.approx(spent_usd, abs=1e-4)
    assert (found[3] is not None) == (unknown_usd > 0)
    # To a rounding error: a row that would fit exactly may be refused, since costs are sums of floats.
    assert budget_usd - float(found[4]) < spent_usd + unknown_usd + 1e-6
    assert spent_usd <= budget_usd
    assert float(found[4]) <= MOST_USD


@pytest.mark.parametrize("kills", [False, True], ids=["quiet", "a worker is killed"])
def test_workers_spend_one_budget(tmp_path: Path, kills: bool) -> None:
    """Two workers use a budget to its end and no further; a rerun with a larger one asks the other rows only.

    The worker is killed while it has rows in flight and money that it has not used.
    """
    service = Service(held_from=60 if kills else None)
    with ScriptedHttp(service) as server:
        with batchrun(tmp_path, *start_run(tmp_path, server.url, 60.0)) as process:
            if kills:
                assert waited(process, partial(has_asked, service, 60 + 2 * IN_FLIGHT - 1))
                workers_of(process)[0].kill()
                service.may_go.set()
            assert_stopped_for_budget(process, 60.0, IN_FLIGHT * kills * MOST_USD)
        assert process.stderr.count("SIGKILL") == kills
        assert billed_usd(service) <= 60.0
        service.held_from = None
        with batchrun(tmp_path, *start_run(tmp_path, server.url, 1_000.0)) as process:
            assert process.wait() == 0, process.stderr
    answers = read_csv(tmp_path / "answers.csv")
    assert [row["response"] for row in answers] == [f"answer {row}" for row in range(ROWS)]
    assert [float(row["cost_usd"]) for row in answers] == pytest.approx([cost_usd(row) for row in range(ROWS)])
    assert Counter(service.asked.values())[1] >= ROWS - IN_FLIGHT * kills
    assert service.asked.total() <= ROWS + IN_FLIGHT * kills


def test_a_killed_worker_counts_unknown_costs_once(tmp_path: Path) -> None:
    """What the stop counts for answers without usage is what the journal has, also if a worker was killed after them."""
    service = Service(held_from=60, has_usage=False)
    with ScriptedHttp(service) as server, batchrun(tmp_path, *start_run(tmp_path, server.url, 250.0)) as process:
        assert waited(process, partial(has_asked, service, 60 + 2 * IN_FLIGHT - 1))
        workers_of(process)[0].kill()
        service.may_go.set()
        assert process.wait() == 4, process.stderr
        found = re.search(r"up to \$(\S+) more", process.facts()["stop"])
    assert found is not None
    with Journal(tmp_path / "answers.csv.journal", read_only=True) as journal:
        assert float(found[1]) == pytest.approx(journal.spending.unknown_usd(), abs=1e-4)


def test_a_batch_that_is_killed_keeps_its_budget(tmp_path: Path) -> None:
    """The requests in flight at each kill may have been billed: they count, so that all runs together bill no more."""
    service = Service(held_from=None)
    with ScriptedHttp(service) as server:
        for kill in range(3):
            service.may_go.clear()
            service.held_from = service.asked.total() + 20
            with batchrun(tmp_path, *start_run(tmp_path, server.url, 120.0, workers=1)) as process:
                assert waited(process, partial(has_asked, service, service.held_from + 2 * IN_FLIGHT - 1)), kill
                process.kill()
            service.may_go.set()
        service.held_from = None
        with batchrun(tmp_path, *start_run(tmp_path, server.url, 120.0, workers=1)) as process:
            assert_stopped_for_budget(process, 120.0, 3 * 2 * IN_FLIGHT * MOST_USD)
        assert len(service.asked) < service.asked.total()
        assert billed_usd(service) <= 120.0


def test_each_row_is_reserved_at_the_highest_price(tmp_path: Path) -> None:
    """Of two models, one may be the more expensive for long prompts and the other for long answers."""
    price_usd = {"reads": (0.01, 0.0001), "writes": (0.0001, 0.0102)}
    billed: list[float] = []

    def reply(request: Request) -> Answer:
        reads_usd, writes_usd = price_usd[request.body["model"]]
        billed.append(400 * reads_usd + 10 * writes_usd)
        usage = {"prompt_tokens": 400, "completion_tokens": 10, "total_tokens": 410}
        return json_answer({**chat_reply("yes", usage=usage), "model": request.body["model"]})

    (tmp_path / "rows.csv").write_text("question\n" + "".join(f"{row:01000}\n" for row in range(20)))
    with ScriptedHttp(reply) as server:
        prices = "".join(
            f'[prices."{model}"]\ninput = {reads * 1e6}\noutput = {writes * 1e6}\n'
            for model, (reads, writes) in price_usd.items()
        )
        lines = f'input = "rows.csv"\noutput = "answers.csv"\nbase_url = "{server.url}"\napi = "chat"\n'
        (tmp_path / "job.toml").write_text(lines + prices)
        models = ("--model", "reads", "--model", "writes", "--max-completion-tokens", "10")
        with batchrun(tmp_path, "run", "job.toml", "--budget", "10", "--concurrency", "16", *models) as process:
            assert process.wait() == 4, process.stderr
    assert 10.0 - 4.1 < sum(billed) <= 10.0


class Background:
    """Runs in the background that end when they may; each takes a token less than is reserved for its row.

    Mutable state: `asked`, the number of runs; `polled`, how often each was looked up; `may_end`.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.polled: Counter[str] = Counter()
        self.may_end = False

    def __call__(self, request: Request) -> Answer:
        if request.method == "POST":
            self.asked += 1
            return json_answer(response_object(f"resp_{self.asked}", "queued"))
        run_id = request.path.rsplit("/", 1)[-1].split("?")[0]
        self.polled[run_id] += 1
        return json_answer(response_object(run_id, "completed" if self.may_end else "in_progress"))

    def has_polled(self, number: int) -> bool:
        """Whether so many runs were looked up twice: at the first time, their ids may not be committed yet."""
        return sum(times >= 2 for times in self.polled.values()) >= number


def response_object(run_id: str, status: str) -> dict[str, object]:
    text = {"type": "output_text", "text": "yes", "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [text]}
    ended = status == "completed"
    return {
        "id": run_id,
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "background": True,
        "output": [message] if ended else [],
        "usage": {"input_tokens": 2, "output_tokens": 99, "total_tokens": 101} if ended else None,
    }


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one process", "workers"])
def test_runs_in_flight_continue_with_their_money(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """A budget that suffices for the rows suffices after a kill, too: their runs are followed, not paid for again."""
    service = Background()
    (tmp_path / "rows.csv").write_text("question\n" + "".join(f"row {row}\n" for row in range(8)))
    with ScriptedHttp(service) as server:
        lines = (
            f'input = "rows.csv"\noutput = "answers.csv"\nbase_url = "{server.url}"\nmodel = "m"\napi = "responses"\n'
        )
        (tmp_path / "job.toml").write_text(lines + CENT_A_TOKEN)
        options = ("--background", "--budget", "8.2", "--max-completion-tokens", "100", *workers)
        with batchrun(tmp_path, "run", "job.toml", *options) as process:
            assert waited(process, partial(service.has_polled, 8)), process.stderr
            process.kill()
        service.may_end = True
        with batchrun(tmp_path, "run", "job.toml", *options) as process:
            assert process.wait() == 0, process.stderr
    assert service.asked == 8
    assert sum(float(row["cost_usd"]) for row in read_csv(tmp_path / "answers.csv")) == pytest.approx(8 * 1.01)
