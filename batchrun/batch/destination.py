"""Which service answers a batch, and whether its protocol has the options of the job."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from batchrun.batch.protocol_choice import api_of_service
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.options import EMBEDDED_MODEL, Api, Job
from batchrun.job.sources import check_sources
from batchrun.services.route import check_base_url
from batchrun.wording import shown_path

__all__ = ["Destination", "check_protocol", "destination_of", "variants_of"]


@dataclass(frozen=True, slots=True)
class Destination:
    """The service that answers a batch.

    Attributes:
        api: the protocol that the batch uses.
        base_url: the URL of the service, None for the SDK's default and for the embedded server.
        why_embedded: the reason for which the embedded server answers, for people; "" if a service answers.
        continued: a line for people if the batch keeps the protocol that it began with, and a new one would use
            another; "" otherwise.
        missing_key: the reason for which no row can be sent: the job's models need an API key that is not set. None if
            nothing is missing. A plan with a missing key can be inspected, not run.
    """

    api: Api
    base_url: str | None = None
    why_embedded: str = ""
    continued: str = ""
    missing_key: str | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the batch starts its own server, which costs nothing."""
        return bool(self.why_embedded)


_TUTOR = "answered offline by the embedded server's rule-based tutor, which is not a language model"


def destination_of(
    job: Job, environment: Environment, *, model_from_environment: bool, recorded: Api | None = None
) -> Destination:
    """Return the embedded server for --script and --model tutor, and if neither a model, a key nor a base URL is given;
    else the service that the job or the environment names.

    Args:
        model_from_environment: the job's model was taken from BATCHRUN_MODEL.
        recorded: the protocol of the answers in the journal, which the batch keeps unless the job names one.

    Raises:
        InputError: the service lacks a setting, or its protocol an option of the job.
    """
    if job.script is not None:
        return _scripted(job)
    if _is_tutored(job, environment, model_from_environment=model_from_environment):
        unused = [
            f"{name} is set but not used"
            for name, value in (("OPENAI_API_KEY", environment.api_key), ("OPENAI_BASE_URL", environment.base_url))
            if value is not None
        ]
        return _embedded(job, "; ".join((f"the model is {EMBEDDED_MODEL}: {_TUTOR}", *unused)))
    base_url = job.base_url or environment.base_url
    if base_url is not None:
        check_base_url(base_url)
    check_sources(job, environment)
    _check_key(environment, azure=job.azure)
    _check_azure(job, environment, base_url)
    models, assistants = _models_of(job), {variant.assistant for variant in variants_of(job)} - {None}
    key = environment.azure_key if job.azure else environment.api_key
    # The client's own options may hold a credential that only the SDK understands.
    is_reachable = base_url is not None or key is not None or bool(environment.client_options)
    if not is_reachable and models == {None} and not assistants:
        if job.api not in (None, "assistants"):
            raise InputError(
                f"--api {job.api} needs a service: set OPENAI_API_KEY or give --base-url; "
                f"--model {EMBEDDED_MODEL} rehearses offline"
            )
        return _embedded(job, f"no API key (OPENAI_API_KEY), no --base-url and no --model: {_TUTOR}")
    missing_key = None
    if not is_reachable:
        names = sorted(str(name) for name in (models - {None}) or assistants)
        option = "--assistant" if models == {None} else "BATCHRUN_MODEL" if model_from_environment else "--model"
        rehearsal = f"--model {EMBEDDED_MODEL} rehearses offline"
        if job.fallback_model is not None:
            rehearsal = f"--script FILE rehearses offline ({EMBEDDED_MODEL} has no fallback model)"
        missing_key = (
            f"{option} {', '.join(names)}: no API key (OPENAI_API_KEY) and no --base-url: set one of them; {rehearsal}"
        )
    default: Api = "assistants" if assistants else api_of_service(base_url, azure=job.azure)
    if job.batch_api:
        default = "responses"
    api = job.api or (recorded if recorded is not None and not assistants else default)
    check_protocol(job, api)
    continued = ""
    if job.api is None and api != default:
        continued = (
            f"this batch continues with --api {api}, in which its rows were answered; a new batch at this service "
            f"would use {default}"
        )
    return Destination(api, base_url, continued=continued, missing_key=missing_key)


def _models_of(job: Job) -> set[str | None]:
    fallback = set() if job.fallback_model is None else {job.fallback_model}
    return {variant.model for variant in variants_of(job)} | fallback


def _is_tutored(job: Job, environment: Environment, *, model_from_environment: bool) -> bool:
    """Whether `--model tutor` means the embedded server's tutor.

    A service may have a model of that name: it is meant if the job names a service, or if the environment names the
    service together with the model.
    """
    names_service = job.base_url is not None or (model_from_environment and environment.base_url is not None)
    return _models_of(job) == {EMBEDDED_MODEL} and not (names_service or job.azure or environment.client_options)


def _check_azure(job: Job, environment: Environment, base_url: str | None) -> None:
    if not job.azure:
        return
    if base_url is None:
        raise InputError("--azure: the resource's endpoint is missing: give --base-url https://NAME.openai.azure.com")
    if not (job.api_version or environment.api_version or "api_version" in environment.client_options):
        raise InputError("--azure: the API version is missing: give --api-version VERSION or set OPENAI_API_VERSION")


def _scripted(job: Job) -> Destination:
    """Return the embedded server that answers from a script, whatever the environment contains."""
    if job.base_url is not None:
        raise InputError("--script and --base-url cannot be combined: the embedded server answers from a script")
    if not job.script or not job.script.is_file():
        raise InputError(f"--script: {job.script}: no such file")
    return _embedded(job, f"rehearsal: answered offline by the embedded server from {shown_path(job.script)}")


def _embedded(job: Job, why: str) -> Destination:
    """Return the embedded server, which speaks all protocols."""
    api: Api = job.api or ("responses" if job.batch_api else "assistants")
    check_protocol(job, api)
    for name in ("file_search", "code_interpreter"):
        if getattr(job, name) and api != "assistants":
            raise InputError(
                f"--{name.replace('_', '-')}: the embedded server, which answers this batch, supports it only with "
                f"--api assistants, and this batch uses --api {api}"
            )
    if job.ray not in (None, "local"):
        raise InputError(
            "--ray: other machines cannot reach the embedded server of this process; give --base-url with the address "
            "of a service that they reach, such as one of `batchrun serve`, or use --ray local"
        )
    return Destination(api, why_embedded=why)


def _check_key(environment: Environment, *, azure: bool) -> None:
    """A key is sent in a header, which cannot contain a line break; a key read from a file often ends with one."""
    name, key = ("AZURE_OPENAI_API_KEY", environment.azure_key) if azure else ("OPENAI_API_KEY", environment.api_key)
    if isinstance(key, str) and not (key.isascii() and key.isprintable() and key == key.strip()):
        found = (
            "starts or ends with a blank or a line break"
            if key != key.strip()
            else "contains a character that is not printable ASCII"
        )
        raise InputError(f"the API key ({name}) cannot be sent: it {found}; the key is not shown here")


_PROTOCOLS_OF_OPTIONS: tuple[tuple[str, tuple[Api, ...]], ...] = (
    ("assistant", ("assistants",)),
    ("poll", ("assistants",)),
    ("stream", ("responses", "chat")),
    ("background", ("responses",)),
    ("conversation", ("responses",)),
    ("batch_api", ("responses", "chat")),
    ("thread_column", ("assistants", "responses")),
    ("file_search", ("assistants", "responses")),
    ("code_interpreter", ("assistants", "responses")),
)


def check_protocol(job: Job, api: Api) -> None:
    """Refuse options that the protocol does not have, rather than ignore them.

    Raises:
        InputError: names the option and the protocols that have it.
    """
    for name, apis in _PROTOCOLS_OF_OPTIONS:
        if (getattr(job, name) or name in job.matrix) and api not in apis:
            raise InputError(
                f"--{name.replace('_', '-')} requires --api {' or '.join(apis)}, and this batch uses --api {api}"
            )
    if job.file_search and job.thread_column is not None and (job.assistant is not None or "assistant" in job.matrix):
        raise InputError(
            "--file-search cannot be used with threads that exist already (--thread-column) and an --assistant: give "
            "the files to the assistant, or leave --assistant out"
        )


def variants_of(job: Job) -> tuple[Job, ...]:
    """Return the job of each combination of the matrix, in the order of
    `batchrun.prompts.combinations.combinations_of`."""
    without_matrix = replace(job, matrix={})
    variants = []
    for values in itertools.product(*job.matrix.values()):
        chosen = dict(zip(job.matrix, values, strict=True))
        if "param" in chosen:
            chosen["param"] = {**job.param, **chosen["param"]}
        variants.append(replace(without_matrix, **chosen))
    return tuple(variants)
