"""Downloads of the files of runs: complete, under safe names, without overwriting."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine.limits import Limits
from batchrun.errors import OutputError
from batchrun.services.client import Endpoint
from batchrun.services.files.downloads import Downloads, Fetched, file_name, folder_name
from batchrun.services.files.produced import Produced
from batchrun.services.wire import Wire
from tests.support.filing import PLACE, Filing, journal_in
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n"


def made(service: Filing, name: str, content: bytes) -> str:
    return service.client.files.create(file=(name, content), purpose="assistants").id


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def beside(folder: Path) -> list[str]:
    """Return the files that downloads left in the folder of the output."""
    return [path.name for path in folder.iterdir() if "journal" not in path.name]


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.txt")}


async def test_files_come_whole_into_the_rows_folder(service: Filing, tmp_path: Path) -> None:
    """A file with a name takes one request, one without a name two; the row owns both at a cleanup."""
    large = bytes(range(256)) * 20_000
    first, second = made(service, "x", large), made(service, "plot.png", PNG)
    before = service.limits.requests
    fetched = await service.downloads().fetch([Produced(first, "sum.bin"), Produced(second)], "7")
    assert fetched == Fetched(("answers.csv.files/7/sum.bin", "answers.csv.files/7/plot.png"))
    assert contents(tmp_path / "answers.csv.files") == {"7/sum.bin": large, "7/plot.png": PNG}
    assert service.limits.requests == before + 3
    assert service.left() == {("file", first, "7"), ("file", second, "7")}
    assert beside(tmp_path) == ["answers.csv.files"]


async def test_the_same_files_again_change_nothing(service: Filing, tmp_path: Path) -> None:
    """A row that is followed again after a crash finds its files under the same names."""
    produced = [Produced(made(service, "a.txt", b"one"), "a.txt"), Produced(made(service, "a.txt", b"two"), "a.txt")]
    first = await service.downloads().fetch(produced, "7")
    before = times(tmp_path)
    assert await service.downloads().fetch(produced, "7") == first
    assert first.paths == ("answers.csv.files/7/a.txt", "answers.csv.files/7/a~2.txt")
    assert times(tmp_path) == before


async def test_no_file_takes_the_place_of_another(service: Filing, tmp_path: Path) -> None:
    """A row that is run again keeps the files of its earlier answer, and the user's files are kept."""
    folder = tmp_path / "answers.csv.files" / "7"
    await service.downloads().fetch([Produced(made(service, "a", b"earlier"), "a.txt")], "7")
    (folder / "a~2.txt").write_text("the user's")
    (folder / "a~3.txt").mkdir()
    (folder / "a~4.txt").symlink_to(tmp_path / "elsewhere")
    fetched = await service.downloads().fetch([Produced(made(service, "a", b"later"), "a.txt")], "7")
    assert fetched.paths == ("answers.csv.files/7/a~5.txt",)
    assert contents(folder) == {"a.txt": b"earlier", "a~2.txt": b"the user's", "a~5.txt": b"later"}
    assert not (tmp_path / "elsewhere").exists()


async def test_rows_have_folders_of_their_own(service: Filing, tmp_path: Path) -> None:
    """Whatever the keys of two rows are, their folders differ, even in a file system that ignores case."""
    file_id = made(service, "a.txt", b"one")
    for row_key in ("a", "A", "../a", "a/b", "", "con"):
        await service.downloads().fetch([Produced(file_id, "a.txt")], row_key)
    folders = beside(tmp_path / "answers.csv.files")
    assert len({name.lower() for name in folders}) == 6
    assert "a" in folders
    assert beside(tmp_path) == ["answers.csv.files"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/etc/cron.d/x", "x"),
        ("..", "file"),
        (".bashrc", "bashrc"),
        ("a\0b\n.txt", "a_b_.txt"),
        ("CON.txt", "_CON.txt"),
        ("gpj.‮exe.txt", "gpj._exe.txt"),
        ("a:b*?.txt", "a_b__.txt"),
        ("x" * 400 + ".txt", "x" * 150 + ".txt"),
        ("é" * 400 + ".png", "é" * 75 + ".png"),
        (" . ", "file"),
    ],
)
async def test_hostile_names_stay_in_the_folder(service: Filing, tmp_path: Path, name: str, kept: str) -> None:
    """The model chooses file names: none of them leaves the row's folder, hides, or looks like another."""
    fetched = await service.downloads().fetch([Produced(made(service, "x", b"one"), name)], "7")
    assert fetched.paths == (f"answers.csv.files/7/{kept}",)
    assert contents(tmp_path / "answers.csv.files") == {f"7/{kept}": b"one"}


@given(st.text())
def test_any_name_is_one_component(name: str) -> None:
    """No text becomes a path of several parts, a hidden file, or a name too long for a file system."""
    for safe in (file_name(name), folder_name(name)):
        assert safe not in ("", ".", "..")
        assert not set(safe) & set('/\\\0:*?"<>|')
        assert not safe.startswith(".")
        assert len(os.fsencode(safe)) < 200


@given(st.text(), st.text())
def test_row_keys_are_distinguished(one: str, other: str) -> None:
    """Two keys share a folder only if they are equal."""
    assert (folder_name(one).lower() == folder_name(other).lower()) == (one == other)


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        (PNG, ".png"),
        (b"\xff\xd8\xff\xe0", ".jpg"),
        (b"GIF89a", ".gif"),
        (b"RIFF1234WEBP", ".webp"),
        (b"RIFF1234WAVE", ""),
        (b"text", ""),
    ],
)
async def test_an_image_without_an_ending_gets_one(service: Filing, content: bytes, ending: str) -> None:
    """Services name drawings by their ids; the first bytes decide the suffix."""
    fetched = await service.downloads().fetch([Produced(made(service, "drawing", content))], "7")
    assert fetched.paths == (f"answers.csv.files/7/drawing{ending}",)


async def test_an_image_inside_the_answer_costs_no_request(service: Filing, tmp_path: Path) -> None:
    """An image inside the answer is kept as it came, and nothing is left at the service."""
    fetched = await service.downloads().fetch([Produced("ig_1", content=PNG)], "7")
    assert contents(tmp_path / "answers.csv.files") == {"7/ig_1.png": PNG}
    assert fetched.missing == ()
    assert (service.limits.requests, service.left()) == (0, set())


async def test_a_file_that_is_gone_is_named(service: Filing) -> None:
    """If the service does not have a file, the answer and the other files are kept."""
    produced = [Produced("file-gone", "a.txt"), Produced(made(service, "b.txt", b"two"), "b.txt")]
    fetched = await service.downloads().fetch(produced, "7")
    assert fetched.paths == ("answers.csv.files/7/b.txt",)
    assert fetched.missing == ("a.txt (file-gone): No file found with id 'file-gone'.",)


# -- against a server that misbehaves ---------------------------------------------------------------------------


def binary(content: bytes, length: int | None = None) -> Answer:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {len(content) if length is None else length}\r\n\r\n"
    return Answer(head.encode() + content, "keep" if length is None else "close")


async def fetched(
    folder: Path, answers: Any, produced: Produced, paths: list[str] | None = None, patience_s: float = 5
) -> Fetched:
    with ScriptedHttp.answering(answers) as server, journal_in(folder) as journal:
        async with aclosing(Wire(Endpoint(server.url, None), Limits(), silence_timeout_s=5)) as wire:
            downloads = Downloads(wire, journal, PLACE, folder / "a.files", patience_s=patience_s)
            result = await downloads.fetch([produced], "0")
        if paths is not None:
            paths += server.paths()
    return result


async def test_a_download_that_breaks_off_is_made_again(tmp_path: Path) -> None:
    """An incomplete download is repeated, and only the complete file is kept."""
    paths: list[str] = []
    busy = json_answer({"error": {"message": "Busy.", "code": None}}, 503, retry_after="0.01")
    answers = {"GET /files/file-1/content": [busy, binary(b"on", 3), binary(b"one")]}
    result = await fetched(tmp_path, answers, Produced("file-1", "a.txt"), paths)
    assert result.paths == ("a.files/0/a.txt",)
    assert contents(tmp_path / "a.files") == {"0/a.txt": b"one"}
    assert len(paths) == 3


async def test_a_service_that_stays_broken_is_given_up(tmp_path: Path) -> None:
    """When the time is over, the file counts as missing, with its id; no part of it and no empty folder is left."""
    paths: list[str] = []
    answers = {"GET /files/file-1/content": binary(b"on", 3)}
    result = await fetched(tmp_path, answers, Produced("file-1", "a.txt"), paths, patience_s=0.6)
    assert result.paths == ()
    assert result.missing[0].startswith("a.txt (file-1): ")
    assert len(paths) == 2
    assert not (tmp_path / "a.files").exists()


async def test_a_container_is_asked_for_its_files(tmp_path: Path) -> None:
    """Files of the Responses API's code interpreter are read from its container."""
    answers = {
        "GET /containers/cntr_1/files/cfile_1": json_answer({"id": "cfile_1", "path": "/mnt/data/a.csv"}),
        "GET /containers/cntr_1/files/cfile_1/content": binary(b"a,b"),
    }
    result = await fetched(tmp_path, answers, Produced("cfile_1", container_id="cntr_1"))
    assert result.paths == ("a.files/0/a.csv",)


async def test_a_hostile_id_is_not_a_path(tmp_path: Path) -> None:
    """An id is one component of the URL."""
    seen: list[str] = []

    def script(request: Request) -> Answer:
        seen.append(request.path)
        return binary(b"x")

    with ScriptedHttp(script) as server, journal_in(tmp_path) as journal:
        async with aclosing(Wire(Endpoint(server.url, None), Limits(), silence_timeout_s=5)) as wire:
            await Downloads(wire, journal, PLACE, tmp_path / "f").fetch([Produced("../../admin?x=1", "a")], "0")
    assert seen == ["/v1/files/..%2F..%2Fadmin%3Fx=1/content"]


async def test_a_disk_that_refuses_stops_the_batch(service: Filing, tmp_path: Path) -> None:
    """If the folder cannot be created, the batch stops with one line, and the row is left for the next run."""
    (tmp_path / "answers.csv.files").write_text("in the way")
    with pytest.raises(OutputError, match=r"answers\.csv\.files"):
        await service.downloads().fetch([Produced(made(service, "a", b"one"), "a.txt")], "7")
