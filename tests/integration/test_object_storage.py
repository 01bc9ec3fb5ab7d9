"""Tables in object storage, in a real S3 server on this machine."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.batch.lock import held
from batchrun.errors import InputError
from batchrun.local_paths import is_url, shown_url
from batchrun.tables.place import GOOGLE_TIMEOUT_S, Place, opened
from tests.integration.reliability.processes import batchrun as process
from tests.support.command import batchrun as command
from tests.support.object_store import ObjectStore, bucket_of, serving


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    """A server of S3."""
    with serving() as server:
        yield server


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A bucket of this test as a file system."""
    return bucket_of(server, monkeypatch, request.node.nodeid)


def put(store: Any, **files: str) -> str:
    """Write objects, whose names have `__` for a period below `in/`, and return the URL of the bucket."""
    for name, content in files.items():
        with store.open_output_stream(f"in/{name.replace('__', '.')}") as file:
            file.write(content.encode())
    return f"s3://{store.base_path.rstrip('/')}"


def test_a_batch_over_a_folder_of_objects(store: Any, tmp_path: Path) -> None:
    """The parts are copied once, read from there on resume and by other commands, and copied again when they change."""
    bucket = put(store, a__csv="question\n1 + 1\n", b__csv="question\n2 + 1\n", _SUCCESS="")
    dry = command(tmp_path, "run", f"{bucket}/in/", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert f"{bucket}/in/: copied to a temporary folder (2 files, " in dry.stdout
    assert str(tempfile.gettempdir()) not in dry.stdout
    assert list(tmp_path.iterdir()) == []
    first = command(tmp_path, "run", f"{bucket}/in/")
    assert first.returncode == 0, first.stderr
    assert f"{bucket}/in/: copied to outputs/in.input (2 files, " in first.stderr.replace("in.csv.input", "in.input")
    output, copy = tmp_path / "outputs" / "in.csv", tmp_path / "outputs" / "in.csv.input"
    assert sorted(path.name for path in copy.iterdir()) == ["_copied.json", "a.csv", "b.csv"]
    made_at = (copy / "a.csv").stat().st_mtime_ns
    again = command(tmp_path, "run", f"{bucket}/in/*.csv", "--json").facts()
    assert (again["output"], again["finished_before"]) == ("outputs/in.csv", 2)
    put(store, c__csv="question\n3 + 1\n")
    changed = command(tmp_path, "run", f"{bucket}/in/")
    assert changed.returncode == 2
    assert "the input changed (2 rows, now 3)" in changed.stderr
    facts = command(tmp_path, "run", f"{bucket}/in/", "--accept-changes", "--json").facts()
    assert (facts["rows"], facts["finished_before"]) == (3, 2)
    assert (copy / "a.csv").stat().st_mtime_ns != made_at
    assert json.loads(command(tmp_path, "status", str(output), "--json").stdout)["input"] == f"{bucket}/in/"
    shown = command(tmp_path, "show", str(output), "2")
    assert "line 2 of c.csv" in shown.stdout
    assert command(tmp_path, "export", str(output), "-o", "x.jsonl").returncode == 0


def test_an_output_is_checked_before_the_copy(store: Any, tmp_path: Path) -> None:
    """No table is copied for an output whose name is refused; the line about the parts names the URL."""
    bucket = put(store, a__csv="question\n1 + 1\n", b__csv="question\n2 + 1\n")
    refused = command(tmp_path, "run", f"{bucket}/in/", "-o", f"{bucket}/out.docx")
    assert (refused.returncode, list(tmp_path.rglob("*.csv"))) == (2, [])
    assert "unknown file extension" in refused.stderr
    assert (
        f"{bucket}/in/: 2 parts, from a.csv to b.csv" in command(tmp_path, "run", f"{bucket}/in/", "--dry-run").stdout
    )


@pytest.mark.parametrize(
    ("table", "part", "message"),
    [
        ("BUCKET/in/", "b__csv:question,k\n1\n", "BUCKET/in/b.csv, line 2: expected 2 cells as in the first line"),
        ("BUCKET/in/*?region=us-east-1", "b__csv:question,k\n\"1", "BUCKET/in/b.csv, line 2: the quote that opens here"),
        ("BUCKET/in", "b__csv:question\n1\n", "BUCKET/in/b.csv: lacks the column 'k' of BUCKET/in/a.csv"),
        ("BUCKET/in/", "b__jsonl:{}\n", "BUCKET/in/b.jsonl: no row has a key"),
        ("BUCKET/in/?region=us-east-1", 'b__jsonl:{"question": 1}\n', "BUCKET/in/b.jsonl: is JSON, and BUCKET/in/a.csv"),
        ("BUCKET/in/*.csv", "b__csv:question,k\n1,a\n", "BUCKET/in/*.csv: --key k: 'a' is in line 2 of a.csv and in"),
    ],
)  # fmt: skip
def test_errors_name_the_url_of_a_part(store: Any, tmp_path: Path, table: str, part: str, message: str) -> None:
    """What is wrong in a part is said with the part's URL and line, and never with the place of the copy."""
    name, _, content = part.partition(":")
    bucket = put(store, a__csv="question,k\n1 + 1,a\n", **{name: content})
    for more in ((), ("--dry-run",)):
        done = command(tmp_path, "run", table.replace("BUCKET", bucket), "--key", "k", *more)
        assert (done.returncode, done.stderr.count("batchrun: ")) == (2, 1)
        assert message.replace("BUCKET", bucket) in done.stderr
        assert not any(each in done.stderr for each in (".input", tempfile.gettempdir()))


def test_other_commands_name_the_url(store: Any, tmp_path: Path) -> None:
    """Commands that only read a table name its URL, of one file too."""
    bucket = put(store, a__csv="question,response\n1 + 1,2\n", b__csv="question,response\n1 + 1\n")
    for table in (f"{bucket}/in/", f"{bucket}/in/b.csv"):
        for given in (
            ("score", table, "--scorer", "exact", "--target", "question", "-o", "x.csv"),
            ("report", table, "-o", "x.html"),
            ("init", table, "-o", "job.toml"),
            ("convert", table, "x.jsonl"),
        ):
            done = command(tmp_path, *given)
            assert done.returncode == 2
            assert f"{bucket}/in/b.csv, line 2: expected 2 cells as in the first line, found 1" in done.stderr, given
    put(store, b__csv="question,response\n1 + 1,3\n")
    assert f'"path": "{bucket}/in/"' not in command(tmp_path, "report", f"{bucket}/in/", "-o", "x.html").stderr
    assert f"{bucket}/in/" in (tmp_path / "x.html").read_text()


def test_google_cloud_storage_is_given_up_soon() -> None:
    """A request is repeated for some seconds, unless the URL says how long."""
    urls = {"gs://b/q.csv": GOOGLE_TIMEOUT_S, "gs://b/q.csv?scheme=http&retry_limit_seconds=5": 5}
    for url, seconds in urls.items():
        system, path = opened(url)
        assert (system.__reduce__()[1][0]["retry_time_limit"], path) == (timedelta(seconds=seconds), "b/q.csv")


def test_the_search_for_azures_credentials_is_silent(tmp_path: Path) -> None:
    """Of a program that the SDK starts to get a token, such as one that asks to sign in, nothing is printed."""
    program = tmp_path / "az"
    program.write_text("#!/bin/sh\necho Please run az login >&2\necho >> ran\nexit 1\n")
    program.chmod(0o755)
    (tmp_path / "q.csv").write_text("question\n1 + 1\n")
    url = "abfss://c@account.dfs.core.windows.net/a.csv"
    for arguments, verb in (
        ([f"{url}?credential_kind=cli"], "read"),
        (["q.csv", "-o", f"{url}?credential_kind=cli"], "written"),
    ):
        with process(tmp_path, "run", *arguments, environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"}) as done:
            assert done.wait() == 2
        [line] = done.stderr.splitlines()
        assert f"{url}: cannot be {verb} (Azure: no credentials work; sign in, or set the usual variables" in line
    assert (tmp_path / "ran").exists()


def test_a_file_from_python_and_from_a_job_file(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL of one file is the table of a call and of a job file."""
    monkeypatch.chdir(tmp_path)
    url = f"{put(store, q__jsonl=json.dumps({'question': '1 + 1'}))}/in/q.jsonl"
    assert list(batchrun.run(url)["response"]) == ["1 + 1 = 2."]
    (tmp_path / "job.toml").write_text(f'input = "{url}"\noutput = "o.csv"\n', encoding="utf-8")
    assert "1 row" in command(tmp_path, "check", "job.toml").stdout
    assert command(tmp_path, "run", "job.toml").returncode == 0
    assert (tmp_path / "o.csv.input" / "q.jsonl").is_file()


def test_an_unchanged_copy_is_kept(store: Any, tmp_path: Path) -> None:
    """A copy is made once; a copy that cannot be made whole leaves the earlier one, and nothing else, in place."""
    url = f"{put(store, a__csv='k,1', b__csv='k,22')}/in"
    place, folder = Place.find(url), tmp_path / "copy"
    assert place.copy(folder)
    assert not Place.find(url).copy(folder)
    path, size, time = place.files[1]
    cut = Place(place.url, place.system, (place.files[0], (path, size + 1, time)), is_file=False)
    with pytest.raises(InputError, match=r"in/b\.csv changed while it was copied; run the same command again"):
        cut.copy(folder)
    put(store, b__csv="k,333")
    store.delete_file("in/a.csv")
    with pytest.raises(InputError, match=r"in: no such file or folder"):
        place.copy(tmp_path / "other")
    assert [path.name for path in folder.iterdir() if path.name == "b.csv" and path.read_text() == "k,22"] == ["b.csv"]
    assert not (tmp_path / "other").exists()
    assert Place.find(url).copy(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["_copied.json", "b.csv"]


def test_the_copy_of_a_running_batch_is_not_replaced(store: Any, tmp_path: Path) -> None:
    """While another batch reads the copy, a changed table is refused with the lock."""
    bucket = put(store, q__csv="question\n1 + 1\n")
    assert command(tmp_path, "run", f"{bucket}/in/q.csv").returncode == 0
    with held(tmp_path / "outputs" / "q.csv.lock"):
        put(store, q__csv="question\n2 + 1 + 1\n")
        done = command(tmp_path, "run", f"{bucket}/in/q.csv", "--wait")
    assert done.returncode == 6
    assert "a remote input cannot wait" in done.stderr


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://no-such-bucket/q.csv", r"q\.csv: the bucket does not exist"),
        ("BUCKET/none.csv", r"none\.csv: no such file or folder"),
        ("BUCKET/in/*.parquet", r"has no files; names that begin with _ or \. are passed over"),
        ("BUCKET/i*/a.csv", "a wildcard is allowed in the last part of a URL only"),
        ("BUCKET", "in is a folder, and parts are files"),
        ("BUCKET/in/a.csv?endpoint_override=127.0.0.1%3A1&scheme=http", r"a\.csv: cannot be read \(the service cannot"),
    ],
)
def test_what_is_missing_is_one_line(store: Any, place: str, message: str) -> None:
    """A missing bucket, object or endpoint is named in one line, without what follows a question mark."""
    bucket = put(store, a__csv="k\n1\n")
    with pytest.raises(InputError, match=message) as raised:
        Place.find(place.replace("BUCKET", bucket))
    assert "\n" not in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)


def test_files_by_url(tmp_path: Path) -> None:
    """`file://` is read in the same way; a local name with a colon and a drive are no URLs."""
    (tmp_path / "a b.csv").write_text("k\n1\n", encoding="utf-8")
    place = Place.find((tmp_path / "a b.csv").as_uri())
    assert place.is_file
    assert place.copy(tmp_path / "copy")
    assert (tmp_path / "copy" / "a b.csv").read_text(encoding="utf-8") == "k\n1\n"
    assert not any(map(is_url, ("C:/a.csv", "a:b.csv", "s3:/b/q.csv", "ftp://a/b", None)))
    assert shown_url("s3://b/q.csv?access_key=x") == "s3://b/q.csv"
