"""Job files, whose paths are relative to the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.errors import InputError
from batchrun.job.file import job_toml, load_job_file
from batchrun.job.validation import make_job


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Input, output and @files are the same from any working directory."""
    path = write(tmp_path / "night" / "job.toml", 'input = "q.csv"\noutput = "out/a.csv"\nprompt = "@p.txt"\n')
    name, options = load_job_file(path, {})
    assert name == str(tmp_path / "night" / "q.csv")
    assert options == {"output": str(tmp_path / "night" / "out" / "a.csv"), "prompt": f"@{tmp_path}/night/p.txt"}


def test_paths_have_no_detours(tmp_path: Path) -> None:
    """A path to a neighbouring folder has no `..`, so that messages and journals show it plainly."""
    path = write(tmp_path / "inputs" / "job.toml", 'input = "q.csv"\noutput = "../outputs/a.csv"\n')
    _, options = load_job_file(path, {})
    assert options["output"] == str(tmp_path / "outputs" / "a.csv")


def test_text_that_begins_with_two_ats_is_literal(tmp_path: Path) -> None:
    """`@@text` stays a literal."""
    _, options = load_job_file(write(tmp_path / "job.toml", 'prompt = "@@you"\n'), {})
    assert options["prompt"] == "@@you"


def test_standard_input_stays_standard_input(tmp_path: Path) -> None:
    """`-` is not taken for a file next to the job file."""
    assert load_job_file(write(tmp_path / "job.toml", 'input = "-"\n'), {})[0] == "-"


def test_extends_is_overridden_key_by_key(tmp_path: Path) -> None:
    """The keys of a file override those of the file that it extends, and tables are merged."""
    write(tmp_path / "base.toml", 'model = "a"\nrpm = 5\n[param]\nseed = 1\nuser = "x"\n')
    path = write(tmp_path / "job.toml", 'extends = "base.toml"\nmodel = "b"\n[param]\nseed = 2\n')
    assert load_job_file(path, {})[1] == {"model": "b", "rpm": 5, "param": {"seed": 2, "user": "x"}}


def test_a_circle_of_files_is_refused(tmp_path: Path) -> None:
    """Files that extend each other are an error, not an endless loop."""
    write(tmp_path / "a.toml", 'extends = "b.toml"\n')
    write(tmp_path / "b.toml", 'extends = "a.toml"\n')
    with pytest.raises(InputError, match="extends itself"):
        load_job_file(tmp_path / "a.toml", {})


def test_variables_are_replaced_in_some_keys_only(tmp_path: Path) -> None:
    """`${NAME}` is replaced in URLs and headers, and is plain text in a prompt."""
    text = 'base_url = "https://${HOST}/v1"\nprompt = "${HOST}"\n[header]\nX-Team = "${TEAM}"\n'
    _, options = load_job_file(write(tmp_path / "job.toml", text), {"HOST": "h", "TEAM": "blue"})
    assert options == {"base_url": "https://h/v1", "prompt": "${HOST}", "header": {"X-Team": "blue"}}


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    """A missing environment variable is an error, not an empty text."""
    with pytest.raises(InputError, match=r"base_url: environment variable HOST is not set"):
        load_job_file(write(tmp_path / "job.toml", 'base_url = "${HOST}"\n'), {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('promt = "x"', r"unknown key 'promt'; did you mean 'prompt'\?"),
        ("model = x", r"line 1, column 9: is not valid TOML: Invalid value; a text needs quotes"),
        ("extends = 3", "extends: expected the path of one file, got 3"),
        ('extends = "gone.toml"', "gone.toml: no such file"),
    ],
)
def test_a_wrong_file_gets_one_clear_line(tmp_path: Path, text: str, expected: str) -> None:
    """An invalid job file gives one line with the file and the problem."""
    with pytest.raises(InputError, match=expected) as caught:
        load_job_file(write(tmp_path / "job.toml", text), {})
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    """Any text is unchanged after it was written to a job file and read again."""
    options = {
        "model": "m",
        "instructions": 'a "b" \\ c\n"""d""" \U0001f600 \u007f',
        "param": {"seed": 7, "stop": ["\n"]},
    }
    path = write(tmp_path / "job.toml", job_toml(options, ("a comment", "")))
    assert load_job_file(path, {})[1] == options
    assert make_job(options).param == {"seed": 7, "stop": ["\n"]}


@pytest.mark.parametrize("value", [None, [None], {"seed": [1, {"a": None}]}])
def test_null_is_refused(value: object) -> None:
    """A job file cannot have null; the message names the option."""
    with pytest.raises(InputError, match="param: contains null"):
        job_toml({"param": value})
