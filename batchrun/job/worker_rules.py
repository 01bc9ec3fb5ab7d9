"""Rules for --workers: what several processes cannot do."""

from __future__ import annotations

import sys
from typing import Final

from batchrun.errors import InputError
from batchrun.job.options import Job
from batchrun.wording import shortened

__all__ = ["check_workers"]

_EXCLUDED: Final = {
    "dedupe": "workers do not know the rows of others",
    "batch_api": "the service sets the pace, so workers are not faster",
    "thread_column": "the rows of a thread have to follow each other",
    "attach": "each worker would upload the files again",
    "file_search": "each worker would upload the files again",
    "code_interpreter": "the files that it makes are kept by one process",
}
"""Options that need one process → reason."""


def check_workers(job: Job) -> None:
    """Raise InputError if an option needs one process, and the job has several.

    Raises:
        InputError: names the option and the reason; the address is of a Ray client; or this is Windows, whose pipes no
            event loop can wait for.
    """
    if job.workers == 1 and job.ray is None:
        return
    if sys.platform == "win32":
        raise InputError("--workers: needs Linux or macOS; leave it out on Windows")
    if job.ray is not None and job.ray.startswith("ray://"):
        raise InputError(
            f"--ray: {shortened(job.ray)} is the address of a Ray client; "
            "run the command on a node of the cluster, with --ray auto"
        )
    for name, reason in _EXCLUDED.items():
        if getattr(job, name) or name in job.matrix:
            flag = f"--{name.replace('_', '-')}"
            given = "--workers" if job.workers > 1 else "--ray"
            raise InputError(f"{given}: cannot be combined with {flag}: {reason}; remove one of them")
