"""Configurations of promptfoo: their tests, with the files that they refer to and the defaults of the configuration."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from batchrun.errors import InputError
from batchrun.records import JsonDict, Value
from batchrun.scoring.formats.documents import Document, documents_of
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.promptfoo_checks import parsed_expectation
from batchrun.scoring.formats.notes import Notes
from batchrun.scoring.scorers.base import as_text, is_missing
from batchrun.tables import ReadOptions
from batchrun.tables.files import TextFile, check_readable

__all__ = ["case_of_csv", "is_config", "tests_of", "text_file", "with_files"]

_FILE: Final = "file://"
_TEXTS: Final = frozenset({".txt", ".md", ".json", ".yaml", ".yml", ".html", ".xml", ".j2"})
_CODE: Final = frozenset({".py", ".js", ".ts", ".mjs", ".cjs", ".mts", ".rb"})


def is_config(fields: Fields) -> bool:
    """Return whether these are the fields of a configuration."""
    return any(
        isinstance(fields.get(name), list | str) for name in ("tests", "prompts", "providers", "scenarios")
    ) and ("vars" not in fields)


def tests_of(fields: Fields, document: Document, notes: Notes) -> Iterator[tuple[Fields, Document]]:
    """Yield the tests of a configuration, each with the document from which its files are named.

    Raises:
        InputError: a file of tests does not exist or cannot be read.
    """
    default = fields.get("defaultTest")
    if isinstance(default, str) and default.startswith(_FILE):
        fields.take("defaultTest")
        default = next(documents_of(str(_path(default, document)), ReadOptions())).content
    elif isinstance(default, dict):
        fields.take("defaultTest")
    tests = fields.get("tests")
    if isinstance(tests, str) and not _is_code(tests):
        for each in _of_files(fields.take("tests"), document):
            yield from _defaulted(each.content, default, each, fields, notes)
    elif isinstance(tests, list):
        for test in fields.take("tests"):
            if isinstance(test, str) and not _is_code(test):
                for each in _of_files(test, document):
                    yield from _defaulted(each.content, default, each, fields, notes)
            elif isinstance(test, dict) and "path" not in test:
                yield from _defaulted(test, default, document, fields, notes)
            else:
                notes.add("tests: those that code or another service makes")
    for scenario in fields.objects("scenarios"):
        config, own = scenario.get("config"), scenario.get("tests")
        if not all(isinstance(each, list | None) for each in (config, own)):
            continue
        for variant in scenario.take("config") or [{}]:
            for test in copy.deepcopy(own) or [{}]:
                if isinstance(variant, dict) and isinstance(test, dict):
                    yield from _defaulted(_merged(test, variant), default, document, fields, notes)
        scenario.take("tests")


_SPECIAL: Final = re.compile(r"_(?:expected|prefix|suffix|description|providerOutput|metric|threshold|metadata)")
_CONFIG: Final = re.compile(r"__config:__expected(?P<number>\d*):(?P<key>\w+)")


def case_of_csv(fields: Fields, notes: Notes) -> JsonDict:
    """Take a row of CSV tests, and return it as the test that JSON and YAML would have."""
    case: JsonDict = {"vars": {}, "metadata": {}}
    assertions: dict[str, JsonDict] = {}
    for column in list(fields.fields):
        if column.startswith("__expected"):
            text = as_text(fields.take(column))
            if text.strip():
                assertions[column.removeprefix("__expected") or "1"] = parsed_expectation(text)
        elif column in ("__description", "__providerOutput"):
            case[column[2:]] = fields.take(column)
        elif column.startswith("__metadata:"):
            name, value = column.removeprefix("__metadata:"), fields.take(column)
            if name.endswith("[]"):
                name, value = name[:-2], [each.strip() for each in as_text(value).split(",") if each.strip()]
            case["metadata"][name] = value
        elif not column.startswith("__"):
            if _SPECIAL.match(column) and not is_missing(fields.get(column)):
                notes.remark(f"the column {column!r} is a variable; promptfoo's own columns begin with two _")
            case["vars"][column] = fields.take(column)
    for column in list(fields.fields):
        config = _CONFIG.fullmatch(column)
        if config is not None and (config["number"] or "1") in assertions:
            value = fields.take(column)
            if not is_missing(value):
                assertions[config["number"] or "1"][config["key"]] = _number(as_text(value))
    return {**case, "assert": list(assertions.values()), "options": {"disableVarExpansion": True}}


def _number(text: str) -> Value:
    try:
        return float(text)
    except ValueError:
        return text


def _defaulted(
    test: JsonDict, default: Value, document: Document, config: Fields, notes: Notes
) -> Iterator[tuple[Fields, Document]]:
    if not isinstance(test.get("vars"), dict) and not isinstance(test.get("assert"), list):
        row = Fields.of(test)
        test = case_of_csv(row, notes)
        for path, value in row.left():
            notes.add_value(f"tests: {path}", value)
    if isinstance(default, dict):
        test = _merged(test, default)
    fields = Fields(test, config.opened)
    config.opened.add(id(test))
    yield fields, document
    for path, value in fields.left():
        notes.add_value(f"tests[].{path}", value)


def _merged(test: JsonDict, default: JsonDict) -> JsonDict:
    """Return a test with what it takes over from the default: variables, options, metadata and assertions."""
    default = copy.deepcopy(default)
    merged = {**default, **test}
    for name in ("vars", "options", "metadata"):
        if isinstance(default.get(name), dict) and isinstance(test.get(name), dict):
            merged[name] = {**default[name], **test[name]}
    own = test.get("assert")
    if isinstance(default.get("assert"), list) and isinstance(own, list):
        merged["assert"] = [*own, *default["assert"]]
    return merged


def with_files(value: Value, document: Document) -> Value:
    """Return a variable; for `file://` and a file of text, the text of that file, relative to the configuration.

    Raises:
        InputError: the file does not exist or cannot be read.
    """
    if not isinstance(value, str) or not value.startswith(_FILE):
        return value
    path = _path(value, document)
    if path.suffix.lower() not in _TEXTS:
        return value if path.suffix.lower() in _CODE else str(path)
    return text_file(path)


def text_file(path: Path) -> str:
    """Return the text of a file.

    Raises:
        InputError: the file does not exist or cannot be read.
    """
    check_readable(path, str(path))
    file = TextFile.find(path, str(path), encoding=None, compression=None)
    return "".join(line for block in file.blocks(newline="\n") for line in block)


def _path(reference: str, document: Document) -> Path:
    return document.path.parent / reference.removeprefix(_FILE)


def _is_code(reference: str) -> bool:
    name = reference.partition(_FILE)[2] or reference
    return "://" in name or Path(name.partition(":")[0]).suffix.lower() in _CODE


def _of_files(reference: str, document: Document) -> Iterator[Document]:
    """Yield the documents of the file, the folder or the pattern that tests are in."""
    path = _path(reference, document)
    if any(mark in path.name for mark in "*?["):
        paths = sorted(path.parent.glob(path.name))
    elif path.is_dir():
        paths = sorted(each for each in path.iterdir() if each.suffix.lower() in (".yaml", ".yml", ".json", ".csv"))
    else:
        paths = [path]
    if not paths:
        raise InputError(f"{document.where}: {reference}: no file fits, next to the configuration")
    for each in paths:
        yield from documents_of(str(each), ReadOptions())
