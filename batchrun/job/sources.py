"""A `.env` cannot send a key elsewhere that is not in the same file.

Somebody may send a folder with a job file, a table and a `.env`. Whoever runs the job file has an API key in the
environment. If the `.env` could name the base URL alone, the key would go to the author of the folder.
"""

from __future__ import annotations

import re

from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.job.variables import Variables

__all__ = ["check_sources"]

_SECRET = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
"""Matches the names of headers and query parameters that may hold a credential."""


def check_sources(job: Job, environment: Environment) -> None:
    """Check that the key and what directs it come from the same `.env`, or neither of them from one.

    Args:
        job: its options precede the environment's variables; only those that are used are judged.

    Raises:
        InputError: a base URL, organization, project, header or query is from a `.env`, and the key is not; or the base
            URL is, and another credential is not. The message names both.
    """
    variables = environment.variables
    if variables is None or variables.file is None:
        return
    directing = _directing(job, variables)
    if not directing:
        return
    key = "AZURE_OPENAI_API_KEY" if job.azure else "OPENAI_API_KEY"
    has_key = (environment.azure_key if job.azure else environment.api_key) is not None
    credentials = [key] if has_key and key not in variables.taken else []
    if "base URL" in directing.values():
        credentials += _other_credentials(job, variables)
    if credentials:
        parts = " and ".join(f"{name} ({part})" for name, part in directing.items())
        raise InputError(
            f"{variables.file.path}: {parts} cannot be used with {' and '.join(credentials)} from elsewhere: a .env "
            "may direct only a key that it holds itself; set both in the same place, or add --no-env-file"
        )


def _directing(job: Job, variables: Variables) -> dict[str, str]:
    """Return the names from the `.env` that decide where a key is sent or on whose account, with what each one is."""
    found = {
        name: part
        for name, part, own in (
            ("OPENAI_BASE_URL", "base URL", job.base_url),
            ("OPENAI_ORG_ID", "organization", job.organization),
            ("OPENAI_PROJECT_ID", "project", job.project),
        )
        if own is None and name in variables.taken
    }
    parts = {"base_url": "base URL", "header": "header", "query": "query"}
    for (option, name), is_from_file in variables.expanded.items():
        if is_from_file and option in parts:
            found[name] = parts[option]
    return found


def _other_credentials(job: Job, variables: Variables) -> list[str]:
    """Return what else could be a credential from elsewhere: it would be sent to the base URL of the `.env`."""
    found = ["OPENAI_CUSTOM_HEADERS"] if variables.has_real("OPENAI_CUSTOM_HEADERS") else []  # the SDK sends them
    found += [
        name for (option, name), of_file in variables.expanded.items() if option in ("header", "query") and not of_file
    ]
    own = [value for name in variables.taken if (value := variables.file_value(name))]
    for option, values in (("--header", job.header), ("--query", job.query)):
        for name, value in values.items():
            if _SECRET.search(name) and not any(each in value for each in own):
                found.append(f"{option} {name}")
    return found
