"""The clients that the benchmarks compare; each runs in its own process.

    python tests/benchmarks/arms.py {bare,batchrun,semaphore,overview} --url URL --rows N --concurrency N --folder PATH

`bare`      The lower bound for any use of the SDK: `AsyncOpenAI` on its aiohttp client and uvloop sends the streamed
            `create_and_run` that batchrun sends, with the same body and headers, and discards the bytes of the reply.
`batchrun`  The whole batch: `make_plan` and `run_batch` from a CSV file to a CSV file, limits and journal included.
`semaphore` What people write by hand: `asyncio.gather` over all rows, an `asyncio.Semaphore`, the SDK's own methods on
            `AsyncOpenAI` as it comes, and a CSV file at the end. No journal, no rate limits but the SDK's retries.
`overview`  The pattern of OpenAI's overview of the Assistants API (create a thread, a message and a run, retrieve
            the run every 0.5 s until it has ended, list the messages), on `AsyncOpenAI` as it comes: httpx2,
            asyncio's loop. The overview itself is synchronous, which would
            need a thread for each row in flight.

Prints one JSON object: rows answered, peak memory in MiB, seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

POLL_S = 0.5
ASKS: dict[str, dict[str, Any]] = {
    "assistants": {"api": "assistants"},
    "responses": {"api": "responses"},
    "responses-stream": {"api": "responses", "stream": True},
    "conversation": {"api": "responses", "conversation": True},
    "chat": {"api": "chat"},
    "chat-stream": {"api": "chat", "stream": True},
}
"""Ways to ask, and batchrun's options for each."""
QUESTION = "A train leaves at 7 h and takes 95 minutes, with two stops. When is it due?"


async def ask_all(rows: int, concurrency: int, ask: Callable[[int], Awaitable[None]]) -> None:
    """Call `ask` `rows` times, with at most `concurrency` calls at once."""
    numbers = iter(range(rows))

    async def ask_next() -> None:
        for number in numbers:
            await ask(number)

    async with anyio.create_task_group() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(ask_next)


def requests_of(way: str, number: int) -> list[tuple[str, dict[str, Any]]]:
    """Return path and body of the requests that batchrun sends for a row in this way (one of `ASKS`)."""
    metadata = {"batch": "batch_0123456789abcdef", "row": str(number), "attempt": "1"}
    messages = [{"role": "user", "content": QUESTION}]
    response: dict[str, Any] = {"model": "standin", "input": QUESTION, "store": True, "metadata": metadata}
    chat: dict[str, Any] = {"model": "standin", "messages": messages}
    ways: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "assistants": [
            (
                "/threads/runs",
                {
                    "assistant_id": "asst_standin",
                    "thread": {"messages": messages, "metadata": metadata},
                    "metadata": metadata,
                    "stream": True,
                },
            )
        ],
        "responses": [("/responses", response)],
        "responses-stream": [("/responses", {**response, "stream": True})],
        "conversation": [
            ("/conversations", {"metadata": metadata}),
            ("/responses", {**response, "conversation": "conv_00000000000000000000"}),
        ],
        "chat": [("/chat/completions", chat)],
        "chat-stream": [
            ("/chat/completions", {**chat, "stream": True, "stream_options": {"include_usage": True}}),
        ],
    }
    return ways[way]


async def bare(options: argparse.Namespace) -> int:
    """Send with the SDK and discard the replies: the lower bound."""
    import httpx2
    from openai import AsyncOpenAI, AsyncStream, DefaultAioHttpClient

    http_client = DefaultAioHttpClient(limits=httpx2.Limits(max_connections=10_000, max_keepalive_connections=10_000))
    answered = 0
    async with AsyncOpenAI(api_key="none", base_url=options.url, max_retries=0, http_client=http_client) as client:

        async def ask(number: int) -> None:
            nonlocal answered
            for path, body in requests_of(options.ask, number):
                headers = {"Idempotency-Key": f"batch_0123456789abcdef-{number}-1"}
                if options.ask == "assistants":
                    headers["OpenAI-Beta"] = "assistants=v2"
                if "stream" not in body:
                    await client.post(path, cast_to=httpx2.Response, body=body, options={"headers": headers})
                    continue
                response: Any = await client.post(
                    path,
                    cast_to=httpx2.Response,
                    body=body,
                    options={"headers": headers},
                    stream=True,
                    stream_cls=AsyncStream[Any],
                )
                async for _ in response.aiter_raw():
                    pass
                await response.aclose()
            answered += 1

        await ask_all(options.rows, options.concurrency, ask)
    return answered


async def batchrun(options: argparse.Namespace) -> int:
    """Run a batch as the command line does."""
    from batchrun.batch.plan import make_plan
    from batchrun.batch.run import run_batch
    from batchrun.job.environment import Environment
    from batchrun.job.validation import make_job

    given: dict[str, Any] = {"base_url": options.url, "model": "standin", **ASKS[options.ask]}
    given["fresh"] = getattr(options, "fresh", True)
    if options.concurrency:
        given["concurrency"] = options.concurrency
    if options.rpm:
        given["rpm"] = options.rpm
    if getattr(options, "tpm", 0):
        given["tpm"] = options.tpm
    environment = Environment(api_key="none")
    plan = make_plan(make_job(given), str(options.folder / "in.csv"), environment, options.folder / "out.csv")
    summary = await run_batch(plan, environment)
    return summary.totals.by_status["completed"]


async def semaphore(options: argparse.Namespace) -> int:
    """Ask the rows of the CSV file with `asyncio.gather` and a semaphore; write the answers to another one."""
    from openai import AsyncOpenAI

    rows = _read(options.folder / "in.csv")
    free = asyncio.Semaphore(options.concurrency)
    # With the SDK's 5 s for a connection, a busy machine ends the whole `gather`.
    async with AsyncOpenAI(api_key="none", base_url=options.url, timeout=600) as client:

        async def ask(question: str) -> str:
            async with free:
                return await _answer(client, options.ask, question)

        answers = await asyncio.gather(*(ask(row["question"]) for row in rows))  # noqa: TID251 - the pattern itself
    _write(options.folder / "out.csv", rows, answers)
    return sum(map(bool, answers))


def _read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: Sequence[Mapping[str, str]], answers: Sequence[str]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "response"])
        writer.writeheader()
        writer.writerows({**row, "response": answer} for row, answer in zip(rows, answers, strict=True))


async def _answer(client: Any, way: str, question: str) -> str:
    """Return the answer to a question, by the SDK's method for this way to ask (one of `ASKS`)."""
    if way == "assistants":
        thread = {"messages": [{"role": "user", "content": question}]}
        run = await client.beta.threads.create_and_run_poll(
            assistant_id="asst_standin", thread=thread, poll_interval_ms=1_000 * POLL_S
        )
        messages = await client.beta.threads.messages.list(thread_id=run.thread_id, run_id=run.id)
        return "".join(part.text.value for part in messages.data[-1].content)
    if way == "responses":
        return str((await client.responses.create(model="standin", input=question)).output_text)
    if way == "responses-stream":
        stream = await client.responses.create(model="standin", input=question, stream=True)
        return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
    messages = [{"role": "user", "content": question}]
    if way == "chat":
        completion = await client.chat.completions.create(model="standin", messages=messages)
        return str(completion.choices[0].message.content)
    chunks = await client.chat.completions.create(model="standin", messages=messages, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])


async def overview(options: argparse.Namespace) -> int:
    """Run the overview's functions (`submit_message`, `wait_on_run`, `get_response`), made asynchronous."""
    from openai import AsyncOpenAI

    answered = 0
    async with AsyncOpenAI(api_key="none", base_url=options.url) as client:

        async def ask(_: int) -> None:
            nonlocal answered
            thread = await client.beta.threads.create()
            await client.beta.threads.messages.create(thread_id=thread.id, role="user", content=QUESTION)
            run = await client.beta.threads.runs.create(thread_id=thread.id, assistant_id="asst_standin")
            while run.status in ("queued", "in_progress"):
                run = await client.beta.threads.runs.retrieve(thread_id=thread.id, run_id=run.id)
                await asyncio.sleep(POLL_S)
            messages = await client.beta.threads.messages.list(thread_id=thread.id, order="asc")
            answered += bool(messages.data)

        await ask_all(options.rows, options.concurrency, ask)
    return answered


def peak_memory_mib() -> float:
    """Return the peak memory of this process; unlike `ru_maxrss`, it does not include the parent process (Linux only)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no VmHWM: memory is measured on Linux only")


def main() -> None:
    """Run one client."""
    arms: dict[str, Callable[[argparse.Namespace], Awaitable[int]]] = {
        "bare": bare,
        "batchrun": batchrun,
        "semaphore": semaphore,
        "overview": overview,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", choices=arms)
    parser.add_argument("--url", required=True, help="base URL of the service")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=0, help="rows in flight at once; 0: batchrun finds out")
    parser.add_argument("--ask", choices=ASKS, default="assistants", help="protocol and mode (overview: assistants)")
    parser.add_argument("--rpm", type=float, default=0.0, help="requests a minute (batchrun only); 0: no limit")
    parser.add_argument("--tpm", type=float, default=0.0, help="tokens a minute (batchrun only); 0: no limit")
    parser.add_argument(
        "--resume", dest="fresh", action="store_false", help="continue the batch in the folder (batchrun only)"
    )
    parser.add_argument("--folder", type=Path, required=True, help="holds in.csv; takes the output (batchrun only)")
    options = parser.parse_args()
    backend_options = {"use_uvloop": options.arm in ("bare", "batchrun") and sys.platform != "win32"}
    started_s = time.perf_counter()
    answered = anyio.run(arms[options.arm], options, backend_options=backend_options)
    elapsed_s = time.perf_counter() - started_s
    print(json.dumps({"answered": answered, "peak_memory_mib": peak_memory_mib(), "elapsed_s": elapsed_s}))


if __name__ == "__main__":
    main()
