"""Job: every option of a batch with its default, its bounds and its help text.

The command line, the job file and the Python call are all built from these fields: the name of a field is its key in
Python and, with dashes, its flag. This module imports no heavy library, because `batchrun --help` imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from batchrun.job.job_option import JobOption, add_option_help, job_option
from batchrun.job.option_values import LONGEST_S

__all__ = ["EMBEDDED_MODEL", "Api", "Job", "TableFormat", "changed_options", "job_options"]

Api = Literal["assistants", "responses", "chat"]
TableFormat = Literal["csv", "tsv", "jsonl", "json", "txt", "parquet", "feather", "xlsx"]
EMBEDDED_MODEL = "tutor"
"""Model name that selects the tutor of the embedded server, unless the job names another service for it."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Job:
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

    # Tables
    output: Path | None = job_option(
        None,
        "Tables",
        "Output file; its extension (.csv, .tsv, .jsonl, .json, .parquet, .feather, .xlsx) sets the format. "
        "Default: the name of the input, in the folder outputs",
        metavar="PATH",
        flags=("-o", "--output"),
        path=True,
    )
    encoding: str | None = job_option(
        None, "Tables", "Encoding of a text input. Default: from the byte order mark, otherwise UTF-8", metavar="NAME"
    )
    delimiter: str | None = job_option(None, "Tables", "Delimiter of a CSV input. Default: detected", metavar="CHAR")
    no_header: bool = job_option(
        False,
        "Tables",
        "Read the first line of a CSV, TSV or sheet as a row; the columns are named column_1, column_2, …",
    )
    skip_rows: int | None = job_option(
        None,
        "Tables",
        "Lines above the header of a CSV or TSV, or rows above that of a sheet. Default: recognised in CSV and TSV",
        metavar="N",
        at_least=0,
        at_most=1_000_000,
    )
    format: TableFormat | None = job_option(
        None,
        "Tables",
        "Format of the input. Default: from its content and extension; CSV for standard input",
    )
    sheet: str | None = job_option(
        None, "Tables", "Sheet of an Excel workbook. Default: the first visible one that has cells", metavar="NAME"
    )
    output_delimiter: str | None = job_option(
        None, "Tables", "Delimiter of a CSV output. Default: that of a CSV input, otherwise the comma", metavar="CHAR"
    )
    bom: bool = job_option(
        False,
        "Tables",
        "Begin a CSV or TSV output with a byte order mark, as Excel needs it; that of a CSV input is always kept",
    )
    output_prefix: str = job_option(
        "", "Tables", "Prefix for the names of the columns that batchrun adds", metavar="TEXT"
    )
    safe_csv: bool = job_option(
        False, "Tables", "Put an apostrophe before cells that a spreadsheet would read as formulas"
    )
    key: str | None = job_option(
        None,
        "Tables",
        "Column that identifies rows, so that the input can be edited between runs. Default: the row's position",
        metavar="COLUMN",
    )

    # Prompt
    prompt: str | None = job_option(
        None,
        "Prompt",
        "MiniJinja template over the row's columns, or @FILE. Repeat it for further turns in the same thread, which "
        "see earlier answers as `responses`. Default: the column `prompt` or `question`, or the only column",
        metavar="TEXT|@FILE",
        repeated=True,
        decides_answer=True,
    )
    turns: list[dict[str, str]] | None = job_option(
        None,
        "Prompt",
        "All turns, each with a `prompt` and an optional condition `when` (job file and Python only)",
        flagless=True,
        decides_answer=True,
    )
    constant_prompt: bool = job_option(
        False, "Prompt", "Allow a prompt that names no column, so that every row sends the same text"
    )
    instructions: str | None = job_option(
        None, "Prompt", "Instructions for the model, or @FILE", metavar="TEXT|@FILE", decides_answer=True
    )
    model: str | None = job_option(
        None,
        "Prompt",
        "Model name at the service. Repeat it to run every row with each model. "
        "`tutor` answers offline. Default: environment variable BATCHRUN_MODEL",
        metavar="NAME",
        repeated=True,
        decides_answer=True,
    )
    temperature: float | None = job_option(
        None,
        "Prompt",
        "Sampling temperature, from 0 to 2",
        metavar="NUMBER",
        decides_answer=True,
        at_least=0,
        at_most=2,
    )
    top_p: float | None = job_option(
        None,
        "Prompt",
        "Nucleus sampling probability, above 0 and up to 1",
        metavar="NUMBER",
        decides_answer=True,
        above=0,
        at_most=1,
    )
    max_completion_tokens: int | None = job_option(
        None,
        "Prompt",
        "Maximum tokens per answer",
        metavar="N",
        decides_answer=True,
        at_least=1,
        at_most=100_000_000,
    )
    thread_column: str | None = job_option(
        None,
        "Prompt",
        "Column with the thread, conversation or response that a row continues; an empty cell starts a new one",
        metavar="COLUMN",
        decides_answer=True,
    )
    attach: list[str] | None = job_option(
        None,
        "Prompt",
        "Column with the path or URL of a file or image to attach to the prompt. May be repeated",
        metavar="COLUMN",
        repeated=True,
        decides_answer=True,
    )
    schema: str | dict[str, Any] | type | None = job_option(
        None,
        "Prompt",
        "Schema of the answers: a JSON schema, or a pydantic model as module:Model or FILE.py:Model. "
        "Its fields become columns",
        metavar="FILE.json|MODEL",
        path=True,
    )
    schema_retries: int = job_option(
        2,
        "Prompt",
        "Maximum times that the model is asked to correct an answer that does not match the schema",
        metavar="N",
        at_least=0,
        at_most=1_000,
    )

    # Repeats and combinations
    matrix: dict[str, list[Any]] = job_option(
        dict,
        "Repeats and combinations",
        "Options with a list of values each; every row is run with all combinations (job file and Python only)",
        flagless=True,
        decides_answer=True,
    )
    epochs: int = job_option(
        1,
        "Repeats and combinations",
        "Number of times that each row is run",
        metavar="N",
        decides_answer=True,
        at_least=1,
        at_most=10_000,
    )
    dedupe: bool = job_option(
        False,
        "Repeats and combinations",
        "Send identical prompts once; every row gets the answer, and the cost is recorded on one of them",
    )

    # Tools
    tools: Path | list[Any] | None = job_option(
        None, "Tools", "Python file whose public functions the model may call", metavar="FILE.py", path=True
    )
    tool_timeout: float = job_option(
        60.0, "Tools", "Timeout of one function call in seconds", metavar="SECONDS", above=0, at_most=LONGEST_S
    )
    max_tool_rounds: int = job_option(
        10,
        "Tools",
        "Maximum rounds of function calls before the model must answer",
        metavar="N",
        at_least=1,
        at_most=10_000,
    )
    file_search: list[str] | None = job_option(
        None,
        "Tools",
        "Files that the model may search: a path, a folder or a pattern. Each file is uploaded once. May be repeated",
        metavar="GLOB",
        path=True,
        repeated=True,
    )
    code_interpreter: bool = job_option(
        False,
        "Tools",
        "Let the model run Python at the service; files that it creates are downloaded to OUTPUT.files",
        decides_answer=True,
    )

    # Service
    api: Api | None = job_option(
        None,
        "Service",
        "API to use: assistants, responses or chat. Default: responses at OpenAI and Azure; chat at every other base "
        "URL; assistants with --assistant, or offline (--script, --model tutor, or without model, key and URL); a "
        "batch in progress keeps its API",
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
        "Additional model parameter, passed on unchanged; a value that is valid JSON is read as JSON. May be repeated",
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

    # Limits
    concurrency: int | None = job_option(
        None,
        "Limits",
        "Maximum concurrent rows. Default: adaptive, 20 to 1,000 (4 to 1,000 for a chat server on this machine)",
        metavar="N",
        at_least=1,
        at_most=100_000,
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
