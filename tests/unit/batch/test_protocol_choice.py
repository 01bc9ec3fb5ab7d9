"""The protocol of a service, by its address."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.batch.protocol_choice import api_of_service, recorded_api


@pytest.mark.parametrize(
    "url",
    [
        None,
        "https://api.openai.com/v1",
        "https://API.OpenAI.com./v1",
        "https://eu.api.openai.com/v1",
        "https://us.api.openai.com:443/v1/",
        "https://name.openai.azure.com/openai/v1",
        "https://name.cognitiveservices.azure.com",
        "https://name.services.ai.azure.com/openai/v1",
        "https://name.openai.azure.us",
    ],
)
def test_openai_and_azure_have_responses(url: str | None) -> None:
    """OpenAI, its regions and Azure's hosts are asked through the Responses API."""
    assert api_of_service(url, azure=False) == "responses"


@pytest.mark.parametrize(
    "url",
    [
        "https://openrouter.ai/api/v1",
        "http://127.0.0.1:8000/v1",
        "http://localhost:1234/v1",
        "https://evil-api.openai.com.example.org/v1",
        "https://notapi.openai.com.evil/v1",
        "https://myapi.openai.com/v1",
        "https://gateway.example/api.openai.com/v1",
        "http://[::1]:8000/v1",
    ],
)
def test_other_servers_have_chat(url: str) -> None:
    """Every other host, even one whose name or path only looks like OpenAI's, is asked through Chat Completions."""
    assert api_of_service(url, azure=False) == "chat"


def test_azure_behind_a_gateway() -> None:
    """`--azure` means Azure, whatever the address."""
    assert api_of_service("https://gateway.example", azure=True) == "responses"


def test_no_journal_has_no_protocol(tmp_path: Path) -> None:
    """A batch without a journal, or with one that is still empty, has no protocol to keep."""
    assert recorded_api(tmp_path / "none") is None
    (tmp_path / "empty").touch()
    assert recorded_api(tmp_path / "empty") is None
