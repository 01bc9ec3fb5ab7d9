"""--cache: a prompt that a batch has had answered is not paid for again, in any batch with the same file."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.base import Conversation, Finish, TextDelta
from tests.support import command
from tests.support.recording import Recording
from tests.support.rows import read_csv, write_csv

PROTOCOLS = ("chat", "responses", "assistants")


@dataclass
class Bench:
    """A service that numbers its answers, a folder, and a cache in it.

    Mutable state: `asked`, the prompts that the service got since the last look.
    """

    folder: Path
    url: str
    responder: Recording

    @property
    def cache(self) -> Path:
        return self.folder / "answers.cache"

    def asked(self) -> list[str]:
        texts = [conversation.messages[-1].text for conversation in self.responder.asked]
        self.responder.asked.clear()
        return texts

    def table(self, *questions: str, name: str = "q.csv") -> str:
        write_csv(self.folder / name, [{"question": question} for question in questions])
        return name

    def run(self, output: str, *options: str, table: str = "q.csv", code: int = 0) -> command.Result:
        arguments = ("run", table, "-o", output, "--base-url", self.url, "--model", "m", "--cache", "answers.cache")
        done = command.batchrun(self.folder, *arguments, *options)
        assert done.returncode == code, done.stderr
        return done

    def json(self, output: str, *options: str, code: int = 0) -> dict[str, Any]:
        return self.run(output, "--json", *options, code=code).facts()

    def rows(self, output: str) -> list[dict[str, str]]:
        return read_csv(self.folder / output)

    def answers(self, output: str) -> list[str]:
        return [row["response"] for row in self.rows(output)]

    def write(self, sql: str, file: str = "answers.cache") -> None:
        with closing(sqlite3.connect(self.folder / file)) as db, db:
            db.execute(sql)


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, Recording]]:
    numbers = itertools.count(1)

    def reply(conversation: Conversation) -> str:
        text = conversation.messages[-1].text
        return json.dumps({"n": next(numbers)}) if "JSON" in text else f"{text} {next(numbers)}"

    responder = Recording(reply=reply)
    with EmbeddedServer(ServerSettings(shutdown_grace_s=0.05), responder) as server:
        yield server.url, responder


@pytest.fixture
def bench(tmp_path: Path, service: tuple[str, Recording]) -> Bench:
    bench = Bench(tmp_path, *service)
    bench.table("one", "two")
    bench.asked()
    return bench


@pytest.mark.parametrize("api", PROTOCOLS)
def test_a_prompt_is_paid_for_once(bench: Bench, api: str) -> None:
    """A second batch with another table takes the answers: cost 0, the batch that paid in `cached_from`, and counts."""
    bench.json("a.csv", "--api", api)
    assert sorted(bench.asked()) == ["one", "two"]
    first = bench.rows("a.csv")
    assert [row["cached_from"] for row in first] == ["", ""]
    bench.table("two", "one", "three")
    assert "1 to send · 2 in the cache" in bench.run("b.csv", "--api", api, "--dry-run").stdout
    facts = bench.json("b.csv", "--api", api)
    assert bench.asked() == ["three"]
    assert (facts["completed"], facts["from_cache"], facts["this_run"]["asked"]) == (3, 2, 1)
    two, one, _ = bench.rows("b.csv")
    assert [row["cached_from"].split(" ", 1)[1] for row in (one, two)] == ["a.csv", "a.csv"]
    same = ("response", "status", "model", "thread_id", "run_id", "completed_at")
    assert [[row[name] for name in same] for row in (one, two)] == [[row[name] for name in same] for row in first]
    free = ("cost_usd", "total_tokens", "attempts", "duration_s")
    assert [one[name] for name in free] == ["0.0", "0", "0", "0.0"]
    shown = command.batchrun(bench.folder, "show", "b.csv", "0").stdout
    assert "answer from the cache, paid for by batch_" in shown
    status = command.batchrun(bench.folder, "status", "b.csv")
    assert "2 from the cache" in status.stdout
    assert "$0.0000, unknown for 1 row · model" in status.stdout
    again = bench.json("b.csv", "--api", api)
    assert (again["finished_before"], again["from_cache"], bench.asked()) == (3, 0, [])


def test_a_file_is_its_owners_alone(bench: Bench) -> None:
    """The file is created with the rights of a journal, and holds neither prompts nor keys."""
    bench.table("a confidential prompt")
    arguments = ("run", "q.csv", "-o", "a.csv", "--base-url", bench.url, "--model", "m", "--cache", "new/c.cache")
    secret = "sk-abcdefghijklmnop"
    done = command.batchrun(
        bench.folder, *arguments, "--prompt", "Answer JSON: {{ question }}", "--header", f"X-Api-Key={secret}",
        OPENAI_API_KEY=secret,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file = bench.folder / "new/c.cache"
    assert file.stat().st_mode & 0o777 == 0o600
    content = b"".join(path.read_bytes() for path in file.parent.iterdir())
    assert (b"confidential" in content, secret.encode() in content) == (False, False)


def test_epochs_and_rows_that_ask_the_same(bench: Bench) -> None:
    """An epoch takes only answers of its number, and the n-th row that asks the same only the n-th answer."""
    bench.table("one", "one", "one")
    bench.json("a.csv")
    assert len(bench.asked()) == len(set(bench.answers("a.csv"))) == 3
    bench.json("b.csv", "--epochs", "2")
    assert len(bench.asked()) == 3
    assert [row["response"] for row in bench.rows("b.csv") if row["epoch"] == "1"] == bench.answers("a.csv")
    bench.json("c.csv", "--epochs", "2")
    assert (bench.asked(), bench.answers("c.csv")) == ([], bench.answers("b.csv"))
    bench.json("d.csv", "--dedupe")
    assert set(bench.answers("d.csv")) == {bench.answers("a.csv")[0]}


def test_a_part_of_the_rows_first(bench: Bench) -> None:
    """If a first run asks only some of the rows that ask the same, no two of them share an answer afterwards."""
    bench.table(*["one"] * 6)
    bench.json("before.csv", "--limit", "3")
    bench.asked()
    bench.run("a.csv", "--pilot", "2", "--json")
    bench.json("a.csv", "--sample", "4")
    bench.json("a.csv")
    assert len(set(bench.answers("a.csv"))) == 6
    assert len(bench.asked()) == 3


def test_costs_of_a_model_that_are_partly_unknown(bench: Bench) -> None:
    """Rows from the cache cost nothing; that does not make the unknown cost of a model's other rows nothing."""
    bench.table("one", "two")
    bench.json("a.csv", "--model", "n")
    bench.table("one", "two", "three")
    lines = bench.run("b.csv", "--model", "n").stderr.splitlines()
    costs = [line.rpartition(" · ")[2] for line in lines if line.startswith(("  m: 3 rows", "  n: 3 rows"))]
    assert costs == ["$0.0000, unknown for 1 row"] * 2


def test_turns_and_fields(bench: Bench) -> None:
    """The answers of all turns and the fields of a schema come from the cache too."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    (bench.folder / "s.json").write_text(json.dumps(schema))
    turns = ("--prompt", "{{ question }}", "--prompt", "JSON after {{ responses[0] }}", "--schema", "s.json")
    bench.json("a.csv", *turns)
    assert len(bench.asked()) == 4
    bench.json("b.csv", *turns)
    names = ("response_1", "response_2", "response", "n")
    found = [[[row[name] for name in names] for row in bench.rows(output)] for output in ("a.csv", "b.csv")]
    assert found[0] == found[1]
    assert bench.asked() == []
    shown = json.loads(command.batchrun(bench.folder, "show", "b.csv", "0", "--json").stdout)
    assert [each["asked"] for each in shown["exchanges"]] == ["one", f"JSON after {found[0][0][0]}"]


def test_an_answer_that_no_longer_has_the_form(bench: Bench) -> None:
    """A cached answer that breaks a rule of the model, which its schema does not show, is not taken."""
    model = "import pydantic\n\nclass Number(pydantic.BaseModel):\n    n: int\n"
    rule = "\n    @pydantic.field_validator('n')\n    def check(cls, n):\n        assert n < 0\n        return n\n"
    (bench.folder / "one.py").write_text(model)
    (bench.folder / "two.py").write_text(model + rule)
    options = ("--prompt", "JSON for {{ question }}", "--schema-retries", "0", "--schema")
    bench.json("a.csv", *options, "one.py:Number")
    bench.json("b.csv", *options, "one.py:Number")
    assert len(bench.asked()) == 2
    assert "0 to send" not in bench.run("c.csv", *options, "two.py:Number", "--dry-run").stdout
    found = bench.json("c.csv", *options, "two.py:Number", code=3)
    assert (len(bench.asked()), found["failures"]) == (2, {"schema_mismatch": 2})


def test_an_old_answer_is_asked_again(bench: Bench) -> None:
    """--max-age holds for cached answers by the time at which the service gave them; the new answer replaces the old."""
    bench.json("a.csv")
    bench.asked()
    bench.write("UPDATE answers SET completed_at = '2020-01-01T00:00:00.000+00:00' WHERE response LIKE 'one%'")
    bench.json("b.csv", "--max-age", "1d")
    assert bench.asked() == ["one"]
    bench.json("c.csv", "--max-age", "1d")
    assert (bench.asked(), bench.answers("c.csv")) == ([], bench.answers("b.csv"))


def test_a_failed_row_takes_an_answer_that_came_later(bench: Bench) -> None:
    """--retry-failed looks failed rows up, and the budget counts only what is paid for."""
    options = ("--param", "n_ctx=1", "--max-attempts", "1")
    failing = bench.responder.reply
    bench.responder.reply = lambda _: ()
    try:
        bench.json("a.csv", *options, code=3)
    finally:
        bench.responder.reply = failing
    bench.json("b.csv", *options)
    bench.asked()
    job = bench.folder / "job.toml"
    job.write_text(
        'input = "q.csv"\noutput = "a.csv"\nprices.m = { input = 1e6, output = 1e6 }\ncache = "answers.cache"\n'
    )
    done = command.batchrun(
        bench.folder, "run", "job.toml", "--base-url", bench.url, "--model", "m", *options, "--retry-failed",
        "--budget", "0.01", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (bench.asked(), done.facts()["from_cache"]) == ([], 2)
    assert bench.answers("a.csv") == bench.answers("b.csv")


def test_a_batch_that_ended_fills_a_cache(bench: Bench) -> None:
    """A batch that is run again with a cache stores its answers, unless another service may have given them."""
    plain = ("run", "q.csv", "--base-url", bench.url, "--model", "m")
    for output in ("a.csv", "b.csv"):
        assert command.batchrun(bench.folder, *plain, "-o", output).returncode == 0
    bench.asked()
    bench.json("b.csv", "--base-url", bench.url.replace("127.0.0.1", "localhost"))
    bench.json("a.csv")
    assert bench.asked() == []
    bench.json("c.csv")
    assert (bench.asked(), bench.answers("c.csv")) == ([], bench.answers("a.csv"))
    bench.json("d.csv", "--base-url", bench.url.replace("127.0.0.1", "localhost"))
    assert len(bench.asked()) == 2


def test_the_fallback_model(bench: Bench) -> None:
    """An answer of the fallback model is found by batches with this fallback model, and by no other one."""
    usual = bench.responder.reply

    def reply(conversation: Conversation) -> Any:
        refuses = conversation.model == "m" and conversation.messages[-1].text == "one"
        return [TextDelta("I cannot.", refusal=True), Finish("stop")] if refuses else usual(conversation)

    bench.responder.reply = reply
    try:
        bench.json("a.csv", "--fallback-model", "n")
        assert sorted(bench.asked()) == ["one", "one", "two"]
        bench.json("b.csv", code=3)
        assert bench.asked() == ["one"]
        bench.json("c.csv", "--fallback-model", "o")
        assert bench.asked() == ["one", "one"]
        assert "0 to send · 2 in the cache" in bench.run("d.csv", "--fallback-model", "n", "--dry-run").stdout
        bench.json("d.csv", "--fallback-model", "n")
        assert bench.asked() == []
        same = ("response", "model", "run_id")
        assert [[row[name] for name in same] for row in bench.rows("d.csv")] == [
            [row[name] for name in same] for row in bench.rows("a.csv")
        ]
        (bench.folder / "answers.cache").unlink()
        bench.json("a.csv", "--fallback-model", "o")  # stores what the batch had answered, under the model asked then
        bench.json("e.csv", "--fallback-model", "n")
        assert bench.asked() == []
    finally:
        bench.responder.reply = usual


def test_what_answers_carry(bench: Bench) -> None:
    """A cached answer carries all that the batch keeps; an answer that was recorded without it is not stored."""
    assert (
        command.batchrun(
            bench.folder, "run", "q.csv", "--base-url", bench.url, "--model", "m", "-o", "a.csv"
        ).returncode
        == 0
    )
    bench.json("a.csv", "--keep", "raw")
    bench.asked()
    bench.json("b.csv", "--keep", "raw")
    assert len(bench.asked()) == 2
    bench.json("c.csv", "--keep", "raw")
    assert bench.asked() == []
    assert [json.loads(row["raw"])["choices"][0]["message"]["content"] for row in bench.rows("c.csv")] == bench.answers(
        "b.csv"
    )


def test_a_prompt_that_was_changed_and_changed_back(bench: Bench) -> None:
    """A row takes its own earlier answer."""
    bench.json("a.csv")
    before = bench.answers("a.csv")
    bench.json("a.csv", "--accept-changes", "--prompt", "Say {{ question }}")
    assert len(bench.asked()) == 4
    bench.json("a.csv", "--accept-changes")
    assert (bench.asked(), bench.answers("a.csv")) == ([], before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--script", "s.toml"], "the embedded server answers"),
        (["--tools", "tools.py"], "the model may call functions"),
        (["--code-interpreter", "--api", "responses"], "with --code-interpreter, answers have files"),
    ],
)
def test_batches_without_a_cache(bench: Bench, options: list[str], words: str) -> None:
    """One line says why the cache is not used, and no file is created."""
    (bench.folder / "tools.py").write_text('def f() -> str:\n    """Return a."""\n    return "a"\n')
    (bench.folder / "s.toml").write_text('[default]\nreply = "a"\n')
    service = () if "--script" in options else ("--base-url", bench.url, "--model", "m")
    done = command.batchrun(bench.folder, "run", "q.csv", "--cache", "answers.cache", *service, *options, "--dry-run")
    assert f"--cache is not used: {words}" in done.stdout
    assert not bench.cache.exists()


def test_rows_with_a_thread_are_passed_over(bench: Bench) -> None:
    """A row that continues a thread is neither looked up nor stored, and the summary says so."""
    bench.json("a.csv", "--api", "responses")
    [one, two] = bench.rows("a.csv")
    write_csv(bench.folder / "q.csv", [{"question": "more", "t": one["run_id"]}, {"question": "one", "t": ""}])
    options = ("--api", "responses", "--thread-column", "t", "--prompt", "{{ question }}")
    facts = bench.json("b.csv", *options)
    assert (facts["from_cache"], facts["not_cached"]) == (1, {"existing thread": 1})
    done = bench.run("c.csv", *options)
    assert "--cache was not used for 1 row: 1 × existing thread" in done.stderr
    assert two["cached_from"] == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("q.csv", "is not a cache, or is damaged"),
        ("other.db", "is a database of another kind"),
        ("newer.cache", "was written by a later version"),
        ("folder", "is a folder"),
        ("/dev/null", "is a device"),
        ("a.csv", "is a file of this batch itself"),
        ("q.csv/c.cache", "cannot be"),
    ],
)
def test_a_file_that_is_not_a_cache(bench: Bench, name: str, words: str) -> None:
    """Before the first row, one line and exit code 2; the file is left as it is."""
    bench.write("CREATE TABLE t (a)", "other.db")
    bench.write("PRAGMA application_id=1650553955", "newer.cache")
    bench.write("PRAGMA user_version=9", "newer.cache")
    (bench.folder / "folder").mkdir()
    before = {path: path.read_bytes() for path in bench.folder.iterdir() if path.is_file()}
    for more in ([], ["--dry-run"]):
        done = bench.run("a.csv", "--cache", name, *more, code=2)
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in bench.folder.iterdir() if path.is_file()} == before
    assert bench.asked() == []


@pytest.mark.parametrize(
    "sql", ["ALTER TABLE answers RENAME COLUMN response TO r", "UPDATE answers SET completed_at = 'then'"]
)
def test_a_cache_that_fails_costs_no_answer(bench: Bench, sql: str) -> None:
    """If the cache cannot be read while the batch runs, the rows are asked, and a line says why."""
    bench.json("a.csv")
    bench.asked()
    bench.write(sql)
    done = bench.run("b.csv")
    assert sorted(bench.asked()) == ["one", "two"]
    assert "--cache: answers.cache: cannot be read" in done.stderr


def test_a_cache_that_another_program_locks(bench: Bench) -> None:
    """If a row cannot be stored, the batch ends well, and the same command stores its answers later."""
    bench.json("before.csv", "--limit", "1")
    with closing(sqlite3.connect(bench.cache)) as db:
        db.execute("BEGIN IMMEDIATE")
        facts = bench.json("a.csv")
        db.execute("ROLLBACK")
    assert facts["cache_problem"] is not None
    assert (facts["completed"], facts["from_cache"], facts["not_stored"]) == (2, 1, 1)
    bench.asked()
    bench.json("a.csv")
    bench.json("b.csv")
    assert bench.asked() == []


def test_from_python(bench: Bench) -> None:
    """`cache=` works on tables in memory: the extras of an outcome name the batch, and --max-age needs no output."""
    options: batchrun.JobOptions = {"model": "m", "base_url": bench.url, "cache": bench.cache, "max_age": "1d"}
    first = batchrun.run(["one", "two"], **options)
    bench.asked()
    ended: list[Any] = []
    second = batchrun.run(["two", "one"], on_outcome=ended.append, **options)
    assert bench.asked() == []
    assert "$0.0000, no row would be sent" in batchrun.run(["two", "one"], dry_run=True, **options).summary()
    estimate = batchrun.run(["two", "one", "three"], dry_run=True, **options)
    assert (estimate.to_send, estimate.from_cache) == (1, 2)
    assert second["response"].tolist() == first["response"].tolist()[::-1]
    assert [outcome.extras["cached_from"] for outcome in ended] == second["cached_from"].tolist()
    assert second["cost_usd"].tolist() == [0.0, 0.0]
