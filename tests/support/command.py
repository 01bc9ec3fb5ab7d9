"""The command line, called in this process to save the start of an interpreter."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrun.cli import main

__all__ = ["Result", "batchrun"]


@dataclass(frozen=True, slots=True)
class Result:
    """The exit code and the output of a command."""

    returncode: int
    stdout: str
    stderr: str

    def facts(self) -> dict[str, Any]:
        """Return the facts that `--json` printed on the last line of standard output."""
        return dict(json.loads(self.stdout.splitlines()[-1]))


def batchrun(folder: Path, *arguments: str, stdin: str = "", **environment: str) -> Result:
    """Run `batchrun ARGUMENTS` with `folder` as the working directory and with additional environment variables."""
    out, err = io.StringIO(), io.StringIO()
    argv, before, cwd, old_stdin = sys.argv, dict(os.environ), Path.cwd(), sys.stdin
    sys.argv = ["batchrun", *arguments]
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    os.environ.update(environment)
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as exc:
        return Result(int(exc.code or 0), out.getvalue(), err.getvalue())
    finally:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(before)
        sys.argv, sys.stdin = argv, old_stdin
    raise AssertionError("main() always exits")
