"""The paths of Azure OpenAI: its clients work here with only their endpoint changed.

They send `/openai/…` for every operation, `/openai/deployments/{model}/…` for those of a model, the key in the header
`api-key`, and the query `api-version`, which changes nothing here.
"""

from __future__ import annotations

import re

__all__ = ["PREFIX", "plain_path"]

PREFIX = "/openai/"

_DEPLOYMENT = re.compile(
    # The name of a model may contain slashes.
    r"/deployments/(?P<model>.+?)(?P<path>/chat/completions|/completions|/embeddings)"
    r"|/deployments/(?P<name>[^/]+)(?P<other>/.+)",
    re.DOTALL,
)


def plain_path(path: str) -> tuple[str, str | None]:
    """Return the path of the operation that a path below `/openai/` means, and its deployment, if it names one.

    >>> plain_path("/openai/threads/thread_1/runs")
    ('/threads/thread_1/runs', None)
    >>> plain_path("/openai/deployments/gpt-4o/chat/completions")
    ('/chat/completions', 'gpt-4o')
    """
    path = path[len(PREFIX) - 1 :]
    if path.startswith("/v1/"):
        return path[3:], None
    found = _DEPLOYMENT.fullmatch(path)
    if found is None:
        return path, None
    return found["path"] or found["other"], found["model"] or found["name"]
