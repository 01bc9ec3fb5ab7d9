"""What the command prints about a batch also reaches a caller from Python, as a warning or in the log."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.api.parameters import in_python
from tests.support.chat import chat_reply
from tests.support.command import batchrun as command
from tests.support.rows import write_csv
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

DATED = re.compile(r"\d{4}-\d\d-\d\d ")


def answer(request: Request) -> Answer:
    """`fails` is refused, `cut` is cut at the maximum, every other row is answered."""
    text = request.body["messages"][-1]["content"]
    if text == "fails":
        return json_answer({"error": {"message": "not this one", "type": "invalid_request_error"}}, 400)
    return json_answer(chat_reply(finish_reason="length" if text == "cut" else "stop"))


@pytest.fixture
def service() -> Iterator[ScriptedHttp]:
    """A Chat Completions service."""
    with ScriptedHttp(answer) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Case:
    """A batch with something to say.

    Attributes:
        rows: the questions.
        options: for Python; `served` adds the service.
        flags: the same options for the command.
        warned: parts of the warnings, one each; everything else that the command prints is in the log.
    """

    rows: tuple[str, ...]
    warned: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    served: bool = True


PRICES = {"m": {"input": 1.0, "output": 1_000_000.0}}
CASES = {
    "a batch without problems": Case(("one", "two"), ()),
    "no key": Case(("1 + 1",), ("no API key (OPENAI_API_KEY), no base_url and no model",), served=False),
    "questions beyond the tutor": Case(
        ("1 + 1", "Who wrote Faust?"), ("no API key", "the tutor could not answer 1 of 2 rows"), served=False
    ),
    "a tutor that was chosen": Case(("1 + 1",), (), {"model": "tutor"}, ("--model", "tutor"), served=False),
    "failed rows": Case(("one", "fails"), ("failed rows: 1 × http_400; retry_failed=True retries them",)),
    "rows that were cut": Case(("one", "cut"), ("incomplete rows: 1 × ",)),
    "a budget that is spent": Case(
        ("one", "two", "three", "four"),
        ("stopped: the budget of $1.5 is reached",),
        {"prices": PRICES, "budget": 1.5, "concurrency": 1, "max_completion_tokens": 1},
        ("--budget", "1.5", "--concurrency", "1", "--max-completion-tokens", "1"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_notice_reaches_python(
    name: str, tmp_path: Path, service: ScriptedHttp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each line that `batchrun run` prints, in the words of Python, is a warning or a record of the logger; what is
    missing from the answers is a warning, at the line of the call."""
    case = CASES[name]
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHRUN_MODEL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "q.csv", [{"question": row} for row in case.rows])
    options, flags = dict(case.options), list(case.flags)
    if case.served:
        options |= {"base_url": service.url, "model": "m", "api": "chat"}
        flags += ["--base-url", service.url, "--model", "m", "--api", "chat"]
    table = "q.csv"
    if "prices" in options:
        table = "job.toml"
        prices = ", ".join(f"{kind} = {usd}" for kind, usd in PRICES["m"].items())
        (tmp_path / table).write_text(f'input = "q.csv"\n[prices]\nm = {{{prices}}}\n', encoding="utf-8")
    printed = command(tmp_path, "run", table, "-o", "command.csv", *flags).stderr.splitlines()
    caplog.set_level(logging.INFO, logger="batchrun")
    caplog.clear()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        batchrun.run("q.csv", output="python.csv", **options)
    warned = [str(each.message) for each in shown]
    assert [part for part, text in zip(case.warned, warned, strict=True) if not text.startswith(part)] == []
    assert {Path(each.filename).name for each in shown} <= {Path(__file__).name}
    heard = {
        plain(text) for text in [*"\n".join(warned).splitlines(), *(record.getMessage() for record in caplog.records)]
    }
    silent = [line for line in printed if not DATED.match(line) and plain(in_python(line)) not in heard]
    # The command names the files next to a new output; Python gives the answers.
    assert [line for line in silent if "next to" not in line] == []


def plain(line: str) -> str:
    """A line without what differs from one run to the next."""
    return re.sub(r"command\.csv|python\.csv", "OUT", re.sub(r"[\d.]+ s\b", "T s", line))


def test_a_resumed_batch_is_logged(tmp_path: Path, service: ScriptedHttp, caplog: pytest.LogCaptureFixture) -> None:
    """The log reports how many answers came from an earlier run, and that their cost is unknown."""
    caplog.set_level(logging.INFO, logger="batchrun")
    write_csv(tmp_path / "q.csv", [{"question": "one"}])
    for _ in range(2):
        caplog.clear()
        batchrun.run(tmp_path / "q.csv", output=tmp_path / "a.csv", base_url=service.url, model="m", api="chat")
    text = caplog.text
    assert (
        "1 completed · 1 from an earlier run · this run: nothing sent · whole table: 3 tokens in, 1 out, cost unknown"
        in text
    )


def test_a_run_that_sends_nothing_has_no_unknown_cost(
    tmp_path: Path, service: ScriptedHttp, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that fail before they are sent cost nothing, so their run does not report an unknown cost."""
    caplog.set_level(logging.INFO, logger="batchrun")
    write_csv(tmp_path / "q.csv", [{"question": "one"}, {"question": ""}])
    options: dict[str, Any] = {"output": tmp_path / "a.csv", "base_url": service.url, "model": "m", "api": "chat"}
    batchrun.run(tmp_path / "q.csv", limit=1, **options)
    with pytest.warns(RuntimeWarning, match="empty_prompt"):
        batchrun.run(tmp_path / "q.csv", **options)
    assert "this run: 1 row, 0 tokens in, 0 out · whole table: 3 tokens in, 1 out, cost unknown" in caplog.text


def test_a_failed_row_is_explained(tmp_path: Path, service: ScriptedHttp) -> None:
    """The warning of failed rows contains the first error of each kind."""
    with pytest.warns(RuntimeWarning, match="not this one"):
        batchrun.run(["one", "fails"], base_url=service.url, model="m", api="chat")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit")
def test_few_file_descriptors_are_a_warning(tmp_path: Path, service: ScriptedHttp) -> None:
    """If this machine allows fewer connections than the batch wants, Python hears it as the command prints it."""
    program = f"import batchrun; batchrun.run(['one'] * 300, base_url={service.url!r}, model='m', api='chat', constant_prompt=True)"
    done = subprocess.run(
        ["bash", "-c", 'ulimit -n 120; exec "$0" -c "$1"', sys.executable, program],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "RuntimeWarning: at most " in done.stderr
    assert "this process may open only 120 files" in done.stderr


@pytest.mark.anyio
async def test_a_warning_points_at_the_awaiting_line(service: ScriptedHttp) -> None:
    """From async code, and from a thread of its own in a notebook, a warning names the line that called."""
    options: dict[str, Any] = {"base_url": service.url, "model": "m", "api": "chat"}
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="failed rows") as shown:
            await batchrun.arun(["one", "fails"], **options)
        assert {Path(each.filename).name for each in shown} == {Path(__file__).name}
    with pytest.warns(RuntimeWarning, match="failed rows") as shown:
        batchrun.run(["one", "fails"], **options)
    assert {Path(each.filename).name for each in shown} == {Path(__file__).name}


def test_an_error_carries_the_answers(tmp_path: Path, service: ScriptedHttp) -> None:
    """An exception that ends a batch has the path of the answers so far as an attribute and as a note; one that comes
    before any answer has None."""

    def refuse(outcome: batchrun.Outcome) -> None:
        raise batchrun.InputError("enough")

    with pytest.raises(batchrun.InputError, match="enough") as caught:
        batchrun.run(
            ["one", "two"], output=tmp_path / "a.csv", base_url=service.url, model="m", api="chat", on_outcome=refuse
        )
    assert caught.value.answers is not None
    assert str(caught.value.answers) in caught.value.__notes__[0]
    assert caught.value.answers.exists()
    with pytest.raises(batchrun.InputError, match="temperature") as early:
        batchrun.run(["one"], temperature=9)
    assert early.value.answers is None
