"""`batchrun.server` as a package of its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from batchrun import server
from tests.support.markdown import code_blocks

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "responders.md"

ALONE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("batchrun.") and name != "batchrun.version" and not (name + ".").startswith("batchrun.server."):
            raise ImportError(f"{name} is not part of the server")

sys.meta_path.insert(0, Blocked())
"""


def test_the_responder_of_the_page_runs_alone() -> None:
    """The responder of docs/reference/responders.md answers while the rest of batchrun cannot be imported."""
    (example,) = code_blocks(PAGE, "python")
    everything = "import batchrun.server as s; [getattr(s, name) for name in s.__all__]\n"
    done = subprocess.run(
        [sys.executable, "-c", ALONE + everything + example], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("HELLO\n", 0), done.stderr


def test_public_names() -> None:
    """Each public name exists, and every other one is an AttributeError."""
    assert dir(server) == sorted(server.__all__)
    assert [name for name in server.__all__ if getattr(server, name) is None] == []
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = server.Nothing


def test_type_checkers_see_every_name() -> None:
    """Each name that is imported on its first use is also imported for type checkers, from the same module."""
    tree = ast.parse(Path(str(server.__file__)).read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: str(node.module).removeprefix("batchrun.server.")
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == server._HOMES
