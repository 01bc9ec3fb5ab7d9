"""Journals of earlier versions: a new version sends nothing for rows that ended, or refuses with an explanation."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from batchrun.journal import Journal
from batchrun.journal.schema import STEPS
from batchrun.prompts.rendering_version import FIRST_RENDERING, rendering_digest
from tests.support.command import Result, batchrun

DATA = Path(__file__).parents[1] / "data" / "journals"
BATCHES = sorted(str(path.relative_to(DATA)).removesuffix(".journal.gz") for path in DATA.rglob("*.journal.gz"))
ASKED_AGAIN = '[default]\nreply = "asked again"\n'


def laid_out(folder: Path) -> None:
    """Return a copy of the data, whose service has another answer to everything."""
    shutil.copytree(DATA, folder, dirs_exist_ok=True)
    (folder / "script.toml").write_text(ASKED_AGAIN)
    for packed in folder.rglob("*.journal.gz"):
        journal = packed.with_suffix("")
        journal.write_bytes(gzip.decompress(packed.read_bytes()))
        with contextlib.closing(sqlite3.connect(journal)) as db, db:  # the table has moved
            found = db.execute("SELECT value FROM manifest WHERE name = 'input'").fetchone()[0]
            here = json.dumps(str(folder / Path(json.loads(found)).name))
            db.execute("UPDATE manifest SET value = ? WHERE name = 'input'", (here,))


def run(folder: Path, batch: str, *options: str) -> Result:
    api, name = batch.split("/")
    job = f"{name.split('.')[0]}.toml"
    return batchrun(folder, "run", job, "--api", api, "-o", batch, "--max-attempts", "1", "--keep-going", *options)


def tries(folder: Path, batch: str) -> int:
    with contextlib.closing(sqlite3.connect(folder / f"{batch}.journal")) as db:
        return int(db.execute("SELECT count(*) FROM attempts").fetchone()[0])


@pytest.mark.parametrize("batch", BATCHES)
def test_a_journal_of_an_earlier_version_is_continued(tmp_path: Path, batch: str) -> None:
    """Nothing is sent for rows that ended, and the output is the same; or the journal is refused with an explanation."""
    laid_out(tmp_path)
    (tmp_path / batch).unlink()
    before = tries(tmp_path, batch)
    result = run(tmp_path, batch)
    assert tries(tmp_path, batch) == before
    if batch.endswith("lists.jsonl") and result.returncode == 2:
        # Lists and objects rendered whole may look otherwise in a prompt now: then it is another prompt.
        assert "another version of batchrun" in result.stderr
        assert "--accept-changes" in result.stderr
        return
    assert result.returncode in (0, 3), result.stderr
    assert (tmp_path / batch).read_bytes() == (DATA / batch).read_bytes()


@pytest.mark.parametrize("batch", BATCHES)
def test_a_journal_of_an_earlier_version_can_be_looked_at(tmp_path: Path, batch: str) -> None:
    """`status`, `show`, `export`, `costs`, `report` and a dry run read it without changing it."""
    laid_out(tmp_path)
    journal = tmp_path / f"{batch}.journal"
    before = journal.read_bytes()
    copy = "copy" + Path(batch).suffix
    row = "a1" if "keyed" in batch else "a1|model=large" if "matrix" in batch else "0"
    for command in (["status", batch], ["show", batch, row], ["export", batch, "-o", copy], ["costs", batch]):
        result = batchrun(tmp_path, *command)
        assert result.returncode == 0, (command, result.stderr)
    assert (tmp_path / copy).read_bytes() == (DATA / batch).read_bytes()
    assert batchrun(tmp_path, "report", batch, "-o", "page.html").returncode == 0
    dry = run(tmp_path, batch, "--dry-run")
    assert " 0 to send" in dry.stdout or "another version of batchrun" in dry.stdout
    assert journal.read_bytes() == before


def test_the_data_is_of_an_earlier_version(tmp_path: Path) -> None:
    """The journals in the test data are as an earlier version wrote them, and the next run brings them up to date."""
    laid_out(tmp_path)
    for batch in BATCHES:
        with contextlib.closing(sqlite3.connect(tmp_path / f"{batch}.journal")) as db:
            assert db.execute("PRAGMA user_version").fetchone()[0] < len(STEPS)


def spoiled(folder: Path, batch: str, rendering: str) -> None:
    """Change a journal: other code made its prompts, and one answer belongs to another fingerprint."""
    with Journal(folder / f"{batch}.journal") as journal:
        journal.write_manifest({"rendering": rendering})
    with contextlib.closing(sqlite3.connect(folder / f"{batch}.journal")) as db, db:
        db.execute("UPDATE outcomes SET fingerprint = 'other' WHERE row_key = '0' OR row_key = 'a1'")


@pytest.mark.parametrize("batch", ["chat/plain.csv", "chat/keyed.csv"])
def test_prompts_made_otherwise_are_refused(tmp_path: Path, batch: str) -> None:
    """If a version makes other prompts of the same rows, it reports so and sends nothing; --accept-changes sends them."""
    laid_out(tmp_path)
    spoiled(tmp_path, batch, "of another version")
    before = tries(tmp_path, batch)
    assert "1 row with an answer would be asked" in run(tmp_path, batch, "--dry-run").stdout
    refused = run(tmp_path, batch)
    assert refused.returncode == 2
    assert "1 row with an answer would be asked and paid for again" in refused.stderr
    assert tries(tmp_path, batch) == before
    assert run(tmp_path, batch, "--accept-changes").returncode == 3
    assert tries(tmp_path, batch) == before + 1
    assert run(tmp_path, batch).returncode == 3, "accepted once is accepted"
    assert tries(tmp_path, batch) == before + 1


def test_rows_known_by_other_keys_are_refused(tmp_path: Path) -> None:
    """If a version finds none of the rows that another has answered, it reports so and sends nothing."""
    laid_out(tmp_path)
    batch = "chat/plain.csv"
    spoiled(tmp_path, batch, "of another version")
    with contextlib.closing(sqlite3.connect(tmp_path / f"{batch}.journal")) as db, db:
        db.execute("UPDATE outcomes SET row_key = 'row ' || row_key")
        db.execute("UPDATE attempts SET row_key = 'row ' || row_key")
    refused = run(tmp_path, batch)
    assert refused.returncode == 2
    assert "4 rows with an answer would be asked and paid for again" in refused.stderr


def test_an_edited_row_needs_no_word_where_prompts_are_made_alike(tmp_path: Path) -> None:
    """With --key an edited row runs again, and no version is blamed for it."""
    laid_out(tmp_path)
    spoiled(tmp_path, "chat/keyed.csv", rendering_digest())
    assert run(tmp_path, "chat/keyed.csv").returncode == 3
    assert "asked again" in (tmp_path / "chat/keyed.csv").read_text()


def test_the_code_that_makes_prompts_has_a_digest() -> None:
    """The digest is the same in each process; when it changes, journals of earlier versions are checked row by row."""
    assert rendering_digest() == rendering_digest.__wrapped__()
    assert len(FIRST_RENDERING) == len(rendering_digest())
