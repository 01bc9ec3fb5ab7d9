"""Job: every option of a batch, its default, its rule and its help, in one place.

The command line, the job file and the Python call are all made from these fields: a field's name is its key
in Python and (with dashes) its flag. Nothing here imports a heavy library at import time, since
`batchrun --help` reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from batchrun.errors import InputError
from batchrun.local_paths import check_local
from batchrun.wording import shortened

__all__ = [
    "EMBEDDED_MODEL",
    "Api",
    "ApiKey",
    "Environment",
    "Job",
    "JobOption",
    "given_in",
    "job_options",
    "make_job",
    "nearest",
    "read_text_option",
]

Api = Literal["assistants", "responses", "chat"]
ApiKey: TypeAlias = str | Callable[[], Awaitable[str]]
"""A key, or what makes one whenever it is needed (tokens that expire)."""
EMBEDDED_MODEL = "tutor"
"""Asks for the embedded server's tutor, unless the job says where else this model is."""


_LONGEST_S = 604_800.0
"""A week: what is meant to take longer is a slip of the keyboard."""

_MOST_COMBINATIONS = 10_000
"""In which one row is asked: all of them are made before the first request."""


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
        60.0, "Tools", "Seconds that one call of a function may take", metavar="SECONDS", above=0, at_most=_LONGEST_S
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
        at_most=_LONGEST_S,
    )
    silence_timeout: float = _option(
        120.0,
        "Limits",
        "Seconds without a byte after which a stream is given up and its run looked up by id",
        metavar="SECONDS",
        above=0,
        at_most=_LONGEST_S,
    )
    max_outage: float = _option(
        900.0,
        "Limits",
        "Seconds to wait for a service that is unavailable, or that only refuses requests, before the batch stops",
        metavar="SECONDS",
        above=0,
        at_most=_LONGEST_S,
    )
    keep_going: bool = _option(False, "Limits", "Go on when more than half of the rows fail (after 20 rows)")
    grace: float = _option(
        30.0,
        "Limits",
        "Seconds for rows in flight to finish after the first Ctrl-C or SIGTERM",
        metavar="SECONDS",
        at_least=0,
        at_most=_LONGEST_S,
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


@dataclass(frozen=True, slots=True)
class Environment:
    """What is taken from the process's environment, read once at the top (command line or `batchrun.run`).

    Attributes:
        api_key: a key, or (from Python) what makes one whenever it is needed.
        client_options: further arguments of the SDK's client (from Python only).
        certificates: SSL_CERT_FILE and SSL_CERT_DIR, those that are set.
    """

    api_key: ApiKey | None = field(default=None, repr=False)
    azure_key: ApiKey | None = field(default=None, repr=False)
    api_version: str | None = None
    base_url: str | None = None
    organization: str | None = None
    project: str | None = None
    model: str | None = None
    client_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    certificates: Mapping[str, str] = field(default_factory=dict)

    def with_key(self, api_key: ApiKey) -> Environment:
        """The same with another key; an empty one counts as absent."""
        return replace(self, api_key=api_key or None, azure_key=api_key or None)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """An empty variable counts as absent."""

        def get(name: str) -> str | None:
            return environ.get(name) or None

        return cls(
            api_key=get("OPENAI_API_KEY"),
            azure_key=get("AZURE_OPENAI_API_KEY"),
            api_version=get("OPENAI_API_VERSION"),
            base_url=get("OPENAI_BASE_URL"),
            organization=get("OPENAI_ORG_ID"),
            project=get("OPENAI_PROJECT_ID"),
            model=get("BATCHRUN_MODEL"),
            certificates={name: environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if get(name)},
        )


def job_options() -> dict[str, tuple[JobOption, Any]]:
    """Field name → how it shows, and its default (None for pairs), in the order of the help."""
    return {f.name: (f.metadata["option"], None if f.default is MISSING else f.default) for f in fields(Job)}


def given_in(job: Job) -> dict[str, Any]:
    """The options of a job that are not left as they are: what `make_job` takes."""
    defaults = Job()
    named = ((f.name, getattr(job, f.name)) for f in fields(Job))
    return {name: value for name, value in named if value != getattr(defaults, name)}


def make_job(options: Mapping[str, Any]) -> Job:
    """Validate options (text from flags, or plain Python values) into a Job.

    Raises:
        InputError: names the option, what was expected and what came.
    """
    from pydantic import TypeAdapter, ValidationError

    given = _sorted_out(options)
    for name, (option, _) in job_options().items():
        if option.pairs is not None and isinstance(given.get(name), (list, tuple)):
            given[name] = dict(_pair(name, text, option.pairs) for text in given[name])
        if option.flagless and isinstance(given.get(name), str):
            given[name] = _json(name, given[name])
        if option.path:
            _check_paths(name, given.get(name))
    try:
        job = TypeAdapter(Job).validate_python(given)
    except ValidationError as exc:
        problems = [_problem(error["loc"], error["type"], error["msg"], error["input"]) for error in exc.errors()]
        raise InputError("; ".join(dict.fromkeys(problems))) from None
    except (TypeError, RecursionError):
        raise InputError("the options cannot be read: a name is not text, or a value is nested too deeply") from None
    for name, (option, _) in job_options().items():
        _check_bounds(name, option, getattr(job, name))
        _check_texts(name, option, getattr(job, name))
    if job.max_age is not None:
        seconds_of(job.max_age, "max-age")
    _check_size(job)
    _check_parameters(job)
    _check_prices(job.prices)
    _check_turns(job)
    return replace(job, matrix=_checked_matrix(job)) if job.matrix else job


def _check_paths(name: str, given: Any) -> None:
    for path in given if isinstance(given, (list, tuple)) else (given,):
        if isinstance(path, (str, os.PathLike)):
            check_local(path, f"--{name.replace('_', '-')}")


def _sorted_out(options: Mapping[str, Any]) -> dict[str, Any]:
    """Several prompts are turns, several models an axis of the matrix."""
    given = dict(options)
    prompts, models = given.get("prompt"), given.get("model")
    if isinstance(prompts, (list, tuple)):
        del given["prompt"]
        if len(prompts) == 1:
            given["prompt"] = prompts[0]
        elif given.setdefault("turns", turns := [{"prompt": text} for text in prompts]) is not turns:
            raise InputError("turns: are given, and --prompt several times: say one of them")
    if isinstance(models, (list, tuple)):
        del given["model"]
        if len(models) == 1:
            given["model"] = models[0]
        else:
            matrix = given.get("matrix") or {}
            if not isinstance(matrix, Mapping):
                raise InputError(f"matrix: a table of options with lists of values is needed, got {shortened(matrix)}")
            given["matrix"] = {**matrix, "model": list(models)}
    return given


_OPTION_OF_PARAMETER = {
    "model": "--model",
    "messages": "--prompt",
    "input": "--prompt",
    "assistant_id": "--assistant",
    "stream": "--stream",
    "background": "--background",
    "conversation": "--thread-column",
    "previous_response_id": "--thread-column",
    "n": "--epochs",
}
"""Parameters that decide what is asked, of whom, how often and how its reply is read, and the options for them."""


def _check_parameters(job: Job) -> None:
    """See that no parameter sends something else than the batch says that it asks."""
    for name in job.param:
        if option := _OPTION_OF_PARAMETER.get(name):
            raise InputError(f"param: {name} cannot be given as a parameter of the model; say {option}")


def _check_turns(job: Job) -> None:
    if job.turns is None:
        return
    if job.prompt is not None:
        raise InputError("turns: are given, and a prompt beside them: the first of the turns is the prompt")
    if not job.turns:
        raise InputError("turns: are empty")
    for number, turn in enumerate(job.turns, start=1):
        unknown = turn.keys() - {"prompt", "when"}
        if unknown or "prompt" not in turn:
            wrong = f"unknown key {min(unknown)!r}" if unknown else "has no prompt"
            misplaced = "; in TOML, options stand above the first [[turns]]" if unknown & job_options().keys() else ""
            raise InputError(f"turns: turn {number} {wrong}; a turn has `prompt` and perhaps `when`{misplaced}")
    if "when" in job.turns[0]:
        raise InputError("turns: the first turn has a condition; leave the row out of the table instead")


def _checked_matrix(job: Job) -> dict[str, list[Any]]:
    """The axes with their values as the options would have them."""
    options = job_options()
    checked = {}
    for name, values in job.matrix.items():
        known = {each for each, (option, _) in options.items() if option.decides_answer} - {"matrix", "epochs"}
        if name not in known:
            raise InputError(f"matrix: {name!r} is not an option that decides answers{nearest(name, known)}")
        if name in _SAME_FOR_ALL:
            raise InputError(f"matrix: {name} is the same for all rows of a batch; compare the outputs of two batches")
        default = options[name][1]
        if getattr(job, name) != ({} if default is None and options[name][0].pairs else default):
            raise InputError(f"matrix: {name} is given, and beside the matrix too: say one of them")
        if not values:
            raise InputError(f"matrix: {name} has no values")
        if name == "prompt" and job.turns is not None:
            raise InputError("matrix: prompt is given, and several turns beside the matrix: say one of them")
        if name in ("prompt", "model") and not all(isinstance(value, str) for value in values):
            raise InputError(f"matrix: {name}: every value is one text, got {shortened(values)}")
        checked[name] = [getattr(make_job({name: value}), name) for value in values]
        if name == "param" and any("service_tier" in value for value in checked[name]):
            raise InputError("matrix: param: service_tier decides prices, and is the same for all rows of a batch")
        # Values that look the same would be told apart neither in the output nor in the journal.
        shown = [str(value) for value in checked[name]]
        if any(
            value in checked[name][:place] or shown[place] in shown[:place] for place, value in enumerate(checked[name])
        ):
            raise InputError(f"matrix: {name} has a value twice; --epochs repeats a row")
    return checked


_SAME_FOR_ALL = ("api", "turns", "thread_column", "code_interpreter", "functions")
"""Options that decide answers and are no axes."""


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{name}: is text that is not valid JSON: {exc}") from None


def _pair(name: str, text: object, kind: Literal["text", "json"]) -> tuple[str, Any]:
    key, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals or not key.strip():
        # A header or query may be a key, and `Authorization: Bearer …` is easily typed for `Authorization=Bearer …`.
        option = job_options()[name][0]
        got = "" if option.secret else f", got {shortened(text)}"
        metavar = option.metavar
        raise InputError(f"--{name.replace('_', '-')}: {metavar} is needed{got}")
    if kind == "json":
        try:
            return key.strip(), json.loads(value)
        except ValueError:
            return key.strip(), value
        except RecursionError:
            raise InputError(f"--{name.replace('_', '-')}: {key.strip()}: is nested too deeply") from None
    return key.strip(), value


def _check_bounds(name: str, option: JobOption, value: Any) -> None:
    if not isinstance(value, (int, float)):
        return
    for limit, words, holds in (
        (option.at_least, "at least", option.at_least is None or value >= option.at_least),
        (option.above, "above", option.above is None or value > option.above),
        (option.at_most, "at most", option.at_most is None or value <= option.at_most),
    ):
        # NaN holds nothing; infinity is no number that can be waited for or sent.
        if limit is not None and (not holds or value in (math.inf, -math.inf)):
            raise InputError(f"--{name.replace('_', '-')}: must be {words} {limit:,g}, got {shortened(value)}")


def _check_texts(name: str, option: JobOption, value: Any) -> None:
    """Text that no request, file or journal could hold is refused where it comes in."""
    flag = f"--{name.replace('_', '-')}"
    for text in _texts_in(value):
        if (surrogate := _SURROGATE.search(text)) is not None:
            got = "" if option.secret else f", got \\u{ord(surrogate[0]):04x}"
            raise InputError(f"{flag}: is not text in Unicode (half of a surrogate pair){got}")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _texts_in(value: Any) -> Iterator[str]:
    """All texts in a value, names of tables included; without recursion, since a value may be nested deeply."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            left += value


def _check_size(job: Job) -> None:
    """Refuse before it is built what would be a batch of absurd size."""
    combinations = math.prod([len(values) for values in job.matrix.values()], start=job.epochs)
    if combinations > _MOST_COMBINATIONS:
        raise InputError(
            f"matrix and epochs: every row would be asked in {combinations:,} combinations; "
            f"at most {_MOST_COMBINATIONS:,} are possible"
        )


def _check_prices(prices: Mapping[str, Mapping[str, float]]) -> None:
    for model, rates in prices.items():
        for name, price in rates.items():
            if not 0 <= price < math.inf:
                raise InputError(
                    f"prices: {model!r}: {name}: US dollars for a million tokens are needed, 0 or more, got {price!r}"
                )


def _problem(location: tuple[int | str, ...], kind: str, message: str, value: object) -> str:
    name = str(location[0]) if location else "job"
    if kind == "unexpected_keyword_argument":
        return f"unknown option {name!r}{nearest(name, job_options())}"
    known = job_options().get(name)
    shown = name if known is not None and known[0].flagless else f"--{name.replace('_', '-')}"
    if known is not None and known[0].secret:
        place = "".join(f"[{part!r}]" for part in location[1:2] if isinstance(part, int))
        return f"{shown}{place}: {message[0].lower()}{message[1:]} (what came is not shown: it may be secret)"
    return f"{shown}: {message[0].lower()}{message[1:]}, got {shortened(value)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is near, else nothing."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def seconds_of(duration: str, name: str) -> float:
    """Seconds in `90s`, `90m`, `12h`, `7d`, `2w`.

    Raises:
        InputError: names the option, and the forms there are.
    """
    number, unit = duration[:-1], duration[-1:]
    if unit not in _UNITS_S or not number.isascii() or not number.replace(".", "", 1).isdigit():
        raise InputError(f"--{name}: a duration such as 90m, 12h or 7d is needed, got {shortened(duration)}")
    seconds = float(number) * _UNITS_S[unit]
    if seconds > _OLDEST_S:
        raise InputError(f"--{name}: must be at most 36500d (a hundred years), got {shortened(duration)}")
    return seconds


_OLDEST_S = 36_500 * 86_400


def read_text_option(value: str | None, name: str, folder: Path | None = None) -> str | None:
    """`@path` reads the file (relative to `folder`); `@@text` is a literal `@text`.

    Raises:
        InputError: the file cannot be read as UTF-8.
    """
    if value is None or not value.startswith("@"):
        return value
    if value.startswith("@@"):
        return value[1:]
    check_local(value[1:], f"--{name} @")
    path = (folder or Path()) / value[1:]
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise InputError(f"--{name} @{path}: cannot be read: {exc.strerror or exc}") from None
    except UnicodeDecodeError:
        raise InputError(f"--{name} @{path}: is not UTF-8 text") from None


def settings_of(job: Job) -> dict[str, Any]:
    """The options that decide answers and are set, by name: what the journal compares between runs."""
    named = ((f.name, getattr(job, f.name)) for f in fields(Job) if f.metadata["option"].decides_answer)
    return {
        name: value for name, value in named if value not in (None, {}, [], False) and (name, value) != ("epochs", 1)
    }


def digest(*parts: object) -> str:
    """A short hash (32 hex digits) of JSON-able parts, stable between processes and versions."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
