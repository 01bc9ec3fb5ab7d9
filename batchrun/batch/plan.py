"""What a batch will do, decided and checked before the first request: planning spends nothing and writes no output."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.batch.added_columns import AddedColumns
from batchrun.batch.cache_plan import BatchFiles, has_cached_answers, planned_cache, service_of
from batchrun.batch.cached_answers import PlannedCache
from batchrun.batch.destination import Destination, destination_of, variants_of
from batchrun.batch.examples import ExamplePairs, read_examples
from batchrun.batch.input_checks import check_rows
from batchrun.batch.input_place import attachments_folder, input_name, recorded_name, with_local_copy
from batchrun.batch.job_files import JobFiles, structure_of, toolbox_of
from batchrun.batch.message_column import answers_notice, default_conversation
from batchrun.batch.output_path import continued_default_notice, long_cells_notice, parts_ending, target_of
from batchrun.batch.output_place import IS_INPUT, check_target
from batchrun.batch.paths import Paths, paths_for
from batchrun.batch.protocol_choice import recorded_api
from batchrun.batch.recorded_input import with_columns
from batchrun.batch.row_models import listed_models, models_of_rows
from batchrun.batch.selection import Selection, SelectionOptions, asked_rows, select_rows
from batchrun.batch.standard_input import check_standard_input
from batchrun.errors import InputError
from batchrun.functions import Toolbox
from batchrun.job.batch_api_rules import check_needs_batch_api, unused_limits
from batchrun.job.environment import Environment
from batchrun.job.fingerprint import digest, settings_of
from batchrun.job.option_values import read_text_option
from batchrun.job.options import EMBEDDED_MODEL, Api, Job
from batchrun.local_paths import is_url
from batchrun.prompts.combinations import Combination, combinations_of
from batchrun.prompts.local_files import LocalFile, matching_files
from batchrun.prompts.placeholders import default_template, no_prompt
from batchrun.prompts.rendering_version import rendering_digest
from batchrun.prompts.templates import Prompter, prompter_for
from batchrun.records import JsonDict, Settings
from batchrun.services.parameters import check_parameters
from batchrun.structured import Structure
from batchrun.tables import (
    ReadOptions,
    Source,
    WriteOptions,
    check_output,
    expand,
    header_hint,
    header_refusal,
    notes_of,
    open_source,
)
from batchrun.tables.excel_sink import check_workbook
from batchrun.tables.input_watch import InputStamp, stamp_of
from batchrun.tables.parts import PartsSource
from batchrun.tables.sink import check_not_input
from batchrun.tables.table_options import check_output_format
from batchrun.tables.target import OutputPlace
from batchrun.wording import shown_path

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["Plan", "make_plan", "read_options", "with_texts"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch that has passed every check that costs nothing.

    Attributes:
        job: with templates and instructions read from their files, and the model and the API filled in.
        input_name: the path as the user gave it, "-" for standard input, None for a table in memory.
        source: the input, with one row for each combination.
        rows: rows of the input, times the combinations.
        destination: the service that answers.
        settings: what decides the answers, as stored in the journal.
        write_output: False if only the journal is wanted (a table in memory without an output path).
        combinations: the settings of each row; one if the job has neither a matrix nor epochs.
        variants: the job of each combination of settings, without epochs.
        models: the models that rows ask, in the order of the rows; None for that of an assistant.
            Empty if a column names them and the table has no rows.
        added: the columns after the usual ones.
        toolbox: the user's functions, None without --tools.
        structure: the schema of the answers, None without --schema.
        searched: files that the model may search.
        folder: base of relative attachment paths.
        whole: the input of which `source` is a sample; None if it is the whole input.
        service: digest of the service that answers, without credentials.
        cache: where answers of other batches are looked up; None without --cache, and if this batch cannot use it.
        about_input: lines to show about the copy and the parts of the input; no reason to warn.
        notices: further lines to show before the first row is sent.
        selection: the rows that this run asks; None for all. It is not a setting of the batch.
        target: the place to which the output is put after it was written; None if it stays at its path.
        input_stamp: of the input before its rows were checked; None if they were not.
    """

    job: Job
    input_name: str | None
    paths: Paths
    source: Source
    rows: int
    prompter: Prompter
    destination: Destination
    settings: Settings
    write_options: WriteOptions
    write_output: bool
    combinations: tuple[Combination, ...]
    variants: tuple[Job, ...]
    models: tuple[str | None, ...]
    added: AddedColumns
    toolbox: Toolbox | None = None
    structure: Structure | None = None
    searched: tuple[LocalFile, ...] = ()
    folder: Path = Path()
    whole: Source | None = None
    service: str = ""
    cache: PlannedCache | None = None
    notices: tuple[str, ...] = ()
    about_input: tuple[str, ...] = ()
    selection: Selection | None = None
    target: OutputPlace | None = None
    input_stamp: InputStamp | None = None

    @property
    def asked(self) -> Source:
        """The rows that this run asks."""
        return asked_rows(self.source, self.selection)

    @property
    def rows_to_ask(self) -> int:
        """Rows that this run asks, times the combinations."""
        return self.rows if self.selection is None else self.selection.rows

    @property
    def is_tutored(self) -> bool:
        """Whether the embedded server's tutor answers."""
        return self.destination.is_embedded and self.job.script is None

    @property
    def has_several_runs(self) -> bool:
        """Whether a row may need more than one run."""
        return len(self.job.turns or ()) > 1 or self.toolbox is not None or self.structure is not None

    @property
    def place(self) -> str:
        """The service, for people."""
        return "the embedded server" if self.destination.is_embedded else self.destination.base_url or "OpenAI"

    @property
    def output_name(self) -> str:
        """The place of the output, for people."""
        if self.target is not None:
            return self.target.shown
        return shown_path(self.paths.output) + ("/" if self.write_options.parts is not None else "")

    def answered_by(self) -> str:
        """Return the model, the service and the protocol, for people."""
        api, base_url = self.destination.api, self.destination.base_url
        if self.is_tutored:
            return f"the embedded server's rule-based tutor, which is not a language model ({api}, offline)"
        if self.job.script is not None:
            return f"the embedded server from {shown_path(self.job.script)} ({api}, offline)"
        assistants = {each.model: f"assistant {each.assistant}" for each in self.variants}
        models = listed_models([model or assistants.get(model, "") for model in self.models])
        models += f", else {self.job.fallback_model}," if self.job.fallback_model is not None else ""
        return f"{models} at {base_url or 'OpenAI'} ({api})"

    def manifest(self) -> JsonDict:
        """Return what the journal stores of the plan: enough to notice changes, and to export without the job."""
        return {
            "input": recorded_name(self.input_name),
            "key": self.job.key,
            "input_fingerprint": self.source.fingerprint(),
            "rendering": rendering_digest(),
            "row_settings": True,
            "fallback_model": self.job.fallback_model,
            "rows": self.rows,
            "columns": list(self.source.columns),
            "settings": dict(self.settings),
            "cache": self.added.has_cached,
            "base_url": self.destination.base_url,
            "store": str(self.job.store.absolute()) if self.job.store is not None else None,
            "read_options": asdict(read_options(self.job)),
            "write_options": {
                "prefix": self.job.output_prefix,
                "safe_csv": self.job.safe_csv,
                "delimiter": self.job.output_delimiter,
                "bom": self.job.bom,
                "parts": self.write_options.parts,
            },
        }


def make_plan(
    job: Job,
    table: str | Path | pandas.DataFrame | pyarrow.Table,
    environment: Environment,
    output: Path,
    *,
    write_output: bool = True,
    will_send: bool = True,
    scratch: Path | None = None,
) -> Plan:
    """Read the input once, render its first row, and check the output.

    Args:
        will_send: False if nothing is to be sent; a missing key is then no error (`Destination.missing_key`).
        scratch: folder for the copy of standard input or of a remote table, which the caller deletes; None keeps the
            copy next to the journal.

    Raises:
        InputError, OutputError: one line with the cause and the remedy.
    """
    check_needs_batch_api(job)
    paths = paths_for(output).with_store(job.store)
    if scratch is not None:  # an earlier run of this batch resumes from its own copy, which must stay
        paths = replace(paths, incoming=scratch / paths.incoming.name, copy=scratch / paths.copy.name)
    recorded = None if job.api is not None or job.fresh else recorded_api(paths.journal)
    job, destination = _with_destination(with_texts(job), environment, recorded)
    if destination.missing_key is not None and will_send:
        raise InputError(destination.missing_key)
    if any(variant.model is None and variant.assistant is None for variant in variants_of(job)):
        raise InputError("no model given: give --model NAME or set BATCHRUN_MODEL")
    searched = matching_files(job.file_search, Path()) if job.file_search else ()
    files = JobFiles(toolbox_of(job), structure_of(job), searched)
    if files.toolbox is not None:
        job = replace(job, functions=list(files.toolbox.declarations))
    is_kept, is_standard_input = scratch is None, isinstance(table, str) and table == "-"
    if is_kept and is_standard_input:
        check_standard_input(paths)
    try:
        plan = _plan_of_table(job, table, paths, destination, files, write_output=write_output, is_kept=is_kept)
        return _with_cache(plan, environment)
    except BaseException:
        if is_kept and is_standard_input:
            paths.incoming.unlink(missing_ok=True)
        raise


def _plan_of_table(
    job: Job,
    table: str | Path | pandas.DataFrame | pyarrow.Table,
    paths: Paths,
    destination: Destination,
    files: JobFiles,
    *,
    write_output: bool,
    is_kept: bool,
) -> Plan:
    """Return the plan for a job of which only the table is not read yet."""
    parts = parts_ending(job, input_name(table))
    if parts is None:
        check_output_format(paths.output, str(paths.output))  # before a large table is copied
    target = target_of(job, paths.output)
    if target is not None:
        check_target(target, paths, input_name(table), fresh=job.fresh, on_ray=job.ray is not None)
    opened, about_input = with_local_copy(table, paths, is_kept=is_kept)
    source = open_source(opened, read_options(job), spool=paths.incoming)
    if isinstance(source, PartsSource):
        about_input += (source.about,)
    input_stamp = stamp_of(source)
    source = with_columns(source, job, paths.journal)
    notices = (
        *filter(None, (destination.continued,)),
        *unused_limits(job),
        *continued_default_notice(job, table, paths.output),
        *notes_of(source),
    )
    about: list[str] = []
    examples = read_examples(job.examples, _first_prompts(job), about) if job.examples is not None else None
    notices += tuple(about)
    if job.messages is None and not _first_prompts(job):
        job = _with_default_prompt(job, source)
    if job.messages in source.columns:
        notices += answers_notice(source, job.messages, str(table) if isinstance(table, str | Path) else None)
    structure = files.structure.response_format() if files.structure is not None else None
    for variant in variants_of(job):
        check_parameters(variant, destination.api, structure)
    settings = _settings(job, destination, files, examples)
    combinations = combinations_of(settings)
    source = expand(source, [combination.cells for combination in combinations])
    added = AddedColumns(settings, files.structure, keep=job.keep or (), taken=source.columns, prefix=job.output_prefix)
    write_options = WriteOptions(
        prefix=job.output_prefix,
        safe_csv=job.safe_csv,
        delimiter=job.output_delimiter,
        bom=job.bom,
        parts=parts,
        extra_columns=added.types,
    )
    check_output(paths.output, source, write_options)
    if target is not None and not is_url(target.address):
        check_not_input(Path(target.address), source, IS_INPUT)
    if write_output and write_options.output_format(paths.output).kind == "xlsx":
        check_workbook(paths.output, source, write_options)
        notices += long_cells_notice(job, paths.output)
    prompter = _prompter(settings, source, job.key)
    selection = select_rows(SelectionOptions.of(job), source, combinations, job.key)
    asked = asked_rows(source, selection)
    rows = check_rows(source, asked, prompter, job, len(combinations))
    variants = variants_of(job)
    return Plan(
        job=job,
        input_name=input_name(table),
        paths=paths,
        source=source,
        rows=rows,
        prompter=prompter,
        destination=destination,
        settings=settings,
        write_options=write_options,
        write_output=write_output,
        combinations=combinations,
        variants=variants,
        models=models_of_rows(asked, prompter, variants),
        added=added,
        toolbox=files.toolbox,
        structure=files.structure,
        searched=files.searched,
        folder=attachments_folder(table),
        notices=notices if selection is None else (*notices, selection.note),
        about_input=about_input,
        selection=selection,
        target=target,
        input_stamp=input_stamp,
    )


def _first_prompts(job: Job) -> list[str]:
    """Return the prompts of the first turn that the job gives: one, one of each combination, or none."""
    if job.turns is not None:
        return [job.turns[0]["prompt"]]
    return [job.prompt] if job.prompt is not None else job.matrix.get("prompt", [])


def _with_default_prompt(job: Job, source: Source) -> Job:
    """Return the job with the column that is asked if neither a prompt nor a column is given.

    Raises:
        InputError: the table has no such column, or its header looks like a row.
    """
    conversation = default_conversation(source)
    prompt = default_template(source.columns)
    if conversation is not None:
        return replace(job, messages=conversation.name, prompt=prompt if conversation.has_texts else None)
    if prompt is None:
        raise no_prompt(source)
    named = {job.key, job.thread_column, *(job.attach or ())}
    refusal = "" if named & set(source.columns) else header_refusal(source)
    if refusal:
        raise InputError(f"{source.name}: {refusal}")
    return replace(job, prompt=prompt)


def _with_cache(plan: Plan, environment: Environment) -> Plan:
    """Return the plan with its cache, and with the column for answers from one if there are any.

    Raises:
        InputError: the cache cannot be used, or the input has a column of that name.
    """
    job = plan.job
    service = service_of(job, plan.destination, environment)
    files = BatchFiles(plan.folder, plan.searched, plan.structure)
    cache = planned_cache(job, plan.variants, plan.combinations, plan.settings, service, plan.paths, files)
    notices = (*plan.notices, cache) if isinstance(cache, str) else plan.notices
    plan = replace(plan, service=service, notices=notices, cache=cache if isinstance(cache, PlannedCache) else None)
    if plan.cache is None and (job.fresh or not has_cached_answers(plan.paths.journal)):
        return plan
    added = plan.added.with_cached()
    options = replace(plan.write_options, extra_columns=added.types)
    check_output(plan.paths.output, plan.source, options)
    return replace(plan, added=added, write_options=options)


def read_options(job: Job) -> ReadOptions:
    """Return how the job's table is read."""
    return ReadOptions(job.encoding, job.delimiter, job.no_header, job.format, job.sheet, job.skip_rows)


def _prompter(settings: Settings, source: Source, key: str | None) -> Prompter:
    """Return the prompter of the batch; its error says if the names of the columns look like a row."""
    try:
        return prompter_for(settings, source.columns, key)
    except InputError as exc:
        if hint := header_hint(source):
            exc.args = (f"{exc}; {hint}",)
        raise


def with_texts(job: Job) -> Job:
    """Return the job with the texts of the files that it names."""
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


def _with_destination(job: Job, environment: Environment, recorded: Api | None) -> tuple[Job, Destination]:
    """Return the service that answers, and the job with the model and the API that this decides.

    Args:
        recorded: see `destination_of`.
    """
    is_unnamed = job.model is None and "model" not in job.matrix
    if is_unnamed and environment.model is not None:
        job = replace(job, model=environment.model)
    from_environment = is_unnamed and job.model is not None
    destination = destination_of(job, environment, model_from_environment=from_environment, recorded=recorded)
    job = replace(job, api=destination.api)
    if is_unnamed and job.model is None and destination.is_embedded:
        job = replace(job, model="script" if job.script is not None else EMBEDDED_MODEL)
    return job, destination


def _settings(job: Job, destination: Destination, files: JobFiles, examples: ExamplePairs | None) -> JsonDict:
    """Return what decides the answers: the same settings give the same fingerprints, so answers in a journal hold.

    Files count by their content, so that an edited file asks its rows again and a moved one does not.
    """
    settings = {**settings_of(job), "embedded": destination.is_embedded, "model": job.model}
    if files.structure is not None:
        settings["schema"] = files.structure.schema
    if files.searched:
        settings["file_search"] = digest(*sorted(file.sha256 for file in files.searched))
    if examples is not None:
        settings["examples"] = [list(pair) for pair in examples]  # as JSON has them
    return settings
