"""docs/guides/nightly.md as it is: its job file, crontab line, units and workflow are run; and the pings that a monitor receives."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from filelock import FileLock

from tests.integration.reliability import processes
from tests.support.command import Result, batchrun
from tests.support.markdown import code_blocks
from tests.support.rows import read_csv, write_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "nightly.md"
SECRET = "0f1e2d3c-ping"
BIN = Path(sys.executable).parent


def ok(_: Request) -> Answer:
    return Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK")


def told(watch: ScriptedHttp) -> list[str]:
    return [path.replace(f"/{SECRET}", "") for path in watch.paths()]


@pytest.fixture
def watch() -> Iterator[ScriptedHttp]:
    """A monitor that accepts every ping."""
    with ScriptedHttp(ok) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, watch: ScriptedHttp, service_url: str) -> Path:
    """The folder /srv/nightly of the page."""
    table(tmp_path, {"a": 1, "b": 2, "c": 3})
    (tmp_path / "job.toml").write_text(code_blocks(PAGE, "toml")[0], encoding="utf-8")
    names = [line.partition("=")[0] for line in code_blocks(PAGE, "sh")[0].splitlines()]
    values = {"OPENAI_API_KEY": "any", "BATCHRUN_MODEL": "tutor", "HEALTHCHECK_URL": f"{watch.url}/{SECRET}"}
    assert set(names) == set(values)
    lines = [f"{name}={value}\n" for name, value in {**values, "OPENAI_BASE_URL": service_url}.items()]
    (tmp_path / "nightly.env").write_text("".join(lines), encoding="utf-8")
    (tmp_path / ".venv").symlink_to(BIN.parent)
    return tmp_path


def table(folder: Path, rows: dict[str, int]) -> None:
    write_csv(folder / "questions.csv", [{"id": key, "question": f"What is {n} + 1?"} for key, n in rows.items()])


def environment_of(folder: Path) -> dict[str, str]:
    lines = (folder / "nightly.env").read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def cron(folder: Path) -> subprocess.CompletedProcess[str]:
    """Do what cron does with the page's line: run its last field in /bin/sh, with almost no environment."""
    line = code_blocks(PAGE, "crontab")[0].strip()
    fields = line.split(maxsplit=5)
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in fields[:5])
    assert "%" not in fields[5], "cron takes % for the end of the line"
    command = fields[5].replace("/srv/nightly", str(folder))
    environment = {"HOME": str(folder), "LOGNAME": "someone", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    return subprocess.run(["/bin/sh", "-c", command], env=environment, cwd="/", capture_output=True, text=True)


def answers(folder: Path) -> dict[str, tuple[str, str]]:
    return {row["id"]: (row["status"], row["run_id"]) for row in read_csv(folder / "outputs" / "answers.csv")}


def test_the_crontab_line_runs_the_job(folder: Path, watch: ScriptedHttp) -> None:
    """In cron's bare environment the page's line and job file answer the table, log and ping."""
    done = cron(folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = (folder / "nightly.log").read_text(encoding="utf-8")
    assert "3 rows · 3 completed" in log
    assert SECRET not in log
    assert {status for status, _ in answers(folder).values()} == {"completed"}
    assert told(watch) == ["GET /start", "POST "]
    assert watch.requests[1].body.startswith("3 rows · 3 completed")


def night(folder: Path) -> Result:
    """Run the page's job once more, without the seconds that a new interpreter takes."""
    return batchrun(folder, "run", "job.toml", **environment_of(folder))


def test_the_next_night_asks_what_is_new(folder: Path) -> None:
    """Rows that moved keep their answers; added and changed rows are sent; removed rows are gone."""
    assert night(folder).returncode == 0
    before = answers(folder)
    table(folder, {"c": 3, "d": 4, "b": 20})
    second = night(folder)
    after = answers(folder)
    assert list(after) == ["c", "d", "b"]
    assert after["c"] == before["c"]
    assert after["b"] != before["b"]
    assert second.returncode == 0
    assert "1 from an earlier run" in second.stderr


def test_a_night_without_news_asks_nothing(folder: Path, watch: ScriptedHttp) -> None:
    """A run with nothing to do is a success."""
    night(folder)
    first = answers(folder)
    assert night(folder).returncode == 0
    assert answers(folder) == first
    assert told(watch)[2:] == ["GET /start", "POST "]


def test_a_night_on_top_of_another_exits_with_6(folder: Path, watch: ScriptedHttp) -> None:
    """While the output is locked a second batch sends nothing, and no ping: the first batch is fine."""
    (folder / "outputs").mkdir()
    with FileLock(folder / "outputs" / "answers.csv.lock"):
        assert night(folder).returncode == 6
    assert told(watch) == []


def test_the_page_says_how_to_date_an_output(folder: Path) -> None:
    """With `{date}` in the output each day has its own batch."""
    (dated,) = re.findall(r'`(output = "[^`]*\{date\}[^`]*")`', PAGE.read_text(encoding="utf-8"))
    job = (folder / "job.toml").read_text(encoding="utf-8").replace('output = "outputs/answers.csv"', dated)
    (folder / "job.toml").write_text(job, encoding="utf-8")
    assert night(folder).returncode == 0
    (output,) = folder.glob("outputs/????-??-??/answers.csv")
    assert "completed" in output.read_text(encoding="utf-8")


def test_the_page_cleans_up_with_its_own_command(folder: Path) -> None:
    """The job deletes its threads itself, so that the page's `cleanup` has nothing left to delete."""
    assert night(folder).returncode == 0
    command = code_blocks(PAGE, "sh")[1].split()
    done = batchrun(folder, *command[1:], **environment_of(folder))
    assert (done.returncode, done.stderr) == (0, "0 deleted\n")


# -- pings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "exit_code", "heard"),
    [
        (("gone.csv",), 2, "gone.csv"),
        (("q.csv", "--temperature", "9"), 2, "--temperature"),
        (("q.csv", "--prompt", "{{ nothing }}"), 2, "nothing"),
        (("q.csv", "--base-url", "SERVICE", "--model", "m", "--api", "chat"), 5, "refused the key"),
    ],
)
def test_a_batch_that_does_not_begin_is_heard_of(
    tmp_path: Path, watch: ScriptedHttp, arguments: tuple[str, ...], exit_code: int, heard: str
) -> None:
    """Invalid input, invalid options and a refusing service reach the monitor as failures, with the reason."""
    write_csv(tmp_path / "q.csv", [{"question": "What is 1 + 1?"}])
    with ScriptedHttp(lambda _: json_answer({"error": {"message": "Incorrect API key provided"}}, 401)) as service:
        given = [service.url if each == "SERVICE" else each for each in arguments]
        ping = ("--ping", f"{watch.url}/{SECRET}")
        done = batchrun(tmp_path, "run", *given, *ping, OPENAI_API_KEY="any", BATCHRUN_MODEL="m")
    assert done.returncode == exit_code
    assert told(watch) == ["GET /start", "POST /fail"]
    assert heard in watch.requests[1].body
    assert SECRET not in done.stderr + done.stdout


@pytest.mark.parametrize("status", [200, 500])
def test_the_monitor_never_changes_the_exit_code(tmp_path: Path, status: int) -> None:
    """A monitor that fails causes one line per ping; batch, output and exit code are the same."""
    write_csv(tmp_path / "q.csv", [{"question": "What is 1 + 1?"}])
    with ScriptedHttp(lambda _: json_answer({}, status)) as watch:
        done = batchrun(tmp_path, "run", "q.csv", "--quiet", "--ping", f"{watch.url}/{SECRET}")
    assert done.returncode == 0
    assert done.stderr.count("\n") == (0 if status == 200 else 2)
    assert SECRET not in done.stderr


def test_what_only_looks_calls_nobody(tmp_path: Path, watch: ScriptedHttp) -> None:
    """`--dry-run` runs no batch and sends no ping."""
    write_csv(tmp_path / "q.csv", [{"question": "What is 1 + 1?"}])
    assert batchrun(tmp_path, "run", "q.csv", "--dry-run", "--ping", f"{watch.url}/{SECRET}").returncode == 0
    assert watch.requests == []


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_batch_that_is_stopped_is_heard_of(
    tmp_path: Path, watch: ScriptedHttp, number: signal.Signals, exit_code: int
) -> None:
    """A signal in the middle of a batch is a failure, and the exit code names the signal."""
    write_csv(tmp_path / "q.csv", [{"question": "What is 1 + 1?"}])
    started: Queue[processes.Batchrun] = Queue()

    def script(_: Request) -> Answer:
        started.get().signal(number)
        return Answer(b"", "silence")

    with ScriptedHttp(script) as service:
        options = ("--base-url", service.url, "--model", "m", "--api", "chat", "--grace", "0")
        arguments = ("run", "q.csv", *options, "--ping", f"{watch.url}/{SECRET}")
        with processes.batchrun(tmp_path, *arguments, environ={"OPENAI_API_KEY": "any"}) as process:
            started.put(process)
            assert process.wait() == exit_code
    assert told(watch) == ["GET /start", "POST /fail"]
    assert f"stopped: interrupted by {number.name}" in watch.requests[1].body
    assert SECRET not in process.stderr


def test_a_batch_that_is_stopped_before_it_begins_is_heard_of(tmp_path: Path) -> None:
    """SIGTERM while the input is still being read is a failure too."""
    process: list[subprocess.Popen[bytes]] = []

    def script(request: Request) -> Answer:
        if request.path.endswith("/start"):
            process[0].send_signal(signal.SIGTERM)  # its standard input stays open: it waits for the table
        return ok(request)

    with ScriptedHttp(script) as watch:
        command = [sys.executable, "-m", "batchrun", "run", "-", "--ping", f"{watch.url}/{SECRET}"]
        process.append(
            subprocess.Popen(
                command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
        process[0].wait()
        process[0].communicate()
    assert process[0].returncode == 143
    assert told(watch) == ["GET /start", "POST /fail"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_handlers_of_signals_are_given_back(tmp_path: Path, number: signal.Signals) -> None:
    """A batch restores the process's signal handlers, so that a later signal is not lost."""
    write_csv(tmp_path / "q.csv", [{"question": "What is 1 + 1?"}])

    def ours(_number: int, _frame: object) -> None:
        raise AssertionError("no signal was sent")

    before = signal.signal(number, ours)
    try:
        assert batchrun(tmp_path, "run", "q.csv").returncode == 0
        assert signal.getsignal(number) is ours
    finally:
        signal.signal(number, before)
