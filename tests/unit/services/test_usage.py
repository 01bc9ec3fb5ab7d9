"""Reading the usage of a run."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.services.usage import MAX_TOKENS, usage_of_response, usage_of_tokens


@pytest.mark.parametrize("odd", [-1, 2.5, "10", None, True, [], {}, MAX_TOKENS + 1, 2**63 - 1, 2**70])
def test_a_number_that_no_run_can_have_taken_is_left_out(odd: Any) -> None:
    """An implausible number is neither counted nor charged, so that it stops no batch; the rest is kept."""
    usage = usage_of_tokens({"prompt_tokens": odd, "completion_tokens": 5, "total_tokens": odd})
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (None, 5, None)
    usage = usage_of_response({"input_tokens": 7, "output_tokens": odd})
    assert (usage.prompt_tokens, usage.completion_tokens) == (7, None)
