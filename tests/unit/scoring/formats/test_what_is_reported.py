"""What importers report: each note and each refusal, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from batchrun.errors import InputError
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.convert import convert
from tests.unit.scoring.formats.examples import EXAMPLES, LOG, OUTPUT_ITEM, RUN
from tests.unit.scoring.formats.test_openai_jobs import EVAL, run_of

SAMPLE_OF_LM_EVAL: Final = next(content for name, content in EXAMPLES if name == "lm-eval")


def reported(folder: Path, form: str, content: Any, output: str = "out.jsonl") -> list[str]:
    """Return the notes about a file of one document, or of a list of them."""
    (folder / "in.json").write_text(json.dumps(content))
    return convert([str(folder / "in.json")], folder / output, Conversion(form))[1].lines()


def run_without_data(template: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a run whose data are a file, with a template."""
    run = run_of("A")
    run["data_source"]["input_messages"]["template"] = template
    run["data_source"]["source"] = {"type": "file_id", "id": "file_1"}
    return run


@pytest.mark.parametrize(
    ("form", "content", "output", "note"),
    [
        ("lm-eval", [SAMPLE_OF_LM_EVAL] * 2, "out.jsonl",
         "lines with a document and a filter that occur before, of which the first is kept (1 row)"),
        ("messages", {"messages": [{"role": "user", "content": "1"}]}, "out.jsonl",
         "the conversation does not end with an answer of the assistant, so the target is empty (1 row)"),
        ("inspect", LOG, "out.jsonl", "not carried over: plan (1 row)"),
        ("inspect", {"input": "x", "files": {"a": "b"}, "setup": "s"}, "out.jsonl", "not carried over: files (1 row)"),
        ("inspect", {"input": "x", "files": {"a": "b"}, "setup": "s"}, "out.jsonl", "not carried over: setup = 's' (1 row)"),
        ("promptfoo", {"prompts": ["x"], "tests": ["file://t.py:make", {"vars": {"a": 1}}]}, "out.jsonl",
         "not carried over: tests: those that code or another service makes (1 row)"),
        ("promptfoo", {"vars": {"a": 1}, "assert": [{"value": "x"}]}, "out.jsonl",
         "not carried over: assert: without a type = 'x' (1 row)"),
        ("promptfoo", {"vars": {"a": 1}, "assert": [{"type": "equals", "value": "{{ a | nope }}"}]}, "out.jsonl",
         "not carried over: template that cannot be rendered, and is kept as text = '{{ a | nope }}' (1 row)"),
        ("promptfoo", {"_expected": "oops", "a": "b"}, "out.jsonl",
         "the column '_expected' is a variable; promptfoo's own columns begin with two _ (1 row)"),
        ("promptfoo", {"providers": ["openai:m"], "tests": [{"vars": {"a": 1}}]}, "job.toml",
         "no prompt is taken over: add prompt = ... to the job"),
        ("promptfoo", {"prompts": ['[{"role": "user", {{ x }}}]'], "tests": [{"vars": {"x": 1}}]}, "job.toml",
         "prompt '[{\"role\": \"user\", {{ x }}}]' is not a list of messages before it is rendered, so it stays a text"),
        ("promptfoo", {"prompts": ["Say {{ x }} {{ y }}"], "tests": [{"vars": {"x": 1}}]}, "job.toml",
         "prompt 'Say {{ x }} {{ y }}' uses 'y', which no test has: add a column, or change it"),
        ("openai-evals", run_without_data([{"role": "assistant", "content": "a"}]), "job.toml",
         "input_messages: these are more than instructions and one message of the user; write them into the column "
         "'messages' of the table"),
        ("openai-evals", run_without_data([{"role": "user", "content": "{{ sample.output_json }}"}]), "job.toml",
         "not carried over: template: {{ sample.output_json }} has no counterpart, and is kept as text (1 row)"),
        ("openai-evals", EVAL, "job.toml", "also written: job.Judge.toml"),
    ],
)  # fmt: skip
def test_notes(tmp_path: Path, form: str, content: Any, output: str, note: str) -> None:
    """The note is among the lines."""
    lines = [line.replace(f"{tmp_path}/", "") for line in reported(tmp_path, form, content, output)]
    assert note in lines


@pytest.mark.parametrize(
    ("form", "content", "output", "message"),
    [
        ("openai-evals", [], "out.jsonl", "in.json: has no rows; write one JSON object on each line"),
        ("inspect", {"input": "x"}, "job.toml",
         "job.toml: only --from openai-evals and --from promptfoo write a job file; name a table"),
        ("messages", {"messages": [{"role": "user", "content": "1"}], "target": 1}, "out.jsonl",
         "in.json, line 1: the row has a column 'target' already; rename it"),
        ("lm-eval", {"a": 1}, "out.jsonl",
         'in.json, line 1: expected a sample of lm-eval (--log_samples), with "doc_id", "doc" and "resps"'),
        ("openai-evals", EVAL, "out.jsonl",
         "in.json, line 1: an eval has no rows; write a job file: name an output that ends in .toml"),
        ("openai-evals", {"e": {"class": "x:Match"}}, "out.jsonl",
         "in.json, line 1: an eval of a registry has no rows; write a job file: name an output that ends in .toml"),
        ("openai-evals", {**RUN, "data_source": {}}, "out.jsonl",
         "in.json, line 1: the run has no data of its own (file_content); write a job file: name an output that ends in "
         ".toml, and give the file of its data as the table"),
        ("openai-evals", {"a": 1}, "job.toml",
         "in.json: has neither an eval nor a run; write its items to a table, such as a .csv"),
        ("promptfoo", {"a": {"b": 1}}, "out.jsonl",
         "in.json, line 1: expected promptfoo's tests, a configuration with prompts, providers or tests, or results"),
        ("promptfoo", {"prompts": ["x"], "tests": "file://none*.csv"}, "out.jsonl",
         "in.json, line 1: file://none*.csv: no file fits, next to the configuration"),
        ("promptfoo", [{"prompts": ["x"], "tests": []}] * 2, "job.toml",
         "in.json: a second configuration; convert each to a job file of its own"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, form: str, content: Any, output: str, message: str) -> None:
    """The message names the file, and what to do."""
    with pytest.raises(InputError) as caught:
        reported(tmp_path, form, content, output)
    assert str(caught.value).replace(f"{tmp_path}/", "") == message


@pytest.mark.parametrize(
    ("sample", "cells"),
    [
        ({"output": [{"role": "assistant", "refusal": "No."}]}, ("No.", "incomplete", "refusal")),
        ({"output_text": "4"}, ("4", "completed", None)),
        ({"output": [{"content": ""}], "finish_reason": "content_filter"}, (None, "incomplete", "content_filter")),
        ({"output": [{"tool_calls": [{"id": "c"}]}]}, (None, "incomplete", "tool_calls")),
        ({}, (None, "failed", "no_sample")),
        ({"output": []}, (None, "incomplete", "empty_answer")),
        ({"output": [{"content": "4"}], "finish_reason": "length"}, ("4", "incomplete", "max_completion_tokens")),
    ],
)
def test_the_status_of_an_output_item(tmp_path: Path, sample: dict[str, Any], cells: tuple[Any, ...]) -> None:
    """It follows the answer: only an answer with text that was not cut is completed."""
    reported(tmp_path, "openai-evals", {**OUTPUT_ITEM, "sample": sample})
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert (row["response"], row["status"], row["error_type"]) == cells
