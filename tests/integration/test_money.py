"""The cost of real batches: estimated before, counted while they run, and recalculated afterwards."""

from __future__ import annotations

import csv
import json
import sqlite3
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Conversation, Part
from batchrun.server.responders.script import ScriptResponder
from tests.support.command import Result, batchrun
from tests.support.markdown import code_blocks
from tests.support.rows import read_csv

SCRIPT = """
[[rule]]
pattern = "refuse"
fault = { code = "invalid_prompt", message = "no" }

[[rule]]
pattern = "long"
reply = "a long answer"
usage = { prompt_tokens = 2000, completion_tokens = 1000, cached_tokens = 500 }

[default]
reply = "a short answer"
usage = { prompt_tokens = 1000, completion_tokens = 100 }
"""
PRICES = '[prices."m"]\ninput = 1.0\ncached_input = 0.5\noutput = 4.0\n'
SHORT_USD = (1_000 * 1.0 + 100 * 4.0) / 1e6
LONG_USD = (1_500 * 1.0 + 500 * 0.5 + 1_000 * 4.0) / 1e6


@dataclass
class Remembering:
    """The script, which records the questions that reach it."""

    script: ScriptResponder
    asked: list[str] = field(default_factory=list)
    name: str = "script"
    models: tuple[str, ...] = ()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        self.asked.append(conversation.messages[-1].text)
        async for part in self.script.respond(conversation):
            yield part

    async def aclose(self) -> None:
        pass


@dataclass
class Bench:
    """A service that reports usage, and a job with a price for it."""

    folder: Path
    url: str
    responder: Remembering

    def job(self, *questions: str, prices: str = PRICES, **options: str) -> Path:
        with (self.folder / "q.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["question"], *([question] for question in questions)])
        lines = {"input": "q.csv", "output": "out.csv", "base_url": self.url, "model": "m", **options}
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()) + prices
        path = self.folder / "job.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *arguments: str, stdin: str = "") -> Result:
        return batchrun(self.folder, *arguments, stdin=stdin)

    def json(self, *arguments: str, code: int = 0, stdin: str = "") -> dict[str, Any]:
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.returncode == code, done.stderr
        return done.facts()

    def rows(self) -> list[dict[str, str]]:
        return read_csv(self.folder / "out.csv")

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }

    def query(self, sql: str) -> list[Any]:
        db = sqlite3.connect(self.folder / "out.csv.journal")
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    script = tmp_path / "script.toml"
    script.write_text(SCRIPT, encoding="utf-8")
    responder = Remembering(ScriptResponder(script))
    folder = tmp_path / "work"
    folder.mkdir()
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder) as server:
        yield Bench(folder, server.url, responder)


def numbered(count: int) -> list[str]:
    """Return numbered questions, of which every third is long."""
    return [f"{'long' if number % 3 == 0 else 'short'} {number}" for number in range(count)]


# -- running ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["chat", "assistants", "responses"])
def test_a_row_costs_what_the_table_says(bench: Bench, api: str) -> None:
    """In every protocol, a row's tokens are priced by the job's own table, cached ones at their own price."""
    found = bench.json("run", str(bench.job("long", "short", api=api)))
    assert [float(row["cost_usd"]) for row in bench.rows()] == [LONG_USD, SHORT_USD]
    assert found["cost_usd"] == pytest.approx(LONG_USD + SHORT_USD)
    assert found["unpriced"] == 0


def test_the_journal_keeps_the_basis_of_a_cost(bench: Bench) -> None:
    """The price that was used is recorded once, however often the batch runs."""
    job = str(bench.job("long", "short"))
    bench.json("run", job)
    bench.json("run", str(bench.job("long", "short", "more")), "--accept-changes")
    [[prices]] = bench.query("SELECT value FROM manifest WHERE name = 'prices'")
    rates = {"input": "1.0", "cached_input": "0.5", "output": "4.0"}
    assert json.loads(prices) == [{"model": "m", "matched": "m", "source": "own", "usd_per_million_tokens": [rates]}]


def test_an_unknown_cost_is_said(bench: Bench) -> None:
    """A service without a known price leaves the column empty, and the summary reports it."""
    done = bench.run("run", str(bench.job("long", "short", prices="")))
    assert done.returncode == 0
    assert "cost unknown" in done.stderr
    assert [row["cost_usd"] for row in bench.rows()] == ["", ""]


def test_a_cost_that_is_known_in_part_says_so(bench: Bench) -> None:
    """A sum that leaves rows out is not shown as the cost of all."""
    job = str(bench.job("long", "short"))
    bench.json("run", job)
    db = sqlite3.connect(bench.folder / "out.csv.journal")
    with db:
        db.execute("UPDATE outcomes SET cost_usd = NULL WHERE row_key = '0'")
    db.close()
    (bench.folder / "out.csv").unlink()  # or it would stay as it is, with the totals that belong to it
    assert f"${SHORT_USD:.4f}, unknown for 1 row" in bench.run("run", job).stderr
    assert bench.json("run", job)["unpriced"] == 1


def test_the_embedded_server_costs_nothing_unknown(bench: Bench) -> None:
    """If the embedded server answers, no line mentions an unknown cost: it is free."""
    (bench.folder / "sums.csv").write_text("question\n1+1\n", encoding="utf-8")
    done = bench.run("run", "sums.csv")
    assert done.returncode == 0
    assert "cost" not in done.stderr
    assert " · free · " in done.stderr


def test_a_wrong_table_of_prices_stops_before_anything_is_made(bench: Bench) -> None:
    """An invalid table is one line and exit code 2, without a journal or a request."""
    job = bench.job("long", prices='[prices."m"]\ninput = 1.0\n')
    before = bench.files()
    done = bench.run("run", str(job))
    date, _, error = done.stderr.partition(" · ")
    assert (done.returncode, error) == (2, "prices: 'm': output is missing: expected US dollars per million tokens\n")
    assert date.startswith("batchrun: 20")
    assert bench.files() == before
    assert bench.responder.asked == []


def test_the_prices_of_the_documentation(bench: Bench) -> None:
    """A job accepts the table in docs/reference/costs.md, and it gives the prices on the page."""
    [block] = code_blocks(Path(__file__).parents[2] / "docs" / "reference" / "costs.md", "toml")
    job = bench.job("long", model="house-model", prices=textwrap.dedent(block.rstrip(" ")))
    found = bench.json("run", str(job))
    assert found["cost_usd"] == pytest.approx((1_500 * 0.15 + 500 * 0.075 + 1_000 * 0.6) / 1e6)


# -- dry run -----------------------------------------------------------------------------------------------------


def test_a_dry_run_sends_nothing_and_writes_nothing(bench: Bench) -> None:
    """There is no request, no file and no folder: only an estimate of tokens, dollars and time."""
    job = str(bench.job(*numbered(6), output="new/folder/out.csv"))
    before = bench.files()
    found = bench.json("run", job, "--dry-run")
    assert (found["rows"], found["to_ask"], found["unaskable"], found["problems"]) == (6, 6, {}, [])
    assert found["cost_usd"] > 0
    assert found["time_s"] > 0
    assert bench.responder.asked == []
    assert bench.files() == before
    assert not (bench.folder / "new").exists()


def test_a_dry_run_needs_no_service(bench: Bench) -> None:
    """A dry run succeeds although the service cannot be reached."""
    found = bench.json("run", str(bench.job("a", base_url="http://127.0.0.1:9/v1")), "--dry-run")
    assert found["to_ask"] == 1


def test_a_dry_run_knows_answered_rows(bench: Bench) -> None:
    """Rows with a valid answer are not counted again; the journal is read, and no file changes."""
    bench.json("run", str(bench.job(*numbered(4))))
    job = str(bench.job(*numbered(4), "short more"))
    before = bench.files()
    found = bench.json("run", job, "--dry-run", "--accept-changes")
    assert (found["to_ask"], found["finished_before"]) == (1, 4)
    assert bench.files() == before
    assert len(bench.responder.asked) == 4


def test_a_dry_run_after_an_edited_prompt(bench: Bench) -> None:
    """The rows that have an answer to the earlier prompt are counted; a line says what a run does with them."""
    job = str(bench.job(*numbered(3)))
    assert bench.run("run", job).returncode == 0
    edited = ("run", job, "--dry-run", "--prompt", "Please: {{ question }}")
    refused, accepted = bench.run(*edited), bench.run(*edited, "--accept-changes")
    assert (refused.returncode, accepted.returncode) == (2, 0)
    assert "3 rows already have answers to another prompt" in refused.stdout
    assert "other settings; a run does not start: see the problem below" in refused.stdout
    assert "other settings; a run asks again and replaces the answers" in accepted.stdout
    facts = bench.json(*edited, "--accept-changes")
    assert (facts["to_ask"], facts["to_replace"]) == (3, 3)


def test_a_dry_run_of_answers_that_are_too_old_or_failed(bench: Bench) -> None:
    """It counts the rows that the run would send: stale answers, and failed rows with --retry-failed."""
    job = str(bench.job("long", "refuse"))
    bench.run("run", job)
    assert bench.json("run", job, "--dry-run")["to_ask"] == 0
    assert bench.json("run", job, "--dry-run", "--retry-failed")["to_ask"] == 1
    assert bench.json("run", job, "--dry-run", "--max-age", "0s")["to_ask"] == 1
    assert bench.json("run", job, "--dry-run", "--fresh")["to_ask"] == 2


def test_a_dry_run_finds_rows_that_cannot_be_asked(bench: Bench) -> None:
    """Each row without a prompt is counted, the first few with position and physical line, and the exit code is 2."""
    job = bench.job("fine", "two\nlines", "", *([" "] * 6))
    done = bench.run("run", str(job), "--dry-run")
    assert done.returncode == 2
    assert "9 rows · 2 to send · 7 cannot be sent" in done.stdout
    assert "row 2 (line 5): empty_prompt" in done.stdout
    assert "and 2 more" in done.stdout
    assert bench.json("run", str(job), "--dry-run", code=2)["unaskable"] == {"empty_prompt": 7}


def test_a_dry_run_finds_a_journal_that_does_not_fit(bench: Bench) -> None:
    """A journal that the run would refuse is a problem of the dry run too, which names what changed."""
    bench.json("run", str(bench.job("long")))
    done = bench.run("run", str(bench.job("long")), "--dry-run", "--model", "other")
    assert done.returncode == 2
    assert "model was 'm' and is 'other'" in done.stdout


def test_a_dry_run_leaves_an_earlier_copy_of_standard_input_alone(bench: Bench) -> None:
    """The copy from which a batch resumes is not replaced by another table's dry run."""
    options = ("-o", "piped.csv", "--base-url", bench.url, "--model", "m")
    assert bench.run("run", "-", *options, stdin="question\nlong\n").returncode == 0
    before = bench.files()
    found = bench.json("run", "-", *options, "--dry-run", "--accept-changes", stdin="question\nshort\nother\n")
    assert found["to_ask"] == 2
    assert bench.files() == before


def test_a_dry_run_says_that_a_price_is_unknown(bench: Bench) -> None:
    """Unknown is not free; with a budget it is a problem."""
    job = str(bench.job("long", prices=""))
    done = bench.run("run", job, "--dry-run")
    assert (done.returncode, "cost: unknown" in done.stdout) == (0, True)
    assert bench.json("run", job, "--dry-run")["cost_usd"] is None
    done = bench.run("run", job, "--dry-run", "--budget", "1")
    assert (done.returncode, "problem: --budget: no price is known for m at " in done.stdout) == (2, True)


def test_a_dry_run_says_that_a_budget_is_too_small(bench: Bench) -> None:
    """An estimate above the budget is a notice, not a problem."""
    done = bench.run("run", str(bench.job("long")), "--dry-run", "--budget", "0.000001")
    assert (done.returncode, "this exceeds --budget, of which $0.0000 is left" in done.stdout) == (0, True)


def test_a_dry_run_counts_what_earlier_runs_have_spent(bench: Bench) -> None:
    """The rows to come may cost what is left of the budget, and no more."""
    questions = numbered(8)
    bench.json("run", str(bench.job(*questions)))
    spent_usd = sum(float(row["cost_usd"]) for row in bench.rows())
    job = bench.job(*questions, "long")
    to_come = ("run", str(job), "--dry-run", "--accept-changes", "--budget")
    cost_usd = bench.json(*to_come, "1")["cost_usd"]
    left_usd = 0.9 * cost_usd
    short = bench.run(*to_come, str(spent_usd + left_usd)).stdout
    assert f"this exceeds --budget, of which ${left_usd:.4f} is left: the batch would stop" in short
    assert "this exceeds" not in bench.run(*to_come, str(spent_usd + 1.1 * cost_usd)).stdout


def test_a_dry_run_and_a_pilot_are_two_things(bench: Bench) -> None:
    """Both together are a usage error."""
    assert bench.run("run", str(bench.job("long")), "--dry-run", "--pilot", "1").returncode == 2


# -- pilot -------------------------------------------------------------------------------------------------------


def test_a_pilot_asks_its_rows_and_no_other(bench: Bench) -> None:
    """N rows are sent, the rest stays pending, no output is written, and the estimate is N·x̄ of their costs."""
    found = bench.json("run", str(bench.job(*numbered(30))), "--pilot", "8")
    assert (found["sampled"], found["completed"], found["rows"]) == (8, 8, 30)
    assert len(bench.responder.asked) == 8
    assert not (bench.folder / "out.csv").exists()
    costs = [cost for (cost,) in bench.query("SELECT cost_usd FROM outcomes")]
    assert found["cost_usd"]["estimate"] == pytest.approx(30 * sum(costs) / 8)
    assert found["cost_usd"]["low"] <= found["cost_usd"]["estimate"] <= found["cost_usd"]["high"]
    assert found["spent_usd"] == pytest.approx(sum(costs))
    assert bench.json("status", "out.csv")["pending"] == 22


def test_nothing_of_a_pilot_is_paid_for_twice(bench: Bench) -> None:
    """The same pilot again sends nothing, a larger one only the new rows, and the batch only the rest."""
    job = str(bench.job(*numbered(30)))
    bench.json("run", job, "--pilot", "6")
    first = sorted(bench.responder.asked)
    bench.json("run", job, "--pilot", "6")
    assert sorted(bench.responder.asked) == first
    bench.json("run", job, "--pilot", "10")
    assert len(bench.responder.asked) == 10
    bench.json("run", job)
    assert sorted(bench.responder.asked) == sorted(numbered(30))
    assert len(bench.rows()) == 30


def test_a_pilot_of_the_whole_table_is_exact(bench: Bench) -> None:
    """If no row is left there is nothing to estimate."""
    found = bench.json("run", str(bench.job("long", "short")), "--pilot", "50")
    total = {"estimate": pytest.approx(LONG_USD + SHORT_USD), "low": pytest.approx(LONG_USD + SHORT_USD)}
    assert {name: found["cost_usd"][name] for name in total} == total
    assert found["cost_usd"]["high"] == found["cost_usd"]["low"]


def test_a_pilot_says_that_a_budget_is_too_small(bench: Bench) -> None:
    """The estimate for the other rows is compared with what is left of the budget."""
    job = str(bench.job(*numbered(30)))
    found = bench.json("run", job, "--pilot", "8")
    whole_usd, spent_usd = found["cost_usd"]["estimate"], found["spent_usd"]
    short = bench.run("run", job, "--pilot", "8", "--budget", str(0.9 * whole_usd)).stderr
    assert f"this exceeds --budget, of which ${0.9 * whole_usd - spent_usd:.4f} is left: the batch would stop" in short
    assert "this exceeds" not in bench.run("run", job, "--pilot", "8", "--budget", str(1.1 * whole_usd)).stderr


def test_a_pilot_with_failed_rows_is_exit_code_3(bench: Bench) -> None:
    """A failed row without usage is counted, and not taken for a row that used nothing."""
    found = bench.json("run", str(bench.job("refuse", "short", "short 2", "short 3")), "--pilot", "4", code=3)
    assert (found["failed"], found["untold"]) == (1, 1)
    assert found["prompt_tokens"]["estimate"] == 4 * 1_000


def test_a_row_that_cannot_be_asked_takes_nothing(bench: Bench) -> None:
    """A row without a prompt is part of the table and of the mean, with no tokens and no cost."""
    found = bench.json("run", str(bench.job("short", "", "short 2", "short 3")), "--pilot", "4", code=3)
    assert found["prompt_tokens"]["estimate"] == 3 * 1_000
    assert found["cost_usd"]["estimate"] == pytest.approx(3 * SHORT_USD)
    assert found["untold"] == 0


def test_a_pilot_without_a_price_says_so(bench: Bench) -> None:
    """Tokens are still estimated, and the cost is unknown."""
    done = bench.run("run", str(bench.job(*numbered(9), prices="")), "--pilot", "3")
    assert done.returncode == 0
    assert "pilot: 3 of 9 rows · 3 completed" in done.stderr
    assert "cost: unknown" in done.stderr
    assert "run the same command without --pilot for the rest" in done.stderr


def test_a_pilot_with_a_price_missing_gives_no_cost(bench: Bench) -> None:
    """If one sampled row's cost is unknown, the whole is: a total of the others would be too small."""
    job = str(bench.job("long", "short"))
    bench.json("run", job, "--pilot", "2")
    db = sqlite3.connect(bench.folder / "out.csv.journal")
    with db:
        db.execute("UPDATE outcomes SET cost_usd = NULL WHERE row_key = '1'")
    db.close()
    found = bench.json("run", job, "--pilot", "2")
    assert (found["cost_usd"], found["spent_usd"]) == (None, None)
    assert found["prompt_tokens"]["estimate"] == 3_000


# -- costs -------------------------------------------------------------------------------------------------------


def dear(bench: Bench) -> str:
    path = bench.folder / "dear.toml"
    path.write_text('[prices."m"]\ninput = 10.0\noutput = 40.0\n', encoding="utf-8")
    return str(path)


DEAR_USD = (2_000 * 10.0 + 1_000 * 40.0 + 1_000 * 10.0 + 100 * 40.0) / 1e6


def test_costs_are_what_was_recorded(bench: Bench) -> None:
    """With the prices of the batch's run, the computed cost is the recorded one."""
    bench.json("run", str(bench.job("long", "short")))
    found = bench.json("costs", "out.csv")
    assert found["computed_usd"] == pytest.approx(LONG_USD + SHORT_USD, abs=1e-12)
    assert found["recorded_usd"] == pytest.approx(LONG_USD + SHORT_USD, abs=1e-12)
    [model] = found["models"]
    assert (model["model"], model["rows"], model["prompt_tokens"], model["cached_tokens"]) == ("m", 2, 3_000, 500)


def test_costs_by_other_prices(bench: Bench) -> None:
    """The user's own table prices the recorded usage again, and changes nothing without --write."""
    bench.json("run", str(bench.job("long", "short")))
    before = bench.files()
    found = bench.json("costs", "out.csv", "--prices", dear(bench))
    assert found["computed_usd"] == pytest.approx(DEAR_USD)
    assert found["recorded_usd"] == pytest.approx(LONG_USD + SHORT_USD)
    assert {name: data for name, data in bench.files().items() if name != "dear.toml"} == before


def test_costs_come_from_the_raw_usage(bench: Bench) -> None:
    """The service's own usage object is priced, not the columns made from it."""
    bench.json("run", str(bench.job("short")))
    db = sqlite3.connect(bench.folder / "out.csv.journal")
    with db:
        db.execute(
            "UPDATE outcomes SET prompt_tokens = 1, completion_tokens = 1, cached_tokens = 0, raw_usage = ?",
            (
                json.dumps(
                    {
                        "runs": [
                            {"prompt_tokens": 1_000, "completion_tokens": 0},
                            {"input_tokens": 0, "output_tokens": 100},
                        ]
                    }
                ),
            ),
        )
    db.close()
    assert bench.json("costs", "out.csv")["computed_usd"] == pytest.approx(SHORT_USD)


def test_new_costs_are_written_and_exported(bench: Bench) -> None:
    """--write replaces the recorded costs, and an export shows them."""
    bench.json("run", str(bench.job("long", "short")))
    done = bench.run("costs", "out.csv", "--prices", dear(bench), "--write")
    assert done.returncode == 0
    assert "2 rows changed in the journal; batchrun export out.csv writes the table" in done.stdout
    assert bench.run("export", "out.csv").returncode == 0
    assert sum(float(row["cost_usd"]) for row in bench.rows()) == pytest.approx(DEAR_USD)
    assert bench.json("costs", "out.csv", "--write")["written"] == 0


def test_an_unknown_price_erases_nothing(bench: Bench) -> None:
    """Rows without a current price count as unknown, and --write keeps their cost."""
    bench.json("run", str(bench.job("long")))
    (bench.folder / "other.toml").write_text('[prices."x"]\ninput = 1.0\noutput = 1.0\n', encoding="utf-8")
    found = bench.json("costs", "out.csv", "--prices", "other.toml", "--write")
    assert (found["computed_usd"], found["computed_unknown"], found["written"]) == (None, 1, 0)
    assert bench.query("SELECT cost_usd FROM outcomes") == [(LONG_USD,)]


def test_costs_fill_in_what_was_unknown(bench: Bench) -> None:
    """A batch that ran without a price gets one afterwards."""
    bench.json("run", str(bench.job("long", "short", prices="")))
    assert bench.json("costs", "out.csv")["recorded_unknown"] == 2
    assert "no price is known for m;" in bench.run("costs", "out.csv").stdout
    found = bench.json("costs", "out.csv", "--prices", dear(bench), "--write")
    assert (found["written"], found["recorded_usd"], found["computed_usd"]) == (2, None, pytest.approx(DEAR_USD))


def test_answers_that_were_replaced_were_paid_for(bench: Bench) -> None:
    """Answers that another prompt replaced have their own line, and are in the total."""
    bench.json("run", str(bench.job("long")))
    bench.json("run", str(bench.job("short")), "--accept-changes")
    found = bench.json("costs", "out.csv")
    assert [(model["replaced"], model["rows"]) for model in found["models"]] == [(False, 1), (True, 1)]
    assert found["computed_usd"] == pytest.approx(LONG_USD + SHORT_USD)
    assert "m (replaced)" in bench.run("costs", "out.csv").stdout


def test_costs_are_not_written_while_the_batch_runs(bench: Bench) -> None:
    """While another process holds the output, --write exits with 6, and costs can still be read."""
    bench.json("run", str(bench.job("long")))
    with FileLock(bench.folder / "out.csv.lock"):
        assert bench.run("costs", "out.csv", "--write").returncode == 6
        assert bench.run("costs", "out.csv").returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('model = "m"\n', "has no prices: add a table such as"),
        ("[prices.m]\ninput = 'x'\n", "prices"),
        ("[prices.m]\ninput = 1\n", "prices: 'm': output is missing"),
    ],
)
def test_a_wrong_file_of_prices_gets_one_line(bench: Bench, text: str, expected: str) -> None:
    """An invalid price file is one line and exit code 2."""
    bench.json("run", str(bench.job("long")))
    (bench.folder / "p.toml").write_text(text, encoding="utf-8")
    done = bench.run("costs", "out.csv", "--prices", "p.toml")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert expected in done.stderr


def test_costs_without_a_batch(bench: Bench) -> None:
    """A missing journal is one line."""
    done = bench.run("costs", "gone.csv")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "gone.csv: no batch has written this output" in done.stderr
