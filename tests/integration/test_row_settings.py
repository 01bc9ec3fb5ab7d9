"""Instructions, a model and parameters of each row's own, as the service sees them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary
from batchrun.batch.show import row_facts, row_lines
from batchrun.errors import InputError
from batchrun.estimate.dry_run import dry_run
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Conversation, ResponderError
from tests.support.recording import Recording
from tests.support.rows import read_csv, write_csv

KEY = Environment(api_key="sk-test-0123456789")
TABLE = [
    {"question": "one", "tone": "calm", "llm": "m-1", "t": "0.5"},
    {"question": "two", "tone": "loud", "llm": "m-2", "t": "1"},
    {"question": "three", "tone": "", "llm": "m-1", "t": "1"},
    {"question": "four", "tone": "dry", "llm": "", "t": "1"},
]
TEMPLATES: dict[str, Any] = {
    "instructions": "{{ tone }}",
    "model": "{{ llm }}",
    "param": {"temperature": "{{ t }}"},
}


def _reply(conversation: Conversation) -> str:
    if conversation.model == "gone":
        raise ResponderError("the model 'gone' does not exist", code="model_not_found", status_code=404)
    return f"{conversation.model} to {conversation.messages[-1].text}"


@pytest.fixture
def service() -> Iterator[tuple[str, Recording]]:
    responder = Recording(reply=_reply)
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder) as server:
        yield server.url, responder


async def run(folder: Path, url: str, rows: list[dict[str, str]] = TABLE, **options: Any) -> Summary:
    table = write_csv(folder / "in.csv", rows)
    job = make_job({"prompt": "{{ question }}", "base_url": url, **options})
    return await run_batch(make_plan(job, table, KEY, folder / "out.csv"), KEY)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "mode", [{"api": "assistants"}, {"api": "responses"}, {"api": "chat"}, {"api": "chat", "stream": True}]
)
async def test_each_row_has_its_own(tmp_path: Path, service: tuple[str, Recording], mode: dict[str, Any]) -> None:
    """Each protocol sends the instructions, the model and the typed parameter of the row, and `show` has them; a row
    without instructions or model fails by name; after a change of one cell only that row is asked again."""
    url, responder = service
    summary = await run(tmp_path, url, **TEMPLATES, **mode)
    sent = sorted(
        (each.messages[-1].text, each.model, each.instructions, each.parameters["temperature"])
        for each in responder.asked
    )
    assert sent == [("one", "m-1", "calm", 0.5), ("two", "m-2", "loud", 1.0)]
    rows = read_csv(tmp_path / "out.csv")
    assert [(row["model"], row["error_type"]) for row in rows] == [
        ("m-1", ""), ("m-2", ""), ("", "empty_instructions"), ("", "empty_model"),
    ]  # fmt: skip
    assert summary.exit_code == 3
    shown = await row_facts(tmp_path / "out.csv", "1", KEY)
    assert shown["settings"] == {"model": "m-2", "instructions": "loud", "param": {"temperature": 1}}
    lines = row_lines(shown)
    assert [line for line in lines if "of this row" in line] == [
        "model of this row: m-2", 'parameters of this row: {"temperature": 1}', "instructions of this row:",
    ]  # fmt: skip
    assert "  loud" in lines
    responder.asked.clear()
    changed = [TABLE[0] | {"tone": "wild"}, *TABLE[1:]]
    await run(tmp_path, url, changed, **TEMPLATES, **mode, accept_changes=True)
    assert [(each.messages[-1].text, each.instructions) for each in responder.asked] == [("one", "wild")]


@pytest.mark.anyio
async def test_an_assistant_keeps_its_instructions(tmp_path: Path, service: tuple[str, Recording]) -> None:
    """With --assistant, the row's instructions are added to those of the assistant."""
    url, responder = service
    import openai

    client = openai.OpenAI(base_url=url, api_key="sk-test-0123456789")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        assistant = client.beta.assistants.create(model="m-0", instructions="Be kind.")
    client.close()
    turns = [{"prompt": "{{ question }}"}, {"prompt": "Again."}]
    summary = await run(
        tmp_path, url, TABLE[:1], assistant=assistant.id, instructions="Be {{ tone }}.", prompt=None, turns=turns
    )
    assert summary.exit_code == 0
    asked = [(each.messages[-1].text, each.model, each.instructions) for each in responder.asked]
    assert asked == [("one", "m-0", "Be kind. Be calm."), ("Again.", "m-0", "Be kind. Be calm.")]


@pytest.mark.anyio
@pytest.mark.parametrize("api", ["chat", "responses", "assistants"])
async def test_a_model_that_only_one_row_has(tmp_path: Path, service: tuple[str, Recording], api: str) -> None:
    """A model that the service does not have fails the rows that name it, not the batch."""
    url, _ = service
    rows = [TABLE[0] | {"llm": "gone"}, TABLE[1]]
    summary = await run(tmp_path, url, rows, model="{{ llm }}", api=api, concurrency=1)
    assert summary.stop is None
    assert [(row["status"], row["error_type"]) for row in read_csv(tmp_path / "out.csv")] == [
        ("failed", "model_not_found"), ("completed", ""),
    ]  # fmt: skip


def test_prices_of_each_row(tmp_path: Path) -> None:
    """An estimate knows the models of all rows: each row has the price of its own, and a budget needs them all."""
    table = write_csv(tmp_path / "in.csv", TABLE)
    own = {"m-1": {"input": 0.0, "output": 1.0}, "m-2": {"input": 0.0, "output": 3.0}}
    options = {"prompt": "{{ question }}", "model": "{{ llm }}", "base_url": "http://127.0.0.1:9/v1"}
    job = make_job({**options, "prices": own, "max_completion_tokens": 1_000_000})
    estimate = dry_run(make_plan(job, table, KEY, tmp_path / "out.csv"))
    assert list(estimate.prices) == ["m-1", "m-2"]
    a_row = Decimal(estimate.completion_tokens) / 3 / 1_000_000
    assert estimate.cost == (1 + 3 + 1) * a_row
    assert estimate.unaskable == {"empty_model": 1}
    job = make_job({**options, "prices": {"m-1": own["m-1"]}, "budget": 1})
    assert "m-2" in dry_run(make_plan(job, table, KEY, tmp_path / "out.csv")).problems[0]
    with pytest.raises(InputError, match="no row gives a model"):
        make_plan(make_job({**options, "model": "{{ '' }}"}), table, KEY, tmp_path / "out.csv")


def test_a_python_call_and_its_axes(tmp_path: Path) -> None:
    """Python takes the same templates; a matrix of instructions may mix them with plain texts, and a model from a
    column needs a service."""
    script = tmp_path / "s.jsonl"
    script.write_text('{"model": "m-1", "reply": "first"}\n{"default": {"reply": "second"}}\n')
    answers = batchrun.run(TABLE[:2], prompt="{{ question }}", model="{{ llm }}", script=script)
    assert answers["response"].tolist() == ["first", "second"]
    assert answers["model"].tolist() == ["m-1", "m-2"]
    answers = batchrun.run(
        TABLE[:2], prompt="{{ question }}", script=script, matrix={"instructions": ["Be {{ tone }}.", "Be brief."]}
    )
    assert answers["axis_instructions"].tolist() == ["Be {{ tone }}.", "Be brief."] * 2
    with pytest.raises(batchrun.InputError, match="no API key"):
        batchrun.run(TABLE[:2], prompt="{{ question }}", model="{{ llm }}")
    with pytest.raises(batchrun.InputError, match="service_tier"):
        batchrun.run(TABLE[:2], prompt="{{ question }}", param={"service_tier": "{{ t }}"})
    shutil.rmtree(tmp_path)
