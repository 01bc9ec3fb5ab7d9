"""A folder of parts through the commands, from the batch to its scores."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.support.command import batchrun as command


def test_a_folder_of_parts_is_a_table(tmp_path: Path) -> None:
    """A folder is asked, resumed with a new part, shown, exported and scored; only the new rows are sent."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for number, (key, question) in enumerate([("a", "What is 2 + 2?"), ("b", "What is 3 + 3?")]):
        pd.DataFrame({"id": [key], "question": [question], "n": [number]}).to_parquet(folder / f"{number}.parquet")
    first = command(tmp_path, "run", "in/", "--key", "id")
    assert first.returncode == 0, first.stderr
    assert "in/: 2 parts, from 0.parquet to 1.parquet" in first.stderr
    (folder / "2.parquet").write_bytes((folder / "0.parquet").read_bytes())
    refused = command(tmp_path, "run", "in/", "--key", "id")
    assert refused.returncode == 2
    assert "'a' is in row 0 (in 0.parquet) and in row 2 (in 2.parquet)" in refused.stderr
    pd.DataFrame({"id": ["c"], "question": ["What is 4 + 4?"], "n": [2]}).to_parquet(folder / "2.parquet")
    facts = command(tmp_path, "run", "in/", "--key", "id", "--json").facts()
    assert (facts["output"], facts["rows"], facts["finished_before"]) == ("outputs/in.parquet", 3, 2)
    assert "3 rows · 0 to send" in command(tmp_path, "run", "in/*.parquet", "--key", "id", "--dry-run").stdout
    found = pd.read_parquet(tmp_path / "outputs" / "in.parquet")
    assert list(found["response"]) == ["2 + 2 = 4.", "3 + 3 = 6.", "4 + 4 = 8."]
    assert list(found["n"]) == [0, 1, 2]
    shown = command(tmp_path, "show", "outputs/in.parquet", "c", "--json")
    assert json.loads(shown.stdout)["part"] == "2.parquet"
    assert command(tmp_path, "export", "outputs/in.parquet", "-o", "out/a.jsonl").returncode == 0
    (tmp_path / "out" / "b.jsonl").write_text('{"id": "z", "response": "4", "status": "completed"}\n', encoding="utf-8")
    scored = command(tmp_path, "score", "out/*.jsonl", "--scorer", "includes", "--target", "n", "--json")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["scores"][0]["rows"] == 4
    assert (tmp_path / "out.scored.jsonl").is_file()
    made = command(tmp_path, "convert", "out", "all.csv")
    assert made.returncode == 0, made.stderr
    assert len(pd.read_csv(tmp_path / "all.csv")) == 4


@pytest.mark.parametrize(
    "words",
    [
        "export outputs/q.csv -o x.csv/",
        "score outputs/q.csv --scorer includes --target t -o x.csv/",
        "convert q.csv x.csv/",
    ],
)
def test_a_command_that_writes_one_file_refuses_a_folder(tmp_path: Path, words: str) -> None:
    """A name that ends with a slash is not taken for that of a file."""
    (tmp_path / "q.csv").write_text("question,t\n1 + 1,2\n", encoding="utf-8")
    assert command(tmp_path, "run", "q.csv").returncode == 0
    refused = command(tmp_path, *words.split())
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "x.csv/ ends with /, and this command writes one file; remove the slash" in refused.stderr
    assert not (tmp_path / "x.csv").exists()
