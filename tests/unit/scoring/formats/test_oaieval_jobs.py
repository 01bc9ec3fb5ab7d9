"""Evals of the open-source repository's registry as job files."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from batchrun.errors import InputError
from batchrun.job.validation import make_job
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.convert import convert
from batchrun.scoring.grading.grader import load_grader
from batchrun.scoring.scorers.base import Sample
from batchrun.scoring.scorers.python import FunctionScorer

MATCH: Final = """
arith:
  id: arith.dev.v0
  description: Sums
  metrics: [accuracy]
arith.dev.v0:
  class: evals.elsuite.basic.match:Match
  args: {samples_jsonl: arith/samples.jsonl, few_shot_jsonl: arith/few.jsonl, num_few_shot: 1, max_tokens: 9, seed: 3}
"""
CLASSIFY: Final = """
qa.v1:
  class: evals.elsuite.modelgraded.classify:ModelBasedClassify
  args: {samples_jsonl: arith/samples.jsonl, eval_type: cot_classify, modelgraded_spec: closed, multicomp_n: 2}
"""
SPEC: Final = """
closed:
  prompt: |-
    [Q]: {input} [A]: {completion} [C]: {criteria} {{x}}
  choice_strings: "12"
  choice_scores: from_strings
  input_outputs: {input: completion}
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Return the folder of a registry with data."""
    for name in ("evals", "data/arith", "modelgraded"):
        (tmp_path / name).mkdir(parents=True)
    chat = [{"role": "system", "content": "Add"}, {"role": "user", "content": "1+1"}]
    lines = [{"input": chat, "ideal": ["2", "two"], "criteria": "c"}, {"input": "2+2", "ideal": "4"}]
    (tmp_path / "data/arith/samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shots = [{"sample": [{"role": "system", "name": "example_user", "content": f"{n}+0"}]} for n in (1, 2)]
    (tmp_path / "data/arith/few.jsonl").write_text("".join(json.dumps(line) + "\n" for line in shots))
    (tmp_path / "modelgraded/closed.yaml").write_text(SPEC)
    return tmp_path


def made(registry: Path, text: str, name: str = "job") -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Return the job that is made from a registry's file, its rows, and the notes."""
    (registry / "evals" / "e.yaml").write_text(text)
    count, notes = convert([str(registry / "evals/e.yaml")], registry / f"{name}.toml", Conversion("openai-evals"))
    job = tomllib.loads((registry / f"{name}.toml").read_text())
    make_job({key: value for key, value in job.items() if key not in ("input", "score")})
    rows = [json.loads(line) for line in (registry / f"{name}.data.jsonl").read_text().splitlines()]
    assert count == len(rows)
    return job, rows, notes.lines()


def test_an_eval_that_matches(registry: Path) -> None:
    """Samples become conversations with the examples before the last message, and the class a scorer."""
    job, rows, notes = made(registry, MATCH)
    assert job == {
        "input": "job.data.jsonl",
        "api": "chat",
        "messages": "messages",
        "max_completion_tokens": 9,
        "score": {"scorer": ["starts-with:case=keep"], "target": "target"},
    }
    example = {"role": "system", "name": "example_user", "content": "1+0"}
    assert [row["messages"] for row in rows] == [
        [{"role": "system", "content": "Add"}, example, {"role": "user", "content": "1+1"}],
        [example, {"role": "user", "content": "2+2"}],
    ]
    assert [(row["target"], row.get("criteria")) for row in rows] == [(["2", "two"], "c"), ("4", None)]
    assert notes[0] == "an eval names no model: add model = ... to the job, or run it with --model NAME"
    assert "not carried over: args.seed = 3 (1 row)" in notes
    assert '# description of arith: "Sums"' in (registry / "job.toml").read_text()


def test_an_eval_that_a_model_grades(registry: Path) -> None:
    """The spec is found in the registry, its scores become 0 to 1, and its names those of a rubric."""
    job, rows, notes = made(registry, CLASSIFY)
    assert job["score"]["scorer"] == ["closed=model-graded:grader=job.closed.toml"]
    grader = load_grader(registry / "job.closed.toml", {})
    assert grader.rubric.startswith('[Q]: {{ question }} [A]: {{ response }} [C]: {{ criteria }} {{ "{" }}x{{ "}" }}')
    assert grader.reader.choices == {"1": 0.0, "2": 1.0}
    assert rows[0]["question"] == "system: Add\nuser: 1+1"
    assert set(notes) >= {
        "model-graded spec 'closed': the scores from 1 to 2 become 0 to 1",
        "the grader has no model: add model = ... to job.closed.toml",
        "not carried over: args.multicomp_n = 2 (1 row)",
        "not carried over: modelgraded_spec closed: input_outputs (1 row)",
    }
    (registry / "modelgraded/closed.yaml").write_text(SPEC.replace("choice_scores: from_strings", ""))
    job, _, notes = made(registry, CLASSIFY)
    assert "score" not in job
    assert (
        "model-graded spec 'closed' has no choice_scores, so the job has no scorer: add choice_scores from 0 to 1"
        in notes
    )


@pytest.mark.parametrize(
    ("name", "answer", "target", "value"),
    [
        ("FuzzyMatch", "The cat!", "a Cat sat", 1.0),
        ("FuzzyMatch", "dog", ["x", "the dog."], 1.0),
        ("FuzzyMatch", "the", "cat", 0.0),
        ("FuzzyMatch", "dog", "cat", 0.0),
        ("JsonMatch", '{"a": 1}', ['{"a":2}', '{"a":1}'], 1.0),
        ("JsonMatch", "no", "no", 0.0),
        ("JsonValidator", "[1]", None, 1.0),
        ("JsonValidator", "no", None, 0.0),
    ],
)
def test_classes_that_no_scorer_makes_are_functions(
    registry: Path, name: str, answer: str, target: Any, value: float
) -> None:
    """Each gives what the class gives."""
    job, *_ = made(registry, MATCH.replace("basic.match:Match", f"basic.x:{name}"))
    [spec] = job["score"]["scorer"]
    kind = spec.partition("=")[0]
    assert spec == f"{kind}=python:job_scorer.py:{kind}"
    scorer = FunctionScorer.load(f"{registry}/job_scorer.py:{kind}")
    assert scorer.score(Sample(answer, target, {})).value == value


def test_a_class_without_a_counterpart_is_named(registry: Path) -> None:
    """The job has the data and no scorer; one of several evals is chosen by the name of the job file."""
    text = (
        MATCH + "other:\n  class: evals.elsuite.make_me_say:MakeMeSay\n  args: {samples_jsonl: arith/samples.jsonl}\n"
    )
    job, rows, notes = made(registry, text, "other")
    assert ("score" in job, len(rows)) == (False, 2)
    assert any("the class MakeMeSay has no counterpart, so the job has no scorer" in note for note in notes)
    assert made(registry, text, "arith")[0]["score"]["scorer"] == ["starts-with:case=keep"]
    with pytest.raises(InputError, match=r"has 2 evals; name the job file after one: arith, arith\.dev\.v0, other"):
        made(registry, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MATCH.replace("arith/samples", "arith/gone"), r"e\.yaml: arith/gone\.jsonl: no such file next to the eval, or in .*data"),
        (MATCH.replace("samples_jsonl: arith/samples.jsonl,", ""), "the eval has no samples_jsonl"),
        (CLASSIFY.replace("spec: closed", "spec: gone"), r"the model-graded spec 'gone' is not in .*gone\.yaml; name its file too"),
        (SPEC, "has no eval with a class"),
    ],
)  # fmt: skip
def test_what_makes_no_job(registry: Path, text: str, message: str) -> None:
    """It is refused in one line."""
    with pytest.raises(InputError, match=message):
        made(registry, text)
