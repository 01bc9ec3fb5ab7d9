"""The service that answers: a real one, a rehearsal, or none; never one in place of the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import batchrun
from batchrun.errors import InputError, JournalMismatch
from tests.support.command import batchrun as command
from tests.support.rows import read_csv

NO_KEY = "no API key (OPENAI_API_KEY)"
OFFLINE = "--model tutor rehearses offline"
TABLE = "id,question\na,What is 2 + 2?\nb,Who wrote Faust?\n"
APIS = ("assistants", "responses", "chat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "s.toml").write_text('[default]\nreply = "4"\n', encoding="utf-8")
    return tmp_path


def job_file(folder: Path, text: str) -> str:
    (folder / "job.toml").write_text(f'input = "q.csv"\noutput = "out.csv"\n{text}\n', encoding="utf-8")
    return "job.toml"


NAMED: dict[str, tuple[list[str], str, dict[str, str], list[str]]] = {
    "flag": (["--model", "gpt-5"], "", {}, ["--model gpt-5"]),
    "job file": ([], 'model = "gpt-5"', {}, ["job.toml, line 3: model gpt-5"]),
    "environment": ([], "", {"BATCHRUN_MODEL": "gpt-5"}, ["BATCHRUN_MODEL gpt-5"]),
    "several models": (["--model", "gpt-5", "--model", "o9"], "", {}, ["gpt-5, o9"]),
    "one of several": (["--model", "tutor", "--model", "o9"], "", {}, ["o9"]),
    "matrix": ([], '[matrix]\nmodel = ["gpt-5", "o9"]', {}, ["gpt-5, o9"]),
    "empty key": (["--model", "gpt-5"], "", {"OPENAI_API_KEY": ""}, ["--model gpt-5"]),
    "assistant": (["--assistant", "asst_1"], "", {}, ["--assistant asst_1"]),
    "protocol": (["--model", "gpt-5", "--api", "chat"], "", {}, ["--model gpt-5"]),
}


@pytest.mark.parametrize("more", [(), ("--pilot", "1"), ("--quiet",), ("--accept-changes",)])
@pytest.mark.parametrize("how", NAMED)
def test_a_named_model_without_a_key_is_refused(folder: Path, how: str, more: tuple[str, ...]) -> None:
    """Wherever a model is named, one line reports that its key is missing, and nothing is written."""
    options, job, environment, words = NAMED[how]
    done = command(folder, "run", job_file(folder, job), *options, *more, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    for each in (NO_KEY, OFFLINE, *words):
        assert each in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["job.toml", "q.csv", "s.toml"]


def test_a_fallback_model_without_a_key(folder: Path) -> None:
    """The tutor has no fallback model: the line about the missing key proposes a script in its place."""
    done = command(folder, "run", "q.csv", "--model", "tutor", "--fallback-model", "gpt-5")
    assert (done.returncode, NO_KEY in done.stderr, OFFLINE in done.stderr) == (2, True, False)
    assert "--script FILE rehearses offline" in done.stderr


@pytest.mark.parametrize("how", NAMED)
def test_what_sends_nothing_needs_no_key(folder: Path, how: str) -> None:
    """`--dry-run` and `check` report which service would answer, that the key is missing, and the cost; the exit code
    is 0."""
    options, job, environment, _ = NAMED[how]
    name = job_file(folder, f"{job}\n[prices.gpt-5]\ninput = 1\noutput = 1\n[prices.o9]\ninput = 1\noutput = 1")
    dry = command(folder, "run", name, *options, "--dry-run", **environment)
    said = [dry.stdout]
    assert dry.returncode == 0, dry.stderr
    if not options:
        checked = command(folder, "check", name, **environment)
        assert checked.returncode == 0, checked.stderr
        said.append(checked.stdout)
    for text in said:
        assert "no API key is set: batchrun run would stop with exit code 2" in text
        assert NO_KEY in text
        assert "at OpenAI (" in text
        assert "cost: " in text
        assert "tutor, which" not in text
    if how in ("flag", "job file", "environment"):
        assert all("gpt-5 at OpenAI (responses)" in text and "cost: about $" in text for text in said)
    facts = json.loads(command(folder, "run", name, *options, "--dry-run", "--json", **environment).stdout)
    assert (facts["key_missing"], facts["exit_code"]) == (True, 0)
    assert not (folder / "out.csv.journal").exists()


def test_python_refuses_it_too(folder: Path) -> None:
    """`run` and `outcomes` raise; an empty key counts as missing."""
    both: list[dict[str, Any]] = [{}, {"api_key": ""}]
    for options in both:
        with pytest.raises(InputError, match="no API key") as caught:
            batchrun.run(folder / "q.csv", model="gpt-5", output=folder / "out.csv", **options)
        assert "model='tutor' rehearses offline" in str(caught.value)
    with pytest.raises(InputError, match="no API key"):
        batchrun.run(pd.DataFrame({"question": ["1 + 1"]}), batchrun.Job(model="gpt-5"))


@pytest.mark.anyio
async def test_python_refuses_it_while_outcomes_are_waited_for(folder: Path) -> None:
    """`outcomes` raises while its rows are awaited."""

    async def ask() -> None:
        async with batchrun.outcomes(folder / "q.csv", model="gpt-5") as outcomes:
            async for _ in outcomes:
                pass

    with pytest.raises(InputError, match="no API key"):
        await ask()


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ((), {}),
        (("--model", "tutor"), {}),
        (("--model", "tutor"), {"OPENAI_API_KEY": "sk-1"}),
        (("--model", "tutor"), {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}),
        ((), {"BATCHRUN_MODEL": "tutor", "OPENAI_API_KEY": "sk-1"}),
        (("--model", "tutor", "--api", "chat"), {}),
        (("--model", "tutor", "--api", "responses"), {}),
        (("--script", "s.toml"), {}),
        (("--script", "s.toml", "--model", "gpt-5"), {"OPENAI_API_KEY": "sk-1"}),
    ],
)
def test_a_rehearsal_needs_no_key(folder: Path, options: tuple[str, ...], environment: dict[str, str]) -> None:
    """The tutor and scripts answer offline; the first line reports it, and which key is not used."""
    done = command(folder, "run", "q.csv", "-o", "out.csv", *options, **environment)
    assert done.returncode == 0, done.stderr
    first = next(line for line in done.stderr.splitlines() if "answered offline by the embedded server" in line)
    if "--script" not in options:
        assert all(f"{name} is set but not used" in first for name in environment if name.startswith("OPENAI"))
    assert [row["status"] for row in read_csv(folder / "out.csv")] == ["completed", "completed"]


def test_a_key_without_a_model_is_still_a_question(folder: Path) -> None:
    """With a key a rehearsal must be requested: without a model the command is refused."""
    done = command(folder, "run", "q.csv", OPENAI_API_KEY="sk-1")
    assert (done.returncode, "no model given" in done.stderr) == (2, True)


# -- what the tutor says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ways", [(), ("--stream",), ("--poll",), ("--background",), ("--conversation",)])
@pytest.mark.parametrize("api", APIS)
def test_the_tutor_says_who_it_is_and_what_it_could_not(folder: Path, api: str, ways: tuple[str, ...]) -> None:
    """In every protocol its model is `tutor`, and its refusals are completed, counted and named."""
    done = command(folder, "run", "q.csv", "-o", "out.csv", "--model", "tutor", "--api", api, *ways)
    if done.returncode == 2:
        assert f"and this batch uses --api {api}" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert "the tutor could not answer 1 of 2 rows" in done.stderr.splitlines()
    found = read_csv(folder / "out.csv")
    assert [(row["status"], row["error_type"], row["model"]) for row in found] == [
        ("completed", "", "tutor"),
        ("completed", "refusal", "tutor"),
    ]
    assert found[1]["response"].startswith("I can't answer that")
    again = command(folder, "run", "q.csv", "-o", "out.csv", "--model", "tutor", "--api", api, *ways, "--json")
    facts = again.facts()
    assert (facts["not_answered_by_tutor"], facts["finished_before"], facts["exit_code"]) == (1, 2, 0)


@pytest.mark.parametrize("ways", [(), ("--stream",), ("--poll",)])
@pytest.mark.parametrize("api", APIS)
def test_a_tutor_behind_a_url_is_a_service(folder: Path, tutor_url: str, api: str, ways: tuple[str, ...]) -> None:
    """A service's refusal is incomplete, whatever the protocol; the tutor reports its own name whichever model is
    requested."""
    options = ("--base-url", tutor_url, "--model", "gpt-5", "--api", api, *ways)
    done = command(folder, "run", "q.csv", "-o", "out.csv", *options)
    if done.returncode == 2:
        assert f"and this batch uses --api {api}" in done.stderr
        return
    assert done.returncode == 3, done.stderr
    assert "by the tutor" not in done.stderr
    assert [(row["status"], row["error_type"], row["model"]) for row in read_csv(folder / "out.csv")] == [
        ("completed", "", "tutor"),
        ("incomplete", "refusal", "tutor"),
    ]


def test_every_turn_counts(folder: Path) -> None:
    """A row with one refused turn counts as refused, and its other turns continue."""
    turns = ("--prompt", "{{ question }}", "--prompt", "What is 1 + 1?")
    done = command(folder, "run", "q.csv", "-o", "out.csv", *turns)
    assert (done.returncode, "could not answer 1 of 2" in done.stderr) == (0, True), done.stderr
    assert [row["error_type"] for row in read_csv(folder / "out.csv")] == ["", "refusal"]
    assert {row["response_2"] for row in read_csv(folder / "out.csv")} == {"1 + 1 = 2."}


def test_a_refusal_needs_no_form(folder: Path) -> None:
    """With a schema the tutor's refusal is not corrected: its row has no fields, and is counted."""
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    (folder / "form.json").write_text(json.dumps(schema), encoding="utf-8")
    done = command(folder, "run", "q.csv", "-o", "out.csv", "--schema", "form.json")
    assert (done.returncode, "could not answer 1 of 2" in done.stderr) == (0, True), done.stderr
    assert [(row["answer"], row["attempts"]) for row in read_csv(folder / "out.csv")] == [
        ("2 + 2 = 4.", "1"),
        ("", "1"),
    ]


def test_a_pilot_counts_its_own_rows(folder: Path) -> None:
    """A pilot counts the refusals among its own rows."""
    (folder / "q.csv").write_text("question\n" + "Who wrote Faust?\n" * 5, encoding="utf-8")
    done = command(folder, "run", "q.csv", "--pilot", "3")
    assert (done.returncode, "the tutor could not answer 3 of 3 rows" in done.stderr) == (0, True), done.stderr


def test_python_warns_of_what_the_tutor_could_not(folder: Path) -> None:
    """A warning counts the rows without an answer; the frame has them all."""
    with pytest.warns(RuntimeWarning, match="the tutor could not answer 1 of 2 rows"):
        found = batchrun.run(folder / "q.csv", output=folder / "out.csv")
    assert list(found["status"]) == ["completed", "completed"]


def test_python_says_who_answered(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Python warns that the tutor answers because there is no key; a rehearsal that was requested is in the log."""
    (folder / "q.csv").write_text("question\n1 + 1\n", encoding="utf-8")
    with pytest.warns(
        RuntimeWarning, match=r"no API key \(OPENAI_API_KEY\), no base_url and no model: answered offline"
    ):
        batchrun.run(folder / "q.csv", output=folder / "out.csv")
    caplog.set_level("INFO", logger="batchrun")
    requested: list[tuple[dict[str, Any], str]] = [
        ({"model": "tutor"}, "the model is tutor"),
        ({"script": folder / "s.toml"}, "rehearsal"),
    ]
    for number, (options, words) in enumerate(requested):
        caplog.clear()
        batchrun.run(folder / "q.csv", output=folder / f"{number}.csv", **options)
        assert any(record.getMessage().startswith(words) for record in caplog.records)


# -- one output, one kind of answers -------------------------------------------------------------------------------


def test_rehearsals_and_services_never_share_an_output(folder: Path, service_url: str) -> None:
    """Neither resumes the other's batch, whatever is accepted; nothing is sent, nothing changes."""
    ways: dict[str, tuple[str, ...]] = {
        "tutor": (),
        "script": ("--script", "s.toml"),
        "service": ("--base-url", service_url, "--model", "m", "--api", "assistants"),
    }
    for first, second in (("tutor", "service"), ("script", "service"), ("service", "tutor"), ("service", "script")):
        output = f"{first}-{second}.csv"
        assert command(folder, "run", "q.csv", "-o", output, *ways[first]).returncode == 0
        before = (folder / output).read_bytes()
        for accepted in ((), ("--accept-changes",), ("--accept-changes", "--retry-failed")):
            done = command(folder, "run", "q.csv", "-o", output, *ways[second], *accepted)
            assert done.returncode == 2
            assert "never mixed in one output" in done.stderr
            assert "--fresh" in done.stderr
            dry = command(folder, "run", "q.csv", "-o", output, *ways[second], *accepted, "--dry-run")
            assert (dry.returncode, "never mixed in one output" in dry.stdout) == (2, True)
        assert (folder / output).read_bytes() == before
        assert command(folder, "run", "q.csv", "-o", output, *ways[first]).returncode == 0
        assert command(folder, "run", "q.csv", "-o", output, *ways[second], "--fresh").returncode == 0
    with pytest.raises(JournalMismatch, match="never mixed"):
        batchrun.run(
            folder / "q.csv", output=folder / "service-tutor.csv", accept_changes=True, base_url=service_url, model="m"
        )


def test_the_night_without_its_environment_costs_nothing(folder: Path, service_url: str) -> None:
    """A job whose environment file is lost stops; the next night resumes where the first ended, and sends no row again."""
    name = job_file(folder, 'model = "gpt-5"')
    there: dict[str, Any] = {"OPENAI_BASE_URL": service_url, "OPENAI_API_KEY": "sk-1"}
    assert command(folder, "run", name, **there).returncode == 0
    before = (folder / "out.csv").read_bytes()
    assert command(folder, "run", name).returncode == 2
    assert (folder / "out.csv").read_bytes() == before
    again = command(folder, "run", name, "--json", **there)
    assert again.facts()["finished_before"] == 2
    assert (folder / "out.csv").read_bytes() == before


def test_what_nobody_answered_is_nobodys(folder: Path) -> None:
    """If a service has answered nothing, the output is free for a rehearsal, and the other way round."""
    refused = ("--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--max-outage", "0.2", "--api", "assistants")
    assert command(folder, "run", "q.csv", "-o", "out.csv", *refused).returncode != 0
    done = command(folder, "run", "q.csv", "-o", "out.csv", "--accept-changes")
    assert done.returncode == 0, done.stderr


# -- graders -----------------------------------------------------------------------------------------------------


def test_the_tutor_is_not_a_grader(folder: Path) -> None:
    """A grading model is never the tutor: without a key it is refused before the batch, even if the output exists."""
    target = ("--target", "id")
    model = (*target, "--score", "model-graded", "--grader-model")
    for name, words in (("gpt-5", NO_KEY), ("tutor", "the embedded server's tutor cannot grade")):
        done = command(folder, "run", "q.csv", "-o", "out.csv", *model, name)
        assert (done.returncode, words in done.stderr) == (2, True)
        assert not (folder / "out.csv.journal").exists()
    dry = command(folder, "run", "q.csv", "-o", "out.csv", *model, "gpt-5", "--dry-run")
    assert dry.returncode == 0
    assert "no API key is set: batchrun run would stop with exit code 2" in dry.stderr
    assert command(folder, "run", "q.csv", "-o", "out.csv").returncode == 0
    for name, words in (("gpt-5", NO_KEY), ("tutor", "the embedded server's tutor cannot grade")):
        done = command(folder, "score", "out.csv", *target, "--scorer", "model-graded", "--grader-model", name)
        assert (done.returncode, words in done.stderr) == (2, True)


# -- which protocol ---------------------------------------------------------------------------------------------


def test_a_key_and_ones_own_server_speak_chat(folder: Path, service_url: str) -> None:
    """A server that is neither OpenAI nor Azure is asked through Chat Completions, with and without a key."""
    for environment in ({"OPENAI_API_KEY": "sk-1"}, {}):
        dry = command(folder, "run", "q.csv", "--model", "m", "--base-url", service_url, "--dry-run", **environment)
        assert f"answered by: m at {service_url} (chat)" in dry.stdout
    azure = command(
        folder, "run", "q.csv", "--model", "m", "--base-url", "https://x.openai.azure.com/openai/v1", "--dry-run"
    )
    assert "(responses)" in azure.stdout


@pytest.mark.parametrize("began", ["responses", "assistants"])
def test_a_batch_keeps_its_protocol(folder: Path, service_url: str, began: str) -> None:
    """A batch that began in another protocol than today's default continues in it: finished rows are not sent again, new
    rows use it too, and one line says so; `--api` overrides it as any changed setting does."""
    arguments = ["run", "q.csv", "-o", "a.csv", "--model", "m", "--base-url", service_url, "--key", "id"]
    assert command(folder, *arguments, "--api", began, OPENAI_API_KEY="sk-1").returncode == 0
    before = read_csv(folder / "a.csv")
    (folder / "q.csv").write_text(f"{TABLE}c,What is 3 + 3?\n", encoding="utf-8")
    dry = command(folder, *arguments, "--dry-run", OPENAI_API_KEY="sk-1")
    assert "1 to send" in dry.stdout
    done = command(folder, *arguments, OPENAI_API_KEY="sk-1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "this batch continues" in line]
    assert lines == [
        f"this batch continues with --api {began}, in which its rows were answered; a new batch at this service would use chat"
    ]
    after = read_csv(folder / "a.csv")
    assert after[:2] == before
    assert after[2]["run_id"].startswith("resp_" if began == "responses" else "run_")
    other = command(folder, *arguments, "--api", "chat", OPENAI_API_KEY="sk-1")
    assert other.returncode == 2
    assert f"api was '{began}' and is 'chat'" in other.stderr


def test_a_batch_without_an_answer_takes_the_default(folder: Path, service_url: str) -> None:
    """A batch of which no row was answered has nothing to lose: it uses the protocol of its service, without a word."""
    arguments = ["run", "q.csv", "-o", "a.csv", "--model", "m", "--max-attempts", "1"]
    failed = command(folder, *arguments, "--api", "responses", "--base-url", service_url.replace("/v1", "/nothing"))
    assert failed.returncode == 5
    done = command(folder, *arguments, "--base-url", service_url, OPENAI_API_KEY="sk-1")
    assert done.returncode == 0, done.stderr
    assert "continues with --api" not in done.stderr
    assert [row["run_id"][:9] for row in read_csv(folder / "a.csv")] == ["chatcmpl-", "chatcmpl-"]


def test_a_fresh_start_takes_the_default(folder: Path, service_url: str) -> None:
    """`--fresh` begins a new batch, in the protocol of its service; a rehearsal's protocol is not kept either."""
    arguments = ["run", "q.csv", "-o", "a.csv", "--model", "m", "--base-url", service_url]
    assert command(folder, *arguments, "--api", "responses", OPENAI_API_KEY="sk-1").returncode == 0
    done = command(folder, *arguments, "--fresh", OPENAI_API_KEY="sk-1")
    assert done.returncode == 0, done.stderr
    assert all(row["run_id"].startswith("chatcmpl-") for row in read_csv(folder / "a.csv"))
