"""The examples of docs/guides/rehearsal.md and docs/reference/responders.md, run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batchrun.server.responders.base import Conversation, Message, Responder, TextDelta
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
