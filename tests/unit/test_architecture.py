"""The shape of the package: who may import whom, and who may print."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchrun

PACKAGE = Path(batchrun.__file__).parent
STAGES = ("tables", "prompts", "journal", "engine")
"""In the order of a row's way. `services` is called by the engine through its interface, `services.base`."""


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """The modules of batchrun that a file imports, at any depth, relative ones resolved."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "batchrun")
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            if name.split(".")[0] == "batchrun":
                yield name


def files(part: str = "") -> list[Path]:
    path = PACKAGE / part
    found = [path.with_suffix(".py")] if path.with_suffix(".py").exists() and part else sorted(path.rglob("*.py"))
    assert found, part
    return found


def importing(paths: list[Path], prefixes: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in paths
        for name in imports(path)
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
    ]


@pytest.mark.parametrize(("number", "stage"), list(enumerate(STAGES)))
def test_no_stage_imports_a_later_one(number: int, stage: str) -> None:
    """Each stage knows those before it, never those after it nor what puts them together."""
    later = (
        *STAGES[number + 1 :],
        "results",
        "resuming",
        "assembly",
        "batch",
        "frames",
        "inspection",
        "cli",
        "display",
        "plan",
    )
    assert importing(files(stage), tuple(f"batchrun.{name}" for name in later)) == []


def test_the_engine_knows_no_protocol() -> None:
    """Of the services the engine imports the interface only."""
    found = importing(files("engine"), ("batchrun.services",))
    assert [line for line in found if not line.endswith("batchrun.engine.service")] == []


def test_the_server_imports_nothing_of_batchrun() -> None:
    """The embedded server is a program of its own."""
    others = [
        line for path in files("server") for line in importing([path], ("batchrun",)) if " batchrun.server" not in line
    ]
    assert others == []


def test_only_the_composition_root_and_the_command_line_start_the_server() -> None:
    """No stage meets the server but through its socket."""
    outside = [path for path in files() if PACKAGE / "server" not in path.parents]
    found = {line.split()[0] for line in importing(outside, ("batchrun.server",))}
    assert not {name for name in found if name.split("/")[0].removesuffix(".py") in (*STAGES, "services", "results")}
    assert "batch.py" in found


def test_only_one_file_prints() -> None:
    """A library does not write to its user's terminal, and all that commands print passes the gate that makes outside
    text harmless."""
    printing = {
        str(path.relative_to(PACKAGE))
        for path in files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (isinstance(node, ast.Attribute) and node.attr in ("echo", "secho", "stdout", "stderr", "__stderr__"))
    }
    # Those under server/tools and the worker are programs of their own; `mathematics` reads the worker's output.
    others = {name for name in printing if not name.startswith("server/tools/")}
    assert others - {"scoring/scorers/math_worker.py", "scoring/scorers/mathematics.py"} == {"cli/console.py"}


def test_the_environment_is_read_at_the_top() -> None:
    """What a batch does is decided by what it is given: only the two doors read the environment."""
    reading = {
        str(path.relative_to(PACKAGE))
        for path in files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    stages = {
        name for name in reading if name.split("/")[0].removesuffix(".py") in (*STAGES, "services", "batch", "plan")
    }
    assert stages == set()


def test_importing_the_package_is_light() -> None:
    """`import batchrun` brings neither pandas nor the SDK: `--help` must be quick."""
    import subprocess
    import sys

    code = "import sys, batchrun, batchrun.job.options; print([m for m in ('pandas', 'openai', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
