"""What a batch will do, decided and checked before the first request: nothing here spends or writes."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from batchrun.batch.lock import is_held
from batchrun.batch.results import AddedColumns
from batchrun.clock import WallClock
from batchrun.errors import InputError, OutputError, OutputHeld
from batchrun.functions import Toolbox
from batchrun.job.options import EMBEDDED_MODEL, Api, Environment, Job, digest, read_text_option, settings_of
from batchrun.journal import Journal
from batchrun.prompts.combinations import Combination, combinations_of
from batchrun.prompts.local_files import LocalFile, files_of
from batchrun.prompts.templates import Prompter, PromptError, default_template, prompter_for, rendering_digest
from batchrun.records import Row
from batchrun.structured import Structure
from batchrun.tables import ReadOptions, Source, WriteOptions, check_output, expand, format_of, open_source, validate
from batchrun.wording import shortened, shown_path

if TYPE_CHECKING:
    import pandas

__all__ = ["Paths", "Plan", "check_base_url", "make_plan", "output_of", "paths_for"]


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of a batch.

    Attributes:
        output: the table of answers.
        journal: what is known about each row; makes a batch resumable.
        lock: held while a process works on this output.
        store: the embedded server's threads, where it is used.
        spool: a copy of the input where it came through standard input.
        incoming: the same while it is read and checked: what an accepted batch stands on is not overwritten before.
        files: folder of the files that runs made.
    """

    output: Path
    journal: Path
    lock: Path
    store: Path
    spool: Path
    incoming: Path
    files: Path

    def with_store(self, store: str | Path | None) -> Paths:
        """The same, with the embedded server's threads in a file that the user named."""
        return self if store is None else replace(self, store=Path(store))


def paths_for(output: Path) -> Paths:
    """Everything lies beside the output and begins with its name; where that is a symbolic link, beside its target, so
    that an output has one journal and one lock whatever it is called.

    Raises:
        InputError: the output has no name.
    """
    if not output.name:
        raise InputError(f"{str(output)!r}: is no name of an output table; one such as answers.csv is expected")

    def beside(ending: str) -> Path:
        return place.with_name(place.name + ending)

    place = output
    if os.path.islink(output):  # noqa: PTH114 - a name that the system refuses is not a link, and not an error here
        # Earlier versions put a journal beside the link: it is continued there.
        earlier, place = beside(".journal"), Path(os.path.realpath(output))
        if earlier.exists() and not beside(".journal").exists():
            place = output

    return Paths(
        output=output,
        journal=beside(".journal"),
        lock=beside(".lock"),
        store=beside(".store"),
        spool=beside(".input.csv"),
        incoming=beside(".input.csv.new"),
        files=beside(".files"),
    )


def _dated(output: Path, clock: WallClock) -> Path:
    """The path with `{date}` in it replaced by today's, as 2026-11-23, in this machine's time zone."""
    return Path(str(output).replace("{date}", clock().astimezone().strftime("%Y-%m-%d")))


def _default_output(input_name: str) -> Path:
    """In `outputs`, under the input's own name and so in its format; CSV for standard input and unknown endings."""
    name = "stdin" if input_name == "-" else Path(input_name).name
    try:
        format_of(Path(name), name)
    except InputError:
        name = f"{name or 'output'}.csv"
    return Path("outputs") / name


def _former_default_output(input_name: str) -> Path:
    """Where earlier versions wrote, whatever the format of the input."""
    name = _default_output(input_name).name
    for ending in (".gz", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"):
        name = name.removesuffix(ending)
    return Path("outputs") / f"{name or 'output'}.csv"


def output_of(job: Job, folder: Path, input_name: str, clock: WallClock) -> Path:
    """Where a job's output goes.

    Args:
        folder: of the default output.

    Raises:
        OutputError: an earlier version's journal for this input is there, and cannot be read.
    """
    if job.output is not None:
        unknown = re.search(r"\{(?!date\})\w+\}", str(job.output))
        if unknown is not None:
            raise InputError(f"--output: only {{date}} is replaced in a path, and {job.output} has {unknown[0]}")
        return _dated(job.output, clock)
    output, former = folder / _default_output(input_name), folder / _former_default_output(input_name)
    goes_on = not paths_for(output).journal.exists() and not job.fresh and _began_over(former, input_name)
    return _dated(former if goes_on else output, clock)


def _began_over(output: Path, input_name: str) -> bool:
    """Whether a batch over an input of this name wrote that output."""
    journal = paths_for(output).journal
    if not journal.exists():
        return False
    with Journal(journal, read_only=True) as opened:
        earlier = opened.read_manifest().get("input")
    return earlier is not None and Path(earlier).name == Path(input_name).name


def _changed_default(job: Job, table: object, output: Path) -> tuple[str, ...]:
    """A line where a batch goes on under the default name of earlier versions."""
    if job.output is not None or not isinstance(table, (str, Path)):
        return ()
    default, former = _default_output(str(table)), _former_default_output(str(table))
    if default == former or output.name != former.name or output.parent.name != former.parent.name:
        return ()
    return (
        f"{shown_path(output)}: an earlier batch over this table is continued there; since then the default output has "
        f"the format of the input ({default}): say --output to choose",
    )


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
    answerer = _service(job, environment, model_from_environment=model_from_environment)
    if answerer.no_key is not None and sending:
        raise InputError(answerer.no_key)
    embedded = bool(answerer.why_embedded)
    job = replace(job, api=answerer.api)
    if job.model is None and "model" not in job.matrix:
        job = replace(job, model=("script" if job.script is not None else EMBEDDED_MODEL) if embedded else None)
    if any(variant.model is None and variant.assistant is None for variant in _variants(job)):
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
        variants=_variants(job),
        added=added,
        toolbox=toolbox,
        structure=structure,
        searched=searched,
        folder=Path(str(table)).parent if is_file else Path(),
        no_key=answerer.no_key,
        why_embedded=answerer.why_embedded,
        notices=_changed_default(job, table, paths.output),
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


def _variants(job: Job) -> tuple[Job, ...]:
    """The job of each combination of the matrix, in the order of `batchrun.prompts.combinations.combinations_of`."""
    alone = replace(job, matrix={})
    found = []
    for values in itertools.product(*job.matrix.values()):
        chosen = dict(zip(job.matrix, values, strict=True))
        if "param" in chosen:
            chosen["param"] = {**job.param, **chosen["param"]}
        found.append(replace(alone, **chosen))
    return tuple(found)


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


@dataclass(frozen=True, slots=True)
class _Answerer:
    """Who answers a batch.

    Attributes:
        why_embedded: why the embedded server does, in words; "" where a service answers.
        no_key: as of `Plan`.
    """

    api: Api
    base_url: str | None = None
    why_embedded: str = ""
    no_key: str | None = None


_TUTOR = "answered offline by the embedded server's rule-based tutor, which is not a language model"


def _service(job: Job, environment: Environment, *, model_from_environment: bool) -> _Answerer:
    """The embedded server where the job asks for it (--script, --model tutor), or names no model and there is neither
    key nor base URL."""
    if job.script is not None:
        return _rehearsal(job)
    models = {variant.model for variant in _variants(job)}
    options = bool(environment.client_options)
    # An environment that names a service and this model means the model of that service.
    elsewhere = job.base_url is not None or (model_from_environment and environment.base_url is not None)
    if models == {EMBEDDED_MODEL} and not (elsewhere or job.azure or options):
        unused = [
            f"{name} is set and not used"
            for name, value in (("OPENAI_API_KEY", environment.api_key), ("OPENAI_BASE_URL", environment.base_url))
            if value is not None
        ]
        return _embedded(job, "; ".join((f"the model is {EMBEDDED_MODEL}: {_TUTOR}", *unused)))
    base_url = job.base_url or environment.base_url
    key = environment.azure_key if job.azure else environment.api_key
    if base_url is not None:
        check_base_url(base_url)
    _check_key(environment, azure=job.azure)
    _check_azure(job, environment, base_url)
    assistants = {variant.assistant for variant in _variants(job)} - {None}
    no_key = None
    if base_url is None and key is None and not options:
        if models == {None} and not assistants:
            if job.api not in (None, "assistants"):
                raise InputError(
                    f"--api {job.api} needs a service: set OPENAI_API_KEY, or say --base-url; "
                    f"--model {EMBEDDED_MODEL} rehearses offline"
                )
            return _embedded(job, f"no key found (OPENAI_API_KEY), no --base-url and no --model: {_TUTOR}")
        names = sorted(str(name) for name in (models - {None}) or assistants)
        option = "--assistant" if models == {None} else "BATCHRUN_MODEL" if model_from_environment else "--model"
        no_key = (
            f"{option} {', '.join(names)}: no API key (OPENAI_API_KEY) and no --base-url, so nothing can be asked; "
            f"--model {EMBEDDED_MODEL} rehearses offline"
        )
    named = base_url is None or key is not None or options
    api: Api = job.api or ("assistants" if assistants else "responses" if named else "chat")
    _check_modes(job, api)
    return _Answerer(api, base_url, no_key=no_key)


def _check_azure(job: Job, environment: Environment, base_url: str | None) -> None:
    if not job.azure:
        return
    if base_url is None:
        raise InputError("--azure: the resource's endpoint is needed, say --base-url https://NAME.openai.azure.com")
    if not (job.api_version or environment.api_version or "api_version" in environment.client_options):
        raise InputError(
            "--azure: a version of its API is needed, say --api-version VERSION, or set OPENAI_API_VERSION"
        )


def _rehearsal(job: Job) -> _Answerer:
    """The embedded server, whatever the environment says."""
    if job.base_url is not None:
        raise InputError("--script: is answered by the embedded server, and --base-url names another: say one of them")
    if not job.script or not job.script.is_file():
        raise InputError(f"--script: {job.script}: no such file")
    return _embedded(job, f"rehearsal: answered offline by the embedded server from {shown_path(job.script)}")


def _embedded(job: Job, why: str) -> _Answerer:
    """The embedded server, which speaks all protocols."""
    api: Api = job.api or "assistants"
    _check_modes(job, api)
    for name in ("file_search", "code_interpreter"):
        if getattr(job, name) and api != "assistants":
            raise InputError(
                f"--{name.replace('_', '-')}: the embedded server, which answers this batch, has it with "
                f"--api assistants only, and this batch speaks {api}"
            )
    return _Answerer(api, why_embedded=why)


def check_base_url(base_url: str) -> None:
    """
    Raises:
        InputError: no request could be sent there; or it holds what may be secret, which the journal and messages show.
    """
    _, at, _ = base_url.partition("@")
    bare = "" if at else f", got {base_url.partition('?')[0]!r}"
    if not base_url.startswith(("http://", "https://")):
        raise InputError(f"--base-url: a URL that begins with http:// or https:// is needed{bare}")
    if at:
        raise InputError(
            "--base-url: holds a user or password (before its @), and would be stored; send them as a header: "
            "header.Authorization in a job file, where ${NAME} takes it from the environment"
        )
    if "?" in base_url or "#" in base_url:
        raise InputError(f"--base-url: a URL without ? and # is needed; --query sends more with every request{bare}")
    try:
        parts = urlsplit(base_url)
        # The SDK's own reader of URLs takes no port that is empty.
        usable = bool(parts.hostname) and parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:  # a bracket without an address, or a port that is not a number up to 65535
        usable = False
    if not usable or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise InputError(f"--base-url: a URL such as http://127.0.0.1:8000/v1 is needed, got {shortened(base_url)}")


def _check_key(environment: Environment, *, azure: bool) -> None:
    """A key is sent in a header, which holds no line end; the key of a file often has one."""
    name, key = ("AZURE_OPENAI_API_KEY", environment.azure_key) if azure else ("OPENAI_API_KEY", environment.api_key)
    if isinstance(key, str) and not (key.isascii() and key.isprintable() and key == key.strip()):
        found = "a line end or a blank at an end" if key != key.strip() else "a character that is not printable ASCII"
        raise InputError(f"the API key ({name}) cannot be sent: it has {found}; the key is not shown here")


def _check_modes(job: Job, api: Api) -> None:
    """Options that only one protocol knows are refused for the others, rather than ignored."""
    for name, apis in (
        ("assistant", ("assistants",)),
        ("poll", ("assistants",)),
        ("stream", ("responses", "chat")),
        ("background", ("responses",)),
        ("conversation", ("responses",)),
        ("thread_column", ("assistants", "responses")),
        ("file_search", ("assistants", "responses")),
        ("code_interpreter", ("assistants", "responses")),
    ):
        if (getattr(job, name) or name in job.matrix) and api not in apis:
            raise InputError(
                f"--{name.replace('_', '-')}: is for --api {' or '.join(apis)}, and this batch speaks {api}"
            )
    if job.file_search and job.thread_column is not None and (job.assistant is not None or "assistant" in job.matrix):
        raise InputError(
            "--file-search: cannot be given to threads that exist already (--thread-column); give the files to the "
            "assistant, or leave --assistant out"
        )


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
