"""The embedded server with a wire and a journal, for tests of uploads and downloads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from openai import OpenAI

from batchrun.engine.limits import Limits
from batchrun.journal import Journal
from batchrun.server import EmbeddedServer, ManualClock, ServerSettings
from batchrun.services.client import Endpoint
from batchrun.services.files.downloads import Downloads
from batchrun.services.files.uploads import Uploads
from batchrun.services.wire import Wire
from tests.integration.server.scripted import Scripted, echo

__all__ = ["PLACE", "Filing", "Started", "filing", "journal_in", "started"]

PLACE = "http://127.0.0.1/v1"


@dataclass(slots=True)
class Filing:
    """A server, and the parts of a batch that uploads and downloads use.

    Attributes:
        client: for looking at the server's objects.
        limits: those of `wire`, which count its requests.
    """

    client: OpenAI
    clock: ManualClock
    limits: Limits
    wire: Wire
    journal: Journal
    folder: Path

    def uploads(self) -> Uploads:
        """Return uploads as a new process of the batch creates them."""
        return Uploads(self.wire, self.journal, PLACE, self.folder)

    def downloads(self) -> Downloads:
        return Downloads(self.wire, self.journal, PLACE, self.folder / "answers.csv.files")

    def names(self) -> list[str]:
        """Return the names of the files at the server, oldest first."""
        return [file.filename for file in self.client.files.list(order="asc")]

    def left(self) -> set[tuple[str, str, str | None]]:
        """Return (kind, id, row) of each object that the journal lists for deletion."""
        created = self.journal.created
        return {
            (made.kind, made.object_id, made.row_key)
            for of_rows in (True, False)
            for made in created.left(PLACE, of_rows=of_rows, followed=True)
        }


def journal_in(folder: Path, batch_id: str = "batch_1") -> Journal:
    journal = Journal(folder / f"{batch_id}.journal")
    journal.write_manifest({"batch_id": batch_id})
    return journal


@dataclass(slots=True)
class Started:
    """A server for many tests, each of which sees only the objects of its own API key."""

    url: str
    clock: ManualClock
    responder: Scripted
    keys: Iterator[str]


@contextmanager
def started() -> Iterator[Started]:
    """Start a server; tests may replace the script of its responder."""
    clock, responder = ManualClock(), Scripted(echo)
    keys = tuple(f"key-of-test-{number}" for number in range(200))
    settings = ServerSettings(shutdown_grace_s=0.05, api_keys=keys)
    with EmbeddedServer(settings, responder, clock=clock) as server:
        yield Started(server.url, clock, responder, iter(keys))


@asynccontextmanager
async def filing(server: Started, folder: Path) -> AsyncIterator[Filing]:
    """Create a client, a wire and a journal with an API key that no other test uses."""
    key, limits = next(server.keys), Limits()
    with OpenAI(base_url=server.url, api_key=key, max_retries=0, timeout=30) as client, journal_in(folder) as journal:
        async with aclosing(Wire(Endpoint(server.url, key), limits, silence_timeout_s=30)) as wire:
            yield Filing(client, server.clock, limits, wire, journal, folder)
