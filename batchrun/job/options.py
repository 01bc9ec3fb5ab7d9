"""Job: every option of a batch, its default, its rule and its help, in one place.

The command line, the job file and the Python call are all made from these fields: a field's name is its key
in Python and (with dashes) its flag. Nothing here imports a heavy library at import time, since
`batchrun --help` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from batchrun.job.option_values import LONGEST_S

__all__ = ["EMBEDDED_MODEL", "Api", "Job", "JobOption", "given_in", "job_options"]

Api = Literal["assistants", "responses", "chat"]
EMBEDDED_MODEL = "tutor"
"""Asks for the embedded server's tutor, unless the job says where else this model is."""


@dataclass(frozen=True, slots=True)
class JobOption:
    """How a field shows on the command line.

    Attributes:
        section: heading in the help.
        help: one sentence; units included.
        metavar: what stands for the value in the help.
        flags: overrides of the flag made from the name.
        at_least, above, at_most: bounds of a number; None for no bound.
        repeated: the flag may be given any number of times; a list elsewhere.
        pairs: the option is given as KEY=VALUE, any number of times; the values are text, or JSON where they can be.
        secret: its value may hold a key: it shows in no repr.
        path: its value names files on this machine.
        flagless: it has no flag: its value is too rich for one.
        decides_answer: the value is part of a row's fingerprint: another value may give another answer.
    """

    section: str
    help: str
    metavar: str | None = None
    flags: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    repeated: bool = False
    pairs: Literal["text", "json"] | None = None
    path: bool = False
    flagless: bool = False
    secret: bool = False
    decides_answer: bool = False


def _option(default: Any, section: str, help: str, **rest: Any) -> Any:  # noqa: A002 - every option parser's word
    option = JobOption(section, help, **rest)
    settings: dict[str, Any] = {"metadata": {"option": option}, "repr": not option.secret}
    return field(default_factory=dict, **settings) if default is dict else field(default=default, **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One batch, as the user described it. Build it with `make_job`, which validates."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    # Tables
    output: Path | None = _option(
        None,
        "Tables",
        "Output table; its ending (.csv, .tsv, .jsonl, .parquet) gives the format. Default: outputs/<input's name>",
        metavar="PATH",
        flags=("-o", "--output"),
        path=True,
    )
    encoding: str | None = _option(
        None, "Tables", "Encoding of a text input. Default: by its byte order mark, else UTF-8", metavar="NAME"
    )
    delimiter: str | None = _option(None, "Tables", "Delimiter of a CSV input. Default: detected", metavar="CHAR")
    output_prefix: str = _option(
        "", "Tables", "Put this before the name of every column that batchrun adds", metavar="TEXT"
    )
    safe_csv: bool = _option(
        False, "Tables", "Prefix cells that a spreadsheet would take for formulas with an apostrophe"
    )

    key: str | None = _option(
        None,
        "Tables",
        "Column that identifies rows when the input is edited between runs. Default: their position",
        metavar="COLUMN",
    )

    # Prompt
    prompt: str | None = _option(
        None,
        "Prompt",
        "Jinja template over the row's columns, or @FILE. Given again: the next turn on the same thread, which sees "
        "the answers before it as `responses`. Default: the column `prompt` or `question`, or the only column",
        metavar="TEXT|@FILE",
        repeated=True,
        decides_answer=True,
    )
    turns: list[dict[str, str]] | None = _option(
        None,
        "Prompt",
        "All turns, each a `prompt` and perhaps `when`, a condition (job file and Python only)",
        flagless=True,
        decides_answer=True,
    )
    constant_prompt: bool = _option(
        False, "Prompt", "The prompt names no column on purpose: every row is sent the same text"
    )
    instructions: str | None = _option(
        None, "Prompt", "Instructions for the model, or @FILE", metavar="TEXT|@FILE", decides_answer=True
    )
    model: str | None = _option(
        None,
        "Prompt",
        "Model name, as the service knows it. Given again: every row is asked of each. "
        "`tutor` rehearses offline. Default: the environment's BATCHRUN_MODEL",
        metavar="NAME",
        repeated=True,
        decides_answer=True,
    )
    temperature: float | None = _option(
        None,
        "Prompt",
        "Sampling temperature, 0 to 2",
        metavar="NUMBER",
        decides_answer=True,
        at_least=0,
        at_most=2,
    )
    top_p: float | None = _option(
        None,
        "Prompt",
        "Nucleus sampling, above 0 to 1",
        metavar="NUMBER",
        decides_answer=True,
        above=0,
        at_most=1,
    )
    max_completion_tokens: int | None = _option(
        None,
        "Prompt",
        "Most tokens that one answer may take",
        metavar="N",
        decides_answer=True,
        at_least=1,
        at_most=100_000_000,
    )

    thread_column: str | None = _option(
        None,
        "Prompt",
        "Column with the thread (or conversation, or response) that a row continues; a new one where it is empty",
        metavar="COLUMN",
        decides_answer=True,
    )
    attach: list[str] | None = _option(
        None,
        "Prompt",
        "Column that names a file or an image to go with the prompt, by path or URL. May be repeated",
        metavar="COLUMN",
        repeated=True,
        decides_answer=True,
    )
    schema: str | None = _option(
        None,
        "Prompt",
        "Form of the answers: a JSON schema, or a pydantic model as module:Model or FILE.py:Model; "
        "their fields become columns",
        metavar="FILE.json|MODEL",
        path=True,
    )
    schema_retries: int = _option(
        2,
        "Prompt",
        "How often the model is told what is wrong with the form of its answer",
        metavar="N",
        at_least=0,
        at_most=1_000,
    )

    # Several at once
    matrix: dict[str, list[Any]] = _option(
        dict,
        "Several at once",
        "Options with the values that every row is asked with, in all combinations (job file and Python only)",
        flagless=True,
        decides_answer=True,
    )
    epochs: int = _option(
        1,
        "Several at once",
        "Ask every row so many times",
        metavar="N",
        decides_answer=True,
        at_least=1,
        at_most=10_000,
    )
    dedupe: bool = _option(
        False, "Several at once", "Ask once what several rows ask alike; each gets the answer, one bears its cost"
    )

    # Tools
    tools: Path | None = _option(
        None, "Tools", "Python file whose public functions the model may call", metavar="FILE.py", path=True
    )
    tool_timeout: float = _option(
        60.0, "Tools", "Seconds that one call of a function may take", metavar="SECONDS", above=0, at_most=LONGEST_S
    )
    max_tool_rounds: int = _option(
        10,
        "Tools",
        "How often the model may ask for functions before it has to answer",
        metavar="N",
        at_least=1,
        at_most=10_000,
    )
    file_search: list[str] | None = _option(
        None,
        "Tools",
        "Files that the model may search, by path, folder or pattern; uploaded once. May be repeated",
        metavar="GLOB",
        path=True,
        repeated=True,
    )
    code_interpreter: bool = _option(
        False,
        "Tools",
        "The model may run Python at the service; files that it makes are downloaded to OUTPUT's name with .files",
        decides_answer=True,
    )

    # Service
    api: Api | None = _option(
        None,
        "Service",
        "Protocol to speak: assistants, responses or chat. Default: responses with a key, chat with a base URL and no "
        "key, assistants with --assistant or offline (--script, --model tutor, or no model, key and URL)",
        metavar="NAME",
        decides_answer=True,
    )
    base_url: str | None = _option(
        None, "Service", "Where the service is. Default: the environment's OPENAI_BASE_URL", metavar="URL"
    )
    assistant: str | None = _option(
        None,
        "Service",
        "Run the rows on this assistant (assistants only)",
        metavar="ASST_ID",
        decides_answer=True,
    )
    poll: bool = _option(
        False, "Service", "Poll runs instead of streaming them, for servers without streams (assistants only)"
    )

    stream: bool = _option(
        False, "Service", "Read replies as streams (responses and chat; assistants always do, unless --poll)"
    )
    background: bool = _option(
        False, "Service", "Let the service work in the background; such runs can be picked up again (responses only)"
    )
    conversation: bool = _option(
        False, "Service", "Make a Conversation for each row, one request more (responses only)"
    )
    param: dict[str, Any] = _option(
        dict,
        "Service",
        "Further parameter of the model, passed on as it is; the value is read as JSON if it is JSON. May be repeated",
        metavar="KEY=VALUE",
        pairs="json",
        decides_answer=True,
    )
    response_format: dict[str, Any] | None = _option(
        None,
        "Service",
        "Format of the answer, as the Assistants and Chat Completions APIs take it (job file and Python only)",
        flagless=True,
        decides_answer=True,
    )
    functions: list[dict[str, Any]] | None = _option(
        None,
        "Service",
        "Functions that the model may ask for: name, description, parameters (job file and Python only)",
        flagless=True,
        decides_answer=True,
    )
    header: dict[str, str] = _option(
        dict,
        "Service",
        "Header to send with every request. May be repeated",
        metavar="NAME=VALUE",
        pairs="text",
        secret=True,
    )
    query: dict[str, str] = _option(
        dict,
        "Service",
        "Query to add to every request. May be repeated",
        metavar="NAME=VALUE",
        pairs="text",
        secret=True,
    )
    organization: str | None = _option(
        None, "Service", "OpenAI organization. Default: the environment's OPENAI_ORG_ID", metavar="ID"
    )
    project: str | None = _option(
        None, "Service", "OpenAI project. Default: the environment's OPENAI_PROJECT_ID", metavar="ID"
    )
    azure: bool = _option(
        False,
        "Service",
        "The service is Azure OpenAI: --base-url is the resource's endpoint, AZURE_OPENAI_API_KEY the key",
    )
    api_version: str | None = _option(
        None,
        "Service",
        "API version to ask Azure for. Default: the environment's OPENAI_API_VERSION",
        metavar="VERSION",
    )

    script: Path | None = _option(
        None,
        "Service",
        "Rehearse: the embedded server answers from this file of patterns and recorded answers (see responders)",
        metavar="FILE",
        path=True,
    )
    store: Path | None = _option(
        None,
        "Service",
        "File in which the embedded server keeps its threads. Default: OUTPUT's name with .store",
        metavar="PATH",
        path=True,
    )

    # Limits
    concurrency: int | None = _option(
        None,
        "Limits",
        "Maximum concurrent rows. Default: adaptive, from 20 (4 for a chat server on this machine) up to 1,000",
        metavar="N",
        at_least=1,
        at_most=100_000,
    )
    rpm: float | None = _option(
        None, "Limits", "Most requests a minute, polls and retries included", metavar="N", above=0, at_most=1e9
    )
    tpm: float | None = _option(
        None, "Limits", "Most tokens a minute, prompt and completion together", metavar="N", above=0, at_most=1e12
    )
    max_attempts: int = _option(
        5, "Limits", "Tries of a row, where the fault is one that passes", metavar="N", at_least=1, at_most=1_000
    )
    row_timeout: float | None = _option(
        None,
        "Limits",
        "Seconds that a row may be in flight, waits for limits excluded. Default: 600; 1,800 with "
        "`--param service_tier=flex`; 3,600 with --background",
        metavar="SECONDS",
        above=0,
        at_most=LONGEST_S,
    )
    silence_timeout: float = _option(
        120.0,
        "Limits",
        "Seconds without a byte after which a stream is given up and its run looked up by id",
        metavar="SECONDS",
        above=0,
        at_most=LONGEST_S,
    )
    max_outage: float = _option(
        900.0,
        "Limits",
        "Seconds to wait for a service that is unavailable, or that only refuses requests, before the batch stops",
        metavar="SECONDS",
        above=0,
        at_most=LONGEST_S,
    )
    keep_going: bool = _option(False, "Limits", "Go on when more than half of the rows fail (after 20 rows)")
    grace: float = _option(
        30.0,
        "Limits",
        "Seconds for rows in flight to finish after the first Ctrl-C or SIGTERM",
        metavar="SECONDS",
        at_least=0,
        at_most=LONGEST_S,
    )

    # Money
    budget: float | None = _option(
        None,
        "Money",
        "US dollars that the batch may cost; it stops before it would cost more",
        metavar="USD",
        above=0,
        at_most=1e9,
    )
    prices: dict[str, dict[str, float]] = _option(
        dict,
        "Money",
        "US dollars for a million tokens of a model: input, cached_input, output (job file and Python only)",
        flagless=True,
    )

    # Resuming
    fresh: bool = _option(False, "Resuming", "Start over; the old journal is kept under a dated name")
    accept_changes: bool = _option(
        False,
        "Resuming",
        "Go on although the input, the prompt or a setting changed; rows whose prompt changed are asked and paid for "
        "again, all rows where it is a model or a setting",
    )
    retry_failed: bool = _option(False, "Resuming", "Ask rows again that failed in an earlier run")
    max_age: str | None = _option(
        None, "Resuming", "Ask rows again whose answer is older, such as 90m, 12h or 7d", metavar="DURATION"
    )
    wait: bool = _option(False, "Resuming", "Wait for another batch that holds this output, instead of exiting with 6")

    # After a row, after a batch
    delete_threads: bool = _option(
        False,
        "Afterwards",
        "Delete each row's thread (conversation, stored response) when its answer is in the journal",
    )
    ping: str | None = _option(
        None,
        "Afterwards",
        "URL to call at the start (with /start), at a good end, and at a bad one (with /fail)",
        metavar="URL",
        secret=True,
    )

    @property
    def row_timeout_s(self) -> float:
        """Seconds that a row may be in flight: as long as the service may take for what is paid all the same."""
        if self.row_timeout is not None:
            return self.row_timeout
        if self.background:
            return 3_600.0
        return 1_800.0 if self.param.get("service_tier") == "flex" else 600.0


def job_options() -> dict[str, tuple[JobOption, Any]]:
    """Field name → how it shows, and its default (None for pairs), in the order of the help."""
    return {f.name: (f.metadata["option"], None if f.default is MISSING else f.default) for f in fields(Job)}


def given_in(job: Job) -> dict[str, Any]:
    """The options of a job that are not left as they are: what `make_job` takes."""
    defaults = Job()
    named = ((f.name, getattr(job, f.name)) for f in fields(Job))
    return {name: value for name, value in named if value != getattr(defaults, name)}
