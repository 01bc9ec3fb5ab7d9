"""The files of a batch, for all of its services: what goes with prompts, what can be searched, what runs bring back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from batchrun.errors import PermanentFault
from batchrun.prompts.local_files import AttachmentError, Attachments, LocalFile
from batchrun.records import Attachment, Turn
from batchrun.services.files.downloads import Downloads
from batchrun.services.files.messages import assistants_message, chat_content, responses_input, tools_for
from batchrun.services.files.produced import (
    Produced,
    citations_of_chat,
    citations_of_items,
    citations_of_messages,
    produced_by_steps,
    produced_in_items,
    produced_in_messages,
)
from batchrun.services.files.uploads import Uploads

__all__ = ["RowFiles"]


class RowFiles:
    """What the services of a batch share of its files.

    All state: the id of the vector store, once `prepare` has made it or found it again.
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
            folder: where relative paths of attachments begin.
            searched: files that the model may search.
            code_interpreter: the model may run code.
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
        """Upload the files that are to be searched, once.

        Raises:
            ServiceFault: one of them cannot be, or not now.
        """
        async with self._preparing:
            if self._searched and self._store_id is None:
                name = f"batchrun {self._batch_id}"
                self._store_id = await self._uploads.vector_store(self._searched, name=name)

    # -- what goes out ----------------------------------------------------------------------------------------

    def assistants_tools(self, brought: Sequence[Attachment] = ()) -> list[dict[str, Any]]:
        """The tools of a run.

        Args:
            brought: what its thread has from the row: the model reads none of it without the tool for it.
        """
        needed = [{"type": "file_search"}] if self._store_id is not None else []
        needed += [{"type": "code_interpreter"}] if self.code_interpreter else []
        needed += [tool for each in brought for tool in tools_for(each, code_interpreter=self.code_interpreter)]
        return [tool for number, tool in enumerate(needed) if tool not in needed[:number]]

    def searched_resources(self) -> dict[str, Any]:
        """What the search of an assistant, or of a thread, works on: `tool_resources`."""
        return {"file_search": {"vector_store_ids": [self._store_id]}} if self._store_id is not None else {}

    def responses_tools(self) -> list[dict[str, Any]]:
        """The tools of a response, with what they work on."""
        search = {"type": "file_search", "vector_store_ids": [self._store_id]}
        code = {"type": "code_interpreter", "container": {"type": "auto"}}
        return [*([search] if self._store_id is not None else []), *([code] if self.code_interpreter else [])]

    async def message(self, turn: Turn) -> dict[str, Any]:
        """A message of a thread.

        Raises:
            ServiceFault: a file cannot go with it, or not now.
        """
        return await assistants_message(await self._found(turn), self._uploads, code_interpreter=self.code_interpreter)

    async def input(self, turn: Turn) -> str | list[dict[str, Any]]:
        """The input of a response; raises as `message`."""
        return await responses_input(await self._found(turn), self._uploads)

    async def content(self, turn: Turn) -> str | list[dict[str, Any]]:
        """The content of a message of a chat completion; raises as `message`."""
        return await chat_content(await self._found(turn), self._folder)

    async def _found(self, turn: Turn) -> Turn:
        if not turn.attachments:
            return turn
        try:
            found = await anyio.to_thread.run_sync(self._attachments.with_hashes, turn.attachments, self._folder)
        except AttachmentError as exc:
            raise PermanentFault(str(exc), error_type=exc.error_type) from exc
        return replace(turn, attachments=found)

    # -- what comes back --------------------------------------------------------------------------------------

    async def of_messages(
        self, messages: Sequence[Mapping[str, Any]], steps: Iterable[Mapping[str, Any]], row_key: str
    ) -> dict[str, Any] | None:
        """The extras of a run: what its messages cite, and the files that it made, downloaded.

        Args:
            steps: of the run, where the code interpreter ran.

        Raises:
            OutputError: the disk refuses.
        """
        produced = [*produced_in_messages(messages), *produced_by_steps(steps)]
        return await self._extras(citations_of_messages(messages, self._uploads.names), produced, row_key)

    async def of_items(self, items: Sequence[Mapping[str, Any]], row_key: str) -> dict[str, Any] | None:
        """The extras of a response; raises as `of_messages`."""
        return await self._extras(citations_of_items(items), produced_in_items(items), row_key)

    async def of_chat(self, message: Mapping[str, Any], row_key: str) -> dict[str, Any] | None:
        """The extras of a chat completion; raises as `of_messages`."""
        return await self._extras(citations_of_chat(message), [], row_key)

    async def _extras(
        self, citations: list[dict[str, Any]], produced: Sequence[Produced], row_key: str
    ) -> dict[str, Any] | None:
        extras: dict[str, Any] = {"citations": citations} if citations else {}
        if produced:
            fetched = await self._downloads.fetch(produced, row_key)
            extras["files"] = [*fetched.paths, *(f"not downloaded: {line}" for line in fetched.missing)]
        return extras or None
