"""Answers across batches: a SQLite file with the answers to prompts that other batches have paid for."""

from batchrun.cache.answer_file import AnswerFile, KnownAnswer, check_answer_file, reason_of
from batchrun.cache.occurrences import Occurrences
from batchrun.cache.row_keys import AnswerKey, RowKeys, Uncacheable, has_function_tools, service_identity

__all__ = [
    "AnswerFile",
    "AnswerKey",
    "KnownAnswer",
    "Occurrences",
    "RowKeys",
    "Uncacheable",
    "check_answer_file",
    "has_function_tools",
    "reason_of",
    "service_identity",
]
