"""The command line: the entry point and its exit codes (`batchrun.cli.exit_codes`).

The module of a command is imported when the command is called, and heavy libraries inside the commands that need them,
so that `batchrun --help` stays fast.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import Any, NoReturn

import click

from batchrun.cli.app import cli
from batchrun.cli.console import print_warnings, warn_of_error, warn_of_failed_output
from batchrun.cli.exit_codes import EXIT_CODES
from batchrun.cli.hard_exit import no_hard_success
from batchrun.cli.safe_stream import safe_streams
from batchrun.errors import BatchrunError
from batchrun.interrupts import Interrupts

__all__ = ["EXIT_CODES", "cli", "main"]

_COMPLETION_VARIABLE = "_BATCHRUN_COMPLETE"
"""Set by the shell when it asks for completions; see click's documentation."""


def main() -> NoReturn:
    """Run the command line and exit with its exit code."""
    if _COMPLETION_VARIABLE in os.environ:
        cli.main(prog_name="batchrun")  # a shell asks for completions: click prints them, as bytes, and exits
    interrupts = Interrupts()
    with safe_streams(), interrupts.installed(), no_hard_success():
        # The SDK warns on every Assistants call. Users of batchrun chose that API, so exactly this warning is silenced.
        warnings.filterwarnings("ignore", message="The Assistants API is deprecated", category=DeprecationWarning)
        with print_warnings():
            exit_code = _command(interrupts)
    sys.exit(exit_code)


def _command(interrupts: Interrupts) -> int:
    """Run the command and return its exit code."""
    exit_code: Any
    try:
        exit_code = cli.main(standalone_mode=False, obj=interrupts)
        warn_of_failed_output()
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as exc:
        exc.show()
        return 2
    except BatchrunError as exc:
        warn_of_error(exc)
        return exc.exit_code
    except SystemExit as exc:  # SIGTERM and SIGHUP in commands that do not handle them
        return exc.code if isinstance(exc.code, int) else 1
    except BrokenPipeError:
        return 0  # the reader of the output has closed it (`| head`), which is not an error
    except Exception:  # noqa: BLE001 - a bug; its traceback may contain outside text and is escaped too
        traceback.print_exc()
        return 1
    return exit_code if isinstance(exit_code, int) else 0
