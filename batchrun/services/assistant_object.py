"""An assistant fetched from a service."""

from __future__ import annotations

import re
from typing import Any

from batchrun.engine import Limits
from batchrun.errors import InputError, ServiceFault
from batchrun.job.assistant import checked_assistant
from batchrun.job.environment import Environment
from batchrun.services.client import Endpoint
from batchrun.services.route import check_base_url
from batchrun.services.wire import BETA, Wire

__all__ = ["fetch_assistant"]


_ID = re.compile(r"[A-Za-z0-9_.:-]*[A-Za-z0-9_]")


async def fetch_assistant(assistant_id: str, base_url: str | None, environment: Environment) -> dict[str, Any]:
    """The assistant as the server tells it.

    Raises:
        ServiceFault: it does not.
        InputError: nothing says where it is, or it is not there.
    """
    if not _ID.fullmatch(assistant_id):
        raise InputError(f"{assistant_id!r}: is no id of an assistant; one such as asst_abc123 is expected")
    where = base_url or environment.base_url
    if where is None:
        raise InputError("where is the assistant? say --base-url, or set OPENAI_BASE_URL (OpenAI's own are gone)")
    check_base_url(where)
    endpoint = Endpoint(where, environment.api_key or "none", certificates=environment.certificates)
    wire = Wire(endpoint, Limits(), silence_timeout_s=30)
    try:
        found, _ = await wire.get(f"/assistants/{assistant_id}", BETA)
    except ServiceFault as fault:
        # A server without assistants answers with 404 too; what it says is about the endpoint.
        if fault.status_code != 404 or str(fault).startswith("no such endpoint"):
            raise
        raise InputError(f"{assistant_id}: there is no such assistant at {where}, or not for this key") from None
    finally:
        await wire.aclose()
    return checked_assistant(found, f"the reply of {where}")
