"""The journal: what was written is there, whatever ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from batchrun.errors import OutputError, ServerFault
from batchrun.journal import Counts, Journal, open_journal
from batchrun.journal.write_ahead_log import LARGE_LOG_BYTES, LOG_BYTES, REST_PAGES
from batchrun.records import OUTPUT_COLUMNS, Attempt, Failed, Outcome
from batchrun.token_usage import Usage
from tests.support.rows import NOON, attempt, completed, failed, none_strange, outcome_cells, prompt

BATCH = {"settings": {}, "input_fingerprint": "f", "rows": 1}


def reopened(path: Path) -> Journal:
    return Journal(path, read_only=True)


# -- stored records ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [
        completed(),
        completed(status="incomplete", reason="max_completion_tokens", cost_usd=0.25),
        completed(response="", thread_id=None, run_id=None, model=None, usage=Usage()),
        completed(response="naïve 🦉 \n\t\r\x00 end", usage=Usage(2**40, 0, 2**40, raw={"deep": [{"é": None}]})),
        completed(completed_at=NOON + timedelta(milliseconds=123)),
        failed(),
        failed(status="expired", response="half", usage=Usage(1, 2, 3, 4, 5, {}), model="m", cost_usd=0.0),
    ],
)
def test_outcomes_come_back_as_they_were(journal: Journal, path: Path, outcome: Outcome) -> None:
    """Every field of an outcome survives the file, raw usage included."""
    journal.finish(outcome, "fp")
    with reopened(path) as again:
        assert again.outcome("0") == (outcome, "fp")
        assert again.cells("0", "fp") == outcome_cells(outcome)


def test_cells_without_outcome(journal: Journal) -> None:
    """A new row is pending; a row that was sent is in flight and shows its known ids."""
    assert journal.cells("0", "fp") == dict.fromkeys(OUTPUT_COLUMNS) | {"status": "pending"}
    asked = prompt(1)
    journal.begin_attempt(asked, attempt(), NOON)
    assert journal.cells("1", asked.fingerprint)["status"] == "in_flight"
    journal.set_ids("1", 1, "t", "r")
    cells = journal.cells("1", asked.fingerprint)
    assert (cells["status"], cells["thread_id"], cells["run_id"], cells["attempts"]) == ("in_flight", "t", "r", 1)


def test_an_answer_is_joined_to_its_own_question_only(journal: Journal) -> None:
    """An outcome or an attempt for another prompt than the row's current one is not shown."""
    asked = prompt(0, "old")
    journal.begin_attempt(asked, attempt(thread_id="t", run_id="r"), NOON)
    journal.finish(completed(), asked.fingerprint)
    assert journal.cells("0", prompt(0, "new").fingerprint) == dict.fromkeys(OUTPUT_COLUMNS) | {"status": "pending"}


def test_lone_surrogates(journal: Journal) -> None:
    """Half an emoji, which JSON can carry and UTF-8 cannot, costs a question mark and not the row."""
    journal.finish(completed(response="a\ud83d b"), "fp")
    journal.finish(failed(1, error="\ud83d"), "fp")
    assert journal.cells("0", "fp")["response"] == "a? b"
    assert journal.cells("1", "fp")["error"] == "?"


def test_superseded_outcomes_are_kept(path: Path) -> None:
    """An outcome that another replaces stays in the file: it was paid for."""
    with Journal(path) as journal:
        journal.finish(completed(response="first"), "a")
    with Journal(path) as journal:
        journal.finish(completed(response="second"), "b")
        assert journal.cells("0", "b")["response"] == "second"
        assert journal.counts().completed == 1
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        assert db.execute("SELECT response, fingerprint FROM superseded").fetchall() == [("first", "a")]
    db.close()


def test_attempts_are_returned_in_order(journal: Journal) -> None:
    """Every attempt is kept with its key, its ids and its fault."""
    asked = prompt()
    journal.begin_attempt(asked, attempt(1, 1, "k1"), NOON)
    journal.record_fault("0", 1, ServerFault("broke", error_type="http_500", run_ended=True))
    journal.begin_attempt(asked, attempt(2, 2, "k2"), NOON)
    journal.set_ids("0", 2, "t", "r")
    told = [(a["number"], a["idempotency_key"], a["run_id"], a["fault_type"]) for a in journal.attempts("0")]
    assert told == [(1, "k1", None, "http_500"), (2, "k2", "r", None)]


def test_counts(journal: Journal) -> None:
    """Totals add up what is known: statuses, tokens, costs, rows in flight."""
    assert journal.counts() == Counts()
    journal.finish(completed(0, cost_usd=0.5), "f")
    journal.finish(completed(1, status="incomplete"), "f")
    journal.finish(failed(2), "f")
    journal.finish(failed(3, status="expired"), "f")
    journal.begin_attempt(prompt(4), attempt(), NOON)
    assert journal.counts() == Counts(1, 1, 2, 1, 6, 2, 0.5, 1)
    assert journal.failures() == {"server_error": 2}


@pytest.mark.parametrize(
    ("run_id", "run_ended", "in_flight"), [(None, False, 0), ("r", False, 1), ("r", True, 0), (None, True, 0)]
)
def test_in_flight_means_that_a_run_may_be_active(
    journal: Journal, run_id: str | None, run_ended: bool, in_flight: int
) -> None:
    """A row whose last attempt left no run is pending, not in flight."""
    asked = prompt()
    journal.begin_attempt(asked, attempt(1, thread_id="t", run_id="r0"), NOON)
    journal.record_fault("0", 1, ServerFault("x", error_type="x"))
    journal.begin_attempt(asked, attempt(2, thread_id="t", run_id=run_id), NOON)
    journal.record_fault("0", 2, ServerFault("x", error_type="x", run_ended=run_ended))
    assert journal.counts().in_flight == in_flight
    assert journal.cells("0", asked.fingerprint)["status"] == ("in_flight" if in_flight else "pending")


# -- history --------------------------------------------------------------------------------------------------


def test_history_of_a_finished_row(path: Path) -> None:
    """A finished row has its status and its prompt, and no open attempt."""
    asked = prompt()
    with Journal(path) as journal:
        journal.begin_attempt(asked, attempt(), NOON)
        journal.finish(completed(), asked.fingerprint)
    with Journal(path) as journal:
        history = journal.history("0")
        assert history is not None
        assert (history.answered, history.fingerprint, history.has_open_attempt) == (True, asked.fingerprint, False)
        assert journal.history("1") is None


def test_history_of_a_row_in_flight(path: Path) -> None:
    """A row that was in flight has its last attempt, with everything needed to follow its run."""
    last = Attempt(2, 1, "k", "t", "r")
    with Journal(path) as journal:
        journal.begin_attempt(prompt(), attempt(), NOON)
        journal.begin_attempt(prompt(), last, NOON)
    with Journal(path) as journal:
        history = journal.history("0")
        assert history is not None
        assert (history.status, history.last, history.has_open_attempt) == (None, last, True)


def test_history_of_a_row_that_was_asked_again(path: Path) -> None:
    """An attempt after the outcome is returned too, with its own prompt: its run is followed, not paid for again."""
    old, new = prompt(0, "old"), prompt(0, "new")
    with Journal(path) as journal:
        journal.begin_attempt(old, attempt(1), NOON)
        journal.finish(completed(attempts=1), old.fingerprint)
    with Journal(path) as journal:
        journal.begin_attempt(new, attempt(2, 2, thread_id="t2", run_id="r2"), NOON)
        history = journal.history("0")
        assert history is not None
        assert (history.fingerprint, history.last_fingerprint) == (old.fingerprint, new.fingerprint)
        assert history.has_open_attempt
        assert history.last is not None
        assert history.last.run_id == "r2"


def test_history_of_a_row_that_failed_before_any_try(path: Path) -> None:
    """A row that could not be sent has an outcome and no attempt."""
    with Journal(path) as journal:
        journal.finish(failed(attempts=0, error_type="empty_prompt"), "")
    with Journal(path) as journal:
        history = journal.history("0")
        assert history is not None
        assert (history.status, history.last, history.has_open_attempt) == ("failed", None, False)


# -- crashes --------------------------------------------------------------------------------------------------

CHILD = """
    import sys
    from pathlib import Path
    from batchrun.errors import OutputError, ServerFault
    from batchrun.journal import Journal
    from tests.support.rows import NOON, attempt, completed, prompt
    journal = Journal(Path(sys.argv[1]))
"""
ROOT = Path(__file__).parents[3]


def start_child(path: Path, code: str) -> subprocess.Popen[str]:
    source = textwrap.dedent(CHILD) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", source, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=ROOT
    )


def kill_after_line(child: subprocess.Popen[str]) -> None:
    """Wait until the child says that it has written, and kill it as a power button would."""
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "written\n"
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    child.stdin.close()


def test_every_write_survives_sigkill(path: Path) -> None:
    """A process killed right after its writes has lost none of them: manifest, attempt, ids, fault, outcome."""
    code = """
        journal.write_manifest({"batch_id": "b"})
        journal.begin_attempt(prompt(0), attempt(), NOON)
        journal.set_ids("0", 1, "t", "r")
        journal.begin_attempt(prompt(1), attempt(), NOON)
        journal.record_fault("1", 1, ServerFault("broke", error_type="http_500", run_ended=True))
        journal.finish(completed(2), "fp")
        print("written", flush=True)
        sys.stdin.read()
    """
    kill_after_line(start_child(path, code))
    with Journal(path) as journal:
        assert journal.read_manifest() == {"batch_id": "b"}
        assert [(a["thread_id"], a["run_id"]) for a in journal.attempts("0")] == [("t", "r")]
        assert [(a["fault_type"], a["run_ended"]) for a in journal.attempts("1")] == [("http_500", 1)]
        assert journal.outcome("2") == (completed(2), "fp")


def test_sigkill_between_a_write_and_its_commit(path: Path) -> None:
    """A process killed within a turn of its loop has lost what it wrote in that turn, all of it, and nothing else."""
    code = """
        import anyio

        async def run():
            with journal.grouped(lambda: 0.0):
                journal.begin_attempt(prompt(0), attempt(), NOON)
                await journal.committed()
                journal.set_ids("0", 1, "t", "r")
                journal.begin_attempt(prompt(1), attempt(), NOON)
                journal.finish(completed(2), "fp")
                print("written", flush=True)
                sys.stdin.read()

        anyio.run(run)
    """
    kill_after_line(start_child(path, code))
    with Journal(path) as journal:
        assert [(a["number"], a["run_id"]) for a in journal.attempts("0")] == [(1, None)]
        assert (journal.history("1"), journal.history("2")) == (None, None)


def test_sigkill_in_the_middle_of_replacing_an_outcome(path: Path) -> None:
    """An outcome that was being replaced is there once, the old or the new one, and never both or none."""
    code = """
        journal.finish(completed(0, "old"), "a")
        journal._lookups = True
        print("written", flush=True)
        for number in range(10**6):
            journal.finish(completed(0, f"new {number}"), "b")
    """
    kill_after_line(start_child(path, code))
    with Journal(path) as journal:
        assert journal.counts().completed == 1


def test_a_reader_looks_on_while_another_process_writes(journal: Journal, path: Path) -> None:
    """`status` and `export` read committed rows of a running batch, and do not stop it."""
    journal.finish(completed(0), "f")
    with reopened(path) as reader:
        assert reader.counts().completed == 1
        journal.finish(completed(1), "f")
        assert reader.counts().completed == 2
        with pytest.raises(OutputError):
            reader.finish(completed(2), "f")


def test_full_disk(path: Path) -> None:
    """If the disk is full, the error is one line that states what is safe, and the journal stays readable."""
    code = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        journal.finish(completed(0), "f")
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, 256 * 1024))
        try:
            for number in range(1, 2_000):
                journal.finish(completed(number, "x" * 1_000), "f")
        except OutputError as exc:
            print(number, exc)
    """
    child = start_child(path, code)
    out, _ = child.communicate(timeout=60)
    number, _, message = out.partition(" ")
    assert str(path) in message
    assert "Traceback" not in message
    assert message.count("\n") == 1
    assert "every answer that was journalled is safe" in message
    with Journal(path) as journal:
        assert journal.counts().completed == int(number)


def test_checkpoint_moves_the_log_into_the_file(journal: Journal, path: Path) -> None:
    """After a checkpoint the rows are in the main file itself."""
    journal.finish(completed(response="needle in the file"), "f")
    assert b"needle in the file" not in path.read_bytes()
    journal.checkpoint()
    assert b"needle in the file" in path.read_bytes()


def test_the_log_is_bounded(journal: Journal) -> None:
    """Rows written while checkpoints run beside them, 12 MB during each at most, never let the log grow beyond 64 MiB,
    however the two threads take turns; and the writer's own thread moves few pages of it at a time, so that the event
    loop is not held."""
    text = "x" * 60_000
    rows = most = 0
    rests = []

    def write(count: int) -> None:
        nonlocal rows, most
        for _ in range(count):
            journal.finish(completed(rows, text), "f")
            rows += 1
            most = max(most, journal.log_bytes)

    while rows < 2_500:
        while journal.log_bytes <= LOG_BYTES:
            write(1)
        beside = threading.Thread(target=journal.checkpoint)
        beside.start()
        write(200)
        beside.join()
        before = journal.log_bytes
        rest = journal.reuse_log()
        assert rest <= REST_PAGES or before > LARGE_LOG_BYTES
        rests.append(rest)
    assert rows * len(text) > 2 * 64 * 2**20
    assert most < 64 * 2**20
    assert len(rests) > 1
    assert journal.counts().completed == rows


@pytest.mark.parametrize(
    ("log_bytes", "is_moved"),
    [
        (LOG_BYTES + REST_PAGES * 1_024, True),
        (LOG_BYTES + REST_PAGES * 8_192, False),  # more than the event loop may move: left to the next checkpoint
        (LARGE_LOG_BYTES, True),
    ],
)
def test_how_much_the_writer_moves_itself(journal: Journal, path: Path, log_bytes: int, *, is_moved: bool) -> None:
    """The rest after a checkpoint is moved by the writer if it is short, or if the log is too large to wait."""
    rows = 0

    def write(to_bytes: int) -> None:
        nonlocal rows
        while journal.log_bytes <= to_bytes:
            journal.finish(completed(rows, "x" * 60_000), "f")
            rows += 1

    write(LOG_BYTES)
    with contextlib.closing(
        sqlite3.connect(path, isolation_level=None)
    ) as reader:  # keeps the log from being used again at once
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM outcomes").fetchone()
        journal.checkpoint()
        write(log_bytes)
    rest = journal.reuse_log()
    journal.finish(completed(rows), "f")
    assert (journal.log_bytes <= LOG_BYTES // 4) == is_moved
    assert (rest > 0) == is_moved
    assert (rest <= REST_PAGES) == (log_bytes < LARGE_LOG_BYTES)
    assert journal.counts().completed == rows + 1


def test_a_log_that_is_used_again_is_small(journal: Journal) -> None:
    """After a large log has been moved, its size is that of what is written since: it is not moved again at once."""
    for number in range(400):
        journal.finish(completed(number, "x" * 60_000), "f")
    assert journal.log_bytes > LOG_BYTES
    journal.checkpoint()
    journal.reuse_log()
    journal.finish(completed(400), "f")
    assert journal.log_bytes <= LOG_BYTES // 4
    assert journal.counts().completed == 401


# -- files that are something else ---------------------------------------------------------------------------


def test_another_programs_database(path: Path) -> None:
    """A database that is not ours is refused and left as it was."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE precious (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(OutputError, match="database of another program"):
        Journal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"id,question\n1,why\n" * 100, os.urandom(4096), b"SQLite format 3\x00" + b"x" * 99]
)
def test_no_database(path: Path, content: bytes) -> None:
    """Any other file is refused in one line, and left as it was."""
    path.write_bytes(content)
    with pytest.raises(OutputError, match="not a readable journal"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_later_version(path: Path) -> None:
    """A journal of a later batchrun is not touched."""
    Journal(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version=99")
    db.close()
    for read_only in (False, True):
        with pytest.raises(OutputError, match="later version of batchrun"):
            Journal(path, read_only=read_only)


def test_nothing_there_to_read(path: Path) -> None:
    """Reading makes no file: neither a missing nor an empty one is a journal."""
    with pytest.raises(
        OutputError, match=r"no batch has written this output, since its journal .* does not exist; name"
    ):
        reopened(path)
    assert not path.exists()
    path.touch()
    with pytest.raises(OutputError, match="is empty"):
        reopened(path)


def test_a_folder_in_the_way(path: Path) -> None:
    """A folder where the journal should be is one line."""
    path.mkdir()
    with pytest.raises(OutputError, match="cannot create the journal"):
        open_journal(path, BATCH, count_strange=none_strange, clock=lambda: NOON)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="giving up root needs root")
def test_a_read_only_folder(path: Path) -> None:
    """A folder that takes no files is one line that says so."""
    path.parent.chmod(0o555)
    code = """
        import os, sys
        from pathlib import Path
        from batchrun.errors import OutputError
        from batchrun.journal import open_journal
        from tests.support.rows import none_strange, noon
        os.setuid(65534)
        try:
            open_journal(Path(sys.argv[1]), {}, count_strange=none_strange, clock=noon)
        except OutputError as exc:
            print(exc)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert out == f"{path}: cannot create the journal (Permission denied)\n"


def test_the_journal_is_its_owners_only(path: Path) -> None:
    """Answers and thread ids are readable by nobody else."""
    open_journal(path, BATCH, count_strange=none_strange, clock=lambda: NOON).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failed_outcome_of_old_times(journal: Journal) -> None:
    """A failure without type and text, which only a damaged file holds, is still an outcome."""
    journal.finish(failed(), "f")
    journal._db.write("UPDATE outcomes SET error_type = NULL, error = NULL")
    found = journal.outcome("0")
    assert found is not None
    assert isinstance(found[0], Failed)
    assert found[0].error_type == "unknown"


def test_the_output_that_was_meant(path: Path) -> None:
    """If the folder `outputs` has a batch of that name, the message names it."""
    other = path.parent / "outputs" / path.name
    other.parent.mkdir()
    other.touch()
    with pytest.raises(OutputError, match=f"did you mean {other.with_name(path.name.removesuffix('.journal'))}"):
        reopened(path)
