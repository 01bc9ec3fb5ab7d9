"""The operations of /batches: the Batch API."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError, bad_value
from batchrun.server.http.endpoint import operation
from batchrun.server.http.line_calls import LineCalls
from batchrun.server.protocol.requests.service_batches import CreateServiceBatch
from batchrun.server.protocol.service_batches import new_service_batch
from batchrun.server.replies.encoding import loads
from batchrun.server.replies.replies import Json, json_reply
from batchrun.server.store.kinds import FILE, SERVICE_BATCH

if TYPE_CHECKING:
    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body
    from batchrun.server.store.hidden import ServiceBatchHidden

__all__ = ["OPERATIONS"]

MAX_BATCHES = 1_000_000
"""Batches that are numbered for planned faults."""


def create_service_batch(call: Call, request: CreateServiceBatch) -> Json:
    file = call.objects.find(FILE, call.owner, request.input_file_id)
    if file is None:
        raise bad_value("input_file_id", f"Cannot find file '{request.input_file_id}'.")
    if file["purpose"] != "batch":
        raise bad_value(
            "input_file_id",
            f"Invalid file '{file['id']}': expected the purpose 'batch', but it is '{file['purpose']}'.",
        )
    body = new_service_batch(request, call.parts.now())
    expiry = request.output_expires_after
    hidden: ServiceBatchHidden = {
        "number": call.objects.count(call.owner, SERVICE_BATCH, "", MAX_BATCHES) + 1,
        "file_life_s": None if expiry is None else expiry.seconds,
        "expired": False,
    }
    call.objects.add(SERVICE_BATCH, call.owner, body, status=body["status"], active=True, hidden=hidden)
    call.after.append(partial(call.core.service_batches.launch, call.owner, body, hidden, LineCalls(call.core)))
    return json_reply(call.core.service_batches.faults.shown(hidden["number"], body, 0))


def _find(call: Call) -> Body:
    call.core.service_batches.expire_due()
    return call.objects.get(SERVICE_BATCH, call.owner, call.path["batch_id"])


def retrieve_service_batch(call: Call) -> Json:
    body = _find(call)
    call.core.service_batches.count_retrieval(body)
    return json_reply(call.core.service_batches.shown(body))


def list_service_batches(call: Call) -> Json:
    batches = call.core.service_batches
    batches.expire_due()
    page = loads(call.objects.page(SERVICE_BATCH, call.owner, call.page()))
    return json_reply(page | {"data": [batches.shown(body) for body in page["data"]]})


def cancel_service_batch(call: Call) -> Json:
    stored = _find(call)
    body = call.core.service_batches.current(stored)
    if body["status"] in ("validating", "in_progress"):
        call.core.service_batches.cancel(body["id"])
    elif body["status"] != "cancelling":
        raise ApiError(409, f"Cannot cancel a batch with status '{body['status']}'.")
    return json_reply(call.core.service_batches.shown(stored))


OPERATIONS = (
    operation("POST", "/batches", create_service_batch, CreateServiceBatch, beta=False),
    operation("GET", "/batches", list_service_batches, beta=False),
    operation("GET", "/batches/{batch_id}", retrieve_service_batch, beta=False),
    operation("POST", "/batches/{batch_id}/cancel", cancel_service_batch, beta=False),
)
