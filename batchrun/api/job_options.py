"""JobOptions: the options of a batch by name, for type checkers and editors.

Generated from the fields of `batchrun.Job`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from pydantic import BaseModel

from batchrun.job.options import Api
from batchrun.job.row_options import Kept, TableFormat

__all__ = ["JobOptions"]


class JobOptions(TypedDict, total=False):
    """The options of a batch that `run`, `arun` and `outcomes` take by name. Each is explained at `batchrun.Job`.

    Examples:
        >>> import batchrun
        >>> options: batchrun.JobOptions = {"model": "tutor", "epochs": 2}
        >>> batchrun.run(["1 + 1"], **options)["epoch"].tolist()
        [1, 2]
    """

    output: str | Path | None
    """Output file, or its URL (s3://, gs://, abfss://); its extension (.csv, .tsv, .jsonl, .json, .parquet, .feather,
    .xlsx) sets the format. A name that ends with / is a folder of parts. Default: the name of the input, in the folder
    outputs."""

    journal: str | Path | None
    """Journal of the output on this machine, such as work/answers.csv.journal. The table is written next to it and then
    put to --output. Default: next to the output; for a URL, outputs/NAME.journal."""

    encoding: str | None
    """Encoding of a text input. Default: from the byte order mark, otherwise UTF-8."""

    delimiter: str | None
    """Delimiter of a CSV input. Default: detected."""

    no_header: bool
    """Read the first line of a CSV, TSV or sheet as a row; the columns are named column_1, column_2, …."""

    skip_rows: int | None
    """Lines above the header of a CSV or TSV, or rows above that of a sheet. Default: recognised in CSV and TSV."""

    format: TableFormat | None
    """Format of the input. Default: from its content and extension; CSV for standard input."""

    sheet: str | None
    """Sheet of an Excel workbook. Default: the first visible one that has cells."""

    output_delimiter: str | None
    """Delimiter of a CSV output. Default: that of a CSV input, otherwise the comma."""

    bom: bool
    """Begin a CSV or TSV output with a byte order mark, as Excel needs it; that of a CSV input is always kept."""

    output_prefix: str
    """Prefix for the names of the columns that batchrun adds."""

    safe_csv: bool
    """Put an apostrophe before cells of a CSV or TSV output that a spreadsheet would read as formulas."""

    key: str | None
    """Column that identifies rows, so that the input can be edited between runs. Default: the row's position."""

    keep: Kept | list[Kept] | None
    """Column to add for a part of each reply: citations, reasoning, service_tier, logprobs or raw (the whole reply as
    JSON). Default: citations, reasoning and service_tier if an answer has them. May be repeated."""

    where: str | None
    """Expression over the row's columns, in the language of the prompt, such as "lang == 'de'"; rows for which it is
    not true are skipped."""

    sample: int | None
    """Number of random rows to run, of those that --where selects; the others are skipped. A row's place in the random
    order depends on --seed and on its key (without --key, its position) alone."""

    seed: int | None
    """Seed of --sample. Default: 0."""

    limit: int | None
    """Number of rows to run: the first ones of those that --where and --sample select; the others are skipped."""

    prompt: str | list[str] | None
    """MiniJinja template over the row's columns, or @FILE. Repeat it for further turns in the same thread, which see
    earlier answers as `responses`. Default: the column `prompt` or `question`, or the only column."""

    turns: Sequence[Mapping[str, str]] | None
    """All turns, each with a `prompt` and an optional condition `when` (job file and Python only)."""

    messages: str | None
    """Column with conversations: lists of messages with `role` and `content`, or with `from` and `value`. Default:
    `messages` or `conversations`, in a table without `prompt` and `question`."""

    examples: Path | None
    """Table of questions and answers that are sent before each row's question (few-shot examples)."""

    constant_prompt: bool
    """Allow a prompt that names no column, so that every row sends the same text."""

    instructions: str | None
    """Instructions for the model, or @FILE; may be a template over the row's columns."""

    model: str | list[str] | None
    """Model name at the service; may be a template over the row's columns. Repeat it to run every row with each model.
    `tutor` answers offline. Default: environment variable BATCHRUN_MODEL."""

    fallback_model: str | None
    """Model to ask about rows that the first model refuses or fails for good; their cost is that of both."""

    temperature: float | None
    """Sampling temperature, from 0 to 2."""

    top_p: float | None
    """Nucleus sampling probability, above 0 and up to 1."""

    max_completion_tokens: int | None
    """Maximum tokens per answer."""

    thread_column: str | None
    """Column with the thread, conversation or response that a row continues; an empty cell starts a new one."""

    attach: str | list[str] | None
    """Column with the path or URL of a file or image to attach to the prompt. May be repeated."""

    schema: type[BaseModel] | Mapping[str, Any] | str | Path | None
    """Schema of the answers: a JSON schema, or a pydantic model as module:Model or FILE.py:Model. Its fields become
    columns."""

    schema_retries: int
    """Maximum times that the model is asked to correct an answer that does not match the schema."""

    matrix: Mapping[str, Sequence[Any]]
    """Options with a list of values each; every row is run with all combinations (job file and Python only)."""

    epochs: int
    """Number of times that each row is run."""

    dedupe: bool
    """Send identical prompts once; every row gets the answer, and the cost is recorded on one of them."""

    tools: Sequence[Callable[..., Any]] | str | Path | None
    """Python file whose public functions the model may call."""

    tool_timeout: float
    """Timeout of one function call in seconds."""

    max_tool_rounds: int
    """Maximum rounds of function calls before the model must answer."""

    file_search: str | list[str] | None
    """Files that the model may search: a path, a folder or a pattern. Each file is uploaded once. May be repeated."""

    code_interpreter: bool
    """Let the model run Python at the service; files that it creates are downloaded to OUTPUT.files."""

    api: Api | None
    """API to use: assistants, responses or chat. Default: responses at OpenAI and Azure, and with --batch-api; chat at
    every other base URL; assistants with --assistant, or offline (--script, --model tutor, or without model, key and
    URL); a batch in progress keeps its API."""

    base_url: str | None
    """Base URL of the service. Default: environment variable OPENAI_BASE_URL."""

    assistant: str | None
    """Assistant that runs the rows (assistants only)."""

    poll: bool
    """Poll runs instead of streaming them, for servers without streaming (assistants only)."""

    stream: bool
    """Stream replies (responses and chat; assistants always stream unless --poll is given)."""

    background: bool
    """Let the service work in the background, so that its runs can be resumed (responses only)."""

    conversation: bool
    """Create a Conversation for each row, with one more request (responses only)."""

    param: Mapping[str, Any]
    """Additional model parameter; a value that is valid JSON is read as JSON, and texts in it may be templates over the
    row's columns. May be repeated."""

    response_format: Mapping[str, Any] | None
    """Format of the answer, as in the Assistants and Chat Completions APIs (job file and Python only)."""

    functions: Sequence[Mapping[str, Any]] | None
    """Functions that the model may request, each with name, description and parameters (job file and Python only)."""

    header: Mapping[str, str]
    """HTTP header to send with every request. May be repeated."""

    query: Mapping[str, str]
    """Query parameter to add to every request. May be repeated."""

    organization: str | None
    """OpenAI organization. Default: environment variable OPENAI_ORG_ID."""

    project: str | None
    """OpenAI project. Default: environment variable OPENAI_PROJECT_ID."""

    azure: bool
    """Use Azure OpenAI, with the resource's endpoint as --base-url and the key from AZURE_OPENAI_API_KEY."""

    api_version: str | None
    """Azure API version. Default: environment variable OPENAI_API_VERSION."""

    script: str | Path | None
    """File of patterns and recorded answers for the embedded server, to rehearse offline (docs/guides/rehearsal.md)."""

    store: str | Path | None
    """File in which the embedded server keeps its threads. Default: OUTPUT.store."""

    batch_api: bool
    """Send the requests through the service's Batch API, at its prices and limits; each wave of requests may take up to
    24 hours (responses and chat)."""

    no_wait: bool
    """Submit what is due, collect what has ended, and exit with code 8 while answers are missing; the same command
    continues."""

    batch_deadline: str | None
    """Time after which a batch at the service is cancelled, such as 90m or 6h, counted from its creation; rows without
    an answer are then sent as ordinary requests."""

    batch_size: int
    """Maximum requests in one batch at the service."""

    batch_poll: float
    """Maximum seconds between two looks at a batch at the service; at first, and after each change, it is looked at
    after 1, 2, 4, … seconds."""

    concurrency: int | None
    """Maximum concurrent rows. Default: adaptive, 20 to 1,000 (4 to 1,000 for a chat server on this machine)."""

    workers: int
    """Number of processes that run the rows, under one rate limit and one budget; they help if a single process takes
    all of a processor."""

    ray: str | None
    """Address of a Ray cluster whose machines run the workers: auto or HOST:PORT; local for a Ray on this machine."""

    rpm: float | None
    """Maximum requests per minute, including polls and retries."""

    tpm: float | None
    """Maximum tokens per minute, prompt plus completion."""

    max_attempts: int
    """Maximum attempts per row for transient errors."""

    row_timeout: float | None
    """Timeout of a row in seconds, not counting waits for limits. Default: 600; 1,800 with `--param service_tier=flex`;
    3,600 with --background."""

    silence_timeout: float
    """Seconds without data before a stream is closed and its run is looked up by id."""

    max_outage: float
    """Seconds after which the batch stops if the service is unavailable or refuses every request."""

    keep_going: bool
    """Continue although more than half of the rows fail (checked after 20 rows)."""

    grace: float
    """Seconds that rows in flight have to finish after the first Ctrl-C or SIGTERM."""

    budget: float | None
    """Maximum cost in US dollars; the batch stops before it would cost more."""

    prices: Mapping[str, Mapping[str, float]]
    """Prices of models in US dollars per million tokens: input, cached_input, output (job file and Python only)."""

    cache: str | Path | None
    """SQLite file with the answers of all batches that name it: a prompt that one of them has had answered with the
    same settings is neither sent nor paid for again."""

    fresh: bool
    """Start over; the old journal is kept under a dated name."""

    accept_changes: bool
    """Continue although the input, the prompt or a setting changed. Rows with a changed prompt are run and paid for
    again; a changed model or setting affects all rows."""

    retry_failed: bool
    """Retry rows that failed in an earlier run."""

    max_age: str | None
    """Maximum age of an answer, such as 90m, 12h or 7d; rows with older answers are run again."""

    wait: bool
    """Wait for another batch that is writing this output, instead of exiting with code 6."""

    delete_threads: bool
    """Delete each row's thread (or conversation, or stored response) once its answer is in the journal."""

    ping: str | None
    """Health-check URL: pings URL/start at the start, then URL on success or URL/fail on failure."""
