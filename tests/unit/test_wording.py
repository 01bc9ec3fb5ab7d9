"""Text for people: counts and paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.wording import rows_text, shown_path


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_000, "1,000 rows"), (1_001, "1,001 rows")]
)
def test_one_row_is_a_row(number: int, text: str) -> None:
    """Only a single row is `row`, not `rows`."""
    assert rows_text(number) == text


def test_rows_of_a_kind() -> None:
    """The kind of the rows is between number and noun."""
    assert (rows_text(1, "failed"), rows_text(2_000, "failed")) == ("1 failed row", "2,000 failed rows")


def test_a_path_is_shown_as_a_user_would_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the working directory are shown relative to it; all paths have no detours."""
    (tmp_path / "inputs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "inputs" / ".." / "outputs" / "a.csv") == "outputs/a.csv"
    assert shown_path(Path("a.csv")) == "a.csv"
    assert shown_path(Path("/srv/x/../a.csv")) == "/srv/a.csv"
    assert shown_path(Path("../a.csv")) == "../a.csv"


def test_a_path_through_a_link_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If `..` follows a symbolic link, the path is shown as it was given."""
    (tmp_path / "far" / "inputs").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "inputs").symlink_to(tmp_path / "far" / "inputs")
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "here" / "inputs" / ".." / "a.csv"
    assert shown_path(path) == str(path)
