"""promptfoo's providers as models and options of a job. Source: its docs, and its `src/providers/registry.ts`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.openai_graders import sampling_options
from batchrun.scoring.formats.notes import Notes

__all__ = ["Provider", "provider_of", "providers_of"]

_SERVERS: Final = {
    "ollama": "http://127.0.0.1:11434/v1",
    "localai": "http://127.0.0.1:8080/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "groq": "https://api.groq.com/openai/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "mistral": "https://api.mistral.ai/v1",
    "togetherai": "https://api.together.xyz/v1",
}
"""Providers with the protocol of OpenAI → address."""
_ID: Final = re.compile(r"(?P<service>[a-z]+):(?:(?P<kind>chat|responses):)?(?P<model>.+)", re.DOTALL)
_OTHER_KINDS: Final = (
    *("assistant:", "completion:", "embedding:", "embeddings:", "image:", "moderation:", "realtime:", "speech:"),
    *("transcription:", "agents:", "codex", "video:"),
)
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_PARAMETERS: Final = ("frequency_penalty", "presence_penalty", "stop", "verbosity", "service_tier")
_KEYS: Final = ("apiKey", "apiKeyEnvar")


@dataclass(frozen=True, slots=True)
class Provider:
    """A model, and how it is asked.

    Attributes:
        name: the provider's id.
        model: name of the model.
        options: options of a job.
    """

    name: str
    model: str
    options: JsonDict = field(default_factory=dict)


def providers_of(fields: Fields, notes: Notes) -> list[Provider]:
    """Take the providers of a configuration that a job can ask, and name the others."""
    key = next((name for name in ("providers", "targets") if name in fields), "providers")
    given = fields.get(key)
    made: list[Provider] = []
    for each in given if isinstance(given, list) else [given]:
        found = provider_of(each, notes)
        if found is not None:
            made.append(found)
        elif each is not None:
            notes.remark(f"provider {_named(each)} has no counterpart: a job asks servers of OpenAI's protocols", 0)
    if given is not None:
        fields.take(key)
    return made


def _named(value: Value) -> str:
    if not isinstance(value, dict):
        return repr(value)
    return repr(value.get("id") or next(iter(value), "without an id"))


def provider_of(value: Value, notes: Notes) -> Provider | None:
    """Return a provider, `openai:gpt-5` or an object with `id` and `config`; None for one without a counterpart.

    What the object has besides is noted.
    """
    content: JsonDict
    if not isinstance(value, dict):
        content = {"id": value}
    elif "id" not in value and [type(each) for each in value.values()] == [dict]:
        [(name, settings)] = value.items()  # {"openai:gpt-5": {"config": …}}
        content = {**settings, "id": name}
    else:
        content = dict(value)
    fields = Fields.of(content)
    name = fields.text("id")
    match = _ID.fullmatch(name or "")
    if name is None or match is None or match["model"].startswith(_OTHER_KINDS):
        return None
    service, kind = match["service"], match["kind"]
    if service not in ("openai", *_SERVERS):
        return None
    options: JsonDict = {"api": "responses" if kind == "responses" else "chat"}
    if service in _SERVERS:
        options["base_url"] = _SERVERS[service]
    fields.take_if("label", name)
    options |= _options(fields.object("config"), notes)
    for path, each in fields.left():
        notes.add_value(f"provider {name}: {path}", each)
    return Provider(name, match["model"], options)


def _options(config: Fields, notes: Notes) -> JsonDict:
    for name in _KEYS:
        if config.take(name) is not None:
            notes.remark(f"provider's {name}: not written to the job; set the environment variable OPENAI_API_KEY", 0)
    options: JsonDict = {}
    address, host = config.text("apiBaseUrl"), config.text("apiHost")
    if address or host:
        options["base_url"] = address or f"https://{host}/v1"
    limit = next((name for name in _LIMITS if isinstance(config.get(name), int)), None)
    if limit is not None:
        options["max_completion_tokens"] = config.take(limit)
    if config.get("organization"):
        options["organization"] = config.take("organization")
    options |= sampling_options(config)
    if isinstance(config.get("response_format"), dict):
        options["response_format"] = config.take("response_format")
    further = {name: config.take(name) for name in _PARAMETERS if config.get(name) is not None}
    if further:
        options["param"] = {**options.get("param", {}), **further}
    return options
