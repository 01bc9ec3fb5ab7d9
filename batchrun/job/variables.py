"""Variables: the environment variables of this process and, behind them, those of a `.env`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from batchrun.job.env_file import EnvFile

__all__ = ["FROM_ENV_FILE", "Variables"]

FROM_ENV_FILE = (
    "OPENAI_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENAI_API_VERSION",
    "BATCHRUN_MODEL",
)
"""The variables that are taken from a `.env`, besides those that a job file or an option names.

Proxies and certificates are missing on purpose: with them, whoever wrote the file could read every request."""

_CONCERNING = re.compile(
    r"(OPENAI|AZURE|BATCHRUN|AWS|SSL)_\w+|\w+_PROXY|(REQUESTS|CURL)_CA_BUNDLE|SSLKEYLOGFILE", re.IGNORECASE
)
"""Names that people may expect to have an effect."""


class Variables(Mapping[str, str]):
    """Environment variables, with those of a `.env` for names that the environment does not set.

    A variable that is set to the empty text is set. Nothing of the file enters the environment of this process: what
    the SDK and the HTTP library read there is the user's own.

    Mutable state: `expanded`, and the names that were taken from the file.
    """

    def __init__(self, real: Mapping[str, str], file: EnvFile | None = None) -> None:
        self._real = real
        self._taken: dict[str, None] = {}
        self.file = file
        self.expanded: dict[tuple[str, str], bool] = {}
        """(option of a job file, name that it contains as `${NAME}`) → whether the value is from the file."""

    @property
    def taken(self) -> tuple[str, ...]:
        """The names that were taken from the file so far."""
        return tuple(self._taken)

    def overridden(self) -> list[str]:
        """Return the names that the file could give, and that the environment sets."""
        lines = {} if self.file is None else self.file.lines
        return [name for name in FROM_ENV_FILE if name in lines and name in self._real]

    def passed_over(self) -> list[str]:
        """Return the names in the file that would have an effect in the environment, and have none in a file."""
        names = () if self.file is None else self.file.lines
        return [name for name in names if _CONCERNING.fullmatch(name) and name not in (*FROM_ENV_FILE, *self._taken)]

    def has_real(self, name: str) -> bool:
        """Return whether the environment itself sets a variable to something."""
        return bool(self._real.get(name))

    def expand(self, name: str, option: str) -> str | None:
        """Return the value of a variable that an option names; None if it is not set.

        Any name can be asked for.

        Raises:
            InputError: the line of the `.env` is wrong; see `EnvFile.get`.
        """
        value = self._real.get(name)
        is_from_file = value is None
        if is_from_file:
            value = self._of_file(name)
        if value is not None:
            self.expanded[option, name] = is_from_file
        return value

    def file_value(self, name: str) -> str | None:
        """Return the value of a variable in the file, None if the file does not set it."""
        return None if self.file is None else self.file.get(name)

    def _of_file(self, name: str) -> str | None:
        value = self.file_value(name)
        if value:
            self._taken[name] = None
        return value

    def __getitem__(self, name: str) -> str:
        value = self._real.get(name)
        if value is None and name in FROM_ENV_FILE:
            value = self._of_file(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        yield from self._real
        names = {} if self.file is None else self.file.lines
        yield from (name for name in FROM_ENV_FILE if name in names and name not in self._real)

    def __len__(self) -> int:
        return sum(1 for _ in self)
