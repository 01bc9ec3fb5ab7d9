from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from batchrun.server import ServerSettings, SettingsError, StoreError
from batchrun.server.store import Database


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_a_public_host_needs_a_key(host: str) -> None:
    """A server that other machines can reach requires a key; the error is one line and states what to do."""
    with pytest.raises(SettingsError, match="give at least one API key") as caught:
        ServerSettings(host=host)
    assert "\n" not in str(caught.value)
    assert ServerSettings(host=host, api_keys=("sk-1",)).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_key(host: str) -> None:
    """On loopback no key is required."""
    assert ServerSettings(host=host).api_keys == ()


@pytest.mark.parametrize(
    "options",
    [{"port": 70_000}, {"api_keys": (" ",)}, {"max_concurrent_runs": 0}, {"requests_per_minute": 0}],
)
def test_unusable_settings_are_named(options: dict[str, object]) -> None:
    """An invalid setting raises a ValueError at once."""
    with pytest.raises(ValueError, match=r"port|key|max_concurrent_runs|requests_per_minute"):
        ServerSettings(**options)  # type: ignore[arg-type]  # each case gives one option of its own type


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    """A second server on the same data file is refused; the error names the reason."""
    first = Database(tmp_path / "data.sqlite3")
    with pytest.raises(StoreError, match="is in use by another server"):
        Database(tmp_path / "data.sqlite3")
    first.close()
    Database(tmp_path / "data.sqlite3").close()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    """An SQLite file of another program is refused and not changed."""
    path = tmp_path / "notes.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Database(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("content", "expected"), [(b"not a database at all, only text" * 99, "not an SQLite")])
def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    """Any other file is refused in one line."""
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=expected):
        Database(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The error for a path in a missing folder names the folder's absence."""
    with pytest.raises(StoreError, match="folder exists"):
        Database(tmp_path / "no" / "such" / "data.sqlite3")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A file of a newer version is refused; the error asks for an update."""
    database = Database(tmp_path / "data.sqlite3")
    database.connection.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="newer batchrun"):
        Database(tmp_path / "data.sqlite3")
