"""Turns, models and matrices as options: valid forms, and one-line messages for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from batchrun.batch.plan import Plan, make_plan
from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.validation import make_job
from tests.support.rows import write_csv

KEYED = Environment(api_key="sk-test")


def problem(**options: Any) -> str:
    with pytest.raises(InputError) as caught:
        make_job(options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- turns --------------------------------------------------------------------------------------------------------


def test_several_prompts_are_turns() -> None:
    """Several `--prompt` are turns; a single one is the prompt."""
    assert make_job({"prompt": ("a", "b")}).turns == [{"prompt": "a"}, {"prompt": "b"}]
    once = make_job({"prompt": ("a",)})
    assert (once.prompt, once.turns) == ("a", None)
    assert make_job({"prompt": "a"}).prompt == "a"


def test_turns_with_conditions() -> None:
    """Turns can be given as tables, in Python or as JSON."""
    turns = [{"prompt": "a"}, {"prompt": "b", "when": "responses[0]"}]
    assert make_job({"turns": turns}).turns == turns
    assert make_job({"turns": '[{"prompt": "a"}]'}).turns == [{"prompt": "a"}]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"turns": []}, "turns: the list is empty"),
        ({"prompt": []}, "--prompt: the list is empty"),
        ({"turns": [{}]}, "turns: turn 1 has no `prompt`"),
        (
            {"turns": [{"prompt": "a"}, {"prompt": "b", "whn": "c"}]},
            "turn 2 has the unknown key 'whn'; expected `prompt`",
        ),
        ({"turns": [{"prompt": "a", "when": "x"}]}, "the first turn cannot have a condition `when`; leave the row out"),
        ({"turns": [{"prompt": 1}]}, "turns[0]['prompt']: input should be a valid string, got 1"),
        ({"turns": "no JSON"}, "turns: the text is not valid JSON"),
        ({"turns": [{"prompt": "a"}], "prompt": "b"}, "the first turn is the prompt"),
        ({"turns": [{"prompt": "a"}], "prompt": ["b", "c"]}, "turns: cannot be combined with several --prompt"),
    ],
)
def test_invalid_turns(options: dict[str, Any], words: str) -> None:
    """The message names the turn and the problem."""
    assert words in problem(**options)


# -- the matrix ---------------------------------------------------------------------------------------------------


def test_several_models_are_an_axis() -> None:
    """Several `--model` are an axis of the matrix; a single one is the model."""
    assert make_job({"model": ("a", "b")}).matrix == {"model": ["a", "b"]}
    assert make_job({"model": ("a", "b"), "matrix": {"temperature": [0]}}).matrix == {
        "temperature": [0.0],
        "model": ["a", "b"],
    }
    assert make_job({"model": ("a",)}).model == "a"


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("prompt", ["a", "b"]),
        ("instructions", ["a", None]),
        ("assistant", ["asst_1", "asst_2"]),
        ("param", [{"seed": 1}, {"seed": 2}]),
        ("attach", [["image"], ["scan", "image"]]),
        ("max_completion_tokens", [10, 20]),
        ("response_format", [None, {"type": "json_object"}]),
    ],
)
def test_axes(axis: str, values: list[Any]) -> None:
    """Every option that affects the answers of rows can be an axis."""
    assert make_job({"matrix": {axis: values}}).matrix == {axis: values}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"matrix": {"modle": ["a"]}}, "matrix: 'modle' is not an option that affects answers; did you mean 'model'?"),
        ({"matrix": {"concurrency": [1]}}, "'concurrency' is not an option that affects answers"),
        ({"matrix": {"epochs": [1, 2]}}, "'epochs' is not an option"),
        ({"matrix": {"model": []}}, "matrix: model has no values"),
        ({"model": []}, "--model: the list is empty"),
        ({"matrix": {"model": "abc"}}, "matrix['model']: input should be a valid list"),
        ({"matrix": {"model": ["a", "a"]}}, "model has the same value twice; use --epochs to repeat rows"),
        ({"matrix": {"temperature": [0, "0.0"]}}, "temperature has the same value twice"),
        ({"matrix": {"instructions": [None, "None"]}}, "instructions has the same value twice"),
        ({"matrix": {"param": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]}}, "param has the same value twice"),
        ({"matrix": {"temperature": [0, 3]}}, "--temperature: must be at most 2, got 3.0"),
        ({"matrix": {"model": ["a"]}, "model": "b"}, "matrix: model is also given outside the matrix"),
        ({"matrix": {"param": [{"a": 1}]}, "param": {"b": 1}}, "matrix: param is also given outside the matrix"),
        ({"matrix": {"prompt": ["a", "b"]}, "prompt": ["c", "d"]}, "prompt cannot be combined with several turns"),
        ({"matrix": {"prompt": [["a", "b"], ["c"]]}}, "matrix: prompt: every value must be one text"),
        ({"matrix": {"prompt": [None, "a"]}}, "matrix: prompt: every value must be one text"),
        ({"matrix": {"model": [["a"], "b"]}}, "matrix: model: every value must be one text"),
        ({"matrix": {"thread_column": ["a", "b"]}}, "thread_column must be the same for all rows; compare two batches"),
        (
            {"matrix": {"code_interpreter": [True, False]}},
            "code_interpreter must be the same for all rows; compare two batches",
        ),
        ({"matrix": {"api": ["chat"]}}, "api must be the same for all rows; compare two batches"),
        ({"matrix": {"turns": [[{"prompt": "a"}]]}}, "turns must be the same for all rows"),
        (
            {"matrix": {"param": [{"service_tier": "flex"}, {}]}},
            "service_tier affects prices and must be the same for all",
        ),
        ({"matrix": "abc", "model": ["a", "b"]}, "matrix: expected a table of options with lists of values"),
        ({"matrix": ["a"], "model": ["a", "b"]}, "matrix: expected a table of options with lists of values"),
        ({"matrix": ["a"]}, "matrix: input should be a valid dictionary"),
        ({"epochs": 0}, "--epochs: must be at least 1, got 0"),
    ],
)
def test_invalid_matrices(options: dict[str, Any], words: str) -> None:
    """A matrix that contradicts another option is refused."""
    assert words in problem(**options)


# -- plans --------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_csv(
        tmp_path / "in.csv",
        [
            {"id": "a", "question": "q0", "thread": "", "image": ""},
            {"id": "b", "question": "q1", "thread": "", "image": ""},
        ],
    )


def plan(table: Path, environment: Environment = KEYED, **options: Any) -> Plan:
    return make_plan(make_job(options), table, environment, table.parent / "out.csv")


def refused(table: Path, environment: Environment = KEYED, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        plan(table, environment, **options)
    return str(caught.value)


def test_a_plan_with_axes(table: Path) -> None:
    """A plan has rows, columns and one job for each combination of settings."""
    made = plan(table, model=["m", "n"], epochs=2, matrix={"instructions": ["a", "b"]})
    assert made.rows == 16
    assert made.source.columns[-3:] == ("axis_instructions", "axis_model", "epoch")
    assert [(variant.instructions, variant.model) for variant in made.variants] == [
        ("a", "m"),
        ("a", "n"),
        ("b", "m"),
        ("b", "n"),
    ]
    assert all(variant.matrix == {} for variant in made.variants)


def test_a_matrix_of_models_overrides_the_environment(table: Path) -> None:
    """If the matrix names models, the model of the environment is not used."""
    environment = Environment(api_key="sk", model="other")
    made = plan(table, environment, matrix={"model": ["m", "n"]})
    assert made.settings["model"] is None
    assert [variant.model for variant in made.variants] == ["m", "n"]


def test_assistants_as_an_axis(table: Path) -> None:
    """Assistants are compared through the Assistants API and need no model."""
    made = plan(table, matrix={"assistant": ["asst_1", "asst_2"]})
    assert made.destination.api == "assistants"
    assert [variant.assistant for variant in made.variants] == ["asst_1", "asst_2"]
    assert "--assistant requires --api assistants" in refused(table, api="chat", matrix={"assistant": ["asst_1"]})


def test_every_combination_needs_a_model(table: Path) -> None:
    """A combination without a model or an assistant is refused."""
    assert "no model given" in refused(table, matrix={"assistant": ["asst_1", None]})


def test_prompts_as_an_axis(table: Path, tmp_path: Path) -> None:
    """Each prompt is a template, files are read, and the column `question` is not sent too."""
    (tmp_path / "p.txt").write_text("from a file: {{ question }}")
    made = plan(table, model="m", matrix={"prompt": ["A {{ question }}", f"@{tmp_path / 'p.txt'}"]})
    texts = [made.prompter.render(row).first.text for row in made.source.rows()]
    assert texts == ["A q0", "from a file: q0", "A q1", "from a file: q1"]
    assert "no column named 'nonsense'" in refused(
        table, model="m", matrix={"prompt": ["{{ question }}", "{{ nonsense }}"]}
    )


def test_columns_that_the_axes_name(table: Path) -> None:
    """A column that only one combination attaches is checked before anything is sent."""
    assert "--attach: no column named 'scan' in the input" in refused(
        table, model="m", matrix={"attach": [["image"], ["scan"]]}
    )


def test_columns_that_are_taken(table: Path) -> None:
    """A column of the input with the name of an added column is refused."""
    write_csv(table, [{"question": "q", "epoch": "1"}])
    assert "the column 'epoch' has the name of a column for combinations" in refused(table, model="m", epochs=2)
    write_csv(table, [{"question": "q", "response_2": "1"}])
    assert "response_2" in refused(table, model="m", prompt=["a", "b"])


def test_keys_with_bars(table: Path) -> None:
    """A key that looks like the key of another row with its combination is distinguished from it or refused."""
    write_csv(table, [{"id": "a", "question": "q"}, {"id": "a|model=m", "question": "r"}])
    made = plan(table, key="id", model=["m", "n"])
    keys = [made.prompter.row_key(row) for row in made.source.rows()]
    assert keys == ["a|model=m", "a|model=n", "a|model=m|model=m", "a|model=m|model=n"]
    write_csv(table, [{"id": "a", "question": "q"}, {"id": "a|epoch=2", "question": "r"}])
    assert "each row needs a unique key" in refused(table, key="id", model="m", epochs=2)


def test_frames_grow_without_becoming_others(tmp_path: Path) -> None:
    """Epochs and axes that are added to a batch over a DataFrame do not change its fingerprint."""
    frame = pd.DataFrame({"question": ["a", "b"]})
    once, twice = (
        make_plan(make_job({"model": "m", "epochs": epochs}), frame, KEYED, tmp_path / "out.csv") for epochs in (1, 2)
    )
    assert once.manifest()["input_fingerprint"] == twice.manifest()["input_fingerprint"]
    assert (once.rows, twice.rows) == (2, 4)


def test_threads_need_a_protocol_that_has_them(table: Path) -> None:
    """Chat completions have no threads that rows could continue."""
    assert "--thread-column requires --api assistants or responses" in refused(
        table, model="m", api="chat", thread_column="thread"
    )
