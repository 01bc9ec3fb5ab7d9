"""Messages in the words of Python."""

from __future__ import annotations

import ast
import re
import traceback
from pathlib import Path

import pytest

from batchrun.api.parameters import CallersWords, in_python
from batchrun.errors import BatchRefused, InputError
from batchrun.job.options import job_options
from tests.support.sources import PACKAGE, parsed


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("--temperature: must be at most 2, got 3", "temperature: must be at most 2, got 3"),
        ("no model given: give --model NAME or set BATCHRUN_MODEL", "no model given: give model=NAME or set BATCHRUN_MODEL"),
        ("unavailable for 900 s (--max-outage): no reply", "unavailable for 900 s (max_outage): no reply"),
        ("--fresh starts over, --key names rows", "fresh=True starts over, key names rows"),
        ("--wait: expected a boolean", "wait: expected a boolean"),
        ("needs --api responses or --api chat", "needs api='responses' or api='chat'"),
        ("--api must be given", "api must be given"),
        ("try --encoding cp1252", "try encoding='cp1252'"),
        ("--encoding is for text formats only", "encoding is for text formats only"),
        ("use --param service_tier=flex", "use param={'service_tier': 'flex'}"),
        ("give --base-url https://NAME.openai.azure.com", "give base_url='https://NAME.openai.azure.com'"),
        ("for example --prompt '{{ question }}'", "for example prompt='{{ question }}'"),
        ("""--prompt "{{ row['Full text'] }}" sends it""", """prompt="{{ row['Full text'] }}" sends it"""),
        ("exceeds --budget 0.5: it would stop", "exceeds budget=0.5: it would stop"),
        ("--scorer numeric: needs --target COLUMN", "scorer='numeric': needs target=COLUMN"),
        ("run the same command again without --pilot", "run the same call again without pilot"),
    ],
)  # fmt: skip
def test_an_option_is_named_as_a_parameter(message: str, expected: str) -> None:
    """A reference to an option becomes the parameter that a caller can type, with the value that the message proposes."""
    assert in_python(message) == expected


@pytest.mark.parametrize(
    "message",
    [
        "expected JSON, got 'run --model x'",
        'the service replied "--api chat is not enabled"',
        "start the server with --enable-auto-tool-choice",
        "a row -- and --- lines",
        "the row's key is pre--model",
    ],
)
def test_outside_text_stays_as_it_is(message: str) -> None:
    """Text in quotes, flags of other programs and dashes in a sentence are not references to options."""
    assert in_python(message) == message


OF_COMMANDS = {
    "all": "of init",
    "no-env-file": "of commands: the Python functions read no .env",
    "in-flight": "of cleanup",
    "json": "of commands that print",
    "port": "of view and serve",
    "from": "of convert",
    "to": "of convert",
    "join": "of convert",
}
"""Flags that messages name although no Python function has a parameter for them, and why."""


def texts_of(tree: ast.Module) -> list[str]:
    """Every text of a module that is not a docstring or the text of a docstring-like expression."""
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents
    ]


def test_every_message_can_be_said_in_python() -> None:
    """No message of a part that Python code uses names a flag that stays a flag, but for those of other commands."""
    left: dict[str, str] = {}
    for path, tree in parsed().items():
        if path.relative_to(PACKAGE).parts[0] in ("cli", "server"):
            continue
        for text in filter(lambda text: "--" in text, texts_of(tree)):
            for flag in re.findall(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)(?![\w-])", in_python(text)):
                left[flag] = f"{path.relative_to(PACKAGE)}: {text}"
    assert {flag: text for flag, text in left.items() if flag not in OF_COMMANDS} == {}


def test_every_option_has_a_parameter() -> None:
    """The flag of each option of a batch is known, and becomes the name that the Python functions take."""
    for name, (option, _) in job_options().items():
        if not option.flagless:
            assert in_python(f"(--{name.replace('_', '-')}:)") == f"({name}:)"


def test_an_error_has_a_short_traceback() -> None:
    """An error shows the line that called and none of the package's depths; a note on it is kept."""

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        error = InputError("--key: no such column")
        error.add_note("a note")
        raise error from KeyError("id")

    with pytest.raises(InputError, match=r"^key: no such column") as caught, CallersWords():
        deep(9)
    lines = traceback.format_exception(caught.value)
    assert "deep(" not in "".join(lines)
    assert "KeyError" not in "".join(lines)
    assert lines[-1] == "a note\n"


def test_a_cause_in_the_users_file_is_shown(tmp_path: Path) -> None:
    """The traceback contains the line of the user's own file that failed, such as a schema that cannot be imported."""
    file = tmp_path / "answer.py"
    file.write_text("1 / 0\n")

    def load() -> None:
        try:
            exec(compile(file.read_text(), str(file), "exec"))
        except ZeroDivisionError as exc:
            raise BatchRefused("--schema answer.py: cannot be imported", error_type="x") from exc

    with pytest.raises(BatchRefused) as caught, CallersWords():
        load()
    assert f'File "{file}", line 1' in "".join(traceback.format_exception(caught.value))
