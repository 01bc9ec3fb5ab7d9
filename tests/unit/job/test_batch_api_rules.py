"""The options of the Batch API: what they need, what they exclude, and how many waves a batch may take."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.job.batch_api_rules import (
    batch_deadline_s,
    check_needs_batch_api,
    most_waves,
    unused_limits,
    waves_notice,
)
from batchrun.job.validation import make_job


def problem(**options: Any) -> str:
    with pytest.raises(InputError) as caught:
        make_job(options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("no_wait", True), ("batch_deadline", "6h"), ("batch_size", 10), ("batch_poll", 5)]
)
def test_options_that_need_the_batch_api(name: str, value: object) -> None:
    """An option of the Batch API without --batch-api is refused, not ignored."""
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(InputError, match=f"^{flag}: is an option of --batch-api"):
        check_needs_batch_api(make_job({name: value}))
    check_needs_batch_api(make_job({"batch_api": True, name: value}))


@pytest.mark.parametrize(
    "options",
    [
        {"assistant": "asst_1"}, {"stream": True}, {"background": True}, {"conversation": True}, {"poll": True},
        {"matrix": {"assistant": ["asst_1", "asst_2"]}}, {"api": "assistants"},
    ],
)  # fmt: skip
def test_options_that_the_batch_api_does_not_have(options: dict[str, Any]) -> None:
    """What the Batch API cannot do is refused, with the option and the reason."""
    name = next(iter(options.get("matrix", options)))
    assert f"--{name}" in problem(batch_api=True, **options)
    assert problem(batch_api=True, **options).startswith("--batch-api: cannot be combined with")


@pytest.mark.parametrize("duration", ["6", "0h", "soon"])
def test_a_deadline_is_a_duration(duration: str) -> None:
    """A deadline that is not a duration above zero is refused by name."""
    assert problem(batch_api=True, batch_deadline=duration).startswith("--batch-deadline: ")
    assert batch_deadline_s(make_job({"batch_api": True, "batch_deadline": "90m"})) == 5_400


@pytest.mark.parametrize(
    ("options", "waves"),
    [
        ({}, 1),
        ({"prompt": ["a {{ x }}", "b", "c"]}, 3),
        ({"schema": "s.json", "schema_retries": 2}, 3),
        ({"tools": "t.py", "max_tool_rounds": 4}, 5),
        ({"prompt": ["a {{ x }}", "b"], "fallback_model": "other"}, 4),
    ],
)
def test_the_most_waves_of_a_batch(options: dict[str, Any], waves: int) -> None:
    """Turns, corrections, rounds of functions and the fallback model are waves, and the notice says how many."""
    job = make_job({"model": "m", "batch_api": True, **options})
    assert most_waves(job) == waves
    (notice,) = waves_notice(job)
    assert (f"up to {waves} waves" if waves > 1 else "1 wave") in notice
    assert "24 h" in notice


def test_limits_of_ordinary_requests_are_named() -> None:
    """A limit that does not hold for requests of the Batch API is said."""
    job = make_job({"batch_api": True, "rpm": 60, "row_timeout": 5})
    assert list(unused_limits(job)) == [
        "--rpm and --row-timeout do not hold for requests of the Batch API, only for ordinary requests"
    ]
    assert list(unused_limits(make_job({"rpm": 60}))) == []
