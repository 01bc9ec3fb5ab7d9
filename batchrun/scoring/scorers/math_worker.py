"""A program that compares mathematical expressions: one JSON object per line in, one per line out.

It is started by `mathematics`, which kills it when it takes too long. The expressions come from a model, so the process
limits its own memory and writes no files, if the system supports such limits.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any, Final

_MEMORY_BYTES: Final = 2 << 30


def main() -> None:
    """Answer requests until standard input ends. An empty object asks whether the process is ready."""
    from math_verify import parse, verify  # type: ignore[import-untyped]  # it declares no types

    _limit()
    # Caches that are built on first use take their time here, not from the first answer's limit.
    _compared({"answer": r"\boxed{\frac{1}{2}}", "target": "0.5"}, parse, verify)
    for line in sys.stdin:
        request = json.loads(line)
        reply = _compared(request, parse, verify) if request else {"ready": True}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def _compared(request: dict[str, str], parse: Any, verify: Any) -> dict[str, Any]:
    # math-verify's own timeouts need signals, which Windows lacks; the parent's timer works everywhere.
    target = parse(request["target"], parsing_timeout=None)
    if not any(not isinstance(each, str) for each in target):
        target = parse(f"${request['target'].strip('$ ')}$", parsing_timeout=None) or target
    if not target:
        return {"value": None, "explanation": "the target cannot be read as mathematics", "read": None}
    answer = parse(request["answer"], parsing_timeout=None)
    if not answer:
        return {"value": 0.0, "explanation": "no expression found", "read": None}
    right = bool(verify(target, answer, timeout_seconds=None))
    read = next((each for each in reversed(answer) if isinstance(each, str)), str(answer[0]))
    return {"value": float(right), "explanation": f"{read}; expected {request['target'].strip()}", "read": read}


def _limit() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
