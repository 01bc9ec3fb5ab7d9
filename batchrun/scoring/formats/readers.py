"""Readers of other tools' files. A value that has no place in a table is noted, never dropped silently.

Sources: OpenAI Evals' data and run items, the SDK's `types/evals`; Batch API files,
https://platform.openai.com/docs/guides/batch; inspect_ai's `Sample`; promptfoo's CSV tests, its `src/csv.ts`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from batchrun.errors import InputError
from batchrun.records import Value
from batchrun.scoring.scorers.base import as_text, is_missing
from batchrun.shell_hint import option
from batchrun.wording import rows_text

__all__ = ["CHECKS", "READERS", "Notes", "RowReader"]

Cells: TypeAlias = dict[str, Value]


@dataclass(slots=True)
class Notes:
    """Values that were not carried over.

    Mutable state: `rows`.

    Attributes:
        rows: reason → number of rows.
    """

    rows: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str) -> None:
        """Count one more row for a reason."""
        self.rows[reason] += 1

    def add_rest(self, cells: Mapping[str, Value], known: Iterable[str], within: str = "") -> None:
        """Note every key that has a value and is not known."""
        for key in cells.keys() - set(known):
            if cells[key] not in (None, "", [], {}):
                self.add(f"{within}{key}")

    def lines(self) -> list[str]:
        """Return one line per reason for the terminal, the most frequent first."""
        return [f"not carried over: {reason} ({rows_text(count)})" for reason, count in self.rows.most_common()]


RowReader: TypeAlias = Callable[[Mapping[str, Value], str, Notes], Cells]
"""(cells of one line, its position for messages, notes) → cells of the row."""


def _mapping(value: Value) -> Mapping[str, Value]:
    return value if isinstance(value, dict) else {}


def _list(value: Value) -> list[Value]:
    return value if isinstance(value, list) else []


def _read_evals(cells: Mapping[str, Value], where: str, notes: Notes) -> Cells:
    if isinstance(cells.get("item"), dict):
        notes.add_rest(cells, ("item", "sample"))
        sample = _mapping(cells.get("sample"))
        notes.add_rest(sample, ("output_text", "model"), "sample.")
        added = {"response": sample.get("output_text"), "model": sample.get("model")}
        return {**cells["item"], **{key: value for key, value in added.items() if value is not None}}
    if not isinstance(cells.get("datasource_item"), dict):
        raise InputError(f'{where}: expected an object with "item" (data) or "datasource_item" (an exported run)')
    notes.add_rest(cells, ("datasource_item", "sample", "results", "object", "id"))
    sample = _mapping(cells.get("sample"))
    usage = _mapping(sample.get("usage"))
    notes.add_rest(sample, ("output", "error", "model", "usage", "input", "finish_reason"), "sample.")
    row = {**cells["datasource_item"]}
    row["response"] = "\n\n".join(
        as_text(each["content"])
        for each in _list(sample.get("output"))
        if not is_missing(_mapping(each).get("content"))
    )
    error = _mapping(sample.get("error"))
    failed = not is_missing(error.get("message"))
    row["status"] = "failed" if failed else "incomplete" if sample.get("finish_reason") == "length" else "completed"
    row.update(_error(error.get("code") if failed else None, error.get("message") if failed else None))
    row["model"] = sample.get("model")
    row.update({key: usage.get(key) for key in ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")})
    for result in map(_mapping, _list(cells.get("results"))):
        row[f"score_{result.get('name')}"] = result.get("score")
        row[f"passed_{result.get('name')}"] = result.get("passed")
    return row


def _error(kind: Value, message: Value) -> Cells:
    return {"error_type": kind, "error": message}


def _text(content: Value, where: str, notes: Notes) -> str:
    """Return the text of a message's content; parts without text are noted."""
    if isinstance(content, str):
        return content
    texts = []
    for part in _list(content):
        content_part = _mapping(part)
        if isinstance(content_part.get("text"), str):
            texts.append(content_part["text"])
        else:
            notes.add(f"{where}: parts of type {content_part.get('type')!r}")
    return "\n".join(texts)


def _conversation(messages: Value, where: str, notes: Notes) -> Cells:
    """Return `question` (the last user message) and `instructions` from a list of messages."""
    if isinstance(messages, str):
        return {"question": messages}
    turns = [_mapping(each) for each in _list(messages)]
    system = [_text(each.get("content"), where, notes) for each in turns if each.get("role") in ("system", "developer")]
    users = [_text(each.get("content"), where, notes) for each in turns if each.get("role") == "user"]
    if len(turns) > len(system) + 1:
        notes.add(f"{where}: all but the last user message of a conversation")
    row: Cells = {"question": users[-1] if users else ""}
    return {**row, "instructions": "\n\n".join(system)} if system else row


def _read_batch_request(cells: Mapping[str, Value], where: str, notes: Notes) -> Cells:
    body = cells.get("body")
    if not isinstance(body, dict) or "custom_id" not in cells:
        raise InputError(f'{where}: expected a request of the Batch API, with "custom_id" and "body"')
    notes.add_rest(cells, ("custom_id", "body", "method", "url"))
    if body.get("model"):
        notes.add(f"body.model: use run {option('--model', str(body['model']))}")
    notes.add_rest(body, ("model", "messages", "input", "instructions"), "body.")
    messages = body["messages"] if "messages" in body else body.get("input")
    row = {"custom_id": cells["custom_id"], **_conversation(messages, "body", notes)}
    return {**row, "instructions": body["instructions"]} if body.get("instructions") else row


def _read_batch_result(cells: Mapping[str, Value], where: str, notes: Notes) -> Cells:
    if "custom_id" not in cells or not ("response" in cells or "error" in cells):
        raise InputError(f'{where}: expected a result of the Batch API, with "custom_id" and "response" or "error"')
    reply = _mapping(cells.get("response"))
    body = _mapping(reply.get("body"))
    usage = _mapping(body.get("usage"))
    error = _mapping(cells.get("error")) or _mapping(body.get("error"))
    failed = bool(error) or reply.get("status_code") != 200
    choices = _list(body.get("choices"))
    if len(choices) > 1:
        notes.add("response.body.choices: all but the first")
    message = _mapping(_mapping(choices[0]).get("message")) if choices else {}
    outputs = [_mapping(each) for each in _list(body.get("output"))]
    text = _text(message.get("content"), "response.body.choices", notes) if choices else "\n\n".join(
        _text(each.get("content"), "response.body.output", notes) for each in outputs if each.get("type") == "message"
    )  # fmt: skip
    if message.get("tool_calls") or any(each.get("type") == "function_call" for each in outputs):
        notes.add("response.body: tool calls")
    cut = body.get("status") == "incomplete" or (choices and _mapping(choices[0]).get("finish_reason") == "length")
    details = _mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    return {
        "custom_id": cells["custom_id"],
        "response": text or (None if failed else ""),
        "status": "failed" if failed else "incomplete" if cut else "completed",
        **_error(
            (error.get("code") or error.get("type") or f"http_{reply.get('status_code')}") if failed else None,
            (error.get("message") or f"status {reply.get('status_code')}") if failed else None,
        ),
        "run_id": body.get("id"),
        "model": body.get("model"),
        "prompt_tokens": usage.get("prompt_tokens", usage.get("input_tokens")),
        "completion_tokens": usage.get("completion_tokens", usage.get("output_tokens")),
        "total_tokens": usage.get("total_tokens"),
        "cached_tokens": details.get("cached_tokens"),
    }


def _read_inspect(cells: Mapping[str, Value], where: str, notes: Notes) -> Cells:
    if "input" not in cells:
        raise InputError(f'{where}: expected a sample of inspect_ai, with "input"')
    notes.add_rest(cells, ("input", "target", "id", "choices", "metadata"))
    row: Cells = {} if cells.get("id") is None else {"id": cells["id"]}
    row |= _conversation(cells["input"], "input", notes)
    row |= {key: cells[key] for key in ("target", "choices") if cells.get(key) is not None}
    for key, value in _mapping(cells.get("metadata")).items():
        row[f"metadata_{key}" if key in row else key] = value
    return row


CHECKS: Final[Mapping[str, str]] = {
    "equals": "exact",
    "contains": "includes:case=keep",
    "icontains": "includes",
    "contains-any": "includes:case=keep",
    "icontains-any": "includes",
    "is-json": "json",
}
"""promptfoo assertion → the scorer of batchrun with the same meaning. Other assertions need code or a model."""
_CODE: Final = ("javascript:", "fn:", "eval:", "python:", "file://", "grade:", "llm-rubric:")
_OTHERS: Final = (
    "contains-all|icontains-all|contains-json|starts-with|regex|similar|levenshtein|rouge-n|bleu|gleu|meteor|cost|"
    "latency|perplexity|perplexity-score|webhook|is-sql|contains-sql|is-xml|contains-xml|is-html|contains-html|"
    "is-refusal|moderation|factuality|model-graded-closedqa|model-graded-factuality|answer-relevance|classifier|"
    "context-faithfulness|context-recall|context-relevance|select-best|g-eval|is-valid-openai-tools-call|"
    "is-valid-openai-function-call|guardrails|pi|finish-reason"
)
_ASSERTION: Final = re.compile(
    rf"(?P<no>not-)?(?P<type>{'|'.join(CHECKS)}|{_OTHERS})(?:\([0-9.]+\))?(?::(?P<value>.*))?", re.DOTALL
)


def _read_promptfoo(cells: Mapping[str, Value], where: str, notes: Notes) -> Cells:  # noqa: ARG001 - any CSV will do
    row: Cells = {}
    checks: list[tuple[str, Value]] = []
    for column, value in cells.items():
        if column.startswith("__expected"):
            if not is_missing(value):
                checks += _check(as_text(value), notes)
        elif column in ("__description", "__providerOutput"):
            row["description" if column == "__description" else "response"] = value
        elif column.startswith("__"):
            if not is_missing(value):
                notes.add(column)
        else:
            row[column] = value
    if len(checks) > 1:
        notes.add("__expected: all but the first check of a row")
    row["check"], row["target"] = checks[0] if checks else (None, None)
    return row


def _check(expected: str, notes: Notes) -> list[tuple[str, Value]]:
    """Return (scorer, target) of an `__expected` cell, read like promptfoo's `assertionFromString`; [] if unknown."""
    if expected.startswith(_CODE):
        notes.add(f"__expected: {expected.split(':', 1)[0]}")
        return []
    match = _ASSERTION.fullmatch(expected)
    if match is None:
        return [("exact", expected)]
    kind, value = match["type"], (match["value"] or "").strip()
    if match["no"] or kind not in CHECKS or (kind == "is-json" and value):
        notes.add(f"__expected: {match['no'] or ''}{kind}{' with a schema' if kind == 'is-json' else ''}")
        return []
    if kind.endswith("-any"):
        return [(CHECKS[kind], [each.strip() for each in value.split(",")])]
    return [(CHECKS[kind], value or None)]


READERS: Final[Mapping[str, RowReader]] = {
    "openai-evals": _read_evals,
    "batch-requests": _read_batch_request,
    "batch-results": _read_batch_result,
    "inspect": _read_inspect,
    "promptfoo": _read_promptfoo,
}
"""Format → its reader."""
