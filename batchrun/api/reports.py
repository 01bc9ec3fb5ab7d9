"""Report pages from Python, as `batchrun report` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from batchrun.api.notebook import lines_html
from batchrun.api.parameters import CallersWords, in_python
from batchrun.api.scoring_call import ScorerGiven, options_given, scoring_call
from batchrun.batch.paths import paths_for
from batchrun.clock import utc_now
from batchrun.errors import InputError
from batchrun.reporting.html import report_page
from batchrun.reporting.page_facts import HeadlineFacts, PageFacts
from batchrun.reporting.report import Report, check_journal_alone, check_page, check_scoring, page_data, report_of
from batchrun.reporting.rows import cell_of
from batchrun.scoring.summary_text import score_lines
from batchrun.tables.atomic import replacing
from batchrun.wording import dollars, rows_text

if TYPE_CHECKING:
    import pandas

    from batchrun.api.data import Data

__all__ = ["ReportPage", "report"]

_MOST_ROWS: Final = 100_000
_MOST_ROWS_INLINE: Final = 1_000
_MOST_INLINE_BYTES: Final = 4_000_000
"""A notebook stores what it shows: a larger page is shown as text, and can be saved."""


@dataclass(frozen=True, slots=True, repr=False)
class ReportPage:
    """A report page about a batch or a table of answers. A notebook shows the page itself.

    Attributes:
        report: the figures and the rows.
        most_rows: maximum number of rows on the page; the figures cover all rows.
        output: the file that it was written to; None if none was named.

    Examples:
        >>> import batchrun
        >>> page = batchrun.report(batchrun.run(["2 + 2", "7 * 6"], model="tutor"))
        >>> page.rows, page.by_status
        (2, {'completed': 2})
        >>> page.to_html()[:15]
        '<!doctype html>'
    """

    report: Report
    most_rows: int = _MOST_ROWS
    output: Path | None = None

    @property
    def rows(self) -> int:
        """Number of rows of the table, without skipped ones."""
        return self._headline["rows"]

    @property
    def by_status(self) -> Mapping[str, int]:
        """Status → number of rows."""
        return self._headline["by_status"]

    @property
    def failed(self) -> int:
        """Number of rows without an answer."""
        return self._headline["failed"]

    @property
    def cost_usd(self) -> float | None:
        """Cost of all rows whose cost is known, in US dollars; None if none is."""
        return self._headline["cost_usd"]

    def facts(self) -> PageFacts:
        """Return all figures of the page."""
        return self.report.facts

    def to_frame(self) -> pandas.DataFrame:
        """Return the rows of the page's table: the input, the outcomes, and the scores with what the scorers read."""
        import pandas as pd

        listed = self.report.columns.listed
        return pd.DataFrame(
            [[cell_of(row, column) for column in listed] for row in self.report.rows],
            columns=[column.name for column in listed],
        )

    def to_html(self) -> str:
        """Return the page: one HTML document with all that it needs, which loads nothing from elsewhere."""
        return self._page(self.most_rows).decode()

    def save(self, path: str | Path) -> Path:
        """Write the page, and return its path.

        Args:
            path: of the file, which ends in .html.

        Raises:
            InputError: the name has another ending.
            OutputError: the file cannot be written.
        """
        path = Path(path)
        with CallersWords():
            check_page(path)
            with replacing(path) as file:
                file.write(self._page(self.most_rows))
        return path

    def summary(self) -> str:
        """Return rows, service, tokens, cost and scores as text."""
        return "\n".join(self._lines())

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<ReportPage of {self.report.facts['table']}: {self._lines()[0]}>"

    def _repr_html_(self) -> str:
        name = self.report.facts["table"]
        page = self._page(min(self.most_rows, _MOST_ROWS_INLINE))
        lines = self._lines()
        if len(page) > _MOST_INLINE_BYTES:
            return lines_html([*lines, "the page is too large for a notebook: save it with .save('report.html')"])
        saved = ""
        if self.output is not None:
            path = escape(str(self.output))
            saved = f'<p>saved: <a href="{path}">{path}</a></p>'
        # The frame has an origin of its own, so that the page cannot read the notebook.
        return (
            f'{saved}<iframe title="Report of {escape(name)}" srcdoc="{escape(page.decode())}" '
            'sandbox="allow-scripts allow-downloads" style="width: 100%; height: 720px; border: 1px solid #8888">'
            "</iframe>"
        )

    @property
    def _headline(self) -> HeadlineFacts:
        return self.report.facts["headline"]

    def _lines(self) -> list[str]:
        head = self._headline
        by_status = ", ".join(f"{count:,} {status}" for status, count in head["by_status"].items())
        lines = [f"{rows_text(head['rows'])}: {by_status}"]
        lines += [f"answered by {model}: {rows_text(count)}" for model, count in head["models"].items()]
        if head["tokens_known"]:
            lines.append(f"{head['prompt_tokens']:,} tokens in, {head['completion_tokens']:,} out")
        if head["cost_usd"] is not None:
            unknown = f", unknown for {rows_text(head['unpriced'])}" if head["unpriced"] else ""
            lines.append(f"cost: {dollars(head['cost_usd'])}{unknown}")
        return [*lines, *map(in_python, score_lines(self.report.summaries, 0))]

    def _page(self, most_rows: int) -> bytes:
        return report_page(page_data(self.report, most_rows))


def report(
    data: Data,
    scorer: ScorerGiven = (),
    *,
    target: str | None = None,
    answer: str | None = None,
    by: str | Sequence[str] = (),
    key: str | None = None,
    compare: Data | None = None,
    split: str | None = None,
    epochs_column: str | None = None,
    cluster: str | None = None,
    failed_as: Literal["skip", "wrong"] = "skip",
    rows: int = _MOST_ROWS,
    output: str | Path | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> ReportPage:
    """Make a report page about a batch or a table of answers.

    The page is one HTML file with figures, charts and rows, and needs no network. If `data` is the path of a batch's
    output, it also shows what the journal next to it has: attempts, prompts, rate limits.

    Args:
        data: a pandas, polars or Arrow table, a list of dicts, or the path of a table, such as the output of a batch.
        scorer: the scorers, as for `score`; none for a page without scores. Graders are not asked: score the table, and
            use its column with `column:score_model-graded`.
        compare: another table to compare with, row by row; needs `key` and a scorer.
        split: column whose values split the table into parts to compare. Default: the batch's only axis, or that of its
            models.
        rows: maximum number of rows on the page; the figures cover all rows.
        output: file to write, which ends in .html. Default: none; `ReportPage.save` writes it later.
        target, answer, by, key, epochs_column, cluster, failed_as, encoding, delimiter: as for `score`.

    Raises:
        InputError: the table, a scorer, a column or an option cannot be used.
        OutputError: the file cannot be written, or the journal cannot be read.

    Examples:
        >>> import batchrun
        >>> answers = batchrun.run(["What is 2 + 2?"], model="tutor").assign(truth=4)
        >>> page = batchrun.report(answers, "numeric", target="truth")
        >>> print(page.summary())
        1 row: 1 completed
        answered by tutor: 1 row
        8 tokens in, 3 out
        numeric  100.0 %  (20.7 % to 100.0 %)  of 1 row
    """
    with CallersWords():
        if rows < 0:
            raise InputError(f"rows: expected a whole number, at least 0, got {rows}")
        given = options_given(
            target=target,
            answer=answer,
            by=by,
            key=key,
            split=split,
            epochs_column=epochs_column,
            cluster=cluster,
            failed_as=failed_as,
            encoding=encoding,
            delimiter=delimiter,
        )
        if output is not None:
            check_page(Path(output))
        with scoring_call("report", scorer, given) as call:
            check_scoring(call.spec, None if compare is None else "compare")
            paths = paths_for(Path(data)) if isinstance(data, str | Path) else None
            if paths is not None:
                check_journal_alone(paths)
            _, table = call.open(data, may_lack_scorers=True)
            name = None if isinstance(compare, str | Path) else "compare"
            other = None if compare is None else call.open(compare, name, may_lack_scorers=True)[1]
            made = ReportPage(report_of(table, other, call.spec.failed_as, utc_now, paths), rows)
        return made if output is None else replace(made, output=made.save(output))
