"""A template that is the same for every row is a mistake, unless the user confirms it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import batchrun
from batchrun.errors import InputError
from tests.support.command import batchrun as command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "".join(f"{n},What is {n} + 2?,thread_{n},file.txt\n" for n in (1, 2))
    (tmp_path / "q.csv").write_text(f"id,question,thread,file\n{rows}", encoding="utf-8")
    (tmp_path / "file.txt").write_text("some text", encoding="utf-8")
    (tmp_path / "s.toml").write_text('[default]\nreply = "4"\n', encoding="utf-8")
    return tmp_path


CONSTANT = [
    ["--prompt", "Answer: {question}"],
    ["--prompt", "Tell me a joke."],
    ["--prompt", "{% if true %}a{% endif %}"],
    ["--prompt", "{% for n in range(3) %}{{ n }}{% endfor %}"],
    ["--prompt", "One: {question}", "--prompt", "Two: {{ responses[0] }}"],
    ["--prompt", "Tell me a joke.", "--key", "id"],
    ["--prompt", "Tell me a joke.", "--epochs", "3"],
    ["--prompt", "Tell me a joke.", "--model", "m", "--model", "n", "--script", "s.toml"],
    ["--prompt", "{{ axis_model }}", "--model", "m", "--model", "n", "--script", "s.toml"],
]


@pytest.mark.parametrize("options", CONSTANT, ids=" ".join)
def test_a_constant_template_is_refused(folder: Path, options: list[str]) -> None:
    """Whatever else differs, one line reports that every row would send the same, in each command."""
    for more in ([], ["--dry-run"], ["--pilot", "1"], ["--accept-changes"]):
        done = command(folder, "run", "q.csv", "-o", "o.csv", *options, *more)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "every row would send the same text" in done.stderr
        assert "--constant-prompt" in done.stderr
    assert not (folder / "o.csv.journal").exists()
    done = command(folder, "run", "q.csv", "-o", "o.csv", *options, "--constant-prompt", "--json")
    assert done.returncode == 0, done.stderr
    assert done.facts()["rows"] >= 2


def test_the_hint_repairs_a_placeholder(folder: Path) -> None:
    """A placeholder of another tool is shown in the right spelling."""
    done = command(folder, "run", "q.csv", "--prompt", "Answer: {question}")
    assert "write {{ question }} instead of {question}" in done.stderr


@pytest.mark.parametrize(
    "prompt", ["{# {{ question }} #}a", "{% raw %}{{question}}{% endraw %}", "{% set question = 1 %}{{ question }}"]
)
def test_the_hint_never_repeats_the_template(folder: Path, prompt: str) -> None:
    """A column in a comment, in raw text or hidden by a variable of its name is not suggested in the spelling that is
    there."""
    done = command(folder, "run", "q.csv", "--prompt", prompt)
    assert (done.returncode, "instead of" in done.stderr) == (2, False)
    assert "is in a comment or in raw text, or a variable of that name is set before it" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--prompt", "{{ question }}"],
        ["--prompt", "{{ row.question }}"],
        ["--prompt", "{{ row['question'] }}"],
        ["--prompt", "{{ row }}"],
        ["--prompt", "{% for name in row %}{{ name }}{% endfor %}"],
        ["--prompt", "{% if question %}yes{% else %}no{% endif %}"],
        ["--prompt", "{% set x = question %}{{ x }}"],
        ["--prompt", "Hello.", "--prompt", "{{ question }}"],
        ["--prompt", "Tell me about it.", "--attach", "file"],
        ["--prompt", "Tell me a joke.", "--instructions", "Answer {{ question }}"],
        [],
    ],
    ids=" ".join,
)
def test_what_differs_is_let_through(folder: Path, options: list[str]) -> None:
    """Any template that names a column, or attachments, makes rows differ; no flag is needed."""
    done = command(folder, "run", "q.csv", "-o", "o.csv", "--script", "s.toml", *options)
    assert done.returncode == 0, done.stderr


def test_a_thread_of_each_row_is_a_difference(folder: Path) -> None:
    """If each row continues its own thread, the same question differs."""
    done = command(folder, "run", "q.csv", "--prompt", "Go on.", "--thread-column", "thread", "--dry-run")
    assert done.returncode == 0, done.stderr


def test_a_condition_is_a_difference(folder: Path) -> None:
    """A turn that some rows skip, by a column, differs between rows."""
    turns = '[[turns]]\nprompt = "Hello."\n[[turns]]\nprompt = "More?"\nwhen = "id == \'1\'"\n'
    (folder / "job.toml").write_text(f'input = "q.csv"\nscript = "s.toml"\n{turns}', encoding="utf-8")
    done = command(folder, "run", "job.toml")
    assert done.returncode == 0, done.stderr


def test_one_row_may_be_asked_anything(folder: Path) -> None:
    """A table of one row has nothing to differ from, however many combinations it has."""
    (folder / "q.csv").write_text("id,question\n1,x\n", encoding="utf-8")
    done = command(folder, "run", "q.csv", "--prompt", "What is 1 + 1?", "--epochs", "2")
    assert done.returncode == 0, done.stderr


def test_one_constant_prompt_of_several_is_named(folder: Path) -> None:
    """In a matrix of prompts each one has to differ between rows."""
    (folder / "job.toml").write_text(
        'input = "q.csv"\nscript = "s.toml"\n[matrix]\nprompt = ["{{ question }}", "<question>"]\n', encoding="utf-8"
    )
    for words in (["run", "job.toml"], ["check", "job.toml"]):
        done = command(folder, *words)
        assert (done.returncode, "write {{ question }} instead of <question>" in done.stderr) == (2, True)
    job = (folder / "job.toml").read_text(encoding="utf-8")
    (folder / "job.toml").write_text(f"constant_prompt = true\n{job}", encoding="utf-8")
    for words in (["check", "job.toml"], ["run", "job.toml"]):
        done = command(folder, *words)
        assert done.returncode == 0, done.stderr


def test_python_refuses_it_too(folder: Path) -> None:
    """Python refuses it too, for a path and a frame, with the same remedy."""
    frame = pd.DataFrame({"question": ["1 + 1", "2 + 2"]})
    for table in (folder / "q.csv", frame):
        with pytest.raises(InputError, match=r"write \{\{ question \}\} instead of \$question"):
            batchrun.run(table, prompt="$question", output=folder / "o.csv")
    found = batchrun.run(frame, prompt="What is 1 + 1?", constant_prompt=True)
    assert list(found["response"]) == ["1 + 1 = 2.", "1 + 1 = 2."]
