"""The options of a conversion."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Conversion"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """The options of a conversion.

    Attributes:
        from_format: format of the file: `table`, or one of `IMPORTERS`.
        to_format: format of the result: `table`, `batch-requests`, or one of `WRITERS`.
        prompt: column with the prompt; None selects `question` or `prompt`.
        target: column with the expected answer; None selects `target` or `answer`.
        key: column with row ids; None selects `custom_id` or `id`, and numbers the rows if there is neither.
        model, api, instructions, schema, param: options of the job whose requests are written, as those of `run`; for a
            job file they override its own.
        join: table whose rows get the answers of batch results, matched by `key`.
        no_header: the first line of the CSV or TSV is a row; that of `join`, if there is one.
    """

    from_format: str = "table"
    to_format: str = "table"
    prompt: str | None = None
    target: str | None = None
    key: str | None = None
    model: str | None = None
    api: str | None = None
    instructions: str | None = None
    schema: str | None = None
    param: tuple[str, ...] = ()
    join: str | None = None
    no_header: bool = False
