"""The examples of docs/guides/rehearsal.md and docs/reference/responders.md, run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batchrun.server.responders.base import Conversation, Message, Responder, TextDelta
from batchrun.server.responders.batch_faults import KINDS, BatchFaults, Line
from batchrun.server.responders.fault_injection import FaultPlan
from batchrun.server.responders.script import ScriptResponder
from batchrun.server.responders.settings_file import SettingsFileError
from batchrun.server.responders.tutor import TutorResponder

DOCS = Path(__file__).parents[4] / "docs"
PAGES = "\n".join(
    (DOCS / page).read_text(encoding="utf-8") for page in ("guides/rehearsal.md", "reference/responders.md")
)
BLOCK = re.compile(r"<!-- (file|ask): (\S+) -->\n```\w+\n(.*?)```", re.S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with all files that the pages show."""
    for kind, name, content in BLOCK.findall(PAGES):
        if kind == "file":
            (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def asked() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the responder and the exchanges of every conversation on the pages."""
    found = BLOCK.findall(PAGES)
    return [(name, re.findall(r"> (.+)\n(.+)\n", text)) for kind, name, text in found if kind == "ask"]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "exchanges"), asked())
async def test_conversations(folder: Path, name: str, exchanges: list[tuple[str, str]]) -> None:
    """Each question on the pages gets the answer below it, in its conversation."""
    responder: Responder = TutorResponder() if name == "tutor" else ScriptResponder(folder / name)
    assert exchanges
    messages: list[Message] = []
    for question, answer in exchanges:
        messages.append(Message("user", question))
        parts = [part async for part in responder.respond(Conversation("any", "", tuple(messages)))]
        text = "".join(part.text for part in parts if isinstance(part, TextDelta))
        assert text == answer
        messages.append(Message("assistant", text))


def test_fault_plan(folder: Path) -> None:
    """The fault plan on the pages does what its comments say."""
    plan = FaultPlan.load(folder / "faults.toml")
    for row, attempt, hit in (("3", "1", True), ("17", "2", True), ("3", "3", False), ("4", "1", False)):
        fault = plan.draw_run({"row": row, "attempt": attempt}, 0)
        assert (fault is not None and fault.code == "rate_limit_exceeded") is hit
    kinds = [fault.kind for n in range(2000) if (fault := plan.draw_http({}, n))]
    assert 60 < kinds.count("http_429") < 140
    assert 15 < kinds.count("drop") < 65
    stalls = [fault for n in range(2000) if (fault := plan.draw_run({}, n))]
    assert 5 < len(stalls) < 45
    assert {(fault.kind, fault.delay_s) for fault in stalls} == {("stall", 2)}


def test_every_key_is_described(tmp_path: Path) -> None:
    """The pages describe every key of rules and faults."""
    path = tmp_path / "wrong.toml"
    for text, load in (
        ('[[rule]]\nreply = "x"\npattern = "x"\nodd = 1', ScriptResponder),
        ('[[fault]]\nkind = "html"\nrate = 1\nodd = 1', FaultPlan.load),
    ):
        path.write_text(text)
        with pytest.raises(SettingsFileError) as caught:
            load(path)
        keys = str(caught.value).partition("known keys: ")[2].split(", ")
        assert len(keys) > 5
        assert [key for key in keys if f"`{key}`" not in PAGES and f"{key} = " not in PAGES] == []


def test_batch_api_faults(folder: Path) -> None:
    """The faults of the Batch API on the page do what their comments say."""
    faults = ScriptResponder(folder / "batch_api.toml").batch_faults
    lines = [Line(number, f"row-{number}", lambda: "Paris or Rome") for number in range(1, 1001)]
    assert 150 < sum(faults.expires(1, line) for line in lines) < 250
    assert not any(faults.expires(2, line) for line in lines)
    assert (faults.retrievals(5, "finalizing"), faults.retrievals(5, "in_progress")) == (3, 0)
    error = faults.line_error(1, lines[0])
    assert error is not None
    assert (error.status, faults.line_error(1, Line(1, "row-1", lambda: "Paris"))) == (429, None)
    lost = [faults.request("create") for _ in range(2)]
    assert [fault is not None and fault.lost_reply for fault in lost] == [True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_a_batch_api_fault_is_described(kind: str) -> None:
    """The page has a row for every kind, with every key."""
    row = next(line for line in PAGES.splitlines() if line.startswith(f"| `{kind}` |"))
    common = {"kind", "batches", "lines", "share", "pattern"}
    assert [key for key in KINDS[kind].model_fields if key not in common and f"`{key}" not in row] == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "odd"}, "key 'kind': expected one of hold, expire"),
        ({}, "key 'kind': expected one of"),
        ({"kind": "expire", "rate": 0.1}, "key 'rate' is unknown; known keys: kind, batches, lines, share, pattern"),
        ({"kind": "hold", "status": "in_progress"}, "key 'retrievals' is missing"),
        ({"kind": "hold", "status": "validating", "retrievals": 1, "share": 0.5}, "only with the status in_progress"),
        ({"kind": "expire", "lines": [1], "share": 0.5}, "give only one of 'lines', 'share' and 'pattern'"),
        ({"kind": "expire", "pattern": "("}, "'pattern' is not a valid regular expression: missing )"),
        ({"kind": "line_error"}, "give a 'status'"),
        ({"kind": "line_error", "status": 302}, "'status' must be 0, 200"),
        ({"kind": "odd_files"}, "set at least one of"),
        ({"kind": "request", "request": "create"}, "give either 'status' (400 to 599) or 'lost_reply = true'"),
    ],
)
def test_a_wrong_batch_api_fault_is_explained(entry: dict[str, object], message: str) -> None:
    """The message names the file, the entry and the key."""
    with pytest.raises(SettingsFileError) as caught:
        BatchFaults.of([{"kind": "expire"}, entry], Path("script.toml"))
    assert str(caught.value).startswith("script.toml: batch_api 2: ")
    assert message in str(caught.value)
