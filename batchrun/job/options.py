"""Job: every option of a batch with its default, its bounds and its help text.

The command line, the job file and the Python call are all built from these fields: the name of a field is its key in
Python and, with dashes, its flag. The fields that say what a row is asked are in `row_options`. This module imports no
heavy library, because `batchrun --help` imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from batchrun.job.job_option import JobOption, add_option_help, job_option
from batchrun.job.option_values import LONGEST_S
from batchrun.job.row_options import RowOptions

__all__ = ["EMBEDDED_MODEL", "Api", "Job", "changed_options", "job_options"]

Api = Literal["assistants", "responses", "chat"]
EMBEDDED_MODEL = "tutor"
"""Model name that selects the tutor of the embedded server, unless the job names another service for it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Job(RowOptions):
    """The options of one batch, to be used in several calls. They are validated when a batch begins.

    Examples:
        >>> import batchrun
        >>> job = batchrun.Job(prompt="{{ a }} + {{ a }}", model="tutor")
        >>> job
        Job(prompt='{{ a }} + {{ a }}', model='tutor')
        >>> batchrun.run([{"a": 20}], job)["response"].tolist()
        ['20 + 20 = 40.']
        >>> batchrun.run([{"a": 20}], job, epochs=2)["response"].tolist()
        ['20 + 20 = 40.', '20 + 20 = 40.']
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    # Service
    api: Api | None = job_option(
        None,
        "Service",
        "API to use: assistants, responses or chat. Default: responses at OpenAI and Azure, and with --batch-api; chat "
        "at every other base URL; assistants with --assistant, or offline (--script, --model tutor, or without model, "
        "key and URL); a batch in progress keeps its API",
        metavar="NAME",
        decides_answer=True,
    )
    base_url: str | None = job_option(
        None, "Service", "Base URL of the service. Default: environment variable OPENAI_BASE_URL", metavar="URL"
    )
    assistant: str | None = job_option(
        None,
        "Service",
        "Assistant that runs the rows (assistants only)",
        metavar="ASST_ID",
        decides_answer=True,
    )
    poll: bool = job_option(
        False, "Service", "Poll runs instead of streaming them, for servers without streaming (assistants only)"
    )
    stream: bool = job_option(
        False, "Service", "Stream replies (responses and chat; assistants always stream unless --poll is given)"
    )
    background: bool = job_option(
        False, "Service", "Let the service work in the background, so that its runs can be resumed (responses only)"
    )
    conversation: bool = job_option(
        False, "Service", "Create a Conversation for each row, with one more request (responses only)"
    )
    param: dict[str, Any] = job_option(
        dict,
        "Service",
        "Additional model parameter; a value that is valid JSON is read as JSON, and texts in it may be templates over "
        "the row's columns. May be repeated",
        metavar="KEY=VALUE",
        pairs="json",
        decides_answer=True,
    )
    response_format: dict[str, Any] | None = job_option(
        None,
        "Service",
        "Format of the answer, as in the Assistants and Chat Completions APIs (job file and Python only)",
        flagless=True,
        decides_answer=True,
    )
    functions: list[dict[str, Any]] | None = job_option(
        None,
        "Service",
        "Functions that the model may request, each with name, description and parameters (job file and Python only)",
        flagless=True,
        decides_answer=True,
    )
    header: dict[str, str] = job_option(
        dict,
        "Service",
        "HTTP header to send with every request. May be repeated",
        metavar="NAME=VALUE",
        pairs="text",
        secret=True,
    )
    query: dict[str, str] = job_option(
        dict,
        "Service",
        "Query parameter to add to every request. May be repeated",
        metavar="NAME=VALUE",
        pairs="text",
        secret=True,
    )
    organization: str | None = job_option(
        None, "Service", "OpenAI organization. Default: environment variable OPENAI_ORG_ID", metavar="ID"
    )
    project: str | None = job_option(
        None, "Service", "OpenAI project. Default: environment variable OPENAI_PROJECT_ID", metavar="ID"
    )
    azure: bool = job_option(
        False,
        "Service",
        "Use Azure OpenAI, with the resource's endpoint as --base-url and the key from AZURE_OPENAI_API_KEY",
    )
    api_version: str | None = job_option(
        None,
        "Service",
        "Azure API version. Default: environment variable OPENAI_API_VERSION",
        metavar="VERSION",
    )
    script: Path | None = job_option(
        None,
        "Service",
        "File of patterns and recorded answers for the embedded server, to rehearse offline (docs/guides/rehearsal.md)",
        metavar="FILE",
        path=True,
    )
    store: Path | None = job_option(
        None,
        "Service",
        "File in which the embedded server keeps its threads. Default: OUTPUT.store",
        metavar="PATH",
        path=True,
    )

    # Batch API
    batch_api: bool = job_option(
        False,
        "Batch API",
        "Send the requests through the service's Batch API, at its prices and limits; each wave of requests may take "
        "up to 24 hours (responses and chat)",
    )
    no_wait: bool = job_option(
        False,
        "Batch API",
        "Submit what is due, collect what has ended, and exit with code 8 while answers are missing; the same command "
        "continues",
    )
    batch_deadline: str | None = job_option(
        None,
        "Batch API",
        "Time after which a batch at the service is cancelled, such as 90m or 6h, counted from its creation; rows "
        "without an answer are then sent as ordinary requests",
        metavar="DURATION",
    )
    batch_size: int = job_option(
        50_000,
        "Batch API",
        "Maximum requests in one batch at the service",
        metavar="N",
        at_least=1,
        at_most=50_000,
    )
    batch_poll: float = job_option(
        300.0,
        "Batch API",
        "Maximum seconds between two looks at a batch at the service; at first, and after each change, it is looked at "
        "after 1, 2, 4, … seconds",
        metavar="SECONDS",
        at_least=0.05,
        at_most=86_400,
    )

    # Limits
    concurrency: int | None = job_option(
        None,
        "Limits",
        "Maximum concurrent rows. Default: adaptive, 20 to 1,000 (4 to 1,000 for a chat server on this machine)",
        metavar="N",
        at_least=1,
        at_most=100_000,
    )
    workers: int = job_option(
        1,
        "Limits",
        "Number of processes that run the rows, under one rate limit and one budget; they help if a single process "
        "takes all of a processor",
        metavar="N",
        at_least=1,
        at_most=256,
    )
    ray: str | None = job_option(
        None,
        "Limits",
        "Address of a Ray cluster whose machines run the workers: auto or HOST:PORT; local for a Ray on this machine",
        metavar="ADDRESS",
    )
    rpm: float | None = job_option(
        None, "Limits", "Maximum requests per minute, including polls and retries", metavar="N", above=0, at_most=1e9
    )
    tpm: float | None = job_option(
        None, "Limits", "Maximum tokens per minute, prompt plus completion", metavar="N", above=0, at_most=1e12
    )
    max_attempts: int = job_option(
        5, "Limits", "Maximum attempts per row for transient errors", metavar="N", at_least=1, at_most=1_000
    )
    row_timeout: float | None = job_option(
        None,
        "Limits",
        "Timeout of a row in seconds, not counting waits for limits. Default: 600; 1,800 with "
        "`--param service_tier=flex`; 3,600 with --background",
        metavar="SECONDS",
        above=0,
        at_most=LONGEST_S,
    )
    silence_timeout: float = job_option(
        120.0,
        "Limits",
        "Seconds without data before a stream is closed and its run is looked up by id",
        metavar="SECONDS",
        above=0,
        at_most=LONGEST_S,
    )
    max_outage: float = job_option(
        900.0,
        "Limits",
        "Seconds after which the batch stops if the service is unavailable or refuses every request",
        metavar="SECONDS",
        above=0,
        at_most=LONGEST_S,
    )
    keep_going: bool = job_option(
        False, "Limits", "Continue although more than half of the rows fail (checked after 20 rows)"
    )
    grace: float = job_option(
        30.0,
        "Limits",
        "Seconds that rows in flight have to finish after the first Ctrl-C or SIGTERM",
        metavar="SECONDS",
        at_least=0,
        at_most=LONGEST_S,
    )

    # Cost
    budget: float | None = job_option(
        None,
        "Cost",
        "Maximum cost in US dollars; the batch stops before it would cost more",
        metavar="USD",
        above=0,
        at_most=1e9,
    )
    prices: dict[str, dict[str, float]] = job_option(
        dict,
        "Cost",
        "Prices of models in US dollars per million tokens: input, cached_input, output (job file and Python only)",
        flagless=True,
    )
    cache: Path | None = job_option(
        None,
        "Cost",
        "SQLite file with the answers of all batches that name it: a prompt that one of them has had answered with the "
        "same settings is neither sent nor paid for again",
        metavar="FILE",
        path=True,
    )

    # Resuming
    fresh: bool = job_option(False, "Resuming", "Start over; the old journal is kept under a dated name")
    accept_changes: bool = job_option(
        False,
        "Resuming",
        "Continue although the input, the prompt or a setting changed. Rows with a changed prompt are run and paid for "
        "again; a changed model or setting affects all rows",
    )
    retry_failed: bool = job_option(False, "Resuming", "Retry rows that failed in an earlier run")
    max_age: str | None = job_option(
        None,
        "Resuming",
        "Maximum age of an answer, such as 90m, 12h or 7d; rows with older answers are run again",
        metavar="DURATION",
    )
    wait: bool = job_option(
        False, "Resuming", "Wait for another batch that is writing this output, instead of exiting with code 6"
    )

    # After completion
    delete_threads: bool = job_option(
        False,
        "After completion",
        "Delete each row's thread (or conversation, or stored response) once its answer is in the journal",
    )
    ping: str | None = job_option(
        None,
        "After completion",
        "Health-check URL: pings URL/start at the start, then URL on success or URL/fail on failure",
        metavar="URL",
        secret=True,
    )

    def __repr__(self) -> str:
        """Return the options that differ from their defaults. The value of one that may contain a key is not shown."""
        options = job_options()
        shown = (
            f"{name}={'…' if options[name][0].secret else repr(value)}" for name, value in changed_options(self).items()
        )
        return f"Job({', '.join(shown)})"

    @property
    def row_timeout_s(self) -> float:
        """Timeout of a row in seconds. Background and flex requests may take the service longer than others."""
        if self.row_timeout is not None:
            return self.row_timeout
        if self.background:
            return 3_600.0
        return 1_800.0 if self.param.get("service_tier") == "flex" else 600.0


def job_options() -> dict[str, tuple[JobOption, Any]]:
    """Return each field's option and default (None for KEY=VALUE pairs) by field name, in the order of the help."""
    return {f.name: (f.metadata["option"], None if f.default is MISSING else f.default) for f in fields(Job)}


def changed_options(job: Job) -> dict[str, Any]:
    """Return the options that differ from their defaults, in the form that `make_job` takes."""
    defaults = Job()
    named = ((f.name, getattr(job, f.name)) for f in fields(Job))
    return {name: value for name, value in named if value != getattr(defaults, name)}


add_option_help(Job)
