"""The error for a missing package of the extra `eval`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from batchrun.errors import InputError

__all__ = ["needs_eval"]


@contextmanager
def needs_eval(what: str) -> Iterator[None]:
    """Wrap imports of the extra's packages.

    Raises:
        InputError: a package is missing; the message states how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        raise InputError(
            f"{what}: the package {exc.name} is not installed; install it with pip install 'batchrun-llm[eval]'"
        ) from exc
