"""The command line: help, exit codes, and one clear line for each error."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from batchrun import errors
from batchrun.cli import EXIT_CODES, cli
from batchrun.cli.app import SECTIONS
from batchrun.job.options import job_options
from batchrun.scoring.evaluate import BELOW_THE_BAR
from tests.support.command import batchrun
from tests.support.documented import exit_codes_page, help_page
from tests.support.job_options_module import job_options_module

ROOT = Path(__file__).parents[2]


def questions(folder: Path, text: str = "question\n1+1\n") -> Path:
    path = folder / "q.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("command", "names_fresh"), [("run", True), ("score", False)])
def test_a_hint_names_only_options_of_its_command(command: str, names_fresh: bool) -> None:
    """What batchrun has instead of another program's option is named where the command has it."""
    parent = click.Context(cli, **cli.context_settings)  # a command keeps the help option of its first context
    with pytest.raises(click.UsageError) as refused:
        cli.commands[command].make_context(command, ["q.csv", "--overwrite"], parent=parent)
    assert ("--fresh" in refused.value.format_message()) is names_fresh


def test_every_option_is_a_flag_of_run() -> None:
    """Every option of a job with a flag is an option of `run`."""
    flags = {param.name for param in cli.commands["run"].params}
    assert flags >= {name for name, (option, _) in job_options().items() if not option.flagless}


def test_the_command_reference_is_what_help_prints() -> None:
    """docs/reference/cli.md is generated; UPDATE_DOCS=1 pytest -k command_reference rewrites it."""
    path, wanted = ROOT / "docs" / "reference" / "cli.md", help_page()
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(wanted, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == wanted


def test_python_options_follow_the_command_reference() -> None:
    """batchrun/api/job_options.py has every option with its help; UPDATE_DOCS=1 pytest -k command_reference rewrites it."""
    path, wanted = ROOT / "batchrun" / "api" / "job_options.py", job_options_module()
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(wanted, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == wanted


def test_the_page_of_exit_codes_follows_the_command_reference() -> None:
    """docs/reference/exit-codes.md is generated; UPDATE_DOCS=1 pytest -k command_reference rewrites it."""
    path, wanted = ROOT / "docs" / "reference" / "exit-codes.md", exit_codes_page()
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(wanted, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == wanted


def test_every_exit_code_is_in_the_list() -> None:
    """The codes that errors, stops, bars and signals have are those of the list."""
    listed = {int(code) for each in EXIT_CODES for code in each.code.split(", ")}
    raised = {error.exit_code for error in vars(errors).values() if isinstance(getattr(error, "exit_code", None), int)}
    assert raised <= listed
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "batchrun").rglob("*.py"))
    written = {int(code) for code in re.findall(r"exit_code ?[=:] ?(\d+)\b", sources)}
    assert written <= listed
    assert {BELOW_THE_BAR, 128 + signal.SIGINT, 128 + signal.SIGTERM} <= listed


def test_every_command_is_in_one_section() -> None:
    """The list of commands has each command of each module once, with the first sentence of its help."""
    listed = [(name, each) for section in SECTIONS.values() for name, each in section.items()]
    for _, each in listed:
        import_module(f"batchrun.cli.{each.module}")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "batchrun" / "cli").glob("*.py")]
    assert (
        len(listed)
        == len(set(cli.commands))
        == sum(len(re.findall(r"^@cli\.(?:command|group)\(", text, re.M)) for text in sources)
    )
    for name, each in listed:
        assert each.sentence == cli.commands[name].get_short_help_str(limit=1_000), name


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_list_of_commands_is_not_cut(width: int) -> None:
    """Every command has its whole sentence; at 80 columns on one line."""
    context = click.Context(cli, info_name="batchrun", terminal_width=width, **cli.context_settings)
    text = cli.get_help(context)
    assert "..." not in text.replace("[ARGS]...", "")
    assert max(map(len, text.splitlines())) <= width
    listed = " ".join(text.split())
    for name, command in cli.commands.items():
        sentence = command.get_short_help_str(limit=1_000)
        assert f"{name} {sentence}" in listed
        assert width < 80 or re.search(rf"^  {name} +{re.escape(sentence)}$", text, re.M), name


def imported(folder: Path, *arguments: str) -> set[str]:
    """Run a command in a new interpreter; return the modules that it imported."""
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from batchrun.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_is_light(tmp_path: Path) -> None:
    """`batchrun --help` imports no library that takes long to import, and not the modules of the commands."""
    heavy = "openai pandas pyarrow starlette uvicorn pydantic numpy rich minijinja anyio aiohttp asyncio"
    own = {"batchrun.cli.run", "batchrun.cli.evaluate", "batchrun.job.options", "batchrun.records"}
    assert imported(tmp_path, "--help") & {*heavy.split(), *own} == set()
    heavy = "openai pandas pyarrow starlette uvicorn pydantic numpy rich minijinja anyio aiohttp"
    assert imported(tmp_path, "run", "--help") & {*heavy.split(), "batchrun.tables"} == set()


def test_a_small_batch_imports_little(tmp_path: Path) -> None:
    """A batch of a CSV that the embedded server answers imports no library that only other batches need, and not the
    SDK's classes of requests and replies."""
    questions(tmp_path)
    modules = imported(tmp_path, "run", "q.csv")
    heavy = "pandas pyarrow numpy rich regex jsonschema genai_prices openpyxl pypdf tomli_w multipart"
    sdk = {"openai.resources", "openai.types.responses.response", "openai.types.beta"}
    own = {"batchrun.server.responders.script", "batchrun.scoring.summary", "batchrun.reporting"}
    assert modules & {*heavy.split(), *sdk, *own} == set()
    assert {"openai", "aiohttp", "uvicorn"} <= modules


def test_the_package_can_be_run() -> None:
    """`python -m batchrun --version` prints name and version."""
    done = subprocess.run([sys.executable, "-m", "batchrun", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"batchrun \d+\.\d+\.\d+\S*\n", done.stdout)


def test_a_first_run_says_who_answered(tmp_path: Path) -> None:
    """One line reports that there is no key and which responder answers; the summary names the output."""
    questions(tmp_path)
    done = batchrun(tmp_path, "run", "q.csv")
    lines = done.stderr.splitlines()
    assert done.returncode == 0
    assert done.stdout == ""
    assert lines[1].startswith("no API key (OPENAI_API_KEY)")
    assert "tutor, which is not a language model" in lines[1]
    assert lines[2].startswith("1 row · 1 completed · ")
    assert lines[-3:-1] == [
        "written: outputs/q.csv",
        "next to it: q.csv.journal (keep it: the same command resumes from it), .lock, .store",
    ]


def test_a_log_is_dated(tmp_path: Path) -> None:
    """Without a terminal, the first line has the start time and the batch, the last one the end time and the exit code;
    those of a pilot and the error that ends a run are dated too."""
    questions(tmp_path)
    lines = batchrun(tmp_path, "run", "q.csv").stderr.splitlines()
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert re.fullmatch(moment + r" · started: 1 row of q\.csv · answered by .* · output: outputs/q\.csv", lines[0])
    assert re.fullmatch(moment + r" · ended with exit code 0", lines[-1])
    questions(tmp_path, "question\n1+1\n2+2\n")
    pilot = batchrun(tmp_path, "run", "q.csv", "-o", "p.csv", "--pilot", "1").stderr.splitlines()
    assert re.fullmatch(moment + r" · started: pilot of 1 of 2 rows of q\.csv · answered by .*", pilot[0])
    assert re.fullmatch(moment + r" · ended with exit code 0", pilot[-1])
    error = batchrun(tmp_path, "run", "nothere.csv").stderr
    assert re.fullmatch("batchrun: " + moment + r" · .*nothere\.csv.*\n", error)


def test_a_run_is_distinguished_from_earlier_ones(tmp_path: Path) -> None:
    """Rows, tokens and cost of this run are reported apart from those of earlier runs."""
    questions(tmp_path, "question\n1+1\n2+2\n")
    first = batchrun(tmp_path, "run", "q.csv", "--json").facts()
    questions(tmp_path, "question\n1+1\n2+2\n3+3\n")
    second = batchrun(tmp_path, "run", "q.csv", "--accept-changes", "--json").facts()
    assert first["this_run"]["prompt_tokens"] == first["prompt_tokens"]
    assert (second["completed"], second["this_run"]["asked"], second["this_run"]["completed"]) == (3, 1, 1)
    for name in ("prompt_tokens", "completion_tokens"):
        assert second["this_run"][name] == second[name] - first[name] > 0
    third = batchrun(tmp_path, "run", "q.csv", "--accept-changes")
    assert "3 completed · 3 from an earlier run · this run: nothing sent · whole table: " in third.stderr


def test_quiet_says_what_failed(tmp_path: Path) -> None:
    """With --quiet, a run with failed rows prints one line, the summary."""
    questions(tmp_path, 'id,question\n1,1+1\n2,""\n')
    done = batchrun(tmp_path, "run", "q.csv", "--quiet")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "2 rows · 1 completed · 1 failed" in done.stderr


def test_json_is_for_machines(tmp_path: Path) -> None:
    """With --json, every line on standard output is an object, and the last one is the summary."""
    questions(tmp_path, "question\n1+1\nWho wrote Hamlet?\n")
    done = batchrun(tmp_path, "run", "q.csv", "--json")
    summary = done.facts()
    assert summary["event"] == "summary"
    assert (summary["rows"], summary["completed"], summary["exit_code"]) == (2, 2, 0)


def test_quiet_is_quiet(tmp_path: Path) -> None:
    """With --quiet, a successful run prints nothing."""
    questions(tmp_path)
    assert batchrun(tmp_path, "run", "q.csv", "--quiet") == batchrun(tmp_path, "run", "q.csv", "--quiet")
    assert batchrun(tmp_path, "run", "q.csv", "--quiet").stderr == ""


def test_failed_rows_are_exit_code_3(tmp_path: Path) -> None:
    """A row without a prompt fails alone; the summary counts it by error type and gives the reason."""
    questions(tmp_path, 'id,question\n1,1+1\n2,""\n')
    done = batchrun(tmp_path, "run", "q.csv")
    assert done.returncode == 3
    assert "failed rows: 1 × empty_prompt; --retry-failed retries them\n" in done.stderr
    assert "\n  empty_prompt: the rendered prompt is empty\n" in done.stderr


def test_standard_input_and_export(tmp_path: Path) -> None:
    """CSV can be read from `-`, is kept next to the output, and can be exported to any format later."""
    assert batchrun(tmp_path, "run", "-", stdin="question\n2+2\n").returncode == 0
    assert (tmp_path / "outputs" / "stdin.csv.input.csv").stat().st_mode & 0o077 == 0
    assert batchrun(tmp_path, "export", "outputs/stdin.csv", "-o", "a.jsonl").returncode == 0
    assert json.loads((tmp_path / "a.jsonl").read_text())["response"] == "2 + 2 = 4."


def test_status_and_show(tmp_path: Path) -> None:
    """The status of a finished batch is reported; `show` prints the thread of a row as the server returns it."""
    questions(tmp_path, "question\nSolve 3x + 11 = 14\n")
    batchrun(tmp_path, "run", "q.csv")
    facts = json.loads(batchrun(tmp_path, "status", "outputs/q.csv", "--json").stdout)
    assert (facts["rows"], facts["completed"], facts["running"]) == (1, 1, False)
    assert "finished" in batchrun(tmp_path, "status", "outputs/q.csv.journal").stdout
    shown = batchrun(tmp_path, "show", "outputs/q.csv", "0").stdout
    assert shown.startswith("row 0 (line 2 of the input) · completed\nattempt 1 · ")
    assert re.search(r"\nuser · msg_\w+:\n  Solve 3x \+ 11 = 14\n", shown)
    assert re.search(r"\nassistant · msg_\w+:\n  .*x = 1", shown)
    assert re.search(r"\nrun run_\w+ · completed · model tutor", shown)
    assert re.search(r"\nstep step_\w+ · message_creation · completed", shown)
    assert re.search(r"\nusage: \d+ tokens in \(0 cached\), \d+ out", shown)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "gone.csv"], "gone.csv: no such file"),
        (["run", "q.csv", "--rpm", "0"], "--rpm: must be above 0, got 0.0"),
        (["run", "q.csv", "--rpm", "nan"], "--rpm: must be above 0, got nan"),
        (["run", "q.csv", "--concurrency", "two"], "--concurrency: input should be a valid integer"),
        (["run", "q.csv", "--max-age", "soon"], "--max-age: expected a duration such as 90m, 12h or 7d, got 'soon'"),
        (["run", "q.csv", "--prompt", "{{ quest }}"], "no column named 'quest' in the input (columns: 'question')"),
        (["run", "q.csv", "--prompt", "{{ question"], "--prompt: syntax error"),
        (["run", "q.csv", "--prompt", "@gone.txt"], "--prompt @gone.txt: cannot be read: No such file"),
        (["run", "q.csv", "--header", "secret"], "--header: expected NAME=VALUE\n"),
        (["run", "q.csv", "--query", "secret"], "--query: expected NAME=VALUE\n"),
        (["run", "q.csv", "--param", "seed"], "--param: expected KEY=VALUE, got 'seed'\n"),
        (["run", "q.csv", "--api", "chat"], "--api chat needs a service: set OPENAI_API_KEY or give --base-url"),
        (["run", "q.csv", "--base-url", "host"], "--base-url: expected a URL that begins with http:// or https://"),
        (
            ["run", "q.csv", "--base-url", "http://127.0.0.1:9"],
            "no model given: give --model NAME or set BATCHRUN_MODEL",
        ),
        (
            ["run", "q.csv", "--stream"],
            "--stream requires --api responses or chat, and this batch uses --api assistants",
        ),
        (["run", "q.csv", "-o", "q.csv"], "q.csv"),
        (["run", "q.csv", "-o", "a.doc"], "a.doc"),
        (["status", "gone.csv"], "gone.csv: no batch has written this output"),
        (["show", "gone.csv", "0"], "gone.csv: no batch has written this output"),
        (["run", "gone.toml"], "gone.toml: no such file"),
        (["serve", "--host", "0.0.0.0"], "can be reached from other machines; give at least one API key"),
    ],
)
def test_errors_give_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], expected: str) -> None:
    """No traceback is printed, and no file is left."""
    questions(tmp_path)
    done = batchrun(tmp_path, *arguments)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir() if not each.is_dir()) == ["q.csv"]
    assert (tmp_path / "q.csv").read_text() == "question\n1+1\n"


def test_a_job_file_runs_from_anywhere(tmp_path: Path) -> None:
    """Paths of a job file are relative to it; a flag overrides it."""
    (tmp_path / "night").mkdir()
    questions(tmp_path / "night")
    (tmp_path / "night" / "job.toml").write_text(
        'input = "q.csv"\noutput = "{date}/a.csv"\nprompt = "2+{{ question }}"\n'
    )
    assert batchrun(tmp_path, "run", "night/job.toml", "--output-prefix", "x_").returncode == 0
    written = list((tmp_path / "night").glob("20??-??-??/a.csv"))
    assert len(written) == 1
    assert written[0].read_text().splitlines()[0].startswith("question,x_response,")
    assert "2 + 1 + 1 = 4" in written[0].read_text()


def test_a_refused_standard_input_leaves_the_copy_alone(tmp_path: Path) -> None:
    """If another table from `-` is refused, the copy that the finished batch needs is unchanged."""
    assert batchrun(tmp_path, "run", "-", "-o", "s.csv", stdin="question\n1+1\n").returncode == 0
    for other in ("question\n5+5\n6+6\n", "", 'question\n"open\n'):
        assert batchrun(tmp_path, "run", "-", "-o", "s.csv", stdin=other).returncode == 2
        assert batchrun(tmp_path, "export", "s.csv").returncode == 0
        assert "1 + 1 = 2." in (tmp_path / "s.csv").read_text(encoding="utf-8")
    assert not (tmp_path / "s.csv.input.csv.new").exists()


@pytest.mark.parametrize("command", ["run", "status", "export"])
def test_an_output_without_a_name(tmp_path: Path, command: str) -> None:
    """A folder or an empty name as output gives one line."""
    questions(tmp_path)
    arguments = ["run", "q.csv", "-o", "."] if command == "run" else [command, "."]
    done = batchrun(tmp_path, *arguments)
    assert done.returncode == 2
    assert "is not the name of an output table" in done.stderr


@pytest.mark.parametrize("api", ["assistants", "responses", "chat"])
def test_a_service_that_cannot_be_reached(tmp_path: Path, api: str) -> None:
    """If the service never answers, the batch stops with code 5, no row fails, and no double cost is reported."""
    questions(tmp_path)
    arguments = [
        "--api",
        api,
        "--base-url",
        "http://127.0.0.1:9/v1",
        "--model",
        "m",
        "--max-attempts",
        "1",
        "--max-outage",
        "0.2",
    ]
    done = batchrun(tmp_path, "run", "q.csv", *arguments)
    assert done.returncode == 5
    assert "the connection failed" in done.stderr
    assert "1 pending" in done.stderr or "1 in flight" in done.stderr
    assert "sent again" not in done.stderr
