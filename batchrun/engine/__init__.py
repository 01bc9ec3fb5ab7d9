"""Stage 4 and the hot path: rows in, outcomes into the journal, under the limits."""

from batchrun.engine.budget import Budget
from batchrun.engine.engine import Engine, Forget, Stop, Work
from batchrun.engine.limits import Limits, LimitsStatistics
from batchrun.engine.retry import RetryPolicy
from batchrun.engine.row import Ask, Manner, Price
from batchrun.engine.tally import EngineStatistics

__all__ = [
    "Ask",
    "Budget",
    "Engine",
    "EngineStatistics",
    "Forget",
    "Limits",
    "LimitsStatistics",
    "Manner",
    "Price",
    "RetryPolicy",
    "Stop",
    "Work",
]
