"""Requests for the Batch API, as `run --batch-api` would send them: those of a table, or of a job file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from batchrun.batch.plan import Plan, make_plan
from batchrun.engine import Limits
from batchrun.engine.dialogue import Dialogue
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.file import is_job_file, table_and_options
from batchrun.job.templated import without_templates
from batchrun.job.validation import make_job
from batchrun.prompts.conversations import is_conversation
from batchrun.prompts.placeholders import placeholder_of
from batchrun.prompts.templates import PromptError
from batchrun.records import Attempt, Exchange, JsonDict, Prompt, Row
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import is_missing
from batchrun.services.batch_api.lines import MAX_LINES, encoded_line
from batchrun.services.chat import ChatService
from batchrun.services.client import Endpoint
from batchrun.services.factory import make_service
from batchrun.services.responses import ResponsesService
from batchrun.services.wire import Wire
from batchrun.tables import ReadOptions, open_source

__all__ = ["write_requests"]

_NOT_IN_A_LINE: Final = (
    "stream", "background", "conversation", "attach", "code_interpreter", "file_search", "assistant", "thread_column",
)  # fmt: skip
"""Options whose requests are more than a line in a file."""

_IDS: Final = ("custom_id", "id")
_PROMPTS: Final = ("question", "prompt", "messages")
_INSTRUCTIONS: Final = "instructions"


def write_requests(
    name: str,
    folder: Path,
    write: Callable[[bytes], object],
    conversion: Conversion,
    environment: Environment,
    notes: Notes,
) -> int:
    """Write one request for each row of a table or of a job file, and return their number.

    Args:
        folder: an empty folder, in which nothing is left.
        write: called with each line, with its line break.

    Raises:
        InputError: the job is invalid, or has options that the Batch API does not have.
    """
    requests = _Requests.of(name, folder / "answers.csv", conversion, environment)
    return asyncio.run(requests.write(write, notes))


@dataclass(frozen=True, slots=True)
class _Requests:
    """The requests of a plan.

    Attributes:
        plain: the plan without the column `instructions`, for rows in which it is empty; None if every row has the
            same kind of instructions.
        used: columns of the table that become a part of the requests; None for a job, whose templates decide.
    """

    plan: Plan
    plain: Plan | None
    used: frozenset[str] | None

    @classmethod
    def of(cls, name: str, output: Path, conversion: Conversion, environment: Environment) -> _Requests:
        given = {
            "model": conversion.model,
            "api": conversion.api,
            "instructions": conversion.instructions,
            "schema": conversion.schema,
            "param": list(conversion.param) or None,
            "key": conversion.key,
        }
        options = {option: value for option, value in given.items() if value is not None}
        if is_job_file(name):
            if conversion.prompt is not None:
                options["prompt"] = placeholder_of(conversion.prompt)
            table, _, options = table_and_options(name, options, None)
            return cls(_planned(options, table, environment, output), None, None)
        own, used, has_gaps = _table_options(name, conversion)
        options = {**own, **options}
        plain = None
        if has_gaps and conversion.instructions is None:
            without = {option: value for option, value in options.items() if option != "instructions"}
            plain = _planned(without, name, environment, output)
        return cls(_planned(options, name, environment, output), plain, used)

    async def write(self, write: Callable[[bytes], object], notes: Notes) -> int:
        """Write all requests, and return their number."""
        plan = self.plan
        for line in plan.notices:
            notes.remark(line, 0)
        wire = Wire(Endpoint(None, None), Limits(), silence_timeout_s=1)
        services = [_service(plan, variant, wire) for variant in range(len(plan.variants))]
        models: set[object] = set()
        number = 0
        try:
            for custom_id, row, prompt in self._prompts(notes):
                if self.used is not None:
                    notes.add_rest(row.values, self.used)
                if prompt.later is not None and prompt.later.count > 1:
                    notes.remark("further turns are not in the file: they need the answers to the first")
                service = services[prompt.variant]
                exchange = _first_exchange(prompt, structured=plan.structure is not None)
                body = dict(await service.request_body(exchange, Attempt(1, 1, "")))
                _leave_out_batch(body)
                models.add(body.get("model"))
                write(encoded_line(custom_id, service.endpoint, body) + b"\n")
                number += 1
        finally:
            await wire.aclose()
        if len(models) > 1:
            notes.remark(f"the requests have {len(models)} models; the Batch API takes files with one model", 0)
        if number > MAX_LINES:
            notes.remark(f"the Batch API takes at most {MAX_LINES:,} requests in a file", 0)
        return number

    def _prompts(self, notes: Notes) -> Iterator[tuple[str, Row, Prompt]]:
        """Yield (custom id, row, prompt) of the rows that `run` would send."""
        plan = self.plan
        for row in plan.asked.rows():
            is_plain = self.plain is not None and is_missing(row.values.get(_INSTRUCTIONS))
            prompter = self.plain.prompter if self.plain is not None and is_plain else plan.prompter
            try:
                prompt = prompter.render(row)
            except PromptError as exc:
                notes.add(f"rows without a prompt that can be sent: {exc.error_type}")
                continue
            yield prompt.row_key if plan.job.key is not None else f"row-{row.row_index}", row, prompt


def _planned(options: JsonDict, table: str, environment: Environment, output: Path) -> Plan:
    # A column may mix texts and conversations, as that of the default prompt may; the option --messages may not.
    prompt = options.get("prompt") if "messages" in options else None
    job = make_job({name: value for name, value in options.items() if name != "prompt" or prompt is None})
    job = job if prompt is None else replace(job, prompt=prompt)
    for name in _NOT_IN_A_LINE:
        if getattr(job, name):
            raise InputError(f"--{name.replace('_', '-')}: not possible in a request of the Batch API")
    # Lines of requests are written instead of the output that a job file names.
    plan = make_plan(replace(job, output=None, journal=None), table, environment, output, will_send=False)
    if plan.destination.api == "assistants":
        raise InputError("the Batch API has no assistants: give --api responses or --api chat")
    return plan


def _service(plan: Plan, variant: int, wire: Wire) -> ChatService | ResponsesService:
    """Return the service of one combination of settings, which builds the requests."""
    structure = plan.structure.response_format() if plan.structure is not None else None
    service = make_service(
        without_templates(plan.variants[variant]),
        plan.destination.api,
        wire,
        batch_id="",
        assistant_id=None,
        assistant_made=lambda _: None,
        structure=structure,
    )
    assert isinstance(service, ChatService | ResponsesService)
    return service


def _first_exchange(prompt: Prompt, *, structured: bool) -> Exchange:
    exchange = Dialogue(prompt).next()
    assert exchange is not None
    is_last = prompt.later is None or prompt.later.count == 1
    return replace(exchange, structured=structured and is_last)


def _leave_out_batch(body: JsonDict) -> None:
    """Leave out the id of the batch: a file of requests belongs to none."""
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        body["metadata"] = {name: value for name, value in metadata.items() if name != "batch"}


def _table_options(name: str, conversion: Conversion) -> tuple[JsonDict, frozenset[str], bool]:
    """Return the options that the columns of a table give, these columns, and whether some rows have no instructions.

    Raises:
        InputError: the table has no column with prompts.
    """
    source = open_source(name, ReadOptions(no_header=conversion.no_header))
    columns = source.columns
    prompt = _named(columns, conversion.prompt, "prompt", _PROMPTS)
    if prompt is None:
        raise InputError("the table has no column 'question' or 'prompt'; name it with --prompt COLUMN")
    key = _named(columns, conversion.key, "key", _IDS)
    has_instructions = _INSTRUCTIONS in columns
    talks = texts = given = missing = False
    for row in source.rows():
        is_talk = is_conversation(row.values[prompt], prompt)
        talks, texts = talks or is_talk, texts or not is_talk
        if has_instructions:
            is_empty = is_missing(row.values[_INSTRUCTIONS])
            given, missing = given or not is_empty, missing or is_empty
    options: JsonDict = {"no_header": True} if conversion.no_header else {}
    if key is not None:
        options["key"] = key
    if talks:
        options["messages"] = prompt
    if texts:
        options["prompt"] = placeholder_of(prompt)
    if given:
        options["instructions"] = placeholder_of(_INSTRUCTIONS)
    return options, frozenset(filter(None, (prompt, key, _INSTRUCTIONS))), given and missing


def _named(columns: tuple[str, ...], named: str | None, option: str, usual: tuple[str, ...]) -> str | None:
    if named is not None and named not in columns:
        raise InputError(f"--{option} {named}: the table has no such column")
    return named if named is not None else next((name for name in usual if name in columns), None)
