"""Graders: their files, and the errors in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.errors import InputError
from batchrun.job.fingerprint import settings_of
from batchrun.scoring import Sample
from batchrun.scoring.grading.asking import verdict_table
from batchrun.scoring.grading.grader import Grader, load_grader
from batchrun.scoring.grading.ready_rubrics import DEFAULT_RUBRIC, PARTIAL, READY_RUBRICS
from batchrun.scoring.scorers.registry import make_scorers


def loaded(folder: Path, text: str, name: str = "strict.toml") -> Grader:
    (folder / name).write_text(text, encoding="utf-8")
    return load_grader(folder / name, {"HOST": "h"})


def test_a_grader_is_a_job_with_a_rubric(tmp_path: Path) -> None:
    """It has the keys of a job; `prompt` is the rubric, and the file's name is its name."""
    (tmp_path / "r.txt").write_text("Judge {{ response }}", encoding="utf-8")
    found = loaded(tmp_path, 'model = "m"\nprompt = "@r.txt"\nrpm = 5\nbase_url = "http://${HOST}/v1"\n')
    assert (found.name, found.rubric, found.votes, found.question) == ("strict", "Judge {{ response }}", 1, None)
    assert (found.job.model, found.job.rpm, found.job.base_url) == ("m", 5, "http://h/v1")
    assert "prompt" not in settings_of(found.job)


def test_failed_verdicts_are_retried_by_default(tmp_path: Path) -> None:
    """A grader retries failed verdicts, unless its file turns that off."""
    assert loaded(tmp_path, 'model = "m"\n').job.retry_failed
    assert not loaded(tmp_path, 'model = "m"\nretry_failed = false\n').job.retry_failed
    assert Grader.of_model("m", {}, "--grader-model m").job.retry_failed


def test_the_table_grader(tmp_path: Path) -> None:
    """Choices, scale, pattern, votes, question and name are read from the table."""
    found = loaded(tmp_path, '[grader]\nname = "a/b"\npartial = true\nvotes = 3\nquestion = "q"\n')
    assert (found.name, found.votes, found.question, found.reader.choices) == ("a-b", 3, "q", PARTIAL)
    assert found.rubric == DEFAULT_RUBRIC
    reader = loaded(tmp_path, "prompt = \"x\"\n[grader]\nscale = [1, 5]\npattern = 'is (.)'\n").reader
    assert reader.scale == (1.0, 5.0)
    assert reader.read("is 3 is 5").value == 1


def test_a_model_shares_the_service_of_a_batch() -> None:
    """A grader given by a model's name takes the batch's options for the service, and none that decide answers."""
    options = {"base_url": "http://h/v1", "header": ("k=v",), "temperature": 1.5, "model": "other", "prompt": "x"}
    found = Grader.of_model("meta/llama:8b", options, "--grader-model meta/llama:8b")
    assert (found.name, found.job.model, found.job.base_url) == ("meta-llama-8b", "meta/llama:8b", "http://h/v1")
    assert (found.job.header, found.job.temperature, found.job.prompt) == ({"k": "v"}, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('modle = "m"', "unknown key 'modle'; did you mean 'model'?"),
        ("[score]\nscorer = 'x'", "unknown table [score]"),
        ("grader = 3", "grader: expected a table [grader], got 3"),
        ("[grader]\nvote = 3", "grader: unknown key 'vote'; did you mean 'votes'?"),
        ("[grader]\nvotes = 0", "grader: votes: expected a whole number from 1 to 100, got 0"),
        ("[grader]\nvotes = true", "grader: votes: expected a whole number from 1 to 100, got True"),
        ("[grader]\npartial = 1", "grader: partial: expected true or false, got 1"),
        ("[grader]\nscale = [5, 1]", "grader: scale: expected the lowest and the highest grade, such as [1, 10], got"),
        ("[grader]\nchoices = { C = 2 }", "grader: choices: expected grades with values from 0 to 1"),
        (
            "[grader]\nchoices = { C = 1, c = 0 }",
            "grader: choices: expected grades that differ by more than upper and lower case, got",
        ),
        ("[grader]\npattern = '('", "grader: pattern: is not a regular expression"),
        ("[grader]\npattern = 'x'", "grader: pattern: expected a pattern with one group, which holds the grade, got"),
        ("[grader]\nname = ''", "grader: name: expected text"),
        ("[grader]\nscale = [1, 5]\npartial = true", "choices, partial and scale exclude each other; use one of them"),
        (
            "[grader]\nscale = [1, 5]",
            "the rubric correctness explains the grades C, I only; use these, or add prompt = ",
        ),
        ("[grader]\nrubric = 'x'", "grader: rubric: expected one of correctness, factuality, closed-qa, faithfulness"),
        ("prompt = 'x'\n[grader]\nrubric = 'factuality'", "grader: rubric and prompt exclude each other"),
        (
            "[grader]\nrubric = 'factuality'\npartial = true",
            "grader: partial: the rubric factuality has its own grades; remove the line",
        ),
        ("[grader]\nrubric = 'closed-qa'\nscale = [1, 5]", "the rubric closed-qa explains the grades Y, N only"),
        ('input = "a.csv"', "input: a grader grades the table that is scored; remove the line"),
        ('key = "id"', "key: a grader grades the table that is scored"),
        ("epochs = 3", "epochs: use votes in the table [grader]; remove the line"),
        ("[[turns]]\nprompt = 'x'", "turns: a grader is asked once per answer: put everything into the rubric"),
        ('prompt = "@gone.txt"', "gone.txt: cannot be read: No such file"),
    ],
)
def test_a_wrong_file_gets_one_line(tmp_path: Path, text: str, expected: str) -> None:
    """The message names the file, the key and the expected value."""
    with pytest.raises(InputError) as caught:
        loaded(tmp_path, f"{text}\n")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_verdicts_are_next_to_the_table() -> None:
    """Their name begins with the table's, so that two tables never share them."""
    assert verdict_table("out/a.csv", "strict") == Path("out/a.csv.grader-strict.csv")


def test_graders_are_not_asked_by_a_scorer_alone() -> None:
    """A model-graded scorer without verdicts refuses to score."""
    [named] = make_scorers(["tone=model-graded:grader=a.toml+b.toml"])
    with pytest.raises(InputError, match="works in batchrun score"):
        named.scorer.score(Sample("a", None, {}))


def test_a_ready_rubric_brings_its_grades(tmp_path: Path) -> None:
    """A grader's file and a model's name select a ready rubric; the values of its grades may differ."""
    found = loaded(tmp_path, '[grader]\nrubric = "factuality"\n')
    assert (found.rubric, found.reader.choices) == (
        READY_RUBRICS["factuality"].text,
        {**READY_RUBRICS["factuality"].choices},
    )
    changed = loaded(tmp_path, '[grader]\nrubric = "closed-qa"\nchoices = { Y = 0.9, N = 0.1 }\n')
    assert changed.reader.read("GRADE: y").value == 0.9
    by_name = Grader.of_model("a/m", {}, "--grader-model a/m", "faithfulness")
    assert (by_name.name, by_name.reader.choices) == ("a-m-faithfulness", {"Y": 1.0, "N": 0.0})
