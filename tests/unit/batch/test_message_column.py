"""Which column of a table is asked as conversations, and the line about the answers at their end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from batchrun.batch.message_column import MessageColumn, answers_notice, default_conversation
from batchrun.tables import ReadOptions, Source, open_source

USER = {"role": "user", "content": "1+1?"}
ANSWER = {"role": "assistant", "content": "2"}
SHAREGPT = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]


def source_of(*rows: dict[str, Any]) -> Source:
    return open_source(pd.DataFrame(list(rows)), ReadOptions())


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ([{"id": 1, "messages": [USER]}], "messages"),
        ([{"id": 1, "messages": json.dumps([USER])}], "messages"),
        ([{"id": 1, "conversations": SHAREGPT}], "conversations"),
        ([{"id": 1, "messages": None}, {"id": 2, "messages": []}, {"id": 3, "messages": [USER]}], "messages"),
        ([{"messages": "see below", "conversations": SHAREGPT}], "conversations"),
        ([{"prompt": [USER], "completion": [ANSWER]}], "prompt"),
        ([{"question": json.dumps([USER])}], "question"),
        ([{"chat": [USER]}], "chat"),
        ([{"id": 1, "messages": str([USER])}], "messages"),
        ([{"id": 1, "messages": None}], "messages"),
        ([{"prompt": "1+1?", "messages": [USER]}], None),
        ([{"question": "1+1?", "messages": [USER]}], None),
        ([{"id": 1, "chat": [USER]}], None),
        ([{"prompt": ["a", "b"]}], None),
        ([{"prompt": [{"text": "a"}]}], None),
        ([{"messages": "Hello"}], None),
        ([{"messages": ["Hello", "there"]}], None),
        ([{"prompt": None}], None),
        ([{"messages": [USER]}, {"messages": "odd"}], "messages"),
        ([{"messages": USER}], "messages"),
        ([{"messages": json.dumps({"messages": [USER]})}], "messages"),
        ([{"prompt": {"role": "user", "content": "1+1?"}}], "prompt"),
        ([{"prompt": {"role": "admin"}}], None),
        ([{"prompt": json.dumps(USER)}], None),
    ],
)
def test_the_default_column(rows: list[dict[str, Any]], column: str | None) -> None:
    """It is `messages` or `conversations` without a column for prompts, or the prompt's own column if it has lists of
    messages; texts stay prompts."""
    assert default_conversation(source_of(*rows)) == (None if column is None else MessageColumn(column))


@pytest.mark.parametrize("column", ["prompt", "question", "chat", "messages"])
@pytest.mark.parametrize("conversation", [[USER], SHAREGPT, json.dumps([USER]), str([USER])])
def test_a_conversation_after_texts(column: str, conversation: Any) -> None:
    """A conversation among the texts of the prompt's column is found, however late it comes."""
    rows = [{column: each} for each in ("1+1?", None, "2+2?", conversation, "3+3?")]
    assert default_conversation(source_of(*rows)) == MessageColumn(column, has_texts=True)
    if column != "messages":
        assert default_conversation(source_of(*reversed(rows))) == MessageColumn(column, has_texts=True)


def test_a_table_without_rows_has_the_column_by_its_name(tmp_path: Path) -> None:
    """A nightly job whose table is empty for once asks the same column as on other nights."""
    (tmp_path / "q.csv").write_text("id,messages\n", encoding="utf-8")
    assert default_conversation(open_source(tmp_path / "q.csv", ReadOptions())) == MessageColumn("messages")
    (tmp_path / "p.csv").write_text("id,prompt\n", encoding="utf-8")
    assert default_conversation(open_source(tmp_path / "p.csv", ReadOptions())) is None


def test_one_line_says_which_messages_are_not_sent() -> None:
    """The line counts the rows that end with an answer, and has the command that makes it a column."""
    source = source_of({"messages": [USER, ANSWER]}, {"messages": [USER]}, {"messages": "odd"}, {"messages": SHAREGPT})
    assert answers_notice(source, "messages", "my rows.jsonl") == (
        "column 'messages': the assistant's message at the end of 2 rows is not sent; "
        "`batchrun convert 'my rows.jsonl' OUTPUT --from messages` makes it the column `target`",
    )
    assert answers_notice(source, "messages", None) == (
        "column 'messages': the assistant's message at the end of 2 rows is not sent",
    )
    assert answers_notice(source_of({"messages": [USER]}), "messages", "q.jsonl") == ()
