"""RowOptions: the options of a batch that say what its rows are, what each row is asked, and with which tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchrun.job.job_option import job_option
from batchrun.job.option_values import LONGEST_S

__all__ = ["Kept", "RowOptions", "TableFormat"]

TableFormat = Literal["csv", "tsv", "jsonl", "json", "txt", "parquet", "feather", "xlsx"]
Kept = Literal["citations", "reasoning", "service_tier", "logprobs", "raw"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RowOptions:
    """The first half of the options of `Job`, in the order of the help. The sections are marked by comments."""

    # Tables
    output: str | Path | None = job_option(
        None,
        "Tables",
        "Output file, or its URL (s3://, gs://, abfss://); its extension (.csv, .tsv, .jsonl, .json, .parquet, "
        ".feather, .xlsx) sets the format. A name that ends with / is a folder of parts. Default: the name of the "
        "input, in the folder outputs",
        metavar="PATH",
        flags=("-o", "--output"),
        path=True,
    )
    journal: Path | None = job_option(
        None,
        "Tables",
        "Journal of the output on this machine, such as work/answers.csv.journal. The table is written next to it and "
        "then put to --output. Default: next to the output; for a URL, outputs/NAME.journal",
        metavar="PATH",
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
        False,
        "Tables",
        "Put an apostrophe before cells of a CSV or TSV output that a spreadsheet would read as formulas",
    )
    key: str | None = job_option(
        None,
        "Tables",
        "Column that identifies rows, so that the input can be edited between runs. Default: the row's position",
        metavar="COLUMN",
    )
    keep: list[Kept] | None = job_option(
        None,
        "Tables",
        "Column to add for a part of each reply: citations, reasoning, service_tier, logprobs or raw (the whole reply "
        "as JSON). Default: citations, reasoning and service_tier if an answer has them. May be repeated",
        metavar="NAME",
        repeated=True,
    )

    # Rows to run
    where: str | None = job_option(
        None,
        "Rows to run",
        "Expression over the row's columns, in the language of the prompt, such as \"lang == 'de'\"; rows for which it "
        "is not true are skipped",
        metavar="EXPR",
    )
    sample: int | None = job_option(
        None,
        "Rows to run",
        "Number of random rows to run, of those that --where selects; the others are skipped. A row's place in the "
        "random order depends on --seed and on its key (without --key, its position) alone",
        metavar="N",
        at_least=1,
        at_most=100_000_000,
    )
    seed: int | None = job_option(
        None, "Rows to run", "Seed of --sample. Default: 0", metavar="S", at_least=0, at_most=2**63 - 1
    )
    limit: int | None = job_option(
        None,
        "Rows to run",
        "Number of rows to run: the first ones of those that --where and --sample select; the others are skipped",
        metavar="N",
        at_least=1,
        at_most=100_000_000,
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
    messages: str | None = job_option(
        None,
        "Prompt",
        "Column with conversations: lists of messages with `role` and `content`, or with `from` and `value`. "
        "Default: `messages` or `conversations`, in a table without `prompt` and `question`",
        metavar="COLUMN",
        decides_answer=True,
    )
    examples: Path | None = job_option(
        None,
        "Prompt",
        "Table of questions and answers that are sent before each row's question (few-shot examples)",
        metavar="FILE",
        path=True,
    )
    constant_prompt: bool = job_option(
        False, "Prompt", "Allow a prompt that names no column, so that every row sends the same text"
    )
    instructions: str | None = job_option(
        None,
        "Prompt",
        "Instructions for the model, or @FILE; may be a template over the row's columns",
        metavar="TEXT|@FILE",
        decides_answer=True,
    )
    model: str | None = job_option(
        None,
        "Prompt",
        "Model name at the service; may be a template over the row's columns. Repeat it to run every row with each "
        "model. "
        "`tutor` answers offline. Default: environment variable BATCHRUN_MODEL",
        metavar="NAME",
        repeated=True,
        decides_answer=True,
    )
    fallback_model: str | None = job_option(
        None,
        "Prompt",
        "Model to ask about rows that the first model refuses or fails for good; their cost is that of both",
        metavar="NAME",
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
