"""`assistants export` and `import`: from a server or a file to a job file that can be run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai import OpenAI

from tests.support.command import batchrun
from tests.support.scripted_http import Answer, ScriptedHttp, html, json_answer

# The SDK's word for every call about assistants.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


def test_an_exported_assistant_runs_once_it_has_a_table(tmp_path: Path, tutor_url: str) -> None:
    """A comment in the file names what is missing; the job runs once the # of that line is removed."""
    with OpenAI(base_url=tutor_url, api_key="any", max_retries=0) as client:
        made = client.beta.assistants.create(
            model="tutor",
            name="Tutor",
            instructions="Answer in a sentence.",
            tools=[{"type": "function", "function": {"name": "look_up"}}],
        )
    done = batchrun(tmp_path, "assistants", "export", made.id, "--base-url", tutor_url, "-o", "job.toml")
    assert (done.returncode, done.stderr) == (0, "")
    job = tmp_path / "job.toml"
    assert "no input" in batchrun(tmp_path, "check", "job.toml").stderr
    (tmp_path / "questions.csv").write_text("question\n1+1\n", encoding="utf-8")
    text = job.read_text(encoding="utf-8")
    assert text.startswith(f"# From the assistant Tutor · {made.id}\n#\n# To run this file")
    job.write_text(text.replace('# input = "questions.csv"', 'input = "questions.csv"'), encoding="utf-8")
    assert "1 row of" in batchrun(tmp_path, "check", "job.toml").stdout


def test_an_imported_assistant_says_what_is_missing(tmp_path: Path) -> None:
    """A job file made from a file has the same comment."""
    (tmp_path / "a.json").write_text(json.dumps({"model": "m"}), encoding="utf-8")
    made = batchrun(tmp_path, "assistants", "import", "a.json")
    assert '\n# input = "questions.csv"\n\nmodel = "m"\n' in made.stdout


@pytest.mark.parametrize("name", ["asst_gone", "asst_gone.2"])
def test_an_unknown_assistant(tmp_path: Path, tutor_url: str, name: str) -> None:
    """The message names an id that the server does not know and the server's address, and nothing is written."""
    done = batchrun(tmp_path, "assistants", "export", name, "--base-url", tutor_url, "-o", "job.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"batchrun: {name}: {tutor_url} has no such assistant, or this key cannot access it\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../threads", "a b", "asst/1", "asst_1?x=1", ".."])
def test_something_else_than_an_id(tmp_path: Path, tutor_url: str, name: str) -> None:
    """A value that cannot be an id is refused before anything is sent."""
    done = batchrun(tmp_path, "assistants", "export", name, "--base-url", tutor_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"batchrun: {name!r} is not the id of an assistant; expected one such as asst_abc123\n"


@pytest.mark.parametrize(
    ("answer", "exit_code", "expected"),
    [
        (html(status=404), 5, "no such endpoint on this server: /v1/assistants/asst_1"),
        (json_answer({"id": "asst_1"}), 2, "is not the JSON of an assistant: it has no model"),
        (json_answer({"error": {"message": "Wrong key", "code": "invalid_api_key"}}, 401), 5, "refused the key"),
    ],
    ids=["no assistants", "something else", "key"],
)
def test_a_server_that_reports_none(tmp_path: Path, answer: Answer, exit_code: int, expected: str) -> None:
    """A server without assistants, a malformed reply and a refused key each get one line."""
    with ScriptedHttp(lambda _: answer) as server:
        done = batchrun(tmp_path, "assistants", "export", "asst_1", "--base-url", server.url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (exit_code, "", 1)
    assert expected in done.stderr


def test_an_invalid_base_url(tmp_path: Path) -> None:
    """An invalid base URL is refused with the name of its option."""
    done = batchrun(tmp_path, "assistants", "export", "asst_1", "--base-url", "host/v1")
    assert done.returncode == 2
    assert done.stderr == "batchrun: --base-url: expected a URL that begins with http:// or https://, got 'host/v1'\n"
