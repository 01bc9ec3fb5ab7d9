"""The text of a job file that an importer makes."""

from __future__ import annotations

from collections.abc import Sequence

from batchrun.job.file import job_toml
from batchrun.records import JsonDict

__all__ = ["job_text"]


def job_text(options: JsonDict, scorers: Sequence[str], target: str | None, comments: Sequence[str]) -> str:
    """Return the text of a job file. In TOML, options come before tables.

    Args:
        scorers: as `--scorer` takes them.
        target: column that scorers without their own compare answers with; None for none.
    """
    ordered = {name: value for name, value in options.items() if not isinstance(value, dict)}
    ordered |= {name: value for name, value in options.items() if isinstance(value, dict)}
    if scorers:
        ordered["score"] = {"scorer": list(scorers), **({"target": target} if target else {})}
    return job_toml(ordered, tuple(comments))
