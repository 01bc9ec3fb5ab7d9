"""Faulty job files: each problem has its file and line, all of them at once, in the words of the file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.batch.table_faults import table_faults
from batchrun.errors import InputError
from batchrun.job.file import read_job_file
from batchrun.job.toml_lines import TomlLines
from batchrun.scoring.score_options import score_problems
from tests.support.command import batchrun

TABLES = {"score": score_problems}


def problems(folder: Path, text: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    """Return the lines of all problems of a job file, without its name."""
    path = folder / "job.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_job_file(path, environ or {}, TABLES, table_faults)
    lines = [str(caught.value), *getattr(caught.value, "__notes__", ())]
    assert all(line.startswith(str(path)) and "\n" not in line for line in lines)
    return [line.removeprefix(str(path)).lstrip(",: ") for line in lines]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # unknown names
        ('promt = "x"', ["line 1: unknown key 'promt'; did you mean 'prompt'?"]),
        ("\n\nmax-outage = 1", ["line 3: unknown key 'max-outage'; did you mean 'max_outage'?"]),
        ("zzz = 1", ["line 1: unknown key 'zzz'"]),
        ("[scoer]\nscorer = 'exact'", ["line 1: unknown table [scoer]; did you mean 'score'?"]),
        ("[[turn]]\nprompt = 'x'", ["line 1: unknown key 'turn'; did you mean 'turns'?"]),
        ("score.scorrer = 'exact'", ["line 1: score: unknown key 'scorrer'; did you mean 'scorer'?"]),
        # types
        (
            "rpm = 'fast'",
            ["line 1: rpm: input should be a valid number, got 'fast'"],
        ),
        ("concurrency = 1.5", ["line 1: concurrency: input should be a valid integer"]),
        ("dedupe = 'perhaps'", ["line 1: dedupe: expected true or false"]),
        ("model = 3", ["line 1: model: input should be a valid string, got 3"]),
        ("api = 'chats'", ["line 1: api: input should be 'assistants', 'responses' or 'chat', got 'chats'"]),
        ("attach = [1]", ["line 1: attach[0]: input should be a valid string, got 1"]),
        ("input = 3", ["line 1: input: expected the path of a table, got 3"]),
        ("extends = 3", ["line 1: extends: expected the path of one file, got 3"]),
        ("header = 3", ["line 1: header: input should be a valid dictionary (the value is not shown"]),
        ("[header]\nX-Key = 3", ["line 2: header: input should be a valid string (the value is not shown"]),
        # bounds
        ("temperature = 7", ["line 1: temperature: must be at most 2, got 7"]),
        ("max_outage = 0", ["line 1: max_outage: must be above 0, got 0"]),
        ("concurrency = 0", ["line 1: concurrency: must be at least 1, got 0"]),
        ("budget = nan", ["line 1: budget: must be above 0, got nan"]),
        ("max_age = '3 days'", ["line 1: max_age: expected a duration such as 90m, 12h or 7d, got '3 days'"]),
        ('instructions = "\\uD800"', ["line 1, column 23: is not valid TOML: Escaped character"]),
        # paths and variables
        ("output = 'https://host/a.csv'", ["line 1: output: https://… is only read; give a path"]),
        ("tools = ''", ["line 1: tools: expected the path of a file"]),
        ("base_url = 'https://${GONE}/v1'", ["line 1: base_url: environment variable GONE is not set"]),
        ("[header]\nX = '${GONE}'\nY = '${LOST}'", ["line 1: header: environment variable GONE is not set"]),
        # tables
        (
            "[param]\nseed = 1\nmodel = 'm'",
            ["line 3: param: model cannot be set as a model parameter; use model; in TOML,"],
        ),
        ("[matrix]\ntemperature = 0.5", ["line 2: matrix['temperature']: input should be a valid list, got 0.5"]),
        ("[matrix]\ntemperature = [9]", ["line 2: temperature: must be at most 2, got 9"]),
        ("[matrix]\napi = ['chat']", ["line 2: matrix: api must be the same for all rows"]),
        (
            "[matrix]\nmodels = ['a']",
            ["line 2: matrix: 'models' is not an option that affects answers; did you mean 'model'?"],
        ),
        ("[matrix]\nmodel = []", ["line 2: matrix: model has no values; give a list of at least one"]),
        ("[matrix]\nmodel = ['a', 'a']", ["line 2: matrix: model has the same value twice; use epochs to repeat rows"]),
        (
            "temperature = 0\n[matrix]\ntemperature = [0, 1]",
            ["line 2: matrix: temperature is also given outside the matrix; remove one of them"],
        ),
        (
            "epochs = 200\n[matrix]\ntemperature = " + str([i / 100 for i in range(100)]),
            ["line 2: matrix and epochs: every row"],
        ),
        (
            "[prices.m]\ninput = -1",
            ["line 2: prices: 'm': input: expected US dollars per million tokens, 0 or more, got -1"],
        ),
        (
            "[prices]\nm = { input = -1, output = 'x' }\nn = 3",
            [
                "line 2: prices: 'm': input: expected US dollars",
                "line 2: prices['m']['output']: input should be a valid number",
                "line 3: prices['n']: input should be a valid dictionary, got 3",
            ],
        ),
        # turns
        ("turns = []", ["line 1: turns: the list is empty"]),
        ("[[turns]]\nprompt = 'a'\n[[turns]]\npromt = 'b'", ["line 1: turns: turn 2 has the unknown key 'promt'"]),
        ("prompt = 'a'\n[[turns]]\nprompt = 'b'", ["line 2: turns: cannot be combined with a prompt"]),
        ("[[turns]]\nprompt = 'a'\nmodel = 'm'", ["line 1: turns: turn 1 has the unknown key 'model'"]),
        ("[[turns]]\nwhen = 'x'\nprompt = 'a'", ["line 1: turns: the first turn cannot have a condition"]),
        # [score]
        ("score = 3", ["line 1: score: expected a table [score], got 3"]),
        ("[score]\nfail_under = 3", ["line 2: score: fail_under: expected a number from 0 to 1, got 3"]),
        ("[score]\nfailed_as = 'right'", ["line 2: score: failed_as: input should be 'skip' or 'wrong', got 'right'"]),
        ("[score]\njunit = 'https://x/y.xml'", ["line 1: junit: https://… is not a local file"]),
        (
            "[score]\nscorer = 'exact'\nrpm = 3",
            ["line 3: score: unknown key 'rpm'", "in TOML, options of the batch come before"],
        ),
        # TOML
        ("model = gpt-4", ["line 1, column 9: is not valid TOML: Invalid value; a text needs quotes"]),
        ("model = 'a'\nmodel = 'b'", ["line 2: is not valid TOML: the key or table is there twice"]),
        ("a b = 1", ["line 1, column 3: is not valid TOML: Expected '=' after a key"]),
        ("model = 'a\n", ['line 1: is not valid TOML: Expected "\'" (at the end of the file)']),
        ("matrix = [1,\n2,\n", ["line 2: is not valid TOML: Invalid value (at the end of the file)"]),
        (b"model = 'a'\nprompt = '\xff'", ["line 2: is not UTF-8 text (byte 22)"]),
        ("x = " + "[" * 100_000, ["is not valid TOML"]),
        # several at once, in the order of the lines
        (
            "promt = 1\r\nrpm = -1\r\n\r\n# temperature = 9\r\ntemperature = 9\r\n[score]\r\ntagret = 'a'\r\n[param]\r\nn = 2",
            [
                "line 1: unknown key 'promt'",
                "line 2: rpm: must be above 0",
                "line 5: temperature: must be at most 2",
                "line 7: score: unknown key 'tagret'; did you mean 'target'?",
                "line 9: param: n cannot be set as a model parameter; use epochs",
            ],
        ),
        (
            'prompt = """\nmodel = 3\n[matrix]\n"""\nmodel = 3\nmatrix = { model = 1,\ttop_p = 2 }',
            ["line 5: model:", "line 6: matrix['model']:", "line 6: matrix['top_p']:"],
        ),
    ],
)
def test_each_problem_has_its_line(tmp_path: Path, text: str | bytes, expected: list[str]) -> None:
    """Every problem of a file is reported, with its line, the key and what is expected; no other line is reported."""
    found = problems(tmp_path, text)
    if expected[-1].startswith("in TOML"):
        assert expected.pop() in found[-1]
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning), line
        assert "--" not in line


def test_the_problems_of_extended_files_name_those_files(tmp_path: Path) -> None:
    """A problem in a base file has the base's name and line; a value that the job file replaces is not checked."""
    (tmp_path / "base.toml").write_text("rpm = -1\ntpm = -1\npromt = 1\n[param]\nmodel = 'x'\n", encoding="utf-8")
    (tmp_path / "job.toml").write_text("extends = 'base.toml'\ntpm = 0\n[param]\nseed = 1\nn = 2\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_job_file(tmp_path / "job.toml", {}, TABLES)
    lines = [
        line.removeprefix(f"{tmp_path}/").partition(": ")[0] for line in (str(caught.value), *caught.value.__notes__)
    ]
    assert lines == [
        "base.toml, line 1",
        "base.toml, line 3",
        "base.toml, line 5",
        "job.toml, line 2",
        "job.toml, line 5",
    ]


def test_faults_of_templates_come_with_the_others(tmp_path: Path) -> None:
    """Templates and columns of a file with another problem are checked against the table, and so is the table."""
    (tmp_path / "q.csv").write_text("question\n1+1\n", encoding="utf-8")
    text = """input = "q.csv"
prompt = \"\"\"
Answer
{{ qestion }}\"\"\"
instructions = "{{ a b }}"
rpm = 0
key = "id"
[param]
user = "{{ customer }}"
"""
    expected = [
        "line 2: prompt: no column named 'qestion' in the input",
        "line 5: instructions: syntax error",
        "line 6: rpm: must be above 0",
        "line 7: key: no column named 'id'",
        "line 9: param user: no column named 'customer'",
    ]
    found = problems(tmp_path, text)
    assert [line.startswith(beginning) for line, beginning in zip(found, expected, strict=True)] == [True] * 5, found
    found = problems(tmp_path, text.replace("q.csv", "none.csv"))
    assert found[0].startswith("line 1: input: ")
    (tmp_path / "job.toml").write_text(text.replace("rpm = 0", ""), encoding="utf-8")
    checked = batchrun(tmp_path, "check", "job.toml")
    assert checked.returncode == 2
    places = [line.removeprefix("batchrun: job.toml, ").partition(":")[0] for line in checked.stderr.splitlines()]
    assert places == ["line 7", "line 2", "line 5", "line 9"], checked.stderr


# -- the command line -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.csv").write_text("id,question\n1,1+1\n2,2+2\n", encoding="utf-8")
    return tmp_path


def refused(folder: Path, text: str, *arguments: str) -> list[str]:
    (folder / "job.toml").write_text(text, encoding="utf-8")
    result = batchrun(folder, *(arguments or ("check", "job.toml")))
    assert result.returncode == 2, result
    # `run` dates its lines, since they may go to a log.
    return [re.sub(r"^batchrun: \d{4}-\d\d-\d\d \S+ · ", "batchrun: ", line) for line in result.stderr.splitlines()]


@pytest.mark.parametrize("command", ["check", "run", "status", "export"])
def test_every_command_prints_all_problems(folder: Path, command: str) -> None:
    """Each problem is one line on standard error."""
    assert refused(folder, 'input = "q.csv"\nrpm = 0\ntpm = 0\n', command, "job.toml") == [
        "batchrun: job.toml, line 2: rpm: must be above 0, got 0.0",
        "batchrun: job.toml, line 3: tpm: must be above 0, got 0.0",
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('prompt = "{{ questoin }}"', "job.toml, line 2: prompt: no column named 'questoin' in the input"),
        ('prompt = "{{ question"', "job.toml, line 2: prompt: syntax error"),
        ('prompt = """\nAnswer:\n{{ question }\n"""', "job.toml, line 4: prompt: syntax error"),
        ('prompt = """Answer:\n{{ question }"""', "job.toml, line 3: prompt: syntax error"),
        (
            '\n[[turns]]\nprompt = "{{ question }}"\n[[turns]]\nprompt = "{{ gone }}"',
            "job.toml, line 6: turn 2: prompt: no column",
        ),
        ('key = "gone"', "job.toml, line 2: key: no column named 'gone' in the input"),
        ('script = "gone.toml"', "job.toml, line 2: script: "),
        ("azure = true", "job.toml, line 2: azure: the resource's endpoint is missing"),
        ('output = "{time}.csv"', "job.toml, line 2: output: unknown placeholder {time}"),
        ('prompt = "@gone.txt"', "job.toml, line 2: prompt @"),
    ],
)
def test_what_only_the_table_shows_has_its_line_too(folder: Path, lines: str, expected: str) -> None:
    """Templates, columns and files that do not fit are reported at the line of their key, or of the template."""
    for command in ("check", "run"):
        (line,) = refused(folder, f'input = "q.csv"\n{lines}\n', command, "job.toml")
        assert line.startswith(f"batchrun: {expected}"), line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--rpm", "0"), "batchrun: --rpm: must be above 0, got 0.0"),
        (("--prompt", "{{ gone }}"), "batchrun: --prompt: no column named 'gone' in the input"),
        (("--top-p", "high"), "batchrun: --top-p: input should be a valid number"),
        (("--temperature", "1"), "batchrun: job.toml, line 3: matrix: temperature is also given outside the matrix"),
    ],
)
def test_the_error_names_what_gave_the_value(folder: Path, arguments: tuple[str, ...], expected: str) -> None:
    """The value of a flag is reported as that of the flag, although the job file has the same key."""
    text = 'input = "q.csv"\nrpm = 50\nmatrix = { temperature = [0, 1] }\nprompt = "{{ question }}"\n'
    (line,) = refused(folder, text, "run", "job.toml", *arguments)
    assert line.startswith(expected), line


# -- the lines of keys ------------------------------------------------------------------------------------------

SPECIAL = """
# a = 1
a = 1 # b = 2
  "b c" = '''
d = 1
''' # e
f = [
  1, # ]
  "]", { g = 1, h = "}" },
]
i.j."k=l" = '#'
m = \"\"\"x \\\"\"\" y
n = 1\"\"\"\"\"
[o.p]
q = { r = [ { s = 1 } ] }
[[t]]
u = 1
[[t]]
u = 2
[t.v]
w = 3
[[t.x]]
y = 4
"""


def test_lines_of_all_kinds_of_keys() -> None:
    """Comments, texts over several lines, quoted and dotted keys, tables and arrays of tables keep their lines."""
    tomllib.loads(SPECIAL)
    lines = TomlLines.of(SPECIAL).lines
    assert lines[("a",)] == 3
    assert lines[("b c",)] == 4
    assert lines[("f",)] == 7
    assert lines[("i", "j", "k=l")] == 11
    assert lines[("m",)] == 12
    assert lines[("o", "p", "q")] == 15
    assert (lines[("t", 0, "u")], lines[("t", 1, "u")], lines[("t", 1, "v", "w")]) == (17, 19, 21)
    assert lines[("t", 1, "x", 0, "y")] == 23
    assert ("d",) not in lines
    assert ("n",) not in lines


KEYS = st.text("abc-_", min_size=1, max_size=3) | st.sampled_from(['"x = y"', "'[z]'", '"#"', "a.b", 'c."d e"'])
VALUES = st.sampled_from(
    [
        "1",
        "'a'",
        '"\\""',
        "'''\nq = 1\n'''",
        '"""\n\\"""\n[t]\n"""',
        "[1,\n 2, # ]\n]",
        "{ p = 1 }",
        "1979-05-27 07:32:00",
        "'#'",
    ]
)


@given(st.lists(st.tuples(KEYS, VALUES, st.sampled_from(["\n", " # c = 1\n", "\n\n", "\r\n"])), max_size=6))
def test_every_top_level_key_has_the_line_it_is_on(items: list[tuple[str, str, str]]) -> None:
    """For any file that Python's parser accepts, the keys found are those of the file, each on its own line."""
    text = ""
    expected: dict[str, int] = {}
    for key, value, end in items:
        added = f"{text}{key} = {value}{end}"
        try:
            known: dict[str, Any] = tomllib.loads(added)
        except tomllib.TOMLDecodeError:
            continue
        first = next(iter(tomllib.loads(f"{key} = 0")))
        expected.setdefault(first, text.count("\n") + 1)
        text = added
        assert expected.keys() == known.keys()
    found = TomlLines.of(text).lines
    assert {path[0]: line for path, line in found.items() if len(path) == 1} == expected
