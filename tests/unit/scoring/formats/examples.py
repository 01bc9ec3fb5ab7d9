"""A document of every kind that importers read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

__all__ = ["CASE", "EXAMPLES", "OUTPUT_ITEM", "PAGE"]

DATA: Final = Path(__file__).parents[3] / "data" / "imports"

OUTPUT_ITEM: Final[dict[str, Any]] = {
    "object": "eval.run.output_item",
    "id": "outputitem_1",
    "created_at": 1743092076,
    "run_id": "evalrun_1",
    "eval_id": "eval_1",
    "status": "pass",
    "datasource_item_id": 5,
    "datasource_item": {"question": "2+2", "label": "4", "response": "gold", "id": 9, "tags": ["a", {"b": 1}]},
    "results": [
        {"name": "eq", "sample": None, "passed": True, "score": 1.0},
        {"name": "eq", "passed": False, "score": 0.0},
        {
            "name": "judge",
            "type": "score_model",
            "passed": True,
            "score": 0.8,
            "sample": {"output": [{"role": "assistant", "content": "because"}], "usage": {"total_tokens": 300}},
        },
    ],
    "sample": {
        "input": [{"role": "developer", "content": "Be short"}, {"role": "user", "content": "2+2"}],
        "output": [{"role": "assistant", "content": "4", "tool_calls": [{"id": "c1", "function": {"name": "f"}}]}],
        "finish_reason": "stop",
        "model": "gpt-4o",
        "usage": {"total_tokens": 3, "completion_tokens": 1, "prompt_tokens": 2, "cached_tokens": 0},
        "error": None,
        "temperature": 1.0,
        "seed": 42,
    },
}
FAILED_ITEM: Final[dict[str, Any]] = {
    **OUTPUT_ITEM,
    "id": "outputitem_2",
    "results": [],
    "sample": {"error": {"code": "server_error", "message": "boom"}, "output": [], "input": []},
}
PAGE: Final[dict[str, Any]] = {
    "object": "list",
    "data": [OUTPUT_ITEM, FAILED_ITEM],
    "first_id": "outputitem_1",
    "last_id": "outputitem_2",
    "has_more": False,
}
DATA_LINE: Final[dict[str, Any]] = {
    "item": {"question": "2+2", "label": "4", "model": "human"},
    "sample": {"output_text": "4", "model": "gpt-4o", "output_tools": [], "finish_reason": "stop", "seed": 1},
}
RUN: Final[dict[str, Any]] = {
    "object": "eval.run",
    "id": "evalrun_1",
    "eval_id": "eval_1",
    "model": "gpt-4o",
    "status": "completed",
    "data_source": {"type": "jsonl", "source": {"type": "file_content", "content": [DATA_LINE, DATA_LINE]}},
    "result_counts": {"errored": 0, "failed": 1, "passed": 2, "total": 3},
}
OAIEVAL: Final[dict[str, Any]] = {
    "input": [
        {"role": "system", "content": "Be brief"},
        {"role": "system", "name": "example_user", "content": "1+1"},
        {"role": "user", "content": "2+2"},
    ],
    "ideal": ["4", "four"],
    "target": "other",
}
REQUEST: Final[dict[str, Any]] = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {
        "model": "gpt-4o",
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "Be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "1+1"}, {"type": "image_url", "image_url": {"url": "u"}}],
            },
        ],
    },
}
FINE_TUNING: Final[dict[str, Any]] = {
    "messages": [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2", "weight": 1}],
    "parallel_tool_calls": False,
}
CHAT_RESULT: Final[dict[str, Any]] = {
    "id": "batch_req_1",
    "custom_id": "a",
    "error": None,
    "response": {
        "status_code": 200,
        "request_id": "req_1",
        "body": {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-4o",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "logprobs": {"content": [{"token": "4", "logprob": -0.5}]},
                    "message": {"role": "assistant", "content": "4", "refusal": None, "annotations": [{"type": "x"}]},
                },
                {"index": 1, "finish_reason": "length", "message": {"role": "assistant", "content": "5"}},
            ],
            "usage": {
                "prompt_tokens": 3,
                "completion_tokens": 1,
                "total_tokens": 4,
                "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 7},
            },
        },
    },
}
RESPONSE_RESULT: Final[dict[str, Any]] = {
    "id": "batch_req_2",
    "custom_id": "b",
    "response": {
        "status_code": 200,
        "body": {
            "id": "resp_1",
            "object": "response",
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "model": "gpt-5-mini",
            "output": [
                {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c1"},
                {
                    "type": "message",
                    "id": "m",
                    "role": "assistant",
                    "status": "completed",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "Hi",
                            "annotations": [{"type": "url_citation", "url": "http://x"}],
                        },
                        {"type": "refusal", "refusal": "no"},
                    ],
                },
            ],
            "usage": {"input_tokens": 5, "output_tokens": 70, "input_tokens_details": {"cached_tokens": 1}},
        },
    },
}
ERROR_RESULT: Final[dict[str, Any]] = {
    "id": "batch_req_3",
    "custom_id": "c",
    "response": {
        "status_code": 400,
        "body": {"error": {"message": "no", "type": "invalid", "param": "p", "code": "x"}},
    },
    "error": {"code": "bad", "message": "too late"},
}
SAMPLE: Final[dict[str, Any]] = {
    "id": 7,
    "input": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}],
    "ideal": ["A", "B"],
    "choices": ["x", "y"],
    "metadata": {"level": 3, "target": "other", "id": "m"},
    "sandbox": "docker",
    "files": {"a": "b"},
    "extra": {"deep": [1]},
}
LOG: Final[dict[str, Any]] = {
    "version": 2,
    "status": "cancelled",
    "eval": {"task": "t", "model": "m"},
    "plan": {"steps": [{"solver": "s"}]},
    "samples": [
        {
            "id": "s1",
            "epoch": 2,
            "input": "attachment://h",
            "target": "4",
            "messages": [{"role": "user", "content": "attachment://h", "id": "i1"}, {"role": "assistant", "content": "4"}],
            "output": {
                "model": "mockllm",
                "completion": "4",
                "choices": [{"message": {"role": "assistant", "content": "4"}, "stop_reason": "stop"}],
                "usage": {"input_tokens": 6, "output_tokens": 1, "total_tokens": 7},
            },
            "scores": {
                "match": {"value": "C", "answer": "4", "explanation": "equal", "metadata": {"k": 1}},
                "multi": {"value": {"a": 1.0, "b": "I"}, "answer": "other"},
            },
            "metadata": {"level": 3, "epoch": "x"},
            "model_usage": {"mockllm": {"input_tokens": 6, "output_tokens": 1, "total_tokens": 7}},
            "attachments": {"h": "a long text", "unused": "another"},
            "limit": {"type": "token", "limit": 10.0},
            "error_retries": [{"message": "again"}],
            "total_time": 0.5,
            "completed_at": "2026-11-29T17:53:35+00:00",
            "events": [{"event": "sample_init"}],
        },
        {"id": "s2", "epoch": 1, "input": "x", "target": "y", "output": {"choices": []},
         "error": {"message": "RuntimeError('boom')", "traceback": "at"}},
    ],
}  # fmt: skip
CASE: Final[dict[str, Any]] = {
    "description": "first",
    "vars": {"topic": "a", "response": "R", "list": ["x", "y"]},
    "assert": [
        {"type": "contains", "value": "Paris", "weight": 2, "metric": "city"},
        {"type": "assert-set", "threshold": 0.5, "assert": [{"type": "llm-rubric", "value": "is nice"}]},
        {"type": "latency", "threshold": 500},
        {"type": "javascript", "value": "output.length > 3"},
    ],
    "metadata": {"kind": "k"},
    "options": {"provider": "p"},
    "threshold": 0.9,
}
CONFIG: Final[dict[str, Any]] = {
    "description": "a configuration",
    "prompts": ["Say {{topic}}", {"raw": "x", "label": "y"}],
    "providers": ["openai:gpt-4o", {"id": "openai:gpt-5-mini", "config": {"temperature": 0.5}}],
    "defaultTest": {"assert": [{"type": "icontains", "value": "d"}], "vars": {"shared": "s"}, "options": {"o": 1}},
    "tests": [CASE, {"vars": {"topic": "b"}}],
    "scenarios": [{"config": [{"vars": {"lang": "de"}}], "tests": [{"vars": {"topic": "c"}}], "description": "sc"}],
}
RESULT: Final[dict[str, Any]] = {
    "id": "uuid-1",
    "promptIdx": 0,
    "testIdx": 3,
    "promptId": "hash",
    "provider": {"id": "openai:gpt-4o", "label": "four"},
    "prompt": {"raw": "Say a", "label": "Say {{topic}}", "id": "hash", "config": {"x": 1}},
    "vars": {"topic": "a", "response": "R"},
    "testCase": {"vars": {"topic": "a", "response": "R"}, "assert": [{"type": "equals", "value": "A"}], "metadata": {"m": 1}},
    "response": {"output": "A", "finishReason": "stop", "cost": 0.1, "tokenUsage": {"total": 5, "prompt": 3, "completion": 2}},
    "error": "Expected output",
    "failureReason": 1,
    "success": False,
    "score": 0.5,
    "latencyMs": 1500,
    "cost": 0.1,
    "namedScores": {"m": 0.5},
    "gradingResult": {
        "pass": False,
        "score": 0.5,
        "reason": "Expected output",
        "namedScores": {"m": 0.5},
        "tokensUsed": {"total": 1},
        "componentResults": [
            {"pass": False, "score": 0, "reason": "no", "assertion": {"type": "equals", "value": "A"}},
            {"pass": True, "score": 1, "reason": "yes", "assertion": {"type": "contains", "value": "B"}},
        ],
    },
}  # fmt: skip
RESULTS: Final[dict[str, Any]] = {
    "evalId": "eval-1",
    "results": {"version": 3, "timestamp": "now", "results": [RESULT, {**RESULT, "failureReason": 2, "promptIdx": 1}]},
    "config": {"prompts": ["p"]},
}
CSV_TEST: Final[dict[str, Any]] = {
    "topic": "a",
    "target": "T",
    "_expected": "oops",
    "__expected": "similar(0.8): hello",
    "__expected2": "contains-any: a, b",
    "__config:__expected:threshold": "0.7",
    "__description": "d",
    "__providerOutput": "out",
    "__metric": "m",
    "__metadata:kind": "k",
    "__metadata:tags[]": "x,y",
}
CSV_RESULT: Final[dict[str, Any]] = {
    "topic": "a",
    "[openai:gpt-4o] Say {{topic}}": "A",
    "Status": "PASS",
    "Score": "1.00",
    "Named Scores": '{"m":1}',
    "Metric: m": "1.00",
    "Grader Reason": "fine",
    "Comment": "c",
    "[openai:gpt-5-mini] Say {{topic}}": "boom",
    "Status (2)": "ERROR",
    "Score (2)": "0.00",
    "Named Scores (2)": "",
    "Grader Reason (2)": "no",
    "Comment (2)": "",
}


def _lines(pattern: str) -> list[dict[str, Any]]:
    (path,) = DATA.glob(pattern)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


EXAMPLES: Final[list[tuple[str, dict[str, Any]]]] = [
    *(("openai-evals", each) for each in (PAGE, DATA_LINE, RUN, OAIEVAL)),
    ("batch-requests", REQUEST),
    ("messages", FINE_TUNING),
    *(("batch-results", each) for each in (CHAT_RESULT, RESPONSE_RESULT, ERROR_RESULT)),
    *(("inspect", each) for each in (SAMPLE, LOG)),
    *(("promptfoo", each) for each in (CASE, CONFIG, RESULTS, CSV_TEST, CSV_RESULT)),
    *(("lm-eval", each) for each in (_lines("samples_toy_mc*")[0], _lines("samples_toy_gen*")[0])),
]
