"""Answers that begin with a thought, in the three protocols: the answer is what follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import batchrun
from batchrun.batch.show import row_facts, row_lines
from batchrun.job.environment import Environment
from batchrun.job.options import Api
from batchrun.records import Completed

SCRIPT = r"""
[[rule]]
pattern = '^plain'
reply = "<think>\nLet me see.\n</think>\n\n{\"a\": 1}"

[[rule]]
pattern = '^braces'
reply = "<think>\nMaybe {\"a\": 9}? No.\n</think>\n\n{\"a\": 1}"

[[rule]]
pattern = '^cut'
reply = "<think>\nIt is 4, or is it"

[[rule]]
pattern = '^nothing'
reply = "<think>Hm.</think>\n"

[[rule]]
pattern = '^none'
reply = "{\"a\": 1}"
"""
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
THOUGHTS = ["Let me see.", 'Maybe {"a": 9}? No.']


@pytest.mark.parametrize(
    ("api", "stream"),
    [("assistants", False), ("responses", False), ("responses", True), ("chat", False), ("chat", True)],
)
def test_the_answer_follows_the_thought(tmp_path: Path, api: Api, stream: bool) -> None:
    """Thoughts are in a column of their own; an answer that was cut off inside its thought, or empty, is none."""
    (tmp_path / "script.toml").write_text(SCRIPT)
    ended: list[batchrun.Outcome] = []
    with pytest.warns(RuntimeWarning, match="2 × empty_answer"):
        answers = batchrun.run(
            ["plain", "braces", "cut", "nothing", "none"],
            script=tmp_path / "script.toml", api=api, stream=stream, on_outcome=ended.append,
        )  # fmt: skip
    assert answers["response"].tolist()[:2] == ['{"a": 1}'] * 2
    assert answers["response"].fillna("").tolist()[2:] == ["", "", '{"a": 1}']
    assert answers["status"].tolist() == ["completed", "completed", "incomplete", "incomplete", "completed"]
    assert answers["error_type"].tolist()[2:4] == ["empty_answer"] * 2
    assert answers["reasoning"].fillna("").tolist() == [*THOUGHTS, "It is 4, or is it", "Hm.", ""]
    assert "citations" not in answers
    [braces] = [each for each in ended if each.row_key == "1"]
    assert isinstance(braces, Completed)
    assert braces.extras == {"reasoning": THOUGHTS[1]}


@pytest.mark.parametrize("api", ["assistants", "responses", "chat"])
def test_schemas_and_scorers_read_what_follows_the_thought(tmp_path: Path, api: Api) -> None:
    """JSON in a thought is neither a second object nor the answer, and a scorer does not see it."""
    (tmp_path / "script.toml").write_text(SCRIPT)
    rows = [{"q": "plain", "target": 1}, {"q": "braces", "target": 1}]
    scores = batchrun.run(
        rows, prompt="{{ q }}", script=tmp_path / "script.toml", api=api, schema=SCHEMA,
        score="numeric", target="target", keep="reasoning",
    )  # fmt: skip
    answers = scores.to_frame()
    assert answers["a"].tolist() == [1, 1]
    assert answers["reasoning"].tolist() == THOUGHTS
    assert answers["score_numeric"].tolist() == [1.0, 1.0]


def test_a_later_run_keeps_the_columns(tmp_path: Path) -> None:
    """A resumed batch has the columns of its answers; what was not kept for them stays empty, and a notice says so."""
    (tmp_path / "script.toml").write_text(SCRIPT)
    (tmp_path / "q.csv").write_text("question\nplain\n")
    table, output = tmp_path / "q.csv", tmp_path / "a.jsonl"
    job = batchrun.Job(script=tmp_path / "script.toml", api="chat", output=output)
    first = batchrun.run(table, job)
    assert "raw" not in first
    with pytest.warns(RuntimeWarning, match="recorded without raw, and their cells stay empty"):
        again = batchrun.run(table, job, keep=["raw", "citations"])
    assert again["reasoning"].tolist() == [THOUGHTS[0]]
    assert again[["raw", "citations"]].isna().all(axis=None)
    [raw] = batchrun.run(table, job, keep="raw", fresh=True)["raw"].tolist()
    assert raw["choices"][0]["message"]["content"].startswith("<think>")
    lines = row_lines(anyio.run(row_facts, output, "0", Environment.read({})))
    assert "\n".join(lines).endswith(f"reasoning:\n  {THOUGHTS[0]}\n\n{lines[-1]}")
