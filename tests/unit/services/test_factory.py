"""The service of a job, and the names of its options there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from batchrun.batch.plan import Plan, make_plan
from batchrun.cli import cli
from batchrun.engine.limits import Limits
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.options import Api
from batchrun.job.validation import make_job
from batchrun.services.assistants import AssistantsService
from batchrun.services.chat import ChatService
from batchrun.services.client import Endpoint
from batchrun.services.factory import make_service
from batchrun.services.responses import ResponsesService
from batchrun.services.wire import Wire
from tests.support.rows import write_csv

KEY = "sk-secret-0123456789"
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "services.md"


def planned(folder: Path, environment: Environment | None = None, **options: Any) -> Plan:
    table = write_csv(folder / "q.csv", [{"question": "What is 2 + 2?"}])
    return make_plan(make_job({"model": "m-1", **options}), table, environment or Environment(), folder / "out.csv")


@pytest.mark.parametrize(
    ("environment", "options", "api"),
    [
        ({}, {"model": "tutor"}, "assistants"),
        ({}, {"model": "tutor", "api": "chat"}, "chat"),
        ({"api_key": KEY}, {}, "responses"),
        ({"base_url": "http://127.0.0.1:1/v1"}, {}, "chat"),
        ({}, {"base_url": "http://127.0.0.1:1/v1"}, "chat"),
        ({"api_key": KEY}, {"base_url": "http://127.0.0.1:1/v1"}, "chat"),
        ({"api_key": KEY}, {"base_url": "https://eu.api.openai.com/v1"}, "responses"),
        ({"api_key": KEY}, {"assistant": "asst_1"}, "assistants"),
        ({"api_key": KEY}, {"api": "chat"}, "chat"),
        ({"client_options": {"workload_identity": {}}}, {}, "responses"),
        (
            {"azure_key": KEY, "api_version": "2025-04-01-preview"},
            {"azure": True, "base_url": "https://a.example"},
            "responses",
        ),
    ],
)
def test_the_protocol_spoken(tmp_path: Path, environment: dict[str, Any], options: dict[str, Any], api: str) -> None:
    """The protocol follows from key, base URL and assistant, and --api takes precedence."""
    assert planned(tmp_path, Environment(**environment), **options).destination.api == api


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api": "responses", "model": None}, "needs a service"),
        ({"azure": True}, "--base-url"),
        ({"azure": True, "base_url": "https://a.example"}, "--api-version"),
    ],
)
def test_what_is_missing(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """A service without key, address or version is refused before the first request; the message names the option."""
    with pytest.raises(InputError, match=words):
        planned(tmp_path, **options)


@pytest.mark.parametrize("api", get_args(Api))
@pytest.mark.parametrize(
    ("option", "apis"),
    [
        ("stream", {"responses", "chat"}),
        ("background", {"responses"}),
        ("conversation", {"responses"}),
        ("poll", {"assistants"}),
    ],
)
def test_modes_of_other_protocols(tmp_path: Path, api: str, option: str, apis: set[str]) -> None:
    """A mode that the protocol does not support is refused, not ignored."""
    environment = Environment(api_key=KEY)
    if api in apis:
        assert planned(tmp_path, environment, api=api, **{option: True}).destination.api == api
    else:
        with pytest.raises(InputError, match=f"--{option}"):
            planned(tmp_path, environment, api=api, **{option: True})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("api", "kind"), [("assistants", AssistantsService), ("responses", ResponsesService), ("chat", ChatService)]
)
async def test_services(api: Api, kind: type[object]) -> None:
    """Each protocol has its service."""
    wire = Wire(Endpoint("http://127.0.0.1:1/v1", KEY), Limits(), silence_timeout_s=5)
    try:
        service = make_service(
            make_job({"model": "m-1"}), api, wire, batch_id="b", assistant_id=None, assistant_made=lambda _: None
        )
    finally:
        await wire.aclose()
    assert type(service) is kind


def _documented() -> list[str]:
    text = re.sub(r"\\\n\s*", "", PAGE.read_text(encoding="utf-8"))
    return re.findall(r"^batchrun run .*$", text, re.MULTILINE)


def test_commands_are_documented() -> None:
    """The page on services shows commands, which the next test tries."""
    assert len(_documented()) >= 8


@pytest.mark.parametrize("command", _documented())
def test_documented_commands(tmp_path: Path, command: str) -> None:
    """Every command on the page on services has only existing options, with values that pass all checks."""
    # Below its group, as in use: click keeps the help flag that a command's first context asks for.
    group = click.Context(cli, **cli.context_settings)
    context = cli.commands["run"].make_context("run", shlex.split(command)[2:], parent=group)
    options = {name: value for name, value in context.params.items() if value not in (None, (), False)}
    options.pop("table")
    environment = Environment(api_key=KEY, azure_key=KEY)
    assert planned(tmp_path, environment, **options).job.model == options["model"][0]
