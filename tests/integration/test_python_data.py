"""The tables that the Python functions take, and the tables of answers that they return."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchrun
from batchrun.errors import InputError

TEXTS = ["1 + 1", "2 + 2"]
ANSWERS = ["1 + 1 = 2.", "2 + 2 = 4."]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, so that the embedded server answers; and a separate folder."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHRUN_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("data", "column", "index"),
    [
        (TEXTS, "prompt", [0, 1]),
        (tuple(TEXTS), "prompt", [0, 1]),
        ([{"question": text} for text in TEXTS], "question", [0, 1]),
        (pd.Series(TEXTS, index=["a", "b"]), "prompt", ["a", "b"]),
        (pd.Series(TEXTS, name="sum", index=[7, 7]), "sum", [7, 7]),
        (pd.DataFrame({"question": TEXTS}, index=[3, 1]), "question", [3, 1]),
    ],
)
def test_what_becomes_a_pandas_frame(data: Any, column: str, index: list[Any]) -> None:
    """Texts, dicts, Series and frames give a pandas frame with their index; text is `str`, and a moment is a timestamp."""
    answers = batchrun.run(data)
    assert list(answers.columns[:2]) == [column, "response"]
    assert answers.index.tolist() == index
    assert answers["response"].tolist() == ANSWERS
    assert [str(answers[name].dtype) for name in (column, "response", "error")] == ["str"] * 3
    assert str(answers["completed_at"].dtype) == "datetime64[us, UTC]"
    assert (answers["completed_at"] > pd.Timestamp("2026-01-01", tz="UTC")).all()


def test_dicts_have_the_columns_of_their_keys() -> None:
    """Keys of any row are columns; a missing key is a missing cell, and an integer next to it stays one."""
    rows: list[dict[str, Any]] = [{"question": "1 +", "n": 1}, {"question": "1 + 1", "tags": ["a"]}]
    answers = batchrun.run(rows, prompt="{{ question }} {{ n }}")
    assert [str(answers[name].dtype) for name in ("question", "n", "tags")] == ["str", "Int64", "object"]
    assert answers.loc[0, "response"] == "1 + 1 = 2."
    assert answers.loc[1, "tags"] == ["a"]


@pytest.mark.parametrize("make", [pa.table, lambda cells: pa.table(cells).to_batches()[0]])
def test_arrow_comes_back_as_arrow(make: Callable[[Any], Any]) -> None:
    """An Arrow table or record batch comes back as a table, with its own types and metadata unchanged."""
    types = pa.schema([("question", pa.large_string()), ("n", pa.decimal128(5, 2))], metadata={"made": "here"})
    table = pa.table({"question": TEXTS, "n": [None, None]}, types)
    answers = batchrun.run(make({name: table[name] for name in table.column_names}))
    assert isinstance(answers, pa.Table)
    assert answers.schema.field("question").type == pa.large_string()
    assert answers.schema.field("n").type == pa.decimal128(5, 2)
    assert answers.schema.field("completed_at").type == pa.timestamp("us", tz="UTC")
    assert answers["response"].to_pylist() == ANSWERS
    assert batchrun.run(table).schema.metadata == {b"made": b"here"}


def test_polars_without_rows() -> None:
    """A polars frame without rows comes back without rows, with the columns of the answers."""
    polars = pytest.importorskip("polars")
    answers = batchrun.run(polars.DataFrame({"question": []}, schema={"question": polars.String}))
    assert (answers.height, answers.columns[:2]) == (0, ["question", "response"])


def test_half_of_a_surrogate_pair() -> None:
    """A text that UTF-8 cannot encode fails its own row only."""
    with pytest.warns(RuntimeWarning, match="bad_text"):
        answers = batchrun.run(["\ud800", "1 + 1"], model="tutor")
    assert answers["error_type"].fillna("").tolist() == ["bad_text", ""]
    assert answers["response"].tolist()[1] == ANSWERS[0]


def test_half_of_a_surrogate_pair_in_a_key() -> None:
    """A key that UTF-8 cannot encode is refused with its row: neither the journal nor a request can hold it."""
    table = [{"id": "a", "question": "1 + 1"}, {"id": "\ud800", "question": "2 + 2"}]
    with pytest.raises(batchrun.InputError, match=r"row 1: key id: the cell contains half of a surrogate pair"):
        batchrun.run(table, model="tutor", key="id")


def test_half_of_a_surrogate_pair_in_a_thread_id() -> None:
    """The id of a thread that UTF-8 cannot encode fails its own row only."""
    table = [{"thread": "", "question": "1 + 1"}, {"thread": "\ud800", "question": "2 + 2"}]
    with pytest.warns(RuntimeWarning, match="bad_text"):
        answers = batchrun.run(table, model="tutor", thread_column="thread")
    assert answers["error_type"].fillna("").tolist() == ["", "bad_text"]


def test_polars_comes_back_as_polars() -> None:
    """A polars frame or Series comes back as a frame that keeps its types, also with several rows per input row."""
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"question": TEXTS, "kind": polars.Series(["a", "b"], dtype=polars.Enum(["b", "a"]))})
    answers = batchrun.run(frame, epochs=2)
    assert answers.columns[:4] == ["question", "kind", "epoch", "response"]
    assert answers.schema["kind"] == polars.Enum(["b", "a"])
    assert answers["question"].to_list() == [text for text in TEXTS for _ in range(2)]
    assert answers["response"].to_list() == [text for text in ANSWERS for _ in range(2)]
    assert answers.schema["completed_at"] == polars.Datetime("us", "UTC")
    named = batchrun.run(polars.Series("sum", TEXTS))
    assert named.columns[:2] == ["sum", "response"]
    assert batchrun.run(polars.Series(TEXTS)).columns[0] == "prompt"
    with pytest.raises(InputError, match="'o' holds Python objects"):
        batchrun.run(frame.with_columns(polars.Series("o", [object(), 1], dtype=polars.Object)))


def test_one_row_per_combination() -> None:
    """With combinations, the rows of one input row share its index value; the rows of a list or file share its position."""
    frame = pd.DataFrame({"question": TEXTS}, index=["a", "b"])
    assert batchrun.run(frame, epochs=2).index.tolist() == ["a", "a", "b", "b"]
    assert batchrun.run(TEXTS, epochs=2)["epoch"].to_dict() == {0: 2, 1: 2}
    frame.to_csv("q.csv", index=False)
    assert batchrun.run("q.csv", epochs=2).index.tolist() == [0, 0, 1, 1]


def test_a_parquet_output_has_a_timestamp() -> None:
    """A batch over a frame writes `completed_at` as a timestamp, and the file resumes and is read as before."""
    answers = batchrun.run(TEXTS, output="a.parquet")
    assert pq.read_schema("a.parquet").field("completed_at").type == pa.timestamp("us", tz="UTC")
    stored = pd.read_parquet("a.parquet")
    assert stored["completed_at"].tolist() == answers["completed_at"].tolist()


@pytest.mark.parametrize("kind", ["pandas", "arrow", "polars"])
def test_every_kind_resumes_a_batch_over_the_same_cells(kind: str) -> None:
    """The journal belongs to the cells, not to the library that holds them: nothing is sent twice."""
    batchrun.run([{"question": text} for text in TEXTS], output="a.csv")
    cells = {"question": TEXTS}
    made = {"pandas": pd.DataFrame, "arrow": pa.table}
    data = made[kind](cells) if kind in made else pytest.importorskip("polars").DataFrame(cells)
    seen: list[batchrun.Outcome] = []
    answers = batchrun.run(data, output="a.csv", on_outcome=seen.append)
    assert list(answers["response"]) == ANSWERS if kind != "arrow" else answers["response"].to_pylist() == ANSWERS
    assert seen == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "data: expected a pandas, polars or Arrow table, .*, got None$"),
        ({"question": TEXTS}, "got a dict; pandas.DataFrame\\(data\\) makes"),
        ((text for text in TEXTS), "got a generator; list\\(data\\) makes"),
        (pa.array(TEXTS), "got a pyarrow.StringArray; list\\(data\\) makes"),
        ("What is 2 + 2?", "no file 'What is 2 \\+ 2\\?'; prompts are given as a list of texts$"),
        (
            batchrun.score(pd.DataFrame({"response": ["1"], "t": ["1"]}), scorer="exact", target="t"),
            "data.to_frame\\(\\) makes",
        ),
        ([], "data: the list is empty"),
        ([1], "got a list with 1$"),
        (["a", None], "data\\[1\\]: expected a text as in data\\[0\\], got None$"),
        ([{"a": 1}, "b"], "data\\[1\\]: expected a dict as in data\\[0\\], got a str$"),
        ([{1: "a"}], "data\\[0\\]: the key 1 is not a text"),
        (pa.table({}), "data: the table has no columns"),
    ],
)
def test_what_is_not_a_table(data: Any, message: str) -> None:
    """What is not a table is refused in one line: the parameter, what is expected, what was given and what to write."""
    with pytest.raises(InputError, match=message) as caught:
        batchrun.run(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retry_failed": True}, "retry_failed: needs output=..., because without it nothing is kept"),
        ({"max_age": "7d"}, "max_age: needs output="),
        ({"accept_changes": True}, "accept_changes: needs output="),
        ({"wait": True}, "wait: needs output="),
        ({"safe_csv": True}, "safe_csv: needs output="),
        ({"code_interpreter": True}, "code_interpreter: needs output=..., because the files"),
        ({"encoding": "utf-8"}, "data: encoding is for text formats only"),
        ({"prompts": "x"}, "unknown option 'prompts'; did you mean 'prompt'\\?"),
        ({"job": "{{ question }}"}, "job: expected a batchrun.Job, got '{{ question }}'; a prompt is given as prompt="),
    ],
)
def test_options_that_have_no_effect_are_refused(options: dict[str, Any], message: str) -> None:
    """An option that a table in memory without an output cannot honour is refused; so is an unknown one, with the nearest."""
    with pytest.raises(InputError, match=message):
        batchrun.run(TEXTS, **options)
