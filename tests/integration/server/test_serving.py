"""The command `serve`: its first line, and the errors before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.reliability import processes
from tests.support.command import batchrun

SCRIPT = '[default]\nreply = "yes"\n'
FAULTS = '[[fault]]\nkind = "http_429"\nrows = ["0"]\n'


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "answered by tutor · objects in a temporary file, deleted at the end · keys: any key or none accepted"),
        (
            ["--script", "script.toml", "--faults", "faults.toml", "--key", "secret"],
            "answered by script script.toml with the faults of faults.toml · "
            "objects in a temporary file, deleted at the end · keys: 1 accepted",
        ),
        (
            ["--upstream", "http://127.0.0.1:9/v1", "--data", "threads.sqlite"],
            "answered by upstream http://127.0.0.1:9/v1 · objects in threads.sqlite · keys: any key or none accepted",
        ),
    ],
    ids=["tutor", "script", "upstream"],
)
def test_the_start_names_the_responder(tmp_path: Path, options: list[str], expected: str) -> None:
    """The first line states the address, the responder with its file or URL, the data and the keys."""
    (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "faults.toml").write_text(FAULTS, encoding="utf-8")
    with processes.batchrun(tmp_path, "serve", "--port", "0", *options) as process:
        (announced,) = process.said(1)
    url, _, rest = announced.removeprefix("serving ").partition(" · ")
    assert url.startswith("http://127.0.0.1:")
    assert rest.startswith(f"{expected} · sandbox: ")


def test_the_start_checks_the_upstream(tmp_path: Path) -> None:
    """The second line says whether the upstream can be reached; the server runs in any case."""
    with processes.batchrun(tmp_path, "serve", "--port", "0", "--upstream", "http://127.0.0.1:9/v1") as process:
        lines = process.said(2)
    assert lines[0].startswith("serving ")
    assert lines[1].startswith("upstream http://127.0.0.1:9/v1: cannot be reached now, and runs fail until it can: ")


@pytest.mark.parametrize(
    "url",
    ["foo", "", "ftp://host/v1", "http://", "http:///v1", "http://[::1", "http://host:99999/v1", "http://a b/v1"],
)
@pytest.mark.parametrize("options", [[], ["--embeddings", "small"]], ids=["", "embeddings"])
def test_an_upstream_without_a_valid_url(tmp_path: Path, url: str, options: list[str]) -> None:
    """A URL that requests cannot be sent to is refused at the start, in one line."""
    done = batchrun(tmp_path, "serve", "--port", "0", "--upstream", url, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"batchrun: upstream: expected a base URL with a host, such as http://127.0.0.1:11434/v1, got {url!r}.\n"
    )


@pytest.mark.parametrize("url", ["https://me:secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret"])
def test_an_upstream_with_secrets(tmp_path: Path, url: str) -> None:
    """A URL with more than an address is refused, and the error does not repeat it."""
    done = batchrun(tmp_path, "serve", "--port", "0", "--upstream", url)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("batchrun: upstream: ")
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--script", "a.toml", "--upstream", "http://h/v1"],
            "--script and --upstream cannot be combined; give one of them",
        ),
        (["--upstream-model", "m"], "--upstream-key-env and --upstream-model need --upstream"),
        (["--embeddings", "m"], "--embeddings needs --upstream"),
        (
            ["--upstream", "http://h/v1", "--upstream-key-env", "GONE"],
            "--upstream-key-env: environment variable GONE is not set",
        ),
        (["--script", "gone.toml"], "gone.toml: cannot be read (No such file or directory); check the path"),
        (
            ["--host", "0.0.0.0"],
            "host 0.0.0.0 can be reached from other machines; give at least one API key, or listen on 127.0.0.1.",
        ),
    ],
)
def test_what_is_wrong_gets_the_common_line(tmp_path: Path, options: list[str], expected: str) -> None:
    """An error at the start is one line that begins with the program's name, as for every command."""
    done = batchrun(tmp_path, "serve", "--port", "0", *options)
    assert (done.returncode, done.stderr) == (2, f"batchrun: {expected}\n")
