"""Shell completion: what a shell is offered, and how it gets there."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from batchrun.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "completion.md"
SCRIPT = Path(sys.executable).with_name("batchrun")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text("id,Full question,answer,it's $1\n1,a,b,c\n", encoding="utf-8")
    (tmp_path / "semi.csv").write_text('\ufeffid;"a, b";answer\n1;a;b\n', encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"key": 1, "question": "a"}\n', encoding="utf-8")
    (tmp_path / "job.toml").write_text('input = "t.csv"\noutput = "o.csv"\n', encoding="utf-8")
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bad.toml").write_text("input = \n", encoding="utf-8")
    return tmp_path


def printed(folder: Path, **variables: str) -> str:
    """Call batchrun as a shell's script does, in this process; return what it prints."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["batchrun"])
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
    assert (ended.value.code, err.getvalue()) == (0, "")
    out.seek(0)
    return out.read()


def offered(folder: Path, *words: str, shell: str = "fish", **environment: str) -> list[str]:
    """Return what a shell is offered for the last word, in click's protocol for fish: `type,value` on each line."""
    line = {"COMP_WORDS": " ".join(words), "COMP_CWORD": words[-1]}
    text = printed(folder, _BATCHRUN_COMPLETE=f"{shell}_complete", **line, **environment)
    return [each.partition("\t")[0].removeprefix("plain,") for each in text.split("\n") if each]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["run", "t.csv", "--api", ""], ["assistants", "responses", "chat"]),
        (["run", "t.csv", "--api", "ch"], ["chat"]),
        (["score", "t.csv", "--scorer", "nu"], ["numeric"]),
        (["run", "t.csv", "--score", "model"], ["model-graded"]),
        (["score", "t.csv", "--vote", "m"], ["majority", "mean"]),
        (["run", "t.csv", "--model", ""], ["gpt-x", "tutor"]),
        (["run", "t.csv", "--key", ""], ["id", "Full question", "answer", "it's $1"]),
        (["run", "t.csv", "--key", "Fu"], ["Full question"]),
        (["run", "semi.csv", "--key", ""], ["id", "a, b", "answer"]),
        (["run", "rows.jsonl", "--key", ""], ["key", "question"]),
        (["run", "job.toml", "--key", "i"], ["id", "it's $1"]),
        (["score", "t.csv", "--scorer", "numeric", "--target", "an"], ["answer"]),
        (["score", "t.csv", "--by", "an"], ["answer"]),
        (["compare", "t.csv", "semi.csv", "--key", "id"], ["id"]),
        (["report", "t.csv", "--target", "an"], ["answer"]),
        (["run", "nowhere.csv", "--key", ""], []),
        (["run", "bad.csv", "--key", ""], []),
        (["run", "bad.toml", "--key", ""], []),
        (["run", "--key", ""], []),
        (["run", "t.csv", "--tools", "x"], ["file,x"]),
        (["run", "t"], ["file,t"]),
        (["show", "bad.toml", "0", "--no"], ["--no-env-file"]),
        (["sho"], ["show"]),
    ],
)
def test_a_shell_is_offered_what_fits(folder: Path, words: list[str], values: list[str]) -> None:
    """Values of options, columns of the table on the line, and files; a table that cannot be read offers nothing, and
    prints nothing into the line that somebody types."""
    found = offered(folder, "batchrun", *words, BATCHRUN_MODEL="gpt-x")
    assert found == values


def test_completion_is_fast() -> None:
    """No large library is imported to complete a command: neither pandas nor the SDK, NumPy or pyarrow."""
    code = (
        "import os, sys\n"
        "os.environ.update(_BATCHRUN_COMPLETE='fish_complete', COMP_WORDS='batchrun run t.csv --key ', COMP_CWORD='')\n"
        "from batchrun.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'pandas', 'openai', 'numpy', 'pyarrow', 'anyio', 'minijinja'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_lines_of_the_page_give_scripts(tmp_path: Path) -> None:
    """Each line for a start-up file names a shell for which batchrun prints a script."""
    shells = re.findall(r"_BATCHRUN_COMPLETE=(\w+)_source batchrun", PAGE.read_text(encoding="utf-8"))
    assert shells == ["bash", "zsh", "fish"]
    for shell in shells:
        script = printed(tmp_path, _BATCHRUN_COMPLETE=f"{shell}_source")
        assert "_BATCHRUN_COMPLETE=" in script
        assert "batchrun" in script


@pytest.mark.skipif(not SCRIPT.exists() or shutil.which("bash") is None, reason="needs bash and the installed command")
def test_bash_completes_a_column_with_blanks(folder: Path) -> None:
    """A real bash that has read the line of the page completes a command, and quotes a column that needs it."""
    line = re.search(r'`(eval "\$\(_BATCHRUN_COMPLETE=bash_source batchrun\)")`', PAGE.read_text(encoding="utf-8"))
    assert line is not None
    ask = 'COMPREPLY=(); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _batchrun_completion batchrun; printf "%s\\n" "${COMPREPLY[@]}"'
    script = "\n".join(
        (
            line[1],
            f"COMP_WORDS=(batchrun sho); {ask}",
            f'COMP_WORDS=(batchrun run t.csv --key ""); {ask}',
        )
    )
    variables = {**os.environ, "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=variables, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["show", "id", "'Full question'", "answer", "'it'\"'\"'s $1'"]
