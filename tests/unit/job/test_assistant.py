"""Conversion of assistants to jobs: settings are carried over exactly or listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.job.assistant import job_of_assistant, read_assistant
from batchrun.job.file import job_toml, load_job_file
from batchrun.job.validation import make_job
from batchrun.services.parameters import model_parameters

SCHEMA = {"type": "object", "properties": {"x": {"type": ["string", "null"], "enum": ["a", None]}}}
FUNCTION = {"name": "look_up", "description": "Looks up.", "parameters": SCHEMA, "strict": None}


def assistant(**fields: Any) -> dict[str, Any]:
    """Return an assistant as the API returns it."""
    return {
        "id": "asst_1",
        "object": "assistant",
        "model": "m-1",
        "instructions": None,
        "tools": [],
        "temperature": 1.0,
        "top_p": 1.0,
        "response_format": "auto",
        "metadata": {},
        "tool_resources": {"code_interpreter": None, "file_search": None},
        **fields,
    }


def through_a_file(tmp_path: Path, options: dict[str, Any]) -> Any:
    """Return the options of a job that was written to a job file and read again."""
    path = tmp_path / "job.toml"
    path.write_text(job_toml(options), encoding="utf-8")
    return make_job(load_job_file(path, {})[1])


def test_defaults_are_left_out() -> None:
    """Values that the API returns without having been set are not sent to models that may refuse them."""
    assert job_of_assistant(assistant()) == ({"model": "m-1"}, [])


def test_settings_carry_over(tmp_path: Path) -> None:
    """Model, instructions, sampling and formats are the same in the job."""
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
    options, lost = job_of_assistant(
        assistant(instructions="@home\n\"say\" 'it'", temperature=0.2, top_p=0.5, response_format=form)
    )
    job = through_a_file(tmp_path, options)
    assert lost == []
    assert (job.model, job.temperature, job.top_p) == ("m-1", 0.2, 0.5)
    assert job.instructions == "@@home\n\"say\" 'it'"
    assert job.response_format == form


def test_functions_carry_over_to_each_protocol(tmp_path: Path) -> None:
    """Function tools keep their schema, including nulls, in the form of each service."""
    options, lost = job_of_assistant(assistant(tools=[{"type": "function", "function": FUNCTION}]))
    job = through_a_file(tmp_path, options)
    kept = {"name": "look_up", "description": "Looks up.", "parameters": SCHEMA}
    assert lost == []
    assert model_parameters(job, "chat")["tools"] == [{"type": "function", "function": kept}]
    assert model_parameters(job, "assistants")["tools"] == [{"type": "function", "function": kept}]
    assert model_parameters(job, "responses")["tools"] == [{"type": "function", "strict": False, **kept}]


def test_a_schema_is_flat_for_responses(tmp_path: Path) -> None:
    """Responses accepts the fields of json_schema next to its type, under `text.format`."""
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}}
    job = through_a_file(tmp_path, job_of_assistant(assistant(response_format=form))[0])
    assert model_parameters(job, "responses") == {
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}}
    }
    assert model_parameters(job, "chat") == {"response_format": form}


def test_what_cannot_carry_over_is_listed() -> None:
    """Hosted tools with their files, metadata and reasoning effort are listed, not dropped silently."""
    _, lost = job_of_assistant(
        assistant(
            tools=[{"type": "code_interpreter"}, {"type": "file_search", "file_search": {}}],
            tool_resources={
                "code_interpreter": {"file_ids": ["file-1"]},
                "file_search": {"vector_store_ids": ["vs_2"]},
            },
            metadata={"team": "blue"},
            reasoning_effort="low",
        )
    )
    assert lost == [
        "tool code_interpreter, with file-1",
        "tool file_search, with vs_2",
        "reasoning_effort = 'low': set it in [param] under the service's name for it",
        'metadata: {"team": "blue"}',
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"object": "thread"}'])
def test_something_else_than_an_assistant_is_refused(tmp_path: Path, text: str) -> None:
    """JSON that is not an assistant gives one clear line with the name of the file."""
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.json: is (not valid JSON|not the JSON of an assistant)"):
        read_assistant(path)


def test_an_assistant_is_read(tmp_path: Path) -> None:
    """The JSON that the API returned is read unchanged."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(assistant()), encoding="utf-8")
    assert read_assistant(path) == assistant()
