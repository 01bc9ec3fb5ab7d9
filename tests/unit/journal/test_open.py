"""Opening a batch's journal: new, resumed, started over, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import JournalMismatch, OutputError
from batchrun.journal import Journal, open_journal
from batchrun.journal.open import changes, check_not_lost
from batchrun.records import OUTPUT_COLUMNS
from tests.support.rows import NOON, completed, none_strange, noon

MANIFEST: dict[str, Any] = {
    "input": "/data/q.csv",
    "input_fingerprint": "f1",
    "rows": 10,
    "settings": {"prompt": "{{ question }}", "model": "m", "temperature": None},
}


def manifest(**changed: Any) -> dict[str, Any]:
    settings = {**MANIFEST["settings"], **changed.pop("settings", {})}
    return {**MANIFEST, "settings": settings, **changed}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "q.csv.journal"


def reopen(path: Path, wanted: dict[str, Any], **options: Any) -> Journal:
    return open_journal(path, wanted, count_strange=none_strange, clock=noon, **options)


@pytest.fixture
def begun(path: Path) -> Path:
    """A journal with one answer."""
    with reopen(path, MANIFEST) as journal:
        journal.finish(completed(), "fp")
    return path


def test_a_new_journal(path: Path) -> None:
    """A new batch gets an id of its own and keeps what describes it; the folder is made."""
    with reopen(path, MANIFEST) as journal:
        stored = journal.read_manifest()
    assert stored["batch_id"].startswith("batch_")
    assert stored["created_at"] == NOON.isoformat()
    assert {name: stored[name] for name in MANIFEST} == MANIFEST


def test_the_same_job_resumes(begun: Path) -> None:
    """The same command finds the same batch, with its id and its answers."""
    with Journal(begun) as journal:
        batch_id = journal.read_manifest()["batch_id"]
    with reopen(begun, MANIFEST) as journal:
        assert journal.read_manifest()["batch_id"] == batch_id
        assert journal.counts().completed == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": {"model": "m2"}}, "model was 'm' and is 'm2'"),
        ({"settings": {"temperature": 0.5}}, "temperature was None and is 0.5"),
        ({"settings": {"max_completion_tokens": 9}}, "max-completion-tokens was None and is 9"),
        ({"settings": {"prompt": "{{ q }}"}}, "prompt was '{{ question }}' and is '{{ q }}'"),
        ({"input_fingerprint": "f2"}, "the input changed"),
        ({"input_fingerprint": "f2", "rows": 11}, "the input changed (10 rows, now 11)"),
    ],
)
def test_changes_are_named(begun: Path, changed: dict[str, Any], words: str) -> None:
    """Another prompt, setting or input is refused in one line that says what it was, what it is and the ways out."""
    with pytest.raises(JournalMismatch) as caught:
        reopen(begun, manifest(**changed))
    message = str(caught.value)
    assert words in message
    assert "--accept-changes" in message
    assert "--fresh" in message
    assert "\n" not in message


MATRIX = {"model": ["m", "n"], "temperature": [0.0]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"epochs": 2}),
        ({"epochs": 3}, {"epochs": 2}),
        ({"epochs": 3}, {}),
        ({"matrix": MATRIX}, {"matrix": {**MATRIX, "model": ["x", "m", "n"]}}),
        ({"matrix": MATRIX}, {"matrix": {**MATRIX, "model": ["n"]}, "epochs": 5}),
        ({"matrix": MATRIX}, {"matrix": {"temperature": [0.0], "model": ["m", "n"]}}),
    ],
)
def test_additions_and_omissions_are_not_a_change(path: Path, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Epochs and values of an axis leave the rows that were answered what they are; the new ones are the new truth."""
    with reopen(path, manifest(settings=before)) as journal:
        journal.finish(completed(), "fp")
    with reopen(path, manifest(settings=after, rows=20)) as journal:
        assert journal.read_manifest()["settings"].get("matrix") == after.get("matrix")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, MATRIX),
        (MATRIX, None),
        (MATRIX, {"model": ["m", "n"]}),
        (MATRIX, {**MATRIX, "top_p": [1.0]}),
    ],
    ids=["new", "gone", "axis less", "axis more"],
)
def test_other_axes_are_a_change(path: Path, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    """The axes are part of the rows' keys: with others every row would be asked again."""
    with reopen(path, manifest(settings={"matrix": before} if before else {})) as journal:
        journal.finish(completed(), "fp")
    with pytest.raises(JournalMismatch, match="matrix was"):
        reopen(path, manifest(settings={"matrix": after} if after else {}))


def test_a_refusal_changes_nothing(begun: Path) -> None:
    """After a refusal the old command still resumes."""
    with pytest.raises(JournalMismatch):
        reopen(begun, manifest(settings={"model": "m2"}))
    reopen(begun, MANIFEST).close()


def test_several_changes_are_all_named() -> None:
    """Every change is named, so that the user mends them at once."""
    found = changes(MANIFEST, manifest(settings={"model": "x", "temperature": 1}, input_fingerprint="f2"))
    assert len(found) == 3


def test_long_values_are_cut() -> None:
    """A changed prompt of many pages makes no message of many pages."""
    found = changes(MANIFEST, manifest(settings={"prompt": "p" * 10_000}))
    assert len(found[0]) < 150


def test_the_path_of_the_input_is_not_a_change(begun: Path) -> None:
    """The same table from another folder is the same batch."""
    reopen(begun, manifest(input="/elsewhere/q.csv")).close()


def test_accepted_changes_are_the_new_truth(begun: Path) -> None:
    """--accept-changes continues with the existing answers, and the next run needs no flag."""
    changed = manifest(settings={"model": "m2"})
    with reopen(begun, changed, accept_changes=True) as journal:
        assert journal.counts().completed == 1
    reopen(begun, changed).close()
    with pytest.raises(JournalMismatch):
        reopen(begun, MANIFEST)


def test_fresh_keeps_the_old_journal(begun: Path) -> None:
    """--fresh begins another batch and keeps the old answers under a dated name, as often as it is said."""
    ids = set()
    for _ in range(3):
        with reopen(begun, MANIFEST, fresh=True) as journal:
            assert journal.counts().completed == 0
            ids.add(journal.read_manifest()["batch_id"])
            journal.finish(completed(), "fp")
    assert len(ids) == 3
    kept = sorted(other.name for other in begun.parent.iterdir() if other.name.startswith(f"{begun.name}.2"))
    stamp = "20261123T120000Z"
    assert kept == [f"{begun.name}.{stamp}", f"{begun.name}.{stamp}-2", f"{begun.name}.{stamp}-3"]
    for name in kept:
        with Journal(begun.with_name(name)) as old:
            assert old.counts().completed == 1


def test_fresh_takes_the_log_along(begun: Path) -> None:
    """What a killed process left in the write-ahead log goes with its journal."""
    with Journal(begun) as left_open:
        left_open.finish(completed(1), "fp")
        reopen(begun, MANIFEST, fresh=True).close()
        with Journal(begun.with_name(f"{begun.name}.20261123T120000Z")) as old:
            assert old.counts().completed == 2


def test_fresh_without_a_journal(path: Path) -> None:
    """--fresh where there is nothing begins as usual."""
    reopen(path, MANIFEST, fresh=True).close()
    assert [other.name for other in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("log", [None, b"", b"log"])
def test_a_journal_that_is_lost(path: Path, tmp_path: Path, exists: bool, log: bytes | None) -> None:
    """Without its journal, an output with answers or a log is not answered again; other files are no obstacle."""
    output = tmp_path / "out.csv"
    path.parent.mkdir()
    if exists:
        path.touch()
    if log is not None:
        path.with_name(path.name + "-wal").write_bytes(log)
    state = "is empty" if exists else "is gone"
    if log:
        with pytest.raises(OutputError, match=f"{state}, although the log next to it shows"):
            check_not_lost(path, output)
    else:
        check_not_lost(path, output)
        output.write_text(",".join(["q", *OUTPUT_COLUMNS]) + "\n1" + "," * len(OUTPUT_COLUMNS) + "\n", encoding="utf-8")
        with pytest.raises(OutputError, match=f"{state}, although out.csv next to it holds answers"):
            check_not_lost(path, output)


@pytest.mark.parametrize("embedded", [True, False])
def test_the_embedded_server_and_a_real_service_are_never_mixed(path: Path, embedded: bool) -> None:
    """Neither continues the answers of the other, even with --accept-changes; each continues its own."""

    def open_with(value: bool) -> Journal:
        wanted = manifest(settings={"embedded": value})
        return open_journal(path, wanted, accept_changes=True, count_strange=none_strange, clock=noon)

    with open_with(embedded) as journal:
        journal.finish(completed(), "f")
    open_with(embedded).close()
    with pytest.raises(JournalMismatch, match="never mixed in one output"):
        open_with(not embedded)
