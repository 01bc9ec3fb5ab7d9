"""The operations of /vector_stores, their files, file batches and search."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batchrun.server.errors import bad_value, no_such
from batchrun.server.execution.file_filters import passes
from batchrun.server.execution.vector_stores import (
    DAY_S,
    add_store,
    add_to_store,
    chunking_body,
    counts,
    drop_from_store,
    refresh_store,
    use_store,
)
from batchrun.server.http.endpoint import operation
from batchrun.server.http.waiting_call import waiting_reply
from batchrun.server.protocol.ids import new_id
from batchrun.server.protocol.metadata import merged_metadata
from batchrun.server.protocol.requests.vector_stores import (
    AddVectorStoreFile,
    AddVectorStoreFiles,
    CreateVectorStore,
    SearchVectorStore,
    UpdateAttributes,
    UpdateVectorStore,
)
from batchrun.server.replies.encoding import dumps
from batchrun.server.replies.replies import HttpReply, Json, json_reply
from batchrun.server.store.kinds import ASSISTANT, FILE, FILE_BATCH, VECTOR_STORE, VECTOR_STORE_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.server.execution.parts import Parts
    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.search.file_search import Vector

__all__ = ["OPERATIONS", "add_files"]


def add_files(
    call: Call,
    store_id: str,
    file_ids: Sequence[str],
    chunking: Body,
    batch_id: str | None = None,
    attributes: Body | None = None,
) -> None:
    """Add files to a store and start their ingestion after the commit.

    Raises:
        ApiError: 404: a file does not exist.
    """
    parts = call.parts
    for file_id in file_ids:
        parts.objects.get(FILE, call.owner, file_id)
        body = add_to_store(
            parts, call.owner, store_id, file_id, chunking=chunking, batch_id=batch_id, attributes=attributes
        )
        call.after.append(partial(call.core.ingestion.launch, call.owner, body))
    refresh_store(parts, call.owner, store_id)


def create_store(call: Call, request: CreateVectorStore) -> Json:
    expires = request.expires_after.model_dump() if request.expires_after else None
    store = add_store(call.parts, call.owner, request.name, request.metadata, expires)
    add_files(call, store["id"], request.file_ids or (), chunking_body(request.chunking_strategy))
    return json_reply(_store(call, store["id"]))


def list_stores(call: Call) -> Json:
    return Json(text=call.objects.page(VECTOR_STORE, call.owner, call.page(), noun="vector store"))


def _store(call: Call, store_id: str | None = None) -> Body:
    """Return the store that the path names, and expire it if its time is over."""
    parts = call.parts
    store_id = store_id or call.path["vector_store_id"]
    store = parts.objects.get(VECTOR_STORE, call.owner, store_id, noun="vector store")
    if store["expires_at"] is not None and store["status"] != "expired" and store["expires_at"] <= call.parts.now():
        store["status"] = "expired"
        parts.index.remove(store_id, None)
        parts.objects.save(store, status="expired")
    return store


def retrieve_store(call: Call) -> Json:
    return json_reply(_store(call))


def update_store(call: Call, request: UpdateVectorStore) -> Json:
    store = _store(call)
    given = request.model_fields_set
    if "name" in given:
        store["name"] = request.name or ""
    store["metadata"] = merged_metadata(store["metadata"], request.metadata)
    if "expires_after" in given:
        expires = request.expires_after
        store["expires_after"] = expires.model_dump() if expires else None
        store["expires_at"] = store["last_active_at"] + expires.days * DAY_S if expires else None
    call.objects.save(store, status=store["status"])
    return json_reply(store)


def delete_store(call: Call) -> Json:
    parts, store_id = call.parts, _store(call)["id"]
    for assistant in parts.objects.children(call.owner, ASSISTANT, ""):
        search = assistant["tool_resources"]["file_search"]
        if search and store_id in search["vector_store_ids"]:
            search["vector_store_ids"].remove(store_id)
            parts.objects.save(assistant)
    parts.index.remove(store_id, None)
    parts.objects.remove_children(call.owner, VECTOR_STORE_FILE, store_id)
    parts.objects.remove_children(call.owner, FILE_BATCH, store_id)
    parts.blobs.remove_below(store_id)
    parts.objects.remove(store_id)
    return json_reply({"id": store_id, "object": "vector_store.deleted", "deleted": True})


# Files of a store


def add_store_file(call: Call, request: AddVectorStoreFile) -> Json:
    store_id = _store(call)["id"]
    chunking = chunking_body(request.chunking_strategy)
    add_files(call, store_id, [request.file_id], chunking, attributes=request.attributes)
    return json_reply(_file(call, store_id, request.file_id))


def list_store_files(call: Call) -> Json:
    return _page_of_files(call, _store(call)["id"], None)


def _page_of_files(call: Call, store_id: str, batch_id: str | None) -> Json:
    wanted = call.one("filter")
    if wanted is not None and wanted not in ("in_progress", "completed", "failed", "cancelled"):
        raise bad_value(
            "filter",
            f"Invalid value: '{wanted}'. Supported values are: 'in_progress', 'completed', 'failed' and 'cancelled'.",
        )
    text = call.objects.page(
        VECTOR_STORE_FILE,
        call.owner,
        call.page(),
        parent=store_id,
        run=batch_id,
        status=wanted,
        noun="file",
        prefix=f"{store_id}/",
    )
    return Json(text=text)


def _file(call: Call, store_id: str, file_id: str) -> Body:
    body = call.objects.find(VECTOR_STORE_FILE, call.owner, f"{store_id}/{file_id}")
    if body is None:
        raise no_such("file", file_id)
    return body


def retrieve_store_file(call: Call) -> Json:
    return json_reply(_file(call, _store(call)["id"], call.path["file_id"]))


def update_store_file(call: Call, request: UpdateAttributes) -> Json:
    store_id = _store(call)["id"]
    body = _file(call, store_id, call.path["file_id"])
    body["attributes"] = request.attributes or {}
    call.objects.save(
        body, key=f"{store_id}/{body['id']}", status=body["status"], active=body["status"] == "in_progress"
    )
    return json_reply(body)


def retrieve_store_file_content(call: Call) -> Json:
    store_id = _store(call)["id"]
    body = _file(call, store_id, call.path["file_id"])
    text = call.parts.blobs.read(f"{store_id}/{body['id']}").decode()
    return json_reply(
        {
            "object": "vector_store.file_content.page",
            "data": [{"type": "text", "text": text}] if text else [],
            "has_more": False,
            "next_page": None,
        }
    )


def remove_store_file(call: Call) -> Json:
    parts, store_id = call.parts, _store(call)["id"]
    file_id = _file(call, store_id, call.path["file_id"])["id"]
    drop_from_store(parts, call.owner, store_id, file_id)
    return json_reply({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})


# Batches


def add_batch(call: Call, request: AddVectorStoreFiles) -> Json:
    store_id, batch_id = _store(call)["id"], new_id("vsfb_")
    batch = {
        "id": batch_id,
        "object": "vector_store.files_batch",
        "created_at": call.parts.now(),
        "vector_store_id": store_id,
    }
    call.objects.add(FILE_BATCH, call.owner, batch, parent=store_id)
    for each in request.files or ():
        chunking = chunking_body(each.chunking_strategy or request.chunking_strategy)
        add_files(call, store_id, [each.file_id], chunking, batch_id, each.attributes or request.attributes)
    if request.file_ids:
        chunking = chunking_body(request.chunking_strategy)
        add_files(call, store_id, request.file_ids, chunking, batch_id, request.attributes)
    return json_reply(_batch_body(call, batch))


def _batch_body(call: Call, batch: Body) -> Body:
    files = call.objects.children(call.owner, VECTOR_STORE_FILE, batch["vector_store_id"], run=batch["id"])
    statuses = [file["status"] for file in files]
    status = "in_progress" if "in_progress" in statuses else "cancelled" if "cancelled" in statuses else "completed"
    return batch | {"status": status, "file_counts": counts(statuses)}


def _batch(call: Call) -> Body:
    return call.objects.get(FILE_BATCH, call.owner, call.path["batch_id"], parent=_store(call)["id"], noun="file batch")


def retrieve_batch(call: Call) -> Json:
    return json_reply(_batch_body(call, _batch(call)))


def cancel_batch(call: Call) -> Json:
    batch = _batch(call)
    store_id = batch["vector_store_id"]
    for file in call.objects.children(call.owner, VECTOR_STORE_FILE, store_id, run=batch["id"]):
        if file["status"] == "in_progress":
            file["status"] = "cancelled"
            call.objects.save(file, key=f"{store_id}/{file['id']}", status="cancelled")
    refresh_store(call.parts, call.owner, store_id)
    return json_reply(_batch_body(call, batch))


def list_batch_files(call: Call) -> Json:
    batch = _batch(call)
    return _page_of_files(call, batch["vector_store_id"], batch["id"])


# Search


def search_store(call: Call, request: SearchVectorStore) -> HttpReply:
    parts, store = call.parts, _store(call)
    use_store(parts, store)
    results = partial(_results, parts, call.owner, store["id"], request)
    embedded = parts.embedded
    if embedded is None:
        return Json(text=results(None))

    async def answer() -> str:
        vector = await embedded.query_vector(" ".join(_queries(request)))
        return results(vector)  # synchronous, so that it sees one state of the store

    return waiting_reply(call, answer)


def _queries(request: SearchVectorStore) -> list[str]:
    return [request.query] if isinstance(request.query, str) else request.query


def _results(parts: Parts, owner: str, store_id: str, request: SearchVectorStore, vector: Vector | None) -> str:
    """Return the page of search results as JSON text, found by words, and by the query's vector if there is one.

    Raises:
        ApiError: 404: the store was deleted meanwhile.
    """
    parts.objects.get(VECTOR_STORE, owner, store_id, noun="vector store")
    queries = _queries(request)
    threshold = request.ranking_options.score_threshold if request.ranking_options else 0.0
    files = {file["id"]: file for file in parts.objects.children(owner, VECTOR_STORE_FILE, store_id)}
    allowed = {
        file_id
        for file_id, file in files.items()
        if request.filters is None or passes(request.filters, file["attributes"])
    }
    # Filters are applied to the hits, so a filtered search needs all of them.
    limit = request.max_num_results if request.filters is None else 10_000
    hits = parts.index.search([store_id], " ".join(queries), limit, threshold, vector)
    found = [hit for hit in hits if hit.file_id in allowed][: request.max_num_results]
    results = [
        {
            "file_id": hit.file_id,
            "filename": hit.filename,
            "score": hit.score,
            "attributes": files[hit.file_id]["attributes"],
            "content": [{"type": "text", "text": hit.text}],
        }
        for hit in found
    ]
    page = {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": results,
        "has_more": False,
        "next_page": None,
    }
    return dumps(page)


OPERATIONS = (
    operation("POST", "/vector_stores", create_store, CreateVectorStore, beta=False),
    operation("GET", "/vector_stores", list_stores, beta=False),
    operation("GET", "/vector_stores/{vector_store_id}", retrieve_store, beta=False),
    operation("POST", "/vector_stores/{vector_store_id}", update_store, UpdateVectorStore, beta=False),
    operation("DELETE", "/vector_stores/{vector_store_id}", delete_store, beta=False),
    operation("POST", "/vector_stores/{vector_store_id}/search", search_store, SearchVectorStore, beta=False),
    operation("POST", "/vector_stores/{vector_store_id}/files", add_store_file, AddVectorStoreFile, beta=False),
    operation("GET", "/vector_stores/{vector_store_id}/files", list_store_files, beta=False),
    operation("GET", "/vector_stores/{vector_store_id}/files/{file_id}", retrieve_store_file, beta=False),
    operation(
        "POST", "/vector_stores/{vector_store_id}/files/{file_id}", update_store_file, UpdateAttributes, beta=False
    ),
    operation(
        "GET", "/vector_stores/{vector_store_id}/files/{file_id}/content", retrieve_store_file_content, beta=False
    ),
    operation("DELETE", "/vector_stores/{vector_store_id}/files/{file_id}", remove_store_file, beta=False),
    operation("POST", "/vector_stores/{vector_store_id}/file_batches", add_batch, AddVectorStoreFiles, beta=False),
    operation("GET", "/vector_stores/{vector_store_id}/file_batches/{batch_id}", retrieve_batch, beta=False),
    operation("POST", "/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel", cancel_batch, beta=False),
    operation("GET", "/vector_stores/{vector_store_id}/file_batches/{batch_id}/files", list_batch_files, beta=False),
)
