"""The `.env` of a command: what is used, what is said about it, and that it cannot send a key elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchrun
from batchrun.errors import InputError
from tests.support.chat import chat_reply
from tests.support.command import Result
from tests.support.command import batchrun as command
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

REAL = "sk-real-12345678"
OWN = "sk-file-12345678"


def answer(request: Request) -> Answer:
    if request.method == "GET" and "/assistants/" in request.path:
        return json_answer({"id": "asst_1", "object": "assistant", "model": "m", "tools": []})
    if request.path.endswith("/models"):
        return json_answer({"data": []})
    return json_answer(chat_reply("C"))


@pytest.fixture
def service() -> Iterator[ScriptedHttp]:
    """The service of whoever wrote the `.env`; it answers everything."""
    with ScriptedHttp(answer) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text("question,answer\nWhat is 2 + 2?,4\n", encoding="utf-8")
    (tmp_path / "job.toml").write_text('input = "q.csv"\noutput = "a.csv"\napi = "chat"\n', encoding="utf-8")
    return tmp_path


def env_file(folder: Path, **values: str) -> None:
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")


def keys_at(service: ScriptedHttp) -> set[str]:
    return {request.headers.get("authorization", "") for request in service.requests}


def test_a_batch_uses_the_file_of_its_folder(folder: Path, tmp_path: Path, service: ScriptedHttp) -> None:
    """Key, address and model come from the `.env` next to the job file, from wherever the command is called; one line
    has the path and the names, and no output has a value."""
    env_file(folder, OPENAI_API_KEY=OWN, OPENAI_BASE_URL=service.url, BATCHRUN_MODEL="m", OTHER="1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env_file(elsewhere, OPENAI_API_KEY="sk-of-the-working-folder")
    done = command(elsewhere, "run", str(folder / "job.toml"))
    assert done.returncode == 0, done.stderr
    announced = [line for line in done.stderr.splitlines() if ".env" in line]
    assert announced == [f"{folder / '.env'}: used: OPENAI_API_KEY, OPENAI_BASE_URL, BATCHRUN_MODEL"]
    assert keys_at(service) == {f"Bearer {OWN}"}
    assert OWN not in done.stdout + done.stderr


def test_the_file_of_the_working_folder_is_the_second_choice(folder: Path, service: ScriptedHttp) -> None:
    """For a table, and for a job file whose folder has no `.env`, that of the working folder is used."""
    jobs = folder / "jobs"
    jobs.mkdir()
    (jobs / "job.toml").write_text('input = "../q.csv"\noutput = "b.csv"\napi = "chat"\n', encoding="utf-8")
    env_file(folder, OPENAI_API_KEY=OWN, OPENAI_BASE_URL=service.url, BATCHRUN_MODEL="m")
    for arguments in (["jobs/job.toml"], ["q.csv", "--api", "chat"]):
        done = command(folder, "run", *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith(".env: used: OPENAI_API_KEY, OPENAI_BASE_URL, BATCHRUN_MODEL\n")
    assert keys_at(service) == {f"Bearer {OWN}"}


def test_no_env_file_ignores_it(folder: Path) -> None:
    """With --no-env-file nothing of the file is used or said, not even if it could not be read."""
    (folder / ".env").symlink_to("nowhere")
    assert "is a symbolic link" in command(folder, "run", "job.toml", "--dry-run").stderr
    done = command(folder, "run", "job.toml", "--dry-run", "--no-env-file", "--model", "tutor")
    assert done.returncode == 0
    assert ".env" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "name", ["run", "check", "score", "compare", "show", "cleanup", "costs", "assistants export", "serve"]
)
def test_each_command_that_reads_it_can_ignore_it(folder: Path, name: str) -> None:
    """Every command that reads keys from the environment has --no-env-file."""
    assert "--no-env-file" in command(folder, *name.split(), "--help").stdout


def test_quiet_and_json_keep_the_line_apart(folder: Path, service: ScriptedHttp) -> None:
    """--quiet prints no line; with --json it is on standard error, where no program reads JSON."""
    env_file(folder, OPENAI_API_KEY=OWN, OPENAI_BASE_URL=service.url, BATCHRUN_MODEL="m")
    assert command(folder, "run", "job.toml", "--quiet").stderr == ""
    done = command(folder, "run", "job.toml", "--json")
    assert ".env: used" in done.stderr
    assert all(json.loads(line) for line in done.stdout.splitlines())


def test_what_has_no_effect_is_named(folder: Path) -> None:
    """A proxy in the file, and a variable that the environment has already, are named in the same line."""
    env_file(folder, OPENAI_API_KEY=OWN, HTTPS_PROXY="http://127.0.0.1:9", BATCHRUN_MODEL="m", DATABASE_URL="x")
    done = command(folder, "check", "job.toml", OPENAI_API_KEY=REAL)
    assert done.stderr.splitlines()[0] == (
        ".env: used: BATCHRUN_MODEL · already in the environment: OPENAI_API_KEY · never taken from a .env: HTTPS_PROXY"
    )


# -- a folder that somebody sent --------------------------------------------------------------------------------


def refused(done: Result, service: ScriptedHttp, *names: str) -> None:
    """Check that a command ended with exit code 2, named what does not fit together, and sent nothing."""
    assert done.returncode == 2, done.stdout + done.stderr
    message = done.stderr.splitlines()[-1]
    for each in (".env", "--no-env-file", *names):
        assert each in message
    assert REAL not in done.stdout + done.stderr
    assert service.requests == []


GRADER = 'model = "m"\napi = "chat"\nprompt = "{{ response }}"\n'

COMMANDS = {
    "run": ["run", "job.toml"],
    "table": ["run", "q.csv", "--model", "m", "--api", "chat"],
    "pilot": ["run", "job.toml", "--pilot", "1"],
    "dry run": ["run", "job.toml", "--dry-run"],
    "check": ["check", "job.toml"],
    "score": ["score", "graded.csv", "--scorer", "model-graded", "--grader", "grader.toml"],
    "compare": [
        "compare",
        "graded.csv",
        "graded2.csv",
        "--key",
        "question",
        "--scorer",
        "model-graded",
        "--grader",
        "grader.toml",
    ],
    "assistants export": ["assistants", "export", "asst_1"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_base_url_needs_the_key_of_the_same_file(folder: Path, service: ScriptedHttp, arguments: list[str]) -> None:
    """No command sends the user's own key to the base URL of a `.env`: exit code 2, both named, nothing sent."""
    env_file(folder, OPENAI_BASE_URL=service.url, BATCHRUN_MODEL="m")
    (folder / "grader.toml").write_text(GRADER, encoding="utf-8")
    for name in ("graded.csv", "graded2.csv"):
        (folder / name).write_text("question,response,answer\n2+2?,4,4\n", encoding="utf-8")
    done = command(folder, *arguments, OPENAI_API_KEY=REAL)
    refused(done, service, "OPENAI_BASE_URL (base URL)", "OPENAI_API_KEY")
    # The same commands reach the service if the file has a key too.
    env_file(folder, OPENAI_BASE_URL=service.url, BATCHRUN_MODEL="m", OPENAI_API_KEY=OWN)
    done = command(folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert keys_at(service) <= {f"Bearer {OWN}"}


@pytest.mark.parametrize(("name", "part"), [("OPENAI_ORG_ID", "organization"), ("OPENAI_PROJECT_ID", "project")])
def test_an_account_needs_the_key_of_the_same_file(folder: Path, service: ScriptedHttp, name: str, part: str) -> None:
    """An organization or a project from a `.env` is not used with another key; one that an option replaces is not
    looked at."""
    env_file(folder, **{name: "org-1"})
    arguments = ["run", "job.toml", "--model", "m", "--base-url", service.url]
    refused(command(folder, *arguments, OPENAI_API_KEY=REAL), service, f"{name} ({part})", "OPENAI_API_KEY")
    done = command(folder, *arguments, f"--{part}", "mine", OPENAI_API_KEY=REAL)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('base_url = "${PLACE}"', "base URL"),
        ('header.X-Route = "${PLACE}"', "header"),
        ('query.route = "${PLACE}"', "query"),
    ],
)
def test_a_variable_of_a_job_file_needs_the_key_of_the_same_file(
    folder: Path, service: ScriptedHttp, line: str, part: str
) -> None:
    """`${NAME}` in a job file may be in the `.env`, under the same condition."""
    with (folder / "job.toml").open("a", encoding="utf-8") as job:
        job.write(f'model = "m"\n{line}\n')
    more = [] if part == "base URL" else ["--base-url", service.url]
    env_file(folder, PLACE=service.url)
    refused(
        command(folder, "run", "job.toml", *more, OPENAI_API_KEY=REAL), service, f"PLACE ({part})", "OPENAI_API_KEY"
    )
    env_file(folder, PLACE=service.url, OPENAI_API_KEY=OWN)
    done = command(folder, "run", "job.toml", *more)
    assert done.returncode == 0, done.stderr
    assert ".env: used: PLACE, OPENAI_API_KEY" in done.stderr
    assert keys_at(service) == {f"Bearer {OWN}"}


@pytest.mark.parametrize(
    ("arguments", "line", "environment", "named"),
    [
        (["--header", f"Authorization=Bearer {REAL}"], "", {}, "--header Authorization"),
        (["--query", f"api_key={REAL}"], "", {}, "--query api_key"),
        ([], 'header.X-Gateway = "${GATEWAY}"', {"GATEWAY": REAL}, "GATEWAY"),
        ([], "", {"OPENAI_CUSTOM_HEADERS": f"X-Gateway: {REAL}"}, "OPENAI_CUSTOM_HEADERS"),
    ],
)
def test_other_credentials_are_not_sent_either(
    folder: Path, service: ScriptedHttp, arguments: list[str], line: str, environment: dict[str, str], named: str
) -> None:
    """A header or query with a credential from elsewhere is not sent to the base URL of a `.env`, even beside its key."""
    with (folder / "job.toml").open("a", encoding="utf-8") as job:
        job.write(f"{line}\n")
    env_file(folder, OPENAI_BASE_URL=service.url, OPENAI_API_KEY=OWN, BATCHRUN_MODEL="m")
    refused(command(folder, "run", "job.toml", *arguments, **environment), service, "OPENAI_BASE_URL", named)


def test_a_proxy_and_certificates_of_a_file_have_no_effect(folder: Path, service: ScriptedHttp) -> None:
    """Requests with the user's own key do not pass through the proxy of a `.env`."""
    place = f"http://127.0.0.1:{service.port}"
    env_file(folder, HTTP_PROXY=place, http_proxy=place, ALL_PROXY=place, SSL_CERT_FILE="/nowhere")
    arguments = ["--model", "m", "--base-url", "http://service.test/v1", "--max-outage", "0.2"]
    done = command(folder, "run", "job.toml", *arguments, OPENAI_API_KEY=REAL)
    assert done.returncode != 0
    assert "SSL_CERT_FILE:" not in done.stderr
    assert service.connections == 0


def test_cleanup_and_show_use_the_recorded_service(folder: Path, service_url: str) -> None:
    """The base URL of a `.env` has no say in `cleanup` and `show`, which ask the service that answered."""
    arguments = ["-o", "a.csv", "--base-url", service_url, "--model", "m", "--api", "assistants"]
    assert command(folder, "run", "q.csv", *arguments).returncode == 0
    with ScriptedHttp(answer) as other:
        env_file(folder, OPENAI_BASE_URL=other.url)
        for arguments in (["show", "a.csv", "0"], ["cleanup", "a.csv"]):
            done = command(folder, *arguments, OPENAI_API_KEY=REAL)
            assert done.returncode == 0, done.stderr
            assert ".env: used: OPENAI_BASE_URL" in done.stderr
        assert other.requests == []


def test_the_key_of_an_upstream_may_be_in_the_file(folder: Path) -> None:
    """`serve --upstream-key-env NAME` finds the name in the `.env`, and misses it with --no-env-file."""
    env_file(folder, GATEWAY_KEY="bad\\nkey")
    arguments = ["serve", "--upstream", "not a url", "--upstream-key-env", "GATEWAY_KEY"]
    found, ignored = command(folder, *arguments), command(folder, *arguments, "--no-env-file")
    assert ".env: used: GATEWAY_KEY" in found.stderr
    assert "GATEWAY_KEY is not set" not in found.stderr
    assert "GATEWAY_KEY is not set" in ignored.stderr
    assert (found.returncode, ignored.returncode) == (2, 2)


def test_a_server_without_a_key_may_be_in_the_file(folder: Path, service: ScriptedHttp) -> None:
    """A base URL alone is used if no key is set anywhere: there is nothing to send elsewhere."""
    env_file(folder, OPENAI_BASE_URL=service.url, BATCHRUN_MODEL="m")
    done = command(folder, "run", "job.toml")
    assert done.returncode == 0, done.stderr
    assert keys_at(service) == {"Bearer none"}


def test_python_reads_no_file(folder: Path, service: ScriptedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """`batchrun.run` reads only the environment, even from a job file with a `.env` next to it."""
    env_file(folder, OPENAI_BASE_URL=service.url, OPENAI_API_KEY=OWN, BATCHRUN_MODEL="m")
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="set OPENAI_API_KEY"):
        batchrun.run("job.toml")
    assert service.requests == []
