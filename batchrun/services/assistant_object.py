"""Fetches an assistant from a service, for `batchrun import-assistant`."""

from __future__ import annotations

import re

from batchrun.engine import Limits
from batchrun.errors import InputError, ServiceFault
from batchrun.job.assistant import checked_assistant
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.job.sources import check_sources
from batchrun.records import JsonDict
from batchrun.services.client import Endpoint
from batchrun.services.route import check_base_url
from batchrun.services.wire import BETA, Wire

__all__ = ["fetch_assistant"]


_ID = re.compile(r"[A-Za-z0-9_.:-]*[A-Za-z0-9_]")


async def fetch_assistant(assistant_id: str, base_url: str | None, environment: Environment) -> JsonDict:
    """Return the assistant object of a server.

    Raises:
        ServiceFault: the server did not answer, or refused.
        InputError: the id is invalid, the URL is missing or invalid, or the server has no such assistant.
    """
    if not _ID.fullmatch(assistant_id):
        raise InputError(f"{assistant_id!r} is not the id of an assistant; expected one such as asst_abc123")
    where = base_url or environment.base_url
    if where is None:
        raise InputError(
            "the server of the assistant is unknown; give --base-url or set OPENAI_BASE_URL"
            " (OpenAI's own assistants no longer exist)"
        )
    check_base_url(where)
    check_sources(Job(base_url=base_url), environment)
    endpoint = Endpoint(where, environment.api_key or "none", certificates=environment.certificates)
    wire = Wire(endpoint, Limits(), silence_timeout_s=30)
    try:
        found, _ = await wire.get(f"/assistants/{assistant_id}", BETA)
    except ServiceFault as fault:
        # A server without assistants also answers 404, but for the endpoint.
        if fault.status_code != 404 or str(fault).startswith("no such endpoint"):
            raise
        raise InputError(f"{assistant_id}: {where} has no such assistant, or this key cannot access it") from None
    finally:
        await wire.aclose()
    return checked_assistant(found, f"the reply of {where}")
