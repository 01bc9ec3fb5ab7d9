"""Which protocol a batch uses if no option names one."""

from __future__ import annotations

from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from batchrun.job.options import Api
from batchrun.journal import Journal

__all__ = ["api_of_service", "recorded_api"]

_WITH_RESPONSES = (
    "api.openai.com",  # also eu.api.openai.com and the other regions
    "openai.azure.com",
    "cognitiveservices.azure.com",
    "services.ai.azure.com",
    "openai.azure.us",
    "openai.azure.cn",
)
"""Hosts of the services that have the Responses API; a host below one of them has it too.

Sources: the regions in the SDK's `_data_residency.py`; Azure's endpoints by cloud,
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/switching-endpoints."""


def api_of_service(base_url: str | None, *, azure: bool) -> Api:
    """Return the protocol of a service: `responses` at OpenAI and Azure, `chat` at every other server.

    Args:
        base_url: None for OpenAI.
        azure: the service is Azure, at whatever address a gateway has given it.
    """
    host = (urlsplit(base_url).hostname or "").rstrip(".") if base_url is not None else ""
    is_known = any(host == known or host.endswith(f".{known}") for known in _WITH_RESPONSES)
    return "responses" if base_url is None or azure or is_known else "chat"


def recorded_api(journal: Path) -> Api | None:
    """Return the protocol in which a service has answered rows of a batch; None if there are none.

    With another protocol, every row would be asked and paid for again. Rehearsals on the embedded server do not count.

    Raises:
        OutputError: the journal cannot be read.
    """
    if not journal.exists() or not journal.stat().st_size:
        return None
    with Journal(journal, read_only=True) as opened:
        settings = opened.read_manifest().get("settings", {})
        if settings.get("embedded") is not False or not opened.may_have_cost():
            return None
        return next((api for api in get_args(Api) if api == settings.get("api")), None)
