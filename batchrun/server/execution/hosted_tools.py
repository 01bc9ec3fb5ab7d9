"""The tools that the server runs itself: file_search and code_interpreter.

A responder sees them as functions, `file_search(query)` and `python(code)`. The server makes the calls,
records them as steps, and returns the outputs until the responder answers with text.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio

from batchrun.server.execution.call_arguments import code_of, queries_of
from batchrun.server.execution.stored_files import add_file
from batchrun.server.execution.vector_stores import usable_stores
from batchrun.server.responders.base import ResponderError
from batchrun.server.sandbox.code_interpreter import Sandbox, find_sandbox
from batchrun.server.store.kinds import FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchrun.server.execution.ingestion import Ingestion
    from batchrun.server.execution.parts import Parts
    from batchrun.server.protocol.bodies import Body, RunBody
    from batchrun.server.responders.base import ToolCall
    from batchrun.server.store.hidden import CallFacts, StepHidden, UsableResources

__all__ = [
    "FUNCTION_NAMES",
    "HOSTED",
    "HostedTools",
    "ToolResult",
    "citations",
    "hidden_calls",
    "offered_tools",
]

HOSTED: Mapping[str, Literal["code_interpreter", "file_search"]] = {
    "python": "code_interpreter",
    "file_search": "file_search",
}
"""Function name, as a responder sees it → hosted tool."""

FUNCTION_NAMES = {kind: name for name, kind in HOSTED.items()}

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

_DEFAULT_RESULTS = 20
_INGESTION_WAIT_S = 60
_MARK = re.compile(r"【(\d{1,6}):(\d{1,6})†[^【】]*】")


def offered_tools(tools: Sequence[Body]) -> list[Body]:
    """Return a run's tools as functions, including the hosted ones."""
    return [
        {"type": "function", "function": dict(tool["function"])}
        if tool["type"] == "function"
        else _FUNCTIONS[tool["type"]]
        for tool in tools
    ]


@dataclass(slots=True)
class ToolResult:
    """The result of one call of a hosted tool.

    Attributes:
        call: the completed call, in the form that the step shows.
        output: the text that the responder gets.
    """

    call: Body
    output: str
    facts: CallFacts


class HostedTools:
    """Executes calls of hosted tools.

    Mutable state: the sandbox, which is looked up once, at the first call.
    """

    def __init__(self, parts: Parts, ingestion: Ingestion) -> None:
        self._parts = parts
        self._ingestion = ingestion
        self._sandbox: Sandbox | None = None

    async def run(
        self, owner: str, run: RunBody, resources: UsableResources, call: ToolCall, position: int
    ) -> ToolResult:
        """Execute one call.

        Args:
            position: number of earlier searches of the run; it becomes the first number of the marks.

        Raises:
            ResponderError: the machine has no sandbox.
        """
        if call.name == "file_search":
            return await self._search(owner, run, resources, call, position)
        return await self._python(owner, resources, call)

    # file_search

    async def _search(
        self, owner: str, run: RunBody, resources: UsableResources, call: ToolCall, position: int
    ) -> ToolResult:
        options = next(tool["file_search"] for tool in run["tools"] if tool["type"] == "file_search")
        with self._parts.database.transaction():
            store_ids = usable_stores(self._parts, owner, resources["vector_store_ids"])
        with anyio.move_on_after(_INGESTION_WAIT_S):
            await self._ingestion.settled(store_ids)
        query, limit = " ".join(queries_of(call.arguments)), options["max_num_results"] or _DEFAULT_RESULTS
        threshold, embedded = options["ranking_options"]["score_threshold"], self._parts.embedded
        if embedded is None:
            hits = self._parts.index.search(store_ids, query, limit, threshold)
        else:
            hits = await embedded.search(store_ids, query, limit, threshold)
        marks = [f"【{position}:{number}†{hit.filename}】" for number, hit in enumerate(hits)]
        output = "\n\n".join(f"{mark}\n{hit.text}" for mark, hit in zip(marks, hits, strict=True))
        results = [{"file_id": hit.file_id, "file_name": hit.filename, "score": hit.score} for hit in hits]
        sources = {f"{position}:{number}": hit.file_id for number, hit in enumerate(hits)}
        return ToolResult(
            call={
                "id": call.id,
                "type": "file_search",
                "file_search": {"ranking_options": options["ranking_options"], "results": results},
            },
            output=output or "No results.",
            facts={"sources": sources, "contents": [hit.text for hit in hits]},
        )

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
        outputs: list[Body] = [{"type": "logs", "logs": logs}] if logs else []
        outputs += [{"type": "image", "image": {"file_id": file_id}} for _, file_id in images]
        links = [f"sandbox:/mnt/data/{name}" for name, _ in (*images, *produced)]
        return ToolResult(
            call={"id": call.id, "type": "code_interpreter", "code_interpreter": {"input": code, "outputs": outputs}},
            output=logs + ("\nFiles written: " + ", ".join(links) if links else ""),
            facts={"paths": {f"sandbox:/mnt/data/{name}": file_id for name, file_id in (*images, *produced)}},
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


def citations(text: str, sources: dict[str, str], paths: dict[str, str]) -> list[Body]:
    """Return annotations for the marks of search results and the links to produced files in an answer's text.

    A mark that does not belong to a result stays plain text. Indexes count characters.
    """
    found: list[Body] = []
    for match in _MARK.finditer(text):
        file_id = sources.get(f"{match[1]}:{match[2]}")
        if file_id is not None:
            found.append(
                {
                    "type": "file_citation",
                    "text": match[0],
                    "start_index": match.start(),
                    "end_index": match.end(),
                    "file_citation": {"file_id": file_id},
                }
            )
    for path, file_id in paths.items():
        found += [
            {
                "type": "file_path",
                "text": path,
                "start_index": match.start(),
                "end_index": match.end(),
                "file_path": {"file_id": file_id},
            }
            for match in re.finditer(re.escape(path), text)
        ]
    return sorted(found, key=lambda each: each["start_index"])


def hidden_calls(results: Sequence[tuple[ToolCall, ToolResult]]) -> StepHidden:
    """Return the hidden part of a step: arguments, outputs and hidden facts of its calls."""
    return {
        "calls": {
            call.id: {"arguments": call.arguments, "output": result.output, **result.facts} for call, result in results
        }
    }
