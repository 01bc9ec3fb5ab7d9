"""/threads/{thread_id}/runs/{run_id}/steps"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.errors import no_such
from batchrun.server.operations import operation
from batchrun.server.replying import Json, json_reply
from batchrun.server.routes.runs import find_run

if TYPE_CHECKING:
    from batchrun.server.operations import Call

__all__ = ["OPERATIONS"]


def list_steps(call: Call) -> Json:
    run = find_run(call)
    return Json(text=call.core.objects.page("step", call.owner, call.page(), parent=run["id"], noun="run step"))


def retrieve_step(call: Call) -> Json:
    run = find_run(call)
    step = call.core.objects.find("step", call.owner, call.path["step_id"], parent=run["id"])
    if step is None:
        raise no_such("run step", call.path["step_id"])
    return json_reply(step)


OPERATIONS = (
    operation("GET", "/threads/{thread_id}/runs/{run_id}/steps", list_steps),
    operation("GET", "/threads/{thread_id}/runs/{run_id}/steps/{step_id}", retrieve_step),
)
