"""Bills in a journal, and their sums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from batchrun.batch.progress import ProgressFacts, spending_text
from batchrun.errors import OutputError
from batchrun.estimate.recount import Costs, batch_costs, cost_facts, cost_lines
from batchrun.journal import Journal, open_journal
from batchrun.journal.bills import Bill, read_bills, write_costs
from batchrun.records import Attempt, Outcome
from batchrun.token_usage import Usage
from tests.support.rows import completed, failed, none_strange, noon, prompt

SETTINGS = {"model": "asked", "prompt": "p", "embedded": False}
OWN = {"m": {"input": 1.0, "output": 2.0}, "asked": {"input": 5.0, "output": 5.0}}


def usage(read: int | None, written: int | None, cached: int | None = None) -> Usage:
    return Usage(read, written, cached_tokens=cached)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.csv"


def journalled(output: Path, *outcomes: Outcome, **settings: Any) -> Path:
    manifest = {
        "input": None,
        "input_fingerprint": "f",
        "rows": len(outcomes),
        "settings": {**SETTINGS, **settings},
        "base_url": "http://127.0.0.1:9/v1",
    }
    path = output.with_name("out.csv.journal")
    with open_journal(path, manifest, count_strange=none_strange, clock=noon) as journal:
        for outcome in outcomes:
            journal.finish(outcome, prompt().fingerprint)
    return path


def test_a_bill_is_what_took_tokens_or_answered(output: Path) -> None:
    """Answers and rows with usage are bills; a failed row without usage is not."""
    path = journalled(
        output,
        completed(0, usage=Usage(3, 1, 4, raw={"prompt_tokens": 3}), cost_usd=0.5),
        completed(1, usage=Usage()),
        failed(2),
        failed(3, usage=usage(7, 0)),
    )
    assert [(bill.model, bill.usage.prompt_tokens, bill.usage.raw, bill.cost_usd) for bill in read_bills(path)] == [
        ("m", 3, {"prompt_tokens": 3}, 0.5),
        ("m", None, None, None),
        (None, 7, None, None),
    ]


def test_costs_are_added_up_by_model(output: Path) -> None:
    """There is an entry per model with exact sums; unknown costs are counted separately."""
    journalled(
        output,
        completed(0, usage=usage(1_000_000, 0), cost_usd=0.1),
        completed(1, usage=usage(2_000_000, 1_000_000, 5), cost_usd=0.2),
        completed(2, usage=usage(None, None)),
        completed(3, usage=usage(10, 10), model="n", cost_usd=0.25),
    )
    facts = cost_facts(batch_costs(output, OWN))
    m, n = facts["models"]
    assert (m["model"], m["rows"], m["prompt_tokens"], m["cached_tokens"], m["completion_tokens"]) == (
        "m",
        3,
        3_000_000,
        5,
        1_000_000,
    )
    assert (m["recorded_usd"], m["recorded_unknown"]) == (0.3, 1)  # 0.1 + 0.2 as decimals
    assert (m["computed_usd"], m["computed_unknown"]) == (5.0, 1)
    assert (n["recorded_usd"], n["computed_usd"], n["computed_unknown"], n["price"]) == (0.25, None, 1, None)
    assert (facts["recorded_usd"], facts["computed_usd"]) == (0.55, 5.0)
    assert (facts["recorded_unknown"], facts["computed_unknown"]) == (1, 2)


def test_a_failed_row_is_priced_as_the_requested_model(output: Path) -> None:
    """A failed row has no reported model: the requested one is priced."""
    journalled(output, failed(0, usage=usage(1_000_000, 0)))
    [model] = cost_facts(batch_costs(output, OWN))["models"]
    assert (model["model"], model["computed_usd"]) == ("asked", 5.0)


def test_a_service_tier_of_the_job_holds(output: Path) -> None:
    """Costs are computed for the tier that the batch requested, for which the list has no price here."""
    journalled(output, completed(0, usage=usage(1, 1), model="gpt-4o"), param={"service_tier": "express"})
    assert cost_facts(batch_costs(output))["computed_usd"] is None


def test_the_journals_name_will_do(output: Path) -> None:
    """A batch is named by its output or by its journal."""
    path = journalled(output, completed(0, usage=usage(1_000_000, 0)))
    assert cost_facts(batch_costs(path, OWN)) == cost_facts(batch_costs(output, OWN))


def test_writing_is_all_or_nothing(output: Path) -> None:
    """A fault halfway leaves every recorded cost unchanged."""
    path = journalled(output, completed(0, cost_usd=1.0), completed(1, cost_usd=2.0))

    def breaking() -> Iterator[tuple[Bill, float]]:
        bills = list(read_bills(path))
        yield bills[0], 10.0
        raise KeyError("the price list broke")

    with pytest.raises(KeyError):
        write_costs(path, breaking())
    assert [bill.cost_usd for bill in read_bills(path)] == [1.0, 2.0]


def test_what_is_written_is_what_was_computed(output: Path) -> None:
    """Only rows whose cost differs are changed, and the price is recorded too."""
    path = journalled(
        output, completed(0, usage=usage(1_000_000, 0), cost_usd=1.0), completed(1, usage=usage(2_000_000, 0))
    )
    assert batch_costs(output, OWN, write=True).written == 1
    assert [bill.cost_usd for bill in read_bills(path)] == [1.0, 2.0]
    with Journal(path, read_only=True) as journal:
        [kept] = journal.read_manifest()["prices"]
    assert (kept["model"], kept["source"]) == ("m", "own")


def test_a_file_that_is_not_a_journal(output: Path) -> None:
    """A file of another kind is one clear error."""
    output.with_name("out.csv.journal").write_bytes(b"not a database, and longer than a hundred bytes " * 9)
    with pytest.raises(OutputError, match="is not a readable journal"):
        batch_costs(output)


def test_nothing_to_show(tmp_path: Path) -> None:
    """A batch whose rows used nothing has one line."""
    assert cost_lines(Costs(tmp_path / "o.csv", False, 0, 0.0, 0.0)) == [
        f"{tmp_path}/o.csv: no row has used tokens yet"
    ]


def test_the_table_for_people(output: Path) -> None:
    """Columns are aligned, and unknown costs are named."""
    journalled(
        output, completed(0, usage=usage(1_000_000, 0), cost_usd=0.5), completed(1, usage=usage(20, 3), model="gone")
    )
    assert cost_lines(batch_costs(output, OWN)) == [
        "model  rows  tokens in  cached  out             recorded           computed",
        "m         1  1,000,000       0    0              $0.5000              $1.00",
        "gone      1         20       0    3              unknown            unknown",
        "total     2                          $0.5000 + 1 unknown  $1.00 + 1 unknown",
        "m priced as m (own): $1 in, $1 cached, $2 out per million tokens",
        "no price is known for gone; set it in a job file, in US dollars per million tokens, such as "
        'prices."gone" = { input = 0.5, output = 2.0 }, and give that file with --prices',
    ]


@pytest.mark.parametrize(
    ("cost_usd", "completed_rows", "embedded", "shown"),
    [(None, 0, False, ""), (None, 3, False, "cost unknown"), (None, 3, True, "free"), (0.25, 3, False, "$0.2500")],
)
def test_a_running_batch_says_what_is_known_of_its_cost(
    cost_usd: float | None, completed_rows: int, embedded: bool, shown: str
) -> None:
    """An unknown cost is named once a row is answered; the embedded server's answers are free."""
    facts = {
        "completed": completed_rows,
        "incomplete": 0,
        "rows_per_s": 1.0,
        "prompt_tokens": 5,
        "completion_tokens": 6,
        "cost_usd": cost_usd,
        "elapsed_s": 2.0,
        "finished_before": 0,
    }
    parts = ["1 rows/s", "5 tokens in, 6 out", *([shown] if shown else []), "2.0 s elapsed"]
    assert spending_text(cast(ProgressFacts, facts), embedded=embedded) == " · ".join(parts)
    later = {**facts, "finished_before": 2}
    assert spending_text(cast(ProgressFacts, later), embedded=embedded) == f"this run: {' · '.join(parts)}"


@pytest.mark.parametrize("reserved_usd", [0.5, None], ids=["budget", "no budget"])
def test_requests_without_an_answer_are_named(output: Path, reserved_usd: float | None) -> None:
    """The service may bill them too, and nobody knows how much; a budget counts what it had reserved for them."""
    path = journalled(output, completed(0, usage=usage(1, 1), cost_usd=0.1))
    line = "not in these sums: 1 request whose answer was not seen, which may be billed too"
    counted = "--budget counts $0.5000 besides the recorded costs, for what nobody knows"
    assert not any(each.startswith("not in these sums") for each in cost_lines(batch_costs(output, OWN)))
    with Journal(path) as journal:
        journal.begin_attempt(prompt(1), Attempt(1, 1, "key"), noon(), reserved_usd=reserved_usd)
    costs = batch_costs(output, OWN)
    assert line in cost_lines(costs)
    assert (counted in cost_lines(costs)) == (reserved_usd is not None)
    facts = cost_facts(costs)
    assert (facts["unanswered"], facts["unknown_usd"]) == (1, reserved_usd or 0.0)


def test_money_without_a_record_is_named(output: Path) -> None:
    """Workers on Ray whose journals are lost may have spent it."""
    path = journalled(output, completed(0, usage=usage(1, 1), cost_usd=0.1))
    with Journal(path) as journal:
        journal.spending.announce(journal.spending.announcement(unaccounted_usd=0.5))
    costs = batch_costs(output, OWN)
    line = "not in these sums: up to $0.5000 that workers on Ray, whose journals are lost, may have spent"
    assert line in cost_lines(costs)
    assert cost_facts(costs)["unaccounted_usd"] == 0.5
