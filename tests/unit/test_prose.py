"""Plain English: docs, help texts, messages, docstrings and comments have none of the forms that docs/contributing.md bans."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import batchrun
from batchrun.cli import cli
from batchrun.job.options import job_options
from tests.support.markdown import CODE_BLOCK

PACKAGE = Path(batchrun.__file__).parent
ROOT = PACKAGE.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
        *(path for path in (ROOT / "docs").rglob("*.md") if path.name != "cli.md"),
    ]
)
"""The pages to check. docs/reference/cli.md is made of the help texts, which are checked themselves."""

BANNED = {
    "is no X": r"(?<!there )\b(?:is|are|was|were) no\b(?! (?:longer|more|less|fewer|later|earlier|sooner|different)\b)",
    "is none": r"(?<!there )\b(?:is|are|was|were) (?-i:none)\b(?! of\b)",
    "none of them": r"\bnone of them\b",
    "goes on": r"\b(?:go|goes|going|went|gone) on\b",
    "stands": r"\b(?:stand|stands|stood|standing)\b(?! for\b|ard|-| still\b)",
    "lies": r"\b(?:lie|lies|lay|lying)\b(?! to\b)",
    "bears": r"\b(?:bear|bears|bore|borne)\b",
    "reckon": r"\breckon\w*",
    "anew": r"\banew\b",
    "of one's own": r"\bof one['’]s own\b",
    "tells": r"\btells\b|\b(?:is|are|was|were) told\b",
    "asked alike": r"\b(?:ask|asks|asked) alike\b",
    "comes to": r"\bcomes? to\b(?! [\d{])",
    "that there is not": r"\bthat there (?:is|are|was|were)\b(?! no\b)",
    "that is to V": r"\b(?:that|which|what|who) (?:is|are|was|were) to\b",
    "also where": r"\balso (?:where|not|across)\b",
    "what is asked": r"\bwhat (?:is|was) (?:asked|sent|said|kept|left|old|wanted|answered|found|there)\b",
    "say --option": r"\bsay (?:`|--)",
    "tries": r"\b(?:of|its|their|each|last|first|second|several|earlier|all|more|the|two|three|five|another|a|one) tr(?:y|ies)\b(?! to\b)",
    "a watch": r"\b(?:a|the) watch\b",
}
"""Name of a form → its pattern, which is matched without regard to case."""

ROOMS = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists())
)
"""The folders and modules of the package."""
PROMPTS = {PACKAGE / "scoring" / "grading" / "ready_rubrics.py"}
"""Modules with a prompt for a model: another wording would grade every answer again."""

PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in BANNED.items()}
INLINE_CODE = re.compile(r"``.+?``|`[^`]+`")
COMMENT = re.compile(r"<!-- shows: [^\n]*\n(?:\|[^\n]*\n)*|<!--.*?-->", re.DOTALL)
"""HTML comments, and the tables of outputs that a test writes below `<!-- shows: … -->`."""
LINK = re.compile(r"\]\([^)\s]*\)")
BLOCK_START = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*|#>]|\d+\.)\s)|(?<!\\)\|")


def faults(text: str) -> list[str]:
    """The banned forms in a text, each with the words around it."""
    flat = " ".join(text.split())
    return [
        f"{name}: …{flat[max(0, match.start() - 40) : match.end() + 30]}…"
        for name, pattern in PATTERNS.items()
        for match in pattern.finditer(flat)
    ]


def sentences_of_page(markdown: str) -> Iterator[str]:
    """The paragraphs, list items and table cells of a page, without code, link targets and HTML comments."""
    text = COMMENT.sub("", CODE_BLOCK.sub("\n\n", markdown))
    yield from BLOCK_START.split(LINK.sub("]", INLINE_CODE.sub("`", text)))


def faults_of_page(markdown: str) -> list[str]:
    """The banned forms of a page."""
    return [fault for text in sentences_of_page(markdown) for fault in faults(text)]


def comments_of_module(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment; comments on consecutive lines are one."""
    first, last, lines = 0, 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield first, " ".join(lines)
                first, lines = token.start[0], []
            last = token.start[0]
            lines.append(token.string.lstrip("# "))
    yield first, " ".join(lines)


def texts_of_module(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment and every string constant; the values in an f-string become `{}`."""
    yield from comments_of_module(source)
    tree = ast.parse(source)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def faults_of_module(path: Path) -> list[str]:
    """The banned forms in the messages, docstrings and comments of a module, with their lines."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for line, text in texts_of_module(path.read_text(encoding="utf-8"))
        for fault in faults(INLINE_CODE.sub("`", text))
    ]


def modules_of(name: str) -> list[Path]:
    """The files of a folder or of a module of the package, given as `engine` or `server.search` or `errors`."""
    path = PACKAGE / name.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """(command and option, help text) of a command and of those below it."""
    yield path, command.help or ""
    for param in command.params:
        if isinstance(param, click.Option):
            yield f"{path} {param.opts[0]}", param.help or ""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from helps(child, f"{path} {name}")


@pytest.mark.parametrize(
    "page",
    PAGES,
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_pages_are_plain_english(page: Path) -> None:
    """A page of the docs has no banned form."""
    assert faults_of_page(page.read_text(encoding="utf-8")) == []


def test_help_texts_are_plain_english() -> None:
    """The help of a command or an option has no banned form."""
    texts = [*helps(cli, "batchrun"), *((name, option.help) for name, (option, _) in job_options().items())]
    assert [f"{name}: {fault}" for name, text in texts for fault in faults(text)] == []


@pytest.mark.parametrize("name", ROOMS)
def test_messages_and_docstrings_are_plain_english(name: str) -> None:
    """The strings and comments of a folder or a module have no banned form."""
    found = modules_of(name)
    assert found
    assert [fault for path in found if path not in PROMPTS for fault in faults_of_module(path)] == []


def test_names_of_tests_are_plain_english() -> None:
    """The name of a test, read as a sentence, has no banned form."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    names = re.findall(r"^ *(?:async )?def test_(\w+)", "\n".join(sources), re.MULTILINE)
    assert len(names) > 1000
    assert [fault for name in names for fault in faults(name.replace("_", " "))] == []


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ("is no X", "The file is no JSON."),
        ("is no X", "These are no rows."),
        ("is none", "Two objects are none."),
        ("none of them", "It knows none of them."),
        ("goes on", "The same command goes on where it was."),
        ("stands", "The rule stands in the file."),
        ("stands", "Every option can stand in a TOML file."),
        ("lies", "The journal lies beside OUTPUT."),
        ("bears", "The first row bears the cost."),
        ("reckon", "The command reckons again."),
        ("anew", "It writes the page anew."),
        ("of one's own", "Servers of one's own are supported."),
        ("tells", "The summary tells how many rows failed."),
        ("tells", "The model is told what is wrong."),
        ("asked alike", "Rows that are asked alike share an answer."),
        ("comes to", "What several verdicts come to."),
        ("that there is not", "A thread that there is not fails its row."),
        ("that is to V", "The run that is to be made."),
        ("also where", "A second one exits with 6, also where the name differs."),
        ("what is asked", "It is the column of what was wanted."),
        ("say --option", "To do so, say --fresh."),
        ("tries", "It fails after five tries."),
        ("tries", "The first try costs nothing."),
        ("a watch", "It notifies a watch."),
    ],
)
def test_a_banned_form_is_found(form: str, sentence: str) -> None:
    """Each form is found in a sentence of a page, a table, a docstring, a comment and an f-string message."""
    found = [fault.partition(":")[0] for fault in faults(sentence)]
    assert form in found
    for page in (f"# Page\n\n- A point.\n- {sentence}\n", f"| a | {sentence} |\n", sentence.replace(" ", "\n")):
        assert [fault.partition(":")[0] for fault in faults_of_page(page)] == found
    comment = sentence.replace(" ", "\n    # ")
    module = f'def f(x):\n    """Do.\n\n    {sentence}\n    """\n    # {comment}\n    raise ValueError(f"{{x}} {sentence}")\n'
    assert len([fault for _, text in texts_of_module(module) for fault in faults(text)]) == 3 * len(found)


@pytest.mark.parametrize(
    "sentence",
    [
        "There is no row to run, and there are no keys.",
        "The cost is None if it is unknown.",
        "The limit is no longer reached; it is no more than a guess.",
        "Standard input stands for the table; you understand.",
        "The sides come to 14.",
        "The command tries to continue.",
        "Write `is no JSON` never.",
        "```text\nThe file is no JSON.\n```",
        "<!-- it goes on -->",
        "See [the page](what-goes-on.md#anew).",
    ],
)
def test_plain_english_passes(sentence: str) -> None:
    """Correct sentences, code, comments and link targets are left alone."""
    assert faults_of_page(f"{sentence}\n") == []
