"""batchrun called from Python."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import batchrun
from batchrun.errors import InputError
from tests.support.rows import write_csv

pytestmark = pytest.mark.anyio

SUMS = [{"question": f"{number} + {number}"} for number in range(1, 6)]
ANSWERS = [f"{number} + {number} = {number + number}." for number in range(1, 6)]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, so that the embedded server answers; and a separate folder."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHRUN_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_frame_pipes_through() -> None:
    """`df.pipe(batchrun.run, ...)` keeps the frame's index and columns, and adds the answers."""
    frame = pd.DataFrame(SUMS, index=list("abcde"))
    answered = frame.pipe(batchrun.run, prompt="{{ question }}")
    assert list(answered.index) == list("abcde")
    assert list(answered["response"]) == ANSWERS


def test_a_job_is_the_same_object(tmp_path: Path) -> None:
    """A Job gives the options; those of the call take precedence, and an error in it is one line."""
    (tmp_path / "s.toml").write_text('[default]\nreply = "2"\n')
    job = batchrun.Job(prompt="{{ question }}", model="one", max_attempts=2, script=tmp_path / "s.toml")
    assert list(batchrun.run(pd.DataFrame(SUMS[:1]), job)["model"]) == ["one"]
    assert list(batchrun.run(pd.DataFrame(SUMS[:1]), job, model="two")["model"]) == ["two"]
    assert list(batchrun.run(pd.DataFrame(SUMS[:1]), job, model=["two", "three"])["model"]) == ["two", "three"]
    with pytest.raises(InputError, match=r"^temperature: must be at most 2"):
        batchrun.run(pd.DataFrame(SUMS), batchrun.Job(temperature=3.0))


def test_a_job_file_runs_from_python(tmp_path: Path) -> None:
    """The path of a job file stands for its table and its options; its paths are relative to the file."""
    (tmp_path / "jobs").mkdir()
    write_csv(tmp_path / "jobs" / "q.csv", SUMS)
    (tmp_path / "jobs" / "job.toml").write_text('input = "q.csv"\noutput = "a.csv"\nprompt = "{{ question }}"\n')
    assert list(batchrun.run("jobs/job.toml")["response"]) == ANSWERS
    assert (tmp_path / "jobs" / "a.csv").is_file()
    (tmp_path / "jobs" / "none.toml").write_text('prompt = "x"\n')
    with pytest.raises(InputError, match="the job file has no input"):
        batchrun.run("jobs/none.toml")


def test_outcomes_are_reported_as_they_arrive() -> None:
    """The callback receives every row that ends in this run, and none that an earlier run finished."""
    seen: list[batchrun.Outcome] = []
    batchrun.run(pd.DataFrame(SUMS[:3]), output="a.csv", on_outcome=seen.append)
    assert sorted(outcome.row_key for outcome in seen) == ["0", "1", "2"]
    assert all(isinstance(outcome, batchrun.Completed) for outcome in seen)
    batchrun.run(pd.DataFrame(SUMS[:3]), output="a.csv", on_outcome=seen.append)
    assert len(seen) == 3


def test_an_error_of_the_callback_loses_nothing() -> None:
    """An exception from the callback ends the batch and is raised unchanged; rows that had ended do not run again."""

    def fail(outcome: batchrun.Outcome) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        batchrun.run(pd.DataFrame(SUMS), output="a.csv", concurrency=1, on_outcome=fail)
    seen: list[batchrun.Outcome] = []
    answers = batchrun.run(pd.DataFrame(SUMS), output="a.csv", on_outcome=seen.append)
    assert list(answers["response"]) == ANSWERS
    assert len(seen) == 4


async def test_outcomes_can_be_iterated(tmp_path: Path) -> None:
    """The iterator yields every outcome; when it ends, the output is written."""
    async with batchrun.outcomes(pd.DataFrame(SUMS), output="a.csv") as outcomes:
        responses = [outcome.response async for outcome in outcomes]
    assert sorted(map(str, responses)) == sorted(ANSWERS)
    assert list(pd.read_csv(tmp_path / "a.csv")["response"]) == ANSWERS


async def test_leaving_early_keeps_what_has_ended() -> None:
    """Leaving the iteration stops the batch; the same call runs only the remaining rows."""
    async with batchrun.outcomes(pd.DataFrame(SUMS), output="a.csv", concurrency=1) as outcomes:
        async for _ in outcomes:
            break
    seen: list[batchrun.Outcome] = []
    answers = await batchrun.arun(pd.DataFrame(SUMS), output="a.csv", on_outcome=seen.append)
    assert list(answers["response"]) == ANSWERS
    assert len(seen) < 5


async def test_an_exception_group_of_the_caller_stays_one() -> None:
    """A group that the caller's own code raises in the context is not unwrapped."""
    with pytest.raises(ExceptionGroup, match="mine"):
        async with batchrun.outcomes(pd.DataFrame(SUMS), output="a.csv"):
            raise ExceptionGroup("mine", [ZeroDivisionError()])


async def test_an_iteration_that_cannot_begin() -> None:
    """An error in the call is raised unchanged, as by `run`."""

    async def iterate() -> None:
        async with batchrun.outcomes(pd.DataFrame(SUMS), prompt="{{ nope }}") as outcomes:
            async for _ in outcomes:
                pass

    with pytest.raises(InputError, match="no column named 'nope'"):
        await iterate()
