"""The files of a batch, for all of its services: attachments, files to search, and files that runs produce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread

from batchrun.errors import PermanentFault
from batchrun.prompts.attachments import AttachmentError, Attachments
from batchrun.prompts.local_files import LocalFile
from batchrun.records import Attachment, JsonObject, Turn
from batchrun.services.files.downloads import Downloads
from batchrun.services.files.messages import (
    MessageContent,
    assistants_message,
    chat_content,
    responses_message,
    tools_for,
)
from batchrun.services.files.produced import Produced
from batchrun.services.files.uploads import Uploads

__all__ = ["RowFiles"]


class RowFiles:
    """Translates the files of a batch for each protocol; shared by the services of the batch.

    Mutable state: the id of the vector store, after `prepare` has created it or found it again.
    """

    def __init__(
        self,
        uploads: Uploads,
        downloads: Downloads,
        *,
        folder: Path,
        searched: Sequence[LocalFile] = (),
        code_interpreter: bool = False,
        batch_id: str = "",
    ) -> None:
        """
        Args:
            folder: relative paths of attachments are relative to this folder.
            searched: files that the model may search.
            code_interpreter: the model may run code.
            batch_id: for the name of the vector store.
        """
        self._uploads = uploads
        self._downloads = downloads
        self._folder = folder
        self._searched = searched
        self._batch_id = batch_id
        self._attachments = Attachments()
        self._store_id: str | None = None
        self._preparing = anyio.Lock()
        self.code_interpreter = code_interpreter

    async def prepare(self) -> None:
        """Upload the files to search, once.

        Raises:
            ServiceFault: the service refused a file, or cannot take it now.
        """
        async with self._preparing:
            if self._searched and self._store_id is None:
                name = f"batchrun {self._batch_id}"
                self._store_id = await self._uploads.vector_store(self._searched, name=name)

    # -- requests ----------------------------------------------------------------------------------------

    def assistants_tools(self, thread_attachments: Sequence[Attachment] = ()) -> list[JsonObject]:
        """Return the tools of a run.

        Args:
            thread_attachments: files that are already in the thread; the model can read them only with their tools.
        """
        needed = [{"type": "file_search"}] if self._store_id is not None else []
        needed += [{"type": "code_interpreter"}] if self.code_interpreter else []
        needed += [
            tool for each in thread_attachments for tool in tools_for(each, code_interpreter=self.code_interpreter)
        ]
        return [tool for number, tool in enumerate(needed) if tool not in needed[:number]]

    def searched_resources(self) -> JsonObject:
        """Return the `tool_resources` of an assistant or a thread: the vector store to search."""
        return {"file_search": {"vector_store_ids": [self._store_id]}} if self._store_id is not None else {}

    def responses_tools(self) -> list[JsonObject]:
        """Return the tools of a response, with the vector store and the container that they use."""
        search = {"type": "file_search", "vector_store_ids": [self._store_id]}
        code = {"type": "code_interpreter", "container": {"type": "auto"}}
        return [*([search] if self._store_id is not None else []), *([code] if self.code_interpreter else [])]

    async def message(self, turn: Turn) -> JsonObject:
        """Return a turn as a message of a thread.

        Raises:
            ServiceFault: the service refused a file, or cannot take it now.
        """
        return await assistants_message(
            await self._checked(turn), self._uploads, code_interpreter=self.code_interpreter
        )

    async def input(self, turn: Turn) -> JsonObject:
        """Return a turn with attachments as an item of a response's input. Raises as `message` does."""
        return await responses_message(await self._checked(turn), self._uploads)

    async def content(self, turn: Turn) -> MessageContent:
        """Return a turn as the content of a chat message. Raises as `message` does."""
        return await chat_content(await self._checked(turn), self._folder)

    async def _checked(self, turn: Turn) -> Turn:
        """Return the turn with the hashes of its local files."""
        if not turn.attachments:
            return turn
        try:
            found = await anyio.to_thread.run_sync(self._attachments.with_hashes, turn.attachments, self._folder)
        except AttachmentError as exc:
            raise PermanentFault(str(exc), error_type=exc.error_type) from exc
        return replace(turn, attachments=found)

    # -- replies --------------------------------------------------------------------------------------

    @property
    def names(self) -> Mapping[str, str]:
        """The names of the uploaded files by their ids."""
        return self._uploads.names

    async def download(self, produced: Sequence[Produced], row_key: str) -> list[str]:
        """Return the paths of files that a run produced, below the folder of the output, after downloading them; for a
        file that could not be downloaded, one line that says why.

        Raises:
            OutputError: a file cannot be written.
        """
        fetched = await self._downloads.fetch(produced, row_key)
        return [*fetched.paths, *(f"not downloaded: {line}" for line in fetched.missing)]
