"""The shape of the package: who may import whom, what is named where, and who may print."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path

import pytest

from tests.support.sources import PACKAGE, parsed

PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
STAGES = ("tables", "prompts", "journal", "engine", "services")


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> Mapping[str, ast.Module]:
    """Every module of the package, parsed."""
    return {module_of(path): tree for path, tree in parsed().items()}


def imported(module: str) -> Iterator[str]:
    """The modules of batchrun that a module imports: at any depth, in functions and under TYPE_CHECKING too."""
    is_package = (PACKAGE.parent / module.replace(".", "/")).is_dir()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules() else base for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "batchrun":
                while name not in modules():
                    name = name.rpartition(".")[0]
                if name != module:
                    yield name


@cache
def imports() -> Mapping[str, Set[str]]:
    """Module → the modules that it imports."""
    return {module: frozenset(imported(module)) for module in modules()}


def room(module: str) -> str:
    """The folder or file at the top of the package that a module belongs to."""
    return [*module.split("."), "__init__"][1]


def circles(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """Groups of modules each of which reaches all others of its group (Tarjan's strongly connected components)."""
    found: list[list[str]] = []
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[-len(group) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def floors() -> dict[str, int]:
    """Room → its floor, from the table in docs/architecture.md."""
    table = re.findall(r"^\| (\d+) \| (.+?) \|", PAGE, re.MULTILINE)
    return {name: int(number) for number, names in table for name in re.findall(r"`(\w+)`", names)}


def test_no_import_circle() -> None:
    """No module imports itself through others."""
    assert circles(imports()) == []


def test_the_search_for_circles_finds_them() -> None:
    """Two modules that import each other are found, and so are three in a ring."""
    graph = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"e"}, "e": {"c"}}
    assert circles(graph) == [["c", "d", "e"], ["a", "b"]]


def test_every_import_goes_to_a_lower_floor() -> None:
    """A part knows the parts below it in the table of docs/architecture.md, never one beside or above it."""
    floor = floors()
    assert set(floor) == {room(module) for module in modules()}
    upward = [
        f"{module} (floor {floor[room(module)]}) imports {other} (floor {floor[room(other)]})"
        for module, others in imports().items()
        for other in others
        if room(module) != room(other) and floor[room(other)] >= floor[room(module)]
    ]
    assert upward == []


def test_the_stages_are_in_the_order_of_a_rows_way() -> None:
    """A stage imports no later one; the engine knows no protocol, since `services` comes after it."""
    floor = floors()
    assert sorted(STAGES, key=floor.__getitem__) == list(STAGES)
    assert len({floor[stage] for stage in STAGES}) == len(STAGES)


def test_the_server_imports_nothing_else() -> None:
    """The embedded server is a program of its own."""
    assert [
        other
        for module in modules()
        if room(module) == "server"
        for other in imports()[module]
        if room(other) != "server"
    ] == []


def test_only_three_modules_start_the_server() -> None:
    """Everything else meets the server through its socket."""
    starting = {
        module
        for module in modules()
        if room(module) != "server"
        if any(room(o) == "server" for o in imports()[module])
    }
    assert starting == {"batchrun.batch.endpoint", "batchrun.cli.serve"}


def test_the_page_names_every_folder() -> None:
    """docs/architecture.md lists the folders of the package, all of them and no others, and the files at its top."""
    tree = re.search(r"```\nbatchrun/\n(.*?)```", PAGE, re.DOTALL)
    assert tree is not None
    listed: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in tree[1].splitlines():
        indent = len(line) - len(line.lstrip())
        if (name := re.match(r" *(\w+)/", line)) is None:
            continue
        parents = [(depth, parent) for depth, parent in parents if depth < indent]
        path = "/".join([*(parent for _, parent in parents), name[1]])
        parents.append((indent, name[1]))
        listed.append(path)
    folders = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.is_dir() and any(path.glob("*.py")) and path.name != "__pycache__"
    }
    assert sorted(listed) == sorted(folders)
    assert [name for name in listed if listed.count(name) > 1] == []


def test_the_page_names_every_file() -> None:
    """The tree in docs/architecture.md names each module; where one rule covers a folder, it names the rule."""
    tree = re.search(r"```\nbatchrun/\n(.*?)```", PAGE, re.DOTALL)
    assert tree is not None
    by_rule = ("cli", "server/http/routes", "server/protocol/requests", "server/responders/algebra")
    named = set(re.findall(r"\w+\.py", tree[1]))
    unnamed = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name not in named | {"__init__.py"} and str(path.parent.relative_to(PACKAGE)) not in by_rule
    }
    assert {path for path in unnamed if not path.endswith(("responses_replies.py", "chat_replies.py"))} == set()
    assert named <= {path.name for path in PACKAGE.rglob("*.py")}


def test_a_public_class_has_its_name_alone() -> None:
    """Two public classes of one name would be two things that a reader takes for one. The server counts by itself."""
    homes: dict[tuple[bool, str], list[str]] = defaultdict(list)
    for module, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[room(module) == "server", node.name].append(module)
    assert {name: found for (_, name), found in homes.items() if len(found) > 1} == {}


PARALLEL = {
    "app": "the command group, and the server's application",
    "auth": "how requests are signed, and how the server checks that",
    "base": "the interface of a family: scorers, responders, request models",
    "clock": "the wall clock of the package, and the server's own",
    "errors": "the error tree of the package, and the server's own",
    "open": "opening a journal, opening a table",
    "run": "running a batch, and the Python function that does",
    "numbers": "reading numbers in answers, and in the tutor's algebra",
    "schema": "the tables of the journal, and of the server's file",
    "uploads": "the journal's record of uploads, and the uploads",
    "tally": "counts of a batch",
}
"""File names that occur more than once, beside commands and parts of the server, and why."""


def test_file_names_repeat_only_where_they_are_parallel() -> None:
    """A file name occurs once; but a command may be called like its part, and the server's folders follow its resources."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules():
        if room(module) not in ("cli", "server", "services") and "." in module:
            places[module.rpartition(".")[2]].append(module)
    # A package and the module of the same name in it are one place.
    repeated = {
        name: found
        for name, found in places.items()
        if len({f for f in found if not f.endswith(f".{name}.{name}")}) > 1
    }
    assert repeated.keys() <= PARALLEL.keys(), repeated


def test_only_the_console_prints() -> None:
    """A library does not write to its user's terminal, and everything that commands print passes the gate that makes
    outside text harmless."""
    printing = {
        module
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == "print")
        or (isinstance(node, ast.Attribute) and node.attr in ("echo", "secho", "stdout", "stderr", "__stderr__"))
    }
    # The sandbox and the worker are programs of their own; `mathematics` reads the worker's output.
    others = {name for name in printing if not name.startswith("batchrun.server.sandbox.")}
    worker = {"batchrun.scoring.scorers.math_worker", "batchrun.scoring.scorers.mathematics"}
    # A program of its own too, and what reads its output.
    reading = {"batchrun.server.search.extraction", "batchrun.server.search.text_reader"}
    # The progress of a batch that Python code runs, on its terminal.
    progress = {"batchrun.api.progress_bar"}
    pipes = {"batchrun.scale.pipes"}  # to and from the workers of a batch
    assert others - worker - reading - progress - pipes == {"batchrun.cli.console", "batchrun.cli.safe_stream"}


def test_the_environment_is_read_at_the_top() -> None:
    """What a batch does is decided by what it is given: stages do not read the environment."""
    reading = {
        room(module)
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert reading & {*STAGES, "batch"} == set()


@pytest.mark.parametrize("heavy", ["pandas", "openai", "pyarrow"])
def test_importing_the_package_is_light(heavy: str) -> None:
    """`import batchrun` brings neither pandas nor the SDK: `--help` must be quick."""
    code = f"import sys, batchrun, batchrun.job.options; print({heavy!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
