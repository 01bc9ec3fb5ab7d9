"""Readers for the TOML and JSONL files that configure responders. Every error is one line."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from batchrun.server.errors import SettingsError
from batchrun.server.protocol.bodies import Body

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Settings", "SettingsFileError", "read_json_lines", "read_text", "read_toml", "validated"]


class SettingsFileError(SettingsError):
    """A file that configures a responder cannot be used; the message names the file and the place in it."""


class Settings(BaseModel):
    """Base of the contents of such files. Unknown keys are errors, and values are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_S = TypeVar("_S", bound=Settings)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, with or without a BOM.

    Raises:
        SettingsFileError: the file cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise SettingsFileError(f"{path}: cannot be read ({exc.strerror}); check the path") from exc
    except UnicodeDecodeError as exc:
        raise SettingsFileError(f"{path}: byte {exc.start} is not UTF-8; save the file as UTF-8") from exc


def read_toml(path: Path) -> Body:
    """Return the contents of a TOML file.

    Raises:
        SettingsFileError: the file cannot be read or is not valid TOML; the message names line and column.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # also an integer of more than 4,300 digits
        raise SettingsFileError(f"{path}: not valid TOML: {exc}") from exc


def read_json_lines(path: Path) -> list[tuple[int, Body]]:
    """Return the JSON objects of a file, each with its line number from 1. Blank lines are skipped.

    Raises:
        SettingsFileError: the file cannot be read, or a line is not a JSON object; the message names the line.
    """
    objects: list[tuple[int, Body]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise SettingsFileError(f"{path}: line {number}: not valid JSON: {exc}") from exc
        if not isinstance(value, dict):
            raise SettingsFileError(f"{path}: line {number}: expected a JSON object, got {line.strip()[:40]}")
        objects.append((number, value))
    return objects


def validated(model: type[_S], data: Any, path: Path, place: str) -> _S:
    """Return the data as a model.

    Args:
        place: the place of the data in the file, such as `rule 3`; "" for the whole file.

    Raises:
        SettingsFileError: the data is invalid; the message names file, place, key and the expected value.
    """
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = f"{place}: " if place else ""
        raise SettingsFileError(f"{path}: {where}{_explained(first, model)}") from exc


def _explained(error: Any, model: type[Settings]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = f"; known keys: {', '.join(model.model_fields)}" if len(error["loc"]) == 1 else ""
        return f"key '{key}' is unknown{known}"
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"key '{key}': {message}" if key else message
