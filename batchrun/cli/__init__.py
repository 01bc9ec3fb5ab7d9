"""The command line: commands, exit codes; with `display`, the only place that prints.

Exit codes: 0 every row completed · 1 internal error · 2 bad usage, input or settings · 3 finished with failed rows
· 4 budget reached · 5 refused by the service (authentication, quota, unknown model), or it could not be reached
· 6 another batch holds this output · 7 score below the bar · 129/130/143 interrupted.

Every heavy import sits inside the command that needs it: `batchrun --help` is to feel instant.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import NoReturn

import click

from batchrun.cli import carrying, evaluating, looking, reporting, running, serving
from batchrun.cli.group import cli
from batchrun.cli.options import EXIT_CODES
from batchrun.errors import BatchrunError

__all__ = ["EXIT_CODES", "cli", "main"]

# Importing a module of commands adds them to the group.
_COMMANDS = (carrying, evaluating, looking, reporting, running, serving)


def main() -> NoReturn:
    """The entry point: runs a command and turns its end into an exit code."""
    # The SDK warns on every Assistants call, by design; its user here knows. Exactly that one is silenced.
    warnings.filterwarnings("ignore", message="The Assistants API is deprecated", category=DeprecationWarning)
    try:
        exit_code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        exit_code = 130
    except click.ClickException as exc:
        exc.show()
        exit_code = 2
    except BatchrunError as exc:
        click.echo(f"batchrun: {exc}", err=True)
        exit_code = exc.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_code = 0
    sys.exit(exit_code if isinstance(exit_code, int) else 0)
