"""Looking at a batch from outside, by its journal: status, export, and one row's thread."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from batchrun.batch.paths import paths_of_output
from batchrun.batch.recorded_input import existing_source
from batchrun.batch.results import UNASKED, prompts_of
from batchrun.batch.service_thread import ThreadReader
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.journal import Journal
from batchrun.prompts.templates import Prompter, PromptError, prompter_of
from batchrun.records import RunEnd
from batchrun.services.assistants_replies import message_text
from batchrun.tables import Source

__all__ = ["row_lines", "row_story"]

KEYS_COMPARED = 100_000
"""Keys that a row's misspelt name is compared with."""


# -- status -------------------------------------------------------------------------------------------------


# -- export -------------------------------------------------------------------------------------------------


# -- assistants -------------------------------------------------------------------------------------------------


# -- one row --------------------------------------------------------------------------------------------------


async def row_story(output: Path, row_key: str, environment: Environment) -> dict[str, Any]:
    """Everything known about one row: its input, prompt, tries, outcome, and its thread from the service.

    Args:
        row_key: the row's position, from 0, or its key where the batch has one.

    Raises:
        InputError: no such row.
        OutputError: no journal.
    """
    paths = paths_of_output(output)
    with Journal(paths.journal, read_only=True) as journal:
        manifest = journal.read_manifest()
        source, _ = existing_source(manifest, paths)
        prompter = prompter_of(manifest, source.columns)
        found = next((item for item in prompts_of(source, prompter) if item[0] == row_key), None)
        if found is None:
            raise InputError(f"no row {row_key!r} in {source.name}: {_rows_there(row_key, source, prompter, manifest)}")
        _, row, prompt = found
        problem = str(prompt) if isinstance(prompt, PromptError) else None
        cells = journal.cells(row_key, UNASKED if isinstance(prompt, PromptError) else prompt.fingerprint)
        attempts = list(journal.attempts(row_key))
        ends = [] if isinstance(prompt, PromptError) else journal.exchanges.of_row(row_key, prompt.fingerprint)
    story = {
        "row": row_key,
        "line": row.line,
        "input": dict(row.values),
        "prompt": None if isinstance(prompt, PromptError) else [prompt.first.text],
        "problem": problem,
        "outcome": cells,
        "attempts": attempts,
        "exchanges": [_exchange(end) for end in ends],
    }
    # A chat completion leaves nothing at the service: its thread is the prompt and the response.
    if cells["thread_id"] and manifest["settings"]["api"] != "chat":
        service = ThreadReader(manifest, paths.with_store(manifest.get("store")), environment)
        story["thread"] = await service.story(cells["thread_id"], cells["run_id"])
    return story


def _exchange(end: RunEnd) -> dict[str, Any]:
    """One run of a row that may need several."""
    return {
        "turn": end.turn,
        "asked": end.asked,
        "response": end.reply.response,
        "calls": [f"{call.name}({call.arguments})" for call in end.reply.calls],
        "status": end.reply.status,
        "run_id": end.run_id,
        "prompt_tokens": end.reply.usage.prompt_tokens,
        "completion_tokens": end.reply.usage.completion_tokens,
    }


def _rows_there(wanted: str, source: Source, prompter: Prompter, manifest: Mapping[str, Any]) -> str:
    """How the rows are named, and what may have been meant instead of `wanted`."""
    column = manifest.get("key")
    several = next((key for key in map(prompter.row_key, source.rows()) if key.startswith(f"{wanted}|")), None)
    if several is not None:
        return f"it is asked in several combinations, each with a name of its own, such as {several!r}"
    if column is None:
        keys = [prompter.row_key(row) for row in islice(source.rows(), manifest["rows"])]
        return f"its rows are {keys[0]} to {keys[-1]}"
    # Each comparison takes microseconds: in a larger table the nearest of its beginning must do.
    keys = [prompter.row_key(row) for row in islice(source.rows(), KEYS_COMPARED)]
    near = difflib.get_close_matches(wanted, keys, n=3, cutoff=0.5)
    place = int(wanted) if wanted.isascii() and wanted.isdecimal() and len(wanted) < 10 else len(keys)
    return (
        f"with --key its rows are named by the column {column!r}"
        + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")
        + (f"; the row at position {place} is {keys[place]!r}" if place < len(keys) else "")
    )


def row_lines(story: Mapping[str, Any]) -> list[str]:
    """`row_story` for people."""
    outcome = story["outcome"]
    where = f" (line {story['line']} of the input)" if story["line"] else ""
    lines = [f"row {story['row']}{where} · {outcome['status']}"]
    for attempt in story["attempts"]:
        fault = f" · {attempt['fault_type']}: {attempt['fault']}" if attempt["fault_type"] else ""
        lines.append(
            f"try {attempt['number']} · {attempt['started_at'][:19]}Z · {attempt['run_id'] or 'no run seen'}{fault}"
        )
    thread = story.get("thread", {})
    if "messages" in thread:
        lines += _thread_lines(outcome["thread_id"], thread)
    elif "response" in thread and not story["exchanges"]:
        lines += _response_lines(thread["response"], thread["input_items"])
    else:
        lines += _spoken_lines(story)
        if "unreachable" in thread:
            lines += ["", f"thread {outcome['thread_id']}: {thread['unreachable']}"]
    if outcome["error"]:
        lines += ["", f"{outcome['error_type']}: {outcome['error']}"]
    if outcome["total_tokens"] is not None:
        lines += [
            "",
            f"usage: {outcome['prompt_tokens']} tokens in ({outcome['cached_tokens'] or 0} cached), "
            f"{outcome['completion_tokens']} out ({outcome['reasoning_tokens'] or 0} reasoning)"
            + (f", ${outcome['cost_usd']:.6f}" if outcome["cost_usd"] is not None else ""),
        ]
    return lines


def _spoken_lines(story: Mapping[str, Any]) -> list[str]:
    """What the journal itself knows of a row's thread."""
    if not story["exchanges"]:
        lines = ["", "user:", *_indented("\n\n".join(story["prompt"] or [f"({story['problem']})"]))]
        if story["outcome"]["response"]:
            lines += ["", "assistant:", *_indented(story["outcome"]["response"])]
        return lines
    lines, after_calls = [], False
    for exchange in story["exchanges"]:
        who = "functions" if after_calls else f"user · turn {exchange['turn']}"
        lines += ["", f"{who}:", *_indented(exchange["asked"])]
        if exchange["response"]:
            lines += ["", f"assistant · {exchange['run_id']}:", *_indented(exchange["response"])]
        if exchange["calls"]:
            lines += ["", *(f"assistant calls {call}" for call in exchange["calls"])]
        after_calls = bool(exchange["calls"])
    return lines


def _thread_lines(thread_id: str, thread: Mapping[str, Any]) -> list[str]:
    lines = ["", f"thread {thread_id}"]
    for message in thread["messages"]:
        lines += ["", f"{message['role']} · {message['id']}:", *_indented(message_text(message))]
    run = thread.get("run")
    if run is not None:
        took = f" · {run['completed_at'] - run['created_at']} s" if run.get("completed_at") else ""
        started = datetime.fromtimestamp(run["created_at"]).astimezone().isoformat(sep=" ", timespec="seconds")
        lines += ["", f"run {run['id']} · {run['status']} · model {run['model']} · {started}{took}"]
    for step in thread.get("steps", []):
        lines.append(f"step {step['id']} · {step['type']} · {step['status']}")
    return lines


def _response_lines(response: Mapping[str, Any], input_items: Sequence[Mapping[str, Any]]) -> list[str]:
    conversation = response.get("conversation")
    lines = ["", f"conversation {conversation['id']}"] if conversation else []
    for item in [*input_items, *response["output"]]:
        if item["type"] == "message":
            texts = (part.get("text") or part.get("refusal") or "" for part in item["content"])
            lines += ["", f"{item['role']} · {item['id']}:", *_indented("\n".join(texts))]
        else:
            lines += ["", f"{item['type']} · {item.get('id')}"]
    started = datetime.fromtimestamp(response["created_at"]).astimezone().isoformat(sep=" ", timespec="seconds")
    lines += ["", f"response {response['id']} · {response['status']} · model {response['model']} · {started}"]
    return lines


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines() or [""]]
