"""The embedded server dies with its batch: both resume from their files."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.reliability.processes import ServerRecords, batchrun
from tests.support.rows import read_csv, write_csv

SCRIPT = r"""
[[rule]]
pattern = 'price of (\w+)'
tool_calls = [{ name = "price", arguments = { article = '\1' } }]
after = '{"name": "\1", "price": \o1}'
usage = { prompt_tokens = 10, completion_tokens = 3 }
delay_s = 0.03

[[rule]]
pattern = '(?s)(.*)'
reply = 'I read: \1'
usage = { prompt_tokens = 10, completion_tokens = 3 }
deltas = 3
delay_s = 0.02
delta_delay_s = 0.01
"""
TOOLS = '''
def price(article: str) -> int:
    """Tells a price."""
    return len(article)
'''
FORM = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "price": {"type": "integer"}},
    "required": ["name", "price"],
    "additionalProperties": False,
}
ROWS = 12


@pytest.mark.parametrize(
    "api",
    [
        "assistants",
        pytest.param("responses", marks=pytest.mark.nightly),
        pytest.param("chat", marks=pytest.mark.nightly),
    ],
)
def test_turns_functions_and_a_form_in_a_rehearsal(tmp_path: Path, api: str) -> None:
    """Killed three times, a rehearsal has one thread per row, one run per turn, and every answer in its place."""
    (tmp_path / "script.toml").write_text(SCRIPT)
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "form.json").write_text(json.dumps(FORM))
    names = ["a" * (number + 1) for number in range(ROWS)]
    write_csv(tmp_path / "in.csv", [{"article": name} for name in names])
    options = ["run", "in.csv", "-o", "out.csv", "--script", "script.toml", "--api", api, "--concurrency", "4"]
    options += ["--prompt", "Tell of {{ article }}", "--prompt", "The price of {{ article }}?", "--tools", "tools.py"]
    options += ["--schema", "form.json", "--json"]
    for ended in (3, 12, 20):
        with batchrun(tmp_path, *options) as process:
            while process.running and _exchanges(tmp_path) < ended:
                time.sleep(0.001)
            assert process.kill(), process.stderr
    with batchrun(tmp_path, *options) as process:
        assert process.wait() == 0, process.stderr
    rows = read_csv(tmp_path / "out.csv")
    assert [row["response_1"] for row in rows] == [f"I read: Tell of {name}" for name in names]
    assert [(row["tool_calls"], row["price"]) for row in rows] == [("1", str(len(name))) for name in names]
    assert {row["prompt_tokens"] for row in rows} == {"30"}
    records = ServerRecords.read(tmp_path / "out.csv.store")
    if api == "assistants":
        assert Counter(run["thread_id"] for run in records.of("run").values()) == {row["thread_id"]: 2 for row in rows}
        assert len(records.of("thread")) == ROWS
    if api == "responses":
        assert len(records.of("response")) == 3 * ROWS


def _exchanges(folder: Path) -> int:
    path = folder / "out.csv.journal"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            return int(db.execute("SELECT count(*) FROM exchanges").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
