"""The error tree."""

from __future__ import annotations

import pytest

from batchrun import errors
from batchrun.errors import (
    BatchrunError,
    InputError,
    OutputError,
    PermanentFault,
    ServiceFault,
    TransientFault,
    unwrapped,
)


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [("InputError", 2), ("OutputError", 2), ("JournalMismatch", 2), ("OutputHeld", 6), ("BatchRefused", 5)],
)
def test_exit_codes(name: str, exit_code: int) -> None:
    """Each error that ends a batch has its documented exit code."""
    assert getattr(errors, name).exit_code == exit_code


def test_the_drawn_tree_is_the_tree() -> None:
    """Every error is in the drawing at the top of the module, below its base."""
    drawing = (errors.__doc__ or "").splitlines()
    parents: list[tuple[int, str]] = []
    drawn = {}
    for line in drawing:
        mark = max(line.find("├── "), line.find("└── "))
        if line.strip() == "BatchrunError":
            parents = [(-1, "BatchrunError")]
        elif mark >= 0:
            name = line[mark + 4 :].split()[0].rstrip(":")
            parents = [parent for parent in parents if parent[0] < mark]
            drawn[name] = parents[-1][1]
            parents.append((mark, name))
    defined = {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, BatchrunError) and kind is not BatchrunError
    }
    assert drawn == defined


def test_branches_do_not_overlap() -> None:
    """No fault is both transient and permanent."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceFault)]
    assert not [kind for kind in kinds if issubclass(kind, TransientFault) and issubclass(kind, PermanentFault)]


def test_an_error_leaves_a_task_group_bare() -> None:
    """An error of the tree can be caught by its own type, however deep the task groups are."""
    with pytest.raises(OutputError, match="full"), unwrapped():
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [OutputError("full"), InputError("second")])])


def test_a_bug_is_not_hidden_by_an_error() -> None:
    """A group that contains another exception stays a group."""
    with pytest.raises(ExceptionGroup) as caught, unwrapped():
        raise ExceptionGroup("both", [OutputError("full"), ZeroDivisionError()])
    assert caught.group_contains(ZeroDivisionError)


def test_code_without_an_error_passes() -> None:
    """Without an error nothing happens, and an error without a group passes unchanged."""
    with unwrapped():
        pass
    with pytest.raises(KeyError), unwrapped():
        raise KeyError
