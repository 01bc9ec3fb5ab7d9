"""promptfoo's prompts: texts, files of texts, and conversations as JSON. Source: its docs, "prompts"."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.asked import text_of
from batchrun.scoring.formats.importers.promptfoo_config import text_file
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.formats.yaml_files import yaml_objects
from batchrun.tables.values import json_text

__all__ = ["PromptfooPrompt", "prompts_of"]

_FILE: Final = "file://"
_TEXTS: Final = (".txt", ".md", ".j2", ".json", ".jsonl", ".yaml", ".yml")
_SYSTEM: Final = ("system", "developer")
_LIST: Final = re.compile(r"\s*(?:\[\s*\{|- role:)")


@dataclass(frozen=True, slots=True)
class PromptfooPrompt:
    """A prompt.

    Attributes:
        label: its name.
        text: template of the user's message; "" for a conversation.
        instructions: template of the instructions; None for none.
        messages: the messages of a conversation that is more than instructions and one message, with templates.
    """

    label: str
    text: str
    instructions: str | None = None
    messages: list[JsonDict] | None = None


def prompts_of(fields: Fields, document: Document, notes: Notes) -> list[PromptfooPrompt]:
    """Take the prompts of a configuration, and name those that code makes.

    Raises:
        InputError: a file of a prompt does not exist or cannot be read.
    """
    given = fields.take("prompts")
    listed: list[tuple[Value, Value]]
    if isinstance(given, dict):
        listed = list(given.items())  # {"file://a.txt": "label"}
    else:
        members = given if isinstance(given, list) else [given]
        listed = [(each, None) for each in members if each is not None]
    made: list[PromptfooPrompt] = []
    for value, label in listed:
        if isinstance(value, dict):
            content = Fields.of(dict(value))
            named = content.text("label")
            reference = content.text("raw")
            texts = [reference] if reference is not None else list(_texts(content.text("id"), document))
            for path, each in content.left():
                notes.add_value(f"prompts: {path}", each)
            value = value.get("id")
        else:
            named, texts = label, list(_texts(value, document))
        if not texts:
            notes.remark(f"prompt {value!r} has no counterpart: it is made by code, or is a file of another kind", 0)
        for number, text in enumerate(texts):
            name = named if isinstance(named, str) else text
            made.append(_prompt(text, name if len(texts) == 1 else f"{name} ({number + 1})", notes))
    return made


def _texts(value: Value, document: Document) -> Iterator[str]:
    """Yield the texts of a prompt: itself, or those of the file that it names; none for code."""
    if not isinstance(value, str):
        return
    name = value.removeprefix(_FILE)
    suffix = Path(name).suffix.lower()
    folder = document.path.parent
    is_name = "\n" not in name and "{" not in name and len(name) < 500
    if not value.startswith(_FILE) and not (is_name and suffix and (folder / name).is_file()):
        if not re.fullmatch(r"(?:exec:|package:|langfuse:|portkey:|helicone:)\S+", value):
            yield value
        return
    paths = sorted(folder.glob(name)) if "*" in name else [folder / name]
    for path in paths:
        if path.suffix.lower() not in _TEXTS:
            continue
        if path.suffix.lower() in (".yaml", ".yml"):
            yield json_text(yaml_objects(path, str(path)))
            continue
        text = text_file(path)
        if path.suffix.lower() == ".jsonl":
            yield from filter(None, map(str.strip, text.splitlines()))
        elif path.suffix.lower() == ".json":
            yield text
        else:
            yield from filter(None, map(str.strip, re.split(r"(?m)^---\s*$", text)))


def _prompt(text: str, label: str, notes: Notes) -> PromptfooPrompt:
    messages = _messages(text)
    label = " ".join(label.split())[:80]
    if messages is None:
        if _LIST.match(text):
            notes.remark(f"prompt {label!r} is not a list of messages before it is rendered, so it stays a text", 0)
        return PromptfooPrompt(label, text)
    texts = [text_of(each.get("content")) for each in messages]
    roles = [each.get("role") for each in messages]
    is_plain = all(each is not None for each in texts) and all(each.keys() <= {"role", "content"} for each in messages)
    if is_plain and roles[-1] == "user" and all(role in _SYSTEM for role in roles[:-1]):
        instructions = "\n\n".join(filter(None, texts[:-1]))
        return PromptfooPrompt(label, texts[-1] or "", instructions or None)
    return PromptfooPrompt(label, "", None, messages)


def _messages(text: str) -> list[JsonDict] | None:
    """Return the messages that a prompt writes as JSON; None if it is a text."""
    if not _LIST.match(text):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(each, dict) and "role" in each for each in value):
        return None
    return value
