"""Stage 4 and the hot path: runs rows under the limits, and writes their outcomes to the journal."""

from batchrun.engine.budget import Budget
from batchrun.engine.engine import Engine, Forget
from batchrun.engine.limits import Limits, LimitsStatistics
from batchrun.engine.purse import FixedPurse, Purse
from batchrun.engine.refusals import Answers
from batchrun.engine.retry import RetryPolicy
from batchrun.engine.row_context import CachedRow, DialogueSettings, Price, RowTask, RowWork, SkippedRow
from batchrun.engine.stop import BUDGET_REACHED, Stop
from batchrun.engine.tally import EngineStatistics

__all__ = [
    "BUDGET_REACHED",
    "Answers",
    "Budget",
    "CachedRow",
    "DialogueSettings",
    "Engine",
    "EngineStatistics",
    "FixedPurse",
    "Forget",
    "Limits",
    "LimitsStatistics",
    "Price",
    "Purse",
    "RetryPolicy",
    "RowTask",
    "RowWork",
    "SkippedRow",
    "Stop",
]
