"""What `compare` with a judge returns: which of two answers is better, as attributes, as text and as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchrun.api.notebook import lines_html
from batchrun.api.parameters import in_python
from batchrun.errors import InputError
from batchrun.scoring.grading.grader_report import grader_lines
from batchrun.scoring.pairwise.judge import Judged
from batchrun.scoring.pairwise.judged_text import judged_facts, judged_lines, judged_markdown
from batchrun.scoring.score_facts import JudgedComparisonFacts
from batchrun.scoring.statistics import Estimate

__all__ = ["JudgedComparison"]


@dataclass(frozen=True, slots=True, repr=False)
class JudgedComparison:
    """Tables, or the parts of one, whose answers a judge has compared row by row, each pair in both orders.

    The figures are attributes if two tables are compared. Otherwise `results` has those of each pair of tables. A
    notebook shows all figures, and `print` the text of `batchrun compare --judge`.

    Attributes:
        results: one for each pair of tables; `contest` has the tables, `found` the figures, `unjudged` the reasons
            why pairs have no verdict, and `report` the requests and the cost of the judge.

    Examples:
        >>> import batchrun
        >>> from pathlib import Path
        >>> _ = Path("judge.toml").write_text('model = "m"\\nscript = "verdicts.toml"\\n')
        >>> _ = Path("verdicts.toml").write_text('''
        ... [[rule]]
        ... pattern = "(?s)answer A ---.Please"
        ... reply = "GRADE: A"
        ... [default]
        ... reply = "GRADE: B"
        ... ''')
        >>> before = [{"question": "Stop?", "response": "Stop!"}]
        >>> after = [{"question": "Stop?", "response": "Please stop."}]
        >>> comparison = batchrun.compare(before, after, judge="judge.toml", key="question")
        >>> comparison.wins, comparison.ties, comparison.losses, comparison.win_rate
        (1, 0, 0, 1.0)
    """

    results: Sequence[Judged]

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables, or of the parts."""
        return tuple(dict.fromkeys(name for each in self.results for name in (each.contest.first, each.contest.second)))

    @property
    def wins(self) -> int:
        """Pairs in which the second table's answer is better in both orders."""
        return self._only.found.wins

    @property
    def ties(self) -> int:
        """Pairs without such a winner."""
        return self._only.found.ties

    @property
    def losses(self) -> int:
        """Pairs in which the first table's answer is better in both orders."""
        return self._only.found.losses

    @property
    def win_rate(self) -> float | None:
        """The share of wins, a tie as half a win; None without pairs."""
        return self._only.found.win_rate.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the 95 % interval of the win rate; None without pairs."""
        low, high = self._only.found.win_rate.low, self._only.found.win_rate.high
        return None if low is None or high is None else (low, high)

    @property
    def p_value(self) -> float | None:
        """Of the sign test of wins and losses; None without any."""
        return self._only.found.p_value

    @property
    def flipped(self) -> Estimate:
        """The share of pairs in which each order has another winner."""
        return self._only.found.flipped

    @property
    def shown_first(self) -> Estimate:
        """The share of verdicts with a winner in which the answer that is shown first wins."""
        return self._only.found.shown_first

    @property
    def longer(self) -> Estimate:
        """The share of wins and losses in which the longer answer wins."""
        return self._only.found.longer

    @property
    def better(self) -> tuple[str, ...]:
        """Keys of the rows that the second table wins."""
        return tuple(self._only.found.better)

    @property
    def worse(self) -> tuple[str, ...]:
        """Keys of the rows that it loses."""
        return tuple(self._only.found.worse)

    @property
    def unjudged(self) -> Mapping[str, int]:
        """Reason → pairs without a readable verdict in each order."""
        return self._only.unjudged

    @property
    def unanswered(self) -> int:
        """Rows of both tables without an answer in at least one of them, which are not judged."""
        return self._only.contest.unanswered

    @property
    def unshared(self) -> int:
        """Rows that are in one of the tables only."""
        return self._only.contest.unshared

    def facts(self) -> JudgedComparisonFacts:
        """Return all figures, as `batchrun compare --judge --json` prints them."""
        return {"judged": list(map(judged_facts, self.results))}

    def to_markdown(self) -> str:
        """Return the comparison as Markdown for a pull request."""
        return _python_text(judged_markdown(self.results))

    def summary(self) -> str:
        """Return the comparison as text, as `batchrun compare --judge` prints it, and what the judge cost."""
        reports = grader_lines(each.report for each in self.results)
        return _python_text("\n".join([*judged_lines(self.results), *reports]))

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        figures = (
            f"{each.contest.second} against {each.contest.first}: {each.found.wins:,} won, {each.found.ties:,} tied, "
            f"{each.found.losses:,} lost"
            for each in self.results
        )
        return f"<JudgedComparison: {'; '.join(figures)}>"

    def _repr_html_(self) -> str:
        return f"<p><strong>Preferences of a judge</strong></p>{lines_html(filter(None, self.summary().splitlines()))}"

    @property
    def _only(self) -> Judged:
        if len(self.results) > 1:
            raise InputError(f"there are {len(self.results)} pairs of tables; take each from the list `results`")
        return self.results[0]


def _python_text(text: str) -> str:
    return in_python(text).replace("(--json lists them)", "(facts() lists them)")
