"""Calls that mypy checks and nobody runs: each `type: ignore` is an error that a type checker must report.

mypy fails if one of these calls is accepted (`warn_unused_ignores`), or if a correct call is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, assert_type

import pandas as pd
from pydantic import BaseModel

import batchrun
from batchrun import JobOptions, Outcome


class Answer(BaseModel):
    """An answer."""

    city: str


class Table:
    """What polars.DataFrame and pyarrow.Table have in common."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class Column:
    """What polars.Series has."""

    def to_frame(self) -> Table:
        """Return the column as a table."""
        return Table()


def weigh(article: str) -> str:
    """Return the weight of an article."""
    return article


async def price(article: str) -> float:
    """Return the price of an article."""
    return len(article)


def data_and_answers(frame: pd.DataFrame, series: pd.Series[str]) -> None:
    """The kind of `data` decides the type of the answers."""
    assert_type(batchrun.run(frame), pd.DataFrame)
    assert_type(batchrun.run(series), pd.DataFrame)
    assert_type(batchrun.run(["1 + 1"]), pd.DataFrame)
    assert_type(batchrun.run([{"a": 1}, {"b": 2}]), pd.DataFrame)
    assert_type(batchrun.run("questions.csv"), pd.DataFrame)
    assert_type(batchrun.run(Path("questions.csv")), pd.DataFrame)
    assert_type(batchrun.run(Table()), Table)
    assert_type(batchrun.run(Column()), Table)
    assert_type(frame.pipe(batchrun.run, prompt="{{ a }}", model="m"), pd.DataFrame)
    batchrun.run(5)  # type: ignore[call-overload]
    batchrun.run([1, 2])  # type: ignore[arg-type]
    batchrun.run({"a": [1]})  # type: ignore[call-overload]


async def async_calls(frame: pd.DataFrame) -> None:
    """`arun` and `outcomes` are checked in the same way."""
    assert_type(await batchrun.arun(frame, model="m"), pd.DataFrame)
    assert_type(await batchrun.arun(Table()), Table)
    await batchrun.arun(frame, modle="m")  # type: ignore[call-overload]
    async with batchrun.outcomes(frame, model="m") as outcomes:
        assert_type(outcomes, AsyncIterator[Outcome])
    batchrun.outcomes(frame, modle="m")  # type: ignore[call-arg]


def options(frame: pd.DataFrame, job: batchrun.Job, some: dict[str, Any]) -> None:
    """Every option has its name and its type; those that only Python can give are accepted."""
    batchrun.run(frame, job, prompt="{{ a }}", concurrency=50, temperature=0, max_age="7d", api="chat")
    batchrun.run(frame, prompt=["{{ a }}", "And why?"], model=["m", "n"], matrix={"temperature": [0, 1]})
    batchrun.run(frame, schema=Answer, tools=[weigh, price], attach="file", file_search=["*.md"])
    batchrun.run(frame, schema={"type": "object"}, tools="tools.py", output=Path("a.csv"), script="s.toml")
    batchrun.run(frame, schema=Path("answer.json"), turns=[{"prompt": "{{ a }}"}], param={"seed": 1})
    batchrun.run(frame, api_key="k", client_options={"max_retries": 0}, on_outcome=print)
    batchrun.run(frame, **some)
    batchrun.run(frame, temprature=0)  # type: ignore[call-overload]
    batchrun.run(frame, temperature="0")  # type: ignore[call-overload]
    batchrun.run(frame, concurrency=1.5)  # type: ignore[call-overload]
    batchrun.run(frame, api="completions")  # type: ignore[call-overload]
    batchrun.run(frame, schema=Answer(city="x"))  # type: ignore[call-overload]
    batchrun.run(frame, tools=weigh)  # type: ignore[call-overload]
    batchrun.run(frame, attach=5)  # type: ignore[call-overload]
    batchrun.run(frame, on_outcome=5)  # type: ignore[call-overload]
    batchrun.run(frame, "{{ a }}")  # type: ignore[call-overload]


def scores(frame: pd.DataFrame) -> None:
    """`judge` and `dry_run` decide what scoring returns, and which options there are."""
    assert_type(batchrun.score(frame, "numeric", target="a"), batchrun.Scores)
    assert_type(batchrun.score(frame, "model-graded", grader_model="m", dry_run=True), batchrun.ScoringEstimate)
    assert_type(batchrun.compare(frame, frame, scorer="numeric", by="a"), batchrun.ScoreComparison)
    assert_type(batchrun.compare(frame, frame, judge="m", key="id"), batchrun.JudgedComparison)
    assert_type(batchrun.compare(frame, split="model", judge=Path("j.toml"), dry_run=True), batchrun.ScoringEstimate)
    batchrun.score(frame, "numeric", traget="a")  # type: ignore[call-overload]
    batchrun.compare(frame, frame)  # type: ignore[call-overload]
    batchrun.compare(frame, frame, judge="m", scorer="numeric")  # type: ignore[call-overload]
    batchrun.compare(frame, frame, judge="m", by="a")  # type: ignore[call-overload]
    batchrun.compare(frame, frame, scorer="numeric", dry_run=True)  # type: ignore[call-overload]


def kept_options() -> None:
    """Options that are kept for several calls are checked where they are written."""
    chosen: JobOptions = {"model": "m", "epochs": 3}
    batchrun.run(["a"], **chosen)
    wrong: JobOptions = {"modle": "m"}  # type: ignore[typeddict-unknown-key]
    also: JobOptions = {"epochs": "3"}  # type: ignore[typeddict-item]
    del wrong, also
