"""Results and errors of OpenAI's Batch API. Source: https://platform.openai.com/docs/guides/batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from batchrun.errors import InputError
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.answers import answer_cells, failed_cells
from batchrun.scoring.formats.importers.asked import take_text
from batchrun.scoring.formats.importers.importer import Cells, Importer
from batchrun.scoring.scorers.base import as_text
from batchrun.wording import shortened

__all__ = ["BatchResults", "usage_cells"]


class BatchResults(Importer):
    """One row a result, of chat completions or responses."""

    def rows(self, fields: Fields, document: Document) -> Iterator[Cells]:
        if "custom_id" not in fields or not ("response" in fields or "error" in fields):
            raise InputError(
                f'{document.where}: expected a result of the Batch API, with "custom_id" and "response" or "error"'
            )
        reply = fields.object("response")
        body = reply.object("body")
        error = fields.object("error")
        if not error.fields:
            error = body.object("error")
        code = reply.take("status_code")
        text = reply.text("body") or body.text("error") or fields.text("error")
        is_ok = code == 200 and not error.fields and text is None
        cells = {"custom_id": fields.take("custom_id"), **_answer(body)}
        if not is_ok:
            kind, kind_too = error.take("code"), error.get("type")
            if kind is None and kind_too is not None:
                kind = error.take("type")
            no_code = "the result has no response" if code is None else f"status {as_text(code)}"
            message = error.take("message") or (f"{no_code}: {shortened(text)}" if text else no_code)
            body.take_if("status", "failed")
            kind = kind or ("no_response" if code is None else f"http_{as_text(code)}")
            cells.update(failed_cells(kind, message, text=as_text(cells.get("response"))))
        cells["run_id"], cells["model"] = body.take("id"), body.take("model")
        cells |= usage_cells(body.object("usage"))
        cells |= {
            "status_code": code,
            "request_id": reply.take("request_id") or None,
            "batch_request_id": fields.take("id"),
        }
        tier = body.take("service_tier")
        yield {**cells, "service_tier": tier} if tier is not None else cells


def _answer(body: Fields) -> Cells:
    """Take the answer out of the reply of an endpoint."""
    body.take_if("object", "chat.completion", "response")
    choices, outputs = body.objects("choices"), body.objects("output")
    return _chat_answer(choices) if choices else _response_answer(body, outputs)


def _chat_answer(choices: list[Fields]) -> Cells:
    texts = []
    for index, choice in enumerate(choices):
        choice.take_if("index", index)
        message = choice.object("message")
        message.take_if("role", "assistant")
        refusal = message.text("refusal")
        texts.append((_content(message), refusal))
    (text, refusal), *others = texts
    calls = choices[0].object("message").take("tool_calls")
    finish = choices[0].take("finish_reason")
    cells = answer_cells(
        "\n\n".join(filter(None, [text, refusal])), finish=finish, refused=bool(refusal), has_calls=bool(calls)
    )
    cells |= {"finish_reason": finish, **({"tool_calls": calls} if calls else {})}
    thought = _chat_thought(choices[0].object("message"))
    if thought:
        cells["reasoning"] = thought
    if others:
        cells["other_responses"] = ["\n\n".join(filter(None, each)) for each in others]
        for choice in choices[1:]:
            choice.take_if("finish_reason", finish)
    return cells


def _chat_thought(message: Fields) -> str:
    """Take the thought of a message, which servers of open models give under one of two names."""
    return message.text("reasoning_content") or message.text("reasoning") or ""


def _content(message: Fields) -> str:
    """Take the text of a message; parts that are not text stay."""
    return take_text(message) or ""


def _response_answer(body: Fields, outputs: list[Fields]) -> Cells:
    texts, refusals, calls, citations, thoughts = [], [], [], [], []
    for output in outputs:
        if output.get("type") in ("function_call", "custom_tool_call"):
            calls.append(output.take_all())
        if output.take_if("type", "reasoning"):
            thoughts += _summaries(output)
        if output.get("type") != "message":
            continue
        output.take_if("type", "message")
        output.take_if("role", "assistant")
        output.take_if("status", "completed", "incomplete")
        lines = []
        for part in output.objects("content"):
            if part.take_if("type", "output_text"):
                lines.append(part.text("text") or "")
            elif part.take_if("type", "refusal"):
                refusals.append(part.text("refusal") or "")
            if isinstance(part.get("annotations"), list):
                citations += part.take("annotations")
        texts.append("\n".join(filter(None, lines)))
    details = body.object("incomplete_details")
    finish = details.take("reason")
    if body.take_if("status", "incomplete") and not finish:
        finish = "max_output_tokens"
    body.take_if("status", "completed")
    text = "\n\n".join(filter(None, [*texts, *refusals]))
    cells = answer_cells(text, finish=finish, refused=bool(refusals), has_calls=bool(calls))
    cells["finish_reason"] = finish
    if calls:
        cells["tool_calls"] = calls
    if citations:
        cells["citations"] = citations
    if thoughts:
        cells["reasoning"] = "\n\n".join(thoughts)
    return cells


def _summaries(output: Fields) -> list[str]:
    """Take the texts of a reasoning item."""
    texts = []
    for part in output.objects("summary") + output.objects("content"):
        part.take_if("type", "summary_text", "reasoning_text")
        texts.append(part.text("text") or "")
    return list(filter(None, texts))


_USAGE: Final = {
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "completion_tokens": ("completion_tokens", "output_tokens"),
    "total_tokens": ("total_tokens",),
    "cached_tokens": ("cached_tokens",),
    "reasoning_tokens": ("reasoning_tokens",),
}
_DETAILS: Final = (
    "prompt_tokens_details",
    "input_tokens_details",
    "completion_tokens_details",
    "output_tokens_details",
)


def usage_cells(usage: Fields) -> Cells:
    """Take the tokens out of the usage of a chat completion or a response."""
    places = [usage, *(usage.object(name) for name in _DETAILS)]
    cells: Cells = {}
    for column, names in _USAGE.items():
        found = next(((place, name) for name in names for place in places if place.get(name) is not None), None)
        cells[column] = None if found is None else found[0].take(found[1])
    return cells
