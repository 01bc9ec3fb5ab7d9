"""Reads the TOML and JSONL files that steer responders, with one clear line for whatever is wrong in them."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from batchrun.server.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Settings", "SettingsFileError", "read_json_lines", "read_text", "read_toml", "validated"]


class SettingsFileError(SettingsError):
    """A file that steers a responder can't be used; the message is one line with file, place and way out."""


class Settings(BaseModel):
    """Base of what such files hold: unknown keys are errors, values are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_S = TypeVar("_S", bound=Settings)


def read_text(path: Path) -> str:
    """The file's text, as UTF-8 with or without BOM.

    Raises:
        SettingsFileError: it can't be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise SettingsFileError(f"{path}: cannot be read ({exc.strerror}); check the path") from exc
    except UnicodeDecodeError as exc:
        raise SettingsFileError(f"{path}: byte {exc.start} is not UTF-8; save the file as UTF-8") from exc


def read_toml(path: Path) -> dict[str, Any]:
    """The file as a TOML document.

    Raises:
        SettingsFileError: it can't be read or is not TOML; names line and column.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # also an integer of more than 4,300 digits
        raise SettingsFileError(f"{path}: not TOML: {exc}") from exc


def read_json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The file's JSON objects, each with its physical line, from 1; blank lines are skipped.

    Raises:
        SettingsFileError: it can't be read or a line holds no JSON object; names the line.
    """
    objects: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise SettingsFileError(f"{path}: line {number}: not JSON: {exc}") from exc
        if not isinstance(value, dict):
            raise SettingsFileError(f"{path}: line {number}: expected a JSON object, got {line.strip()[:40]}")
        objects.append((number, value))
    return objects


def validated(model: type[_S], data: Any, path: Path, place: str) -> _S:
    """The data as a model.

    Args:
        place: where in the file the data stands, such as `rule 3`; "" for the whole file.

    Raises:
        SettingsFileError: names file, place, key and what was expected.
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
        return f"key '{key}' is not known{known}"
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"key '{key}': {message}" if key else message
