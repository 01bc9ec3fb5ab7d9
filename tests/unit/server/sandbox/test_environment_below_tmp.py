from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from batchrun.server.sandbox.bubblewrap import BubblewrapSandbox


def test_bubblewrap_works_in_an_environment_below_tmp(tmp_path: Path) -> None:
    """A virtual environment in a folder that the sandbox replaces by an empty one doesn't disable bubblewrap."""
    if BubblewrapSandbox.find() is None:
        pytest.skip("bubblewrap is not installed, or this machine forbids its namespaces")
    assert tmp_path.is_relative_to("/tmp")
    venv.create(tmp_path / "venv", symlinks=True)
    done = subprocess.run(
        [
            tmp_path / "venv" / "bin" / "python",
            "-c",
            "from batchrun.server.sandbox.bubblewrap import BubblewrapSandbox as B; print(B.find() is not None)",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr
