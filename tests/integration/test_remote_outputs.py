"""Outputs that are put into object storage or to another place, in a real S3 server on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow import fs

import batchrun
from batchrun.errors import OutputError
from batchrun.journal import Journal
from batchrun.scale.stored_journal import STORED, StoredJournal
from batchrun.tables.place import Place
from batchrun.tables.target import OutputPlace, put_object
from tests.integration.reliability.processes import batchrun as process
from tests.support.command import batchrun as command
from tests.support.object_store import ObjectStore, bucket_of, serving

ROWS = "question\n1 + 1\n2 + 1\n"


@pytest.fixture
def server() -> Iterator[ObjectStore]:
    """A server of S3."""
    with serving() as server:
        yield server


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A bucket of this test as a file system."""
    return bucket_of(server, monkeypatch, request.node.nodeid)


def url_of(store: Any) -> str:
    """Return the URL of the bucket."""
    return f"s3://{store.base_path.rstrip('/')}"


def content(store: Any, name: str) -> str:
    """Return the text of an object."""
    with store.open_input_stream(name) as file:
        return bytes(file.read()).decode()


def names(store: Any) -> list[str]:
    """Return the names of all objects."""
    return sorted(each.path for each in store.get_file_info(fs.FileSelector("", recursive=True)) if each.is_file)


def test_an_output_is_put_to_its_url(store: Any, tmp_path: Path) -> None:
    """The table is put whole; the journal and the table stay on this machine, and other commands take them."""
    (tmp_path / "q.csv").write_text(ROWS)
    url = f"{url_of(store)}/deep/answers.csv"
    dry = command(tmp_path, "run", "q.csv", "-o", url, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert (names(store), sorted(path.name for path in tmp_path.iterdir())) == ([], ["q.csv"])
    first = command(tmp_path, "run", "q.csv", "-o", f"{url}?region=us-east-1")
    assert first.returncode == 0, first.stderr
    assert f"written: {url}, and outputs/answers.csv" in first.stderr
    local = tmp_path / "outputs" / "answers.csv"
    assert content(store, "deep/answers.csv") == local.read_text()
    assert names(store) == ["deep/answers.csv"]
    store.delete_file("deep/answers.csv")
    facts = command(tmp_path, "run", "q.csv", "-o", url, "--json").facts()
    assert (facts["put_to"], facts["output"], facts["this_run"]["asked"]) == (url, "outputs/answers.csv", 0)
    assert content(store, "deep/answers.csv") == local.read_text()
    for name in ("outputs/answers.csv", "outputs/answers.csv.journal"):
        assert f"put to {url} at 2" in command(tmp_path, "status", name).stdout
    assert json.loads(command(tmp_path, "status", str(local), "--json").stdout)["put_to"] == url
    assert command(tmp_path, "report", str(local), "-o", "x.html").returncode == 0


def test_without_ray_no_batch_takes_the_place_of_one_on_ray(store: Any, tmp_path: Path) -> None:
    """Neither a new batch, nor one of this machine or one that starts over: the journal in the store would not know of
    its answers, and a new machine would pay for them again. Nothing is put; without that folder, the batch continues."""
    (tmp_path / "q.csv").write_text(ROWS)
    url, new = f"{url_of(store)}/answers.csv", tmp_path / "new"
    run = ("run", str(tmp_path / "q.csv"), "-o", url)
    assert command(tmp_path, *run).returncode == 0
    whole = StoredJournal.of(OutputPlace(url))
    whole.put_whole("000001-00000000", tmp_path / "outputs" / "answers.csv.journal", tmp_path)
    new.mkdir()
    for folder, option in ((tmp_path, ()), (tmp_path, ("--fresh",)), (new, ()), (new, ("--fresh",))):
        done = command(folder, *run, *option)
        assert done.returncode == 2
        assert done.stderr.endswith(
            f" {url}.journal: a batch on Ray has put its journal there; continue it with --ray (`--ray local` needs this "
            "machine only), name another output (--output), or delete that folder\n"
        )
    assert not [*new.iterdir()]
    store.delete_dir("answers.csv.journal")
    assert command(tmp_path, *run).returncode == 0


def test_a_journal_elsewhere(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--journal names the journal of a URL and of a local output; the job file and Python take both options."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.csv").write_text(ROWS)
    url = f"{url_of(store)}/a-{{date}}.parquet"
    job = f'input = "q.csv"\noutput = "{url}"\njournal = "work/run7.parquet.journal"\n'
    (tmp_path / "job.toml").write_text(job)
    assert f"output: {url_of(store)}/a-2" in command(tmp_path, "check", "job.toml").stdout
    assert command(tmp_path, "run", "job.toml").returncode == 0
    assert pq.read_table(tmp_path / "work" / "run7.parquet").num_rows == 2
    with store.open_input_file(names(store)[0]) as file:
        assert pq.read_table(file).num_rows == 2
    batchrun.run("q.csv", output=f"{url_of(store)}/b.csv", journal="work/b.csv.journal")
    batchrun.run("q.csv", output="far/c.csv", journal="work/c.csv.journal")
    assert content(store, "b.csv") == (tmp_path / "work" / "b.csv").read_text()
    assert (tmp_path / "far" / "c.csv").read_text() == (tmp_path / "work" / "c.csv").read_text()
    done = command(tmp_path, "run", "q.csv", "-o", "far/d.csv", "--journal", "work/c.csv.journal")
    assert done.returncode == 2
    assert "belongs to the output" in done.stderr
    (tmp_path / "far" / "c.csv.journal").touch()
    done = command(tmp_path, "run", "q.csv", "-o", "far/c.csv", "--journal", "work/c.csv.journal")
    assert "is the journal of this output, and --journal names another one" in done.stderr


def test_a_journal_that_a_batch_on_ray_has_put(store: Any, tmp_path: Path) -> None:
    """A dry run on a new machine says that it does not know the rows there; the folder is a table of the outputs in it."""
    (tmp_path / "q.csv").write_text(ROWS)
    url = f"{url_of(store)}/a.csv"
    on_ray = ("run", "q.csv", "-o", url, "--ray", "local", "--dry-run")
    assert "a dry run does not read it" not in command(tmp_path, *on_ray).stdout
    with Journal(tmp_path / "elsewhere") as journal:
        journal.write_manifest({"batch_id": "batch_1", STORED: {"first": 1, "next": "000001-00000000"}})
    StoredJournal.of(OutputPlace(url)).put_whole("000001-00000000", tmp_path / "elsewhere", tmp_path)
    dry = command(tmp_path, *on_ray)
    assert dry.returncode == 0, dry.stderr
    assert f"a run continues with the journal at {url}.journal, and asks fewer rows" in dry.stdout
    put_object(store.base_fs, f"{store.base_path}a.csv", tmp_path / "q.csv")
    assert [path.rpartition("/")[2] for path, _, _ in Place.find(f"{url_of(store)}/").files] == ["a.csv"]


def test_a_journal_of_another_output_is_not_continued(store: Any, tmp_path: Path) -> None:
    """Two URLs with one name have one default journal: the second is refused, and so is an object of somebody else."""
    (tmp_path / "q.csv").write_text(ROWS)
    bucket = url_of(store)
    assert command(tmp_path, "run", "q.csv", "-o", f"{bucket}/a/q.csv").returncode == 0
    other = command(tmp_path, "run", "q.csv", "-o", f"{bucket}/b/q.csv")
    assert other.returncode == 2
    assert f"belongs to the output {bucket}/a/q.csv, not to {bucket}/b/q.csv; give another --journal" in other.stderr
    with store.open_output_stream("b/x.csv") as file:
        file.write(b"theirs")
    foreign = command(tmp_path, "run", "q.csv", "-o", f"{bucket}/b/x.csv")
    assert foreign.returncode == 2
    assert f"{bucket}/b/x.csv: exists, and outputs/x.csv.journal is not the journal of it" in foreign.stderr
    assert "give its journal (--journal), name another output (--output), or give --fresh" in foreign.stderr
    assert content(store, "b/x.csv") == "theirs"
    assert command(tmp_path, "run", "q.csv", "-o", f"{bucket}/b/x.csv", "--fresh").returncode == 0
    assert content(store, "b/x.csv").startswith("question,")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "s3://no-such-bucket/a.csv"), "s3://no-such-bucket/a.csv: cannot be written (the bucket does not exist)"),
        (("-o", "BUCKET/a.csv", "--refused"), "BUCKET/a.csv: cannot be written (access is denied; check"),
        (("-o", "BUCKET/in/q.csv"), "BUCKET/in/q.csv: the output is the input"),
        (("-o", "BUCKET/in/a.csv"), "the output would be a part of the input BUCKET/in/"),
        (("-o", "BUCKET"), "BUCKET names no file or folder in the bucket; add a name such as answers.csv"),
        (("-o", "BUCKET/a"), "no file extension"),
        (("-o", "BUCKET/*.csv"), "an output is one file or folder; leave out * and ["),
        (("-o", "BUCKET/a.csv", "--journal", "w.journal"), "w.journal: expected a name that ends in .csv.journal, because"),
        (("-o", "BUCKET/a.csv", "--journal", "w.tsv.journal"), "put to --output; try w.csv.journal"),
        (("--journal", "w.csv.journal"), "--journal: needs --output"),
        (("-o", "BUCKET/{day}.csv"), "--output: unknown placeholder {day}"),
        (("-o", "https://example.org/a.csv"), "--output: https://… is only read; give a path, or a URL with s3://, gs:// or abfss://"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_written(
    server: ObjectStore, store: Any, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    """What is wrong is one line before anything is sent, and no object is left behind."""
    bucket = url_of(store)
    with store.open_output_stream("in/q.csv") as file:
        file.write(ROWS.encode())
    if "--refused" in options:
        server.refused = r"POST .*\?uploads"
    given = [each.replace("BUCKET", bucket) for each in options if each != "--refused"]
    table = f"{bucket}/in/" if "in/a.csv" in options[1] else f"{bucket}/in/q.csv"
    for dry in ((), ("--dry-run",)):
        done = command(tmp_path, "run", table, *given, *dry)
        assert done.returncode == 2, done.stderr
        assert message.replace("BUCKET", bucket) in done.stderr
        assert "Traceback" not in done.stderr
        assert sum("batchrun: " in line for line in done.stderr.splitlines()) == 1
    assert names(store) == ["in/q.csv"]
    assert not list(tmp_path.rglob("*"))


def test_a_put_that_fails_leaves_the_old_object(server: ObjectStore, store: Any, tmp_path: Path) -> None:
    """The answers are in the journal, the old object stays, and the same command puts them."""
    (tmp_path / "q.csv").write_text(ROWS)
    url = f"{url_of(store)}/a.csv"
    assert command(tmp_path, "run", "q.csv", "-o", url, "--limit", "1").returncode == 0
    old = content(store, "a.csv")
    server.refused = "PUT .*partNumber"
    failed = command(tmp_path, "run", "q.csv", "-o", url)
    assert failed.returncode == 2
    assert f"{url}: cannot be written (access is denied" in failed.stderr
    assert "; the answers are kept in outputs/a.csv, and the same command puts them" in failed.stderr
    assert "Traceback" not in failed.stderr
    server.refused = None
    assert content(store, "a.csv") == old
    facts = command(tmp_path, "run", "q.csv", "-o", url, "--json").facts()
    assert (facts["completed"], facts["this_run"]["asked"]) == (2, 0)
    assert content(store, "a.csv") == (tmp_path / "outputs/a.csv").read_text() != old


def test_a_process_that_is_killed_while_it_puts(server: ObjectStore, store: Any, tmp_path: Path) -> None:
    """SIGKILL with a part on its way leaves the old object; the same command puts the new one."""
    with (tmp_path / "q.csv").open("w") as table:
        table.write("question,note\n")
        table.writelines(f"{number} + 1,{'long ' * 100_000}\n" for number in range(30))  # more than one part of S3
    url = f"{url_of(store)}/a.csv"
    with store.open_output_stream("a.csv") as file:
        file.write(b"old")
    server.held = "PUT .*partNumber=2"
    with process(tmp_path, "run", "q.csv", "-o", url, "--fresh", environ=server.environ) as killed:
        assert server.reached.wait(60), killed.stderr
        assert killed.kill()
    server.held = None
    server.released.set()
    assert content(store, "a.csv") == "old"
    assert f"not put to {url} yet" in command(tmp_path, "status", "outputs/a.csv").stdout
    done = command(tmp_path, "run", "q.csv", "-o", url, "--json")
    assert (done.returncode, done.facts()["this_run"]["asked"]) == (0, 0)
    assert content(store, "a.csv") == (tmp_path / "outputs" / "a.csv").read_text()


def test_stores_that_empty_an_object_when_it_is_opened(tmp_path: Path) -> None:
    """There the new object gets another name until it is whole. The file system of this machine is such a store."""
    system = fs.LocalFileSystem()
    (tmp_path / "new.csv").write_text("new")
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(OSError, match="directory"):
        put_object(system, str(tmp_path / "a.csv"), tmp_path)
    assert (tmp_path / "a.csv").read_text() == "old"
    put_object(system, str(tmp_path / "a.csv"), tmp_path / "new.csv")
    assert (tmp_path / "a.csv").read_text() == "new"
    (tmp_path / "b").mkdir()
    OutputPlace((tmp_path / "b" / "a.csv").as_uri()).check(is_own=False)
    assert list((tmp_path / "b").iterdir()) == []
    with pytest.raises(OutputError, match=r"c/a\.csv: cannot be written"):
        OutputPlace((tmp_path / "c" / "a.csv").as_uri()).check(is_own=False)


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    """An output by `file://` is written in place, with its journal next to it."""
    (tmp_path / "q.csv").write_text(ROWS)
    assert command(tmp_path, "run", "q.csv", "-o", (tmp_path / "a b.csv").as_uri()).returncode == 0
    assert {"a b.csv", "a b.csv.journal"} <= {path.name for path in tmp_path.iterdir()}


def test_a_folder_of_parts(tmp_path: Path) -> None:
    """`-o answers/` writes parts in the input's format, and every command takes the folder or its journal."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"question": "1 + 1"}\n')
    (tmp_path / "in" / "b.jsonl").write_text('{"question": "2 + 1"}\n')
    (tmp_path / "job.toml").write_text('input = "in"\noutput = "answers/"\n')
    assert "output: answers/" in command(tmp_path, "check", "job.toml").stdout
    assert not (tmp_path / "answers").exists()
    first = command(tmp_path, "run", "job.toml")
    assert first.returncode == 0, first.stderr
    assert "written: answers/\n" in first.stderr
    files = ["_SUCCESS", "part-00000.jsonl"]
    assert sorted(path.name for path in (tmp_path / "answers").iterdir()) == files
    assert {"answers.journal", "answers.lock"} <= {path.name for path in tmp_path.iterdir()}
    before = (tmp_path / "answers" / files[1]).stat().st_ino
    assert command(tmp_path, "run", "in/", "-o", "answers", "--json").facts()["finished_before"] == 2
    assert (tmp_path / "answers" / files[1]).stat().st_ino == before
    text = (tmp_path / "answers" / files[1]).read_text()
    (tmp_path / "answers" / files[1]).write_text("{}")
    assert command(tmp_path, "run", "in/", "-o", "answers/").returncode == 0
    assert (tmp_path / "answers" / files[1]).read_text() == text
    assert "answers/ " in command(tmp_path, "list", ".").stdout
    for name in ("answers", "answers/", "answers.journal"):
        assert "answers/: finished" in command(tmp_path, "status", name).stdout
        assert command(tmp_path, "export", name).returncode == 0
        assert command(tmp_path, "export", name, "-o", "one.csv").returncode == 0
        assert "1 + 1 = 2." in command(tmp_path, "show", name, "0").stdout
    assert (tmp_path / "answers" / files[1]).read_text() == text
    assert command(tmp_path, "report", "answers/", "-o", "x.html").returncode == 0
    scored = command(tmp_path, "score", "answers/", "--scorer", "regex:[0-9]")
    assert scored.returncode == 0, scored.stderr
    for given, message in {
        "in/": "the output is the folder of the input",
        "in/x/": "the output would be a part of the input",
        "a.xlsx/": "a.xlsx/ would be a folder of workbooks; parts have another format",
        "a.txt/": "batchrun only reads .txt",
    }.items():
        refused = command(tmp_path, "run", "in/", "-o", given)
        assert refused.returncode == 2, given
        assert message in refused.stderr


def test_a_folder_of_parts_by_url(server: ObjectStore, store: Any, tmp_path: Path) -> None:
    """Parts are put, surplus parts are removed, and the marker is there only while the folder is whole."""
    (tmp_path / "q.csv").write_text(ROWS)
    url = f"{url_of(store)}/deep/answers.parquet/"
    first = command(tmp_path, "run", "q.csv", "-o", url)
    assert first.returncode == 0, first.stderr
    whole = ["deep/answers.parquet/_SUCCESS", "deep/answers.parquet/part-00000.parquet"]
    assert names(store) == whole
    with store.open_output_stream("deep/answers.parquet/part-00001.parquet") as file:
        file.write(b"surplus")
    server.refused = "PUT .*part-00000.*partNumber"
    failed = command(tmp_path, "run", "q.csv", "-o", url)
    assert failed.returncode == 2
    assert names(store) == ["deep/answers.parquet/part-00000.parquet", "deep/answers.parquet/part-00001.parquet"]
    server.refused = None
    done = command(tmp_path, "run", "q.csv", "-o", url, "--json")
    assert (done.returncode, done.facts()["put_to"]) == (0, url)
    assert names(store) == whole
    with store.open_input_file(whole[1]) as file:
        assert pq.read_table(file)["response"].to_pylist() == ["1 + 1 = 2.", "2 + 1 = 3."]
    queried = command(tmp_path, "run", "q.csv", "-o", f"{url_of(store)}/queried/?region=us-east-1")
    assert queried.returncode == 0, queried.stderr
    assert [name for name in names(store) if name.startswith("queried/")] == [
        "queried/_SUCCESS",
        "queried/part-00000.csv",
    ]
    with store.open_output_stream("deep/answers.parquet/theirs.csv") as file:
        file.write(b"x")
    refused = command(tmp_path, "run", "q.csv", "-o", url)
    assert refused.returncode == 2
    assert "such as theirs.csv, and an output replaces all of it; name another one" in refused.stderr
    local = command(tmp_path, "run", "q.csv", "-o", "far/x/", "--journal", "work/x.journal")
    assert local.returncode == 0, local.stderr
    assert sorted(path.name for path in (tmp_path / "far" / "x").iterdir()) == ["_SUCCESS", "part-00000.csv"]


def test_commands_for_a_batch_say_what_to_give(tmp_path: Path) -> None:
    """A URL is where the table was put; a command that needs the journal names it."""
    for name in ("status", "export", "costs", "cancel", "cleanup", "show", "view"):
        done = command(tmp_path, name, "s3://bucket/a/answers.csv/?x=1", *(["0"] if name == "show" else []))
        assert done.returncode == 2
        assert "which is outputs/answers.csv.journal unless --journal named another one" in done.stderr, name


def test_commands_that_read_a_table(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`score`, `compare`, `report`, `convert` and `init` read a remote table from a copy that they delete."""
    answers = '{"question": "1 + 1", "target": "2", "response": "2", "status": "completed"}\n'
    for name, content in {
        "a.jsonl": answers,
        "parts/a.jsonl": answers,
        "parts/b.jsonl": answers.replace("1 + 1", "3 - 1"),
    }.items():
        with store.open_output_stream(name) as file:
            file.write(content.encode())
    bucket = url_of(store)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    table, parts, target = f"{bucket}/a.jsonl", f"{bucket}/parts/", ("--scorer", "exact", "--target", "target")
    for arguments in (
        ("score", table, *target, "-o", "scored.csv"),
        ("score", parts, *target, "-o", "scored2.csv", "--json"),
        ("compare", table, parts, *target, "--key", "question"),
        ("report", table, "-o", "page.html"),
        ("report", parts, "--compare", parts, "--key", "question", *target, "-o", "page2.html"),
        ("convert", table, "evals.jsonl", "--to", "inspect"),
        ("init", table, "-o", "job.toml"),
    ):
        done = command(tmp_path, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    assert len((tmp_path / "scored2.csv").read_text().splitlines()) == 3
    assert f'input = "{table}"' in (tmp_path / "job.toml").read_text()
    assert command(tmp_path, "check", "job.toml").returncode == 0
    for refused in (("score", table, *target), ("report", table), ("init", table)):
        done = command(tmp_path, *refused)
        assert done.returncode == 2
        assert "--output is required for a table at a URL" in done.stderr
    done = command(tmp_path, "compare", table, f"{bucket}/none.csv", *target, "--key", "question")
    assert done.returncode == 2
    assert "none.csv: no such file or folder" in done.stderr
    done = command(tmp_path, "score", table, *target, "-o", "s3://bucket/scored.csv")
    assert "s3://… is not a local file" in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_remote_folder_and_a_local_file_are_compared(store: Any, tmp_path: Path) -> None:
    """Outputs of one input are paired by an id wherever they are; without one, or with one table twice, nothing is
    copied and the message says why."""
    (tmp_path / "q.csv").write_text("id,question,target\na,1 + 1,2\nb,2 + 1,4\n")
    url, question = f"{url_of(store)}/deep/answers/", ("--prompt", "{{ question }}")
    for output in (url, "a.csv"):
        assert command(tmp_path, "run", "q.csv", "-o", output, *question).returncode == 0
    scoring = ("--scorer", "numeric", "--target", "target")
    done = command(tmp_path, "compare", url, "a.csv", *scoring, "--key", "id")
    assert done.returncode == 0, done.stderr
    assert f"numeric: a.csv against {url}, 2 pairs" in done.stdout
    assert "differs" not in done.stdout
    for tables, more, message in (
        ((url, "a.csv"), (), "compare: pairs rows by id, not by position; name their id column"),
        ((url, f"{url}?x=1"), ("--key", "id"), f"a table is named twice: {url} (what follows ? in a URL does not count)"),
    ):  # fmt: skip
        done = command(tmp_path, "compare", *tables, *scoring, *more)
        assert done.returncode == 2
        assert message in done.stderr
