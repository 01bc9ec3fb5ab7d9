"""How open service batches are watched and collected: failed polls, failed batches, and downloads that are not whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import BatchRefused, OutputError, PermanentFault, ServerFault, ServiceFault
from batchrun.services.batch_api.collecting import is_refusal
from batchrun.services.batch_api.watching import Pace, PollSchedule
from tests.support.desk import HASTE, KEY, Office, named, office, texts
from tests.support.foreign_batch_api import ForeignBatchApi, Planned, answered, completion, error_line, result_line
from tests.support.rows import NOON

pytestmark = pytest.mark.anyio

SOON = replace(HASTE, settle_s=0.02)
GONE = Planned(404, {"error": {"message": "No such object: batch_1", "code": None}})
NO_CONTENT = Planned(404, {"error": {"message": "No such File object: file-2", "code": None}})


def test_polls_come_after_1_2_4_seconds_up_to_the_maximum() -> None:
    """The waits double from 1 s up to 5 min, and begin with 1 s again when the status changes."""
    schedule = PollSchedule(Pace())
    assert schedule.next_s == float("-inf")
    now_s, waits = 100.0, []
    for _ in range(11):
        schedule.polled(now_s)
        waits.append(schedule.next_s - now_s)
        now_s = schedule.next_s
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    schedule.polled(now_s, changed=True)
    assert schedule.next_s == now_s + 1


def test_retry_after_is_obeyed() -> None:
    """The next poll is not before the time that the service asks for, which is bounded."""
    schedule = PollSchedule(Pace())
    schedule.polled(0.0, retry_after_s=77.0)
    assert schedule.next_s == 77.0
    schedule.polled(0.0, retry_after_s=1e9)
    assert schedule.next_s == 3_600.0


def test_the_longest_wait_is_an_option() -> None:
    """`--batch-poll` bounds the waits, the first one too."""
    schedule = PollSchedule(Pace(max_poll_s=0.5))
    schedule.polled(0.0)
    assert schedule.next_s == 0.5


@pytest.mark.parametrize(
    "trouble",
    [
        Planned(429, {"error": {"message": "slow down"}}, headers={"Retry-After": "0"}),
        Planned(500, {"error": {"message": "oops"}}),
        Planned(200, b"<html>sign in</html>", headers={"Content-Type": "text/html"}),
        Planned(200, {"error": {"message": "in the body"}}),
        Planned(200, {"id": "batch_1"}),
        Planned(404, {"error": {"message": "No batch found with id 'batch_1'"}}),
        Planned(404, {"detail": "Not Found"}),
        Planned(400, {"error": {"message": "what"}}),
        Planned(200, {"id": "batch_1", "status": "completed"}, cut=5),
        Planned(),
    ],
)
async def test_no_error_of_a_poll_ends_a_run(service: ForeignBatchApi, tmp_path: Path, trouble: Planned) -> None:
    """Polls that fail are shown and tried again."""
    service.planned["GET /batches/*"] = [trouble] * 3
    async with office(service.url, tmp_path, pace=replace(HASTE, unknown_s=600.0)) as desk:
        assert texts(await desk.run([0])) == named(range(1))
        assert bool(desk.texts("trouble")) == (trouble.body != {"id": "batch_1"})


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("route", ["GET /batches/*", "GET /files/*/content"])
async def test_a_refused_key_ends_the_run(service: ForeignBatchApi, tmp_path: Path, status: int, route: str) -> None:
    """401 and 403 end the run with exit code 5; with another key the next run continues."""
    service.planned[route] = [Planned(status, {"error": {"message": f"no {KEY}", "code": None}})]
    async with office(service.url, tmp_path) as desk:
        with pytest.raises(BatchRefused) as caught:
            await desk.run([0])
    assert caught.value.exit_code == 5
    assert KEY not in str(caught.value)
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == named(range(1))
    assert len(service.batches) == 1


async def test_a_batch_that_is_gone_for_good_fails_its_rows(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Long after its creation, a batch that several polls do not find is lost: its rows are not paid for again."""
    service.planned["GET /batches/*"] = [GONE] * 99
    later = iter(range(1_000_000))
    async with office(
        service.url, tmp_path, pace=replace(HASTE, unknown_s=60), clock=lambda: NOON + timedelta(minutes=next(later))
    ) as desk:
        assert texts(await desk.run([0])) == {0: "batch_gone"}


async def test_one_look_does_not_wait(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A single look at each service batch collects what has ended, and returns."""
    service.statuses = ("validating", "in_progress", "completed")
    async with office(service.url, tmp_path, max_lines=1, pace=Pace()) as desk:
        await desk.ask(range(2))
        await desk.desk.submit()
        assert await desk.desk.watch(once=True) == []
        assert len(await desk.desk.watch(once=True)) == 2


# -- failed as a whole ------------------------------------------------------------------------------------------


def failing(service: ForeignBatchApi, *problems: dict[str, Any], times: int = 1) -> None:
    """Let batches fail with these errors, so often; later ones are completed."""
    service.statuses = ("validating", "failed")
    service.errors = list(problems)
    create, left = service.create, [times]

    def created(body: Any) -> dict[str, Any]:
        if left[0] == 0:
            service.statuses = ("validating", "completed")
        left[0] -= 1
        return create(body)

    service.__dict__["create"] = created


async def test_named_lines_fail_and_the_others_are_sent_at_once(service: ForeignBatchApi, tmp_path: Path) -> None:
    """If a failed batch names lines, their rows fail with the service's message; the others go into a new batch."""
    problem = {"code": "invalid_request", "message": "no such field: x", "param": "x", "line": 2}
    failing(service, problem)
    async with office(service.url, tmp_path) as desk:
        found = await desk.run(range(3))
        assert texts(found) == {**named(range(3)), 1: "invalid_request"}
        assert "no such field: x" in str(found[1])
        assert [batch.lines for batch in desk.batches()] == [3, 2]
        assert {each.number for each in desk.attempts.values()} == {1}


async def test_lines_may_be_counted_from_0(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A service that names line 0 counts from 0."""
    failing(service, {"message": "bad", "line": 0}, {"message": "worse", "line": 2})
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(3))) == {0: "http_400", 1: "to row1-turn1-attempt1-2", 2: "http_400"}


@pytest.mark.parametrize("problem", [{"message": "internal", "line": None}, {"message": "bad", "line": 99}])
async def test_a_batch_that_failed_without_a_line_is_sent_once_more(
    service: ForeignBatchApi, tmp_path: Path, problem: dict[str, Any]
) -> None:
    """Without a line that is named, the same lines are sent once more."""
    failing(service, problem)
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(2))) == named(range(2))
        assert {each.number for each in desk.attempts.values()} == {1}


async def test_a_batch_that_failed_twice_ends_the_run(service: ForeignBatchApi, tmp_path: Path) -> None:
    """The second failure without a line ends the run with exit code 3; the lines wait for the next run."""
    failing(service, times=2)
    async with office(service.url, tmp_path) as desk:
        with pytest.raises(BatchRefused, match="the service gives no reason") as caught:
            await desk.run(range(2))
        assert caught.value.exit_code == 3
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(2))) == named(range(2))


@pytest.mark.parametrize("code", ["billing_hard_limit_reached", "insufficient_quota", "model_not_found"])
async def test_a_refusal_of_every_batch_ends_the_run_after_one(
    service: ForeignBatchApi, tmp_path: Path, code: str
) -> None:
    """A failure that every other batch would meet too ends the run with exit code 5."""
    failing(service, {"code": code, "message": "no more", "line": None}, times=9)
    async with office(service.url, tmp_path) as desk:
        with pytest.raises(BatchRefused, match="no more") as caught:
            await desk.run(range(2))
        assert caught.value.exit_code == 5
        assert desk.journal.service_batches.line_state("row0-turn1-attempt1-1") == "waiting"
    assert len(service.batches) == 1


# -- downloads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        Planned(500, {"error": {"message": "oops"}}),
        Planned(200, b"<!doctype html><title>Sign in</title>", headers={"Content-Type": "text/html"}),
        Planned(200, None, acts=True, cut=40),
        Planned(200, b'{"custom_id": "row0-turn1-attempt1-1", "respo'),
        Planned(200, b""),
        Planned(404, {"error": {"message": "No such File object: file-2", "code": None}}),
        Planned(),
    ],
)
async def test_a_download_that_is_not_whole_is_fetched_again(
    service: ForeignBatchApi, tmp_path: Path, trouble: Planned
) -> None:
    """A download that fails, is a page, ends in half a line or lacks lines is fetched again; no row is asked again."""
    service.planned["GET /files/*/content"] = [trouble] * 2
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(3))) == named(range(3))
        assert desk.texts("trouble")
    assert set(service.asked.values()) == {1}


async def test_answers_that_the_service_lost_are_counted(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Results that stay missing after several downloads are counted, and their rows are asked again."""
    service.answer = lambda line: [] if line["custom_id"].startswith("row1-turn1-attempt1-") else answered(line)
    async with office(service.url, tmp_path, pace=SOON) as desk:
        assert texts(await desk.run(range(3)))[1] == "to row1-turn1-attempt2-4"
        assert [batch.missing for batch in desk.batches()] == [1, 0]
    assert service.count("GET /files/*/content") >= 6


async def test_no_secret_reaches_the_journal(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A key that the service repeats in its results or in the reason of a failure is not written."""
    failing(service, {"code": "oops", "message": f"the key {KEY} is odd", "line": None})
    refused = {"error": {"message": f"Incorrect key: {KEY}", "code": None}}
    service.answer = lambda line: [result_line(line["custom_id"], refused, 400)]
    async with office(service.url, tmp_path) as desk:
        found = await desk.run([0])
        assert KEY not in str(desk.news)
    assert "Incorrect key: ***" in str(found[0])
    assert KEY.encode() not in (tmp_path / "out.csv.journal").read_bytes()


@pytest.mark.parametrize("key", ["none", "attempt1"])
async def test_a_key_that_is_a_word_changes_no_answer(service: ForeignBatchApi, tmp_path: Path, key: str) -> None:
    """Servers without keys get a word as theirs. It stays in answers, and in the names of a refusal's parts."""
    refused = {"error": {"message": "no money, none at all", "code": "insufficient_quota", "none": 1}}
    service.answer = lambda line: (
        answered(line) if line["custom_id"].startswith("row0") else [result_line(line["custom_id"], refused, 429)]
    )
    async with office(service.url, tmp_path, key=key) as desk:
        found = await desk.run(range(2))
    assert texts(found)[0] == named(range(1))[0]
    assert texts(found)[1] == "insufficient_quota"


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
@pytest.mark.parametrize("no_file", [None, ""])
async def test_files_that_are_named_late_are_waited_for(
    service: ForeignBatchApi, tmp_path: Path, no_file: str | None, status: str
) -> None:
    """A batch that ended without any file, and may have answers, is polled on."""
    late = {"id": "batch_1", "status": status, "output_file_id": no_file, "error_file_id": no_file}
    service.planned["GET /batches/*"] = [Planned(200, late)] * 4
    service.statuses = ("validating", status)
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(2))) == named(range(2))
        assert len(desk.texts("trouble")) == 4


async def test_a_completed_batch_that_never_names_a_file_lost_its_results(
    service: ForeignBatchApi, tmp_path: Path
) -> None:
    """After a minute without a file the results count as lost."""
    never = {"id": "batch_1", "status": "completed", "output_file_id": None, "error_file_id": None}
    service.planned["GET /batches/*"] = [Planned(200, never)] * 999
    async with office(service.url, tmp_path, pace=SOON) as desk:
        await desk.ask([0])
        await desk.desk.submit()
        await desk.desk.watch()
        assert texts(await desk.ask([0])) == {0: "result_missing"}


async def test_a_result_file_that_is_gone_fails_its_rows(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Rows whose result file has expired fail with words; only --retry-failed asks them again."""
    service.answer = lambda line: (
        [error_line(line["custom_id"], "server_error")] if line["custom_id"].startswith("row1") else answered(line)
    )
    service.planned["GET /files/*/content"] = [NO_CONTENT] * 99
    serve_errors_only(service)
    async with office(service.url, tmp_path, pace=SOON) as desk:
        await desk.ask(range(2))
        await desk.desk.submit()
        await desk.desk.watch()
        found = await desk.ask(range(2))
    assert texts(found) == {0: "result_file_gone", 1: "server_error"}
    assert "--retry-failed" in str(found[0])


def refusal(status: int) -> Planned:
    return Planned(status, {"error": {"message": "the content filter is off", "code": None}})


@pytest.mark.parametrize(("status", "is_lost"), [(400, True), (422, True), (451, True), (429, False), (503, False)])
@pytest.mark.parametrize("once", [False, True])
async def test_a_file_that_is_refused_for_good_fails_its_rows(
    service: ForeignBatchApi, tmp_path: Path, status: int, is_lost: bool, once: bool
) -> None:
    """A 4xx that does not change is given up after a few downloads, also by runs that look only once, with the
    service's words; a 429 or a 5xx is waited out."""
    service.planned["GET /files/*/content"] = [refusal(status)] * (999 if is_lost else 9)
    later = iter(range(1_000_000))
    async with office(service.url, tmp_path, pace=SOON, clock=lambda: NOON + timedelta(seconds=next(later))) as desk:
        await desk.ask([0])
        await desk.desk.submit()
        while not await desk.desk.watch(once=once):
            pass
        found = await desk.ask([0])
    if is_lost:
        assert texts(found) == {0: "result_file_refused"}
        assert "content filter is off" in str(found[0])
        assert "--retry-failed" in str(found[0])
        assert service.count("GET /files/*/content") < 20
    else:
        assert texts(found) == named(range(1))


@pytest.mark.parametrize(
    ("fault", "is_lasting"),
    [
        (PermanentFault("", error_type="e", status_code=301), True),
        (PermanentFault("", error_type="e", status_code=402), True),
        (BatchRefused("", error_type="insufficient_quota", status_code=429), False),
        (ServerFault("", error_type="e", status_code=408), False),
        (PermanentFault("", error_type="e", status_code=501), False),
        (PermanentFault("", error_type="e"), False),
    ],
)
def test_a_refusal_that_lasts(fault: ServiceFault, is_lasting: bool) -> None:
    """Only a status that says that the request is wrong counts as a refusal that will not change."""
    assert is_refusal(fault) is is_lasting


@pytest.mark.parametrize("plan", [GONE, refusal(400)])
async def test_looking_once_ends_for_a_lost_batch(service: ForeignBatchApi, tmp_path: Path, plan: Planned) -> None:
    """A batch that the service does not show long after its creation is lost for a run that looks only once, too."""
    service.planned["GET /batches/*"] = [plan] * 99
    later = iter(range(1_000_000))
    async with office(
        service.url, tmp_path, pace=replace(HASTE, unknown_s=600), clock=lambda: NOON + timedelta(minutes=next(later))
    ) as desk:
        await desk.ask([0])
        await desk.desk.submit()
        looks = 0
        while not await desk.desk.watch(once=True):
            looks += 1
        assert looks < 9
        assert texts(await desk.ask([0])) == {0: "batch_gone"}


def serve_errors_only(service: ForeignBatchApi) -> None:
    """Let the service lose the output files of batches, but not the files with errors."""
    service.planned.clear()
    end: Callable[[dict[str, Any], str], None] = service._end

    def ended(batch: dict[str, Any], status: str) -> None:
        end(batch, status)
        service.contents.pop(batch["output_file_id"], None)

    service.__dict__["_end"] = ended


async def test_a_temporary_file_that_cannot_be_written_is_named(service: ForeignBatchApi, tmp_path: Path) -> None:
    """An error of the disk is one line that names the file, not a traceback."""
    (tmp_path / "out.csv.journal-lines").mkdir()
    with pytest.raises(OutputError, match=r"out\.csv\.journal-lines: the temporary file") as caught:
        async with office(service.url, tmp_path):
            pass
    assert "\n" not in str(caught.value)


async def test_a_failed_batch_with_results_gives_them(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Results of a batch that failed in the middle count; its other rows are asked again."""
    failed = {"status": "failed", "output_file_id": "file-9", "error_file_id": ""}
    service.contents["file-9"] = json.dumps(result_line("row0-turn1-attempt1-1", completion("early"))).encode()
    service.planned["GET /batches/*"] = [Planned(200, {"id": "batch_1", **failed})]
    async with office(service.url, tmp_path) as desk:
        await desk.ask(range(2))
        await desk.desk.submit()
        await desk.desk.watch()
        assert texts(await desk.ask(range(2))) == {0: "early", 1: "result_missing"}


async def test_a_kill_in_the_middle_of_a_collection_loses_nothing(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A process that stops while it collects leaves its batch open; the next one collects all of it."""

    async def interrupted(desk: Office) -> None:
        await desk.ask(range(3))
        await desk.desk.submit()
        desk.journal.service_batches.keep_results(1, [])
        service.planned["GET /files/*/content"] = [Planned(200, None, acts=True, cut=200)]
        await desk.desk.watch(once=True)

    async with office(service.url, tmp_path) as desk:
        await interrupted(desk)
        assert len(desk.desk.open()) == 1
    (tmp_path / "out.csv.journal-lines").write_bytes(b"half a download")
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(3))) == named(range(3))
    assert set(service.asked.values()) == {1}
