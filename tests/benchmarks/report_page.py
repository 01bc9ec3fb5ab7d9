"""The page of a report with many rows in Chromium: its size, and the time to open, search, filter and sort."""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.browser import open_browser, watched_page

LIMIT_S = 2.0
ALL_ROWS = ".grid[aria-busy=false] .grid-body .row >> nth=0"
STEPS = {
    "search": "table.rows.search = 'not hard and'; table.refresh(true)",
    "search again": "table.rows.search = 'not hard but'; table.refresh(true)",
    "filter by status": "table.rows.search = ''; table.rows.statuses = new Set(['failed']); table.refresh(true)",
    "filter by column": "table.rows.statuses = null; table.rows.filters.set(1, 'seats'); table.refresh(true)",
    "show all": "table.reset()",
    "sort by a number": "table.rows.order = {column: 17, falling: true}; table.refresh(true)",
    "sort by a text": "table.rows.order = {column: 1, falling: false}; table.refresh(true)",
    "go to the end": "table.go(Infinity)",
}
"""What a click or a key sets off, on the page's own objects: script as the page would run it, told by the browser."""

WORDS = "we begin with what is given and then add one number after another until the sum is known which is not hard but slow"


def write_answers(path: Path, rows: int) -> None:
    """Write questions of 150 and answers of 300 characters, with all columns that batchrun adds."""
    rng, moment, words = random.Random(1), datetime(2026, 11, 23, tzinfo=UTC), WORDS.split()
    names = "id,question,answer,topic,response,status,error_type,error,thread_id,run_id,model,prompt_tokens,completion_tokens,total_tokens"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                *names.split(","),
                "cached_tokens",
                "reasoning_tokens",
                "cost_usd",
                "attempts",
                "duration_s",
                "completed_at",
            ]
        )
        for number in range(rows):
            moment += timedelta(seconds=rng.expovariate(8))
            failed = rng.random() < 0.02
            writer.writerow([
                f"q{number:06}", f"{rng.choice(('A train', 'A shop'))} has {number} seats: {' '.join(rng.choices(words, k=28))}?", number,
                rng.choice("abcdef"), "" if failed else f"{' '.join(rng.choices(words, k=60))}. The answer is {number}.",
                "failed" if failed else "completed", "timeout" if failed else "", "the run took longer than 600 s" if failed else "",
                f"thread_{rng.randrange(16**24):024x}", f"run_{rng.randrange(16**24):024x}", "model-1", rng.randrange(40, 90), rng.randrange(60, 140),
                200, 0, 0, f"{rng.random() / 1e4:.8f}", 1, f"{rng.lognormvariate(0.7, 0.5):.3f}", moment.isoformat(timespec="milliseconds"),
            ])  # fmt: skip


def main() -> None:
    """Print the size and the median seconds of several rounds; fail above the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table, page = Path(folder) / "answers.csv", Path(folder) / "page.html"
        write_answers(table, options.rows)
        began_s = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "batchrun", "report", str(table), "-o", str(page), "--rows", str(options.rows)],
            check=True,
        )
        print(
            f"{options.rows:,} rows: {page.stat().st_size / 1e6:.1f} MB, written in {time.perf_counter() - began_s:.1f} s"
        )
        # The page exposes no objects; the copy exposes one to the benchmark and has no content security policy.
        text = page.read_text(encoding="utf-8").replace('http-equiv="Content-Security-Policy"', 'name="none"')
        copy = page.with_name("copy.html")
        told = text.replace("const table = new RowTable", "const table = window.table = new RowTable")
        copy.write_text(told, encoding="utf-8")
        taken: dict[str, list[float]] = {}
        with open_browser() as browser:
            for _ in range(options.rounds):
                with watched_page(browser, viewport={"width": 1280, "height": 900}) as shown:
                    began_s = time.perf_counter()
                    shown.page.goto(page.as_uri(), wait_until="commit")
                    shown.page.locator(".grid-body .row").first.wait_for()
                    taken.setdefault("see the first rows", []).append(time.perf_counter() - began_s)
                    shown.page.locator(ALL_ROWS).wait_for()
                    taken.setdefault("open", []).append(time.perf_counter() - began_s)
                    assert shown.violations() == [], shown.violations()
                    shown.page.goto(copy.as_uri())
                    shown.page.locator(ALL_ROWS).wait_for()
                    for name, step in STEPS.items():
                        frame = "await new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
                        timed = f"async () => {{ const began = performance.now(); {step}; {frame}; return performance.now() - began; }}"
                        taken.setdefault(name, []).append(shown.page.evaluate(timed) / 1000)
    for name, seconds in taken.items():
        print(f"{name:18} {statistics.median(seconds):6.2f} s")
    if options.rows <= 50_000 and max(map(statistics.median, taken.values())) > LIMIT_S:
        raise SystemExit(f"more than {LIMIT_S:g} s")


if __name__ == "__main__":
    main()
