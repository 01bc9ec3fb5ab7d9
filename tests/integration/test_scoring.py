"""`score`, `compare` and `convert` on the command line, and GSM8K from questions to bars."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.script import ScriptResponder
from tests.support.command import batchrun
from tests.support.rows import read_csv

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.csv"

HOW_PEOPLE_ANSWER = (
    "{n}",
    "Step 1: 3 * 4 = 12.\nStep 2: we are done.\n#### {n}",
    "Therefore, the answer is **${n:,}.00**.",
    r"Adding up gives $\boxed{{{n}}}$",
    "In the end, 7 of them cost {n:,} dollars",
    "It takes {n} hours.",
)
"""Ways to say a whole number, of which only the last number counts."""


def write(folder: Path, name: str, right: int, wrong: int, failed: int = 0) -> None:
    rows = ["1,completed"] * right + ["0,completed"] * wrong + [",failed"] * failed
    lines = "".join(f"{index},1,{'ab'[index % 2]},{row}\n" for index, row in enumerate(rows))
    (folder / name).write_text(f"id,truth,topic,response,status\n{lines}")


SCORE = ("--target", "truth", "--scorer", "numeric")


def test_what_score_prints(tmp_path: Path) -> None:
    """Figure, interval, counts, failed rows and groups are printed, and the scored table is next to its input."""
    write(tmp_path, "a.csv", 6, 2, 1)
    done = batchrun(tmp_path, "score", "a.csv", *SCORE, "--by", "topic")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "numeric  75.0 %  (40.9 % to 92.9 %)  of 8 rows",
        "  1 failed row is not counted (--failed-as wrong counts it as 0)",
        "  by topic:",
        "    a  75.0 %  (30.1 % to 95.4 %)  4 rows  1 failed",
        "    b  75.0 %  (30.1 % to 95.4 %)  4 rows",
    ]
    assert done.stderr == "written: a.scored.csv\n"
    assert [row["score_numeric"] for row in read_csv(tmp_path / "a.scored.csv")] == ["1.0"] * 6 + ["0.0"] * 2 + [""]
    wrong = batchrun(tmp_path, "score", "a.csv", *SCORE, "--failed-as", "wrong", "--json")
    assert json.loads(wrong.stdout)["scores"][0]["mean"] == pytest.approx(6 / 9)


def test_bars_are_exit_code_7_and_files_for_ci(tmp_path: Path) -> None:
    """A missed bar gives exit code 7, and the JUnit and Markdown files name it."""
    write(tmp_path, "base.csv", 9, 1)
    write(tmp_path, "a.csv", 8, 2)
    bars = ("--key", "id", "--fail-under", "0.8", "--no-worse-than", "base.csv", "--margin", "0.05")
    files = ("--junit", "j.xml", "--markdown", "m.md")
    done = batchrun(tmp_path, "score", "a.csv", *SCORE, *bars, *files)
    assert done.returncode == 7
    assert "passed  numeric: at least 0.8" in done.stdout
    assert "FAILED  numeric: no worse than base.csv by more than 0.05: −0.1000" in done.stdout
    suite = ElementTree.parse(tmp_path / "j.xml").find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "| ❌ | numeric: no worse than base.csv by more than 0.05 |" in (tmp_path / "m.md").read_text()
    assert batchrun(tmp_path, "score", "a.csv", *SCORE, "--fail-under", "0.8").returncode == 0


def test_compare_lists_the_flips(tmp_path: Path) -> None:
    """The JSON of a comparison contains the flipped rows, the test and the number of rows needed."""
    write(tmp_path, "a.csv", 6, 4)
    write(tmp_path, "b.csv", 9, 1)
    done = batchrun(tmp_path, "compare", "a.csv", "b.csv", "--key", "id", *SCORE, "--detect", "0.1", "--json")
    [found] = json.loads(done.stdout)["pairings"]
    assert (found["better"], found["worse"], found["test"], found["p_value"]) == (["6", "7", "8"], [], "mcnemar", 0.25)
    assert list(found["rows_needed"]) == ["0.1"]
    assert found["rows_needed"]["0.1"] == {"rows": 249, "low": 84, "high": 490}
    text = batchrun(tmp_path, "compare", "a.csv", "b.csv", "--key", "id", *SCORE).stdout
    assert "numeric: b.csv against a.csv, 10 pairs" in text


def test_a_bar_counts_the_rows_without_a_score(tmp_path: Path) -> None:
    """One right answer of twenty fails a bar with exit code 7 and the counts in its line, its JSON and its JUnit file,
    unless `--min-scored` allows it."""
    rows = "".join(f"{row},1,{'1,completed' if row == 0 else ',failed'}\n" for row in range(20))
    (tmp_path / "a.csv").write_text(f"id,truth,response,status\n{rows}")
    done = batchrun(tmp_path, "score", "a.csv", *SCORE, "--fail-under", "0.9", "--junit", "j.xml", "--json")
    assert done.returncode == 7
    counts = "1 of 20 rows scored (19 failed); --min-scored 0.95 is not reached"
    assert json.loads(done.stdout)["bars"][0]["found"].endswith(counts)
    assert counts in (tmp_path / "j.xml").read_text()
    assert batchrun(tmp_path, "score", "a.csv", *SCORE, "--fail-under", "0.9", "--min-scored", "0.05").returncode == 0
    refused = batchrun(tmp_path, "score", "a.csv", *SCORE, "--min-scored", "0.5")
    assert "--min-scored requires a bar: add --fail-under or --no-worse-than" in refused.stderr


def test_compare_with_groups_and_a_column_that_may_differ(tmp_path: Path) -> None:
    """`--by` breaks a difference down, and `--ignore` takes a column out of what the rows have to share."""
    for name, right in (("a", 4), ("b", 8)):
        rows = "".join(f"{row},{name}{row},{'xy'[row % 2]},1,{int(row < right)}\n" for row in range(8))
        (tmp_path / f"{name}.csv").write_text(f"id,wording,kind,truth,response\n{rows}")
    command = ("compare", "a.csv", "b.csv", "--key", "id", *SCORE, "--by", "kind", "--ignore", "wording")
    found = json.loads(batchrun(tmp_path, *command, "--json").stdout)
    assert found["warnings"] == []
    groups = found["pairings"][0]["groups"]["kind"]
    assert {label: (each["pairs"], each["better"]) for label, each in groups.items()} == {
        "x": (4, ["4", "6"]),
        "y": (4, ["5", "7"]),
    }


def test_compare_within_one_table(tmp_path: Path) -> None:
    """Rows of one output that differ in a column are compared with those of its first value, or of the baseline."""
    rows = "".join(f"{row},1,{model},{int(model == 'n' or row < 6)},completed\n" for row in range(10) for model in "mn")
    (tmp_path / "a.csv").write_text(f"id,truth,axis_model,response,status\n{rows}")
    done = batchrun(tmp_path, "compare", "a.csv", "--split", "model", "--key", "id", *SCORE)
    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == [
        "model (axis_model)  numeric  cost  median  95 %  tokens",
        "m                   60.0 %   –     –       –     –",
    ]
    assert "numeric: n against m, 10 pairs" in done.stdout
    other = batchrun(
        tmp_path, "compare", "a.csv", "--split", "model", "--baseline", "n", "--key", "id", *SCORE, "--json"
    )
    found = json.loads(other.stdout)
    assert (found["split"], found["pairings"][0]["worse"]) == ("axis_model", ["6", "7", "8", "9"])


def test_a_batch_of_models_and_epochs(tmp_path: Path) -> None:
    """The output of `run --epochs` with two models is scored and compared without options about its columns."""
    (tmp_path / "q.csv").write_text("id,question,truth\na,What is 2 + 3?,5\nb,What is 4 * 4?,16\nc,What is 9 - 2?,8\n")
    rules = ("2 [+] 3", "5"), ("4 [*] 4", "16"), ("9 - 2", "7")
    (tmp_path / "s.toml").write_text("".join(f'[[rule]]\npattern = "{what}"\nreply = "{n}"\n' for what, n in rules))
    models = ("--model", "m", "--model", "n", "--script", "s.toml")
    ran = batchrun(tmp_path, "run", "q.csv", *models, "--epochs", "2", "-o", "out.csv", "--quiet")
    assert ran.returncode == 0
    [figures] = json.loads(batchrun(tmp_path, "score", "out.csv", *SCORE, "--json").stdout)["scores"]
    assert (figures["n"], figures["clusters"], figures["mean"]) == (12, 3, pytest.approx(2 / 3))
    assert (figures["epochs"]["keys"], figures["epochs"]["most"]) == (6, 2)
    assert figures["epochs"]["pass_hat_k"]["2"]["mean"] == pytest.approx(2 / 3)
    done = batchrun(tmp_path, "compare", "out.csv", "--split", "model", "--key", "id", *SCORE, "--json")
    [pairing] = json.loads(done.stdout)["pairings"]
    assert (pairing["first"], pairing["second"], pairing["pairs"], pairing["p_value"]) == ("m", "n", 3, 1.0)


def test_convert_says_what_is_lost(tmp_path: Path) -> None:
    """Rows and losses are reported, and the result can be scored."""
    (tmp_path / "evals.jsonl").write_text('{"item": {"truth": "2"}, "sample": {"output_text": "2", "seed": 1}}\n')
    done = batchrun(tmp_path, "convert", "evals.jsonl", "t.csv", "--from", "openai-evals")
    assert done.stderr.splitlines() == ["not carried over: sample.seed = 1 (1 row)", "1 row written: t.csv"]
    assert batchrun(tmp_path, "score", "t.csv", *SCORE, "--fail-under", "1").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["score", "gone.csv", *SCORE], "gone.csv: no such file"),
        (
            ["score", "a.csv", "--scorer", "numeric"],
            "--scorer numeric: needs a target: name its column with --target COLUMN",
        ),
        (["score", "a.csv", "--target", "truth"], "Missing option '--scorer'"),
        (["score", "a.csv", *SCORE, "--fail-under", "2"], "2.0 is not in the range 0<=x<=1"),
        (["score", "a.csv", *SCORE, "--margin", "0.1"], "--margin requires --no-worse-than"),
        (["score", "a.csv", *SCORE, "--junit", "j.xml"], "--junit requires a bar"),
        (["score", "a.csv", *SCORE, "-o", "a.csv"], "a.csv: the output is the input table itself"),
        (["compare", "a.csv", "--key", "id", *SCORE], "compare: two or more tables are expected"),
        (["convert", "a.csv", "b.csv"], "choose another with --from or --to"),
    ],
)
def test_what_is_wrong_gets_one_line(tmp_path: Path, arguments: list[str], expected: str) -> None:
    """An error gives exit code 2, one line without a traceback, and no file."""
    write(tmp_path, "a.csv", 1, 0)
    done = batchrun(tmp_path, *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert expected in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.skipif(not GSM8K.exists(), reason="the GSM8K questions lie beside the project, not in it")
def test_gsm8k_from_questions_to_bars(tmp_path: Path) -> None:
    """For 1,319 recorded answers, every fifth wrong and ten missing, the score is correct to the row."""
    asked = read_csv(GSM8K)
    with open(tmp_path / "recorded.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        for index, row in enumerate(asked[:-10]):
            number = int(row["answer"].replace(",", "")) + (index % 5 == 0)
            writer.writerow([row["question"], HOW_PEOPLE_ANSWER[index % len(HOW_PEOPLE_ANSWER)].format(n=number)])
    (tmp_path / "script.toml").write_text('[answers]\nfile = "recorded.csv"\n')
    responder = ScriptResponder(tmp_path / "script.toml")
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder) as server:
        where = ("--base-url", server.url, "--api", "assistants", "--model", "m")
        ran = batchrun(tmp_path, "run", str(GSM8K), *where, "-o", "out.csv", "--quiet", OPENAI_API_KEY="any")
    assert ran.returncode == 3
    scored = ("score", "out.csv", "--target", "answer", "--scorer", "numeric", "--json")
    found = json.loads(batchrun(tmp_path, *scored, "--fail-under", "0.79").stdout)
    [figures] = found["scores"]
    wrong = len(range(0, 1_309, 5))
    assert (figures["rows"], figures["n"], figures["failed"], figures["unjudged"]) == (1_319, 1_309, 10, 0)
    assert figures["mean"] == pytest.approx((1_309 - wrong) / 1_309)
    assert figures["low"] < 0.8 < figures["high"]
    assert found["exit_code"] == 0
    strict = batchrun(tmp_path, *scored, "-o", "strict.csv", "--failed-as", "wrong", "--fail-under", "0.795")
    assert strict.returncode == 7
    assert json.loads(strict.stdout)["scores"][0]["mean"] == pytest.approx((1_309 - wrong) / 1_319)
