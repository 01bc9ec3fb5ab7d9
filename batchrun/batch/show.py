"""One row as `batchrun show` shows it: its input, prompt, attempts, outcome and thread."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NotRequired, TypedDict

from batchrun.batch.cached_answers import CACHED_FROM
from batchrun.batch.left_shards import take_in
from batchrun.batch.paths import paths_of_output
from batchrun.batch.recorded_input import existing_source
from batchrun.batch.results import UNASKED, prompts_of
from batchrun.batch.selection import recorded_selection, selected_cells
from batchrun.batch.service_thread import ThreadFacts, ThreadReader
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.journal import Journal, manifest_of
from batchrun.prompts.conversations import spoken
from batchrun.prompts.rendering_version import prompter_of
from batchrun.prompts.templates import Prompter, PromptError
from batchrun.records import JsonDict, JsonObject, Manifest, RunEnd
from batchrun.services.assistants_replies import message_text
from batchrun.services.citations import citation_text
from batchrun.services.conversations import chat_messages
from batchrun.tables import Source
from batchrun.wording import local_time, visible_line

__all__ = ["RowFacts", "row_facts", "row_lines"]

KEYS_COMPARED = 100_000
"""Keys that are compared with a misspelled one. Each comparison takes microseconds."""


class ExchangeFacts(TypedDict):
    """One run of a row that may need several. `calls` shows each function call as `name(arguments)`."""

    turn: int
    asked: str
    response: str
    calls: list[str]
    status: str
    run_id: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


class RowFacts(TypedDict):
    """Everything known about a row, as `show --json` prints it.

    `prompt` is None if the prompt could not be made; `problem` is then the reason. `messages` are those of a
    conversation, and examples with the question; missing if only the prompt is sent. `settings` are the model, the
    instructions and the parameters that only this row has; missing if it has those of its batch. `line` is None in
    formats without lines; `part` is the file in a table of parts, otherwise missing. `outcome` has the keys of
    `OUTPUT_COLUMNS`. `carried` is what the answer carried besides its text, as in `Completed.extras`; empty if
    nothing. `thread` is missing if the service keeps no thread, and `cached_from` if the row was sent.
    """

    row: str
    line: int | None
    part: NotRequired[str]
    input: JsonDict
    prompt: list[str] | None
    messages: NotRequired[list[JsonObject]]
    settings: NotRequired[JsonDict]
    problem: str | None
    outcome: JsonDict
    carried: JsonDict
    attempts: list[JsonDict]
    exchanges: list[ExchangeFacts]
    thread: NotRequired[ThreadFacts]
    cached_from: NotRequired[str]


async def row_facts(output: Path, row_key: str, environment: Environment) -> RowFacts:
    """Return everything known about one row, with its thread from the service.

    Args:
        row_key: the row's key; without a key column its position, from 0.

    Raises:
        InputError: there is no such row.
        OutputError: there is no journal, or it holds no batch.
    """
    paths = paths_of_output(output)
    take_in(paths)
    with Journal(paths.journal, read_only=True) as journal:
        manifest = manifest_of(journal)
        source, _ = existing_source(manifest, paths)
        prompter = prompter_of(manifest, source.columns)
        found = next((item for item in prompts_of(source, prompter) if item[0] == row_key), None)
        if found is None:
            raise InputError(f"no row {row_key!r} in {source.name}: {_known_rows(row_key, source, prompter, manifest)}")
        _, row, prompt = found
        if isinstance(prompt, PromptError):
            texts, problem, fingerprint, ends = None, str(prompt), UNASKED, []
        else:
            texts, problem, fingerprint = [prompt.first.text], None, prompt.fingerprint
            ends = journal.exchanges.of_row(row_key, fingerprint)
        facts: RowFacts = {
            "row": row_key,
            "line": row.line,
            "input": dict(row.values),
            "prompt": texts,
            "problem": problem,
            "outcome": selected_cells(recorded_selection(manifest, source), row, journal.cells(row_key, fingerprint)),
            "carried": journal.extras(row_key) if journal.cells(row_key, fingerprint)["completed_at"] else {},
            "attempts": _attempts(journal, row_key),
            "exchanges": [_exchange(end) for end in ends],
        }
        if row.part is not None:
            facts["part"] = row.part
        if not isinstance(prompt, PromptError):
            if prompt.first.messages or prompt.first.examples:
                facts["messages"] = chat_messages(prompt.first)
            if prompt.own is not None:
                facts["settings"] = {name: value for name, value in asdict(prompt.own).items() if value is not None}
        if source_of_answer := journal.extras(row_key).get(CACHED_FROM) if facts["outcome"]["completed_at"] else None:
            facts["cached_from"] = source_of_answer
    thread_id = facts["outcome"]["thread_id"]
    # A chat completion leaves nothing at the service: its thread is the prompt and the response.
    if thread_id and manifest["settings"]["api"] != "chat":
        reader = ThreadReader(manifest, paths.with_store(manifest.get("store")), environment)
        facts["thread"] = await reader.read(thread_id, facts["outcome"]["run_id"])
    return facts


def _exchange(end: RunEnd) -> ExchangeFacts:
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


def _known_rows(wanted: str, source: Source, prompter: Prompter, manifest: Manifest) -> str:
    """Return how the rows are identified, and which one `wanted` may mean."""
    column = manifest.get("key")
    of_combination = next((key for key in map(prompter.row_key, source.rows()) if key.startswith(f"{wanted}|")), None)
    if of_combination is not None:
        return f"it has several combinations of settings, each with its own key, such as {of_combination!r}"
    if column is None:
        keys = [prompter.row_key(row) for row in islice(source.rows(), manifest["rows"])]
        return f"rows are identified by position: {keys[0]} to {keys[-1]}"
    # In a table with more keys, the closest one among the first must do.
    keys = [prompter.row_key(row) for row in islice(source.rows(), KEYS_COMPARED)]
    near = difflib.get_close_matches(wanted, keys, n=3, cutoff=0.5)
    position = int(wanted) if wanted.isascii() and wanted.isdecimal() and len(wanted) < 10 else len(keys)
    return (
        f"rows are identified by the --key column {column!r}"
        + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")
        + (f"; the row at position {position} is {keys[position]!r}" if position < len(keys) else "")
    )


# -- for people ---------------------------------------------------------------------------------------------


def row_lines(facts: RowFacts) -> list[str]:
    """Return `row_facts` for people."""
    outcome = facts["outcome"]
    where = f"line {facts['line']} of " if facts["line"] else ""
    where = f" ({where}{facts.get('part', 'the input')})" if where or "part" in facts else ""
    lines = [f"row {facts['row']}{where} · {outcome['status']}"]
    if "cached_from" in facts:
        lines.append(
            f"answer from the cache, paid for by {facts['cached_from']} · {local_time(outcome['completed_at'])}"
        )
    for attempt in facts["attempts"]:
        fault = f" · {attempt['fault_type']}: {attempt['fault']}" if attempt["fault_type"] else ""
        run = attempt["run_id"] or "no run id received"
        state = _LINE_STATES.get(attempt.get("batch_api", ""), "")
        lines.append(f"attempt {attempt['number']} · {local_time(attempt['started_at'])} · {run}{state}{fault}")
    lines += _setting_lines(facts.get("settings", {}))
    thread = facts.get("thread", {})
    if "messages" in thread:
        lines += _thread_lines(outcome["thread_id"], thread)
    elif "response" in thread and not facts["exchanges"]:
        lines += _response_lines(thread["response"], thread["input_items"])
    else:
        lines += _exchange_lines(facts["exchanges"]) if facts["exchanges"] else _prompt_lines(facts)
        if "unreachable" in thread:
            lines += ["", f"thread {outcome['thread_id']}: {thread['unreachable']}"]
    lines += _carried_lines(facts["carried"])
    if outcome["error"]:
        lines += ["", f"{outcome['error_type']}: {outcome['error']}"]
    if outcome["total_tokens"] is not None:
        lines += ["", _usage_line(outcome)]
    return lines


def _setting_lines(settings: JsonObject) -> list[str]:
    """Return the settings that only this row has. Parameters include those that all rows share."""
    lines = [f"model of this row: {visible_line(settings['model'])}"] if "model" in settings else []
    if "param" in settings:
        lines.append(f"parameters of this row: {json.dumps(settings['param'], ensure_ascii=False)}")
    if "instructions" in settings:
        lines += ["", "instructions of this row:", *_indented(settings["instructions"])]
    return lines


def _carried_lines(carried: JsonObject) -> list[str]:
    """Return the reasoning and the sources of an answer."""
    lines = ["", "reasoning:", *_indented(carried["reasoning"])] if carried.get("reasoning") else []
    sources = [citation_text(each) for each in carried.get("citations") or ()]
    if sources:
        lines += [
            "",
            "citations:",
            *(f"  [{number}] {' '.join(text.split())}" for number, text in enumerate(sources, 1)),
        ]
    return lines


def _usage_line(outcome: JsonObject) -> str:
    cost = f", ${outcome['cost_usd']:.6f}" if outcome["cost_usd"] is not None else ""
    return (
        f"usage: {outcome['prompt_tokens']} tokens in ({outcome['cached_tokens'] or 0} cached), "
        f"{outcome['completion_tokens']} out ({outcome['reasoning_tokens'] or 0} reasoning){cost}"
    )


def _prompt_lines(facts: RowFacts) -> list[str]:
    """Return prompt and answer, for a row whose thread only the journal knows."""
    if "messages" in facts:
        lines = [line for role, text in spoken(facts["messages"]) for line in ("", f"{role}:", *_indented(text))]
    else:
        lines = ["", "user:", *_indented("\n\n".join(facts["prompt"] or [f"({facts['problem']})"]))]
    if facts["outcome"]["response"]:
        lines += ["", "assistant:", *_indented(facts["outcome"]["response"])]
    return lines


def _exchange_lines(exchanges: Sequence[ExchangeFacts]) -> list[str]:
    """Return the runs of a row, as the journal recorded them."""
    lines: list[str] = []
    is_after_calls = False
    for exchange in exchanges:
        who = "functions" if is_after_calls else f"user · turn {exchange['turn']}"
        lines += ["", f"{who}:", *_indented(exchange["asked"])]
        if exchange["response"]:
            lines += ["", f"assistant · {exchange['run_id']}:", *_indented(exchange["response"])]
        if exchange["calls"]:
            lines += ["", *(f"assistant calls {call}" for call in exchange["calls"])]
        is_after_calls = bool(exchange["calls"])
    return lines


def _thread_lines(thread_id: str, thread: ThreadFacts) -> list[str]:
    lines = ["", f"thread {thread_id}"]
    for message in thread["messages"]:
        lines += ["", f"{message['role']} · {message['id']}:", *_indented(message_text(message))]
    run = thread.get("run")
    if run is not None:
        took = f" · {run['completed_at'] - run['created_at']} s" if run.get("completed_at") else ""
        started = _local_time(run["created_at"])
        lines += ["", f"run {run['id']} · {run['status']} · model {run['model']} · {started}{took}"]
    for step in thread.get("steps", []):
        lines.append(f"step {step['id']} · {step['type']} · {step['status']}")
    return lines


def _response_lines(response: JsonObject, input_items: Sequence[JsonObject]) -> list[str]:
    conversation = response.get("conversation")
    lines = ["", f"conversation {conversation['id']}"] if conversation else []
    for item in [*input_items, *response["output"]]:
        if item["type"] == "message":
            texts = (part.get("text") or part.get("refusal") or "" for part in item["content"])
            lines += ["", f"{item['role']} · {item['id']}:", *_indented("\n".join(texts))]
        else:
            lines += ["", f"{item['type']} · {item.get('id')}"]
    started = _local_time(response["created_at"])
    lines += ["", f"response {response['id']} · {response['status']} · model {response['model']} · {started}"]
    return lines


_LINE_STATES = {"waiting": " · for the Batch API, not sent yet", "open": " · at the service's Batch API"}


def _attempts(journal: Journal, row_key: str) -> list[JsonDict]:
    """Return the attempts at a row; those whose request is on its way through the Batch API have `batch_api`."""
    found = list(journal.attempts(row_key))
    states = journal.service_batches.line_states(each["run_id"] for each in found if each["fault_type"] is None)
    return [{**each, **({"batch_api": states[each["run_id"]]} if each["run_id"] in states else {})} for each in found]


def _local_time(timestamp_s: int) -> str:
    return local_time(datetime.fromtimestamp(timestamp_s, UTC))


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines() or [""]]
