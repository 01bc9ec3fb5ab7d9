"""Files of other tools: known fields are converted, and all others are listed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchrun.cli import cli
from batchrun.errors import InputError
from batchrun.scoring.formats.conversion import Conversion
from batchrun.scoring.formats.convert import FORMATS, WRITTEN, convert
from tests.support.rows import read_csv


def converted(folder: Path, lines: list[dict[str, Any]], **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Convert JSON Lines to JSON Lines; return the lines and the notes."""
    given, output = folder / "in.jsonl", folder / "out.jsonl"
    given.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    count, notes = convert([str(given)], output, Conversion(**options))
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert count == len(rows)
    return rows, notes.lines()


def test_data_of_openai_evals(tmp_path: Path) -> None:
    """The item's fields become columns, a sample becomes the answer, and a missing field stays empty."""
    rows, notes = converted(
        tmp_path,
        [{"item": {"q": "1+1", "tags": ["a"]}, "sample": {"output_text": "2", "seed": 3}}, {"item": {"q": "é"}}],
        from_format="openai-evals",
    )
    assert rows == [
        {"q": "1+1", "tags": ["a"], "response": "2"},
        {"q": "é", "tags": None, "response": None},
    ]
    assert notes == ["not carried over: sample.seed = 3 (1 row)"]


def test_an_exported_run(tmp_path: Path) -> None:
    """Output items give the answer, the status, the tokens and the graders' scores."""
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6, "cached_tokens": 0}
    item = {
        "id": "oi_1",
        "object": "eval.run.output_item",
        "status": "pass",
        "datasource_item": {"q": "1+1"},
        "results": [{"name": "match", "passed": True, "score": 1.0}],
        "sample": {
            "output": [{"role": "assistant", "content": "2"}],
            "model": "m",
            "usage": usage,
            "finish_reason": "stop",
            "error": {"code": "", "message": ""},
        },
    }
    broken = {
        **item,
        "id": "oi_2",
        "sample": {"output": [], "error": {"code": "server_error", "message": "no"}},
        "results": [],
    }
    rows, notes = converted(tmp_path, [item, broken], from_format="openai-evals")
    assert rows[0] == {
        "id": "oi_1",
        "q": "1+1",
        "finish_reason": "stop",
        "eval_status": "pass",
        "reasoning_tokens": None,
        "response": "2",
        "status": "completed",
        "error_type": None,
        "error": None,
        "model": "m",
        **usage,
        "score_match": 1.0,
        "passed_match": True,
    }
    assert (rows[1]["status"], rows[1]["error_type"], rows[1]["score_match"]) == ("failed", "server_error", None)
    assert notes == []


def test_questions_and_conversations_are_one_column(tmp_path: Path) -> None:
    """If one sample is a conversation, all are, so that a run asks the right column of each row."""
    talk = [
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "+1"},
    ]
    short = [{"role": "system", "content": "S"}, {"role": "user", "content": "3"}]
    for form, target in (("openai-evals", "ideal"), ("inspect", "target")):
        lines = [{"input": each, target: "x"} for each in (talk, short, "5")]
        rows, _ = converted(tmp_path, lines, from_format=form)
        wanted = [talk, short, [{"role": "user", "content": "5"}]]
        assert rows == [{"messages": each, "target": "x"} for each in wanted]
    rows, notes = converted(tmp_path, lines[1:], from_format="inspect")
    assert rows == [
        {"question": "3", "instructions": "S", "target": "x"},
        {"question": "5", "instructions": None, "target": "x"},
    ]
    again = "system messages are the column instructions: to ask again, run the table with --instructions '{{ instructions }}'"
    assert notes == [again]
    item = {"id": "i", "datasource_item": {"question": "q"}, "sample": {"input": short, "output": []}, "results": []}
    [row], notes = converted(tmp_path, [item], from_format="openai-evals")
    assert (row["item_question"], row["messages"], "question" in row) == ("q", short, False)
    assert "the item's field 'question' is the column 'item_question' (1 row)" in notes


def test_batch_requests_in(tmp_path: Path) -> None:
    """Chat and responses bodies keep their messages, and instructions are the first of them; settings are listed."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "1+1"}, {"type": "image_url", "image_url": {}}]},
    ]
    rows, notes = converted(
        tmp_path,
        [
            {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": "m", "messages": messages, "temperature": 0.5}},
            {"custom_id": "b", "method": "POST", "url": "/v1/responses",
             "body": {"model": "m", "input": "2+2", "instructions": "Calculate."}},
        ],
        from_format="batch-requests",
    )  # fmt: skip
    assert rows == [
        {"custom_id": "a", "messages": messages},
        {
            "custom_id": "b",
            "messages": [{"role": "system", "content": "Calculate."}, {"role": "user", "content": "2+2"}],
        },
    ]
    assert notes[0] == "not carried over: body.model: use run --model m (2 rows)"
    assert set(notes[1:]) == {
        "not carried over: body.temperature = 0.5 (1 row)",
    }


RESULTS: list[dict[str, Any]] = [
    {"id": "r1", "custom_id": "a", "error": None, "response": {"status_code": 200, "request_id": "x", "body": {
        "id": "chatcmpl-1", "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "2"}}]}}},
    {"id": "r2", "custom_id": "b", "error": None, "response": {"status_code": 200, "request_id": "x", "body": {
        "id": "resp_1", "model": "m", "status": "completed",
        "usage": {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4},
        "output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "4"}]}]}}},
    {"id": "r3", "custom_id": "c", "response": None, "error": {"code": "batch_expired", "message": "too late"}},
    {"id": "r4", "custom_id": "d", "error": None,
     "response": {"status_code": 400, "body": {"error": {"type": "invalid_request_error", "message": "no"}}}},
]  # fmt: skip


def test_batch_results_in(tmp_path: Path) -> None:
    """Answers of both endpoints and both kinds of errors become outcomes."""
    rows, notes = converted(tmp_path, RESULTS, from_format="batch-results")
    assert [(row["custom_id"], row["response"], row["status"], row["error_type"]) for row in rows] == [
        ("a", "2", "incomplete", "max_completion_tokens"),
        ("b", "4", "completed", None),
        ("c", None, "failed", "batch_expired"),
        ("d", None, "failed", "invalid_request_error"),
    ]
    assert [row["prompt_tokens"] for row in rows] == [3, 3, None, None]
    assert [(row["status_code"], row["request_id"], row["batch_request_id"]) for row in rows] == [
        (200, "x", "r1"), (200, "x", "r2"), (None, None, "r3"), (400, None, "r4")
    ]  # fmt: skip
    assert notes == []


def test_batch_results_join_their_table(tmp_path: Path) -> None:
    """Results in any order are matched by key; rows without a result are pending, results without a row are listed."""
    (tmp_path / "q.csv").write_text("id,question,truth\nb,2+2,4\na,1+1,2\nz,0,0\n")
    rows, notes = converted(tmp_path, RESULTS, from_format="batch-results", join=str(tmp_path / "q.csv"), key="id")
    assert [(row["id"], row["truth"], row["response"], row["status"]) for row in rows] == [
        ("b", "4", "4", "completed"),
        ("a", "2", "2", "incomplete"),
        ("z", "0", None, "pending"),
    ]
    assert f"not carried over: results whose custom_id is not in {tmp_path}/q.csv (2 rows)" in notes


def test_a_table_to_join_has_each_key_once(tmp_path: Path) -> None:
    """A result belongs to one row, so a key that occurs twice is refused with its line."""
    (tmp_path / "q.csv").write_text("id,truth\na,4\nb,2\na,3\n")
    with pytest.raises(InputError, match=r"q\.csv, line 4: two rows have the id 'a'; a result belongs to one row"):
        converted(tmp_path, RESULTS, from_format="batch-results", join=str(tmp_path / "q.csv"), key="id")


_MESSAGE = {"role": "assistant", "content": [{"type": "thinking", "thinking": "1+1"}, {"type": "text", "text": "2"}]}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("batch-results", {"custom_id": "a", "response": {"status_code": 200, "body": {"choices": [{"message": _MESSAGE}]}}}),
        ("openai-evals", {"datasource_item": {"q": "1+1"}, "sample": {"output": [_MESSAGE]}}),
        ("inspect", {"eval": {}, "samples": [{"id": 1, "epoch": 1, "input": "1+1", "output": {"choices": [{"message": _MESSAGE}]}}]}),
    ],
)  # fmt: skip
def test_an_answer_beside_a_thought_is_not_lost(tmp_path: Path, given: str, line: dict[str, Any]) -> None:
    """The texts of a content are the answer; its other parts are listed."""
    [row], notes = converted(tmp_path, [line], from_format=given)
    assert (row["response"], row["status"]) == ("2", "completed")
    assert any(note.endswith("content[].thinking = '1+1' (1 row)") for note in notes)


def test_samples_of_inspect(tmp_path: Path) -> None:
    """Input, target, choices and metadata become columns; files and sandboxes are listed."""
    sample = {
        "id": 7,
        "input": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}],
        "target": ["A", "B"],
        "choices": ["x", "y"],
        "metadata": {"level": 3, "target": "other"},
        "sandbox": "docker",
    }
    rows, notes = converted(tmp_path, [sample], from_format="inspect")
    assert rows == [
        {
            "id": 7,
            "question": "Q",
            "instructions": "S",
            "target": ["A", "B"],
            "choices": ["x", "y"],
            "level": 3,
            "metadata_target": "other",
        }
    ]
    assert notes == [
        "the field 'target' of metadata is the column 'metadata_target' (1 row)",
        "system messages are the column instructions: to ask again, run the table with --instructions '{{ instructions }}'",
        "not carried over: sandbox = 'docker' (1 row)",
    ]
    (tmp_path / "again").mkdir()
    back, _ = converted(tmp_path / "again", rows, to_format="inspect")
    del sample["sandbox"]
    assert back == [{**sample, "id": "7", "metadata": {"level": 3, "metadata_target": "other"}}]


def test_tests_of_promptfoo(tmp_path: Path) -> None:
    """Checks with an equivalent scorer become target and check; the others are listed by kind."""
    (tmp_path / "tests.csv").write_text(
        "topic,__expected,__expected2,__description,__metric\n"
        "a,Paris,,first,m\n"
        "b,contains: Paris,,,\n"
        'c,"icontains-any: Paris, Rome",contains:x,,\n'
        "d,llm-rubric: is nice,,,\n"
        "e,not-contains: x,equals:  y ,,\n"
        "f,is-json,,,\n"
        "g,similar(0.8): x,,,\n"
        "h,Note: plain text,,,\n"
    )
    output = tmp_path / "out.jsonl"
    _, notes = convert([str(tmp_path / "tests.csv")], output, Conversion("promptfoo"))
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["topic"], row["check"], row["target"]) for row in rows] == [
        ("a", "exact", "Paris"),
        ("b", "includes:case=keep", "Paris"),
        ("c", "includes", ["Paris", "Rome"]),
        ("d", "model-graded", "is nice"),
        ("e", "exact", "y"),
        ("f", "json", None),
        ("g", "cosine:model=text-embedding-3-large,threshold=0.8", "x"),
        ("h", "exact", "Note: plain text"),
    ]
    assert rows[0]["description"] == "first"
    assert set(notes.lines()) == {
        "not carried over: __metric = 'm' (1 row)",
        "not carried over: __expected: not-contains = 'x' (1 row)",
    }


def test_evals_come_back(tmp_path: Path) -> None:
    """A table written for OpenAI's Evals is read back unchanged."""
    table = [{"q": "1+1", "truth": "2", "response": "2", "model": "m"}]
    lines, _ = converted(tmp_path, table, to_format="openai-evals")
    assert lines == [{"item": {"q": "1+1", "truth": "2"}, "sample": {"output_text": "2", "model": "m"}}]
    assert converted(tmp_path, lines, from_format="openai-evals") == (table, [])


def test_requests_come_back(tmp_path: Path) -> None:
    """A table written as batch requests is read back with its messages, and is then written as the same requests."""
    table = [{"id": "a", "question": "1+1", "instructions": "Be brief.", "truth": "2"}]
    lines, notes = converted(tmp_path, table, to_format="batch-requests", model="m", api="chat")
    assert notes == ["not carried over: truth (1 row)"]
    rows, _ = converted(tmp_path, lines, from_format="batch-requests")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1"}]
    assert rows == [{"custom_id": "a", "messages": messages}]
    assert converted(tmp_path, rows, to_format="batch-requests", model="m", api="chat") == (lines, [])


JOB = """input = "in.jsonl"
key = "id"
model = "m"
prompt = "What is {{ q }}?"
instructions = "Be brief."
schema = "answer.schema.json"
param = { temperature = 0.5 }
"""
ANSWER = {
    "title": "answer",
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_requests_of_a_job(tmp_path: Path, api: str) -> None:
    """The file has what `run` would send: the rendered prompt, instructions, parameters and the schema."""
    (tmp_path / "in.jsonl").write_text('{"id": "a", "q": "1+1", "truth": 2}\n')
    (tmp_path / "answer.schema.json").write_text(json.dumps(ANSWER))
    (tmp_path / "job.toml").write_text(JOB)
    output = tmp_path / "out.jsonl"
    count, notes = convert([str(tmp_path / "job.toml")], output, Conversion(to_format="batch-requests", api=api))
    (line,) = [json.loads(text) for text in output.read_text().splitlines()]
    body = line["body"]
    assert (count, notes.lines(), line["custom_id"], line["method"]) == (1, [], "a", "POST")
    assert (body["model"], body["temperature"]) == ("m", 0.5)
    if api == "responses":
        assert (line["url"], body["input"], body["instructions"]) == ("/v1/responses", "What is 1+1?", "Be brief.")
        assert body["text"]["format"]["schema"] == ANSWER
        assert body["metadata"] == {"row": "a", "attempt": "1"}
    else:
        assert line["url"] == "/v1/chat/completions"
        assert body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is 1+1?"},
        ]
        assert body["response_format"]["json_schema"]["schema"] == ANSWER
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "answer.schema.json", "job.toml", "out.jsonl"}


def test_requests_of_a_table(tmp_path: Path) -> None:
    """Rows may have texts or conversations, with instructions or without; options add what the table does not have."""
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "2"},
    ]
    table: list[dict[str, Any]] = [
        {"prompt": "1+1", "instructions": "Be brief."},
        {"prompt": "{{ x }}", "instructions": None},
        {"prompt": talk, "instructions": ""},
        {"prompt": "", "instructions": ""},
    ]
    lines, notes = converted(tmp_path, table, to_format="batch-requests", model="m", api="chat", param=("seed=7",))
    system = {"role": "system", "content": "Be brief."}
    assert [line["body"]["messages"] for line in lines] == [
        [system, {"role": "user", "content": "1+1"}],
        [{"role": "user", "content": "{{ x }}"}],
        talk,
    ]
    assert [line["custom_id"] for line in lines] == ["row-0", "row-1", "row-2"]
    assert {line["body"]["seed"] for line in lines} == {7}
    assert notes == ["not carried over: rows without a prompt that can be sent: empty_prompt (1 row)"]
    lines, _ = converted(tmp_path, table, to_format="batch-requests", model="m", instructions="In Latin.")
    assert {line["body"]["instructions"] for line in lines} == {"In Latin."}
    assert lines[0]["url"] == "/v1/responses"


def test_requests_of_another_tool(tmp_path: Path) -> None:
    """Samples of inspect_ai become requests, and an error names the file that was given."""
    sample = {"id": "s", "input": "1+1", "target": "2"}
    lines, _ = converted(tmp_path, [sample], from_format="inspect", to_format="batch-requests", model="m")
    assert [(line["custom_id"], line["body"]["input"]) for line in lines] == [("s", "1+1")]
    with pytest.raises(InputError, match=r"in\.jsonl: --key id: 's' is in line 1 and in line 2"):
        converted(tmp_path, [sample, sample], from_format="inspect", to_format="batch-requests", model="m")


@pytest.mark.parametrize(
    ("job", "options", "message"),
    [
        ('stream = true\nmodel = "m"', {}, "--stream: not possible in a request of the Batch API"),
        ('attach = ["q"]\nmodel = "m"', {}, "--attach: not possible"),
        ('api = "assistants"\nmodel = "m"', {}, "the Batch API has no assistants: give --api responses"),
        ('model = "m"', {"to_format": "table"}, "a job file has no rows to convert, except --to batch-requests"),
    ],
)
def test_a_job_without_requests(tmp_path: Path, job: str, options: dict[str, Any], message: str) -> None:
    """What a file of requests cannot hold is refused with the option."""
    (tmp_path / "in.jsonl").write_text('{"q": "1+1"}\n')
    path = tmp_path / "job.toml"
    path.write_text(f'input = "in.jsonl"\n{job}\n')
    with pytest.raises(InputError, match=message):
        convert([str(path)], tmp_path / "o.jsonl", Conversion(**{"to_format": "batch-requests", **options}))
    assert not (tmp_path / "o.jsonl").exists()


def test_the_answer_of_a_conversation_is_its_target(tmp_path: Path) -> None:
    """The assistant's message at the end becomes a column of its own; everything before it stays as it is."""
    user = {"role": "user", "content": "1+1", "weight": 1}
    called = [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}]
    shared = [{"from": "human", "value": "1+1"}, {"from": "gpt", "value": "2"}]
    rows, notes = converted(
        tmp_path,
        [
            {"id": 1, "messages": [user, {"role": "assistant", "content": "2"}]},
            {"id": 2, "messages": [user, *called]},
            {"conversations": shared},
        ],
        from_format="messages",
    )
    assert [(row["messages"], row["conversations"], row["target"]) for row in rows] == [
        ([user], None, "2"),
        ([user, *called], None, None),
        (None, shared[:1], "2"),
    ]
    assert len(notes) == 1
    assert "does not end with an answer" in notes[0]


def test_results_come_back(tmp_path: Path) -> None:
    """Outcomes written as batch results are read back unchanged."""
    rows, _ = converted(tmp_path, RESULTS, from_format="batch-results")
    lines, notes = converted(tmp_path, rows, to_format="batch-results")
    assert [(line["response"] or {}).get("status_code") for line in lines] == [200, 200, None, 400]
    again, _ = converted(tmp_path, lines, from_format="batch-results")
    kept = (
        "custom_id", "response", "status", "error_type", "error", "model", "total_tokens", "status_code", "request_id",
        "batch_request_id",
    )  # fmt: skip
    assert [[row[key] for key in kept] for row in again] == [[row[key] for key in kept] for row in rows]
    assert notes == []


def test_csv_keeps_what_it_can(tmp_path: Path) -> None:
    """In CSV, lists become JSON text, with a note; no cell breaks a line."""
    (tmp_path / "in.jsonl").write_text('{"item": {"q": "a\\nb,\\"c\\"", "l": [1, 2], "n": 1.0, "e": null}}\n')
    _, notes = convert([str(tmp_path / "in.jsonl")], tmp_path / "out.csv", Conversion("openai-evals"))
    assert read_csv(tmp_path / "out.csv") == [{"q": 'a\nb,"c"', "l": "[1,2]", "n": "1", "e": ""}]
    assert notes.lines() == ["lists and objects became JSON text in CSV; write .jsonl to keep them (1 row)"]


def test_parquet_keeps_types(tmp_path: Path) -> None:
    """Numbers, booleans and missing cells are unchanged; nested and mixed values become JSON text, with a note."""
    rows: list[dict[str, Any]] = [
        {"q": "é", "n": 1, "x": 0.5, "b": True, "l": [1, 2], "m": 1},
        {"q": None, "n": None, "x": 2.0, "b": None, "l": None, "m": "one"},
    ]
    lines = "".join(json.dumps({"item": row}) + "\n" for row in rows)
    (tmp_path / "in.jsonl").write_text(lines, encoding="utf-8")
    count, notes = convert([str(tmp_path / "in.jsonl")], tmp_path / "t.parquet", Conversion("openai-evals"))
    assert count == 2
    assert set(notes.lines()) == {
        f"{name}: lists, objects or values of several types became JSON text in Parquet (2 rows)" for name in "lm"
    }
    columns = pq.read_table(tmp_path / "t.parquet").to_pydict()
    assert columns == {
        "q": ["é", None], "n": [1, None], "x": [0.5, 2.0], "b": [True, None], "l": ["[1,2]", None], "m": ["1", '"one"']
    }  # fmt: skip


def test_parquet_comes_back(tmp_path: Path) -> None:
    """Rows that went through Parquet, and through CSV to Parquet, are the same rows."""
    rows = [{"id": index, "q": f"a,\r{index}\n", "share": index / 4, "right": index > 1} for index in range(600)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for given, output in (
        ("a.jsonl", "b.parquet"),
        ("b.parquet", "c.jsonl"),
        ("c.jsonl", "d.csv"),
        ("d.csv", "e.parquet"),
    ):
        count, notes = convert([str(tmp_path / given)], tmp_path / output, Conversion())
        assert (count, notes.lines()) == (600, [])
    assert [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()] == rows
    assert pq.read_table(tmp_path / "e.parquet").to_pylist()[3] == {
        "id": "3",
        "q": "a,\r3\n",
        "share": "0.75",
        "right": "true",
    }


def test_tests_of_promptfoo_come_back(tmp_path: Path) -> None:
    """A round trip keeps variables, checks, targets, descriptions and answers."""
    tests = (
        "topic,__expected,__description,__providerOutput\n"
        "a,Note: plain text,first,said\n"
        "b,contains:Paris,,\n"
        'c,"icontains-any: Paris, Rome",,\n'
        "d,is-json,,\n"
        "e,,,\n"
        "f,equals:llm-rubric: x,,\n"
    )
    (tmp_path / "tests.csv").write_text(tests)
    convert([str(tmp_path / "tests.csv")], tmp_path / "t.jsonl", Conversion("promptfoo"))
    count, notes = convert([str(tmp_path / "t.jsonl")], tmp_path / "again.csv", Conversion(to_format="promptfoo"))
    assert (count, notes.lines()) == (6, [])
    convert([str(tmp_path / "again.csv")], tmp_path / "u.jsonl", Conversion("promptfoo"))
    first, second = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in ("t.jsonl", "u.jsonl")
    )
    assert second == [{key: value or "" for key, value in row.items()} | {
        key: row[key] for key in ("check", "target")} for row in first]  # fmt: skip
    assert [row["__expected"] for row in read_csv(tmp_path / "again.csv")] == [
        "equals:Note: plain text", "contains:Paris", "icontains-any:Paris, Rome", "is-json", "",
        "equals:llm-rubric: x",
    ]  # fmt: skip


def test_what_promptfoo_has_no_place_for_is_listed(tmp_path: Path) -> None:
    """Notes name scorers without a check, lists that no check supports, outcomes, and cells that promptfoo would
    render."""
    rows: list[dict[str, Any]] = [
        {"q": "{{ env.HOME }}", "answer": "1", "check": "numeric", "response": "1", "status": "completed", "__m": "x"},
        {"q": "b", "answer": ["a", "b"], "check": "exact", "response": "a", "status": "completed"},
        {"q": "c", "answer": ["a,b"], "check": "includes", "response": "a", "status": "completed"},
        {"q": "d", "answer": {"a": 1}, "check": "json", "response": "{}", "status": "completed"},
        {"q": "e", "answer": 3.0, "check": None, "response": "3", "status": "completed"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, notes = convert([str(tmp_path / "in.jsonl")], tmp_path / "o.csv", Conversion(to_format="promptfoo"))
    assert set(notes.lines()) == {
        "not carried over: status (5 rows)",
        "not carried over: target: lists for the check exact, or with a comma in a member (2 rows)",
        "not carried over: check: numeric (1 row)",
        "not carried over: target: targets of the check json (1 row)",
        "not carried over: __m (1 row)",
        "not carried over: cells with {{, {% or file://, which promptfoo reads as templates and files (1 row)",
    }
    assert [(row["q"], row["__providerOutput"], row["__expected"]) for row in read_csv(tmp_path / "o.csv")] == [
        ("{{ env.HOME }}", "1", ""), ("b", "a", ""), ("c", "a", ""), ("d", "{}", ""), ("e", "3", "equals:3")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "output", "options", "message"),
    [
        ({"a": 1}, "o.csv", {"from_format": "openai-evals"}, r"in\.jsonl, line 1: expected an object of OpenAI"),
        ({"a": 1}, "o.csv", {"from_format": "batch-requests"}, "line 1: expected a request of the Batch API"),
        ({"a": 1}, "o.csv", {"from_format": "messages"}, "line 1: expected a row with a column `messages`"),
        ({"messages": "Hello"}, "o.csv", {"from_format": "messages"}, "column 'messages': expected a list of messages"),
        ({"messages": "[]", "target": "2"}, "o.csv", {"from_format": "messages"}, "has a column 'target' already"),
        ({"a": 1}, "o.csv", {"from_format": "batch-results"}, "line 1: expected a result of the Batch API"),
        ({"a": 1}, "o.csv", {"from_format": "inspect"}, "line 1: expected a log of inspect_ai, or a sample"),
        ({"a": 1}, "o.jsonl", {}, "input and output have the same format; choose another with --from or --to"),
        ({"a": 1}, "o.parquet", {"to_format": "promptfoo"}, r"--to promptfoo writes \.csv"),
        ({"a": 1}, "o.csv", {"to_format": "inspect"}, r"--to inspect writes \.jsonl"),
        ({"a": 1}, "o.jsonl", {"to_format": "inspect"}, "name it with --prompt COLUMN"),
        ({"a": 1}, "o.jsonl", {"to_format": "inspect", "prompt": "b"}, "--prompt b: the table has no such column"),
        ({"a": 1}, "o.jsonl", {"to_format": "batch-requests"}, "add --model NAME"),
        (
            {"a": 1},
            "o.jsonl",
            {"to_format": "inspect", "api": "chat"},
            "--api is an option of --to batch-requests only",
        ),
        ({"a": 1}, "o.jsonl", {"from_format": "inspect", "join": "x"}, "--join requires --from batch-results"),
        ({"a": 1}, "in.jsonl", {"from_format": "inspect"}, "the output is the input file itself"),
    ],
)
def test_what_cannot_be_converted(
    tmp_path: Path, line: dict[str, Any], output: str, options: dict[str, Any], message: str
) -> None:
    """One line names the file, the line and the expected content; nothing is written."""
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(InputError, match=message):
        convert([str(path)], tmp_path / output, Conversion(**options))
    assert path.read_text() == json.dumps(line) + "\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("given", [name for name in FORMATS if name != "table"])
@pytest.mark.parametrize("odd", [None, 1, "x", [1], {"a": [1]}, [[]], [{"content": 3}]])
def test_odd_files_give_a_table_or_one_line(tmp_path: Path, given: str, odd: Any) -> None:
    """If a file does not follow its format, the result is a table or one line."""
    line: dict[str, Any] = {"datasource_item": {"q": 1}, "sample": odd, "results": odd, "input": odd, "metadata": odd}
    line |= {"custom_id": odd, "response": odd, "error": odd, "body": {"messages": odd, "choices": odd, "output": odd}}
    replies = {**line, "response": {"status_code": 200, "body": {"choices": odd, "output": odd, "usage": odd}}}
    with suppress(InputError):
        rows, _ = converted(tmp_path, [line, replies], from_format=given)
        assert len(rows) == 2


def test_the_command_line_offers_every_format() -> None:
    """Every format can be chosen, and docs/reference/formats.md has a line for each."""
    offered = {param.name: getattr(param.type, "choices", ()) for param in cli.commands["convert"].params}
    assert tuple(offered["from_format"]) == FORMATS
    assert set(offered["to_format"]) == set(WRITTEN)
    page = (Path(__file__).parents[4] / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")
    assert [name for name in FORMATS if f"`{name}`" not in page and name != "table"] == []
