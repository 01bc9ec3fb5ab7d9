"""What the core install can score: the packages of the extra `eval`, and scipy, are refused to the process."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.integration.reliability import processes
from tests.support.command import Result

ABSENT = {"scipy", "rapidfuzz", "sacrebleu", "math_verify", "sympy", "splintr", "pypdf", "pydantic_monty"}
REFUSING = f"""
import sys
assert not {ABSENT!r} & sys.modules.keys()
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from batchrun.cli import main
sys.exit(main())
"""

TARGET = ("--target", "truth")
NUMERIC = (*TARGET, "--scorer", "numeric")


def command(folder: Path, *arguments: str) -> Result:
    """Run batchrun where the optional packages cannot be imported."""
    with processes.batchrun(folder, *arguments, program=REFUSING) as process:
        code = process.wait()
    return Result(code, process.stdout, process.stderr)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two tables: 40 rows of two epochs each, of which every third answer is wrong in `a.csv`."""
    for name, step in (("a", 3), ("b", 5)):
        with open(tmp_path / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "topic", "truth", "epoch", "response", "status"])
            for row in range(40):
                for epoch in (1, 2):
                    right = (row + epoch) % step != 0
                    writer.writerow([row, "xy"[row % 2], row, epoch, row if right else -1, "completed"])
    return tmp_path


@pytest.mark.parametrize("scorer", ["exact", "includes", "regex:(\\d+)", "numeric", "choice", "json", "f1"])
def test_scores(folder: Path, scorer: str) -> None:
    """The scorers of texts, numbers and JSON give figures with an interval, by group."""
    done = command(folder, "score", "a.csv", *TARGET, "--scorer", scorer, "--by", "topic", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    [figures] = json.loads(done.stdout)["scores"]
    assert figures["rows"] == 80
    assert set(figures["groups"]["topic"]) == {"x", "y"}
    assert scorer == "choice" or figures["low"] < figures["mean"] < figures["high"]


def test_epochs_and_bars(folder: Path) -> None:
    """Repeated rows give pass@k with its interval, and a missed bar is exit code 7."""
    done = command(folder, "score", "a.csv", "--key", "id", *NUMERIC, "--json", "--fail-under", "0.9")
    assert (done.returncode, done.stderr) == (7, "")
    [figures] = json.loads(done.stdout)["scores"]
    assert figures["interval"] == "clustered"
    assert figures["epochs"]["pass_at_k"]["2"]["low"] < figures["epochs"]["pass_at_k"]["2"]["mean"]
    assert json.loads(done.stdout)["bars"][0]["passed"] is False


@pytest.mark.parametrize("scorer", ["numeric", "f1"])
def test_comparisons(folder: Path, scorer: str) -> None:
    """Two tables are compared, with a test, an interval, and Holm's correction for three of them."""
    (folder / "c.csv").write_bytes((folder / "b.csv").read_bytes().replace(b"y", b"z"))
    options = ("--key", "id", *TARGET, "--scorer", scorer, "--json")
    done = command(folder, "compare", "a.csv", "b.csv", "c.csv", *options)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, equal = json.loads(done.stdout)["pairings"]
    assert first["p_value"] < first["corrected_p"]
    assert first["difference"]["low"] < first["difference"]["mean"] < first["difference"]["high"]
    assert second["p_value"] == first["p_value"]
    assert equal["p_value"] == 1


def test_a_report(folder: Path) -> None:
    """A report with scores is written."""
    done = command(folder, "report", "a.csv", *NUMERIC)
    assert (done.returncode, done.stderr) == (0, "written: a.report.html\n")


@pytest.mark.parametrize(
    ("scorer", "package"),
    [("fuzzy", "rapidfuzz"), ("rougeL", "rapidfuzz"), ("bleu", "sacrebleu"), ("math", "math_verify")],
)
def test_a_missing_package_is_one_line(folder: Path, scorer: str, package: str) -> None:
    """A scorer that needs another package names it and the extra that installs it, before the table is read."""
    done = command(folder, "score", "a.csv", *TARGET, "--scorer", scorer)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"batchrun: {scorer}: the package {package} is not installed; install it with pip install 'batchrun-llm[eval]'\n"
    )
