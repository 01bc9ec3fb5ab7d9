from __future__ import annotations

import pytest

from batchrun.server.http.azure import plain_path


@pytest.mark.parametrize(
    ("path", "plain", "deployment"),
    [
        ("/openai/assistants", "/assistants", None),
        ("/openai/v1/responses", "/responses", None),
        ("/openai/deployments/gpt-4o/chat/completions", "/chat/completions", "gpt-4o"),
        ("/openai/deployments/org/model:7b/chat/completions", "/chat/completions", "org/model:7b"),
        ("/openai/deployments/small/embeddings", "/embeddings", "small"),
        ("/openai/deployments/a b/responses/resp_1/cancel", "/responses/resp_1/cancel", "a b"),
        ("/openai/deployments/x", "/deployments/x", None),
        ("/openai/", "/", None),
    ],
)
def test_paths_of_azure(path: str, plain: str, deployment: str | None) -> None:
    """Each form of Azure's paths names the operation and the deployment."""
    assert plain_path(path) == (plain, deployment)
