"""The address of the service that answers: the embedded server is started where it is that."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

from batchrun.batch.plan import Plan
from batchrun.errors import InputError, OutputError
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.services.client import Endpoint

__all__ = ["endpoint_for", "endpoint_of", "open_embedded"]


def endpoint_for(plan: Plan, environment: Environment, stack: AsyncExitStack) -> Endpoint:
    """Where the service is; starts the embedded server where the batch brings its own."""
    if plan.embedded:
        return stack.enter_context(open_embedded(plan.paths.store, plan.job.script))
    return endpoint_of(plan.job, plan.base_url, environment)


def endpoint_of(job: Job, base_url: str | None, environment: Environment) -> Endpoint:
    """The service at `base_url`, as the job and the environment sign in to it."""
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
    """The embedded server over `store`, for as long as the context lasts.

    Args:
        script: what it answers from; None for the tutor.

    Raises:
        OutputError: it cannot start.
        InputError: the script cannot be used.
    """
    # The only place where a stage meets the server; imported late, since its libraries take half a second.
    from batchrun.server import EmbeddedServer, ServerError, ServerSettings, SettingsError
    from batchrun.server.responders.script import ScriptResponder
    from batchrun.server.responders.tutor import TutorResponder

    key = f"sk-local-{secrets.token_urlsafe(24)}"
    settings = ServerSettings(data=store, api_keys=(key,), owner="batchrun")
    with ExitStack() as stack:
        try:
            responder = TutorResponder() if script is None else ScriptResponder(script)
            server = stack.enter_context(EmbeddedServer(settings, responder))
        except SettingsError as exc:
            raise InputError(f"--script: {exc}") from None
        except (ServerError, OSError) as exc:
            raise OutputError(f"the embedded server cannot start: {exc}") from exc
        yield Endpoint(server.url, key, trust_env=False)
