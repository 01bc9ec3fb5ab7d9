"""Which service answers, and whether it can do what is asked of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.options import EMBEDDED_MODEL, Api, Job
from batchrun.services.route import check_base_url
from batchrun.wording import shown_path

__all__ = ["Answerer", "check_modes", "service_of", "variants_of"]


@dataclass(frozen=True, slots=True)
class Answerer:
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


def service_of(job: Job, environment: Environment, *, model_from_environment: bool) -> Answerer:
    """The embedded server where the job asks for it (--script, --model tutor), or names no model and there is neither
    key nor base URL."""
    if job.script is not None:
        return _rehearsal(job)
    models = {variant.model for variant in variants_of(job)}
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
    assistants = {variant.assistant for variant in variants_of(job)} - {None}
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
    check_modes(job, api)
    return Answerer(api, base_url, no_key=no_key)


def _check_azure(job: Job, environment: Environment, base_url: str | None) -> None:
    if not job.azure:
        return
    if base_url is None:
        raise InputError("--azure: the resource's endpoint is needed, say --base-url https://NAME.openai.azure.com")
    if not (job.api_version or environment.api_version or "api_version" in environment.client_options):
        raise InputError(
            "--azure: a version of its API is needed, say --api-version VERSION, or set OPENAI_API_VERSION"
        )


def _rehearsal(job: Job) -> Answerer:
    """The embedded server, whatever the environment says."""
    if job.base_url is not None:
        raise InputError("--script: is answered by the embedded server, and --base-url names another: say one of them")
    if not job.script or not job.script.is_file():
        raise InputError(f"--script: {job.script}: no such file")
    return _embedded(job, f"rehearsal: answered offline by the embedded server from {shown_path(job.script)}")


def _embedded(job: Job, why: str) -> Answerer:
    """The embedded server, which speaks all protocols."""
    api: Api = job.api or "assistants"
    check_modes(job, api)
    for name in ("file_search", "code_interpreter"):
        if getattr(job, name) and api != "assistants":
            raise InputError(
                f"--{name.replace('_', '-')}: the embedded server, which answers this batch, has it with "
                f"--api assistants only, and this batch speaks {api}"
            )
    return Answerer(api, why_embedded=why)


def _check_key(environment: Environment, *, azure: bool) -> None:
    """A key is sent in a header, which holds no line end; the key of a file often has one."""
    name, key = ("AZURE_OPENAI_API_KEY", environment.azure_key) if azure else ("OPENAI_API_KEY", environment.api_key)
    if isinstance(key, str) and not (key.isascii() and key.isprintable() and key == key.strip()):
        found = "a line end or a blank at an end" if key != key.strip() else "a character that is not printable ASCII"
        raise InputError(f"the API key ({name}) cannot be sent: it has {found}; the key is not shown here")


def check_modes(job: Job, api: Api) -> None:
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


def variants_of(job: Job) -> tuple[Job, ...]:
    """The job of each combination of the matrix, in the order of `batchrun.prompts.combinations.combinations_of`."""
    alone = replace(job, matrix={})
    found = []
    for values in itertools.product(*job.matrix.values()):
        chosen = dict(zip(job.matrix, values, strict=True))
        if "param" in chosen:
            chosen["param"] = {**job.param, **chosen["param"]}
        found.append(replace(alone, **chosen))
    return tuple(found)
