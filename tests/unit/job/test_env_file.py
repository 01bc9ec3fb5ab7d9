"""The `.env` file: how it is read, and what is refused rather than guessed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import batchrun
from batchrun.errors import InputError
from batchrun.job.env_file import MAX_FILE_BYTES, EnvFile, find_env_file
from batchrun.job.environment import Environment
from batchrun.job.variables import FROM_ENV_FILE, Variables

KEY = "OPENAI_API_KEY"
PAGE = Path(batchrun.__file__).parents[1] / "docs" / "reference" / "environment.md"


def written(folder: Path, content: bytes | str) -> EnvFile:
    """Return the `.env` of a folder with this content."""
    data = content if isinstance(content, bytes) else content.encode()
    (folder / ".env").write_bytes(data)
    found = find_env_file([folder])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("OPENAI_API_KEY=sk-1", "sk-1"),
        ("export OPENAI_API_KEY=sk-1\n", "sk-1"),
        ("OPENAI_API_KEY = sk-1\n", "sk-1"),
        ("OPENAI_API_KEY='sk-1' # mine\n", "sk-1"),
        ('OPENAI_API_KEY="sk-1"\n', "sk-1"),
        ("OPENAI_API_KEY=sk-1 # mine\n", "sk-1"),
        ("OPENAI_API_KEY=sk-#1\n", "sk-#1"),
        ("# a comment\r\n\r\nOPENAI_API_KEY=sk-1\r\nOTHER=2\r\n", "sk-1"),
        (b"\xef\xbb\xbfOPENAI_API_KEY=sk-1\n", "sk-1"),
        ("OPENAI_API_KEY=sk-$HOME\n", "sk-$HOME"),
        ("OPENAI_API_KEY=\n", ""),
        ("OTHER=1\n", None),
        ("", None),
        ("#OPENAI_API_KEY=sk-1\n", None),
        ("this is prose; it belongs to no program\nOPENAI_API_KEY=sk-1\n", "sk-1"),
        ("A=1\nA=2\nB=${HOME}\nOPENAI_API_KEY=sk-1\n", "sk-1"),
    ],
)
def test_a_value_is_read_as_shells_and_other_tools_read_it(
    tmp_path: Path, content: bytes | str, value: str | None
) -> None:
    """`export`, quotes, comments, CRLF and a byte order mark are understood; faults in other variables do not matter."""
    assert written(tmp_path, content).get(KEY) == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("A=1\nOPENAI_API_KEY=a\n\nOPENAI_API_KEY=b\n", "OPENAI_API_KEY is set more than once (lines 2, 4)"),
        ("\n\nOPENAI_API_KEY=${HOME}\n", "line 3: OPENAI_API_KEY: ${...} is not replaced in a .env"),
        ("OPENAI_API_KEY='${HOME}'\n", "line 1: OPENAI_API_KEY: ${...} is not replaced in a .env"),
        ("A=1\nOPENAI_API_KEY\n", "line 2: expected OPENAI_API_KEY=VALUE"),
        ("A=1\nOPENAI_API_KEY: sk-1\n", "line 2: expected OPENAI_API_KEY=VALUE"),
        ('A="never closed\nOPENAI_API_KEY="sk-1"\n', "line 1: expected OPENAI_API_KEY=VALUE"),
    ],
)
def test_a_doubtful_value_is_refused(tmp_path: Path, content: str, words: str) -> None:
    """A variable set twice, one that refers to another, and one without a value are refused with file and line."""
    with pytest.raises(InputError) as caught:
        written(tmp_path, content).get(KEY)
    assert words in str(caught.value)
    assert str(tmp_path / ".env") in str(caught.value)
    assert "--no-env-file" in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link is refused, since a sent folder could use one to read the keys of another project."""
    (tmp_path / "other").write_text("OPENAI_API_KEY=sk-1\n")
    (tmp_path / ".env").symlink_to("other")
    with pytest.raises(InputError, match="is a symbolic link, which is not followed"):
        find_env_file([tmp_path])


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """A named pipe is refused at once; the command does not wait for somebody to write into it."""
    os.mkfifo(tmp_path / ".env")
    with pytest.raises(InputError, match="is not a file"):
        find_env_file([tmp_path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """A file without permission to read is an error, not a missing file."""
    (tmp_path / ".env").touch(0)
    with pytest.raises(InputError, match="permission denied"):
        find_env_file([tmp_path])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A file that is too large or is not UTF-8 is refused; the second with the line."""
    (tmp_path / ".env").write_bytes(b"A=1\n" * MAX_FILE_BYTES)
    with pytest.raises(InputError, match="has more than 100,000 bytes"):
        find_env_file([tmp_path])
    (tmp_path / ".env").write_bytes(b"A=1\nB=\xe4\n")
    with pytest.raises(InputError, match="line 2 is not UTF-8"):
        find_env_file([tmp_path])


def test_the_first_folder_with_a_file_decides(tmp_path: Path) -> None:
    """A folder named .env, as virtual environments have it, is passed over; the first file is the only one read."""
    for name in ("venv", "job", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "venv" / ".env").mkdir()
    (tmp_path / "job" / ".env").write_text("OPENAI_API_KEY=of-job\n")
    (tmp_path / "work" / ".env").write_text("OPENAI_API_KEY=of-work\nBATCHRUN_MODEL=m\n")
    found = find_env_file([tmp_path / name for name in ("venv", "missing", "job", "work")])
    assert found is not None
    assert (found.get(KEY), found.get("BATCHRUN_MODEL")) == ("of-job", None)
    assert find_env_file([tmp_path / "venv"]) is None


def test_no_value_is_in_a_repr(tmp_path: Path) -> None:
    """Neither the file, the variables nor the environment show a key in their repr."""
    file = written(tmp_path, "OPENAI_API_KEY=sk-secret\nsk-secret is prose\n")
    variables = Variables({}, file)
    assert "sk-secret" not in repr((file, variables, Environment.read(variables)))


def test_the_environment_precedes_the_file(tmp_path: Path) -> None:
    """A variable that is set, even to nothing, is never replaced; a folder cannot undo what somebody switched off."""
    file = written(tmp_path, "OPENAI_API_KEY=file\nOPENAI_BASE_URL=http://file\nBATCHRUN_MODEL=file\n")
    variables = Variables({"OPENAI_API_KEY": "real", "OPENAI_BASE_URL": ""}, file)
    environment = Environment.read(variables)
    assert (environment.api_key, environment.base_url, environment.model) == ("real", None, "file")
    assert variables.taken == ("BATCHRUN_MODEL",)
    assert variables.overridden() == ["OPENAI_API_KEY", "OPENAI_BASE_URL"]


def test_only_listed_names_are_taken(tmp_path: Path) -> None:
    """The file does not enter the process: proxies, certificates and what the SDK reads by itself are not taken from a file, and are named."""
    others = ["HTTPS_PROXY", "all_proxy", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENAI_CUSTOM_HEADERS"]
    others += ["BATCHRUN_SERVER_KEYS", "AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_ENDPOINT", "OPENAI_ADMIN_KEY"]
    names = [*FROM_ENV_FILE, *others, "DATABASE_URL"]
    before = dict(os.environ)
    variables = Variables({}, written(tmp_path, "".join(f"{name}=x\n" for name in names)))
    environment = Environment.read(variables)
    assert set(variables.taken) == set(FROM_ENV_FILE) == set(variables)
    assert environment.certificates == {}
    assert variables.passed_over() == others
    assert variables.expand("DATABASE_URL", "header") == "x"
    assert dict(os.environ) == before


def test_the_page_lists_what_is_taken() -> None:
    """The table of variables has each variable that a `.env` can set, and no other."""
    rows = re.findall(r"^\| (`[A-Z].+?) \| .+ \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    taken = [name for names, rule in rows if rule != "never" for name in re.findall(r"[A-Z_]{4,}", names)]
    assert sorted(taken) == sorted(FROM_ENV_FILE)
    never = [name for names, rule in rows if rule == "never" for name in re.findall(r"[A-Z_]{4,}", names)]
    assert {"HTTPS_PROXY", "SSL_CERT_FILE", "OPENAI_CUSTOM_HEADERS"} <= set(never)
