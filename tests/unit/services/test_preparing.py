"""Before the first row: uploads may take long, but a service must answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from batchrun.errors import ServerFault, Silence
from batchrun.prompts.local_files import matching_files
from batchrun.services.assistants import AssistantSettings, AssistantsService
from batchrun.services.files.uploads import UPLOAD_ATTEMPTS, Uploads
from batchrun.services.wire import Wire
from tests.support.filing import PLACE, journal_in

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Service:
    """A service of files in virtual time.

    Attributes:
        refused: uploads that end with a fault before one is taken.
        taking_in: looks at the store for each file that it takes in; None for a store that stands still.
    """

    def __init__(self, *, refused: int = 0, takes_s: float = 0.0, taking_in: int | None = 1) -> None:
        self.refused = refused
        self.takes_s = takes_s
        self.taking_in = taking_in
        self.uploaded: list[str] = []
        self.looks = 0

    async def post_file(self, path: str, fields: Mapping[str, str], name: str, *_: Any) -> dict[str, str]:
        await anyio.sleep(self.takes_s)
        if self.refused:
            self.refused -= 1
            raise ServerFault("busy", error_type="server_error", status_code=503)
        self.uploaded.append(name)
        return {"id": f"file-{name}"}

    async def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, str]:
        return {"id": "vs_1" if path == "/vector_stores" else "vsfb_1"}

    async def get(self, path: str, headers: Mapping[str, str], **_: Any) -> tuple[dict[str, Any], dict[str, str]]:
        self.looks += 1
        done = 0 if self.taking_in is None else self.looks // self.taking_in
        left = max(0, len(self.uploaded) - done)
        status = "in_progress" if left else "completed"
        return {"status": status, "file_counts": {"in_progress": left, "completed": done}}, {
            "openai-poll-after-ms": "60000"
        }


class Mute:
    """A service that accepts requests and never answers."""

    async def post(self, *_: Any) -> Any:
        await anyio.sleep_forever()


async def searched(service: Service, folder: Path, files: int) -> str:
    for number in range(files):
        (folder / f"{number}.md").write_text(f"text {number}")
    with journal_in(folder) as journal:
        uploads = Uploads(cast(Wire, service), journal, PLACE, folder)
        return await uploads.vector_store(matching_files(["*.md"], folder), name="x")


async def test_uploads_may_take_their_time(tmp_path: Path) -> None:
    """Forty uploads of a minute each, and half an hour of indexing, are not a fault."""
    service = Service(takes_s=60.0, taking_in=1)
    assert await searched(service, tmp_path, 40) == "vs_1"
    assert len(service.uploaded) == 40


async def test_some_uploads_meet_a_fault_that_passes(tmp_path: Path) -> None:
    """Uploads that meet a transient error are repeated, and the others continue."""
    service = Service(refused=UPLOAD_ATTEMPTS - 1)
    await searched(service, tmp_path, 12)
    assert sorted(service.uploaded) == sorted(f"{number}.md" for number in range(12))


async def test_uploads_that_never_go_through(tmp_path: Path) -> None:
    """Uploads that always fail end with the service's own message after so many attempts in a row."""
    service = Service(refused=1_000)
    with pytest.raises(ServerFault, match="busy"):
        await searched(service, tmp_path, 1)
    assert service.refused == 1_000 - UPLOAD_ATTEMPTS


async def test_a_store_that_stands_still(tmp_path: Path) -> None:
    """A store that indexes nothing for a quarter of an hour is given up, with the number of files left."""
    service = Service(taking_in=None)
    with pytest.raises(Silence) as raised:
        await searched(service, tmp_path, 3)
    assert str(raised.value) == "--file-search: the service has indexed no file for 15 minutes; files left: 3"


async def test_a_service_that_never_answers() -> None:
    """If an assistant must be created, half a minute of silence is a timeout."""
    settings = AssistantSettings(
        model="m", instructions=None, assistant_id=None, known_assistant_id=None, name="batchrun b", metadata={}
    )
    began = anyio.current_time()
    with pytest.raises(Silence, match="no answer within 30 s"):
        await AssistantsService(cast(Wire, Mute()), settings).prepare()
    assert anyio.current_time() - began == pytest.approx(30.0)
