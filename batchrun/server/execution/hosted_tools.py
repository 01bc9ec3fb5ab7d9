"""The tools that the server runs itself: file_search and code_interpreter.

A responder sees them as functions, `file_search(query)` and `python(code)`. The server makes the calls,
records them as steps, and returns the outputs until the responder answers with text.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio

from batchrun.server.execution.call_arguments import code_of, queries_of
from batchrun.server.execution.file_filters import file_filter, passes
from batchrun.server.execution.stored_files import add_file
from batchrun.server.execution.vector_stores import usable_stores
from batchrun.server.responders.base import ResponderError
from batchrun.server.sandbox.code_interpreter import Sandbox, find_sandbox
from batchrun.server.store.kinds import FILE, VECTOR_STORE_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchrun.server.execution.ingestion import Ingestion
    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.responders.base import ToolCall
    from batchrun.server.search.file_search import Hit
    from batchrun.server.store.hidden import CallFacts, StepHidden, UsableResources

__all__ = [
    "DEFAULT_RESULTS",
    "HOSTED",
    "MAX_ROUNDS",
    "HostedTools",
    "SearchOptions",
    "ToolResult",
    "hidden_calls",
    "offered_tools",
]

HOSTED: Mapping[str, Literal["code_interpreter", "file_search"]] = {
    "python": "code_interpreter",
    "file_search": "file_search",
}
"""Function name, as a responder sees it → hosted tool."""

_FUNCTIONS = {
    "code_interpreter": {
        "type": "function",
        "function": {
            "name": "python",
            "description": "Run Python code in a sandbox without network. The last expression's value and what is "
            "printed come back. Files are in the working directory; files written there are given to the user.",
            "parameters": {
                "type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"],
            },
        },
    },
    "file_search": {
        "type": "function",
        "function": {
            "name": "file_search",
            "description": "Search the user's files. Results are numbered like 【0:1†name】: cite a result by "
            "copying its mark into the answer.",
            "parameters": {
                "type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"],
            },
        },
    },
}  # fmt: skip

DEFAULT_RESULTS = 20
MAX_ROUNDS = 25
"""Answers that only call hosted tools, before a run or response fails."""
_ALL_RESULTS = 10_000
_INGESTION_WAIT_S = 60


def offered_tools(tools: Sequence[Body]) -> list[Body]:
    """Return tools as functions, including the hosted ones; those that run at another service are left out."""
    return [
        {"type": "function", "function": dict(tool["function"])}
        if tool["type"] == "function"
        else _FUNCTIONS[tool["type"]]
        for tool in tools
        if tool["type"] == "function" or tool["type"] in _FUNCTIONS
    ]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How a request wants its files searched.

    Attributes:
        limit: maximum of results.
        threshold: lowest score of a result.
        filters: condition on the files' attributes, as JSON; None for all files.
    """

    limit: int = DEFAULT_RESULTS
    threshold: float = 0.0
    filters: Body | None = None


@dataclass(slots=True)
class ToolResult:
    """The result of one call of a hosted tool.

    Attributes:
        output: the text that the responder gets.
        queries: of a search.
        hits: of a search, best first.
        attributes: file id → attributes, of the files of the hits.
        code: that was run.
        logs: what the code printed, and its error.
        images: ids of the files that are images.
    """

    call: ToolCall
    output: str
    facts: CallFacts
    queries: Sequence[str] = ()
    hits: Sequence[Hit] = ()
    attributes: Mapping[str, Body] = field(default_factory=dict)
    code: str = ""
    logs: str = ""
    images: Sequence[str] = ()


class HostedTools:
    """Executes calls of hosted tools.

    Mutable state: the sandbox, which is looked up once, at the first call.
    """

    def __init__(self, parts: Parts, ingestion: Ingestion) -> None:
        self._parts = parts
        self._ingestion = ingestion
        self._sandbox: Sandbox | None = None

    async def run(
        self, owner: str, options: SearchOptions, resources: UsableResources, call: ToolCall, position: int
    ) -> ToolResult:
        """Execute one call.

        Args:
            position: number of earlier searches for the same answer; it becomes the first number of the marks.

        Raises:
            ResponderError: the machine has no sandbox.
        """
        if call.name == "file_search":
            return await self._search(owner, options, resources, call, position)
        return await self._python(owner, resources, call)

    # file_search

    async def _search(
        self, owner: str, options: SearchOptions, resources: UsableResources, call: ToolCall, position: int
    ) -> ToolResult:
        with self._parts.database.transaction():
            store_ids = usable_stores(self._parts, owner, resources["vector_store_ids"])
        with anyio.move_on_after(_INGESTION_WAIT_S):
            await self._ingestion.settled(store_ids)
        queries, embedded = queries_of(call.arguments), self._parts.embedded
        # Filters are applied to the hits, so a filtered search needs all of them.
        limit = options.limit if options.filters is None else _ALL_RESULTS
        if embedded is None:
            hits = self._parts.index.search(store_ids, " ".join(queries), limit, options.threshold)
        else:
            hits = await embedded.search(store_ids, " ".join(queries), limit, options.threshold)
        attributes = self._attributes(owner, store_ids, hits)
        if options.filters is not None:
            wanted = file_filter(options.filters)
            hits = [hit for hit in hits if passes(wanted, attributes[hit.file_id])][: options.limit]
        marks = [f"【{position}:{number}†{hit.filename}】" for number, hit in enumerate(hits)]
        output = "\n\n".join(f"{mark}\n{hit.text}" for mark, hit in zip(marks, hits, strict=True))
        sources = {f"{position}:{number}": hit.file_id for number, hit in enumerate(hits)}
        return ToolResult(
            call,
            output or "No results.",
            {"sources": sources, "contents": [hit.text for hit in hits]},
            queries=queries,
            hits=hits,
            attributes=attributes,
        )

    def _attributes(self, owner: str, store_ids: Sequence[str], hits: Sequence[Hit]) -> dict[str, Body]:
        found: dict[str, Body] = {hit.file_id: {} for hit in hits}
        for file_id in found:
            for store_id in store_ids:
                file = self._parts.objects.find(VECTOR_STORE_FILE, owner, f"{store_id}/{file_id}")
                if file is not None:
                    found[file_id] = file["attributes"]
                    break
        return found

    # code_interpreter

    async def _python(self, owner: str, resources: UsableResources, call: ToolCall) -> ToolResult:
        sandbox = self._sandbox = self._sandbox or await anyio.to_thread.run_sync(find_sandbox)
        if sandbox is None:
            raise ResponderError(
                "code_interpreter needs a sandbox, and this machine has none. Install bubblewrap (bwrap), or batchrun "
                "with the extra [sandbox]. Code never runs without a sandbox."
            )
        code = code_of(call.arguments)
        with tempfile.TemporaryDirectory(prefix="batchrun-python-") as folder:
            inputs, workdir = Path(folder) / "inputs", Path(folder) / "work"
            inputs.mkdir()
            workdir.mkdir()
            files = await anyio.to_thread.run_sync(_written_files, self._contents(owner, resources), inputs)
            execution = await sandbox.run(code, files=files, workdir=workdir)
            with self._parts.database.transaction():
                images = [(path.name, self._keep(owner, path)) for path in execution.images]
                produced = [(path.name, self._keep(owner, path)) for path in execution.files]
        logs = execution.logs + (f"\n{execution.error}" if execution.error else "")
        paths = {f"sandbox:/mnt/data/{name}": file_id for name, file_id in (*images, *produced)}
        return ToolResult(
            call,
            logs + ("\nFiles written: " + ", ".join(paths) if paths else ""),
            {"paths": paths},
            code=code,
            logs=logs,
            images=[file_id for _, file_id in images],
        )

    def _contents(self, owner: str, resources: UsableResources) -> dict[str, bytes]:
        """Return file name → content of the attached files. A name that a folder cannot hold is replaced by the id."""
        contents: dict[str, bytes] = {}
        for file_id in resources["file_ids"]:
            file = self._parts.objects.find(FILE, owner, file_id)
            if file is None:
                continue
            name = file["filename"]
            plain = name not in ("", ".", "..") and "\0" not in name and len(name.encode()) <= 255
            contents[name if plain and name not in contents else file_id] = self._parts.blobs.read(file_id)
        return contents

    def _keep(self, owner: str, path: Path) -> str:
        """Store a produced file, inside a transaction, and return its id."""
        with path.open("rb") as content:
            body = add_file(self._parts, owner, path.name, "assistants_output", content, path.stat().st_size)
        return body["id"]


def _written_files(contents: dict[str, bytes], folder: Path) -> dict[str, Path]:
    files = {}
    for number, (name, data) in enumerate(contents.items()):
        path = folder / str(number)
        path.write_bytes(data)
        files[name] = path
    return files


def hidden_calls(results: Sequence[ToolResult]) -> StepHidden:
    """Return the hidden part of a step: arguments, outputs and hidden facts of its calls."""
    return {
        "calls": {
            result.call.id: {"arguments": result.call.arguments, "output": result.output, **result.facts}
            for result in results
        }
    }
