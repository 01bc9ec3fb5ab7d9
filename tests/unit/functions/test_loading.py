"""Loading the user's file of functions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from batchrun.errors import InputError
from batchrun.functions.loading import load_functions


def written(folder: Path, code: str, name: str = "tools.py") -> Path:
    path = folder / name
    path.write_text(code)
    return path


def refusal(path: Path) -> str:
    """Return the message that refuses the file, without its folder."""
    before = sys.path[:]
    with pytest.raises(InputError) as refused:
        load_functions(path)
    assert sys.path == before
    line = str(refused.value)
    assert "\n" not in line
    return line.removeprefix(f"{path.parent}/")


def test_public_functions_of_the_file(tmp_path: Path) -> None:
    """Only functions that the file defines count: no imports, no underscore names, no classes."""
    path = written(
        tmp_path,
        "import functools\n"
        "from os.path import join\n"
        "from json import dumps as text\n"
        "def decorated(function):\n"
        "    @functools.wraps(function)\n"
        "    def inner(*args, **kwargs): return function(*args, **kwargs)\n"
        "    return inner\n"
        "_decorated = decorated; del decorated\n"
        "def b(): pass\n"
        "async def a(): pass\n"
        "@_decorated\n"
        "def c(): pass\n"
        "@functools.cache\n"
        "def d(): pass\n"
        "def _e(): pass\n"
        "class F: pass\n"
        "number = 3\n",
    )
    assert list(load_functions(path)) == ["b", "a", "c", "d"]


def test_all_decides(tmp_path: Path) -> None:
    """`__all__` names the tools, including imported ones, in its order."""
    path = written(tmp_path, "from json import dumps\ndef a(): pass\ndef b(): pass\n__all__ = ['b', 'dumps']\n")
    assert list(load_functions(path)) == ["b", "dumps"]


def test_neighbours_can_be_imported(tmp_path: Path) -> None:
    """The file's folder is first on the import path only while the file runs; no .pyc is left there."""
    written(tmp_path, "FACTOR = 3\n", "neighbour_of_tools.py")
    path = written(tmp_path, "import neighbour_of_tools\ndef f(): return neighbour_of_tools.FACTOR\n")
    before = sys.path[:]
    assert load_functions(path)["f"]() == 3
    assert sys.path == before
    assert not list(tmp_path.rglob("tools*.pyc"))


def test_two_files_of_one_name(tmp_path: Path) -> None:
    """Each load is a separate module, and reads the current file."""
    path = written(tmp_path, "def f(): return 1\n")
    first = load_functions(path)["f"]
    written(tmp_path, "def f(): return 2\n")
    assert (first(), load_functions(path)["f"]()) == (1, 2)
    assert sys.modules[first.__module__].f is first


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(:\n", "tools.py, line 1: is not valid Python (SyntaxError: "),
        ("import os\nx = 'a\n", "tools.py, line 2: is not valid Python (SyntaxError: "),
        ("def f():\n    raise ValueError('a\\nb')\n\nf()\n", "tools.py, line 2: cannot be loaded (ValueError: a b)"),
        ("import no_such_module_here\n", "tools.py, line 1: cannot be loaded (ModuleNotFoundError: "),
        ("\nopen('/no/such/file')\n", "tools.py, line 2: cannot be loaded (FileNotFoundError: "),
        ("raise SystemExit(3)\n", "tools.py, line 1: ends the program when it is loaded"),
        ("_x = 1\n", "tools.py: has no public function; define one"),
        ("def f(): pass\n__all__ = ['f', 'g']\n", "tools.py: __all__ lists 'g', which is not a function"),
        ("class A: pass\n__all__ = ['A']\n", "tools.py: __all__ lists 'A', which is not a function"),
        ("__all__ = 'f'\ndef f(): pass\n", "tools.py: __all__ must be a list of names"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E\n", "tools.py, line 3: cannot be loaded (E)"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, code: str, said: str) -> None:
    """One line names the file, the physical line and the reason."""
    assert refusal(written(tmp_path, code)).startswith(said)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    """A file that is not UTF-8 is not valid Python."""
    path = tmp_path / "tools.py"
    path.write_bytes(b"x = '\xff'\n")
    assert refusal(path).startswith("tools.py, line 1: is not valid Python (SyntaxError: ")


def test_an_error_in_a_neighbour(tmp_path: Path) -> None:
    """The line is that of the file itself, and the reason names the imported file."""
    written(tmp_path, "def f(:\n", "broken_neighbour.py")
    said = refusal(written(tmp_path, "\nimport broken_neighbour\n"))
    assert said.startswith("tools.py, line 2: is not valid Python (SyntaxError: ")
    assert "broken_neighbour.py, line 1" in said


def test_no_file(tmp_path: Path) -> None:
    """A missing file and a folder are refused."""
    assert refusal(tmp_path / "gone.py") == "gone.py: no such file; expected a Python file with functions"
    (tmp_path / "folder.py").mkdir()
    assert refusal(tmp_path / "folder.py").startswith("folder.py: no such file")


def test_an_interrupt_goes_through(tmp_path: Path) -> None:
    """Ctrl-C while the file is loaded is not an error of the file."""
    with pytest.raises(KeyboardInterrupt):
        load_functions(written(tmp_path, "raise KeyboardInterrupt\n"))
