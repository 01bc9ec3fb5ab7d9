"""First commands of people who do not know batchrun: one message that says what to do, and exit code 2."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.command import batchrun

FILES: dict[str, bytes] = {
    "q.csv": b"id,Full question,note\n1,What is 2+3?,x\n2,What is 4*5?,y\n",
    "outputs/q.csv": b"id,response\n1,5\n",
    "old.csv": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "Workbook".encode("utf-16-le"),
    "book.xlsx": b"PK\x03\x04",
    "packed.csv": b"\x1f\x8b\x08\x00",
    "arrow.csv": b"PAR1",
    "paper.csv": b"%PDF-1.7",
    "twice.csv": b"1,1\n2,2\n",
    "latin.csv": "question\nGrüße\n".encode("cp1252"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ("run qq.csv", "no such file; did you mean q.csv?"),
        ("run zebra.csv", "no such file in "),
        ("run nowhere/q.csv", "no such file; its folder does not exist or cannot be read"),
        ("run old.csv", "is an Excel workbook of the old format (.xls, Excel 97); save it as .xlsx"),
        ("run book.xlsx", "is a damaged compressed file"),
        ("run packed.csv", "is a damaged compressed file"),
        ("run arrow.csv", "is not a Parquet file or is damaged"),
        ("run paper.csv", "is a PDF document, not a table; export its table as CSV or Excel"),
        ("run twice.csv", "rename one, or add --no-header if this line is a row"),
        ("run latin.csv", "save it as UTF-8, or choose what reads right: --encoding cp1252 reads 'Grüße'"),
        ("run q.csv --prompt {{question}}", "did you mean {{ row['Full question'] }}?"),
        ("run q.csv --prompt {{notes}}", "did you mean {{ note }}?"),
        ("run q.csv --prompt {note}", "write {{ note }} instead of {note}"),
        ("run q.csv --prompt {{note}} --key idd", "did you mean 'id'?"),
        ("run q.csv --prompt {{note}} -o answers", "no file extension; expected .csv"),
        ("run q.csv --prompt {{note}} -o answers", "give it one, such as answers.csv"),
        ("run q.csv --api-key sk-1", "Set the environment variable OPENAI_API_KEY"),
        ("run q.csv --max-tokens 5", "Use --max-completion-tokens N."),
        ("run q.csv --resume", "Run the same command again: it resumes."),
        ("run --input q.csv", "Give the table as the argument: batchrun run TABLE."),
        ("q.csv", "To run a table or a job file: batchrun run q.csv"),
        ("help", "Use batchrun --help"),
        ("runn q.csv", "Did you mean 'run'?"),
        ("status q.csv", "no batch has written this output"),
        ("score q.csv --scorer exact --target note", "did you mean outputs/q.csv?"),
        ("init q.csv -o outputs", "ends with .toml"),
    ],
)
def test_a_first_command(folder: Path, arguments: str, remedy: str) -> None:
    """The message names the problem and the next step, without a traceback."""
    done = batchrun(folder, *arguments.split())
    assert done.returncode == 2
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert "sk-1" not in done.stderr


def test_lines_of_a_text_file_can_be_run(folder: Path) -> None:
    """A text file with one prompt in each line is a table, even if a prompt contains commas."""
    (folder / "prompts.txt").write_bytes(b"What is 2+3, please?\nWhat is 4*5?\n")
    done = batchrun(folder, "run", "prompts.txt", "--quiet")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"\d+ [+*] \d+ = \d+", (folder / "outputs/prompts.csv").read_text()) == [
        "2 + 3 = 5",
        "4 * 5 = 20",
    ]


def test_every_option_that_is_named_instead_exists() -> None:
    """The options that people are sent to are options of `run`."""
    from batchrun.cli import cli
    from batchrun.cli.options import _INSTEAD

    flags = {flag for parameter in cli.commands["run"].params for flag in parameter.opts}
    named = {flag for remedy in _INSTEAD.values() for flag in re.findall(r"--[a-z-]+", remedy)}
    assert named <= flags
    assert not flags & set(_INSTEAD)
