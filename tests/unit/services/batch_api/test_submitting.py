"""What happens between the lines that are due and a service batch: lost replies, refusals, sizes, and killed processes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import BatchRefused
from tests.support.desk import KEY, PLACE, named, office, texts
from tests.support.foreign_batch_api import ForeignBatchApi, Planned
from tests.support.rows import NOON

pytestmark = pytest.mark.anyio

LOST = Planned(acts=True)
NEVER_ARRIVED = Planned()
BROKEN = Planned(500, {"error": {"message": "oops", "code": None}})
BROKEN_AFTER = Planned(502, {"error": {"message": "bad gateway", "code": None}}, acts=True)
PAGE = Planned(200, b"<html>maintenance</html>", acts=True, headers={"Content-Type": "text/html"})
NO_FILE = Planned(400, {"error": {"message": "Cannot find file file-1, or organization has no access", "code": None}})
FULL = Planned(429, {"error": {"message": "Enqueued token limit reached", "code": "token_limit_exceeded"}})
NO_LIST = Planned(404, {"error": {"message": "Not Found"}})


@pytest.mark.parametrize("route", ["POST /files", "POST /batches"])
@pytest.mark.parametrize("reply", [LOST, BROKEN_AFTER, PAGE])
async def test_a_lost_reply_makes_no_second_batch(
    service: ForeignBatchApi, tmp_path: Path, route: str, reply: Planned
) -> None:
    """After a reply that was lost the service's list shows what was made: the POST is not sent again."""
    service.planned[route] = [reply]
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(2))) == named(range(2))
    assert service.count(route) == 1
    assert len(service.batches) == 1


@pytest.mark.parametrize("route", ["POST /files", "POST /batches"])
@pytest.mark.parametrize("reply", [NEVER_ARRIVED, BROKEN])
async def test_a_request_that_did_nothing_is_sent_again(
    service: ForeignBatchApi, tmp_path: Path, route: str, reply: Planned
) -> None:
    """The POST is sent again after the list, looked at twice and to its end, does not have what it should have made."""
    for number in range(3):
        service.create({"input_file_id": f"file-of-others-{number}", "endpoint": "/v1/embeddings"})
    service.planned[route] = [reply]
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(2))) == named(range(2))
    assert service.count(route) == 2
    assert service.count(route.replace("POST", "GET")) >= 2
    assert len(service.batches) == 4
    assert not service.asked - service.asked.__class__(dict.fromkeys(service.asked, 1))


async def test_a_batch_is_found_by_its_metadata(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A service may give the file of a batch another id: then the metadata that name this journal decide."""
    service.keeps_metadata = True
    service.planned["POST /batches"] = [LOST]
    async with office(service.url, tmp_path) as desk:
        await desk.ask([0])
        await desk.desk.submit()
        service.batches["batch_1"]["input_file_id"] = "file-copy"
        service.contents["file-copy"] = service.contents["file-1"]
        assert desk.batches()[0].batch_id == "batch_1"


async def test_rows_are_not_sent_again_if_the_service_lists_no_batches(
    service: ForeignBatchApi, tmp_path: Path
) -> None:
    """Where nobody can know whether a batch was created, its rows fail, and only --retry-failed asks them again."""
    service.planned = {"POST /batches": [LOST], "GET /batches": [NO_LIST]}
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == {0: "batch_unknown"}
    assert service.count("POST /batches") == 1


async def test_a_batch_without_an_id_is_not_made_again(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Where the ids of batches are no text, none can be collected: the rows fail, and no second batch is paid for."""
    create: Callable[[dict[str, Any]], dict[str, Any]] = service.create

    def numbered(body: dict[str, Any]) -> dict[str, Any]:
        made = create(body)
        made["id"] = len(service.batches)
        return made

    service.__dict__["create"] = numbered
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == {0: "batch_unknown"}
    assert service.count("POST /batches") == 1


async def test_a_file_that_appears_late_is_waited_for(service: ForeignBatchApi, tmp_path: Path) -> None:
    """ "Cannot find file" right after an upload is tried again."""
    service.planned["POST /batches"] = [NO_FILE, NO_FILE]
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == named(range(1))
    assert service.count("POST /files") == 1


@pytest.mark.parametrize(
    "reply",
    [
        Planned(404, {"error": {"message": "Not Found"}}),
        Planned(404, {"detail": "Not Found"}),
        Planned(404, b"404 page not found"),
        Planned(405, {"error": {"message": "Method Not Allowed"}}),
    ],
)
async def test_a_service_without_a_batch_api_is_named(service: ForeignBatchApi, tmp_path: Path, reply: Planned) -> None:
    """404 on /files ends the run with exit code 5 and one line; the lines wait for another run."""
    service.planned["POST /files"] = [reply]
    async with office(service.url, tmp_path) as desk:
        with pytest.raises(BatchRefused, match="no Batch API") as caught:
            await desk.run([0])
        assert caught.value.exit_code == 5
        assert "\n" not in str(caught.value)
        assert desk.journal.service_batches.line_state("row0-turn1-attempt1-1") == "waiting"
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == named(range(1))


async def test_a_refused_key_names_no_secret(service: ForeignBatchApi, tmp_path: Path) -> None:
    """401 ends the run, and its message holds no key, even if the service repeats it."""
    service.planned["POST /files"] = [Planned(401, {"error": {"message": f"bad key {KEY}", "code": None}})]
    async with office(service.url, tmp_path) as desk:
        with pytest.raises(BatchRefused) as caught:
            await desk.run([0])
    assert KEY not in str(caught.value)


async def test_a_file_that_is_too_large_is_halved(service: ForeignBatchApi, tmp_path: Path) -> None:
    """413: half the file, until it fits."""
    service.max_bytes = 500
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(9))) == named(range(9))
        sizes = [len(service.contents[str(batch.input_file_id)]) for batch in desk.batches() if batch.batch_id]
    assert max(sizes) <= 500
    assert len(sizes) < 9


async def test_a_single_line_that_is_too_large_fails_its_row(service: ForeignBatchApi, tmp_path: Path) -> None:
    """413 for one line is about its row."""
    service.max_bytes = 10
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == {0: "request_too_large"}


async def test_a_full_service_gets_half_as_many_rows(service: ForeignBatchApi, tmp_path: Path) -> None:
    """429 at creation spends no attempt: half as many rows are sent, and what fits is remembered for the run."""
    service.planned["POST /batches"] = [FULL]
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(8))) == named(range(8))
        assert [(batch.lines, batch.status) for batch in desk.batches()] == [
            (8, "dropped"), (4, "completed"), (4, "completed")
        ]  # fmt: skip
        assert {each.number for each in desk.attempts.values()} == {1}


async def test_own_batches_are_waited_for_before_more_is_sent(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A 429 at creation while own batches are open sends nothing more until these have ended."""
    service.planned["POST /batches"] = [Planned(200, acts=True), FULL]
    async with office(service.url, tmp_path, max_lines=4) as desk:
        await desk.ask(range(8))
        assert len(await desk.desk.submit()) == 1
        assert desk.desk.waiting == 4
        assert len(await desk.desk.submit()) == 0
        await desk.desk.watch()
        assert [batch.lines for batch in await desk.desk.submit()] == [2]
        assert desk.desk.waiting == 2


async def test_a_token_limit_at_validation_halves_the_batch(service: ForeignBatchApi, tmp_path: Path) -> None:
    """`token_limit_exceeded` of a failed batch goes the same way as a 429 at creation."""
    service.statuses = ("validating", "failed")
    service.errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
    async with office(service.url, tmp_path) as desk:
        await desk.ask(range(4))
        await desk.desk.submit()
        await desk.desk.watch()
        service.statuses = ("validating", "completed")
        assert texts(await desk.run(range(4))) == named(range(4))
        assert [batch.lines for batch in desk.batches()] == [4, 2, 2]


# -- killed processes -------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


def dying(moment: int) -> Callable[[], datetime]:
    """Return a clock that ends the process when it is read for the given time: the desk reads it before each write."""
    left = iter(range(moment, 0, -1))

    def clock() -> datetime:
        if next(left, 0) == 1:
            raise Killed
        return NOON

    return clock


@pytest.mark.parametrize("moment", range(1, 9))
@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_process_killed_before_any_write_pays_nothing_twice(
    service: ForeignBatchApi, tmp_path: Path, moment: int, confirmed: bool
) -> None:
    """Killed between any request and its record, the next process continues: every row is asked once, and answered.

    It does so too if the replies that name the file and the batch were lost before.
    """
    if not confirmed:
        service.planned = {"POST /files": [LOST], "POST /batches": [LOST]}
    with pytest.raises(Killed):
        async with office(service.url, tmp_path, clock=dying(moment)) as desk:
            await desk.run(range(3))
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(3))) == named(range(3))
    assert len(service.batches) == 1
    assert set(service.asked.values()) == {1}


async def test_lines_of_rows_that_a_run_leaves_out_are_not_sent(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A line that waits from an earlier run is sent only if its row is asked in this one."""
    async with office(service.url, tmp_path) as desk:
        await desk.ask(range(3))
    async with office(service.url, tmp_path) as desk:
        await desk.ask([1])
        await desk.desk.submit()
    assert [line["custom_id"] for line in service.lines_of("batch_1")] == ["row1-turn1-attempt1-2"]


async def test_a_second_batch_that_appears_late_is_cancelled(service: ForeignBatchApi, tmp_path: Path) -> None:
    """If a list shows too late what a lost request has created, the batch that is one too many is cancelled."""
    service.planned = {
        "POST /batches": [LOST],
        "GET /batches": [Planned(200, {"object": "list", "data": [], "has_more": False})] * 2,
    }
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == named(range(1))
        assert any("batch_1" in text for text in desk.texts("trouble"))
    assert service.batches["batch_1"]["status"] == "cancelling"
    assert set(service.asked.values()) == {1}


@pytest.mark.parametrize("reply", [FULL, Planned(400, {"error": {"message": "no", "code": "billing"}})])
async def test_a_refusal_after_a_lost_request_is_not_believed(
    service: ForeignBatchApi, tmp_path: Path, reply: Planned
) -> None:
    """If a list shows too late what a lost request has created, and the next one is refused, its lines do not go into
    another batch."""
    service.planned = {
        "POST /batches": [LOST, reply],
        "GET /batches": [Planned(200, {"object": "list", "data": [], "has_more": False})] * 2,
    }
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(2))) == named(range(2))
    assert set(service.asked.values()) == {1}


@pytest.mark.parametrize("status", ["prepared", "uploading", "uploaded", "creating"])
async def test_a_batch_that_was_not_created_is_cancelled(service: ForeignBatchApi, tmp_path: Path, status: str) -> None:
    """Lines of a service batch that stopped before its creation wait again, and are sent by the next run."""
    async with office(service.url, tmp_path) as desk:
        await desk.ask([0])
        lines = desk.journal.service_batches
        lines.prepare(PLACE, "/v1/chat/completions", "m-1", [1], NOON)
        lines.record(1, NOON, status=status, input_file_id="file-1")
        assert await desk.desk.cancel_all() == []
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == named(range(1))


async def test_a_request_at_another_service_is_lost(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Results at another place cannot be collected here: the row is asked again, and not waited for for ever."""
    async with office(service.url, tmp_path) as desk:
        await desk.ask([0])
        desk.journal.service_batches.prepare("https://elsewhere.example/v1", "/v1/chat/completions", "m-1", [1], NOON)
        assert texts(await desk.ask([0])) == {0: "run_lost"}


async def test_a_run_without_the_batch_api_reads_collected_results(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Without the Batch API, results that were collected count, and lines that wait are asked in the ordinary way."""
    async with office(service.url, tmp_path) as desk:
        await desk.ask([0])
        await desk.desk.submit()
        await desk.desk.watch()
        await desk.ask([1])
    async with office(service.url, tmp_path, asks=False) as desk:
        assert texts(await desk.ask([0, 1])) == {**named(range(1)), 1: "batch_cancelled"}
        assert desk.desk.waiting == 0
