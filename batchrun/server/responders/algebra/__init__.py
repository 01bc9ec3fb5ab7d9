"""Arithmetic, percentages and equations in one unknown: pure, exact, bounded, without a language model."""

from .expression import NotUnderstood
from .polynomial import TooLarge
from .question import asks_to_explain, solve_question
from .solution import Solution

__all__ = ["NotUnderstood", "Solution", "TooLarge", "asks_to_explain", "solve_question"]
