"""Bars: conditions on the scores of a table, and their JUnit XML for CI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from batchrun.scoring.figures_text import MISSING_TEXT, interval, signed
from batchrun.scoring.pairing import Pairing
from batchrun.scoring.score_facts import BarFacts
from batchrun.scoring.score_options import MIN_SCORED, BarOn
from batchrun.scoring.summary import Figures, ScoreSummary
from batchrun.wording import rows_text

__all__ = ["Bar", "floor_bars", "junit", "no_worse_bars"]

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Bar:
    """A condition and its result.

    Attributes:
        name: the condition.
        passed: whether it is met; False if there are no scores.
        found: the figure that was compared with the bar, in one line.
    """

    name: str
    passed: bool
    found: str

    def facts(self) -> BarFacts:
        """Return the bar as JSON."""
        return {"bar": self.name, "passed": self.passed, "found": self.found}


def floor_bars(summaries: Sequence[ScoreSummary], floor: float, on: BarOn, min_scored: float = MIN_SCORED) -> list[Bar]:
    """Return one bar per scorer: its mean is at least `floor`, and enough rows have a score."""
    bars = []
    for summary in summaries:
        estimate = summary.overall.estimate
        name = f"{summary.name}: at least {floor:g}" + (" at the interval's lower end" if on == "interval" else "")
        enough, counts = _scored(summary.overall, min_scored)
        if estimate.mean is None:
            bars.append(Bar(name, False, f"no row has a score{counts}"))
            continue
        reached = estimate.mean if on == "value" else estimate.low
        passed = enough and reached is not None and reached >= floor - _ROUNDING
        bars.append(Bar(name, passed, f"{estimate.mean:.4f} {interval(estimate)} of {rows_text(estimate.n)}{counts}"))
    return bars


def no_worse_bars(
    pairings: Sequence[Pairing],
    summaries: Sequence[ScoreSummary],
    margin: float,
    on: BarOn,
    min_scored: float = MIN_SCORED,
) -> list[Bar]:
    """Return one bar per pairing of a baseline (first) with a table: the table's mean is at most `margin` lower.

    Enough rows of the table must have a score, and enough of them must have one in the baseline too.

    Args:
        pairings: one per scorer.
        summaries: of the table, in the same order.
    """
    bars = []
    for pairing, summary in zip(pairings, summaries, strict=True):
        estimate = pairing.difference.estimate
        name = f"{pairing.scorer}: no worse than {pairing.first} by more than {margin:g}"
        if on == "interval":
            name += " at the interval's lower end"
        enough, counts = _scored(summary.overall, min_scored)
        enough_pairs, pairs = _paired(pairing, min_scored)
        if estimate.mean is None:
            bars.append(Bar(name, False, f"no row has a score in both tables{counts}"))
            continue
        reached = estimate.mean if on == "value" else estimate.low
        passed = enough and enough_pairs and reached is not None and reached >= -margin - _ROUNDING
        text = f"{signed(estimate.mean)} {interval(estimate, signed=True)} over {estimate.n:,} pairs{counts}{pairs}"
        if passed and estimate.low is not None and estimate.low < -margin:
            text += f"; a loss of more than {margin:g} is not ruled out"
        bars.append(Bar(name, passed, text))
    return bars


def _scored(figures: Figures, min_scored: float) -> tuple[bool, str]:
    """Return whether enough rows have a score; and how many have none, as the end of a line, "" if all have one."""
    kinds = ", ".join(f"{count:,} {MISSING_TEXT[kind]}" for kind, count in figures.missing.items())
    missing = sum(figures.missing.values())
    return _enough(figures.expected - missing, figures.expected, min_scored, "scored", kinds)


def _paired(pairing: Pairing, min_scored: float) -> tuple[bool, str]:
    """Return whether enough rows of the second table are paired; and how many are not, as `_scored` does."""
    kinds = f"{pairing.unpaired:,} without a score in one of the tables" if pairing.unpaired else ""
    return _enough(pairing.expected - pairing.unpaired, pairing.expected, min_scored, "paired", kinds)


def _enough(counted: int, expected: int, share: float, done: str, kinds: str) -> tuple[bool, str]:
    enough = counted >= share * expected - _ROUNDING
    if counted == expected:
        return enough, ""
    least = "" if enough else f"; --min-scored {share:g} is not reached"
    return enough, f"; {counted:,} of {rows_text(expected)} {done} ({kinds}){least}"


def junit(bars: Sequence[Bar], suite: str) -> bytes:
    """Return the bars as JUnit XML: one `testsuite` with one test case per bar, as CI systems read it."""
    failures = sum(not bar.passed for bar in bars)
    root = ElementTree.Element("testsuites")
    element = ElementTree.SubElement(
        root, "testsuite", name=suite, tests=str(len(bars)), failures=str(failures), errors="0", skipped="0", time="0"
    )
    for bar in bars:
        case = ElementTree.SubElement(element, "testcase", classname="batchrun.score", name=bar.name, time="0")
        if bar.passed:
            ElementTree.SubElement(case, "system-out").text = bar.found
        else:
            ElementTree.SubElement(case, "failure", message=bar.found, type="bar").text = bar.found
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"
