"""The scorers of a job file's table [score], checked when the file is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.errors import InputError
from batchrun.job.file import read_job_file
from batchrun.scoring.score_options import score_problems


def test_a_wrong_scorer_is_reported_with_the_other_problems(tmp_path: Path) -> None:
    """A scorer that does not exist is reported together with a wrong option of the batch, and a user's file not run."""
    job = tmp_path / "job.toml"
    job.write_text('input = "q.csv"\nconcurrency = 0\n[score]\nscorer = ["numric", "python:gone.py:f"]\n', "utf-8")
    with pytest.raises(InputError) as refusal:
        read_job_file(job, None, {"score": score_problems})
    lines = [str(refusal.value), *getattr(refusal.value, "__notes__", [])]
    assert [line.partition("job.toml, ")[2].partition("; ")[0] for line in lines] == [
        "line 2: concurrency: must be at least 1, got 0",
        "line 4: score: scorer: numric: unknown scorer 'numric'",
    ]
