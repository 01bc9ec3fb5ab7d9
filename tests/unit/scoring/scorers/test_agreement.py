"""The agreement of scorers with other implementations, as docs/reference/scorers.md states it.

`agreement.jsonl` has the values of SQuAD's evaluation code, rouge-score 0.1.2 and sacrebleu 2.6.0 for pairs of texts from GSM8K.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from batchrun.scoring import Sample
from batchrun.scoring.scorers.registry import make_scorers
from batchrun.scoring.scorers.stated_choice import stated_choice

ROOT = Path(__file__).parents[4]
DATA = ROOT / "tests" / "data" / "scoring"
PAGE = (ROOT / "docs" / "reference" / "scorers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("exact:case=ignore,punctuation=ignore,articles=ignore", "exact"),
        *((name, name) for name in ("f1", "rouge1", "rouge2", "rougeL", "bleu")),
    ],
)
def test_a_measure_has_the_values_of_its_reference(spec: str, name: str) -> None:
    """Every pair has the value of the reference."""
    pairs = [json.loads(line) for line in (DATA / "agreement.jsonl").read_text(encoding="utf-8").splitlines()]
    assert f"held for {len(pairs)} pairs" in PAGE
    scorer = make_scorers([spec])[0].scorer
    wrong = []
    for pair in pairs:
        found = scorer.score(Sample(pair["answer"], pair["target"], {})).value
        if found != pytest.approx(pair[name], abs=1e-9):
            wrong.append((pair["target"], pair["answer"], pair[name], found))
    assert wrong == []


def test_the_letters_of_common_answers() -> None:
    """All 144 answers are read as the letter that is right, and the page has the counts of both lists."""
    with (DATA / "choice_answers.csv").open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    found = [stated_choice(row["response"], "ABCD") for row in answers]
    wrong = [row for row, each in zip(answers, found, strict=True) if ((each and each.letter) or "") != row["answer"]]
    assert wrong == []
    with (DATA / "choice_forms.csv").open(encoding="utf-8", newline="") as file:
        forms = list(csv.DictReader(file))
    assert f"| {len(answers)} answers in common forms, with the right letter | {len(answers)}. " in PAGE
    assert f"| {len(forms)} forms " in PAGE
    assert f"; {sum(not form['choice'] for form in forms)} state no choice | {6 * len(forms):,} of" in PAGE
