"""Whether the upstream endpoint can be reached, checked when the server starts: a wrong address is seen at once."""

from __future__ import annotations

import anyio
import httpx2
import openai

from batchrun.server.responders.upstream import FAILURES, open_client, responder_error

__all__ = ["upstream_line"]

_TIMEOUT_S = 5.0


async def upstream_line(base_url: str, api_key: str | None) -> str:
    """Ask the endpoint for its models, and return a line for people. Nothing is billed, and nothing fails.

    Raises:
        SettingsError: `base_url` is not a URL that requests can be sent to.
    """
    client = open_client(base_url, api_key, silence_timeout_s=_TIMEOUT_S, max_connections=1)
    try:
        with anyio.fail_after(_TIMEOUT_S):
            await client.get("/models", cast_to=httpx2.Response)
        state = "can be reached"
    except TimeoutError:
        state = f"has not answered within {_TIMEOUT_S:g} s; runs fail until it does"
    except openai.APIStatusError as exc:
        state = _refusal(exc.status_code)
    except FAILURES as exc:
        state = f"cannot be reached now, and runs fail until it can: {responder_error(exc, api_key, 'models')}"
    finally:
        await client.close()
    return f"upstream {base_url}: {state}"


def _refusal(status: int) -> str:
    if status in (401, 403):
        return f"refuses the key ({status}); --upstream-key-env names the environment variable with the right one"
    if status == 404:
        return "can be reached, but has no /models (404); if runs fail, check the URL, which usually ends in /v1"
    return f"can be reached, but replies {status} to /models"
