"""The operations of /models. They list the responder's names; requests may use any other name too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.errors import ApiError
from batchrun.server.http.endpoint import operation
from batchrun.server.replies.replies import Json, json_reply

if TYPE_CHECKING:
    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import Body

__all__ = ["OPERATIONS"]


def _model(name: str, owned_by: str) -> Body:
    return {"id": name, "object": "model", "created": 0, "owned_by": owned_by}


def list_models(call: Call) -> Json:
    responder = call.parts.responder
    return json_reply({"object": "list", "data": [_model(name, responder.name) for name in responder.models]})


def retrieve_model(call: Call) -> Json:
    responder, name = call.parts.responder, call.path["model"]
    if responder.models and name not in responder.models:
        raise ApiError(
            404,
            f"The model '{name}' does not exist or you do not have access to it.",
            param="model",
            code="model_not_found",
        )
    return json_reply(_model(name, responder.name))


OPERATIONS = (
    operation("GET", "/models", list_models, beta=False),
    operation("GET", "/models/{model:path}", retrieve_model, beta=False),
)
