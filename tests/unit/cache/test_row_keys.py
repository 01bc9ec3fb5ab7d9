"""The key of an answer: every setting that changes a request changes it, and no other."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from batchrun.batch.plan import make_plan
from batchrun.cache import Uncacheable, service_identity
from batchrun.job.environment import Environment
from batchrun.job.options import Job
from batchrun.job.validation import make_job
from batchrun.prompts.templates import PromptError
from tests.support.rows import write_csv

URL = "http://127.0.0.1:9/v1"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
ROW = {"question": "What is 6 * 7?", "other": "What is 6 * 7?", "file": "note.txt", "twin": "twin/note.txt"}


def keys(folder: Path, *rows: dict[str, str], **options: Any) -> list[bytes]:
    """Return the keys of a batch over some rows."""
    for name, text in (("note.txt", "a note"), ("twin/note.txt", "a note"), ("more.md", "more"), ("same.md", "more")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    table = write_csv(folder / "q.csv", list(rows or (ROW,)))
    job = make_job({"model": "m", "base_url": URL, "prompt": "{{ question }}", "cache": "c.cache", **options})
    plan = make_plan(job, table, Environment(), folder / "out.csv")
    assert plan.cache is not None
    prompts = [plan.prompter.render(row) for row in plan.source.rows()]
    return [plan.cache.keys.digest_of(prompt) for prompt in prompts]


TWO_TURNS = [{"prompt": "{{ question }}"}, {"prompt": "And {{ other }}?"}]
CHANGES: dict[str, list[dict[str, Any]]] = {
    "prompt": [{"prompt": "Say: {{ question }}"}, {"prompt": " {{ question }}"}],
    "turns": [
        {"prompt": None, "turns": TWO_TURNS},
        {"prompt": None, "turns": [*TWO_TURNS[:1], {**TWO_TURNS[1], "when": "true"}]},
        {"prompt": None, "turns": [*TWO_TURNS, {"prompt": "more"}]},
    ],
    "instructions": [{"instructions": "Be brief."}],
    "model": [{"model": "n"}],
    "temperature": [{"temperature": 0}, {"temperature": 0.5}],
    "top_p": [{"top_p": 0.5}],
    "max_completion_tokens": [{"max_completion_tokens": 9}],
    "attach": [{"attach": ["file"]}],
    "schema": [{"schema": SCHEMA}, {"schema": {**SCHEMA, "title": "T"}}],
    "file_search": [{"file_search": [name], "api": "responses"} for name in ("note.txt", "more.md", "same.md")],
    "api": [{"api": "responses"}, {"api": "assistants"}],
    "base_url": [{"base_url": URL + "/other"}, {"base_url": "https://127.0.0.1:9/v1"}],
    "assistant": [{"assistant": "asst_1", "model": None, "api": "assistants"}],
    "param": [{"param": {"seed": 1}}, {"param": {"seed": 0}}, {"param": {"service_tier": "flex"}}],
    "response_format": [{"response_format": {"type": "json_object"}}],
    "keep": [{"keep": ["logprobs"]}, {"keep": ["raw"]}, {"keep": ["raw", "logprobs"]}],
    "header": [{"header": {"X-Backend": "blue"}}],
    "query": [{"query": {"backend": "blue"}}],
}
"""Options → values that give another request each."""

ELSEWHERE = {
    "code_interpreter": "not cached",
    "functions": "not cached",
    "thread_column": "not cached",
    "messages": "test_conversations",
    "examples": "test_conversations",
    "matrix": "test_combinations_and_epochs",
    "epochs": "test_combinations_and_epochs",
    "azure": "test_the_service",
    "api_version": "test_the_service",
}
"""Options that change a request, and where they are checked."""

SAME: dict[str, Any] = {
    "output": Path("other.csv"),
    "journal": Path("work/other.csv.journal"),
    "output_delimiter": ";",
    "bom": True,
    "output_prefix": "x_",
    "safe_csv": True,
    "key": "question",
    "constant_prompt": True,
    "schema_retries": 5,
    "dedupe": True,
    "fallback_model": "n",  # its answers are not stored
    "tool_timeout": 5.0,
    "max_tool_rounds": 2,
    "stream": True,
    "where": "question",
    "sample": 1,
    "limit": 1,
    "organization": "org",
    "project": "proj",
    "concurrency": 3,
    "workers": 2,
    "ray": "local",
    "rpm": 9.0,
    "tpm": 99.0,
    "max_attempts": 2,
    "row_timeout": 9.0,
    "silence_timeout": 9.0,
    "max_outage": 9.0,
    "keep_going": True,
    "grace": 1.0,
    "prices": {"m": {"input": 1.0, "output": 1.0}},
    "budget": 1.0,
    "cache": Path("other.cache"),
    "fresh": True,
    "accept_changes": True,
    "retry_failed": True,
    "max_age": "1h",
    "wait": True,
    "delete_threads": True,
    "ping": "http://127.0.0.1:9/ping",
}
"""Options that change no answer, each with another value than its default."""

UNCHECKED = {
    *("encoding", "delimiter", "no_header", "skip_rows", "format", "sheet"),  # how the table is read: the rows decide
    *("tools", "script", "store"),  # no cache, or no service
    *("poll", "background", "conversation"),  # ways to send a request, each in one protocol
    "seed",  # needs --sample
    "batch_api",  # chooses another protocol, which is in the key
    *("no_wait", "batch_deadline", "batch_size", "batch_poll"),  # need --batch-api
}


def test_every_option_is_accounted_for() -> None:
    """Whoever adds an option says whether it changes the key."""
    assert {f.name for f in fields(Job)} == CHANGES.keys() | ELSEWHERE.keys() | SAME.keys() | UNCHECKED


def test_settings_that_change_the_request_change_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two of the settings have the same key."""
    monkeypatch.chdir(tmp_path)
    found = {str({}): keys(tmp_path)[0]}
    for options in (each for values in CHANGES.values() for each in values):
        found[str(options)] = keys(tmp_path, **options)[0]
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("name", SAME)
def test_settings_that_do_not_change_the_request_keep_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Limits, output and resuming are not in the key."""
    monkeypatch.chdir(tmp_path)
    assert keys(tmp_path, **{name: SAME[name]}) == keys(tmp_path)


def test_the_key_is_the_same_in_all_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache outlives a version: if this fails, KEY_VERSION has to change, and every cached answer is paid again."""
    monkeypatch.chdir(tmp_path)
    found = [
        keys(tmp_path, instructions="Be brief.", temperature=0, param={"seed": 1})[0].hex(),
        keys(tmp_path, prompt=None, turns=TWO_TURNS, attach=["file"], api="responses")[0].hex(),
    ]
    assert found == [
        "ba05cfcc5939c694349e64530a4b4e4920c152c723564c6b09f3ddccf8bac348",
        "a5d13e305a4bb9193fae6fba5900637b83a3834a2ebc95a03d9e721711a2ed39",
    ]


def test_settings_of_single_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row with a template for a setting has the key of a batch with that value as its setting."""
    monkeypatch.chdir(tmp_path)
    rows = [{**ROW, "x": "1"}, {**ROW, "x": "2"}]
    for name, template, values in (
        ("model", "m-{{ x }}", ["m-1", "m-2"]),
        ("instructions", "Be {{ x }}.", ["Be 1.", "Be 2."]),
        ("param", {"seed": "{{ x | int }}", "a": 1}, [{"seed": 1, "a": 1}, {"seed": 2, "a": 1}]),
    ):
        found = keys(tmp_path, *rows, **{name: template})
        assert found == [keys(tmp_path, **{name: value})[0] for value in values]
    tools = [{"type": "{{ x }}", "function": {"name": "f", "parameters": {}}}]
    with pytest.raises(Uncacheable, match="function tools"):
        keys(tmp_path, {**ROW, "x": "function"}, param={"tools": tools})


def conversation(text: str, system: str = "Be brief.", image: str | None = None) -> str:
    """Return a conversation as the cell of a table."""
    content: Any = text
    if image is not None:
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": image}}]
    return json.dumps([{"role": "system", "content": system}, {"role": "user", "content": content}])


def test_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message and every example counts; an image counts by its content, and a URL has no key."""
    monkeypatch.chdir(tmp_path)
    for name, answer in (("one.csv", "2"), ("two.csv", "3")):
        write_csv(tmp_path / name, [{"question": "1+1", "answer": answer}])
    cells = [
        conversation("a"),
        conversation("a", "Be long."),
        conversation("a", image="data:image/png;base64,AAAA"),
        conversation("a", image="data:image/png;base64,AAAB"),
        conversation("a\n[image data:image/png;base64, 26 characters]"),
    ]
    rows = [{"chat": cell} for cell in cells]
    found = [
        *keys(tmp_path, *rows, prompt=None, messages="chat"),
        *keys(tmp_path, *rows[:1], prompt=None, messages="chat", examples="one.csv"),
        *keys(tmp_path, *rows[:1], prompt=None, messages="chat", examples="two.csv"),
        *keys(tmp_path),
        *keys(tmp_path, examples="one.csv"),
    ]
    assert len(set(found)) == len(found)
    other = [{"messages": rows[0]["chat"]}]
    assert keys(tmp_path, *other, prompt=None, messages="messages") == found[:1]
    with pytest.raises(Uncacheable, match="by URL"):
        keys(tmp_path, {"chat": conversation("a", image="https://example.org/a.png")}, prompt=None, messages="chat")


def test_the_source_of_a_prompt_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another table, column, template or folder with the same rendered prompt and the same files has the same key."""
    monkeypatch.chdir(tmp_path)
    assert keys(tmp_path, prompt="{{ other }}") == keys(tmp_path)
    assert keys(tmp_path, {**ROW, "question": "6 * 7"}, prompt="What is {{ question }}?") == keys(tmp_path)
    assert keys(tmp_path, attach=["twin"]) == keys(tmp_path, attach=["file"])
    text = tmp_path / "system.txt"
    text.write_text("Be brief.")
    assert keys(tmp_path, instructions=f"@{text}") == keys(tmp_path, instructions="Be brief.")


def test_an_attachment_counts_by_its_content_and_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited file, a file of another name, and a file more give other keys."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copy.txt").write_text("a note")
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited/note.txt").write_text("A note")
    cells = ("note.txt", "copy.txt", "edited/note.txt", "note.txt\ncopy.txt", "copy.txt\nnote.txt")
    rows = [{**ROW, "file": cell} for cell in cells]
    found = keys(tmp_path, *rows, attach=["file"])
    assert len(set(found)) == len(rows)


def test_later_turns_count_with_the_cells_that_they_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell of a later turn changes the key, and so does one that a condition uses; another one does not."""
    monkeypatch.chdir(tmp_path)
    rows = [{**ROW, "other": "a"}, {**ROW, "other": "b"}]
    for turn in ({"prompt": "{{ other }}"}, {"prompt": "x", "when": "other"}, {"prompt": "{{ row['other'] }}"}):
        one, two = keys(tmp_path, *rows, prompt=None, turns=[{"prompt": "{{ question }}"}, turn])
        assert one != two
    one, two = keys(tmp_path, *rows, prompt=None, turns=[{"prompt": "{{ question }}"}, {"prompt": "{{ file }}"}])
    assert one == two


def test_combinations_and_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A combination has the key of a batch with its settings alone; every epoch has a key of its own."""
    monkeypatch.chdir(tmp_path)
    found = keys(tmp_path, model=None, matrix={"model": ["m", "n"], "temperature": [0, 1]}, epochs=2)
    assert len(set(found)) == 8
    alone = [keys(tmp_path, model=model, temperature=heat)[0] for model in "mn" for heat in (0, 1)]
    assert found[::2] == alone


@pytest.mark.parametrize(
    ("cells", "options", "reason"),
    [
        ({"thread": "thread_1"}, {"thread_column": "thread", "api": "assistants"}, "existing thread"),
        ({"file": "https://example.org/a.png"}, {"attach": ["file"]}, "by URL"),
        ({"file": "gone.txt"}, {"attach": ["file"]}, "cannot be read"),
    ],
)
def test_rows_without_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: dict[str, str], options: dict[str, Any], reason: str
) -> None:
    """A row whose request cannot be known has no key."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((Uncacheable, PromptError), match=reason):
        keys(tmp_path, {**ROW, **cells}, **options)


def test_the_service() -> None:
    """The service is its URL and what selects a backend there; credentials are left out, spellings do not matter."""
    plain = service_identity(None, None, {}, {})
    same = [
        service_identity("https://API.openai.com:443/v1/", None, {}, {}),
        service_identity(None, None, {"Authorization": "Bearer a", "X-Api-Key": "b", "Cookie": "c"}, {"key": "d"}),
    ]
    assert {plain, *same} == {plain}
    others = [
        service_identity("https://api.openai.com/v2", None, {}, {}),
        service_identity("http://api.openai.com/v1", None, {}, {}),
        service_identity("https://api.openai.com:8443/v1", None, {}, {}),
        service_identity("https://eu.api.openai.com/v1", None, {}, {}),
        service_identity(None, "2025-01-01", {}, {}),
        service_identity(None, None, {"X-Tokenizer": "a"}, {}),
        service_identity(None, None, {}, {"keyboard": "a"}),
    ]
    assert len({plain, *others}) == len(others) + 1
