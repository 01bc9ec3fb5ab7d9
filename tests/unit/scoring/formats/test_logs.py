"""Logs of inspect_ai and lm-evaluation-harness, as these programs wrote them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.prompts.conversations import messages_in
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.convert import convert
from tests.unit.scoring.formats.examples import DATA, LOG, OUTPUT_ITEM, PAGE


def imported(folder: Path, format_name: str, *files: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of files, and the notes about them."""
    output = folder / "out.jsonl"
    _, notes = convert([str(file) for file in files], output, Conversion(format_name))
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()], notes.lines()


def test_a_log_with_zstandard_members(tmp_path: Path) -> None:
    """Rows are samples and epochs; a dict score has a column for each key, NaN is unjudged, an error is a status."""
    rows, notes = imported(tmp_path, "inspect", DATA / "inspect.eval")
    assert {(row["id"], row["epoch"]) for row in rows} == {(name, epoch) for name in ("s1", 2, 3) for epoch in (1, 2)}
    by_id = {row["id"]: row for row in rows}
    assert (by_id["s1"]["response"], by_id["s1"]["status"], by_id["s1"]["metadata_id"]) == (
        "hello world",
        "completed",
        "mm",
    )
    assert (by_id["s1"]["score_match"], by_id["s1"]["score_multi_a"], by_id["s1"]["score_multi_b"]) == (1.0, 1.0, None)
    assert (by_id[3]["status"], by_id[3]["error_type"], by_id[3]["response"]) == ("failed", "RuntimeError", None)
    assert "not carried over: events (6 rows)" in notes


def test_a_log_with_deflated_members_is_the_same(tmp_path: Path) -> None:
    """A log as JSON and one of deflated members give the same rows; attachments and limits are resolved."""
    whole, parts = tmp_path / "log.json", tmp_path / "log.eval"
    whole.write_text(json.dumps(LOG))
    with zipfile.ZipFile(parts, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({key: value for key, value in LOG.items() if key != "samples"}))
        for sample in LOG["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    rows, notes = imported(tmp_path, "inspect", whole)
    assert imported(tmp_path, "inspect", parts)[0] == rows
    assert (rows[0]["question"], "messages" in rows[0]) == ("a long text", False)
    assert (rows[0]["status"], rows[0]["error_type"]) == ("incomplete", "token_limit")
    assert f"{whole}, line 1: the log has the status 'cancelled'; samples may be missing" in notes


def test_the_prompt_of_a_log_is_the_one_that_the_model_got(tmp_path: Path) -> None:
    """The prompt of a log's row is what the model got, in the form that `run` sends; the input is kept if it differs."""
    user = {"id": "1", "source": "input", "role": "user", "content": "Solve: 1+1"}
    call = {"id": "c", "function": "add", "arguments": {"a": 1}, "type": "function"}
    tool = {
        "role": "tool",
        "content": [{"type": "text", "text": "2", "refusal": None}],
        "tool_call_id": "c",
        "function": "add",
    }
    thought = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "I add"}]
    picture = {"role": "user", "content": [{"type": "image", "image": "http://x", "detail": "low"}]}
    answer = {"role": "assistant", "content": "2"}
    samples = [
        {"id": 1, "epoch": 1, "input": "1+1", "messages": [{"role": "system", "content": "S"}, user, answer]},
        {"id": 2, "epoch": 1, "input": "Solve: 1+1", "messages": [user, answer]},
        {"id": 3, "epoch": 1, "input": [picture],
         "messages": [picture, {"role": "assistant", "content": thought, "tool_calls": [call]}, tool, answer]},
    ]  # fmt: skip
    output = {"model": "m", "choices": [{"message": answer, "stop_reason": "stop"}], "completion": "2"}
    log = {"version": 2, "eval": {"task": "t"}, "samples": [{**each, "output": output} for each in samples]}
    (tmp_path / "log.json").write_text(json.dumps(log))
    rows, notes = imported(tmp_path, "inspect", tmp_path / "log.json")
    sent = [messages_in(row["messages"], "chat") for row in rows]
    assert sent[0] == ({"role": "system", "content": "S"}, {"role": "user", "content": "Solve: 1+1"})
    assert sent[1] == ({"role": "user", "content": "Solve: 1+1"},)
    assert sent[2][0]["content"] == [{"type": "image_url", "image_url": {"url": "http://x", "detail": "low"}}]
    assert sent[2][1]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1}'}
    assert sent[2][2]["content"] == [{"type": "text", "text": "2"}]
    assert [row["input"] for row in rows[:2]] == ["1+1", None]
    assert not {"question", "instructions"} & rows[0].keys()
    assert f"{tmp_path}/log.json, line 1: the log is of a run that has not ended; samples may be missing" in notes
    assert "not carried over: messages[].content[].reasoning (1 row)" in notes


def test_a_damaged_log_is_refused_in_one_line(tmp_path: Path) -> None:
    """A file that is not an archive, and a member that is cut, are named."""
    (tmp_path / "a.eval").write_bytes(b"{}")
    with pytest.raises(InputError, match=r"a\.eval: is not a log of inspect_ai"):
        imported(tmp_path, "inspect", tmp_path / "a.eval")
    content = bytearray((DATA / "inspect.eval").read_bytes())
    content[content.index(b"samples/") + 200] ^= 0xFF
    (tmp_path / "b.eval").write_bytes(content)
    with pytest.raises(InputError, match=r"b\.eval, samples/.*: is damaged"):
        imported(tmp_path, "inspect", tmp_path / "b.eval")


def test_samples_of_lm_eval(tmp_path: Path) -> None:
    """A document is one row, with a score for each filter and all repeats; a choice is the most likely continuation."""
    rows, _ = imported(tmp_path, "lm-eval", *sorted(DATA.glob("samples_*.jsonl")))
    assert [(row["task"], row["id"]) for row in rows] == [("toy_gen", 0), ("toy_gen", 1), ("toy_mc", 0), ("toy_mc", 1)]
    assert rows[0]["responses"] == [["lol", "lol", "lol"]]
    assert (rows[0]["score_exact_match_strict"], rows[0]["filtered_flex"]) == (0.0, ["l"])
    assert [(row["response"], row["choice"], row["score_acc"]) for row in rows[2:]] == [("3", 0, 0.0), ("2", 0, 1.0)]


def test_pages_of_output_items(tmp_path: Path) -> None:
    """An item that occurs in two pages is one row; a missing page is reported, in whatever order the pages are read."""
    other = {**PAGE, "data": [OUTPUT_ITEM, {**OUTPUT_ITEM, "id": "outputitem_9"}], "last_id": "outputitem_9"}
    first, last = tmp_path / "1.json", tmp_path / "2.json"
    first.write_text(json.dumps({**PAGE, "has_more": True}, indent=1))
    last.write_text(json.dumps(other))
    missing = "rows are missing: the last page says has_more: true; fetch the next one, after=outputitem_2"
    twice = "output items that occur twice, with the same id, of which the first is kept (1 row)"
    rows, notes = imported(tmp_path, "openai-evals", last, first)
    assert [row["id"] for row in rows] == ["outputitem_1", "outputitem_9", "outputitem_2"]
    assert twice in notes
    assert missing not in notes
    assert [row["score_eq_2"] for row in rows] == [0.0, 0.0, None]
    rows, notes = imported(tmp_path, "openai-evals", first)
    assert len(rows) == 2
    assert missing in notes
