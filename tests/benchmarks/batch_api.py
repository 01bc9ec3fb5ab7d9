"""Memory and CPU time of a batch through the Batch API: 120,000 rows over three batches at the service.

The service is a stand-in in a process of its own. It keeps the files on disk and answers each batch at its first poll.
Two sizes are run, and the difference is the CPU time of one row, without imports and start.

    python tests/benchmarks/batch_api.py [ROWS]
"""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

SMALL = 2_000
ROWS = 120_000
TARGETS = {"ms of CPU a row": 0.3, "MiB": 150.0}


class StandIn(BaseHTTPRequestHandler):
    """A Batch API that answers at once. `folder` has its files."""

    protocol_version = "HTTP/1.1"
    folder: Path
    batches: ClassVar[dict[str, dict[str, Any]]] = {}
    number = 0

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        """Take a file, or make a batch."""
        path, length = urlsplit(self.path).path, int(self.headers.get("Content-Length") or 0)
        StandIn.number += 1
        if path.endswith("/files"):
            name = f"file-{StandIn.number}"
            with open(self.folder / name, "wb") as file:
                self._copy(file, length)
            return self._json(
                {"id": name, "object": "file", "purpose": "batch", "bytes": length, "status": "processed"}
            )
        asked = json.loads(self.rfile.read(length))
        batch = {
            "id": f"batch_{StandIn.number}", "object": "batch", "status": "in_progress", "created_at": 1_790_000_000,
            "output_file_id": None, "error_file_id": None, **asked,
        }  # fmt: skip
        self.batches[batch["id"]] = batch
        return self._json(batch)

    def _copy(self, file: Any, length: int) -> None:
        if length:
            while length > 0:
                chunk = self.rfile.read(min(length, 1 << 20))
                file.write(chunk)
                length -= len(chunk)
            return
        while size := int(self.rfile.readline(), 16):
            file.write(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()

    def do_GET(self) -> None:
        """Return a list, a batch or a result file."""
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[-1] == "content":
            content = (self.folder / parts[-2]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return None
        if parts[-1] in ("batches", "files", "models"):
            data = [*self.batches.values()] if parts[-1] == "batches" else []
            return self._json({"object": "list", "data": data, "has_more": False})
        batch = self.batches[parts[-1]]
        if batch["status"] != "completed":
            name = f"{batch['input_file_id']}-out"
            with open(self.folder / batch["input_file_id"], "rb") as asked, open(self.folder / name, "wb") as out:
                for line in asked:
                    at = line.find(b'{"custom_id"')
                    if at >= 0 or line.startswith(b"{"):
                        out.write(_answer(json.loads(line[max(at, 0) :])))
            batch |= {"status": "completed", "output_file_id": name}
        return self._json(batch)

    def _json(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _answer(asked: dict[str, Any]) -> bytes:
    body = {
        "id": "resp_" + asked["custom_id"], "object": "response", "status": "completed", "model": "m",
        "output": [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": "An answer of some words. " * 8, "annotations": []}]}],
        "usage": {"input_tokens": 30, "output_tokens": 40, "total_tokens": 70},
    }  # fmt: skip
    line = {"id": "x", "custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}
    return json.dumps(line).encode() + b"\n"


def serve(folder: str) -> None:
    """Serve until standard input is closed."""
    StandIn.folder = Path(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def run(folder: str, url: str, rows: int) -> None:
    """Run one batch in this process; print its CPU seconds and its peak memory in MiB."""
    import anyio

    from batchrun.batch.plan import make_plan
    from batchrun.batch.run import run_batch
    from batchrun.job.environment import Environment
    from batchrun.job.validation import make_job

    table = Path(folder) / f"{rows}.csv"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question"])
        writer.writerows([row, f"question {row}: " + "some words of a prompt " * 8] for row in range(rows))
    key = Environment(api_key="sk-test")
    job = make_job(
        {"model": "m", "base_url": url, "batch_api": True, "batch_size": min(50_000, rows // 3 + 1), "batch_poll": 0.1}
    )
    before_s = time.process_time()

    async def main() -> None:
        summary = await run_batch(make_plan(job, table, key, table.with_name(f"{rows}-out.csv")), key)
        assert summary.exit_code == 0, summary

    anyio.run(main)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": time.process_time() - before_s, "peak_mib": peak}))


def measure(rows: int) -> dict[str, float]:
    """Return the figures of one batch in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([sys.executable, __file__, "serve", folder], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
            found = subprocess.run(
                [sys.executable, __file__, "run", folder, url, str(rows)], check=True, capture_output=True, text=True
            )
        finally:
            server.kill()
            server.wait()
    return dict(json.loads(found.stdout.splitlines()[-1]))


def main() -> None:
    """Print the figures and their targets."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    small = measure(SMALL)
    print(f"{SMALL:,} rows: {small['cpu_s']:.2f} s of CPU, start included; now {rows:,} rows", flush=True)
    large = measure(rows)
    figures = {
        "ms of CPU a row": 1_000 * (large["cpu_s"] - small["cpu_s"]) / (rows - SMALL),
        "MiB": large["peak_mib"],
    }
    for name, figure in figures.items():
        print(f"{rows:,} rows: {figure:.3f} {name} (target: at most {TARGETS[name]:g})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] == ["run"]:
        run(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
