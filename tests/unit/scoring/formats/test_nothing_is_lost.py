"""Every leaf of every document that an importer reads is in a row or in a note."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.errors import InputError
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.convert import convert
from batchrun.scoring.formats.documents import Document
from batchrun.scoring.formats.fields import Fields
from batchrun.scoring.formats.importers.importers import IMPORTERS
from batchrun.scoring.formats.notes import Notes
from tests.unit.scoring.formats.examples import EXAMPLES
from tests.unit.scoring.formats.test_openai_jobs import EVAL, run_of
from tests.unit.scoring.formats.test_promptfoo_jobs import CONFIG

Path_ = tuple[str | int, ...]


def read(format_name: str, content: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the rows of a document as text, and the paths and remarks in its notes."""
    notes = Notes()
    importer = IMPORTERS[format_name](notes)
    fields = Fields.of(content)
    rows = [*importer.rows(fields, Document("file, line 1", Path("file.json"), content)), *importer.last_rows()]
    for path, _ in fields.left():
        notes.add(path)
    return json.dumps(rows, ensure_ascii=False), [*notes.rows, *notes.remarks, *map(str, notes.values.values())]


def leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every value that is not an object or a list."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if members is None:
        yield path
    else:
        for key, each in members:
            yield from leaves(each, (*path, key))


def changed(content: dict[str, Any], path: Path_, value: Any) -> dict[str, Any]:
    """Return a copy with another value at a path."""
    made = copy.deepcopy(content)
    place: Any = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return made


def is_noted(path: Path_, notes: list[str]) -> bool:
    """Return whether a note names the path, or something that contains it."""
    written = ""
    for key in path:
        written += "[]" if isinstance(key, int) else f".{key}" if written else key
    shown = {written[: len(written) - cut] for cut in range(len(written))}
    keys = [key for key in path if isinstance(key, str)]
    return any(
        note in shown or note.startswith(f"{written}.") or note.endswith(f".{keys[-1]}") or note == keys[-1]
        for note in notes
    )


@pytest.mark.parametrize(("format_name", "content"), EXAMPLES)
def test_every_leaf_is_in_a_row_or_in_a_note(format_name: str, content: dict[str, Any]) -> None:
    """A leaf with a value of its own, whatever it was, is found in the rows or in a note, or the file is refused."""
    lost = []
    for number, path in enumerate(leaves(content)):
        for value in (f"value-{number}-", 1_000_003 + number):
            try:
                rows, notes = read(format_name, changed(content, path, value))
            except InputError:
                continue
            # A latency in milliseconds becomes a duration in seconds.
            written = str(value) if path[-1] != "latencyMs" or isinstance(value, str) else str(value / 1000)
            if written not in rows and not any(written in note for note in notes) and not is_noted(path, notes):
                lost.append((path, value))
    assert lost == []


def objects(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every object."""
    if isinstance(value, dict):
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in members:
        yield from objects(each, (*path, key))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_field_that_no_importer_knows_is_in_a_row_or_in_a_note(data: st.DataObject) -> None:
    """A field with any name in any object of a document is found in the rows or in a note, or the file is refused."""
    format_name, content = data.draw(st.sampled_from(EXAMPLES))
    path = data.draw(st.sampled_from(list(objects(content))))
    key = data.draw(st.sampled_from(["response", "id", "score_x", "target", "new"]) | st.text(min_size=1, max_size=5))
    value = data.draw(st.sampled_from(["kept-7d1f", ["kept-7d1f"], {"deep": "kept-7d1f"}]))
    try:
        rows, notes = read(format_name, changed(content, (*path, key), value))
    except InputError:
        return
    assert "kept-7d1f" in rows or any("kept-7d1f" in note for note in notes) or is_noted((*path, key), notes)


ODD: Final[tuple[Any, ...]] = (None, [], {}, "{{ x", True, -1.5, [None], [{}], {"a": None})


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_odd_values_are_converted_or_refused_in_one_line(data: st.DataObject) -> None:
    """Whatever value is anywhere in a document, there are rows, or an error of one line."""
    format_name, content = data.draw(st.sampled_from(EXAMPLES))
    path = data.draw(st.sampled_from([*leaves(content), *filter(None, objects(content))]))
    problem = ""
    try:
        read(format_name, changed(content, path, data.draw(st.sampled_from(ODD))))
    except InputError as exc:
        problem = str(exc)
    assert "\n" not in problem


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_odd_values_become_a_job_or_are_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A document that becomes a job gives files that can be read, or an error of one line."""
    folder = tmp_path_factory.mktemp("odd")
    format_name, content = data.draw(st.sampled_from(JOBS))
    path = data.draw(st.sampled_from([*leaves(content), *filter(None, objects(content))]))
    (folder / "in.json").write_text(json.dumps(changed(content, path, data.draw(st.sampled_from(ODD)))))
    problem = ""
    try:
        convert([str(folder / "in.json")], folder / "job.toml", Conversion(format_name))
    except InputError as exc:
        problem = str(exc)
    assert "\n" not in problem
    for file in folder.glob("*.toml"):
        tomllib.loads(file.read_text())


JOBS: Final = [("openai-evals", EVAL), ("openai-evals", run_of("A")), ("promptfoo", CONFIG)]
"""Documents that become jobs."""
