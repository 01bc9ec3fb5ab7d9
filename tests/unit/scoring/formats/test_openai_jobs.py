"""Evals and runs of OpenAI as job files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from batchrun.errors import InputError
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.convert import convert
from batchrun.scoring.grading.grader import load_grader
from batchrun.scoring.scorers.base import Sample
from batchrun.scoring.scorers.python import FunctionScorer

ANSWER: Final = "{{ sample.output_text }}"
EVAL: Final[dict[str, Any]] = {
    "object": "eval",
    "id": "eval_1",
    "name": "Tickets",
    "data_source_config": {"type": "custom", "schema": {"properties": {"item": {"type": "object"}}}},
    "testing_criteria": [
        {"type": "string_check", "name": "Exact match", "input": ANSWER, "operation": "eq", "reference": "{{ item.label }}"},
        {"type": "string_check", "name": "not it", "input": ANSWER, "operation": "ne", "reference": "{{item.other}}"},
        {"type": "string_check", "name": "yes", "input": ANSWER, "operation": "like", "reference": "4"},
        {"type": "text_similarity", "name": "close", "input": ANSWER, "reference": "{{item.label}}",
         "evaluation_metric": "fuzzy_match", "pass_threshold": 0.8},
        {"type": "text_similarity", "name": "far", "input": ANSWER, "reference": "{{item.label}}",
         "evaluation_metric": "gleu", "pass_threshold": 0.5},
        {"type": "text_similarity", "name": "near", "input": ANSWER, "reference": "{{item.label}}",
         "evaluation_metric": "cosine", "pass_threshold": 0.5},
        {"type": "string_check", "name": "differs", "input": ANSWER, "operation": "ne", "reference": "{{item.label}}"},
        {"type": "label_model", "name": "Judge", "model": "gpt-4o", "labels": ["good", "bad"], "passing_labels": ["good"],
         "input": [{"role": "developer", "content": "Grade {{ item.q }}"}, {"role": "user", "content": ANSWER}]},
        {"type": "score_model", "name": "Score", "model": "o3", "range": [1, 7], "pass_threshold": 5,
         "sampling_params": {"seed": 1, "temperature": 0},
         "input": [{"role": "user", "content": [{"type": "input_text", "text": "{{ item.response }} {% x"}]}]},
        {"type": "python", "name": "py", "source": "def grade(sample, item):\n    return item['n'] / 2"},
    ],
}  # fmt: skip


def run_of(model: str) -> dict[str, Any]:
    """Return a run with its data."""
    items = [{"item": {"q": "2+2", "label": "4", "response": "r"}}, {"item": {"q": "3+3", "label": "6"}}]
    template = [{"role": "developer", "content": "For {{item.q}}"}, {"role": "user", "content": "{{ item.q }}?"}]
    return {
        "object": "eval.run",
        "id": f"run_{model}",
        "model": model,
        "status": "completed",
        "data_source": {
            "type": "completions",
            "model": model,
            "input_messages": {"type": "template", "template": template},
            "sampling_params": {"temperature": 0.2, "seed": 42, "top_k": 3},
            "source": {"type": "file_content", "content": items},
        },
    }


def test_an_eval_and_its_runs_become_a_job(tmp_path: Path) -> None:
    """Criteria become scorers and graders' files, runs the prompt, the settings, the models and the table."""
    (tmp_path / "eval.json").write_text(json.dumps(EVAL))
    page = {"object": "list", "data": [run_of("A"), run_of("B")], "has_more": False}
    (tmp_path / "runs.json").write_text(json.dumps(page, indent=1))
    names = [str(tmp_path / "eval.json"), str(tmp_path / "runs.json")]
    count, notes = convert(names, tmp_path / "job.toml", Conversion("openai-evals"))
    text = (tmp_path / "job.toml").read_text()
    job = tomllib.loads(text)
    assert count == 2
    assert '# id of the eval: "eval_1"' in text
    assert job == {
        "input": "job.data.jsonl",
        "api": "chat",
        "prompt": "{{ q }}?",
        "instructions": "For {{ q }}",
        "temperature": 0.2,
        "matrix": {"model": ["A", "B"]},
        "param": {"seed": 42},
        "score": {
            "target": "label",
            "scorer": [
                "Exact_match=exact",
                "not_it=ne:target=other",
                "yes=python:job_yes.py:score_answer",
                "close=fuzzy:threshold=0.8",
                "near=cosine:model=text-embedding-3-large,threshold=0.5",
                "differs=ne",
                "Judge=model-graded:grader=job.Judge.toml",
                "Score=model-graded:grader=job.Score.toml",
                "py=python:job_py.py:score_answer",
            ],
        },
    }
    lines = [json.loads(line) for line in (tmp_path / "job.data.jsonl").read_text().splitlines()]
    assert lines == [{"q": "2+2", "label": "4", "item_response": "r"}, {"q": "3+3", "label": "6"}]
    assert "criterion 'far' has no counterpart: text_similarity gleu" in notes.lines()
    assert '# criterion without a counterpart: {"type":"text_similarity","name":"far",' in text
    assert "not carried over: data_source.sampling_params.top_k = 3 (1 row)" in notes.lines()
    judge, score = (load_grader(tmp_path / f"job.{name}.toml", {}) for name in ("Judge", "Score"))
    assert (judge.rubric, judge.reader.choices) == (
        "Grade {{ q }}\n\n{{ response }}\n\n{{ grade_line }}",
        {"good": 1.0, "bad": 0.0},
    )
    assert (score.rubric, score.reader.scale) == ('{{ item_response }} {{ "{%" }} x\n\n{{ grade_line }}', (1.0, 7.0))
    for name, row, expected in (
        ("yes", {}, 1.0),
        ("py", {"n": 1}, 0.5),
    ):
        scorer = FunctionScorer.load(f"{tmp_path}/job_{name}.py:score_answer")
        assert scorer.score(Sample("4", "4", row)).value == expected


def test_examples_in_a_template_become_conversations(tmp_path: Path) -> None:
    """A template with answers in it is rendered for each item, whatever forms its contents have."""
    template = [
        {"type": "message", "role": "developer", "content": {"type": "input_text", "text": "For {{ item.q }}"}},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "2"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "{{ item.q }}?"}, {"type": "input_image", "image_url": "{{item.u}}"}]},
    ]  # fmt: skip
    run = run_of("A")
    run["data_source"]["input_messages"]["template"] = template
    run["data_source"]["source"]["content"] = [{"item": {"q": "2+2", "u": "http://x"}}]
    (tmp_path / "run.json").write_text(json.dumps(run))
    convert([str(tmp_path / "run.json")], tmp_path / "job.toml", Conversion("openai-evals"))
    job = tomllib.loads((tmp_path / "job.toml").read_text())
    assert (job["messages"], "prompt" in job) == ("messages", False)
    assert json.loads((tmp_path / "job.data.jsonl").read_text())["messages"] == [
        {"role": "developer", "content": "For 2+2"},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": [{"type": "input_text", "text": "2+2?"}, {"type": "input_image", "image_url": "http://x"}]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"item": {"q": 1}}, "has neither an eval nor a run"),
        ({"object": "list", "data": [EVAL, {**EVAL, "id": "eval_2"}]}, r"has 2 evals \(eval_1, eval_2\)"),
    ],
)
def test_what_makes_no_job(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    """Data, and several evals, are refused in one line, and nothing is written."""
    (tmp_path / "in.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        convert([str(tmp_path / "in.json")], tmp_path / "job.toml", Conversion("openai-evals"))
    assert [each.name for each in tmp_path.iterdir()] == ["in.json"]
