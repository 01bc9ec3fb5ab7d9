"""Arithmetic, percentages and equations in one unknown: pure, exact, bounded, without a language model."""

from batchrun.server.responders.algebra.expression import NotUnderstood
from batchrun.server.responders.algebra.polynomial import TooLarge
from batchrun.server.responders.algebra.question import asks_to_explain, solve_question
from batchrun.server.responders.algebra.solution import Solution

__all__ = ["NotUnderstood", "Solution", "TooLarge", "asks_to_explain", "solve_question"]
