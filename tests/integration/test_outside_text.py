"""External text (from services, tables, file names) on a terminal: it is shown and never interpreted."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Result, batchrun
from tests.support.scripted_http import Answer, Request, ScriptedHttp, json_answer

OBEYED = "".join(
    chr(code)
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        *(0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
    )
)
"""Every control character of C0, DEL, C1 and of bidirectional text."""
IN_A_CELL = OBEYED.replace("\0", "").replace("\r", "").replace("\n", "")
MARKUP = "[red]x[/red][link=https://evil.example]y[/link]"
EVIL = f"a\x1b]0;owned\x07\x1b[2J{OBEYED}{MARKUP}z"


def shown(done: Result) -> str:
    """Return the printed text, after checking that it has no character that a terminal would interpret."""
    text = done.stdout + done.stderr
    assert not {character for character in text if character in OBEYED and character not in "\n\t"}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            json.loads(line)
    return text


def service(request: Request) -> Answer:
    """Answer with every such character, in each field that reaches a display."""
    asked = request.body["messages"][-1]["content"]
    if "refuse" in asked:
        return json_answer({"error": {"message": EVIL, "code": f"c{EVIL}", "type": EVIL}}, 400)
    message = {"role": "assistant", "content": EVIL}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return json_answer({"id": f"chat{EVIL}", "model": f"m{EVIL}", "choices": choices, "usage": usage})


@pytest.fixture
def server() -> Iterator[ScriptedHttp]:
    """The service."""
    with ScriptedHttp(service) as scripted:
        yield scripted


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Cells and a column name with every such character; three rows, one of which is refused."""
    path = tmp_path / "q.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question", f"col{IN_A_CELL}", "target"])
        for number, question in enumerate(("one", "refuse", "three")):
            writer.writerow([f"k{number}{IN_A_CELL}", f"{question}{IN_A_CELL}", f"cell{IN_A_CELL}", IN_A_CELL])
    return path


def asked(folder: Path, url: str, *options: str) -> Result:
    service = ("--base-url", url, "--model", f"m{IN_A_CELL}", "--api", "chat", "--keep-going")
    return batchrun(folder, "run", "q.csv", "--key", "id", *service, "--prompt", "{{ question }}", *options)


@pytest.mark.parametrize("display", [(), ("--json",), ("--quiet",), ("--pilot", "3"), ("--dry-run",)])
def test_run_shows_no_control_character(
    tmp_path: Path, table: Path, server: ScriptedHttp, display: tuple[str, ...]
) -> None:
    """`run` prints text from services and tables escaped, in every display."""
    assert table.exists()
    shown(asked(tmp_path, server.url, *display))


def test_a_reason_can_be_read(tmp_path: Path, table: Path, server: ScriptedHttp) -> None:
    """Escaped text stays readable, and rich's markup is shown as text."""
    assert table.exists()
    text = shown(asked(tmp_path, server.url))
    assert "\\x1b[2J" in text
    assert "\\u202e" in text
    assert MARKUP in text


def test_every_other_command_shows_no_control_character(tmp_path: Path, table: Path, server: ScriptedHttp) -> None:
    """The same holds for the commands that inspect, score, compare and report a batch."""
    column = f"col{IN_A_CELL}"
    asked(tmp_path, server.url)
    output, key = "outputs/q.csv", f"k0{IN_A_CELL}"
    assert table.exists()
    commands = [
        ("status", output), ("status", output, "--json"), ("costs", output), ("costs", output, "--json"),
        ("show", output, key), ("show", output, key, "--json"), ("show", output, f"k1{IN_A_CELL}"),
        ("show", output, EVIL.replace("\0", "")),
        ("score", output, "--scorer", "exact", "--target", "target", "--by", column),
        ("score", output, "--scorer", "exact", "--target", "target", "--by", column, "--json"),
        ("score", output, "--scorer", "exact", "--target", IN_A_CELL),
        ("compare", output, "--split", column, "--scorer", "exact", "--target", "target"),
        ("compare", output, "q.csv", "--key", "id", "--scorer", "exact", "--target", "target"),
        ("report", output, "--by", column), ("report", output, "--by", IN_A_CELL),
        ("export", output, "-o", "e.csv"), ("export", output, "-o", f"{IN_A_CELL}.xyz"),
        ("cleanup", output), ("cleanup", output, "--dry-run"), ("cleanup", IN_A_CELL),
        ("run", IN_A_CELL), ("run", "q.csv", f"--{IN_A_CELL}"), ("run", "q.csv", "--prompt", "{{ nope }}"),
        ("check", f"{IN_A_CELL}.toml"), ("init", IN_A_CELL), ("convert", IN_A_CELL, "x.csv"),
        ("assistants", "export", IN_A_CELL), ("assistants", "import", IN_A_CELL), (IN_A_CELL,),
    ]  # fmt: skip
    for command in commands:
        shown(batchrun(tmp_path, *command))


def test_an_assistant_brings_no_control_character(tmp_path: Path) -> None:
    """The job file of an exported assistant is printed escaped and is still the same job."""
    (tmp_path / "a.json").write_text(
        json.dumps(
            {"id": "asst_1", "object": "assistant", "model": "m", "instructions": EVIL, "name": EVIL, "tools": []}
        )
    )
    shown(batchrun(tmp_path, "assistants", "import", "a.json"))
