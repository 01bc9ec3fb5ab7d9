"""The scorer for mathematical answers: math-verify, in processes that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from queue import SimpleQueue

from batchrun.errors import BatchrunError
from batchrun.records import JsonDict
from batchrun.scoring.scorers.base import Sample, Score, Scorer
from batchrun.scoring.scorers.extra import needs_eval
from batchrun.scoring.scorers.targets import targets_of
from batchrun.thoughts import without_reasoning

__all__ = ["MathScorer"]

_READY_S = 120.0


@dataclass(frozen=True, slots=True)
class MathScorer(Scorer):
    """1 if the answer's result is mathematically the same as the target, as math-verify finds it.

    The result is the last `\\boxed{…}`; else the line after the last `answer is`, `answer:` or `####`; else the last
    text between dollars; else the whole answer if it is one line without prose; else the last expression that
    math-verify finds. A target is read in the same way, and a bare one as a whole, never as its last number. Equal
    texts are equal. Everything else is simplified with SymPy: numbers, sets, intervals, matrices and equations
    (https://github.com/huggingface/Math-Verify). A target that is a word, such as `even`, is compared as text. If a
    target cannot be read, the row cannot be judged.

    Simplifying can take unlimited time and memory, and the expressions come from a model. It therefore runs in
    separate processes, which are killed when an answer takes too long: that answer counts as wrong, and the score's
    explanation gives the reason.

    Attributes:
        limit_s: time limit for one answer, in seconds.
        workers: number of processes.
    """

    limit_s: float = 10.0
    workers: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    _idle: SimpleQueue[_Worker] = field(init=False, repr=False, compare=False)
    _pool: ThreadPoolExecutor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with needs_eval("math"):
            if find_spec("math_verify") is None:
                raise ModuleNotFoundError(name="math_verify")
        idle: SimpleQueue[_Worker] = SimpleQueue()
        for _ in range(self.workers):
            idle.put(_Worker())
        object.__setattr__(self, "_idle", idle)
        object.__setattr__(self, "_pool", ThreadPoolExecutor(self.workers, "batchrun-math"))

    def score(self, sample: Sample) -> Score:
        request = {"answer": without_reasoning(sample.answer), "targets": targets_of(sample.target)}
        worker = self._idle.get()
        try:
            judged = worker.ask(request, self.limit_s)
        finally:
            self._idle.put(worker)
        if judged is None:
            return Score(0.0, f"took longer than {self.limit_s:g} s, or too much memory, to simplify")
        return Score(judged["value"], judged["explanation"], judged["read"])

    def score_all(self, samples: Sequence[Sample]) -> list[Score]:
        return list(self._pool.map(self.score, samples))

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().close()


class _Worker:
    """A process of `math_worker`; started for the first request, and again after it was killed.

    Mutable state: the process, None while none runs. One thread uses it at a time.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: JsonDict, limit_s: float) -> JsonDict | None:
        """Return the reply, or None if there is none within the limit."""
        if self._process is None:
            self._process = self._start()
        reply = self._line(json.dumps(request), limit_s)
        if not reply:
            self.close()
            return None
        result: JsonDict = json.loads(reply)
        return result

    def close(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            with self._process:  # closes the pipes and waits
                pass
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "batchrun.scoring.scorers.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        # Importing SymPy takes seconds, which must not count against the first answer's limit.
        if not self._line("{}", _READY_S):
            self.close()
            raise BatchrunError(
                "math: the worker process does not start; `python -m batchrun.scoring.scorers.math_worker` shows why"
            )
        return self._process

    def _line(self, request: str, limit_s: float) -> str:
        """Send one line and return the reply's line; "" if the process ended or was killed at its limit."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit_s, end)
        timer.start()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
            timer.join()
        # If the reply arrived just before the kill, the process is dead: it must not serve the next answer.
        return "" if late.is_set() else line
