"""promptfoo's configurations, results and kinds of assertions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import InputError
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.convert import convert
from batchrun.scoring.formats.importers.promptfoo_checks import parsed_expectation


def imported(folder: Path, name: str, text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a file, and the notes about it."""
    (folder / name).write_text(text, encoding="utf-8")
    _, notes = convert([str(folder / name)], folder / "out.jsonl", Conversion("promptfoo"))
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()], notes.lines()


def test_a_configuration(tmp_path: Path) -> None:
    """Files are relative to the configuration, defaults are applied, lists are expanded; YAML's `no` is a text."""
    (tmp_path / "doc.txt").write_text("text")
    (tmp_path / "more.csv").write_text("topic,__expected\nz,contains:q\n")
    rows, notes = imported(
        tmp_path,
        "promptfooconfig.yaml",
        "prompts: ['Say {{topic}}']\n"
        "defaultTest: {assert: [{type: icontains, value: hello}]}\n"
        "tests:\n"
        "  - vars: {topic: no, when: 2024-01-01, doc: file://doc.txt}\n"
        "    assert: [{type: equals, value: yes}]\n"
        "  - file://more.csv\n"
        "  - vars: {topic: [a, b]}\n",
    )
    assert [(row["topic"], row["check"], row["target"], row["check_2"]) for row in rows] == [
        ("no", "exact", "yes", "includes"),
        ("z", "includes:case=keep", "q", "includes"),
        ("a", "includes", "hello", None),
        ("b", "includes", "hello", None),
    ]
    assert (rows[0]["when"], rows[0]["doc"]) == ("2024-01-01", "text")
    assert notes == ["not carried over: prompts (1 row)"]


def test_results_as_csv(tmp_path: Path) -> None:
    """Repeated columns give one row for each prompt and provider, with the status of its answer."""
    columns = "Status,Score,Named Scores,Grader Reason,Comment"
    rows, _ = imported(
        tmp_path, "r.csv", f"topic,[a] P,{columns},[b] P,{columns}\nx,A,PASS,1.00,,fine,,boom,ERROR,0.00,,no,\n"
    )
    assert [(row["provider"], row["response"], row["status"], row["score_promptfoo_reason"]) for row in rows] == [
        ("a", "A", "completed", "fine"),
        ("b", None, "failed", "no"),
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("word-count:5", "word-count"),
        ("f-score:x", "f-score"),
        ("trajectory:foo", "trajectory"),
        ("ruby:output", "ruby"),
        ("not-similar(0.9):x", "not-similar"),
        ("new-kind-of-2030: x", "new-kind-of-2030"),
        ("grade: is nice", "llm-rubric"),
        ("Paris", "equals"),
        ("is-html", "is-html"),
        ("is-refusal", "is-refusal"),
        ("contains", "equals"),
        ("Note: a text", "equals"),
        ("note: a text", "equals"),
        ("https://example.com", "equals"),
        ("equals: llm-rubric: x", "equals"),
    ],
)
def test_an_unknown_kind_is_never_a_text(text: str, kind: str) -> None:
    """A cell that begins like an assertion has its kind, known or not; every other cell is a text."""
    assert parsed_expectation(text)["type"] == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", r"c\.yaml, line 2, column 1: is not valid YAML"),
        ("a: 1\na: 2\n", r"c\.yaml, line 2, column 1: is not valid YAML \(the key 'a' occurs twice\)"),
        ("a: &x [*x]\n", "is not valid YAML"),
        ("just text\n", "expected a mapping with keys"),
        ("tests: ['file://nope.csv']\nprompts: [x]\n", "nope.csv: no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """The message names the file, and the place if there is one."""
    with pytest.raises(InputError, match=message):
        imported(tmp_path, "c.yaml", text)
