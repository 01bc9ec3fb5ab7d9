"""How request lines are cut into files."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from batchrun.journal.service_batches import WaitingLine
from batchrun.services.batch_api.lines import cut, url_of


@given(
    lines=st.lists(st.tuples(st.sampled_from(("a", "b", None)), st.integers(1, 40)), max_size=60),
    max_lines=st.integers(1, 7),
    max_bytes=st.integers(1, 100),
)
def test_files_keep_their_limits(lines: list[tuple[str | None, int]], max_lines: int, max_bytes: int) -> None:
    """Every line is in one file, of its own model and in order; a file is larger than the limits only for one line."""
    waiting = [WaitingLine(number, "/v1/responses", model, size) for number, (model, size) in enumerate(lines)]
    files = list(cut(waiting, max_lines=max_lines, max_bytes=max_bytes))
    assert sorted(line for file in files for line in file.lines) == list(range(len(lines)))
    for file in files:
        assert file.lines == sorted(file.lines)
        assert {lines[line][0] for line in file.lines} == {file.model}
        assert len(file.lines) <= max_lines
        assert file.size == sum(lines[line][1] + 1 for line in file.lines)
        assert file.size <= max_bytes or len(file.lines) == 1


def test_lines_of_one_model_fill_their_files() -> None:
    """No file is begun while the one before it has room."""
    waiting = [WaitingLine(number, "/v1/responses", "ab"[number % 2], 10) for number in range(20)]
    sizes = [(file.model, len(file.lines)) for file in cut(waiting, max_lines=4, max_bytes=1_000)]
    grouped = {model: [size for _, size in found] for model, found in groupby(sorted(sizes), lambda each: each[0])}
    assert grouped == {"a": [2, 4, 4], "b": [2, 4, 4]}


def test_azure_has_no_version_in_the_path_of_completions() -> None:
    """Azure's Batch API names completions without `/v1`."""
    assert url_of("/v1/chat/completions", azure=True) == "/chat/completions"
    assert url_of("/v1/chat/completions", azure=False) == "/v1/chat/completions"
    assert url_of("/v1/responses", azure=True) == "/v1/responses"
