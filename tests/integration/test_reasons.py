"""The closing summary explains in a few lines why rows failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chat import chat_reply
from tests.support.command import batchrun
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer


def summary(folder: Path, rows: int, message: str | None) -> list[str]:
    """Run a batch whose even rows are refused with `message`; return its last lines."""
    (folder / "q.csv").write_text("question\n" + "".join(f"number {n}\n" for n in range(rows)), encoding="utf-8")

    def script(request: Request) -> Answer:
        number = int(request.body["messages"][-1]["content"].removeprefix("number "))
        if number % 2:
            return json_answer(chat_reply())
        return json_answer({"error": {"message": f"{message} {number}", "code": "too_rude"}}, 400)

    with ScriptedHttp(script) as server:
        options = ["--base-url", server.url, "--model", "m", "--keep-going", "--concurrency", "1"]
        done = batchrun(folder, "run", "q.csv", *options)
    assert done.returncode == 3
    return done.stderr.splitlines()


@pytest.mark.parametrize(("rows", "explained"), [(39, True), (41, False)], ids=["20 failed", "21 failed"])
def test_few_failures_are_explained(tmp_path: Path, rows: int, explained: bool) -> None:
    """Up to twenty failed rows are explained by the first failure of each kind; more are only counted."""
    lines = summary(tmp_path, rows, "not like\nthis")
    place = lines.index(f"failed rows: {(rows + 1) // 2} × too_rude; --retry-failed retries them")
    assert (lines[place + 1] == "  too_rude: not like this 0") is explained
    assert sum("too_rude" in line for line in lines) == 1 + explained


def test_a_long_reason_is_cut(tmp_path: Path) -> None:
    """A long message from the service does not fill the terminal."""
    (line,) = (line for line in summary(tmp_path, 1, "no " * 500) if line.startswith("  too_rude: "))
    assert line.endswith("no no…")
    assert len(line) < 320
