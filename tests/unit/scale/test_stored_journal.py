"""The journal of a batch in the store of its output: restored whole, gathered once, put in order, and of one leader."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from batchrun.errors import InputError, JournalMismatch, OutputError, OutputHeld
from batchrun.journal import Journal, schema
from batchrun.journal.shard_rows import gather, seed
from batchrun.scale import journal_copies, journal_puts
from batchrun.scale.journal_copies import NO_COPY, JournalCopies, JournalCopy, content_of, write_copy
from batchrun.scale.journal_puts import JournalPuts
from batchrun.scale.stored_journal import STORED, StoredJournal, take_up, write_copies
from batchrun.tables.target import OutputPlace
from tests.support.folder_store import Folder, store_in
from tests.support.journal_histories import CUT, MEMORY, REMOTE, ROWS, STEPS, History, content, new_copy, new_journal
from tests.support.object_store import ObjectStore, bucket_of, serving
from tests.support.rows import NOON, attempt, completed, prompt

pytestmark = pytest.mark.anyio


def ignore(_line: str) -> None:
    """Show nothing."""


def without_stored(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the content of a journal, without the entry that says what is in the store."""
    found = content(path)
    found["manifest"] = [entry for entry in found["manifest"] if entry[0] != STORED]
    return found


@given(before=STEPS, rounds=st.lists(st.tuples(CUT, REMOTE), min_size=1, max_size=2), lost=st.integers(0, 30))
def test_a_restored_journal_is_the_one_that_was_lost(before: Any, rounds: Any, lost: int) -> None:
    """Any history, of which copies of shards are gathered and put: what is restored from the store is equal in every
    table; and so is an earlier state of the journal's file, which takes only what it does not have."""
    with TemporaryDirectory(dir=MEMORY) as folder, ExitStack() as stack:
        place = Path(folder)
        main = stack.enter_context(new_journal(place / "main"))
        main.look_back()
        history = History()
        for row, kind in before:
            history.record(row, kind, [main])
        store, generation = store_in(place / "store"), "000001-00000000"
        main.write_manifest({STORED: {"first": 1, "generation": generation, "number": 0}})
        store.put_whole(generation, main.path, place)
        number = 0

        def put(copy: Path, *, whole: bool) -> None:
            """Take a copy as a leader does: first into its journal, then into the store."""
            nonlocal number
            gather(main, copy, whole=whole)
            number += 1
            main.write_manifest({STORED: {"first": 1, "generation": generation, "number": number}})
            write_copies([zlib.compress(copy.read_bytes())], place / "object")
            store.put(generation, number, place / "object")
            if number == lost:
                assert main.settle()
                shutil.copyfile(main.path, place / "earlier")

        for cut, work in rounds:
            history.send()
            paths = [place / f"shard{each}" for each in range(2)]
            for each, path in enumerate(paths):
                seed(main, path, [str(row) for row in range(ROWS) if cut[row] == each])
            since = [[0, 0, 0] for _ in paths]
            with ExitStack() as workers:
                shards = [workers.enter_context(Journal(path)) for path in paths]
                for shard in shards:
                    shard.look_back()
                for row, kind in work:
                    if kind in ("copy", "unconfirmed", "lost"):
                        last = new_copy(paths[cut[row]], place / "copy", since[cut[row]])
                        if kind != "lost":
                            put(place / "copy", whole=False)
                            history.send()
                        if kind == "copy":
                            since[cut[row]] = last
                    else:
                        history.record(row, kind, [shards[cut[row]]])
            for each, path in enumerate(paths):
                new_copy(path, place / "copy", since[each])
                put(place / "copy", whole=True)

        lines: list[str] = []
        take_up(store, place / "new" / "answers.csv.journal", lines.append)
        with Journal(place / "new" / "answers.csv.journal") as restored:
            assert without_stored(restored.path) == without_stored(main.path)
            assert (restored.spent_usd(), restored.counts()) == (main.spent_usd(), main.counts())
            assert restored.models.totals() == main.models.totals()
            assert restored.read_manifest()[STORED] == main.read_manifest()[STORED]
            assert not [name for name in restored.read_manifest() if name.startswith("gathered/")]
        assert len(lines) == 1
        for _ in range(2 if 1 <= lost <= number else 0):
            take_up(store, place / "earlier", lines.append)
            assert content(place / "earlier") == content(main.path)


# -- who may continue -----------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> StoredJournal:
    return store_in(tmp_path / "store")


def ask(journal: Journal, row: int) -> None:
    """Ask a row and finish it."""
    asked = prompt(row)
    journal.begin_attempt(asked, attempt(), NOON)
    journal.finish(completed(row, f"answer {row}", cost_usd=0.5), asked.fingerprint, with_ids=True)


def puts_of(
    store: StoredJournal, journal: Journal, lines: list[str] | None = None, *, fresh: bool = False
) -> JournalPuts:
    folder = journal.path.parent / "shards"
    folder.mkdir(exist_ok=True)
    return JournalPuts(store, journal, folder, ignore if lines is None else lines.append, fresh=fresh)


def machine(tmp_path: Path, name: str) -> Path:
    """Return the place of the journal on a machine."""
    (tmp_path / name).mkdir()
    return tmp_path / name / "answers.csv.journal"


async def test_a_run_deletes_the_generation_that_it_continues(tmp_path: Path, store: StoredJournal) -> None:
    """Only after its own is there; those of a batch that --fresh has ended stay."""
    path = machine(tmp_path, "a")
    with new_journal(path) as journal:
        await puts_of(store, journal).begin()
        first = store.generations()
        ask(journal, 0)
        await puts_of(store, journal).begin()
        second = store.generations()
        assert (len(first), len(second)) == (1, 1)
        assert first < second
    path.unlink()
    with new_journal(path) as journal:
        await puts_of(store, journal, fresh=True).begin()
        third = store.generations()
        assert len(third) == 2
        assert third[0] == second[0]
        await puts_of(store, journal).begin()
        assert store.generations()[0] == second[0]
        assert len(store.generations()) == 2


async def test_a_store_that_refuses_the_first_copy_loses_nothing(tmp_path: Path, store: StoredJournal) -> None:
    """The generation before stays, and the journal continues with it."""
    path = machine(tmp_path, "a")
    with new_journal(path) as journal:
        await puts_of(store, journal).begin()
        earlier = store.newest()
        broken = StoredJournal(Refusing(), store.path, store.shown)
        with pytest.raises(OutputError, match="cannot be written"):
            await puts_of(broken, journal).begin()
    assert store.newest() == earlier
    take_up(store, path, ignore)


class Refusing:
    """A file system that lists what is there and takes nothing.

    It stands for a store that this machine does not have: one that opens a file and then fails.
    """

    type_name = "s3"

    def get_file_info(self, selector: Any) -> Any:
        return fs.LocalFileSystem().get_file_info(selector)

    def open_output_stream(self, path: str) -> Any:
        raise OSError("refused")


async def test_a_leader_that_died_before_it_knew_that_its_copy_was_put(tmp_path: Path, store: StoredJournal) -> None:
    """The copy is that of this journal, and the batch continues."""
    path = machine(tmp_path, "a")
    with new_journal(path) as journal:
        await puts_of(store, journal).begin()
        stored = journal.read_manifest()[STORED]
        store.put_whole("000002-00000000", path, tmp_path)
        journal.write_manifest({STORED: {**stored, "next": "000002-00000000"}})
    lines: list[str] = []
    take_up(store, path, lines.append)
    assert lines == []
    # Also if that was the first run of all.
    with Journal(path) as journal:
        journal.write_manifest({STORED: {"first": 1, "next": "000002-00000000"}})
    take_up(store, path, lines.append)
    assert lines == []


async def test_a_batch_that_was_continued_elsewhere_is_refused(tmp_path: Path, store: StoredJournal) -> None:
    """A journal of an earlier generation, or of none, gets one line that says what to do; moved away, it is restored."""
    here, there = machine(tmp_path, "a"), machine(tmp_path, "b")
    with new_journal(here) as journal:
        ask(journal, 0)
        await puts_of(store, journal).begin()
    lines: list[str] = []
    take_up(store, there, lines.append)
    assert lines == ["continues with the journal at s3://bucket/answers.csv.journal: 1 row has ended"]
    with Journal(there) as journal:
        await puts_of(store, journal).begin()
        ask(journal, 1)
        await puts_of(store, journal).begin()
    with pytest.raises(JournalMismatch) as refused:
        take_up(store, here, lines.append)
    assert str(refused.value) == (
        f"{here}: this batch was continued elsewhere, with the journal at s3://bucket/answers.csv.journal, or --fresh "
        "ended before its first row; move answers.csv.journal away, and the same command continues with that one; or "
        "start over with --fresh"
    )
    here.unlink()
    take_up(store, here, lines.append)
    assert lines[1:] == ["continues with the journal at s3://bucket/answers.csv.journal: 2 rows have ended"]
    with new_journal(machine(tmp_path, "c")), pytest.raises(JournalMismatch):
        take_up(store, tmp_path / "c" / "answers.csv.journal", lines.append)


async def test_the_younger_of_two_leaders_continues(
    tmp_path: Path, store: StoredJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one is told once, in words; the younger one never."""
    monkeypatch.setattr(journal_puts, "LOOK_S", 0.001)
    here, there = machine(tmp_path, "a"), machine(tmp_path, "b")
    with new_journal(here) as journal:
        older = puts_of(store, journal)
        await older.begin()
        assert await older.begun_elsewhere() is None
        generation = store.generations()[0]
        take_up(store, there, ignore)
        with Journal(there) as other:
            younger = puts_of(store, other)
            await younger.begin()
            reasons: list[str] = []
            with anyio.fail_after(60):
                await older.watch(reasons.append)  # returns when it has called
            assert await younger.begun_elsewhere() is None
            # What the older one still puts makes it no journal again.
            write_copies([b"late"], tmp_path / "late")
            store.put(generation, 7, tmp_path / "late")
            assert store.newest() == (store.generations()[-1], [0])
    assert reasons == [
        "s3://bucket/answers.csv.journal: this batch was begun elsewhere since; it continues there, and stops here"
    ]


async def test_of_leaders_that_begin_at_the_same_time_the_first_continues(tmp_path: Path, store: StoredJournal) -> None:
    """To connect to Ray takes long after the look into the store: what another leader has put meanwhile is neither
    replaced nor deleted, neither by a new batch nor by one that continues."""
    here, there = machine(tmp_path, "a"), machine(tmp_path, "b")
    take_up(store, here, ignore)
    take_up(store, there, ignore)
    with new_journal(here) as first, new_journal(there) as second:
        await puts_of(store, first).begin()
        with pytest.raises(OutputHeld, match="this batch was begun elsewhere meanwhile; it continues there"):
            await puts_of(store, second).begin()
        ask(first, 0)
        await puts_of(store, first).begin()
    restored = [machine(tmp_path, name) for name in ("c", "d")]
    for path in restored:
        take_up(store, path, ignore)
    with Journal(restored[0]) as first, Journal(restored[1]) as second:
        await puts_of(store, first).begin()
        newest = store.newest()
        with pytest.raises(OutputHeld):
            await puts_of(store, second).begin()
        assert store.newest() == newest


async def test_objects_that_are_missing_or_damaged_are_named(tmp_path: Path, store: StoredJournal) -> None:
    """One line, and no journal is left that would look like a whole one."""
    with new_journal(machine(tmp_path, "a")) as journal:
        await puts_of(store, journal).begin()
    generation = store.generations()[0]
    new = machine(tmp_path, "b")
    write_copies([b"this is no copy"], tmp_path / "damaged")
    store.put(generation, 1, tmp_path / "damaged")
    with pytest.raises(OutputError, match=r"^s3://bucket/answers.csv.journal/000001-.*: cannot be used \(.*incorrect"):
        take_up(store, new, ignore)
    (tmp_path / "damaged").write_bytes(b"\0" * 7 + b"\x7fshort")
    store.put(generation, 1, tmp_path / "damaged")
    with pytest.raises(OutputError, match=r"cannot be used \(an object is cut off\)"):
        take_up(store, new, ignore)
    store.put(generation, 3, tmp_path / "damaged")
    with pytest.raises(OutputError, match="objects of this journal are missing; restore them, or start over"):
        take_up(store, new, ignore)
    (Path(store.path) / generation / "00000000").write_bytes(b"\x1f\x8bno")
    for number in (1, 3):
        (Path(store.path) / generation / f"{number:08}").unlink()
    with pytest.raises(OutputError, match="cannot be restored"):
        take_up(store, new, ignore)
    assert not new.exists()


async def test_a_journal_is_not_restored_beside_the_rest_of_a_lost_one(tmp_path: Path, store: StoredJournal) -> None:
    """Not beside its log, which SQLite would add to any file of this name, and not beside shards, whose answers are
    older than those in the store. One line says what to move away."""
    here = machine(tmp_path, "a")
    log, copy = here.with_name("answers.csv.journal-wal"), tmp_path / "log"
    with new_journal(here) as journal:
        ask(journal, 0)
        shutil.copyfile(log, copy)
        await puts_of(store, journal).begin()
    here.unlink()
    shutil.copyfile(copy, log)
    with pytest.raises(OutputError) as refused:
        take_up(store, here, ignore)
    assert str(refused.value) == (
        f"{here}: is gone, but not answers.csv.journal-wal; put the journal back, or move the rest away too, and the "
        "same command continues with the journal at s3://bucket/answers.csv.journal"
    )
    log.unlink()
    folder = here.with_name("answers.csv.journal.d")
    folder.mkdir()
    new_journal(folder / "00001.journal").close()
    with pytest.raises(OutputError, match=r"is gone, but not answers.csv.journal.d; put the journal back, or move"):
        take_up(store, here, ignore)
    assert not here.exists()
    with (
        new_journal(here),
        pytest.raises(JournalMismatch, match=r"move answers\.csv\.journal and answers\.csv\.journal\.d away"),
    ):
        take_up(store, here, ignore)
    shutil.rmtree(folder)
    here.unlink()
    take_up(store, here, ignore)
    with Journal(here) as restored:
        assert restored.counts().completed == 1


async def test_a_store_that_has_lost_the_whole_copy_begins_no_new_batch(tmp_path: Path, store: StoredJournal) -> None:
    """Such as by a rule of the bucket that deletes the oldest objects: what is left shows that a batch had begun. Neither
    is an earlier batch, which --fresh has ended, taken for this one."""
    with new_journal(machine(tmp_path, "a")) as journal:
        await puts_of(store, journal).begin()
    with new_journal(machine(tmp_path, "b")) as journal:
        await puts_of(store, journal, fresh=True).begin()
        generation = store.generations()[-1]
    write_copies([b"copy"], tmp_path / "copy")
    store.put(generation, 1, tmp_path / "copy")
    (Path(store.path) / generation / "00000000").unlink()
    with pytest.raises(OutputError, match=f"{generation}: objects of this journal are missing"):
        take_up(store, machine(tmp_path, "c"), ignore)


class Meanwhile(Folder):
    """A store in which another leader begins between two requests.

    Mutable state: `begin`, called once, before the first listing of a folder for which `is_due`; then None.
    """

    def __init__(self, is_due: Callable[[Path], bool], begin: Callable[[], None]) -> None:
        super().__init__()
        self.is_due = is_due
        self.begin: Callable[[], None] | None = begin

    def get_file_info(self, selector: Any) -> Any:
        if self.begin is not None and self.is_due(Path(selector.base_dir)):
            begin, self.begin = self.begin, None
            begin()
        return super().get_file_info(selector)


async def test_a_leader_that_begins_during_the_look_is_seen(tmp_path: Path, store: StoredJournal) -> None:
    """The generation that was listed is deleted by then; that is not a store without a journal."""
    with new_journal(machine(tmp_path, "a")) as journal:
        await puts_of(store, journal).begin()
        first = store.generations()[0]

        def begin() -> None:
            store.put_whole("000002-00000000", journal.path, tmp_path)
            store.delete(first)

        looked = StoredJournal(Meanwhile(lambda folder: folder.name == first, begin), store.path, store.shown)
        assert looked.newest() == ("000002-00000000", [0])


async def test_of_leaders_that_begin_in_the_same_second_one_continues(tmp_path: Path, store: StoredJournal) -> None:
    """Neither has seen the other one when it put its copy: the one whose generation is older sends no row."""
    with new_journal(machine(tmp_path, "a")) as journal:

        def begin() -> None:
            store.put_whole("000001-ffffffff", journal.path, tmp_path)

        meanwhile = Meanwhile(lambda folder: any(folder.glob("000001-*/00000000")), begin)
        older = puts_of(StoredJournal(meanwhile, store.path, store.shown), journal)
        with pytest.raises(OutputHeld, match="this batch was begun elsewhere since"):
            await older.begin()
    assert store.newest() == ("000001-ffffffff", [0])


class RefusingOnce(Folder):
    """A store that refuses the first object of the second generation once.

    Mutable state: `has_refused`.
    """

    type_name = "s3"
    has_refused = False

    def open_output_stream(self, path: str) -> Any:
        if "/000002-" in path and not self.has_refused:
            self.has_refused = True
            raise OSError("busy")
        return super().open_output_stream(path)


async def test_a_long_batch_puts_its_whole_journal_again(
    tmp_path: Path, store: StoredJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many objects, so that no more of them are restored; also of a batch that started over, and again if the
    store refuses. Nothing is lost or counted twice."""
    store = StoredJournal(RefusingOnce(), store.path, store.shown)
    lines: list[str] = []
    monkeypatch.setattr(journal_puts, "GROUP_S", 0.0)
    monkeypatch.setattr(journal_puts, "RETRY_S", 0.0)
    monkeypatch.setattr(journal_puts, "WHOLE_AFTER", 2)
    shard, copy, path = machine(tmp_path, "worker"), tmp_path / "copy", machine(tmp_path, "new")
    with new_journal(machine(tmp_path, "leader")) as main:
        puts = puts_of(store, main, lines, fresh=True)
        await puts.begin()
        seed(main, shard, map(str, range(ROWS)))
        since = [0, 0, 0]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puts.keep)
            with Journal(shard) as journal:
                for row in range(ROWS):
                    ask(journal, row)
                    packed, since = content_of(shard, since)
                    write_copy(packed, copy)
                    gather(main, copy)
                    await puts.put(packed)
            tasks.cancel_scope.cancel()
        newest = store.newest()
        assert newest is not None
        assert ([newest[0]], newest[0][:6], newest[1]) == (store.generations(), "000003", [0, 1])
        assert await puts.begun_elsewhere() is None
        assert len(lines) == 2
        assert lines[1] == "s3://bucket/answers.csv.journal: can be written again"
        take_up(store, path, ignore)
        assert main.counts().completed == ROWS
        assert without_stored(path) == without_stored(main.path)


async def test_copies_of_an_earlier_version_are_restored(tmp_path: Path, store: StoredJournal) -> None:
    """A batch that an earlier version of batchrun began continues on a machine that has this one."""
    with new_journal(machine(tmp_path, "a")) as journal:
        await puts_of(store, journal).begin()
        generation = store.generations()[0]
        shard, copy = tmp_path / "shard", tmp_path / "copy"
        seed(journal, shard, ["0"])
        with Journal(shard) as other:
            ask(other, 0)
        new_copy(shard, copy, [0, 0, 0])
    with closing(sqlite3.connect(copy)) as db:
        db.executescript(
            "DROP INDEX superseded_by_row; ALTER TABLE attempts DROP COLUMN reserved_usd; "
            f"PRAGMA user_version={len(schema.STEPS) - 1}"
        )
    write_copies([zlib.compress(copy.read_bytes())], tmp_path / "object")
    store.put(generation, 1, tmp_path / "object")
    path = machine(tmp_path, "b")
    take_up(store, path, ignore)
    with Journal(path) as restored:
        assert restored.counts().completed == 1


async def test_a_journal_of_another_program_is_named(tmp_path: Path, store: StoredJournal) -> None:
    """A journal without the entry of the store, or a file that is no journal, is one line."""
    new = machine(tmp_path, "b")
    with new_journal(machine(tmp_path, "a")) as journal:
        store.put_whole("000001-00000000", journal.path, tmp_path)
    with pytest.raises(OutputError, match="000001-00000000: is not a journal that a batch on Ray has put there"):
        take_up(store, new, ignore)
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"a text" * 1_000))
    store.put("000002-00000000", 0, tmp_path / "text.gz")
    with pytest.raises(OutputError, match="is not a readable journal"):
        take_up(store, new, ignore)
    assert not new.exists()


# -- a real store ---------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ObjectStore]:
    """A server of S3."""
    with serving() as server:
        yield server


@pytest.fixture
def url(server: ObjectStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URL of a new bucket."""
    return f"s3://{bucket_of(server, monkeypatch, request.node.nodeid).base_path.rstrip('/')}"


@pytest.mark.parametrize(
    ("output", "place"), [("a.csv?region=us-east-1", "a.csv.journal"), ("deep/a/", "deep/a/_journal")]
)
async def test_the_journal_is_beside_the_output(tmp_path: Path, url: str, output: str, place: str) -> None:
    """In a real store: put, listed, restored, and replaced by the next generation. It is no part of the output."""
    target = OutputPlace(f"{url}/{output}")
    target.check(is_own=False)
    store = StoredJournal.of(target)
    assert store.shown == f"{url}/{place}"
    assert store.newest() is None
    with new_journal(machine(tmp_path, "a")) as journal:
        ask(journal, 0)
        await puts_of(store, journal).begin()
        await puts_of(store, journal).begin()
        path = machine(tmp_path, "b")
        take_up(store, path, ignore)
        assert without_stored(path) == without_stored(journal.path)
    table = tmp_path / "answers"
    if target.is_folder:
        table.mkdir()
        for name in ("part-00000.csv", "_SUCCESS"):
            (table / name).write_text("x")
    else:
        table.write_text("x")
    target.check(is_own=False)
    target.put(table)
    target.check(is_own=True)
    assert store.newest() == (store.generations()[-1], [0])


async def test_rows_are_held_while_the_store_refuses(
    tmp_path: Path, server: ObjectStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that takes nothing keeps rows from being sent once its last copy is old; one line says what is wrong, and
    another one when it is over. Nothing is lost, and each copy is put once."""
    monkeypatch.setattr(journal_copies, "COPY_S", 0.01)
    monkeypatch.setattr(journal_copies, "MAX_COPY_AGE_S", 0.05)
    monkeypatch.setattr(journal_puts, "GROUP_S", 0.001)
    monkeypatch.setattr(journal_puts, "RETRY_S", 0.01)
    store = StoredJournal.of(OutputPlace(f"{url}/answers.csv"))
    shard, place = machine(tmp_path, "worker"), tmp_path / "copy"
    lines: list[str] = []
    held: list[str] = []
    with new_journal(machine(tmp_path, "leader")) as main:
        puts = puts_of(store, main, lines)
        await puts.begin()
        seed(main, shard, map(str, range(ROWS)))
        async with anyio.create_task_group() as tasks:

            async def confirm(copy: JournalCopy) -> None:
                await puts.put(copy.content)
                copies.confirm(copy.number)

            async def take(copy: JournalCopy) -> None:
                write_copy(copy.content, place)
                gather(main, place, whole=copy.is_last)
                tasks.start_soon(confirm, copy)

            copies = JournalCopies(1, shard, take, lambda _wait_s, reason: held.append(reason))
            tasks.start_soon(puts.keep)
            tasks.start_soon(copies.keep)
            server.refused = "POST .*uploads"
            with Journal(shard) as journal, anyio.fail_after(60):
                ask(journal, 0)
                while not held or not lines:
                    await anyio.sleep(0.001)
                newest = store.newest()
                assert newest is not None
                assert newest[1] == [0]
                server.refused = None
                while len(lines) < 2:
                    await anyio.sleep(0.001)
                ask(journal, 1)
            await copies.finish()
            tasks.cancel_scope.cancel()
        assert set(held) == {NO_COPY}
        assert lines == [
            f"{url}/answers.csv.journal: cannot be written (access is denied; check the credentials in the environment "
            "and their permissions); no rows are sent once the last copy there is 60 s old",
            f"{url}/answers.csv.journal: can be written again",
        ]
        path = machine(tmp_path, "new")
        take_up(store, path, ignore)
        assert main.counts().completed == 2
        assert without_stored(path) == without_stored(main.path)


async def test_a_store_in_which_nothing_may_be_deleted(tmp_path: Path, server: ObjectStore, url: str) -> None:
    """Such as one that keeps everything: a line says so, the batch runs, and the youngest generation is the journal."""
    store = StoredJournal.of(OutputPlace(f"{url}/answers.csv"))
    server.refused = r"(POST .*\?delete|DELETE )"
    lines: list[str] = []
    with new_journal(machine(tmp_path, "a")) as journal:
        await puts_of(store, journal, lines).begin()
        assert lines == []
        ask(journal, 0)
        await puts_of(store, journal, lines).begin()
    assert lines == [
        f"{url}/answers.csv.journal: cannot be written (access is denied; check the credentials in the environment and "
        "their permissions); earlier copies of the journal stay there, and only the last one is used"
    ]
    assert [name[:6] for name in store.generations()] == ["000001", "000002"]
    path = machine(tmp_path, "b")
    take_up(store, path, ignore)
    with Journal(path) as restored:
        assert restored.counts().completed == 1


def test_a_store_that_may_not_be_read_is_named(tmp_path: Path, server: ObjectStore, url: str) -> None:
    """A missing permission is one line, not a new batch."""
    server.refused = "GET .*list-type"
    with pytest.raises((InputError, OutputError), match=r"^s3://.*/a.csv.journal: cannot be .* \(access is denied"):
        take_up(StoredJournal.of(OutputPlace(f"{url}/a.csv")), tmp_path / "a.csv.journal", ignore)
