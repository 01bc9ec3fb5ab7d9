"""batchrun/api/job_options.py, which is generated from the fields of `Job`."""

from __future__ import annotations

import textwrap
from dataclasses import fields

from batchrun.job.options import Job

__all__ = ["job_options_module"]

HEAD = '''"""JobOptions: the options of a batch by name, for type checkers and editors.

Generated from the fields of `batchrun.Job`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from pydantic import BaseModel

from batchrun.job.options import Api
from batchrun.job.row_options import Kept, TableFormat

__all__ = ["JobOptions"]


class JobOptions(TypedDict, total=False):
    """The options of a batch that `run`, `arun` and `outcomes` take by name. Each is explained at `batchrun.Job`.

    Examples:
        >>> import batchrun
        >>> options: batchrun.JobOptions = {"model": "tutor", "epochs": 2}
        >>> batchrun.run(["1 + 1"], **options)["epoch"].tolist()
        [1, 2]
    """
'''

WIDER = {
    "output": "str | Path | None",
    "prompt": "str | list[str] | None",
    "turns": "Sequence[Mapping[str, str]] | None",
    "model": "str | list[str] | None",
    "attach": "str | list[str] | None",
    "schema": "type[BaseModel] | Mapping[str, Any] | str | Path | None",
    "matrix": "Mapping[str, Sequence[Any]]",
    "tools": "Sequence[Callable[..., Any]] | str | Path | None",
    "file_search": "str | list[str] | None",
    "keep": "Kept | list[Kept] | None",
    "param": "Mapping[str, Any]",
    "response_format": "Mapping[str, Any] | None",
    "functions": "Sequence[Mapping[str, Any]] | None",
    "header": "Mapping[str, str]",
    "query": "Mapping[str, str]",
    "script": "str | Path | None",
    "journal": "str | Path | None",
    "store": "str | Path | None",
    "cache": "str | Path | None",
    "prices": "Mapping[str, Mapping[str, float]]",
}
"""Types of options that take more from Python than a `Job` keeps."""


def job_options_module() -> str:
    """The text of batchrun/api/job_options.py."""
    lines = []
    for field in fields(Job):
        lines += [
            "",
            f"    {field.name}: {WIDER.get(field.name, field.type)}",
            *_docstring(field.metadata["option"].help),
        ]
    return HEAD + "\n".join(lines) + "\n"


def _docstring(text: str) -> list[str]:
    """The help of an option as lines of a docstring."""
    text = text if text.endswith(".") else f"{text}."
    if len(text) + 10 <= 120:
        return [f'    """{text}"""']
    lines = textwrap.wrap(f'"""{text}', 116, break_long_words=False, break_on_hyphens=False)
    lines = [*lines[:-1], f'{lines[-1]}"""'] if len(lines[-1]) <= 113 else [*lines, '"""']
    return [f"    {line}" for line in lines]
