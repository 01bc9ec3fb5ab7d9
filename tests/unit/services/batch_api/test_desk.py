"""Whole rounds of the desk over a real socket: rows become request lines, and result lines become replies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from batchrun.errors import BatchRefused, PermanentFault, ServiceFault
from batchrun.records import Exchange
from batchrun.services.batch_api import lines
from tests.support.desk import KEY, named, office, texts
from tests.support.foreign_batch_api import (
    ForeignBatchApi,
    Planned,
    answered,
    completion,
    error_line,
    result_line,
)
from tests.support.rows import attempt, exchange

pytestmark = pytest.mark.anyio


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_rows_are_answered(service: ForeignBatchApi, tmp_path: Path, api: Literal["chat", "responses"]) -> None:
    """Each row gets the answer to its own request line, for both endpoints; no key and no file is left behind."""
    async with office(service.url, tmp_path, api=api) as desk:
        assert texts(await desk.run(range(3))) == named(range(3))
        assert desk.batches()[0].answers == 3
    assert KEY not in (tmp_path / "out.csv.journal").read_bytes().decode("latin-1")
    assert files_in(tmp_path) == ["out.csv.journal"]


async def test_a_request_line_is_the_ordinary_request(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A line has the endpoint and the body of an ordinary request, under an ASCII id without anything of the table."""
    async with office(service.url, tmp_path) as desk:
        await desk.ask([7])
        await desk.desk.submit()
    assert service.lines_of("batch_1") == [
        {
            "custom_id": "row7-turn1-attempt1-1",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m-1", "messages": [{"role": "user", "content": "row 7"}]},
        }
    ]


def test_the_longest_custom_id_fits() -> None:
    """A custom id has at most 64 characters, however many rows, turns and attempts there are."""
    asked: Exchange = exchange(row_index=10**10)
    custom_id = lines.custom_id_of(asked, attempt(1, 10**6), 10**12)
    assert len(custom_id) <= 64
    assert custom_id.isascii()


# -- the form of result files -----------------------------------------------------------------------------------


def crlf(found: list[bytes]) -> bytes:
    return b"".join(line + b"\r\n" for line in found)


def with_bom(found: list[bytes]) -> bytes:
    return b"\xef\xbb\xbf" + b"\n".join(found)


def with_blank_lines(found: list[bytes]) -> bytes:
    return b"\n\r\n" + b"\n  \n\n".join(found) + b"\n\n\n"


def reversed_order(found: list[bytes]) -> bytes:
    return b"\n".join(reversed(found)) + b"\n"


def with_other_line_ends(found: list[bytes]) -> bytes:
    """Answers with line ends of Unicode as they are, which only JSON may hold."""
    changed = [json.dumps(json.loads(line), ensure_ascii=False).replace("to ", "\u2028\u0085to ") for line in found]
    return "\n".join(changed).encode()


@pytest.mark.parametrize("form", [crlf, with_bom, with_blank_lines, reversed_order])
async def test_result_files_of_any_form_are_read(
    service: ForeignBatchApi, tmp_path: Path, form: Callable[[list[bytes]], bytes]
) -> None:
    """CRLF, a BOM, blank lines and another order change nothing."""
    service.written = form
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(4))) == named(range(4))
        assert desk.batches()[0].unknown == 0


async def test_a_result_line_ends_with_lf_only(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Other line ends inside of an answer belong to it."""
    service.written = with_other_line_ends
    async with office(service.url, tmp_path) as desk:
        found = texts(await desk.run(range(2)))
    assert found[1] == "\u2028\u0085to row1-turn1-attempt1-2"


# -- the judgement of result lines ------------------------------------------------------------------------------


def first_time(custom_id: str) -> bool:
    return "-attempt1-" in custom_id


@pytest.mark.parametrize(
    ("line", "error_type"),
    [
        (lambda i: result_line(i, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429),
         "rate_limit_exceeded"),
        (lambda i: result_line(i, {"error": {"message": "oops", "code": None}}, 500), "http_500"),
        (lambda i: result_line(i, None, 0), "http_0"),
        (lambda i: result_line(i, {"error": {"message": "timeout"}}, 408), "http_408"),
        (lambda i: result_line(i, {"error": {"message": "conflict"}}, 409), "http_409"),
        (lambda i: result_line(i, {"error": {"message": "bad gateway", "type": "server_error"}}, 200), "server_error"),
        (lambda i: result_line(i, {"error": {"message": "oops"}}, "503"), "http_503"),
        (lambda i: error_line(i, "batch_expired"), "batch_expired"),
        (lambda i: error_line(i, "batch_cancelled"), "batch_cancelled"),
        (lambda i: result_line(i, "<html>Bad gateway</html>", 502), "http_502"),
    ],
)  # fmt: skip
async def test_a_transient_error_of_a_line_is_tried_again(
    service: ForeignBatchApi, tmp_path: Path, line: Callable[[str], dict[str, Any]], error_type: str
) -> None:
    """A line with a transient error goes the way of the same ordinary error: its row gets another line."""
    service.answer = lambda asked: [line(asked["custom_id"])] if first_time(asked["custom_id"]) else answered(asked)
    async with office(service.url, tmp_path) as desk:
        await desk.ask([0])
        await desk.desk.submit()
        await desk.desk.watch()
        fault = (await desk.ask([0]))[0]
        assert isinstance(fault, ServiceFault)
        assert (fault.error_type, fault.run_ended) == (error_type, True)
        assert texts(await desk.run([0])) == {0: "to row0-turn1-attempt2-2"}


@pytest.mark.parametrize(
    ("body", "status", "error_type"),
    [
        ({"error": {"message": "your prompt is bad", "code": "invalid_prompt"}}, 400, "invalid_prompt"),
        ({"error": {"message": "This model's maximum context length is 5", "code": None}}, 400,
         "context_length_exceeded"),
        ({"error": {"message": "flagged", "code": None}}, 403, "http_403"),
        ({"nothing": "here"}, 200, "bad_reply"),
        (["a list"], 200, "bad_reply"),
    ],
)  # fmt: skip
async def test_a_permanent_error_of_a_line_fails_its_row(
    service: ForeignBatchApi, tmp_path: Path, body: Any, status: int, error_type: str
) -> None:
    """Other 4xx, and bodies that are no replies, fail the row as the same ordinary reply would."""
    service.answer = lambda asked: (
        [result_line(asked["custom_id"], body, status)] if asked["custom_id"].startswith("row0") else answered(asked)
    )
    async with office(service.url, tmp_path) as desk:
        found = await desk.run(range(2))
    assert texts(found) == {0: error_type, 1: "to row1-turn1-attempt1-2"}
    assert isinstance(found[0], PermanentFault)


async def test_a_row_that_the_service_never_runs_fails_in_the_end(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A service that expires every batch does not keep a row for ever: after ten runs the expiry costs attempts."""
    service.answer = lambda asked: [error_line(asked["custom_id"], "batch_expired")]
    async with office(service.url, tmp_path) as desk:
        types: list[str] = []
        for _ in range(12):
            await desk.ask([0])
            await desk.desk.submit()
            await desk.desk.watch()
            types += texts(await desk.ask([0])).values()
    assert types == ["batch_expired"] * 10 + ["not_run"] * 2


async def test_an_exhausted_quota_in_a_line_stops_the_batch(service: ForeignBatchApi, tmp_path: Path) -> None:
    """`insufficient_quota` in a line concerns every row."""
    error = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    service.answer = lambda asked: [result_line(asked["custom_id"], error, 429)]
    async with office(service.url, tmp_path) as desk:
        assert isinstance((await desk.run([0]))[0], BatchRefused)


async def test_an_answer_counts_beside_an_error_object(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A line is judged by its status and body, not by its `error`."""
    service.answer = lambda asked: [
        result_line(asked["custom_id"], completion("4"), 200, {"code": "odd", "message": "but fine"})
    ]
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == {0: "4"}


async def test_the_first_answer_of_several_lines_counts(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Of several lines for a request an answer stands above an error, the first above later ones; unknown ids are
    counted."""
    service.answer = lambda asked: [
        error_line(asked["custom_id"], "server_error"),
        result_line(asked["custom_id"], {"error": {"message": "oops"}}, 500),
        result_line(asked["custom_id"], completion("first")),
        result_line(asked["custom_id"], completion("second")),
        result_line("somebody-else", completion("third")),
        result_line("row0-turn1-attempt1-999", completion("fourth")),
    ]
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == {0: "first"}
        assert desk.batches()[0].unknown == 2


# -- other habits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("no_file", [None, ""])
async def test_a_missing_file_id_is_null_or_empty(
    service: ForeignBatchApi, tmp_path: Path, no_file: str | None
) -> None:
    """A service that writes "" for a file that a batch does not have is understood."""
    service.no_file = no_file
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(2))) == named(range(2))


@pytest.mark.parametrize("counts", [{"total": 0, "completed": 0, "failed": 0}, {"total": "x"}, {}])
async def test_wrong_counts_change_nothing(service: ForeignBatchApi, tmp_path: Path, counts: dict[str, Any]) -> None:
    """The service's own counts are for the display only."""
    service.counts = counts
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run(range(2))) == named(range(2))


async def test_an_unknown_status_is_not_an_end(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A status that is not known as an end means that the batch continues."""
    service.statuses = ("queued", "preparing", "Completed soon", "finalizing", "completed")
    async with office(service.url, tmp_path) as desk:
        assert texts(await desk.run([0])) == named(range(1))
        statuses = [each.batch.status for each in desk.news if each.kind == "status"]
    assert statuses[:3] == ["preparing", "Completed soon", "finalizing"]


async def test_azures_habits(tmp_path: Path) -> None:
    """On Azure, files and batches are outside of `/deployments`, the file is waited for, and empty ids are none."""
    with ForeignBatchApi(
        prefix="/openai", no_file="", file_statuses=("pending", "pending", "running", "processed")
    ) as azure:
        async with office(azure.origin, tmp_path, azure=True) as desk:
            assert texts(await desk.run(range(2))) == named(range(2))
    assert azure.seen.index("POST /batches") > azure.seen.index("GET /files/*") + 1
    assert {line["url"] for line in azure.lines_of("batch_1")} == {"/chat/completions"}


@pytest.mark.parametrize("status", ["canceled", "CANCELLED"])
async def test_every_spelling_of_cancelled_is_an_end(service: ForeignBatchApi, tmp_path: Path, status: str) -> None:
    """A batch that is `canceled` has ended, and so has one whose status is in capitals."""
    service.statuses = ("in_progress", status)
    async with office(service.url, tmp_path) as desk:
        await desk.ask([0])
        await desk.desk.submit()
        await desk.desk.watch()
        assert texts(await desk.ask([0])) == {0: "batch_cancelled"}


async def test_one_model_and_one_endpoint_in_a_file(service: ForeignBatchApi, tmp_path: Path) -> None:
    """A service batch has at most as many lines as its limit, and lines of one model only."""
    async with office(service.url, tmp_path, max_lines=2) as desk:
        assert texts(await desk.run(range(5))) == named(range(5))
        assert [batch.lines for batch in desk.batches()] == [2, 2, 1]


async def test_files_are_deleted_when_their_results_are_in_the_journal(
    service: ForeignBatchApi, tmp_path: Path
) -> None:
    """Files of open batches stay; those of collected ones are deleted once."""
    async with office(service.url, tmp_path) as desk:
        await desk.ask([0])
        await desk.desk.submit()
        assert await desk.desk.delete_files() == (0, 0)
        await desk.desk.watch()
        assert await desk.desk.delete_files() == (2, 0)
        assert await desk.desk.delete_files() == (0, 0)
    assert service.deleted == ["file-1", "file-2"]


async def test_a_cancelled_batch_gives_what_it_has_done(service: ForeignBatchApi, tmp_path: Path) -> None:
    """After a cancellation the answers are collected, and the other rows have lines that cost them no attempt."""
    service.statuses = ("in_progress",)
    service.answer = lambda asked: answered(asked) if asked["custom_id"].startswith("row1") else []
    async with office(service.url, tmp_path) as desk:
        await desk.ask(range(3))
        await desk.desk.submit()
        assert len(await desk.desk.cancel_all()) == 1
        await desk.desk.watch()
        assert texts(await desk.ask(range(3))) == {
            0: "batch_cancelled", 1: "to row1-turn1-attempt1-2", 2: "batch_cancelled"
        }  # fmt: skip


@pytest.mark.parametrize("status", [400, 404, 409])
async def test_a_batch_that_ends_before_its_cancellation_is_collected(
    service: ForeignBatchApi, tmp_path: Path, status: int
) -> None:
    """A batch that ends between the look at it and its cancellation, which the service then refuses, is collected: the
    cancellation is not repeated."""
    service.statuses = ("in_progress", "completed")
    refusal = {"error": {"message": "Cannot cancel a batch with status 'completed'."}}
    service.planned["POST /batches/*/cancel"] = [Planned(status, refusal)] * 2
    async with office(service.url, tmp_path) as desk:
        await desk.ask(range(2))
        await desk.desk.submit()
        assert len(await desk.desk.cancel_all()) == 1
        await desk.desk.watch()
        assert texts(await desk.ask(range(2))) == named(range(2))
    assert service.count("POST /batches/*/cancel") == 1


async def test_the_partial_results_of_an_expired_batch_are_kept(service: ForeignBatchApi, tmp_path: Path) -> None:
    """An expired batch is collected like every other; its other rows are asked again."""
    service.statuses = ("in_progress", "expired")
    service.answer = lambda asked: (
        answered(asked) if asked["custom_id"].startswith("row1") else [error_line(asked["custom_id"], "batch_expired")]
    )
    async with office(service.url, tmp_path) as desk:
        await desk.ask(range(2))
        await desk.desk.submit()
        await desk.desk.watch()
        assert texts(await desk.ask(range(2))) == {0: "batch_expired", 1: "to row1-turn1-attempt1-2"}


async def test_other_peoples_batches_are_not_touched(service: ForeignBatchApi, tmp_path: Path) -> None:
    """Files and batches of others are neither read, cancelled nor deleted, even where a list shows them."""
    other = service.upload("theirs.jsonl", b"{}\n")
    service.create({"input_file_id": other["id"], "endpoint": "/v1/chat/completions"})
    service.planned["POST /batches"] = [Planned(acts=True)]
    async with office(service.url, tmp_path) as desk:
        await desk.run([0])
        await desk.desk.cancel_all()
        await desk.desk.delete_files()
    assert service.batches["batch_1"]["status"] == "validating"
    assert other["id"] not in service.deleted
    assert len(service.batches) == 2
