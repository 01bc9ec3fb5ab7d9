"""What a batch finds out about its service: models that are shut down soon, and options that it does not apply."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

import batchrun
from batchrun.batch.plan import make_plan
from batchrun.batch.run import run_batch
from batchrun.batch.run_summary import Summary, summary_facts, summary_line, summary_lines
from batchrun.job.environment import Environment
from batchrun.job.options import Api
from batchrun.job.validation import make_job
from batchrun.services import shutdown_dates
from tests.support.rows import write_csv
from tests.support.scripted_http import Answer, Request, Routes, ScriptedHttp, html, json_answer

TODAY = datetime(2026, 11, 29, 12, tzinfo=UTC)
SHUT = "the service shuts down the model 'm-1' on 2026-12-11, in 12 days"


def models(**fields: Any) -> Answer:
    others = [{"id": f"other-{number}", "shutdown_date": "2026-12-01"} for number in range(3)]
    return json_answer({"object": "list", "data": [*others, {"id": "m-1", "object": "model", **fields}]})


def completion(written: int = 4, finish_reason: str = "stop") -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": "It is 4."}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 9, "completion_tokens": written, "total_tokens": 9 + written}
    return json_answer({"id": "chatcmpl-1", "model": "m-1", "choices": [choice], "usage": usage})


def response(written: int = 4) -> Answer:
    part = {"type": "output_text", "text": "It is 4.", "annotations": []}
    usage = {"input_tokens": 9, "output_tokens": written, "total_tokens": 9 + written}
    output = [{"type": "message", "role": "assistant", "content": [part]}]
    return json_answer({"id": "resp_1", "model": "m-1", "status": "completed", "output": output, "usage": usage})


def list_first(service: ScriptedHttp) -> ScriptedHttp:
    """Let the first row wait for the request for the list: a batch does not wait for the list itself."""
    script, asked = service.script, threading.Event()

    def reply(request: Request) -> Answer:
        if request.path.endswith("/models"):
            asked.set()
        elif request.method == "POST":
            assert asked.wait(30)
        return script(request)

    service.script = reply
    return service


def answered(folder: Path, routes: Routes, **options: Any) -> tuple[Summary, list[str]]:
    """Run three rows, one after the other; return the summary and the requests."""
    table = write_csv(folder / "q.csv", [{"question": f"{number} + 2"} for number in range(3)])
    routes = {"POST /chat/completions": completion(), "POST /responses": response(), **routes}
    service = ScriptedHttp.answering(routes)
    with list_first(service) if "GET /models" in routes else service as it:
        job = make_job({"model": "m-1", "base_url": it.url, "concurrency": 1, **options})
        plan = make_plan(job, table, Environment(), folder / "out.csv")

        async def run() -> Summary:
            return await run_batch(plan, Environment(), clock=lambda: TODAY)

        return anyio.run(run), it.paths()


# -- shutdown dates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_model_that_is_shut_down(tmp_path: Path, api: Api) -> None:
    """The list of models is asked for once, beside the rows; the summary has a line for the batch's own model."""
    summary, paths = answered(tmp_path, {"GET /models": models(shutdown_date="2026-12-11")}, api=api)
    assert paths.count("GET /models") == 1
    assert summary.notices == (SHUT,)
    assert summary.exit_code == 0
    assert SHUT in summary_lines(summary)
    assert summary_line(summary).endswith(f" · {SHUT}")
    assert summary_facts(summary)["notices"] == [SHUT]
    assert summary.statistics.limits.requests == 3, "the request for the list takes no place in the limits"

    again, paths = answered(tmp_path, {"GET /models": models(shutdown_date="2026-12-11")}, api=api, base_url="http://x")
    assert (again.exit_code, again.notices) == (0, ())
    assert paths == [], "a batch with nothing to send asks for no list"


def test_the_ping_and_a_warning_have_the_line() -> None:
    """The body of the last ping names the model, and Python warns at the line of the call."""
    day = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
    routes = {
        "GET /models": models(shutdown_date=day),
        "POST /chat/completions": completion(),
        "GET /ping/start": json_answer({}),
        "POST /ping": json_answer({}),
    }
    warned = pytest.warns(RuntimeWarning, match=f"'m-1' on {day}, in 3 days")
    with ScriptedHttp.answering(routes) as service, warned:
        list_first(service)
        batchrun.run(
            ["2 + 2"] * 3, api="chat", base_url=service.url, model="m-1", ping=f"{service.url}/ping", concurrency=1
        )
    body = next(request.body for request in service.requests if request.method == "POST" and "ping" in request.path)
    assert f"the service shuts down the model 'm-1' on {day}, in 3 days" in body


@pytest.mark.parametrize(
    ("fields", "notice"),
    [
        ({"shutdown_date": "2026-11-29"}, "'m-1' on 2026-11-29, today"),
        ({"shutdown_date": "2026-11-30T08:00:00Z"}, "'m-1' on 2026-11-30, tomorrow"),
        ({"shutdown_date": 1_796_947_200}, "'m-1' on 2026-12-11, in 12 days"),
        ({"shutdown_date": 1_796_947_200_000.0}, "'m-1' on 2026-12-11, in 12 days"),
        ({"shutdown_date": None, "expiration_date": "2026-12-11"}, "'m-1' on 2026-12-11, in 12 days"),
        ({"shutdown_date": "2027-02-27"}, "in 90 days"),
        ({"shutdown_date": "2026-11-01"}, "gives 2026-11-01 as the day on which it shuts down the model 'm-1'"),
        ({"shutdown_date": "2027-02-28"}, None),
        ({"shutdown_date": None}, None),
        ({"shutdown_date": ""}, None),
        ({"shutdown_date": "soon"}, None),
        ({"shutdown_date": True}, None),
        ({"shutdown_date": 1e400}, None),
        ({"shutdown_date": -1}, None),
        ({"shutdown_date": 10**40}, None),
        ({"shutdown_date": ["2026-12-11"]}, None),
        ({}, None),
    ],
)
def test_dates(fields: dict[str, Any], notice: str | None) -> None:
    """A date, a time, seconds and milliseconds are read; 90 days before, the line appears; anything else is no date."""
    assert [
        text for text in _notices({"data": [{"id": "m-1", **fields}]}) if notice is None or notice not in text
    ] == []
    assert bool(list(_notices({"data": [{"id": "m-1", **fields}]}))) == (notice is not None)


def _notices(reply: object) -> Iterator[str]:
    from batchrun.services.shutdown_dates import SHUTDOWN_NOTICE_DAYS, shutdown_dates, shutdown_notice

    for model, day in shutdown_dates(reply, {"m-1"}).items():
        if (day - TODAY.date()).days <= SHUTDOWN_NOTICE_DAYS:
            yield shutdown_notice(model, day, TODAY.date())


HUGE = json_answer({"data": [{"id": "m-1", "shutdown_date": "2026-12-11"}], "x": "x" * 9_000_000})
JUNK: dict[str, Any] = {
    "data": [None, 7, "m-1", [], {"id": 5}, {"id": "m-1", "shutdown_date": {}}, {"shutdown_date": "2026-12-11"}]
}


@pytest.mark.parametrize(
    "answer",
    [
        json_answer({"error": {"message": "no such endpoint"}}, 404),
        json_answer({"error": {"message": "not this key", "code": "invalid_api_key"}}, 401),
        json_answer({"error": {"message": "slow down"}}, 429, retry_after="600"),
        json_answer({"error": {"message": "out of order"}}, 500),
        json_answer({}, 302, location="http://127.0.0.1:1/v1/models"),
        json_answer({"data": []}, x_ratelimit_limit_requests="1", x_ratelimit_remaining_requests="0"),
        json_answer(JUNK),
        json_answer([{"id": "m-1", "shutdown_date": "2026-12-11"}]),
        html(),
        HUGE,
        Answer(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n\xff\xfe{[!"),
        Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", "close"),
        Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", "silence"),
        Answer(b"", "close"),
        Answer(b"", "silence"),
        Answer(b"\x00\x01\x02\r\n\r\n", "close"),
    ],
    ids=lambda answer: str(answer.data[:40]),
)
def test_no_list_costs_nothing(tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever answers instead of the list, or nothing at all: the rows are answered, at once, and no line appears. A
    batch that waited for the list would end in the test's timeout."""
    monkeypatch.setattr(shutdown_dates, "LOOKUP_TIMEOUT_S", 3_600.0)
    summary, paths = answered(tmp_path, {"GET /models": answer}, api="chat")
    assert (summary.exit_code, summary.notices) == (0, ())
    assert paths.count("POST /chat/completions") == 3
    # aiohttp sends a GET once more if its connection is closed without a byte of a reply.
    assert paths.count("GET /models") == (2 if answer == Answer(b"", "close") else 1)
    assert summary.statistics.faults == 0


def test_no_look_up_offline(tmp_path: Path) -> None:
    """The tutor's own list is not asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = write_csv(tmp_path / "q.csv", [{"question": "2 + 2"}])
        plan = make_plan(make_job({"model": "tutor"}), table, Environment(), tmp_path / "out.csv")
    assert plan.destination.is_embedded
    from batchrun.batch.service_notices import ServiceNotices, shutdown_lookup
    from batchrun.engine.limits import Limits
    from batchrun.services.client import Endpoint
    from batchrun.services.wire import Wire

    async def found() -> object:
        wire = Wire(Endpoint("http://127.0.0.1:1/v1", None), Limits(), silence_timeout_s=5)
        try:
            return shutdown_lookup(plan, wire, ServiceNotices(), lambda: TODAY)
        finally:
            await wire.aclose()

    assert anyio.run(found) is None


def test_the_models_of_rows_and_the_fallback_model(tmp_path: Path) -> None:
    """A model that only some rows name, and the fallback model, are looked up like that of the batch."""
    dated = [{"id": f"m-{number}", "shutdown_date": "2026-12-11"} for number in range(4)]
    routes: Routes = {"GET /models": json_answer({"object": "list", "data": dated})}
    options = {"model": "m-{{ question[0] }}", "fallback_model": "m-3"}
    summary, _ = answered(tmp_path, routes, api="chat", **options)
    assert [notice.split("'")[1] for notice in summary.notices] == ["m-0", "m-1", "m-2", "m-3"]


# -- log probabilities ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_log_probabilities_that_are_not_sent(tmp_path: Path, api: Api) -> None:
    """A service without them is noticed once, although each row has an empty cell."""
    summary, _ = answered(tmp_path, {}, api=api, keep=["logprobs"])
    (notice,) = summary.notices
    assert notice.startswith("--keep logprobs: the service sent an answer without log probabilities")


# -- the token limit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "routes", "notice"),
    [
        (
            {"api": "chat", "max_completion_tokens": 100},
            {"POST /chat/completions": completion(412)},
            "the service does not apply --max-completion-tokens: an answer of 412 tokens was not cut off; "
            "use --param max_tokens=100 instead",
        ),
        (
            {"api": "chat", "max_completion_tokens": 100, "param": {"max_tokens": 100}},
            {"POST /chat/completions": completion(412)},
            "the service does not apply --max-completion-tokens: an answer of 412 tokens was not cut off",
        ),
        (
            {"api": "responses", "max_completion_tokens": 100},
            {"POST /responses": response(412)},
            "the service does not apply --max-completion-tokens: an answer of 412 tokens was not cut off",
        ),
        ({"api": "chat", "max_completion_tokens": 100}, {"POST /chat/completions": completion(99)}, None),
        ({"api": "chat", "max_completion_tokens": 100}, {"POST /chat/completions": completion(101, "length")}, None),
        ({"api": "chat", "max_completion_tokens": 5}, {"POST /chat/completions": completion(16)}, None),
        ({"api": "chat", "max_completion_tokens": 5}, {"POST /chat/completions": completion(17)}, "of 17 tokens"),
        ({"api": "chat"}, {"POST /chat/completions": completion(412)}, None),
    ],
)
def test_a_limit_that_is_not_applied(
    tmp_path: Path, options: dict[str, Any], routes: Routes, notice: str | None
) -> None:
    """An answer that is longer than the limit and not cut off is noticed, once a batch, with the remedy."""
    summary, _ = answered(tmp_path, routes, **options)
    if notice is None:
        assert summary.notices == ()
    else:
        assert len(summary.notices) == 1
        assert notice in summary.notices[0]
        assert ("; use" in summary.notices[0]) == (options["api"] == "chat" and "param" not in options)
