"""The operations of /threads/{thread_id}/runs/{run_id}/steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.server.errors import no_such
from batchrun.server.execution.call_steps import with_contents
from batchrun.server.http.endpoint import operation
from batchrun.server.http.routes.resources import wants_contents
from batchrun.server.http.routes.runs import find_run
from batchrun.server.replies.encoding import loads
from batchrun.server.replies.replies import Json, json_reply
from batchrun.server.store.kinds import STEP

if TYPE_CHECKING:
    from batchrun.server.http.endpoint import Call
    from batchrun.server.protocol.bodies import StepBody

__all__ = ["OPERATIONS"]


def _with_content(call: Call, step: StepBody) -> StepBody:
    """Return the step with the texts of its search results, which clients get only on request."""
    return with_contents(step, call.objects.step_hidden(step["id"]))


def list_steps(call: Call) -> Json:
    run = find_run(call)
    text = call.objects.page(STEP, call.owner, call.page(), parent=run["id"], noun="run step")
    if wants_contents(call):
        listed = loads(text)
        listed["data"] = [_with_content(call, step) for step in listed["data"]]
        return json_reply(listed)
    return Json(text=text)


def retrieve_step(call: Call) -> Json:
    run = find_run(call)
    step = call.objects.find(STEP, call.owner, call.path["step_id"], parent=run["id"])
    if step is None:
        raise no_such("run step", call.path["step_id"])
    return json_reply(_with_content(call, step) if wants_contents(call) else step)


OPERATIONS = (
    operation("GET", "/threads/{thread_id}/runs/{run_id}/steps", list_steps),
    operation("GET", "/threads/{thread_id}/runs/{run_id}/steps/{step_id}", retrieve_step),
)
