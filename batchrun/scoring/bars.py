"""Bars: conditions on the scores of a table, and their JUnit XML for CI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from batchrun.scoring.figures_text import interval, signed
from batchrun.scoring.pairing import Pairing
from batchrun.scoring.score_facts import BarFacts
from batchrun.scoring.score_options import BarOn
from batchrun.scoring.summary import ScoreSummary
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


def floor_bars(summaries: Sequence[ScoreSummary], floor: float, on: BarOn) -> list[Bar]:
    """Return one bar per scorer: its mean is at least `floor`."""
    bars = []
    for summary in summaries:
        estimate = summary.overall.estimate
        name = f"{summary.name}: at least {floor:g}" + (" at the interval's lower end" if on == "interval" else "")
        if estimate.mean is None:
            bars.append(Bar(name, False, "no row has a score"))
            continue
        reached = estimate.mean if on == "value" else estimate.low
        text = f"{estimate.mean:.4f} {interval(estimate)} of {rows_text(estimate.n)}"
        if summary.overall.failed and summary.failed_as == "skip":
            text += f", {rows_text(summary.overall.failed, 'failed')} not counted"
        bars.append(Bar(name, reached is not None and reached >= floor - _ROUNDING, text))
    return bars


def no_worse_bars(pairings: Sequence[Pairing], margin: float, on: BarOn) -> list[Bar]:
    """Return one bar per pairing of a baseline (first) with a table: the table's mean is at most `margin` lower."""
    bars = []
    for pairing in pairings:
        estimate = pairing.difference.estimate
        name = f"{pairing.scorer}: no worse than {pairing.first} by more than {margin:g}"
        if on == "interval":
            name += " at the interval's lower end"
        if estimate.mean is None:
            bars.append(Bar(name, False, "no row has a score in both tables"))
            continue
        reached = estimate.mean if on == "value" else estimate.low
        passed = reached is not None and reached >= -margin - _ROUNDING
        text = f"{signed(estimate.mean)} {interval(estimate, signed=True)} over {estimate.n:,} pairs"
        if passed and estimate.low is not None and estimate.low < -margin:
            text += f"; a loss of more than {margin:g} is not ruled out"
        bars.append(Bar(name, passed, text))
    return bars


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
