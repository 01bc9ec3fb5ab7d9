"""Tokens, dollars and time of a batch, estimated by stated rules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from batchrun.estimate.dry_plan import dry_plan
from batchrun.estimate.dry_run import DryRun, dry_run
from batchrun.estimate.time_needed import time_needed
from batchrun.estimate.token_guess import TokenGuess, o200k_counter
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.records import Row
from tests.support.rows import noon, prompter, write_csv

URL = "http://127.0.0.1:9/v1"
PRICES = {"m": {"input": 1_000.0, "output": 10_000.0}}


def dry(folder: Path, *texts: str, url: str | None = URL, count: Any = None, **options: Any) -> DryRun:
    table = write_csv(folder / "q.csv", [{"question": text} for text in texts])
    options = {"model": "m", **({"base_url": url} if url else {}), **options}
    with dry_plan(make_job(options), str(table), Environment(), folder / "out.csv") as plan:
        return dry_run(plan, clock=noon, count=count)


# -- time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "concurrency", "waves"),
    [
        (1, None, 1),
        (20, None, 1),
        (21, None, 2),
        (60, None, 2),
        (61, None, 3),
        (1_260, None, 6),
        (2_260, None, 7),
        (2_261, None, 8),
        (1_002_260, None, 1_007),
        (1, 5, 1),
        (10, 5, 2),
        (11, 5, 3),
        (3_000_000, 1, 3_000_000),
    ],
)
def test_rows_go_in_waves(rows: int, concurrency: int | None, waves: int) -> None:
    """A wave fills the slots, which double from 20 to 1,000 unless --concurrency sets their number."""
    found = time_needed(rows, rows, 0, 2.0, make_job({"concurrency": concurrency} if concurrency else {}))
    assert (found.seconds, found.bound) == (2.0 * waves, "latency")


def test_the_request_limit_rules() -> None:
    """600 requests at 60 per minute take ten minutes, plus the latency of the last answer."""
    found = time_needed(600, 600, 0, 3.0, make_job({"rpm": 60}))
    assert (found.seconds, found.bound) == (603.0, "--rpm")


def test_the_token_limit_rules() -> None:
    """6,000 tokens at 1,000 per minute take six minutes, although the requests would take one."""
    found = time_needed(60, 60, 6_000, 3.0, make_job({"rpm": 60, "tpm": 1_000}))
    assert (found.seconds, found.bound) == (363.0, "--tpm")


def test_no_rows_take_no_time() -> None:
    """Without rows there is nothing to wait for, whatever the limits."""
    assert time_needed(0, 0, 0, 3.0, make_job({"rpm": 1})).seconds == 0


# -- tokens ----------------------------------------------------------------------------------------------------


def test_tokens_by_the_stated_rule(tmp_path: Path) -> None:
    """A quarter token per character, the instructions with every row, and 500 tokens per answer."""
    found = dry(tmp_path, "x" * 40, "x" * 80, instructions="y" * 400)
    assert (found.prompt_tokens, found.completion_tokens) == (10 + 20 + 2 * 100, 1_000)
    assert found.rule == "a quarter token per character; 500 tokens assumed per answer"


def test_a_bound_on_the_answer_is_the_guess_for_it(tmp_path: Path) -> None:
    """--max-completion-tokens replaces the 500."""
    assert dry(tmp_path, "a", "b", max_completion_tokens=70).completion_tokens == 140


def test_no_prompt_is_free(tmp_path: Path) -> None:
    """Fractions of tokens are rounded up: three prompts of two characters are three tokens."""
    assert dry(tmp_path, "hi", "yo", "oi").prompt_tokens == 3


def test_tokens_can_be_counted(tmp_path: Path) -> None:
    """A token counter replaces the quarter, and the report names it."""
    found = dry(tmp_path, "a b c", "d e", count=lambda text: len(text.split()))
    assert found.prompt_tokens == 5
    assert found.rule.startswith("counted with o200k")


def test_later_turns_read_what_came_before() -> None:
    """Each run of a thread reads the instructions and the earlier turns with their answers again; a later turn is as
    long as the first."""
    guess = TokenGuess(make_job({"instructions": "i" * 40, "max_completion_tokens": 100}), None)
    prompt = prompter(["a" * 80, "b"], ["x"]).render(Row(0, {"x": ""}))
    assert [(run.prompt_tokens, run.completion_tokens) for run in guess.runs(prompt)] == [
        (10 + 20, 100),
        (10 + 20 + 100 + 20, 100),
    ]


def test_o200k_is_counted_where_it_is_installed() -> None:
    """The vocabulary comes with the package, offline."""
    pytest.importorskip("splintr")
    count = o200k_counter()
    assert count is not None
    assert [count(text) for text in ("", "hello world", "안녕하세요")] == [0, 2, 2]


def test_o200k_is_not_missed_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra there is neither a counter nor an error."""
    monkeypatch.setitem(sys.modules, "splintr", None)
    assert o200k_counter() is None


# -- dollars ---------------------------------------------------------------------------------------------------


def test_rows_are_priced(tmp_path: Path) -> None:
    """The tokens of all rows have the price of the model: 30 in and 1,000 out."""
    found = dry(tmp_path, "x" * 40, "x" * 80, prices=PRICES)
    assert found.cost is not None
    assert float(found.cost) == pytest.approx((30 * 1_000 + 1_000 * 10_000) / 1e6)


def test_each_model_has_its_own_price(tmp_path: Path) -> None:
    """A row for several models costs the sum of theirs; one unknown price makes the sum unknown."""
    dear = {"input": 2_000.0, "output": 20_000.0}
    found = dry(tmp_path, "x" * 40, model=["m", "n"], prices={**PRICES, "n": dear})
    assert found.to_ask == 2
    assert found.cost is not None
    assert float(found.cost) == pytest.approx(3 * (10 * 1_000 + 500 * 10_000) / 1e6)
    unknown = dry(tmp_path, "x", model=["m", "n"], prices=PRICES, budget=1.0)
    assert unknown.cost is None
    assert [problem.partition(" at ")[0] for problem in unknown.problems] == ["--budget: no price is known for n"]


def test_a_shared_prompt_is_estimated_once(tmp_path: Path) -> None:
    """With --dedupe, rows with the same prompt are estimated once and counted as duplicates."""
    found = dry(tmp_path, "a", "b", "a", "a", dedupe=True)
    assert (found.rows, found.to_ask, found.asked_alike, found.completion_tokens) == (4, 2, 2, 1_000)
    assert dry(tmp_path, "a", "a").to_ask == 2


@pytest.mark.parametrize("options", [{}, {"prices": PRICES, "model": "other"}])
def test_an_unknown_price_gives_no_cost(tmp_path: Path, options: dict[str, Any]) -> None:
    """An unknown cost is None, not 0."""
    assert dry(tmp_path, "a", **options).cost is None


def test_time_of_the_whole(tmp_path: Path) -> None:
    """A row takes a second plus a fiftieth of a second per token: 500 tokens take 11 s, and 21 rows two waves of that."""
    assert dry(tmp_path, *(["a"] * 21)).time.seconds == 22.0
    limited = dry(tmp_path, *(["a"] * 21), rpm=1)
    assert (limited.time.seconds, limited.time.bound) == (21 * 60 + 11, "--rpm")


def test_a_conversation_for_each_row_is_a_request_more(tmp_path: Path) -> None:
    """--conversation makes two requests per row, which count against a request limit."""
    found = dry(tmp_path, *(["a"] * 21), rpm=1, api="responses", conversation=True)
    assert found.time.seconds == 2 * 21 * 60 + 11


# -- nothing is left behind --------------------------------------------------------------------------------------


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    """Only folders that planning created are deleted."""
    (tmp_path / "there").mkdir()
    table = write_csv(tmp_path / "q.csv", [{"question": "a"}])
    job = make_job({"model": "m", "base_url": URL})
    with dry_plan(job, str(table), Environment(), tmp_path / "there" / "not" / "yet" / "out.csv"):
        assert (tmp_path / "there" / "not" / "yet").is_dir()
    assert (tmp_path / "there").is_dir()
    assert not (tmp_path / "there" / "not").exists()


def test_a_folder_that_someone_uses_stays(tmp_path: Path) -> None:
    """A file that another process created meanwhile is not touched."""
    table = write_csv(tmp_path / "q.csv", [{"question": "a"}])
    job = make_job({"model": "m", "base_url": URL})
    with dry_plan(job, str(table), Environment(), tmp_path / "new" / "out.csv"):
        (tmp_path / "new" / "mine.txt").write_text("x", encoding="utf-8")
    assert (tmp_path / "new" / "mine.txt").exists()
