"""What belongs to the extra `eval`, and what is said where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from batchrun.errors import InputError

__all__ = ["needs_eval"]


@contextmanager
def needs_eval(what: str) -> Iterator[None]:
    """Around imports from the extra.

    Raises:
        InputError: a package is missing; says how to get it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"{what}: the package {error.name} is not installed; pip install 'batchrun[eval]' brings it"
        ) from error
