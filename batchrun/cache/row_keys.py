"""The key of an answer: a hash of everything that decides what a service is sent for a row.

The parts of a key are listed here and nowhere else. If they change, `KEY_VERSION` changes with them: answers under the
old keys are then not found, and no row gets an answer to another request.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from batchrun.job.fingerprint import digest
from batchrun.job.options import Job
from batchrun.prompts.attachments import AttachmentError, Attachments
from batchrun.records import Attachment, JsonDict, JsonObject, Prompt, RowSettings, Turn

__all__ = ["AnswerKey", "RowKeys", "Uncacheable", "has_function_tools", "request_settings", "service_identity"]

KEY_VERSION: Final = 1

_BY_ROW: Final = ("prompt", "turns", "messages", "attach", "thread_column", "matrix", "epochs")
"""Settings that the key has in the form that they take for each row: as rendered text, content or number."""

_OPENAI_URL: Final = "https://api.openai.com/v1"

_CREDENTIAL: Final = re.compile(
    r"key|(?:.*[-_])?(?:api-?key|access-?key|subscription-?key|auth(?:orization)?|token|secret|cookie|password|signature)",
    re.IGNORECASE,
)
"""Names of headers and query parameters that identify the sender. Their values decide no answer, and change."""


class Uncacheable(Exception):
    """An answer to this row must not be looked up or stored. The text is the reason, as a noun for people."""


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """The key of an answer.

    Attributes:
        digest: hash of everything that was sent, and of the epoch.
        number: the row is the n-th of its batch that asks the same, from 1. Rows that ask the same are separate
            questions unless --dedupe is given, so each has its own answer.
    """

    digest: bytes
    number: int

    def of_fallback(self, model: str) -> AnswerKey:
        """Return the key of the answer that a fallback model gives to the row because its own model gave none.

        The row's own model is in it too: a batch without this fallback model, and one that asks that model itself, do
        not find the answer.
        """
        return AnswerKey(
            hashlib.blake2b(b"fallback:" + model.encode(), key=self.digest, digest_size=32).digest(), self.number
        )


class RowKeys:
    """Makes the keys of a batch's rows.

    Mutable state: hashes of attached files.
    """

    def __init__(
        self, service: str, combinations: Sequence[tuple[Job, int]], extra_settings: JsonObject, folder: Path
    ) -> None:
        """
        Args:
            service: see `service_identity`.
            combinations: for each combination of the batch, in order, its job and its epoch.
            extra_settings: settings that the job names by a file, such as the schema, with the file's content.
            folder: relative paths of attachments are relative to this folder.
        """
        self.service = service
        self._settings = [({**request_settings(job), **extra_settings}, epoch) for job, epoch in combinations]
        self._parts = [self._settings_part(settings, epoch) for settings, epoch in self._settings]
        self._folder = folder
        self._attachments = Attachments()

    def digest_of(self, prompt: Prompt) -> bytes:
        """Return the hash of everything that is sent for a row. The length of each part is written before it.

        Raises:
            Uncacheable: the content of an attachment is not known, or the thread already exists.
        """
        if prompt.thread_id is not None:
            raise Uncacheable("existing thread")
        combination = prompt.row_index % len(self._parts)
        settings = self._parts[combination]
        if prompt.own is not None:
            settings = self._settings_part(*self._of_row(prompt.own, combination))
        whole = hashlib.blake2b(settings, digest_size=32)
        first = prompt.first
        parts = [first.text, *self._attached(first.attachments)]
        if first.messages or first.examples:
            parts.append(_messages_part(first))
        if prompt.later is not None:
            parts.append(prompt.later.identity)
        for part in parts:
            text = part.encode("utf-8", "surrogatepass")
            whole.update(b"%d:" % len(text))
            whole.update(text)
        return whole.digest()

    def _settings_part(self, settings: JsonObject, epoch: int) -> bytes:
        return digest(KEY_VERSION, self.service, settings, epoch).encode()

    def _of_row(self, own: RowSettings, combination: int) -> tuple[JsonObject, int]:
        """Return the settings of a row, with the values of its templates in place of these, and its epoch.

        Raises:
            Uncacheable: the model may call functions.
        """
        settings, epoch = self._settings[combination]
        values = {"model": own.model, "instructions": own.instructions, "param": own.param}
        if has_function_tools(own.param or {}):
            raise Uncacheable("function tools")
        return {**settings, **{name: value for name, value in values.items() if value is not None}}, epoch

    def _attached(self, attachments: Sequence[Attachment]) -> list[str]:
        """Return the kind, the name and the content's hash of each file."""
        if not attachments:
            return []
        try:
            found = self._attachments.with_hashes(attachments, self._folder)
        except AttachmentError:
            raise Uncacheable("attachment that cannot be read") from None
        if any(each.sha256 is None for each in found):
            raise Uncacheable("attachment by URL, whose content is not known")
        return [f"{each.kind} {each.sha256} {Path(each.source).name}" for each in found]


def _messages_part(turn: Turn) -> str:
    """Return the messages of a conversation, and the examples before it.

    Raises:
        Uncacheable: a message has an image by URL.
    """
    messages = (*turn.messages, *turn.examples)
    contents = (message.get("content") for message in messages)
    parts = (part for content in contents if isinstance(content, list) for part in content)
    if any(not part["image_url"]["url"].startswith("data:") for part in parts if part["type"] == "image_url"):
        raise Uncacheable("image by URL, whose content is not known")
    return json.dumps([turn.messages, turn.examples], sort_keys=True)


def request_settings(job: Job) -> JsonDict:
    """Return the settings of a job that decide the requests of all rows, by name."""
    values = {f.name: getattr(job, f.name) for f in fields(Job) if f.metadata["option"].decides_answer}
    # Not `in (None, False, …)`: a temperature of 0 equals False.
    return {
        name: value
        for name, value in values.items()
        if name not in _BY_ROW and value is not None and value is not False and value not in ({}, [])
    }


def has_function_tools(param: JsonObject) -> bool:
    """Return whether model parameters let the model call functions."""
    tools = param.get("tools")
    listed = tools if isinstance(tools, list | tuple) else []
    return any(isinstance(tool, Mapping) and tool.get("type") == "function" for tool in listed)


def service_identity(
    base_url: str | None, api_version: str | None, headers: Mapping[str, str], query: Mapping[str, str]
) -> str:
    """Return a digest of the service that answers: its URL, and what selects a backend there.

    Credentials are left out, so that a new key finds the old answers, and no digest of a key is stored.

    Args:
        base_url: None for OpenAI.
        api_version: Azure's; None for every other service.
        headers, query: of every request.
    """
    parts = urlsplit(base_url or _OPENAI_URL)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return digest(
        [parts.scheme, host, port, parts.path.rstrip("/")],
        api_version,
        {name.lower(): value for name, value in headers.items() if not _CREDENTIAL.fullmatch(name)},
        {name: value for name, value in query.items() if not _CREDENTIAL.fullmatch(name)},
    )
