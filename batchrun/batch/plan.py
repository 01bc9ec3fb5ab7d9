"""What a batch will do, decided and checked before the first request: nothing here spends or writes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchrun.batch.added_columns import AddedColumns
from batchrun.batch.destination import service_of, variants_of
from batchrun.batch.lock import is_held
from batchrun.batch.output_path import continued_default_notice
from batchrun.batch.paths import Paths, paths_for
from batchrun.errors import InputError, OutputError, OutputHeld
from batchrun.functions import Toolbox
from batchrun.job.environment import Environment
from batchrun.job.fingerprint import digest, settings_of
from batchrun.job.option_values import read_text_option
from batchrun.job.options import EMBEDDED_MODEL, Api, Job
from batchrun.prompts.combinations import Combination, combinations_of
from batchrun.prompts.local_files import LocalFile, files_of
from batchrun.prompts.templates import Prompter, PromptError, default_template, prompter_for, rendering_digest
from batchrun.records import Row
from batchrun.structured import Structure
from batchrun.tables import ReadOptions, Source, WriteOptions, check_output, expand, open_source, validate
from batchrun.wording import shown_path

if TYPE_CHECKING:
    import pandas

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch that has passed every check which costs nothing.

    Attributes:
        job: with templates and instructions read from their files, and the model and the API filled in.
        input_name: the path as the user gave it, "-" for standard input, None for a DataFrame.
        combinations: how each row is asked; one where there is no matrix and no epochs.
        variants: the job of each combination of settings.
        added: the columns behind the usual ones.
        toolbox: the user's functions, None where there are none.
        structure: the form of the answers, None where any form does.
        searched: files that the model may search.
        folder: where relative paths of attachments begin.
        write_output: False where only the journal is wanted (a DataFrame without an output path).
        rows: number of rows to be answered: those of the input, times the combinations.
        embedded: the batch brings its own server.
        no_key: why no row can be asked: the models that the job names need a key; None where nothing is missing. A
            plan with it can be looked at, not run.
        why_embedded: why the embedded server answers, in words; "" where a service does.
        notices: further lines to be told before the first row is asked.
        base_url: of the service, None for the SDK's default.
        settings: what decides answers, as stored in the journal.
    """

    job: Job
    input_name: str | None
    paths: Paths
    source: Source
    rows: int
    prompter: Prompter
    embedded: bool
    api: Api
    base_url: str | None
    settings: Mapping[str, Any]
    write_options: WriteOptions
    write_output: bool
    combinations: tuple[Combination, ...]
    variants: tuple[Job, ...]
    added: AddedColumns
    toolbox: Toolbox | None = None
    structure: Structure | None = None
    searched: tuple[LocalFile, ...] = ()
    folder: Path = Path()
    no_key: str | None = None
    why_embedded: str = ""
    notices: tuple[str, ...] = ()

    @property
    def tutored(self) -> bool:
        """The embedded server's tutor answers."""
        return self.embedded and self.job.script is None

    def who_answers(self) -> str:
        """The model and the service, and the protocol between, in words."""
        if self.tutored:
            return f"the embedded server's rule-based tutor, which is not a language model ({self.api}, offline)"
        if self.job.script is not None:
            return f"the embedded server from {shown_path(self.job.script)} ({self.api}, offline)"
        models = ", ".join(dict.fromkeys(each.model or f"assistant {each.assistant}" for each in self.variants))
        return f"{models} at {self.base_url or 'OpenAI'} ({self.api})"

    @property
    def several_runs(self) -> bool:
        """Rows may need more than one run."""
        return len(self.job.turns or ()) > 1 or self.toolbox is not None or self.structure is not None

    def manifest(self) -> dict[str, Any]:
        """What the journal keeps of the plan: enough to notice changes, and to export without the command line."""
        return {
            "input": str(Path(self.input_name).absolute()) if self.input_name not in (None, "-") else self.input_name,
            "key": self.job.key,
            "input_fingerprint": self.source.fingerprint(),
            "rendering": rendering_digest(),
            "rows": self.rows,
            "columns": list(self.source.columns),
            "settings": dict(self.settings),
            "base_url": self.base_url,
            "store": str(self.job.store.absolute()) if self.job.store is not None else None,
            "read_options": {"encoding": self.job.encoding, "delimiter": self.job.delimiter},
            "write_options": {"prefix": self.job.output_prefix, "safe_csv": self.job.safe_csv},
        }


def make_plan(
    job: Job,
    table: str | Path | pandas.DataFrame,
    environment: Environment,
    output: Path,
    *,
    write_output: bool = True,
    sending: bool = True,
) -> Plan:
    """Read the input once, render its first row, check the output.

    Args:
        sending: False where nothing is to be sent, so that a missing key is only told (`Plan.no_key`).

    Raises:
        InputError, OutputError: one line on what is wrong and what to do.
    """
    paths = paths_for(output).with_store(job.store)
    try:
        return _planned(job, table, environment, paths, write_output=write_output, sending=sending)
    except BaseException:
        if isinstance(table, str) and table == "-":
            paths.incoming.unlink(missing_ok=True)
        raise


def _planned(
    job: Job,
    table: str | Path | pandas.DataFrame,
    environment: Environment,
    paths: Paths,
    *,
    write_output: bool,
    sending: bool,
) -> Plan:
    job = _with_texts(job)
    model_from_environment = job.model is None and "model" not in job.matrix and environment.model is not None
    if model_from_environment:
        job = replace(job, model=environment.model)
    answerer = service_of(job, environment, model_from_environment=model_from_environment)
    if answerer.no_key is not None and sending:
        raise InputError(answerer.no_key)
    embedded = bool(answerer.why_embedded)
    job = replace(job, api=answerer.api)
    if job.model is None and "model" not in job.matrix:
        job = replace(job, model=("script" if job.script is not None else EMBEDDED_MODEL) if embedded else None)
    if any(variant.model is None and variant.assistant is None for variant in variants_of(job)):
        raise InputError("no model given: say --model NAME, or set BATCHRUN_MODEL")
    toolbox, structure = _tools(job), _structure(job)
    if toolbox is not None:
        job = replace(job, functions=list(toolbox.declarations))
    searched = files_of(job.file_search, Path()) if job.file_search else ()
    if not isinstance(table, (str, Path)) and not hasattr(table, "columns"):
        raise InputError(f"a path or a DataFrame is expected as the table, got a {type(table).__name__}")
    if isinstance(table, str) and table == "-":
        _check_spool(paths)
    source = open_source(table, ReadOptions(job.encoding, job.delimiter), spool=paths.incoming)
    if job.prompt is None and job.turns is None and "prompt" not in job.matrix:
        job = replace(job, prompt=default_template(source.columns))
    settings = {**settings_of(job), "embedded": embedded, "model": job.model}
    if structure is not None:
        settings["schema"] = structure.schema
    if searched:
        settings["file_search"] = digest(*sorted(file.sha256 for file in searched))
    combinations = combinations_of(settings)
    source = expand(source, [combination.cells for combination in combinations])
    added = AddedColumns(settings, structure)
    write_options = WriteOptions(prefix=job.output_prefix, safe_csv=job.safe_csv, extra_columns=added.types)
    check_output(paths.output, source, write_options)
    prompter = prompter_for(settings, source.columns, job.key)
    rows = validate(source)
    if rows > len(combinations) and not job.constant_prompt:
        prompter.check_varies()
    if job.key is not None:
        _check_keys(prompter, source, job.key)
    _check_first(prompter, source.rows(), len(combinations))
    is_file = isinstance(table, (str, Path)) and table != "-"
    return Plan(
        job=job,
        input_name=str(table) if isinstance(table, (str, Path)) else None,
        paths=paths,
        source=source,
        rows=rows,
        prompter=prompter,
        embedded=embedded,
        api=answerer.api,
        base_url=answerer.base_url,
        settings=settings,
        write_options=write_options,
        write_output=write_output,
        combinations=combinations,
        variants=variants_of(job),
        added=added,
        toolbox=toolbox,
        structure=structure,
        searched=searched,
        folder=Path(str(table)).parent if is_file else Path(),
        no_key=answerer.no_key,
        why_embedded=answerer.why_embedded,
        notices=continued_default_notice(job, table, paths.output),
    )


def _with_texts(job: Job) -> Job:
    """The job with the texts of the files that it names."""
    turns, matrix = job.turns, dict(job.matrix)
    if turns is not None:
        turns = [{**turn, "prompt": read_text_option(turn["prompt"], "prompt") or ""} for turn in turns]
    for name in ("prompt", "instructions"):
        if name in matrix:
            matrix[name] = [read_text_option(text, name) for text in matrix[name]]
    return replace(
        job,
        prompt=read_text_option(job.prompt, "prompt"),
        instructions=read_text_option(job.instructions, "instructions"),
        turns=turns,
        matrix=matrix,
    )


def _tools(job: Job) -> Toolbox | None:
    if job.tools is None:
        return None
    if job.functions:
        raise InputError("--tools: the job names functions too, which nothing here can call: say one of them")
    return Toolbox.load(job.tools, timeout_s=job.tool_timeout)


def _structure(job: Job) -> Structure | None:
    if job.schema is None:
        return None
    if job.response_format is not None or "response_format" in job.matrix:
        raise InputError("--schema: the job has a response_format too: say one of them")
    return Structure.load(job.schema, Path())


def _check_spool(paths: Paths) -> None:
    """Standard input is copied before the output can be held: never over the copy that a running batch reads."""
    if is_held(paths.lock):
        raise OutputHeld(f"another batch works on this output (it holds {paths.lock}), and standard input cannot wait")
    try:
        paths.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{paths.output.parent}: cannot be created ({exc.strerror or exc})") from None


def _check_keys(prompter: Prompter, source: Source, column: str) -> None:
    """Every row has a key, and no two the same."""
    seen: set[str] = set()
    for row in source.rows():
        key = prompter.row_key(row)
        if not prompter.key_cell(row):
            raise InputError(f"{source.name}, {_place(row)}: --key {column}: the cell is empty")
        if key in seen:
            first = next(each for each in source.rows() if prompter.row_key(each) == key)
            raise InputError(
                f"{source.name}: --key {column}: {key!r} stands in {_place(first)} and in {_place(row)}; "
                "each row needs a key of its own"
            )
        seen.add(key)


def _place(row: Row) -> str:
    return f"line {row.line}" if row.line is not None else f"row {row.row_index}"


def _check_first(prompter: Prompter, rows: Iterator[Row], combinations: int) -> None:
    """A template that fails on the first row most likely fails on all: say so before anything is sent."""
    for row in itertools.islice(rows, combinations):
        try:
            prompter.render(row)
        except PromptError as exc:
            if exc.error_type == "template_error":
                raise InputError(f"--prompt: on the first row, {exc}") from None
