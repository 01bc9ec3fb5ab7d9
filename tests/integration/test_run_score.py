"""`run --score`: a batch whose output is scored at once, as `score` would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.script import ScriptResponder
from tests.support.command import Result, batchrun

SCRIPT = r"""
[[rule]]
pattern = "(?s)reference ---\n(.*)\n--- .* answer ---\n(.*)\n---"
reply = "They say \\1 and \\2.\nGRADE: C"

[[rule]]
pattern = "fail"
fault = { code = "invalid_prompt", message = "no" }

[[rule]]
pattern = '(\d+)'
reply = 'It is \1.'

[default]
reply = "nothing"
"""
TABLE = "id,question,answer,topic\n1,2,2,a\n2,3,3,b\n3,4,5,a\n4,none,1,b\n"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "script.toml").write_text(SCRIPT)
    (tmp_path / "q.csv").write_text(TABLE)
    responder = ScriptResponder(tmp_path / "script.toml")
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder) as server:
        yield server.url


def run(folder: Path, url: str, *arguments: str) -> Result:
    options = ("--base-url", url, "--model", "m", "-o", "out.csv")
    return batchrun(folder, "run", "q.csv", *options, *arguments)


SCORE = ("--score", "numeric", "--target", "answer")


def test_the_output_is_scored_as_score_does(tmp_path: Path, url: str) -> None:
    """Figures, groups and table are those that `batchrun score` prints and writes afterwards."""
    done = run(tmp_path, url, *SCORE, "--by", "topic")
    assert done.returncode == 0
    assert done.stdout.startswith("numeric  50.0 %")
    assert [line for line in done.stderr.splitlines() if line.startswith("written: ")] == [
        "written: out.csv",
        "written: out.scored.csv",
    ]
    scored = batchrun(
        tmp_path, "score", "out.csv", "--key", "id", "--scorer", "numeric", *SCORE[2:], "--by", "topic", "-o", "s.csv"
    )
    assert scored.stdout == done.stdout
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "out.scored.csv").read_bytes()


def test_a_bar_is_the_exit_code_of_a_good_batch(tmp_path: Path, url: str) -> None:
    """A missed bar gives exit code 7, even if nothing was left to run; a batch with failed rows keeps its 3."""
    assert run(tmp_path, url, *SCORE, "--fail-under", "0.5").returncode == 0
    done = run(tmp_path, url, *SCORE, "--fail-under", "0.6", "--junit", "j.xml", "--markdown", "m.md")
    assert done.returncode == 7
    assert "FAILED  numeric: at least 0.6: 0.5000" in done.stdout
    assert 'failures="1"' in (tmp_path / "j.xml").read_text()
    assert "numeric" in (tmp_path / "m.md").read_text()
    (tmp_path / "q.csv").write_text(TABLE + "5,fail,1,a\n")
    done = run(tmp_path, url, *SCORE, "--fail-under", "0.6", "--accept-changes")
    assert done.returncode == 3
    assert "FAILED  numeric" in done.stdout


def test_a_baseline_is_paired_by_the_key_of_the_batch(tmp_path: Path, url: str) -> None:
    """`--key` identifies the rows of both tables."""
    assert run(tmp_path, url, *SCORE, "--key", "id").returncode == 0
    worse = (tmp_path / "out.csv").read_text().replace("It is 2.", "It is 1.")
    (tmp_path / "base.csv").write_text(worse)
    done = run(tmp_path, url, *SCORE, "--key", "id", "--no-worse-than", "base.csv")
    assert (done.returncode, "passed  numeric: no worse than base.csv" in done.stdout) == (0, True)


def test_machines_get_a_line_of_scores(tmp_path: Path, url: str) -> None:
    """With --json an object with the scores follows the summary; with --quiet only a missed bar is reported."""
    lines = run(tmp_path, url, *SCORE, "--json").stdout.splitlines()
    summary, score = json.loads(lines[-2]), json.loads(lines[-1])
    assert (summary["event"], score["event"]) == ("summary", "score")
    assert score["scores"][0]["mean"] == 0.5
    done = run(tmp_path, url, *SCORE, "--quiet", "--fail-under", "0.9")
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith("batchrun: numeric: at least 0.9: 0.5000")


def test_graders_share_the_service_of_the_batch(tmp_path: Path, url: str) -> None:
    """A grader given only by a model's name uses the service of the rows."""
    done = run(tmp_path, url, "--score", "model-graded", "--target", "answer", "--grader-model", "judge")
    assert done.returncode == 0
    assert done.stdout.startswith("model-graded  100.0 %")
    assert "grader judge · 4 verdicts" in done.stderr
    assert (tmp_path / "out.csv.grader-judge.csv").exists()


def test_graders_see_the_prompt(tmp_path: Path, url: str) -> None:
    """The question of a rubric is the prompt of the batch, even if it is rendered from several columns."""
    score = ("--score", "model-graded", "--target", "answer", "--grader-model", "judge")
    assert run(tmp_path, url, "--prompt", "In {{ topic }}: {{ question }}", *score).returncode == 0
    assert "question ---\nIn a: 2\n---" in (tmp_path / "out.csv.grader-judge.csv").read_text()


def test_repeated_rows_are_scored_as_such(tmp_path: Path, url: str) -> None:
    """The epochs of a batch are the epochs of its scores."""
    done = run(tmp_path, url, *SCORE, "--epochs", "2")
    assert "4 rows, 2 epochs each:" in done.stdout


def test_a_grader_that_stops_ends_the_command(tmp_path: Path, url: str) -> None:
    """If the grader stops, the command has the exit code of the grader's batch, and the answers are written."""
    (tmp_path / "poor.toml").write_text(
        f'model = "j"\nbase_url = "{url}"\nbudget = 0.000001\nprices.j = {{ input = 10.0, output = 10.0 }}\n'
    )
    done = run(tmp_path, url, "--score", "model-graded", "--target", "answer", "--grader", "poor.toml")
    assert done.returncode == 4
    assert "grader poor stopped: " in done.stderr
    assert (tmp_path / "out.csv").exists()
    assert not (tmp_path / "out.scored.csv").exists()


def job(folder: Path, url: str, score: str) -> str:
    (folder / "night").mkdir(exist_ok=True)
    (folder / "night" / "job.toml").write_text(
        f'input = "../q.csv"\noutput = "a.csv"\nbase_url = "{url}"\nmodel = "m"\n{score}\n'
    )
    return "night/job.toml"


def test_a_job_file_says_how_it_is_scored(tmp_path: Path, url: str) -> None:
    """The table [score] is sufficient, its paths are relative to the file, flags win, and other commands still accept
    the file."""
    name = job(tmp_path, url, '[score]\nscorer = "numeric"\ntarget = "answer"\nfail_under = 0.9\noutput = "s.csv"')
    assert batchrun(tmp_path, "check", name).returncode == 0
    done = batchrun(tmp_path, "run", name)
    assert done.returncode == 7
    assert (tmp_path / "night" / "s.csv").exists()
    assert batchrun(tmp_path, "run", name, "--fail-under", "0.5").returncode == 0
    assert batchrun(tmp_path, "run", name, "--dry-run").returncode == 0
    assert batchrun(tmp_path, "status", name).returncode == 0


@pytest.mark.parametrize(
    ("score", "arguments", "expected"),
    [
        ('[score]\nscorer = "numeric"\ntraget = "a"', (), "score: unknown key 'traget'; did you mean 'target'?"),
        ('[scores]\nscorer = "numeric"', (), "unknown table [scores]; did you mean 'score'?"),
        ("score = 3", (), "score: expected a table [score], got 3"),
        ("", ("--target", "answer"), "--score: names no scorer, such as numeric; target requires one"),
        ("", ("--score", "numerc", "--target", "answer"), "unknown scorer 'numerc'"),
        ("", ("--score", "numeric", "--target", "no"), "--target no: "),
        ("", ("--score", "numeric"), "--scorer numeric: needs a target: name its column with --target COLUMN"),
        ("", (*SCORE, "--by", "no"), "--by no: "),
        ("", (*SCORE, "--margin", "0.1"), "margin requires no_worse_than"),
        (
            "",
            (*SCORE, "--no-worse-than", "b.csv"),
            "--no-worse-than: pairs rows by id, not by position; name their id column with --key COLUMN",
        ),
        ("", (*SCORE, "--no-worse-than", "b.csv", "--key", "id"), "b.csv: no such file"),
        ("", ("--score", "model-graded", "--target", "answer"), "no grader is named; add --grader FILE.toml"),
        (
            "",
            ("--score", "model-graded", "--grader-model", "j"),
            "needs a target: name its column with --target COLUMN",
        ),
        ("", ("--score", "model-graded", "--target", "answer", "--grader", "g.toml"), "g.toml: no such file"),
    ],
)
def test_what_is_wrong_is_found_before_a_row_is_asked(
    tmp_path: Path, url: str, score: str, arguments: tuple[str, ...], expected: str
) -> None:
    """A scoring error gives exit code 2, one line and no journal: no row is paid for that cannot be scored."""
    name = job(tmp_path, url, score)
    for extra in ((), ("--dry-run",)):
        done = batchrun(tmp_path, "run", name, *arguments, *extra)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert expected in done.stderr
    assert not list((tmp_path / "night").glob("a.csv*"))


def test_a_stopped_batch_is_not_scored(tmp_path: Path, url: str) -> None:
    """A stopped batch keeps its exit code and reports that the score is missing."""
    text = "budget = 0.000001\nprices.m = { input = 10.0, output = 10.0 }\n"
    name = job(tmp_path, url, f'{text}[score]\nscorer = "numeric"\ntarget = "answer"')
    done = batchrun(tmp_path, "run", name)
    assert (done.returncode, done.stdout) == (4, "")
    assert "not scored, since the batch stopped before its end" in done.stderr


def test_a_pilot_is_not_scored(tmp_path: Path, url: str) -> None:
    """A pilot writes no output; its job file may contain options for scoring the whole batch."""
    name = job(tmp_path, url, '[score]\nscorer = "numeric"\ntarget = "answer"\nfail_under = 1.0')
    assert batchrun(tmp_path, "run", name, "--pilot", "2").returncode == 0
    assert not (tmp_path / "night" / "a.scored.csv").exists()


def test_the_monitor_is_notified_of_a_missed_bar(tmp_path: Path, url: str) -> None:
    """A missed bar is pinged as a failure."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    heard: list[tuple[str, str]] = []

    class Watch(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append((self.path, ""))
            self._end()

        def do_POST(self) -> None:
            heard.append((self.path, self.rfile.read(int(self.headers["content-length"])).decode()))
            self._end()

        def _end(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Watch) as watch:
        thread = Thread(target=watch.serve_forever, args=(0.01,))
        thread.start()
        ping = f"http://127.0.0.1:{watch.server_port}/x"
        assert run(tmp_path, url, *SCORE, "--fail-under", "0.9", "--ping", ping).returncode == 7
        watch.shutdown()
        thread.join()
    assert [path for path, _ in heard] == ["/x/start", "/x/fail"]
    assert "numeric: at least 0.9: 0.5000" in heard[1][1]
