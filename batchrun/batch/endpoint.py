"""The address and credentials of the service that answers; starts the embedded server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.batch.plan import Plan
from batchrun.errors import InputError, OutputError
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.services.client import Endpoint

if TYPE_CHECKING:
    from batchrun.server.responders.base import Responder

__all__ = ["endpoint_for", "endpoint_of", "open_embedded"]


def endpoint_for(plan: Plan, environment: Environment, stack: AsyncExitStack) -> Endpoint:
    """Return the endpoint of a batch; starts its embedded server, which `stack` stops."""
    if plan.destination.is_embedded:
        return stack.enter_context(open_embedded(plan.paths.store, plan.job.script))
    return endpoint_of(plan.job, plan.destination.base_url, environment)


def endpoint_of(job: Job, base_url: str | None, environment: Environment) -> Endpoint:
    """Return the service at `base_url` with the credentials of the job and the environment."""
    return Endpoint(
        base_url=base_url,
        api_key=environment.azure_key if job.azure else environment.api_key,
        organization=job.organization or environment.organization,
        project=job.project or environment.project,
        azure=job.azure,
        api_version=job.api_version or environment.api_version,
        headers=job.header,
        query=job.query,
        client_options=environment.client_options,
        certificates=environment.certificates,
    )


@contextmanager
def open_embedded(store: Path, script: Path | None = None) -> Iterator[Endpoint]:
    """Run the embedded server over `store` while the context lasts.

    Args:
        script: file with the answers; None for the tutor.

    Raises:
        OutputError: the server cannot start.
        InputError: the script is invalid.
    """
    # The only place where a batch imports the server. Imported late: its libraries take half a second.
    from batchrun.server import EmbeddedServer, ServerError, ServerSettings, SettingsError

    key = f"sk-local-{secrets.token_urlsafe(24)}"
    settings = ServerSettings(data=store, api_keys=(key,), owner="batchrun")
    with ExitStack() as stack:
        try:
            server = stack.enter_context(EmbeddedServer(settings, _responder(script)))
        except SettingsError as exc:
            raise InputError(f"--script: {exc}") from None
        except (ServerError, OSError) as exc:
            raise OutputError(f"the embedded server cannot start: {exc}") from exc
        yield Endpoint(server.url, key, trust_env=False)


def _responder(script: Path | None) -> Responder:
    if script is None:
        from batchrun.server.responders.tutor import TutorResponder

        return TutorResponder()
    from batchrun.server.responders.script import ScriptResponder

    return ScriptResponder(script)
