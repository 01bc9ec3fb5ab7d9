"""The script responder: reproducible answers by the rules of a real file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrun.server.responders.base import (
    Conversation,
    Finish,
    Message,
    Part,
    ResponderError,
    TextDelta,
    TokenCount,
    ToolCall,
    ToolOutput,
)
from batchrun.server.responders.script import ScriptResponder
from batchrun.server.responders.settings_file import SettingsFileError

pytestmark = pytest.mark.anyio

WEATHER = {"type": "function", "function": {"name": "weather"}}


def script(folder: Path, text: str, name: str = "script.toml") -> ScriptResponder:
    (folder / name).write_text(text, encoding="utf-8")
    return ScriptResponder(folder / name)


def asked(text: str, **options: Any) -> Conversation:
    messages = options.pop("messages", (Message("user", text),))
    return Conversation(options.pop("model", "any"), "", messages, **options)


async def parts(responder: ScriptResponder, conversation: Conversation) -> list[Part]:
    return [part async for part in responder.respond(conversation)]


async def said(responder: ScriptResponder, text: str, **options: Any) -> str:
    answer = await parts(responder, asked(text, **options))
    return "".join(part.text for part in answer if isinstance(part, TextDelta))


async def test_first_match_wins(tmp_path: Path) -> None:
    """The first rule in the file that matches the last user message answers; otherwise the default does."""
    responder = script(
        tmp_path,
        """
        [default]
        reply = "nothing fits"
        [[rule]]
        pattern = 'capital of (\\w+)'
        reply = 'I was asked about \\1 in "\\0", and \\\\1 is no group.'
        [[rule]]
        pattern = 'capital'
        reply = "second"
        """,
    )
    assert await said(responder, "capital of France?") == (
        'I was asked about France in "capital of France", and \\1 is no group.'
    )
    assert await said(responder, "capital?") == "second"
    assert await said(responder, "hello") == "nothing fits"
    history = (Message("user", "capital"), Message("assistant", "capital"), Message("user", "hello"))
    assert await said(responder, "", messages=history) == "nothing fits"


async def test_metadata(tmp_path: Path) -> None:
    """A rule with metadata matches only runs that have all of it."""
    responder = script(
        tmp_path,
        """
        [[rule]]
        metadata = { row = "7" }
        pattern = "hello"
        reply = "row seven"
        [default]
        reply = "another"
        """,
    )
    assert await said(responder, "hello", metadata={"row": "7", "batch": "b"}) == "row seven"
    assert await said(responder, "hello", metadata={"row": "8"}) == "another"
    assert await said(responder, "bye", metadata={"row": "7"}) == "another"


async def test_model(tmp_path: Path) -> None:
    """A rule with a model matches only requests for that model, by its full name."""
    responder = script(
        tmp_path,
        """
        [[rule]]
        model = "small"
        reply = "I am small"
        [default]
        reply = "another"
        """,
    )
    assert await said(responder, "hello", model="small") == "I am small"
    assert await said(responder, "hello", model="small-2") == "another"


async def test_times(tmp_path: Path) -> None:
    """A rule with `times` answers its first matches only; then the next rule does."""
    responder = script(
        tmp_path,
        """
        [[rule]]
        times = 2
        reply = "at first"
        [default]
        reply = "later"
        """,
    )
    assert [await said(responder, "x") for _ in range(4)] == ["at first", "at first", "later", "later"]


async def test_times_is_exact_under_concurrency(tmp_path: Path) -> None:
    """Concurrent runs share the count of `times` exactly."""
    responder = script(
        tmp_path,
        """
        [[rule]]
        times = 5
        delay_s = 0.001
        reply = "at first"
        [default]
        reply = "later"
        """,
    )
    texts: list[str] = []

    async def ask() -> None:
        texts.append(await said(responder, "x"))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
    assert texts.count("at first") == 5


async def test_pieces_and_usage(tmp_path: Path) -> None:
    """`deltas` is the number of pieces; `usage` and `finish` are returned as written."""
    responder = script(
        tmp_path,
        """
        [[rule]]
        pattern = "x"
        reply = "abcdefghij"
        deltas = 4
        delta_delay_s = 0.001
        finish = "content_filter"
        usage = { prompt_tokens = 7, completion_tokens = 3, cached_tokens = 2 }
        """,
    )
    answer = await parts(responder, asked("x"))
    assert [part.text for part in answer if isinstance(part, TextDelta)] == ["ab", "cde", "fg", "hij"]
    assert answer[-1] == Finish("content_filter", TokenCount(7, 3, cached_tokens=2))


async def test_completion_tokens_bound(tmp_path: Path) -> None:
    """A reply over max_completion_tokens is cut and finished by `length`."""
    responder = script(tmp_path, '[default]\nreply = "one two three four"')
    answer = await parts(responder, asked("x", max_completion_tokens=2))
    assert "".join(p.text for p in answer if isinstance(p, TextDelta)) == "one two "
    assert answer[-1] == Finish("length")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ('{ code = "rate_limit_exceeded", retry_after_s = 2 }', 429),
        ('{ code = "server_error" }', 500),
        ('{ code = "invalid_prompt" }', 400),
        ('{ code = "server_error", status = 503 }', 503),
    ],
)
async def test_fault(tmp_path: Path, fault: str, status: int) -> None:
    """A fault fails the answer with its code and status before the first piece."""
    responder = script(tmp_path, f'[[rule]]\npattern = "x"\nreply = "y"\nfault = {fault}')
    with pytest.raises(ResponderError) as caught:
        await parts(responder, asked("x"))
    assert caught.value.status_code == status
    assert caught.value.retry_after_s == (2 if status == 429 else None)


async def test_fault_in_the_middle(tmp_path: Path) -> None:
    """A fault with `after_deltas` sends that many pieces first."""
    responder = script(
        tmp_path,
        '[default]\nreply = "one two three"\nfault = { code = "server_error", after_deltas = 2 }',
    )
    seen: list[Part] = []

    async def listen() -> None:
        async for part in responder.respond(asked("x")):
            seen.append(part)

    with pytest.raises(ResponderError):
        await listen()
    assert seen == [TextDelta("one"), TextDelta(" two")]


async def test_tool_calls(tmp_path: Path) -> None:
    """A rule with tool calls makes them, and answers their outputs with `after`, even after its `times`."""
    responder = script(
        tmp_path,
        """
        [[rule]]
        pattern = "weather in (\\\\w+) and (\\\\w+)"
        times = 1
        reply = "Let me look."
        after = "\\\\1: \\\\o1, \\\\2: \\\\o2."
        tool_calls = [
            { name = "weather", arguments = { city = "\\\\1", days = 2 } },
            { name = "weather", arguments = { places = ["\\\\2"] } },
        ]
        """,
    )
    question = Message("user", "weather in Oslo and Rome")
    answer = await parts(responder, asked("", messages=(question,), tools=[WEATHER]))
    calls = tuple(part for part in answer if isinstance(part, ToolCall))
    assert [json.loads(call.arguments) for call in calls] == [
        {"city": "Oslo", "days": 2},
        {"places": ["Rome"]},
    ]
    assert calls[0].id != calls[1].id
    assert answer[-1] == Finish("tool_calls")
    outputs = Message("tool", "", tool_outputs=(ToolOutput(calls[0].id, "rain"), ToolOutput(calls[1].id, "sun")))
    history = (question, Message("assistant", "Let me look.", tool_calls=calls), outputs)
    assert await said(responder, "", messages=history, tools=[WEATHER]) == "Oslo: rain, Rome: sun."


async def test_tool_that_is_not_offered(tmp_path: Path) -> None:
    """A call of a function that the request does not offer fails the run; the error names rule and function."""
    responder = script(tmp_path, '[[rule]]\npattern = "x"\nafter = "y"\ntool_calls = [{ name = "weather" }]')
    with pytest.raises(
        ResponderError, match=r"rule 1 of the script calls the function 'weather', .*; it offers 'time'"
    ):
        await parts(responder, asked("x", tools=[{"type": "function", "function": {"name": "time"}}]))


@pytest.mark.parametrize(("name", "function"), [("code_interpreter", "python"), ("file_search", "file_search")])
async def test_hosted_tools_by_their_protocol_names(tmp_path: Path, name: str, function: str) -> None:
    """A rule calls a hosted tool by the name that requests have for it, and answers its output."""
    responder = script(tmp_path, f'[[rule]]\npattern = "x"\nafter = "\\\\o1"\ntool_calls = [{{ name = "{name}" }}]')
    tools = [{"type": "function", "function": {"name": function}}]
    call = next(part for part in await parts(responder, asked("x", tools=tools)) if isinstance(part, ToolCall))
    assert call.name == function
    history = (
        Message("user", "x"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "", tool_outputs=(ToolOutput(call.id, "42"),)),
    )
    assert await said(responder, "", messages=history, tools=tools) == "42"


async def test_no_match(tmp_path: Path) -> None:
    """Without a match and a default the run fails; the error quotes the text."""
    responder = script(tmp_path, '[[rule]]\npattern = "x"\nreply = "y"')
    with pytest.raises(ResponderError, match="no rule matches 'hello'") as caught:
        await parts(responder, asked("hello"))
    assert caught.value.code == "invalid_prompt"


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl"])
async def test_answers_table(tmp_path: Path, name: str) -> None:
    """Recorded answers match the whole question, after the rules and before the default, and are returned unchanged."""
    if name.endswith(".csv"):
        text = 'q,a\r\n"two\nlines","say ""\\1"""\r\nx,never\r\n'
    else:
        text = '{"q": "two\\nlines", "a": "say \\"\\\\1\\""}\n\n{"q": "x", "a": "never"}\n'
    (tmp_path / name).write_bytes(text.encode("utf-8-sig"))
    responder = script(
        tmp_path,
        f"""
        answers = {{ file = "{name}", question = "q", answer = "a" }}
        [[rule]]
        pattern = "^x$"
        reply = "the rule"
        [default]
        reply = "the default"
        """,
    )
    assert await said(responder, " two\nlines ") == 'say "\\1"'
    assert await said(responder, "x") == "the rule"
    assert await said(responder, "two") == "the default"


async def test_json_lines(tmp_path: Path) -> None:
    """A JSONL script has one rule per line, and the default and the answers under these names."""
    (tmp_path / "a.csv").write_text("question,answer\nq,r\n")
    lines = (
        '{"default": {"reply": "d"}}',
        '{"pattern": "a+", "reply": "\\\\0!"}',
        "",
        '{"answers": {"file": "a.csv"}}',
    )
    responder = script(tmp_path, "\n".join(lines), "script.jsonl")
    assert [await said(responder, text) for text in ("xaay", "q", "z")] == ["aa!", "r", "d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]\n", "script.toml: not valid TOML: .*line 1"),
        ('[[rule]]\npattern = "x"\nrepl = "y"', "script.toml: rule 1: key 'repl' is unknown; known keys: .*reply"),
        ('[[rule]]\npattern = "x"\nreply = 3', "script.toml: rule 1: key 'reply': .*string"),
        ('[[rule]]\npattern = "x"', "script.toml: rule 1: the answer is empty"),
        ('[[rule]]\nreply = "x"', "script.toml: rule 1: the rule matches every request"),
        ('[[rule]]\npattern = "("\nreply = "x"', "script.toml: rule 1: key 'pattern': not a valid regular expression"),
        (
            '[[rule]]\npattern = "a"\nreply = "\\\\2"',
            r"rule 1: key 'reply': \\2 refers to group 2, but the number of groups in the pattern is 0",
        ),
        (
            '[[rule]]\npattern = "a"\nreply = "b"\n[[rule]]\npattern = "a"\ntimes = 0\nreply = "b"',
            "rule 2: key 'times'",
        ),
        ('[default]\nreply = "x"\ntimes = 3', "script.toml: default: key 'times' is unknown"),
        ('[default]\nreply = "\\\\1"', "script.toml: default: key 'reply'"),
        ('[default]\ntool_calls = [{ name = "f" }]', "default: 'tool_calls' and 'after' .* must be given together"),
        ('[default]\nreply = "x"\nfault = { code = "oops" }', "default: key 'fault.code'"),
        ('[default]\nreply = "x"\nfault = { code = "server_error", cod = 1 }', "key 'fault.cod' is unknown$"),
        ("[rules]\n", "script.toml: key 'rules' is unknown"),
        ('answers = { file = "none.csv" }', "none.csv: cannot be read"),
        ('answers = { file = "bad.csv" }', "bad.csv: line 2: no text in column 'question'; the columns are: q, a"),
        ('answers = { file = "twice.csv" }', "twice.csv: line 4: a second, different answer to 'x'"),
        ('answers = { file = "latin.csv" }', "latin.csv: byte 0 is not UTF-8"),
        ('answers = { file = "list.jsonl" }', r"list.jsonl: line 1: expected a JSON object, got \[1\]"),
        ('answers = { file = "half.jsonl" }', "half.jsonl: line 2: not valid JSON"),
    ],
)
async def test_bad_file(tmp_path: Path, text: str, message: str) -> None:
    """Every error in the files is one line with file, place and key."""
    (tmp_path / "bad.csv").write_text("q,a\n1,2\n")
    (tmp_path / "twice.csv").write_text('question,answer\nx,"1\n2"\nx,2\n')
    (tmp_path / "latin.csv").write_bytes(b"\xff\xfeq")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "half.jsonl").write_text('{"question": "a", "answer": "b"}\n{"question')
    with pytest.raises(SettingsFileError, match=message) as caught:
        script(tmp_path, text)
    assert "\n" not in str(caught.value)


async def test_bad_json_lines(tmp_path: Path) -> None:
    """In a JSONL script the place is the line in the file."""
    with pytest.raises(SettingsFileError, match=r"script.jsonl: line 3: key 'repl' is unknown"):
        script(tmp_path, '{"pattern": "a", "reply": "b"}\n\n{"pattern": "a", "repl": "b"}\n', "script.jsonl")
    with pytest.raises(SettingsFileError, match="line 2: 'default' is given a second time"):
        script(tmp_path, '{"default": {"reply": "b"}}\n{"default": {"reply": "b"}}\n', "script.jsonl")
