"""`show` prints a row's thread in each protocol, as far as the service keeps one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.tutor import TutorResponder
from tests.support.command import batchrun
from tests.support.rows import write_csv


def shown(folder: Path, url: str, *options: str) -> str:
    """Run one question, then show its row."""
    (folder / "q.csv").write_text("question\n2+2\n", encoding="utf-8")
    key = {"OPENAI_API_KEY": "sk-test"}
    done = batchrun(folder, "run", "q.csv", "--base-url", url, "--model", "tutor", *options, **key)
    assert done.returncode == 0, done.stderr
    return batchrun(folder, "show", "outputs/q.csv", "0", **key).stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--api", "assistants"], ["thread thread_", "user · msg_", "assistant · msg_", "run run_", "step step_"]),
        (["--api", "responses"], ["user · msg_", "assistant · msg_", "response resp_"]),
        (["--api", "responses", "--conversation"], ["conversation conv_", "assistant · msg_", "response resp_"]),
        (["--api", "chat"], ["attempt 1 · ", "user:", "assistant:"]),
    ],
)
def test_a_row_of_each_protocol(tmp_path: Path, tutor_url: str, options: list[str], expected: list[str]) -> None:
    """Question, answer and usage are shown, with the ids from the service."""
    told = shown(tmp_path, tutor_url, *options)
    for part in [*expected, "  2+2", "  2 + 2 = 4.", "usage: "]:
        assert part in told, told


def test_a_service_that_is_gone(tmp_path: Path) -> None:
    """The row is shown from the journal, with the reason for which the rest is missing."""
    with EmbeddedServer(ServerSettings(), TutorResponder()) as server:
        shown(tmp_path, server.url, "--api", "assistants")
    told = batchrun(tmp_path, "show", "outputs/q.csv", "0", OPENAI_API_KEY="sk-test")
    assert told.returncode == 0
    assert "  2 + 2 = 4." in told.stdout
    assert "the connection failed" in told.stdout
    # Local servers often need no key, so `show` tries without one.
    assert "the connection failed" in batchrun(tmp_path, "show", "outputs/q.csv", "0").stdout


def test_as_json(tmp_path: Path, tutor_url: str) -> None:
    """--json gives the objects of the service unchanged."""
    shown(tmp_path, tutor_url, "--api", "responses")
    story = json.loads(batchrun(tmp_path, "show", "outputs/q.csv", "0", "--json", OPENAI_API_KEY="sk-test").stdout)
    assert story["thread"]["response"]["object"] == "response"
    assert story["outcome"]["response"] == "2 + 2 = 4."


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_row_of_several_runs(tmp_path: Path, api: str) -> None:
    """`show` prints all messages of a row of several runs, including function calls and their outputs."""
    write_csv(tmp_path / "q.csv", [{"question": "weather in Paris"}])
    (tmp_path / "tools.py").write_text(
        'def weather(city: str) -> str:\n    """The weather."""\n    return f"sun over {city}"\n'
    )
    (tmp_path / "script.toml").write_text(
        "[[rule]]\npattern = 'weather in (\\w+)'\n"
        "tool_calls = [{ name = 'weather', arguments = { city = '\\1' } }]\nafter = 'It is: \\o1'\n"
    )
    ran = batchrun(
        tmp_path, "run", "q.csv", "-o", "a.csv", "--api", api, "--tools", "tools.py", "--script", "script.toml"
    )
    assert ran.returncode == 0, ran.stderr
    shown = batchrun(tmp_path, "show", "a.csv", "0").stdout
    spoken = ["weather in Paris", 'assistant calls weather({"city": "Paris"})', "functions:", "It is: sun over Paris"]
    places = [shown.index(words) for words in spoken]
    assert places == sorted(places)
