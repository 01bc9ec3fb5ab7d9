"""Paths and counts in messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.wording import shown_path


def test_a_path_is_shown_as_a_user_would_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the working directory without it, and without detours; elsewhere whole."""
    (tmp_path / "inputs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "inputs" / ".." / "outputs" / "a.csv") == "outputs/a.csv"
    assert shown_path(Path("a.csv")) == "a.csv"
    assert shown_path(Path("/srv/x/../a.csv")) == "/srv/a.csv"
    assert shown_path(Path("../a.csv")) == "../a.csv"


def test_a_path_through_a_link_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a link `..` is not the folder that stands before it: such a path is shown as it was given."""
    (tmp_path / "far" / "inputs").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "inputs").symlink_to(tmp_path / "far" / "inputs")
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "here" / "inputs" / ".." / "a.csv"
    assert shown_path(path) == str(path)
