"""The public names: what they are, and that each is documented with an example that runs."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import batchrun

PUBLIC = {
    "batches": ["arun", "outcomes", "run"],
    "scores and reports": [
        "compare",
        "report",
        "score",
        "DryRunEstimate",
        "JudgedComparison",
        "PilotEstimate",
        "ReportPage",
        "ScoreComparison",
        "Scores",
        "ScoringEstimate",
    ],
    "options": ["Job", "JobOptions"],
    "outcomes of rows": ["Completed", "Failed", "Outcome", "Usage"],
    "errors": [
        "BatchRefused",
        "BatchrunError",
        "GradingStopped",
        "InputError",
        "JournalMismatch",
        "OutputError",
        "OutputHeld",
    ],
    "version": ["__version__"],
}
"""Everything that users may rely on. A name that is added here is kept."""

WITHOUT_EXAMPLE = {
    "Outcome": "a union of Completed and Failed, which have examples",
    "__version__": "a text",
}


def test_public_names() -> None:
    """`dir(batchrun)` and `__all__` give exactly the public names, and each can be imported."""
    names = sorted(name for group in PUBLIC.values() for name in group)
    assert dir(batchrun) == sorted(batchrun.__all__) == names
    for name in names:
        assert getattr(batchrun, name) is not None


def test_type_checkers_see_every_name() -> None:
    """Each name that is imported on its first use is also imported for type checkers and editors, from the same module."""
    tree = ast.parse(Path(str(batchrun.__file__)).read_text(encoding="utf-8"))
    imports = {
        name.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert imports == {name: f"batchrun.{home}" for name, home in batchrun._HOMES.items()}
    assert imports.keys() | {"__version__"} == set(batchrun.__all__)


def test_an_unknown_name() -> None:
    """A name that is not public raises the usual error."""
    with pytest.raises(AttributeError, match="module 'batchrun' has no attribute 'nothing'"):
        batchrun.nothing  # noqa: B018


@pytest.mark.filterwarnings("default::RuntimeWarning")  # a row that fails gives one
@pytest.mark.parametrize("name", [name for name in batchrun.__all__ if name not in WITHOUT_EXAMPLE])
def test_every_public_name_has_an_example_that_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The docstring of a public name has an example, which runs offline without a key and prints what it shows."""
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BATCHRUN_MODEL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    text = getattr(batchrun, name).__doc__
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert example.examples, f"{name} has no example"
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert runner.failures == 0, capsys.readouterr().out


def test_the_import_is_light() -> None:
    """`import batchrun` imports nothing that takes time, and no table library; nor do the errors and the records."""
    code = (
        "import sys, batchrun\n"
        "batchrun.InputError, batchrun.Completed, batchrun.Job, dir(batchrun)\n"
        "print([n for n in 'openai pandas polars pyarrow pydantic numpy anyio rich'.split() if n in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
