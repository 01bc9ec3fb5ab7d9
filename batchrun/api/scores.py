"""What `batchrun.score` and `batchrun.compare` return: figures as attributes, as text, as HTML and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.api.notebook import lines_html, table_html
from batchrun.api.parameters import in_python
from batchrun.errors import InputError
from batchrun.scoring.bars import Bar
from batchrun.scoring.comparison import Comparison
from batchrun.scoring.comparison_text import comparison_lines, comparison_markdown
from batchrun.scoring.evaluate import Evaluation
from batchrun.scoring.figure_tables import (
    TextTable,
    bar_table,
    contender_rows,
    correction_notes,
    group_tables,
    matrix_tables,
    pairing_table,
    score_tables,
)
from batchrun.scoring.figures_text import interval, p_text, signed
from batchrun.scoring.grading.grader_report import GraderReport, grader_lines
from batchrun.scoring.labels.label_report import LabelReport, label_lines
from batchrun.scoring.matrix import Matrix
from batchrun.scoring.pairing import Pairing
from batchrun.scoring.power import RowsNeeded
from batchrun.scoring.score_facts import ComparisonFacts, EvaluationFacts
from batchrun.scoring.summary import Epochs, Figures, ScoreSummary
from batchrun.scoring.summary_text import (
    bar_lines,
    cut_short_line,
    figure_notes,
    mean_text,
    score_lines,
)
from batchrun.scoring.variance import VarianceSplit
from batchrun.wording import rows_text

if TYPE_CHECKING:
    import pandas

__all__ = ["ScoreComparison", "Scores"]


@dataclass(frozen=True, slots=True, repr=False)
class Scores:
    """The scores of a table.

    The figures are attributes if there is one scorer. With several, `scores["numeric"]` selects one. A notebook shows
    all figures, and `print` the text of `batchrun score`.

    Attributes:
        evaluation: the figures of all scorers, the bars and the graders, as the commands have them.

    Examples:
        >>> import batchrun
        >>> rows = [{"response": "It is 4.", "answer": 4}, {"response": "5", "answer": 6}]
        >>> scores = batchrun.score(rows, "numeric", target="answer")
        >>> scores.mean, scores.n
        (0.5, 2)
        >>> scores.to_frame()["score_numeric"].tolist()
        [1.0, 0.0]
    """

    evaluation: Evaluation
    _frame: pandas.DataFrame = field(compare=False)

    def __getitem__(self, scorer: str) -> Scores:
        """Return the scores by one scorer, chosen by its name."""
        chosen = [each for each in self.evaluation.summaries if each.name == scorer]
        if not chosen:
            raise KeyError(f"there is no scorer {scorer!r}; the scorers are {', '.join(map(repr, self.scorers))}")
        labels = [each for each in self.labels if each.scorer == scorer]
        return replace(self, evaluation=replace(self.evaluation, summaries=chosen, labels=labels))

    @property
    def scorers(self) -> tuple[str, ...]:
        """The names of the scorers."""
        return tuple(each.name for each in self.evaluation.summaries)

    @property
    def mean(self) -> float | None:
        """The mean score, from 0 to 1; None without scored rows."""
        return self._figures.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the 95 % interval of the mean; None if there is no interval."""
        return self._figures.interval

    @property
    def note(self) -> str | None:
        """Why the interval is not exact, such as few clusters; None if its coverage is close to 95 %."""
        return self._figures.estimate.note

    @property
    def n(self) -> int:
        """Number of rows in the mean."""
        return self._figures.n

    @property
    def rows(self) -> int:
        """Number of rows of the table, without skipped ones."""
        return self._figures.rows

    @property
    def failed(self) -> int:
        """Number of failed rows; in the mean as 0 with `failed_as="wrong"`, otherwise not in it."""
        return self._figures.failed

    @property
    def unfinished(self) -> int:
        """Number of rows without an answer yet; never in the mean."""
        return self._figures.unfinished

    @property
    def unjudged(self) -> int:
        """Number of answered rows that the scorer could not judge, such as rows without a target; never in the mean."""
        return self._figures.unjudged

    @property
    def skipped(self) -> int:
        """Number of rows that were not selected to run; they count nowhere."""
        return self._figures.skipped

    @property
    def reasons(self) -> Mapping[str, int]:
        """Reason why answered rows could not be judged → number of rows."""
        return self._only.reasons

    @property
    def groups(self) -> Mapping[str, Mapping[str, Figures]]:
        """Column of `by` → its value → figures (`mean`, `interval`, `n`, `rows`, `failed` …) of the rows with it."""
        return self._only.groups

    @property
    def epochs(self) -> Epochs | None:
        """pass@k and pass^k over repeated rows; None if no row is repeated, or a score is neither 0 nor 1."""
        return self._figures.epochs

    @property
    def variance(self) -> VarianceSplit | None:
        """The variance between rows and between the epochs of a row; None if no row is repeated."""
        return self._figures.variance

    @property
    def bars(self) -> Sequence[Bar]:
        """The results of `fail_under` and `no_worse_than`."""
        return self.evaluation.bars

    @property
    def passed(self) -> bool:
        """Whether every bar is passed; True without bars."""
        return self.evaluation.exit_code == 0

    @property
    def graders(self) -> Sequence[GraderReport]:
        """The work and the cost of each grader."""
        return self.evaluation.graders

    @property
    def labels(self) -> Sequence[LabelReport]:
        """What hand labels say about each scorer: `agreement`, with `kappa`, and the `corrected` mean."""
        return self.evaluation.labels

    @property
    def output(self) -> Path | None:
        """The file with the scored table; None if none was named."""
        return self.evaluation.output

    def to_frame(self) -> pandas.DataFrame:
        """Return the table with the columns `score_NAME`, from 0 to 1, and `score_NAME_read`, what the scorer read."""
        return self._frame.copy()

    def facts(self) -> EvaluationFacts:
        """Return all figures, as `batchrun score --json` prints them."""
        return self.evaluation.facts()

    def to_markdown(self) -> str:
        """Return figures and bars as Markdown for a pull request."""
        return in_python(self.evaluation.markdown())

    def summary(self) -> str:
        """Return figures, groups, bars and graders as text, as `batchrun score` prints them."""
        scores = score_lines(self.evaluation.summaries, self.evaluation.incomplete)
        lines = [*scores, *label_lines(self.labels), *bar_lines(self.bars)]
        return "\n".join(map(in_python, [*lines, *grader_lines(self.graders)]))

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        figures = (
            f"{each.name} {mean_text(each.overall.estimate)} of {rows_text(each.overall.n)}"
            for each in self.evaluation.summaries
        )
        return f"<Scores of {self.evaluation.table}: {'; '.join(figures)}>"

    def _repr_html_(self) -> str:
        summaries = self.evaluation.summaries
        tables = score_tables(f"Scores of {self.evaluation.table}", summaries)
        notes = [
            f"{each.name}: {line}" if len(summaries) > 1 else line for each in summaries for line in figure_notes(each)
        ]
        if self.evaluation.incomplete:
            notes.append(cut_short_line(self.evaluation.incomplete))
        first, *others = map(table_html, tables)
        bars = [table_html(bar_table(self.bars))] if self.bars else []
        remarks = lines_html(map(in_python, [*notes, *label_lines(self.labels), *grader_lines(self.graders)]))
        return "".join([first, remarks, *others, *(_epochs_html(each) for each in summaries), *bars])

    @property
    def _only(self) -> ScoreSummary:
        summaries = self.evaluation.summaries
        if len(summaries) > 1:
            raise InputError(f"there are {len(summaries)} scorers; choose one, as in scores[{self.scorers[0]!r}]")
        return summaries[0]

    @property
    def _figures(self) -> Figures:
        return self._only.overall


def _epochs_html(summary: ScoreSummary) -> str:
    epochs = summary.overall.epochs
    if epochs is None:
        return ""
    rows = [(f"{k}", mean_text(epochs.pass_at_k[k]), mean_text(epochs.pass_hat_k[k])) for k in epochs.pass_at_k]
    title = f"{summary.name} over the epochs of {rows_text(epochs.keys)}"
    return table_html(TextTable(title, ("k", "pass@k", "pass^k"), rows))


@dataclass(frozen=True, slots=True, repr=False)
class ScoreComparison:
    """Tables, or the parts of one, compared row by row.

    The figures are attributes if two tables are compared by one scorer. Otherwise `pairings` has those of each pair. A
    notebook shows all figures, and `print` the text of `batchrun compare`.

    Attributes:
        comparison: all figures, as the commands have them.

    Examples:
        >>> import batchrun
        >>> before = [{"id": n, "answer": n, "response": "1"} for n in range(4)]
        >>> after = [{"id": n, "answer": n, "response": f"It is {n}."} for n in range(4)]
        >>> comparison = batchrun.compare(before, after, scorer="numeric", key="id", target="answer")
        >>> comparison.difference, comparison.p_value, comparison.better
        (0.75, 0.25, ('0', '2', '3'))
    """

    comparison: Comparison
    _frame: pandas.DataFrame = field(compare=False)

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables, or of the parts."""
        return tuple(each.name for each in self.comparison.contenders)

    @property
    def pairings(self) -> Sequence[Pairing]:
        """Every pair of tables by every scorer; for the parts of one table with a baseline, each part with it."""
        return self.comparison.pairings

    @property
    def warnings(self) -> Sequence[str]:
        """Reasons why the comparison may be unfair, one line each."""
        return [in_python(line) for line in self.comparison.warnings]

    @property
    def scores(self) -> Mapping[str, Mapping[str, Figures]]:
        """Table → scorer → figures (`mean`, `interval`, `n`, `rows`, `failed` …) of that table alone."""
        return {
            each.name: {summary.name: summary.overall for summary in each.summaries}
            for each in self.comparison.contenders
        }

    @property
    def difference(self) -> float | None:
        """The mean difference of the pairs, second minus first; None without pairs."""
        return self._only.difference.estimate.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the 95 % interval of the difference; None if there is no interval."""
        low, high = self._only.difference.estimate.low, self._only.difference.estimate.high
        return None if low is None or high is None else (low, high)

    @property
    def correlation(self) -> float | None:
        """The correlation of the two tables' scores, over the pairs; None if the scores of one of them do not vary."""
        return self._only.correlation

    @property
    def rows_needed(self) -> Mapping[float, RowsNeeded]:
        """Difference of `detect` → number of rows that shows it with a power of 80 %, with an interval."""
        return self._only.rows_needed

    @property
    def detectable(self) -> float | None:
        """The smallest difference that these pairs show with a power of 80 %; None if they show none."""
        return self._only.detectable

    @property
    def groups(self) -> Mapping[str, Mapping[str, Pairing]]:
        """Column of `by` → its value → the pairing (`pairs`, `difference`, `corrected_p` …) of the rows with it."""
        return self._only.groups

    @property
    def matrices(self) -> Sequence[Matrix]:
        """The differences of each pair of three or more tables, one matrix for each scorer."""
        return self.comparison.matrices

    @property
    def p_value(self) -> float | None:
        """The probability of a difference at least as large if neither table were better; None without pairs."""
        return self._only.difference.p_value

    @property
    def pairs(self) -> int:
        """Number of rows with a score in both tables; the epochs of a row count once."""
        return self._only.pairs

    @property
    def better(self) -> tuple[str, ...]:
        """Keys of the rows whose score rose from the first table to the second."""
        return tuple(self._only.better)

    @property
    def worse(self) -> tuple[str, ...]:
        """Keys of the rows whose score fell."""
        return tuple(self._only.worse)

    def to_frame(self) -> pandas.DataFrame:
        """Return the rows of all tables with their scores, `score_NAME`.

        The first level of the index is the name of the table, so that `frame.loc["A"]` is one of them. The parts of
        one table stay together, with the index of that table.
        """
        return self._frame.copy()

    def facts(self) -> ComparisonFacts:
        """Return all figures, as `batchrun compare --json` prints them."""
        return self.comparison.facts()

    def to_markdown(self) -> str:
        """Return the comparison as Markdown for a pull request."""
        return in_python(comparison_markdown(self.comparison))

    def summary(self) -> str:
        """Return the comparison as text, as `batchrun compare` prints it."""
        text = in_python("\n".join(comparison_lines(self.comparison)))
        return text.replace("(--json lists them)", "(facts() lists them)")

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        figures = (
            f"{each.scorer} of {each.second} against {each.first} {signed(each.difference.estimate.mean)} "
            f"{interval(each.difference.estimate, signed=True)}, {p_text(each.difference.p_value)}, "
            f"{each.pairs:,} pairs"
            for each in self.pairings
        )
        return f"<ScoreComparison: {'; '.join(figures)}>"

    def _repr_html_(self) -> str:
        head, *rows = contender_rows(self.comparison)
        tables = [
            TextTable("Scores and costs", head, rows),
            pairing_table(self.comparison),
            *matrix_tables(self.comparison),
            *group_tables(self.comparison),
        ]
        warnings = lines_html(f"warning: {line}" for line in self.warnings)
        return "".join([warnings, *map(table_html, tables), lines_html(correction_notes(self.comparison))])

    @property
    def _only(self) -> Pairing:
        if len(self.pairings) > 1:
            raise InputError(f"there are {len(self.pairings)} pairings; take each from the list `pairings`")
        return self.pairings[0]
