"""The desk against the embedded server with planned faults: every row is answered, and no line twice."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from batchrun.engine.service import Reply
from batchrun.server import EmbeddedServer, ServerSettings
from batchrun.server.responders.script import ScriptResponder
from tests.support.desk import office

pytestmark = pytest.mark.anyio

FAULTS: dict[str, list[dict[str, Any]]] = {
    "lost replies": [{"kind": "request", "request": each, "lost_reply": True} for each in ("upload", "create")],
    "errors of requests": [
        {"kind": "request", "request": each, "status": 503, "times": 2}
        for each in ("upload", "create", "retrieve", "content")
    ],
    "odd files": [{"kind": "odd_files", "shuffled": True, "repeated": True, "foreign": True, "bytes": True}],
    "late files": [{"kind": "missing_files", "retrievals": 3, "shows": ""}],
    "odd words": [{"kind": "unknown_status", "status": "in_progress", "shows": "working"}, {"kind": "wrong_counts"}],
    "expired lines": [{"kind": "expire", "batches": [1], "lines": [1, 3]}],
    "errors of lines": [{"kind": "line_error", "batches": [1], "status": 0, "lines": [2]}],
    "a full queue": [{"kind": "fail", "code": "token_limit_exceeded", "queue_lines": 2}],
}


@pytest.mark.parametrize(
    ("faults", "api"), list(zip(FAULTS.values(), itertools.cycle(("chat", "responses")), strict=False)), ids=FAULTS
)
async def test_every_row_is_answered(tmp_path: Path, faults: list[dict[str, Any]], api: Any) -> None:
    """Whatever the service does, each row ends with its answer, over both endpoints."""
    entries = [{"default": {"reply": "An answer."}}, *({"batch_api": fault} for fault in faults)]
    script = tmp_path / "script.jsonl"
    script.write_text("\n".join(map(json.dumps, entries)))
    settings = ServerSettings(shutdown_grace_s=0.05)
    with EmbeddedServer(settings, ScriptResponder(script)) as server:
        async with office(server.url, tmp_path, api=api) as desk:
            found = await desk.run(range(4))
            answers = sum(batch.answers for batch in desk.batches())
    assert {row: each.response for row, each in found.items() if isinstance(each, Reply)} == dict.fromkeys(
        range(4), "An answer."
    )
    assert answers == 4
