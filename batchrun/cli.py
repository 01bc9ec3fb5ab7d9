"""The command line: commands, exit codes; with `display`, the only place that prints.

Exit codes: 0 every row completed · 1 internal error · 2 bad usage, input or settings · 3 finished with failed rows
· 4 budget reached · 5 refused by the service (authentication, quota, unknown model), or it could not be reached
· 6 another batch holds this output · 7 score below the bar · 129/130/143 interrupted.

Every heavy import sits inside the command that needs it: `batchrun --help` is to feel instant.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Container, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from batchrun.errors import BatchrunError, InputError
from batchrun.job import job_options

if TYPE_CHECKING:
    from batchrun.batch import Summary, Watch
    from batchrun.job import Environment, Job
    from batchrun.plan import Plan
    from batchrun.scoring.bars import BarOn
    from batchrun.scoring.evaluating import Question
    from batchrun.scoring.summary import FailedAs
    from batchrun.server import ServerSettings
    from batchrun.server.responders.base import Responder
    from batchrun.server.tools.file_search import Embedder

__all__ = ["cli", "main"]

CLEANUP_OPTIONS = frozenset(
    {
        "api_version",
        "azure",
        "concurrency",
        "header",
        "max_attempts",
        "organization",
        "project",
        "query",
        "rpm",
        "wait",
    }
)
"""Options of `Job` that matter to a cleanup."""

EXIT_CODES = (
    ("0", "every row completed"),
    ("1", "internal error"),
    ("2", "bad usage, input or settings"),
    ("3", "finished with failed rows"),
    ("4", "budget reached"),
    ("5", "refused by the service (authentication, quota, unknown model), or it could not be reached"),
    ("6", "another batch holds this output"),
    ("7", "score below the bar"),
    ("129, 130, 143", "interrupted"),
)


def main() -> NoReturn:
    """The entry point: runs a command and turns its end into an exit code."""
    # The SDK warns on every Assistants call, by design; its user here knows. Exactly that one is silenced.
    warnings.filterwarnings("ignore", message="The Assistants API is deprecated", category=DeprecationWarning)
    try:
        exit_code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        exit_code = 130
    except click.ClickException as exc:
        exc.show()
        exit_code = 2
    except BatchrunError as exc:
        click.echo(f"batchrun: {exc}", err=True)
        exit_code = exc.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`| head`); nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_code = 0
    sys.exit(exit_code if isinstance(exit_code, int) else 0)


class SectionedCommand(click.Command):
    """A command whose options stand under headings."""

    exit_codes: tuple[tuple[str, str], ...] = EXIT_CODES

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "section", "Display"), []).append(record)
        sections["Display"] = sections.pop("Display", [])
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl(list(self.exit_codes))


class CleanupCommand(SectionedCommand):
    """A command about objects rather than rows."""

    exit_codes = (
        ("0", "everything is deleted"),
        ("1", "internal error"),
        ("2", "bad usage or settings"),
        ("3", "something could not be deleted"),
        ("5", "refused by the service, or it cannot delete"),
        ("6", "a batch holds this output"),
        ("130", "interrupted"),
    )


class SectionedOption(click.Option):
    """An option that knows its heading."""

    section: str = "Display"


class MoneyOption(SectionedOption):
    """An option beside those of `Job` that are about money."""

    section = "Money"


def job_parameters(command: Callable[..., Any], only: Container[str] | None = None) -> Callable[..., Any]:
    """Add the options of `Job`, or `only` some. A flag not given is left out: `Job` alone knows the defaults."""
    for name, (option, default) in reversed(job_options().items()):
        if option.flagless or (only is not None and name not in only):
            continue
        flags = option.flags or (f"--{name.replace('_', '-')}",)
        text = option.help if default in (None, False, "") else f"{option.help}. Default: {_shown(default)}"
        if default is False:
            parameter = click.option(
                name, *flags, is_flag=True, default=None, help=text, cls=SectionedOption, type=bool
            )
        else:
            parameter = click.option(
                name, *flags, metavar=option.metavar, help=text, cls=SectionedOption, multiple=option.pairs is not None
            )
        command = parameter(command)
        command.__click_params__[-1].section = option.section  # type: ignore[attr-defined] # click keeps them there
    return command


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="batchrun", message="batchrun %(version)s")
def cli() -> None:
    """Turn a table of prompts into a table of answers: one thread and one run per row."""


@cli.command(cls=SectionedCommand)
@click.argument("table", metavar="TABLE|JOB.toml")
@job_parameters
@click.option(
    "--dry-run", is_flag=True, help="Check everything and estimate tokens, cost and time; send nothing", cls=MoneyOption
)
@click.option(
    "--pilot",
    type=click.IntRange(min=1),
    help="Ask N random rows and estimate the whole table from them; the rest stays pending",
    metavar="N",
    cls=MoneyOption,
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors", cls=SectionedOption)
@click.option("--json", "as_json", is_flag=True, help="Print progress and summary as JSON lines", cls=SectionedOption)
def run(table: str, *, dry_run: bool, pilot: int | None, quiet: bool, as_json: bool, **options: Any) -> int:
    """Ask every row of TABLE (.csv, .tsv, .jsonl, .parquet; - for CSV on standard input), or run a job file.

    The same command run again resumes: what is finished is not asked again, what was in flight is picked up
    where it is. Flags win over the job file.
    """
    from batchrun.display import summary_line
    from batchrun.job import Environment
    from batchrun.ping import pinged

    environment = Environment.read(os.environ)
    name, folder, given = _given(table, options)
    if dry_run and pilot is not None:
        raise click.UsageError("--dry-run sends nothing, --pilot sends some rows: say one of them")
    if dry_run:
        return _dry_run(name, folder, given, environment, quiet=quiet, as_json=as_json)
    if pilot is not None:
        plan = _plan(name, folder, given, environment)
        return _run_pilot(plan, pilot, environment, quiet=quiet, as_json=as_json)
    url = given.get("ping")
    # Whatever goes wrong from here on, the watch hears of it; a wrong type of URL is `make_job`'s to refuse.
    with pinged(url if isinstance(url, str) else None, _warn) as (verdict, leaving):
        plan = _plan(name, folder, given, environment)
        summary = _run_plan(plan, environment, leaving, quiet=quiet, as_json=as_json)
        verdict.exit_code, verdict.line = summary.exit_code, summary_line(summary)
        return summary.exit_code


def _warn(text: str) -> None:
    click.echo(f"batchrun: {text}", err=True)


def _given(table: str, flags: Mapping[str, Any]) -> tuple[str, Path, dict[str, Any]]:
    """(input, folder of the default output, options), from the job file where there is one; flags win."""
    from batchrun.jobfile import is_job_file, load_job_file

    given = {name: value for name, value in flags.items() if value not in (None, ())}
    folder = Path()
    if is_job_file(table):
        path = Path(table)
        name, from_file = load_job_file(path, os.environ)
        if name is None:
            raise InputError(f'{table}: names no input: add a line such as input = "questions.csv"')
        table, folder, given = name, path.parent, {**from_file, **given}
    return table, folder, given


def _job(name: str, folder: Path, given: Mapping[str, Any]) -> tuple[Job, Path]:
    """The job, and where its output goes."""
    from batchrun.clock import utc_now
    from batchrun.job import make_job
    from batchrun.plan import dated, default_output

    job = make_job(given)
    return job, dated(job.output or folder / default_output(name), utc_now)


def _plan(name: str, folder: Path, given: Mapping[str, Any], environment: Environment) -> Plan:
    from batchrun.plan import make_plan

    job, output = _job(name, folder, given)
    return make_plan(job, name, environment, output)


def _dry_run(
    name: str, folder: Path, given: Mapping[str, Any], environment: Environment, *, quiet: bool, as_json: bool
) -> int:
    import json

    from batchrun.estimate import dry_plan, dry_run, dry_run_facts, dry_run_lines, o200k_counter

    job, output = _job(name, folder, given)
    with dry_plan(job, name, environment, output) as plan:
        found = dry_run(plan, count=o200k_counter())
    if as_json:
        click.echo(json.dumps(dry_run_facts(found)))
    elif not quiet:
        click.echo("\n".join(dry_run_lines(found)))
    else:
        for line in (*found.examples, *found.problems):
            _warn(line)
    return found.exit_code


def _run_pilot(plan: Plan, size: int, environment: Environment, *, quiet: bool, as_json: bool) -> int:
    import json

    from batchrun.frames import run_loop
    from batchrun.pilot import pilot_facts, pilot_lines, run_pilot

    watch, leave = _seen(plan, os._exit, quiet=quiet, as_json=as_json)
    found = run_loop(run_pilot(plan, environment, size, watch=watch, leave=leave))
    if as_json:
        click.echo(json.dumps(pilot_facts(found)))
    elif not quiet:
        for line in pilot_lines(found):
            click.echo(line, err=True)
    elif found.summary.stop is not None:
        _warn(found.summary.stop.reason)
    return found.exit_code


def _run_plan(
    plan: Plan, environment: Environment, leaving: Callable[[int], None], *, quiet: bool, as_json: bool
) -> Summary:
    import json

    from batchrun.batch import run_batch
    from batchrun.display import summary_facts, summary_lines
    from batchrun.frames import run_loop

    watch, leave = _seen(plan, leaving, quiet=quiet, as_json=as_json)
    summary = run_loop(run_batch(plan, environment, watch=watch, leave=leave))
    if as_json:
        click.echo(json.dumps(summary_facts(summary)))
    elif not quiet:
        for line in summary_lines(summary):
            click.echo(line, err=True)
    elif summary.stop is not None:
        _warn(summary.stop.reason)
    return summary


def _seen(
    plan: Plan, leaving: Callable[[int], None], *, quiet: bool, as_json: bool
) -> tuple[Watch | None, Callable[[int], NoReturn]]:
    """What shows the progress of a batch, and what to do when it is to be left at once."""
    from rich.console import Console

    from batchrun.display import watch_lines, watch_terminal

    console = Console(stderr=True)
    if plan.embedded and not quiet:
        click.echo(
            "no key found (OPENAI_API_KEY) and no --base-url: answered offline by the embedded server's "
            "rule-based tutor, which is no language model",
            err=True,
        )
    watch: Watch | None
    if as_json:
        watch = partial(watch_lines, stream=sys.stdout, as_json=True)
    elif quiet:
        watch = None
    elif console.is_terminal:
        watch = partial(watch_terminal, console=console)
    else:
        watch = partial(watch_lines, stream=sys.stderr, as_json=False)

    def leave(exit_code: int) -> NoReturn:
        console.show_cursor()
        leaving(exit_code)
        os._exit(exit_code)

    return watch, leave


@cli.command()
@click.argument("table", metavar="TABLE")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write there. Default: TABLE's name with .toml")
def init(table: str, output: Path | None) -> None:
    """Write a first job file for TABLE: it runs as it is, and says in comments what can be changed."""
    from batchrun.starting import first_job, write_new
    from batchrun.tables import ReadOptions, open_source

    source = open_source(table, ReadOptions())
    path = output or Path(table).with_suffix(".toml")
    write_new(path, first_job(os.path.relpath(table, path.parent), source.columns))
    click.echo(f"written: {path}; next: batchrun check {path}", err=True)


@cli.command()
@click.argument("job", metavar="JOB.toml")
def check(job: str) -> None:
    """Check a job file with its table, template and output; send nothing, write nothing."""
    from batchrun.estimate import dry_plan
    from batchrun.job import Environment

    name, folder, given = _given(job, {})
    made, output = _job(name, folder, given)
    with dry_plan(made, name, Environment.read(os.environ), output) as plan:
        click.echo(f"{job}: {plan.rows:,} rows of {name}, to be asked of {plan.api}, answers to {output}")


@cli.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def status(output: Path, *, as_json: bool) -> None:
    """Say how the batch behind OUTPUT stands, also while it runs."""
    import json

    from batchrun.inspection import batch_status, status_lines

    facts = batch_status(output)
    click.echo(json.dumps(facts) if as_json else "\n".join(status_lines(facts)))


@cli.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("-o", "--to", type=click.Path(path_type=Path), help="Write there. Default: OUTPUT itself")
def export(output: Path, *, to: Path | None) -> None:
    """Write the table of answers from the journal of OUTPUT, as far as it goes, also while the batch runs."""
    from batchrun.inspection import export_table

    rows = export_table(output, to or output)
    click.echo(f"{rows:,} rows written: {to or output}", err=True)


@cli.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--prices",
    type=click.Path(path_type=Path),
    help="Job file whose [prices] hold. Default: those that the batch was run with, and today's list",
    metavar="FILE.toml",
)
@click.option("--write", is_flag=True, help="Replace the recorded costs in the journal")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def costs(output: Path, prices: Path | None, *, write: bool, as_json: bool) -> None:
    """Compute what OUTPUT cost again, from the usage that was recorded, and show it beside what was recorded."""
    import json

    from batchrun.costs import batch_costs, cost_facts, cost_lines, prices_of_file

    own = prices_of_file(prices, os.environ) if prices is not None else None
    found = batch_costs(output, own, write=write)
    click.echo(json.dumps(cost_facts(found)) if as_json else "\n".join(cost_lines(found)))


@cli.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("row", metavar="ROW")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def show(output: Path, row: str, *, as_json: bool) -> None:
    """Print the thread of row ROW (from 0) of OUTPUT: prompt, tries, messages, run, steps, usage."""
    import json

    from batchrun.frames import run_loop
    from batchrun.inspection import row_lines, row_story
    from batchrun.job import Environment

    story = run_loop(row_story(output, row, Environment.read(os.environ)))
    click.echo(json.dumps(story, ensure_ascii=False) if as_json else "\n".join(row_lines(story)))


@cli.command(cls=CleanupCommand)
@click.argument("target", metavar="OUTPUT|JOB.toml")
@partial(job_parameters, only=CLEANUP_OPTIONS)
@click.option("--in-flight", is_flag=True, help="Also what rows in flight need to go on", cls=SectionedOption)
@click.option("--dry-run", is_flag=True, help="List what would be deleted, and delete nothing", cls=SectionedOption)
@click.option("--quiet", is_flag=True, help="Print nothing but errors", cls=SectionedOption)
@click.option("--json", "as_json", is_flag=True, help="Print JSON", cls=SectionedOption)
def cleanup(target: str, *, in_flight: bool, dry_run: bool, quiet: bool, as_json: bool, **options: Any) -> int:
    """Delete at the service what the batch behind OUTPUT made there.

    That is threads, conversations, responses, and the assistant of the batch. The answers stay. What rows in flight
    need is kept, so that the batch can still go on. The same command run again goes on where it was stopped. A job file
    brings headers and the like along; OUTPUT may also be a journal that --fresh set aside.
    """
    import json

    from batchrun.cleanup import clean_up, cleanup_facts, cleanup_line
    from batchrun.display import watch_cleanup
    from batchrun.frames import run_loop
    from batchrun.job import Environment, make_job
    from batchrun.jobfile import is_job_file

    name, folder, given = _given(target, options)
    job, output = _job(name, folder, given) if is_job_file(target) else (make_job(given), Path(target))
    summary = run_loop(
        clean_up(
            output,
            job,
            Environment.read(os.environ),
            in_flight=in_flight,
            show=(lambda made: click.echo(f"{made.kind} {made.object_id}")) if dry_run else None,
            watch=None if quiet or as_json else partial(watch_cleanup, stream=sys.stderr),
        )
    )
    if as_json and not dry_run:
        click.echo(json.dumps(cleanup_facts(summary)))
    elif not quiet or summary.stop is not None:
        click.echo(cleanup_line(summary, dry_run=dry_run), err=True)
    return 0 if dry_run else summary.exit_code


@cli.group()
def assistants() -> None:
    """Carry assistants over into job files, for services that know none."""


@assistants.command("export")
@click.argument("assistant_id", metavar="ASST_ID")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write there. Default: standard output")
@click.option("--base-url", help="Where the assistant is. Default: the environment's OPENAI_BASE_URL", metavar="URL")
def assistants_export(assistant_id: str, output: Path | None, base_url: str | None) -> None:
    """Read the assistant ASST_ID from a server and write it as a job file."""
    from batchrun.frames import run_loop
    from batchrun.inspection import fetch_assistant
    from batchrun.job import Environment

    _write_job(run_loop(fetch_assistant(assistant_id, base_url, Environment.read(os.environ))), output)


@assistants.command("import")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.json")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write there. Default: standard output")
def assistants_import(file: Path, output: Path | None) -> None:
    """Read the JSON of an assistant, as the API returned it, and write it as a job file."""
    from batchrun.carryover import read_assistant

    _write_job(read_assistant(file), output)


def _write_job(assistant: Mapping[str, Any], output: Path | None) -> None:
    from batchrun.carryover import job_of_assistant
    from batchrun.jobfile import job_toml
    from batchrun.starting import write_new

    options, lost = job_of_assistant(assistant)
    title = " · ".join(str(assistant[key]) for key in ("name", "id", "description") if assistant.get(key))
    comments = [f"From the assistant {' '.join(title.split())}"] if title else ["From an assistant"]
    comments += [f"Not carried over: {line}" for line in lost]
    text = job_toml(options, tuple(comments))
    if output is None:
        click.echo(text, nl=False)
    else:
        write_new(output, text)
    for line in lost:
        click.echo(f"not carried over: {line}", err=True)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; a public one needs a key")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one")
@click.option("--data", type=click.Path(path_type=Path), help="SQLite file for all objects. Default: a temporary one")
@click.option(
    "--key",
    "keys",
    multiple=True,
    envvar="BATCHRUN_SERVER_KEYS",
    help="Accepted API key; may be repeated. Better given in the environment's BATCHRUN_SERVER_KEYS, "
    "separated by spaces: a command line can be read by other users of the machine",
)
@click.option("--script", type=click.Path(path_type=Path), help="Answer from this file of rules", metavar="FILE")
@click.option("--upstream", help="Answer by the Chat Completions endpoint at this base URL", metavar="URL")
@click.option("--upstream-key-env", help="Environment variable with the upstream's key", metavar="NAME")
@click.option(
    "--upstream-model", "models", multiple=True, help="Model that /models lists; may be repeated", metavar="NAME"
)
@click.option("--embeddings", help="Rank file searches by this embedding model of the upstream too", metavar="MODEL")
@click.option("--faults", type=click.Path(path_type=Path), help="Play the faults that this file plans", metavar="FILE")
@click.option("--rpm", type=click.IntRange(1), help="Requests a minute that each key may send", metavar="N")
@click.option("--tpm", type=click.IntRange(1), help="Tokens a minute that each key may use", metavar="N")
def serve(
    host: str,
    port: int,
    data: Path | None,
    keys: tuple[str, ...],
    embeddings: str | None,
    faults: Path | None,
    rpm: int | None,
    tpm: int | None,
    **responder: Any,
) -> None:
    """Serve the Assistants protocol: threads and runs for any client, over one SQLite file.

    Answers come from the offline tutor, from a file of rules (--script), or from any model (--upstream).
    """
    from batchrun.server import ServerError, ServerSettings, serve_forever
    from batchrun.server.responders.faults import FaultPlan, FaultyResponder

    try:
        settings = ServerSettings(
            host=host, port=port, data=data, api_keys=keys, requests_per_minute=rpm, tokens_per_minute=tpm
        )
        chosen = _responder(**responder)
        embedder = _embedder(embeddings, responder["upstream"], responder["upstream_key_env"])
        plan = FaultPlan.load(faults) if faults is not None else None
        serve_forever(
            settings,
            chosen if plan is None else FaultyResponder(chosen, plan),
            faults=plan,
            embedder=embedder,
            on_started=lambda url: click.echo(_announcement(url, settings, chosen), err=True),
        )
    except (ServerError, OSError) as exc:
        raise click.UsageError(str(exc)) from exc


def _responder(
    script: Path | None, upstream: str | None, upstream_key_env: str | None, models: tuple[str, ...]
) -> Responder:
    """What stands behind the server. A key is named by its variable, so that no command line shows it."""
    if script is not None and upstream is not None:
        raise click.UsageError("--script and --upstream: say one of them")
    if upstream is None and (upstream_key_env is not None or models):
        raise click.UsageError("--upstream-key-env and --upstream-model go with --upstream")
    if upstream is not None:
        from batchrun.server.responders.upstream import UpstreamResponder

        return UpstreamResponder(upstream, _upstream_key(upstream_key_env), models=models)
    if script is not None:
        from batchrun.server.responders.script import ScriptResponder

        return ScriptResponder(script)
    from batchrun.server.responders.tutor import TutorResponder

    return TutorResponder()


def _embedder(model: str | None, upstream: str | None, upstream_key_env: str | None) -> Embedder | None:
    if model is None:
        return None
    if upstream is None:
        raise click.UsageError("--embeddings goes with --upstream")
    from batchrun.server.tools.embeddings import UpstreamEmbedder

    return UpstreamEmbedder(upstream, _upstream_key(upstream_key_env), model)


def _upstream_key(name: str | None) -> str | None:
    key = os.environ.get(name) if name is not None else None
    if name is not None and not key:
        raise click.UsageError(f"--upstream-key-env: the environment has no {name}")
    return key


def _announcement(url: str, settings: ServerSettings, responder: Responder) -> str:
    where = f"objects in {settings.data}" if settings.data else "objects in a temporary file, gone at the end"
    keys = f"{len(settings.api_keys)} accepted" if settings.api_keys else "any or none accepted"
    return f"serving {url} · answered by {responder.name} · {where} · keys: {keys}"


def scoring_parameters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a table is to be scored."""
    for option in reversed(
        (
            click.option(
                "--scorer",
                "scorers",
                multiple=True,
                required=True,
                metavar="[NAME=]KIND[:OPTIONS]",
                help="Rule to score by: exact, includes, regex, numeric, choice, json, fuzzy, f1, rougeL, bleu, math, "
                "python:FILE.py:function, column; may be repeated",
            ),
            click.option("--target", metavar="COLUMN", help="Column of what was wanted"),
            click.option("--answer", metavar="COLUMN", help="Column of what was answered. Default: response"),
            click.option("--key", metavar="COLUMN", help="Column of row ids; rows that share one are epochs of it"),
            click.option("--cluster", metavar="COLUMN", help="Rows that share a value here belong together"),
            click.option(
                "--failed-as",
                type=click.Choice(["skip", "wrong"]),
                default="skip",
                show_default=True,
                help="Whether failed rows are left out, or count as 0; they are reported in either case",
            ),
            click.option("--encoding", help="Encoding of text tables. Default: byte order mark, else UTF-8"),
            click.option("--delimiter", help="What separates the cells of CSV. Default: found"),
        )
    ):
        command = option(command)
    return command


@cli.command()
@click.argument("table", metavar="OUTPUT")
@scoring_parameters
@click.option("--by", multiple=True, metavar="COLUMN", help="Break the figures down by this column; may be repeated")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the scored table there. Default: NAME.scored.ENDING"
)
@click.option("--fail-under", type=click.FloatRange(0, 1), help="Exit with 7 if a scorer's mean is lower", metavar="X")
@click.option(
    "--no-worse-than", "baseline", metavar="BASELINE", help="Exit with 7 if a scorer's mean is lower than this table's"
)
@click.option("--margin", type=click.FloatRange(0, 1), help="How much lower it may be. Default: 0", metavar="X")
@click.option(
    "--bar-on",
    type=click.Choice(["value", "interval"]),
    default="value",
    show_default=True,
    help="What has to reach the bar: the figure, or the lower end of its 95 % interval",
)
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE.xml", help="Write the bars as JUnit XML")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE.md", help="Write a summary as Markdown")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
def score(
    table: str,
    *,
    output: Path | None,
    fail_under: float | None,
    baseline: str | None,
    margin: float | None,
    bar_on: BarOn,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
    **question: Any,
) -> int:
    """Score the answers in OUTPUT, or in any table with answers and targets, and say how sure that is."""
    import json

    from batchrun.scoring.evaluating import Bars, score_table
    from batchrun.scoring.lines import bar_lines, score_lines

    if margin is not None and baseline is None:
        raise click.UsageError("--margin goes with --no-worse-than")
    bars = Bars(fail_under, baseline, margin or 0.0, bar_on)
    if junit is not None and not bars.given:
        raise click.UsageError("--junit writes bars: add --fail-under or --no-worse-than")
    found = score_table(table, _question(**question), bars, output)
    if junit is not None:
        found.write_junit(junit)
    if markdown is not None:
        found.write_markdown(markdown)
    if as_json:
        click.echo(json.dumps(found.facts(), ensure_ascii=False))
    else:
        click.echo("\n".join([*score_lines(found.summaries, found.incomplete), *bar_lines(found.bars)]))
        click.echo(f"written: {found.output}", err=True)
    return found.exit_code


@cli.command()
@click.argument("tables", nargs=-1, required=True, metavar="A B [C…]")
@scoring_parameters
@click.option(
    "--detect",
    "detectable",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    metavar="D",
    help="Tell the rows needed to see this difference; may be repeated. Default: 0.01, 0.02 and 0.05",
)
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE.md", help="Write the comparison as Markdown")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all rows that flipped")
def compare(
    tables: tuple[str, ...],
    *,
    detectable: tuple[float, ...],
    markdown: Path | None,
    as_json: bool,
    **question: Any,
) -> None:
    """Score tables over the same rows, and say which is better and how sure that is."""
    import json

    from batchrun.scoring.comparing import DETECTABLE
    from batchrun.scoring.evaluating import compare_tables
    from batchrun.scoring.lines import comparison_lines

    found = compare_tables(tables, _question(**question), detectable=detectable or DETECTABLE, markdown=markdown)
    click.echo(json.dumps(found.facts(), ensure_ascii=False) if as_json else "\n".join(comparison_lines(found)))


def _question(
    scorers: tuple[str, ...],
    failed_as: FailedAs,
    encoding: str | None,
    delimiter: str | None,
    by: tuple[str, ...] = (),
    **columns: str | None,
) -> Question:
    from batchrun.scoring.evaluating import Question
    from batchrun.scoring.table import Columns
    from batchrun.tables import ReadOptions

    return Question(scorers, Columns(**columns, by=by), failed_as, ReadOptions(encoding, delimiter))


@cli.command()
@click.argument("file", metavar="INPUT")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "given",
    type=click.Choice(["table", "openai-evals", "batch-requests", "batch-results", "inspect", "promptfoo"]),
    default="table",
    show_default=True,
    help="What INPUT is",
)
@click.option(
    "--to",
    "wanted",
    type=click.Choice(["table", "openai-evals", "batch-requests", "batch-results", "inspect"]),
    default="table",
    show_default=True,
    help="What OUTPUT is to be",
)
@click.option("--prompt", metavar="COLUMN", help="What is asked. Default: question or prompt")
@click.option("--target", metavar="COLUMN", help="What is wanted. Default: target or answer")
@click.option("--key", metavar="COLUMN", help="Ids of rows. Default: custom_id or id, else the rows are counted")
@click.option("--model", metavar="NAME", help="Model of batch requests")
@click.option("--join", metavar="TABLE", help="Put batch results beside the rows of this table, matched by --key")
def convert(file: str, output: Path, **options: Any) -> None:
    """Make a table of another tool's file, or the other way round; what does not map is listed."""
    from batchrun.scoring.converting import Conversion
    from batchrun.scoring.converting import convert as convert_file

    rows, notes = convert_file(file, output, Conversion(**options))
    for line in notes.lines():
        click.echo(line, err=True)
    click.echo(f"{rows:,} rows written: {output}", err=True)
