"""Options: defaults, validation and messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import InputError
from batchrun.job.environment import Environment
from batchrun.job.fingerprint import digest, settings_of
from batchrun.job.option_values import read_text_option
from batchrun.job.options import job_options
from batchrun.job.validation import make_job


def problem(**options: Any) -> str:
    with pytest.raises(InputError) as caught:
        make_job(options)
    return str(caught.value)


def test_documented_defaults() -> None:
    """The defaults that users rely on are unchanged."""
    job = make_job({})
    assert (job.max_attempts, job.row_timeout_s, job.grace) == (5, 600.0, 30.0)
    assert (job.concurrency, job.rpm, job.tpm) == (None, None, None)
    assert not any([job.fresh, job.accept_changes, job.keep_going, job.safe_csv, job.poll])


def test_zero_is_a_setting() -> None:
    """A temperature of 0 is in the journal, so that a batch that goes on without it says so; what is not set is not."""
    assert settings_of(make_job({"temperature": 0, "param": {"top_p": 0}, "code_interpreter": False})) == {
        "temperature": 0,
        "param": {"top_p": 0},
    }


@pytest.mark.parametrize(
    ("options", "expected_s"),
    [
        ({}, 600.0),
        ({"param": {"service_tier": "flex"}}, 1_800.0),
        ({"param": ["service_tier=flex"]}, 1_800.0),
        ({"param": {"service_tier": "priority"}}, 600.0),
        ({"background": True}, 3_600.0),
        ({"background": True, "param": {"service_tier": "flex"}}, 3_600.0),
        ({"background": True, "row_timeout": 20}, 20.0),
        ({"param": {"service_tier": "flex"}, "row_timeout": "600"}, 600.0),
    ],
)
def test_time_of_a_row(options: dict[str, Any], expected_s: float) -> None:
    """The timeout of a row depends on the service, unless the user sets it."""
    assert make_job(options).row_timeout_s == expected_s


def test_text_from_flags_becomes_values() -> None:
    """Text from a shell is converted to the type of the option."""
    job = make_job({"concurrency": "8", "rpm": "60", "temperature": "0.5", "output": "x.csv", "keep_going": "true"})
    assert (job.concurrency, job.rpm, job.temperature, job.output, job.keep_going) == (
        8,
        60.0,
        0.5,
        "x.csv",
        True,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0), ("concurrency", 1.5), ("rpm", 0), ("rpm", "fast"), ("tpm", -1), ("temperature", 2.1),
        ("top_p", 0), ("max_attempts", 0), ("row_timeout", 0), ("grace", -1), ("api", "soap"),
        ("max_completion_tokens", 0), ("rpm", float("nan")),
    ],
)  # fmt: skip
def test_values_out_of_bounds(name: str, value: Any) -> None:
    """An invalid value is refused in one line with its flag and the value."""
    message = problem(**{name: value})
    assert message.startswith(f"--{name.replace('_', '-')}: ")
    assert f", got {value!r}" in message
    assert "\n" not in message


def test_misspelt_options() -> None:
    """The message for a misspelt option suggests the nearest one."""
    assert problem(concurency=3) == "unknown option 'concurency'; did you mean 'concurrency'?"
    assert problem(zzz=3) == "unknown option 'zzz'"


def test_every_option_has_help() -> None:
    """The help text of each option is on one line, in a section."""
    for name, (option, _) in job_options().items():
        assert option.help, name
        assert option.section, name
        assert "\n" not in option.help, name


def test_text_from_files(tmp_path: Path) -> None:
    """`@file` reads a file, with or without byte order mark; `@@` is a literal @."""
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfAsk {{ q }}\n")
    assert read_text_option("@p.txt", "prompt", tmp_path) == "Ask {{ q }}\n"
    assert read_text_option("@@home", "prompt") == "@home"
    assert read_text_option("plain", "prompt") == "plain"
    assert read_text_option(None, "prompt") is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and a file in another encoding give one line with option and file."""
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for name, words in (
        ("no.txt", "No such file"),
        ("", "expected the path of a file"),
        ("latin.txt", "is not UTF-8 text"),
    ):
        with pytest.raises(InputError) as caught:
            read_text_option(f"@{name}", "prompt", tmp_path)
        assert words in str(caught.value)
        assert str(caught.value).startswith("--prompt @")


def test_empty_variables_are_absent() -> None:
    """An empty variable such as OPENAI_API_KEY= counts as not set."""
    assert Environment.read({"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}) == Environment()
    assert Environment.read({"OPENAI_API_KEY": "k", "BATCHRUN_MODEL": "m"}).model == "m"


def test_a_key_shows_in_no_repr() -> None:
    """The repr of the environment does not contain its keys."""
    assert "sk-secret" not in repr(Environment.read({"OPENAI_API_KEY": "sk-secret-1"}))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=3))
def test_digests(parts: list[Any]) -> None:
    """A digest is 32 hex digits, the same for equal parts, and depends on where each part ends."""
    made = digest(*parts)
    assert made == digest(*parts)
    assert len(made) == 32
    assert int(made, 16) >= 0
    assert digest(parts, "x") != digest([*parts, "x"])


def test_digests_ignore_the_order_of_names() -> None:
    """The order of keys in a mapping does not change the digest; the order of a list does."""
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])


def test_no_secret_shows_in_a_repr() -> None:
    """The repr of a job does not contain values that may be keys."""
    job = make_job({"header": ["X-Key=planted-1"], "query": ["sig=planted-2"], "ping": "https://hc.example/planted-3"})
    assert job.header == {"X-Key": "planted-1"}
    assert "planted" not in repr(job)
    assert "header=…" in repr(job)
