"""A process that compares mathematical expressions: a JSON object a line in, another out.

Started by `mathematics`, which kills it when it takes too long. The expressions come from a model, so where
the system allows it the process limits its own memory, and writes no files.
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
    # What is built at first use takes its time here, and not from the first answer's.
    _compared({"answer": r"\boxed{\frac{1}{2}}", "target": "0.5"}, parse, verify)
    for line in sys.stdin:
        request = json.loads(line)
        reply = _compared(request, parse, verify) if request else {"ready": True}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def _compared(request: dict[str, str], parse: Any, verify: Any) -> dict[str, Any]:
    # Limits of its own would need signals, which Windows lacks; the parent's clock holds everywhere.
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
    return {"value": float(right), "explanation": f"{read}; {request['target'].strip()} expected", "read": read}


def _limit() -> None:
    with suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
