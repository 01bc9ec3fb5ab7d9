"""The preferences of a judge as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from batchrun.scoring.figures_text import p_text, pairs_text, percent, some_keys
from batchrun.scoring.pairwise.judge import Judged
from batchrun.scoring.score_facts import JudgedFacts
from batchrun.scoring.statistics import Estimate
from batchrun.scoring.summary import estimate_facts
from batchrun.wording import rows_text

__all__ = ["judged_facts", "judged_lines", "judged_markdown"]


def judged_lines(results: Iterable[Judged]) -> list[str]:
    """Return the results of a judge as lines for the terminal."""
    lines: list[str] = []
    for result in results:
        lines += ["", *_lines(result)] if lines else _lines(result)
    return lines


def judged_markdown(results: Iterable[Judged]) -> str:
    """Return the results of a judge as Markdown."""
    return "\n".join(["### Preferences of a judge", "", "```text", *judged_lines(results), "```", ""])


def _lines(result: Judged) -> Iterator[str]:
    contest, found = result.contest, result.found
    count = found.wins + found.ties + found.losses
    yield (
        f"judge {result.report.grader}: {contest.second} against {contest.first}, {pairs_text(count)}, each judged in "
        "both orders"
    )
    if count:
        yield f"  win rate {_share(found.win_rate)}, a tie is half a win"
        yield f"  {pairs_text(found.wins)} won{some_keys(found.better)}"
        yield f"  {pairs_text(found.ties)} tied"
        yield f"  {pairs_text(found.losses)} lost{some_keys(found.worse)}"
        yield f"  sign test of wins and losses: {p_text(found.p_value)}"
        yield f"  order: {_share(found.flipped)} of the pairs have another winner in the other order; the answer shown"
        yield f"    first wins {_share(found.shown_first)} of {found.shown_first.n:,} verdicts with a winner"
        yield f"  length: the longer answer wins {_share(found.longer)} of {pairs_text(found.longer.n)} with a winner"
    yield from (f"  {pairs_text(number)} not judged: {reason}" for reason, number in result.unjudged.items())
    if contest.unanswered:
        yield f"  {rows_text(contest.unanswered)} without an answer in at least one table, not judged"
    if contest.unshared:
        yield f"  {rows_text(contest.unshared)} in one of the tables only, not judged"


def _share(found: Estimate) -> str:
    if found.mean is None:
        return "–"
    ends = f"({percent(found.low)} to {percent(found.high)})" if found.low is not None else "(no interval)"
    return f"{percent(found.mean)} {ends}"


def judged_facts(result: Judged) -> JudgedFacts:
    """Return the result of a judge as JSON."""
    contest, found = result.contest, result.found
    return {
        "first": contest.first,
        "second": contest.second,
        "wins": found.wins,
        "ties": found.ties,
        "losses": found.losses,
        "win_rate": estimate_facts(found.win_rate),
        "p_value": found.p_value,
        "flipped": estimate_facts(found.flipped),
        "shown_first": estimate_facts(found.shown_first),
        "longer": estimate_facts(found.longer),
        "better": list(found.better),
        "worse": list(found.worse),
        "unjudged_reasons": dict(result.unjudged),
        "unanswered": contest.unanswered,
        "unshared": contest.unshared,
        "judge": result.report.facts(),
    }
