"""The command line: commands and exit codes.

Exit codes: 0 every row completed · 1 internal error · 2 bad usage, input or settings · 3 finished with failed rows
· 4 budget reached · 5 refused by the service (authentication, quota, unknown model), or it could not be reached
· 6 another batch holds this output · 7 score below the bar · 129/130/143 interrupted.

Every heavy import sits inside the command that needs it: `batchrun --help` is to feel instant.
"""

from __future__ import annotations

import re
import sys
import traceback
import warnings
from typing import Any, NoReturn

import click

from batchrun.cli import assistants, evaluate, inspect, report, run, serve
from batchrun.cli.app import cli
from batchrun.cli.console import safe_streams, warn, warn_of_losses
from batchrun.cli.options import EXIT_CODES
from batchrun.errors import BatchrunError
from batchrun.interrupts import Interrupts

__all__ = ["EXIT_CODES", "cli", "main"]

# Importing a module of commands adds them to the group.
_COMMANDS = (assistants, evaluate, inspect, report, run, serve)


_LONG_WORD = re.compile(r"(\S{1000})\S+")
"""What a message repeats of an input may be of any length."""


def main() -> NoReturn:
    """The entry point: runs a command and turns its end into an exit code."""
    interrupts = Interrupts()
    with safe_streams(), interrupts.installed():
        # The SDK warns on every Assistants call, by design; its user here knows. Exactly that one is silenced.
        warnings.filterwarnings("ignore", message="The Assistants API is deprecated", category=DeprecationWarning)
        exit_code = _command(interrupts)
    sys.exit(exit_code)


def _command(interrupts: Interrupts) -> int:
    """Run the command; its exit code."""
    exit_code: Any
    try:
        exit_code = cli.main(standalone_mode=False, obj=interrupts)
        warn_of_losses()
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as exc:
        exc.show()
        return 2
    except BatchrunError as exc:
        warn(_LONG_WORD.sub(lambda word: f"{word[1]}…", str(exc)))
        return exc.exit_code
    except SystemExit as exc:  # SIGTERM and SIGHUP, where nothing listens to them
        return exc.code if isinstance(exc.code, int) else 1
    except BrokenPipeError:
        return 0  # the reader of our output went away (`| head`): nothing is wrong, and nothing more can be said
    except Exception:  # noqa: BLE001 - a bug: its traceback may hold outside text, and passes the same gate
        traceback.print_exc()
        return 1
    return exit_code if isinstance(exit_code, int) else 0
