"""Configurations of promptfoo as job files."""

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
from batchrun.scoring.scorers.registry import make_scorers

CONFIG: Final[dict[str, Any]] = {
    "description": "My eval",
    "prompts": ["Say {{ vars.topic }} as {{response}}", "Tell {{topic}}"],
    "providers": [
        "openai:gpt-a",
        {"openai:chat:gpt-b": {"config": {}}},
        {"id": "openai:gpt-c", "config": {"temperature": 0.5, "apiKey": "sk-secret"}},
        "anthropic:messages:x",
    ],
    "evaluateOptions": {"repeat": 2, "maxConcurrency": 5, "cache": False},
    "defaultTest": {
        "options": {"provider": {"id": "openai:gpt-judge", "config": {"max_tokens": 9}}},
        "assert": [{"type": "contains", "value": "{{ expected }}"}],
    },
    "tests": [
        {
            "vars": {"topic": ["a", "b"], "expected": "A", "response": "r"},
            "assert": [
                {"type": "similar", "value": "hi", "threshold": 0.8, "provider": "openai:embedding:small"},
                {"type": "rouge-n", "value": "hi {{topic}}"},
                {"type": "bleu", "value": "hi"},
                {"type": "levenshtein", "value": "hi", "threshold": 3},
                {"type": "factuality", "value": "the sky"},
                {"type": "meteor", "value": "m"},
            ],
        },
        {
            "vars": {"topic": "c", "expected": "C", "response": "r"},
            "assert": [
                {"type": "not-contains", "value": "bad", "metric": "kind"},
                {"type": "regex", "value": r"^\d+$"},
                {"type": "equals", "value": {"a": 1}},
                {"type": "is-json"},
                {"type": "contains-all", "value": "x, y"},
                {"type": "contains", "value": "second"},
            ],
        },
    ],
}


def made(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Return the job that is made from a configuration, its rows, and the notes."""
    (folder / "config.json").write_text(json.dumps(config))
    count, notes = convert([str(folder / "config.json")], folder / "job.toml", Conversion("promptfoo"))
    rows = [json.loads(line) for line in (folder / "job.data.jsonl").read_text().splitlines()]
    assert count == len(rows)
    job = tomllib.loads((folder / "job.toml").read_text())
    make_job({key: value for key, value in job.items() if key not in ("input", "score")})
    if "score" in job:
        make_scorers([spec for spec in job["score"]["scorer"] if "=python:" not in spec])
    return job, rows, notes.lines()


def test_a_configuration_becomes_a_job(tmp_path: Path) -> None:
    """Prompts, models, options, tests and assertions have their counterparts; the others are named."""
    job, rows, notes = made(tmp_path, CONFIG)
    scorers = job.pop("score")["scorer"]
    assert job == {
        "input": "job.data.jsonl",
        "api": "chat",
        "epochs": 2,
        "concurrency": 5,
        "matrix": {"prompt": ["Say {{ topic }} as {{var_response}}", "Tell {{topic}}"], "model": ["gpt-a", "gpt-b"]},
    }
    assert scorers == [
        "similar=cosine:model=small,threshold=0.8,target=expected_similar",
        "rouge_n=rouge1:threshold=0.75,target=expected_rouge_n",
        "bleu=bleu:threshold=0.5,target=expected_similar",
        "levenshtein=fuzzy:edits=3,target=expected_similar",
        "factuality=model-graded:grader=job.factuality.toml,target=expected_factuality",
        "contains=includes:case=keep,target=expected_contains",
        "kind=python:job_checks.py:check_kind",
        "regex=python:job_checks.py:check_regex",
        "equals=python:job_checks.py:check_equals",
        "is_json=python:job_checks.py:check_is_json",
        "contains_all=contains-all:case=keep,target=expected_contains_all",
        "contains_2=includes:case=keep,target=expected_contains_2",
    ]
    columns = ("topic", "expected", "var_response", "expected_rouge_n", "expected_kind", "expected_contains")
    assert [[row[column] for column in columns] for row in rows] == [
        ["a", "A", "r", "hi a", None, "A"],
        ["b", "A", "r", "hi b", None, "A"],
        ["c", "C", "r", None, "bad", "second"],
    ]
    assert (rows[2]["expected_contains_all"], rows[2]["expected_equals"]) == (["x", "y"], {"a": 1})
    text = "".join(path.read_text() for path in tmp_path.glob("job*"))
    assert "sk-secret" not in text + "".join(notes)
    assert set(notes) >= {
        "provider 'anthropic:messages:x' has no counterpart: a job asks servers of OpenAI's protocols",
        "provider 'openai:gpt-c' is not in the job, because its temperature differs from that of 'openai:gpt-a': make a "
        "second job with it",
        "provider's apiKey: not written to the job; set the environment variable OPENAI_API_KEY",
        "the variable 'response' is the column 'var_response' (3 rows)",
        "not carried over: assert: meteor = 'm' (1 row)",
        "not carried over: evaluateOptions.cache = False (1 row)",
    }
    grader = load_grader(tmp_path / "job.factuality.toml", {})
    assert (grader.job.model, grader.job.max_completion_tokens, grader.reader.choices["D"]) == ("gpt-judge", 9, 0.0)


def test_checks_that_no_scorer_makes_are_functions(tmp_path: Path) -> None:
    """Each gives what promptfoo gives, and judges the rows that have it only."""
    made(tmp_path, CONFIG)
    for name, value, answer, score in (
        ("kind", "bad", "a bad one", 0.0),
        ("kind", "bad", "good", 1.0),
        ("kind", None, "good", None),
        ("regex", r"^\d+$", "12", 1.0),
        ("regex", r"^\d+$", "x", 0.0),
        ("equals", {"a": 1}, '{"a": 1}', 1.0),
        ("equals", '{"a": 1}', '{"a": 1, "b": 2}', 0.0),
        ("is_json", True, "[1]", 1.0),
        ("is_json", True, "no", 0.0),
    ):
        scorer = FunctionScorer.load(f"{tmp_path}/job_checks.py:check_{name}")
        assert scorer.score(Sample(answer, None, {f"expected_{name}": value})).value == score


def test_one_prompt_of_messages(tmp_path: Path) -> None:
    """A system message and one of the user are instructions and prompt; a check of all rows needs no function."""
    prompt = [{"role": "system", "content": "In {{lang}}"}, {"role": "user", "content": "{{q}}"}]
    (tmp_path / "p.json").write_text(json.dumps(prompt))
    checks = [
        {"type": "regex", "value": "a,b"},
        {"type": "llm-rubric", "value": "nice"},
        {"type": "equals", "value": "{{want}}"},
    ]
    test = {"vars": {"q": "1+1", "lang": "de", "want": "2"}, "assert": checks}
    config = {"prompts": ["file://p.json"], "providers": "ollama:chat:llama", "tests": [test, test]}
    job, rows, notes = made(tmp_path, config)
    assert (job["instructions"], job["prompt"], job["model"]) == ("In {{lang}}", "{{q}}", "llama")
    assert job["base_url"] == "http://127.0.0.1:11434/v1"
    assert job["score"]["scorer"] == [
        "regex=regex:a,b",
        "llm_rubric=model-graded:grader=job.llm_rubric.toml,target=expected_llm_rubric",
        "equals=exact:target=want",
    ]
    assert len(rows) == 2
    assert "llm-rubric: no provider is named, and promptfoo's default is not taken over; add model = ... to the grader's file" in notes  # fmt: skip


def test_conversations_are_rendered_into_a_column(tmp_path: Path) -> None:
    """Prompts with answers in them, and several with instructions, give a row for each test and prompt."""
    shots = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "{{q}}"},
    ]
    config = {"prompts": [{"label": "shots", "raw": json.dumps(shots)}, "Say {{q}}"], "providers": ["python:x.py"],
              "tests": [{"vars": {"q": "2"}}, {"vars": {"q": "3"}}]}  # fmt: skip
    job, rows, notes = made(tmp_path, config)
    assert (job["messages"], "prompt" in job, "model" in job) == ("messages", False, False)
    assert [(row["q"], row["prompt_label"], row["messages"][-1]["content"]) for row in rows] == [
        ("2", "shots", "2"),
        ("2", "Say {{q}}", "Say 2"),
        ("3", "shots", "3"),
        ("3", "Say {{q}}", "Say 3"),
    ]
    assert rows[0]["messages"][1] == {"role": "assistant", "content": "one"}
    assert notes[:2] == [
        "provider 'python:x.py' has no counterpart: a job asks servers of OpenAI's protocols",
        "no provider is taken over: add model = ... to the job, or run it with --model NAME",
    ]


def test_files_of_prompts(tmp_path: Path) -> None:
    """A text is split at lines of ---, a pattern names several files, and code is named."""
    (tmp_path / "a.txt").write_text("one {{x}}\n---\ntwo {{x}}\n")
    (tmp_path / "b.txt").write_text("three {{ other }}\n")
    config = {
        "prompts": ["file://*.txt", "file://p.py:make"],
        "providers": ["openai:m"],
        "tests": [{"vars": {"x": "1"}}],
    }
    job, _, notes = made(tmp_path, config)
    assert job["matrix"]["prompt"] == ["one {{x}}", "two {{x}}", "three {{ other }}"]
    assert "prompt 'file://p.py:make' has no counterpart: it is made by code, or is a file of another kind" in notes
    assert any("uses 'other', which no test has" in note for note in notes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vars": {"a": 1}}, "expected a configuration of promptfoo with prompts, providers and tests"),
        ({"prompts": ["x"], "providers": ["openai:m"]}, "has no tests that a job can ask"),
        ({"results": {"results": []}, "config": {}}, "these are results; name a table as the output"),
        ({"prompts": ["file://gone.txt"], "tests": [{}]}, r"gone\.txt: no such file"),
    ],
)
def test_what_makes_no_job(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """It is refused in one line, and nothing is written."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        convert([str(tmp_path / "config.json")], tmp_path / "job.toml", Conversion("promptfoo"))
    assert [each.name for each in tmp_path.iterdir()] == ["config.json"]
