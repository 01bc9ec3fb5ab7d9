"""Streamed runs per second of the embedded server on one core, and its memory over many runs.

    python tests/benchmarks/bench_server.py [--runs 2000] [--concurrency 64] [--deltas 20]

The server runs in its own process on the first core. The client runs on the other cores, if there are any; it posts `create_and_run` with `stream: true` and reads each stream to its end as raw bytes. Prints
runs/s, the server's CPU per run, and its resident memory at the start, in the middle and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import psutil

from batchrun.server import ServerSettings, serve_forever
from batchrun.server.responders.base import Conversation, Finish, Part, TextDelta


@dataclass(slots=True)
class Deltas:
    """A responder that answers without delay, in a fixed number of pieces."""

    count: int
    name: str = "deltas"
    models: tuple[str, ...] = ()

    async def respond(self, conversation: Conversation) -> AsyncIterator[Part]:
        for number in range(self.count):
            yield TextDelta(f"word {number} ")
        yield Finish("stop")

    async def aclose(self) -> None:
        pass


def serve(deltas: int) -> None:
    serve_forever(ServerSettings(), Deltas(deltas), on_started=lambda url: print(url, flush=True))


async def post_runs(url: str, runs: int, concurrency: int, deltas: int, server: psutil.Process) -> None:
    headers = {"OpenAI-Beta": "assistants=v2"}
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        async with session.post(f"{url}/assistants", json={"model": "any"}) as reply:
            assistant_id = (await reply.json())["id"]
        body = json.dumps(
            {
                "assistant_id": assistant_id,
                "stream": True,
                "thread": {"messages": [{"role": "user", "content": "What is 6 times 7?"}]},
            }
        ).encode()
        remaining = iter(range(runs))

        async def worker() -> None:
            for number in remaining:
                key = {"Idempotency-Key": f"bench-{number}", "Content-Type": "application/json"}
                async with session.post(f"{url}/threads/runs", data=body, headers=key) as reply:
                    data = await reply.read()
                assert data.count(b"thread.message.delta\ndata") == deltas
                assert data.endswith(b"data: [DONE]\n\n")
                if number in (runs // 10, runs // 2):
                    print(f"  memory after {number} runs: {server.memory_info().rss / 2**20:.0f} MiB")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(worker())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--deltas", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.deltas)
        return
    command = [sys.executable, __file__, "--serve", "--deltas", str(options.deltas)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            server = psutil.Process(process.pid)
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(process.pid, {cores[0]})
            os.sched_setaffinity(0, set(cores[1:]) or set(cores))
            cpu, start = sum(server.cpu_times()[:2]), time.perf_counter()
            print(f"{options.runs} runs of {options.deltas} deltas, {options.concurrency} at once")
            asyncio.run(post_runs(url, options.runs, options.concurrency, options.deltas, server))
            elapsed, cpu = time.perf_counter() - start, sum(server.cpu_times()[:2]) - cpu
            print(f"  memory after {options.runs} runs: {server.memory_info().rss / 2**20:.0f} MiB")
            print(f"  {options.runs / elapsed:.0f} runs/s, {cpu / options.runs * 1e3:.2f} ms of CPU a run")
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
